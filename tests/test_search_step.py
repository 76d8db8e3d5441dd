"""steps/search.py, its calibration and TREC files, on tiny archives, beside plain loops."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from searched_set import write_tanh_identifier
from test_identification import naive_whitening
from test_score_step import write_embeddings

from steps.calibrate_search import CalibrateSearchOptions, calibrate_search
from steps.evaluate_searches import about_search
from steps.score import RunOptions
from steps.search import BATCH, SearchOptions, search
from steps.write_trec import WriteTrecOptions, write_trec
from vidperson import cli
from vidperson.backends.identification import Identifier
from vidperson.engines import load_network
from vidperson.errors import DataError, ModelError, ScoringError
from vidperson.io.ranks import read_persons, read_probabilities, read_scored_ranks
from vidperson.report.searches import map_note

ROOT = Path(__file__).resolve().parents[1]
DIM = 8
PEOPLE = ["ann", "bob", "cid", "dee", "élo"]


def centre(who: str, embedder: str = "e") -> np.ndarray:
    return np.random.default_rng([*who.encode(), *embedder.encode()]).standard_normal(DIM)


def faces_of(who, seed, count=4, x=0.0, embedder="e"):
    """(embeddings, items) of a person in ``count`` frames."""
    rng = np.random.default_rng(seed)
    rows = centre(who, embedder) + 0.15 * rng.standard_normal((count, DIM))
    items = np.zeros((count, 17))
    items[:, 0], items[:, 1] = np.arange(count) * 5, np.arange(count) / 2
    items[:, 2:6], items[:, 6] = [x, 0, x + 100, 100], rng.uniform(0.5, 1, count)
    return rows, items


class Corpus:
    """Two enrolment sets and a searched set; keyword arguments of ``search`` are options of the step."""

    def __init__(self, work: Path) -> None:
        self.work, self.data = work, work / "data"
        self.shows = {"train": {}, "valid": {}, "test": {}}
        for i, person in enumerate(PEOPLE):
            self.shows["train"] |= {f"t{i}{k}": [person] for k in range(2)}
            self.shows["valid"] |= {f"v{i}": [person]}
            self.shows["test"] |= {f"x{i}{k}": [person] for k in range(2)}
        for set_name in self.shows:
            strangers = {f"{set_name[0]}z{k}": [f"{set_name} stranger {k}"] for k in range(6)}
            self.shows[set_name] |= strangers
        self.shows["test"] |= {"both": ["ann", "bob"], "none": []}
        for set_name, shows in self.shows.items():
            self.write(set_name, shows)

    def write(self, set_name: str, shows) -> None:
        folder = self.data / set_name
        folder.mkdir(parents=True, exist_ok=True)
        matrices = {"e": {}, "f": {}}, {}
        for number, (segment, people) in enumerate(sorted(shows.items())):
            for embedder, table in matrices[0].items():
                found = [faces_of(who, [number, k], x=300.0 * k, embedder=embedder) for k, who in enumerate(people)]
                table[segment] = np.concatenate([np.zeros((0, DIM)), *(rows for rows, _ in found)])
            matrices[1][segment] = np.concatenate([np.zeros((0, 17)), *(items for _, items in found)])
        for embedder, table in matrices[0].items():
            write_embeddings(self.work / "embed" / embedder / set_name, table)
        write_embeddings(self.work / "items" / set_name, matrices[1], "faces")
        known = {segment: people for segment, people in shows.items() if people and people[0] in PEOPLE}
        lines = [f"{segment} {people[0]}" for segment, people in sorted(known.items())]
        (folder / "utt2spk").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (folder / "vid.scp").write_text("".join(f"{segment} {segment}.mp4\n" for segment in sorted(shows)))
        if set_name != "train":
            (folder / "search").write_text("".join(f"{who} all\n" for who in PEOPLE), encoding="utf-8")
            (folder / "utt2group").write_text("".join(f"{segment} all\n" for segment in sorted(shows)))
            pairs = sorted((who, segment) for segment, people in known.items() for who in people)
            (folder / "relevant").write_text("".join(f"{a} {b}\n" for a, b in pairs), encoding="utf-8")

    def options(self, **changes) -> SearchOptions:
        given = {
            "modality": "face",
            "embed_dir": self.work / "embed/e",
            "items_dir": self.work / "items",
            "train_root": self.work / "trained",
            "data_dir": self.data,
            "enroll_sets": "train valid",
            "test_set": "test",
            "search_backends": "class-mean",
            "scores_dir": self.work / "out",
            "embedders": "e",
            "test_sets": "valid test",
            "experiment": "x",
        }
        return cli.fill(SearchOptions, **(given | changes))

    def search(self, **changes) -> None:
        search(self.options(**changes))

    def calibrate(self, **changes) -> None:
        systems = self.options(calibration_set="valid", **changes).systems
        calibrate_search(CalibrateSearchOptions(systems, RunOptions(), self.data, [self.work / "trained"]))

    def out(self, name: str, system: str = "e/class-mean") -> Path:
        return self.work / "out" / system / name

    # -- by plain loops, in float64 --------------------------------------------------------------------------------

    def tracks(self, set_name: str, embedder: str = "e") -> dict[str, list[np.ndarray]]:
        """Segment -> the vector of each person in it, the heaviest first."""
        found = {}
        for number, (segment, people) in enumerate(sorted(self.shows[set_name].items())):
            ours = []
            for k, who in enumerate(people):
                rows, items = faces_of(who, [number, k], embedder=embedder)
                rows, scores = rows.astype(np.float32).astype(float), items[:, 6].astype(np.float32).astype(float)
                weight = sum(score * np.linalg.norm(row) for row, score in zip(rows, scores, strict=True))
                total = sum(score * row for row, score in zip(rows, scores, strict=True))
                ours.append((weight, total / np.linalg.norm(total)))
            found[segment] = [vector for _, vector in sorted(ours, key=lambda one: -one[0])]
        return found

    def expected(self, sets=("train", "valid"), shift=False, white=False) -> dict[str, dict[str, float]]:
        """Person -> segment -> score."""
        enrolled = [
            (self.shows[name][segment][0], found[0]) for name in sets for segment, found in self.tracks(name).items()
        ]
        moved = naive_whitening([vector for _, vector in enrolled]) if white else lambda vector: vector
        sums = {who: sum(moved(vector) for shown, vector in enrolled if shown == who) for who in PEOPLE}
        means = {who: total / np.linalg.norm(total) for who, total in sums.items()}
        others = [*means.values(), *(moved(vector) for shown, vector in enrolled if shown not in PEOPLE)]
        table = {who: {} for who in PEOPLE}
        for segment, found in self.tracks("test").items():
            for who in PEOPLE if found else ():
                scores = []
                for track in map(moved, found):
                    near = sorted((track @ other for other in others), reverse=True)[:10]
                    scores.append(track @ means[who] - shift * sum(near) / 20)
                table[who][segment] = max(scores)
        return table


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def assert_lists(corpus, table, system="e/class-mean", top=100, best=5) -> None:
    """Both lists are those of the scores in ``table``, to a millionth."""
    ranked = read_scored_ranks(corpus.out("test_ranks", system))
    assert set(ranked) == set(table)
    for who, scores in table.items():
        expected = sorted(scores, key=lambda segment: -scores[segment])[:top]
        assert [segment for segment, _ in ranked[who]] == expected
        np.testing.assert_allclose([score for _, score in ranked[who]], [scores[s] for s in expected], atol=1e-5)
    persons = read_persons(corpus.out("test_persons", system))
    segments = {segment for scores in table.values() for segment in scores}
    assert list(persons) == sorted(segments, key=str.encode)
    for segment, listed in persons.items():
        expected = sorted(table, key=lambda who: -table[who][segment])[:best]
        assert [who for who, _ in listed] == expected


def write_identifier(corpus, name="who", labels=None, embedders=("e",), **card):
    """As :func:`write_tanh_identifier` does it; its labels are not in the order of the persons."""
    labels = ["nobody", *reversed(PEOPLE)] if labels is None else labels
    return write_tanh_identifier(corpus.work / "trained", name, labels, embedders, DIM, **card)


def identified(corpus, matrix, labels, embedders=("e",)):
    """Person -> segment -> score of the identifier; both embedders see the same tracks."""
    tables = [corpus.tracks("test", embedder) for embedder in embedders]
    table = {who: {} for who in PEOPLE}
    for segment, found in tables[0].items():
        people = self_order(corpus, segment)
        for who in PEOPLE if found else ():
            scores = []
            for k in range(len(people)):
                vector = np.concatenate([of(corpus, "test", segment, people[k], embedder) for embedder in embedders])
                scores.append(np.tanh(vector @ matrix.astype(float))[labels.index(who)])
            table[who][segment] = max(scores)
    return table


def self_order(corpus, segment):
    return corpus.shows["test"][segment]


def of(corpus, set_name, segment, who, embedder):
    """The vector of a person in a segment."""
    number = sorted(corpus.shows[set_name]).index(segment)
    k = corpus.shows[set_name][segment].index(who)
    rows, items = faces_of(who, [number, k], embedder=embedder)
    total = (items[:, 6].astype(np.float32).astype(float)[:, None] * rows.astype(np.float32)).sum(axis=0)
    return total / np.linalg.norm(total)


def test_search_class_mean_gives_the_lists_of_a_plain_loop(corpus):
    corpus.search()
    assert_lists(corpus, corpus.expected())
    assert "none" not in read_persons(corpus.out("test_persons"))


def test_search_one_enrolment_set_and_short_lists(corpus):
    corpus.search(enroll_sets="train", search_top=3, search_persons=2)
    assert_lists(corpus, corpus.expected(["train"]), top=3, best=2)


@pytest.mark.parametrize("white", [False, True])
def test_search_shifted_and_whitened_use_the_segments_without_a_person_too(corpus, white):
    plain = "class-mean-whitened" if white else "class-mean"
    corpus.search(search_backends=f"{plain} {plain}-shift")
    assert_lists(corpus, corpus.expected(shift=True, white=white), f"e/{plain}-shift")
    assert_lists(corpus, corpus.expected(white=white), f"e/{plain}")


def test_search_segment_with_two_people_is_found_for_both(corpus):
    corpus.search()
    ranked = read_scored_ranks(corpus.out("test_ranks"))
    for who in ("ann", "bob"):
        assert "both" in [segment for segment, _ in ranked[who][:3]]


def test_search_identifier_gives_the_lists_of_a_plain_loop(corpus):
    matrix = write_identifier(corpus)
    corpus.search(identifiers="who", search_backends="", enroll_sets="nothing")
    table = identified(corpus, matrix, ["nobody", *reversed(PEOPLE)])
    assert_lists(corpus, table, "e/who")


def test_search_identifier_of_two_embedders_takes_their_vectors_in_its_order(corpus):
    matrix = write_identifier(corpus, embedders=("f", "e"))
    corpus.search(identifiers="who")
    assert_lists(corpus, identified(corpus, matrix, ["nobody", *reversed(PEOPLE)], ("f", "e")), "e/who")
    assert_lists(corpus, corpus.expected())


def test_identifier_network_gives_a_vector_the_same_bytes_in_any_place_of_any_batch(tmp_path):
    """Two fully connected layers of the sizes of real ones, by the engine that the step takes."""
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal(shape, dtype=np.float32) / 16 for shape in ((512, 1024), (1024, 333))]
    nodes = [
        helper.make_node("MatMul", ["vectors", "w0"], ["x0"]),
        helper.make_node("Relu", ["x0"], ["x1"]),
        helper.make_node("MatMul", ["x1", "w1"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "identifier",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 512])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 333])],
        [onnx.numpy_helper.from_array(layer, f"w{i}") for i, layer in enumerate(layers)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "who.onnx")
    network = load_network(tmp_path / "who.onnx", "onnxruntime", batch=BATCH)
    names = [f"p{i:03d}" for i in range(333)]
    searcher = Identifier(names, names, lambda vectors: network(vectors)[0], BATCH)
    vectors = rng.standard_normal((2 * BATCH + 5, 512), dtype=np.float32)
    together = searcher.scores(vectors)
    for shift in (1, 4, 7, BATCH - 1):
        assert searcher.scores(np.roll(vectors, shift, axis=0)).tobytes() == np.roll(together, shift, axis=0).tobytes()
    assert searcher.scores(vectors[:3]).tobytes() == together[:3].tobytes()


def test_search_fusion_is_the_mean_of_scores_standardised_by_other_persons(corpus):
    labels = ["nobody", *reversed(PEOPLE)]
    matrix = write_identifier(corpus)
    corpus.search(identifiers="who", search_fusion="class-mean who")
    plain, network = corpus.expected(), identified(corpus, matrix, labels)
    vectors = {name: corpus.tracks(name) for name in ("train", "valid")}
    enrolled = [
        (found[0], corpus.shows[name][segment][0])
        for name, table in vectors.items()
        for segment, found in table.items()
        if corpus.shows[name][segment][0] in PEOPLE
    ]
    means = {who: sum(vector for vector, shown in enrolled if shown == who) for who in PEOPLE}
    wrong = [
        (vector @ means[who] / np.linalg.norm(means[who]), np.tanh(vector @ matrix.astype(float))[labels.index(who)])
        for vector, shown in enrolled
        for who in PEOPLE
        if who != shown
    ]
    mean, deviation = np.mean(wrong, axis=0), np.std(wrong, axis=0)
    fused = {
        who: {
            segment: ((plain[who][segment] - mean[0]) / deviation[0] + (network[who][segment] - mean[1]) / deviation[1])
            / 2
            for segment in plain[who]
            if segment != "both"
        }
        for who in PEOPLE
    }
    ranked = read_scored_ranks(corpus.out("test_ranks", "fusion/x"))
    for who, scores in fused.items():
        found = dict(ranked[who])
        np.testing.assert_allclose([found[s] for s in scores], list(scores.values()), atol=1e-5)


def test_search_groups_keep_models_to_their_own_segments(corpus):
    segments = sorted(corpus.shows["test"])
    lines = [f"{segment} {'odd' if i % 2 else 'even'}\n" for i, segment in enumerate(segments)]
    (corpus.data / "test/utt2group").write_text("".join(lines))
    (corpus.data / "test/search").write_text("ann even\nbob odd\ncid even\ncid odd\n")
    corpus.search()
    table = corpus.expected()
    ranked = read_scored_ranks(corpus.out("test_ranks"))
    expected = {"ann": segments[::2], "bob": segments[1::2], "cid": segments}
    for who, some in expected.items():
        some = [segment for segment in some if segment != "none"]
        assert [s for s, _ in ranked[who]] == sorted(some, key=lambda segment: -table[who][segment])
    persons = read_persons(corpus.out("test_persons"))
    assert {who for who, _ in persons[segments[0]]} == {"ann", "cid"}


def test_search_person_added_leaves_the_scores_of_the_others(corpus):
    (corpus.data / "test/search").write_text("ann all\nbob all\n")
    corpus.search()
    few = read_scored_ranks(corpus.out("test_ranks"))
    (corpus.data / "test/search").write_text("".join(f"{who} all\n" for who in PEOPLE), encoding="utf-8")
    corpus.search()
    more = read_scored_ranks(corpus.out("test_ranks"))
    assert set(few) == {"ann", "bob"} and all(more[who] == few[who] for who in few)


def test_search_segments_listed_in_another_order_gives_the_same_bytes(corpus):
    write_identifier(corpus)
    words = {"identifiers": "who", "search_fusion": "class-mean who"}
    words["search_backends"] = "class-mean class-mean-whitened-shift"
    corpus.search(**words)
    systems = ("e/class-mean", "e/class-mean-whitened-shift", "e/who", "fusion/x")
    files = [corpus.out(f"test_{kind}", system) for system in systems for kind in ("ranks", "persons")]
    first = [path.read_bytes() for path in files]
    for name in ("utt2group", "search"):
        path = corpus.data / "test" / name
        path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
    for part in (corpus.work / "embed/e/test", corpus.work / "items/test"):
        for scp in part.glob("*.scp"):
            scp.write_text("".join(reversed(scp.read_text().splitlines(keepends=True))))
    corpus.search(enroll_sets="valid train", **words)
    assert [path.read_bytes() for path in files] == first


def test_search_done_is_kept_and_only_what_changed_is_made_again(corpus, caplog):
    corpus.search()
    ranks, persons = corpus.out("test_ranks"), corpus.out("test_persons")
    then = ranks.stat().st_mtime_ns
    corpus.search()
    assert ranks.stat().st_mtime_ns == then
    persons.unlink()
    corpus.search()
    assert persons.is_file()
    ranks.write_text("edited\n")
    corpus.search()
    assert_lists(corpus, corpus.expected())


def test_search_check_writes_nothing_and_exits_3(corpus, capsys):
    with pytest.raises(SystemExit) as left:
        corpus.search(check=True)
    assert left.value.code == 3 and "test_ranks and 1 more" in capsys.readouterr().out
    assert not corpus.out("test_ranks").exists()


def test_search_segments_and_persons_without_items_are_counted_by_status(corpus, caplog):
    corpus.shows["train"] |= {"t00": [], "t01": []}
    corpus.shows["valid"] |= {"v0": []}
    for name in ("train", "valid"):
        corpus.write(name, corpus.shows[name])
    (corpus.data / "train/utt2spk").write_text(
        "t00 ann\nt01 ann\n" + (corpus.data / "train/utt2spk").read_text(encoding="utf-8"), encoding="utf-8"
    )
    statuses = dict.fromkeys(corpus.shows["test"], "ok: 4") | {"none": "no_face: 8 frames"}
    (corpus.work / "embed/e/test/status").write_text("".join(f"{s} {t}\n" for s, t in sorted(statuses.items())))
    with caplog.at_level("INFO"):
        corpus.search()
    assert "none: test segment without any face: it is in no ranked list (no_face: 8 frames)" in caplog.text
    assert "1 in all: test segment without any face: it is in no ranked list (1 no_face)" in caplog.text
    assert "ann: person without any usable enrolment segment" in caplog.text
    assert set(read_scored_ranks(corpus.out("test_ranks"))) == set(PEOPLE) - {"ann"}


def test_search_command_line_exits_1_with_one_line_for_bad_input(corpus):
    words = ["--modality", "face", "--embed-dir", corpus.work / "embed/e", "--enroll-sets", "train valid"]
    words += ["--data-dir", corpus.data, "--test-set", "test", "--scores-dir", corpus.work / "out", "--embedders", "e"]
    call = [sys.executable, ROOT / "steps/search.py", *map(str, words)]
    run = subprocess.run([*call, "--search-backends", "class-median"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1
    assert run.stderr == (
        "ERROR: search_backends: no back-end 'class-median'; "
        "valid: class-mean class-mean-shift class-mean-whitened class-mean-whitened-shift\n"
    )
    run = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search_backends": ""}, "expected one of them or several, found none"),
        ({"identifiers": "class-mean"}, "'class-mean' is the name of a back-end"),
        ({"identifiers": "../who"}, "expected names of folders"),
        ({"identifiers": "fusion"}, "other than fusion, found 'fusion'"),
        ({"search_fusion": "class-mean who"}, "search_fusion: expected two or more different ones of class-mean"),
        ({"search_fusion": "class-mean who"}, "name 'who' in identifiers or search_backends, too"),
        ({"search_backends": "class-mean class-mean-shift", "search_fusion": "class-mean"}, "search_fusion: expected"),
        ({"calibration_set": "other"}, "calibration_set: expected one of the searched test sets"),
        ({"identifiers": "missing"}, "missing.onnx; run ./run_014_train_identifier.sh"),
        ({"enroll_sets": "train nothing"}, "nothing/utt2spk"),
    ],
)
def test_search_options_that_cannot_be_are_named(corpus, options, message):
    with pytest.raises(ScoringError, match=message):
        corpus.search(**options)
    assert not (corpus.work / "out").exists()


def test_search_person_that_the_identifier_does_not_know_is_named(corpus):
    write_identifier(corpus, labels=["nobody", *PEOPLE[1:]])
    with pytest.raises(ScoringError, match="who: 1 of 5 searched persons are not among its labels: ann; train another"):
        corpus.search(identifiers="who", search_backends="")


def test_search_person_without_enrolment_is_named(corpus):
    with open(corpus.data / "test/search", "a") as stream:
        stream.write("zoe all\n")
    with pytest.raises(ScoringError, match="1 of 6 persons of .*search are not in .*utt2spk: zoe"):
        corpus.search()


def test_search_embeddings_that_an_identifier_needs_missing_names_the_stage(corpus):
    write_identifier(corpus, embedders=("e", "g"))
    with pytest.raises(ScoringError, match="no embeddings in .*embed/g/test; run ./run_003"):
        corpus.search(identifiers="who")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"kind": "body_classifier"}, "expected an identifier, kind face_classifier"),
        ({"output": {"classes": 6}}, "0 labels"),
        ({"file": {"name": "who.onnx", "sha256": "0" * 64}}, "expected SHA-256 0000"),
    ],
)
def test_search_network_that_is_no_identifier_is_refused(corpus, card, message):
    write_identifier(corpus, **card)
    with pytest.raises(ModelError, match=message):
        corpus.search(identifiers="who", search_backends="")


def test_search_identifier_of_other_sizes_is_refused(corpus):
    matrices = {segment: np.ones((2, 5)) for segment in corpus.shows["test"]}
    write_embeddings(corpus.work / "embed/e/test", matrices)
    shutil.rmtree(corpus.work / "items")
    write_identifier(corpus)
    with pytest.raises(ScoringError, match="takes vectors of 8 numbers, the embeddings of e have 5"):
        corpus.search(identifiers="who", search_backends="")


def wrong_embeddings(kind):
    rows = np.ones((3, DIM))
    if kind == "nan":
        rows[1, 1] = np.nan
    return {"sizes": np.ones((3, DIM + 1)), "count": np.ones((2, DIM))}.get(kind, rows)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "segment 'x00': NaN or infinite embedding"),
        ("sizes", "'x00': expected embeddings of 8 numbers as before, found 9"),
        ("count", "segment 'x00': items: expected 2 rows"),
    ],
)
def test_search_embeddings_that_do_not_fit_are_refused_by_name(corpus, kind, message):
    matrices = {segment: np.ones((3 if people else 0, DIM)) for segment, people in corpus.shows["test"].items()}
    items = {segment: np.ones((len(rows), 17)) for segment, rows in matrices.items()}
    matrices["x00"] = wrong_embeddings(kind)
    write_embeddings(corpus.work / "embed/e/test", matrices)
    write_embeddings(corpus.work / "items/test", items, "faces")
    with pytest.raises(DataError, match=message):
        corpus.search()
    assert not corpus.out("test_ranks").exists()


def test_search_group_without_a_segment_is_named(corpus):
    with open(corpus.data / "test/search", "a") as stream:
        stream.write("ann nowhere\n")
    with pytest.raises(DataError, match="test/search: group 'nowhere' of model 'ann' has no segment in .*utt2group"):
        corpus.search()
    assert not corpus.out("test_ranks").exists()


def test_search_segment_without_embeddings_is_named(corpus):
    with open(corpus.data / "test/utt2group", "a") as stream:
        stream.write("zz all\n")
    with pytest.raises(ScoringError, match="1 of .* segments of .*utt2group are not in .*: zz; run stages 2 and 3"):
        corpus.search()


# -- nobody ---------------------------------------------------------------------------------------------------------


def test_calibrate_search_thresholds_and_probabilities_are_those_of_plain_loops(corpus):
    for test_set, enrolled in (("test", "train valid"), ("valid", "train")):  # in any order
        corpus.search(test_set=test_set, enroll_sets=enrolled)
    corpus.calibrate(false_alarm_rate=0.2)
    found = json.loads(corpus.out("nobody.json").read_text())
    best = {s: listed[0][1] for s, listed in read_persons(corpus.out("valid_persons")).items()}
    strangers = sorted((best[segment] for segment in best if segment.startswith("vz")), reverse=True)
    assert found["measured_on"] == "valid" and found["num_strangers"] == 6 and found["num_known"] == 5
    assert (
        np.float32(found["threshold"]) == np.nextafter(np.float32(strangers[1]), np.float32(9))
        and found["thresholds"][0]["strangers_named"] == 1
    )
    assert [one["false_alarm_rate"] for one in found["thresholds"]] == [0.2, 0.01, 0.001]
    assert np.float32(found["thresholds"][1]["threshold"]) == np.nextafter(np.float32(strangers[0]), np.float32(9))
    for test_set in ("valid", "test"):
        best = {s: listed[0][1] for s, listed in read_persons(corpus.out(f"{test_set}_persons")).items()}
        said = read_probabilities(corpus.out(f"{test_set}_nobody"))
        assert list(said) == list(best)
        for segment, probability in said.items():
            log_odds = found["weights"][0] * best[segment] + found["offset"] + math.log(6 / 5)
            assert probability == pytest.approx(1 / (1 + math.exp(-log_odds)), rel=1e-5, abs=1e-30)
    # Strangers on the whole are said to be nobody, in the set that nothing was learnt from, too.
    said = read_probabilities(corpus.out("test_nobody"))
    shown = [said[s] for s, people in corpus.shows["test"].items() if people and people[0] in PEOPLE]
    assert np.mean([said[f"tz{k}"] for k in range(6)]) > np.mean(shown) + 0.3


@pytest.mark.parametrize(("who", "message"), [("z", "found 0 of a stranger"), ("", "found 0 of a known person")])
def test_calibrate_search_without_strangers_or_known_persons_is_refused(corpus, who, message):
    corpus.search(test_set="valid", enroll_sets="train")
    corpus.search()
    lines = [f"ann {segment}\n" for segment in sorted(corpus.shows["valid"])] if who else ["ann nowhere\n"]
    (corpus.data / "valid/relevant").write_text("".join(lines))
    with pytest.raises(ScoringError, match=message):
        corpus.calibrate()
    assert not corpus.out("nobody.json").exists()


def test_calibrate_search_without_a_key_or_before_the_search_names_the_file(corpus):
    with pytest.raises(ScoringError, match="valid_persons; run ./run_004_score.sh"):
        corpus.calibrate()
    (corpus.data / "valid/relevant").unlink()
    with pytest.raises(ScoringError, match="relevant; name a calibration_set of which it is known"):
        corpus.calibrate()


def test_identifier_that_learnt_from_a_set_is_warned_of_there_and_said_in_the_results(corpus, caplog):
    """The fusion holds it; class means learn from no set."""
    write_identifier(corpus, training={"train_sets": ["train", "valid"]})
    write_identifier(corpus, "other", training={"train_sets": ["train"]})
    systems = {"identifiers": "who other", "search_fusion": "class-mean who"}
    corpus.search(test_set="test", **systems)
    assert "learnt from" not in caplog.text
    corpus.search(test_set="valid", enroll_sets="train", **systems)
    corpus.calibrate(**systems)
    said = [record.getMessage() for record in caplog.records if "learnt from" in record.getMessage()]
    assert len(said) == 3  # the search, the calibration of the identifier, and that of the fusion
    assert {text.partition(":")[0] for text in said} == {"who learnt from valid"}
    found, options = {}, corpus.options(**systems).systems
    for system in options.systems("e"):
        pair = corpus.options(test_set="valid", **systems).pair
        found[system.backend] = about_search(system, [pair], options)["learnt_from"]
    assert found == {"class-mean": None, "who": "valid", "other": None, "fusion": "valid"}
    results = [{"backend": name, "learnt_from": learnt} for name, learnt in found.items()]
    note = map_note(results)
    assert "fusion learnt from valid: its figures there, and what is calibrated there, are too good." in note
    assert note.count("learnt from") == 2 and "learnt from" not in map_note(results[:1])
    pair, calibrated = corpus.options().pair, corpus.options(**systems, calibration_set="valid").systems
    assert about_search(calibrated.systems("e")[1], [pair], calibrated)["learnt_from"] == "valid"


# -- TREC -----------------------------------------------------------------------------------------------------------


def test_write_trec_holds_the_same_lists(corpus, tmp_path):
    corpus.search(search_top=4)
    options = WriteTrecOptions(
        corpus.out("test_ranks"), tmp_path / "run", relevant=corpus.data / "test/relevant", qrels=tmp_path / "qrels"
    )
    write_trec(options)
    ranked = read_scored_ranks(corpus.out("test_ranks"))
    lines = [line.split() for line in (tmp_path / "run").read_text(encoding="utf-8").splitlines()]
    assert [(m, s, float(score)) for m, _, s, _, score, _ in lines] == [
        (model, segment, score) for model, listed in ranked.items() for segment, score in listed
    ]
    assert [int(line[3]) for line in lines] == [1, 2, 3, 4] * 5
    assert {(line[1], line[5]) for line in lines} == {("Q0", "class-mean")}
    pairs = (corpus.data / "test/relevant").read_text(encoding="utf-8").split("\n")[:-1]
    qrels = (tmp_path / "qrels").read_text(encoding="utf-8").split("\n")[:-1]
    assert qrels == ["{} 0 {} 1".format(*pair.split()) for pair in pairs]


def test_write_trec_half_of_the_options_a_tag_of_two_words_or_one_file_for_two_is_refused(corpus, tmp_path):
    corpus.search()
    ranks = corpus.out("test_ranks")
    with pytest.raises(ScoringError, match="expected files that differ, found"):
        write_trec(WriteTrecOptions(ranks, ranks))
    with pytest.raises(ScoringError, match="expected both of them, or neither"):
        write_trec(WriteTrecOptions(corpus.out("test_ranks"), tmp_path / "run", qrels=tmp_path / "qrels"))
    with pytest.raises(ScoringError, match="expected a word"):
        write_trec(WriteTrecOptions(corpus.out("test_ranks"), tmp_path / "run", tag="two words"))
    assert not (tmp_path / "run").exists()
