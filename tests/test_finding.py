"""Who is in a video: galleries, probabilities, decisions, unknown persons, and the files of stage 4."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from searched_set import write_archive

from steps.find_persons import FindOptions, find_persons
from steps.measure_calibration import CalibrationOptions, measure_calibration
from vidperson import cli
from vidperson.answers import Appearance, Track, VideoAnswer
from vidperson.backends import clustering
from vidperson.backends import gallery as galleries
from vidperson.backends.calibration import calibration_of_scores
from vidperson.backends.clustering import average_linkage, linked_clusters
from vidperson.backends.decisions import Thresholds, posteriors
from vidperson.backends.exact import length_normalise
from vidperson.backends.finding import TWICE, Finder, Found, Unknown, Video, join, portrait, same_unknown
from vidperson.backends.gallery import Gallery, Portrait
from vidperson.errors import ModelError, ScoringError
from vidperson.io.lines import write_lines
from vidperson.networks.card import calibration_of, card_path, load_card
from vidperson.types import Calibration

Double = NDArray[np.float64]
CALIBRATION = Calibration(slope=20.0, offset=-8.0, measured_on="nothing: numbers that are easy to compute with")
DIM = 256


def persons(count: int, dim: int = DIM, seed: int = 0) -> Double:
    """Vectors that are nearly orthogonal."""
    return length_normalise(np.random.default_rng(seed).standard_normal((count, dim)))


def shown(unit: Double, times: int, seed: int, noise: float = 0.4) -> NDArray[np.float32]:
    """Embeddings of one person."""
    drawn = np.random.default_rng(seed).standard_normal((times, len(unit)))
    return (10 * (unit + noise * drawn / math.sqrt(len(unit)))).astype(np.float32)


def faces(
    tracks: list[tuple[float, int, float, Double]], seed: int = 0, fps: float = 5.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows and embeddings of tracks: start, number of faces, x1 of the box, person."""
    rows, embeddings = [], []
    for number, (start, count, x1, unit) in enumerate(tracks):
        for i in range(count):
            time = start + i / fps
            box = (x1, 20, x1 + 80, 120)
            rows.append([round(time * 25), time, *box, 0.99, *[x1 + 20, 50, x1 + 60, 50, x1, 70, x1, 90, x1, 90]])
        embeddings.append(shown(unit, count, 100 * seed + number))
    order = np.argsort([row[0] for row in rows], kind="stable")
    return np.array(rows, np.float32)[order], np.concatenate(embeddings)[order]


def found(tracks: list[tuple[float, int, float, Double]], seed: int = 0) -> Found:
    rows, embeddings = faces(tracks, seed)
    return Found("face", rows, None, embeddings)


def finder_of(units: Double, names: list[str]) -> Finder:
    gallery = Gallery.of(Portrait(f"{name}-1", name, unit) for name, unit in zip(names, units, strict=True))
    return Finder({"face": gallery}, {"face": CALIBRATION}, Thresholds())


def answers(finder: Finder, videos: list[tuple[Video, Found]]) -> list[VideoAnswer]:
    unknown, first = Unknown(finder.calibrations), []
    for video, one in videos:
        answer, vectors = finder.answer(video, [one])
        unknown.add(answer, vectors)
        first.append(answer)
    names = iter(unknown.names())
    return [join(answer, names) for answer in first]


# ------------------------------------------------------------------------------------------------------ probabilities


def test_posteriors_are_those_of_bayes_rule_written_out() -> None:
    llrs, prior = np.array([3.0, -1.0, 0.5]), 0.3
    likelihoods = [*(math.exp(x) for x in llrs), 1.0]  # that of nobody is the unit
    priors = [prior / 3] * 3 + [1 - prior]
    total = sum(p * x for p, x in zip(priors, likelihoods, strict=True))
    probabilities, nobody = posteriors(llrs, prior, 3)
    assert probabilities == pytest.approx([p * x / total for p, x in zip(priors, likelihoods, strict=True)][:3])
    assert nobody == pytest.approx(0.7 / total)
    assert math.fsum(probabilities) + nobody == pytest.approx(1)


def test_posteriors_with_the_others_summed_are_those_of_all_together() -> None:
    llrs = np.random.default_rng(0).normal(0, 3, 50)
    every, nobody = posteriors(llrs, 0.5, 50)
    some, alike = posteriors(llrs[:10], 0.5, 50, float(np.log(np.exp(llrs[10:]).sum())))
    assert some == pytest.approx(every[:10]) and alike == pytest.approx(nobody)


def test_posteriors_of_no_gallery_and_of_huge_ratios_are_sure() -> None:
    none, nobody = posteriors(np.zeros(0), 0.5, 0)
    assert len(none) == 0 and nobody == 1.0
    probabilities, nobody = posteriors(np.array([5000.0, -5000.0]), 0.5, 2)
    assert probabilities.tolist() == [1.0, 0.0] and nobody == 0.0


@pytest.mark.parametrize(
    ("best", "nobody", "decision"),
    [(0.8, 0.2, "yes"), (0.79, 0.2, "unsure"), (0.5, 0.0, "unsure"), (0.4, 0.5, "unsure"), (0.4, 0.51, "unknown")],
)
def test_decision_follows_the_person_and_else_nobody(best: float, nobody: float, decision: str) -> None:
    assert Thresholds().decide(best, nobody) == decision


@pytest.mark.parametrize("wrong", [{"person_prior": 0.0}, {"person_prior": 1.0}, {"yes": 0.4}, {"unsure": 0.0}])
def test_thresholds_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ScoringError, match=r"expected"):
        Thresholds(**wrong)


# ------------------------------------------------------------------------------------------------------------ gallery


def test_gallery_is_the_same_in_any_order_of_the_portraits_and_notes_who_is_missing() -> None:
    units = persons(6)
    portraits = [Portrait(str(i), "ab"[i % 2], unit) for i, unit in enumerate(units)]
    portraits += [Portrait("9", "c", None), Portrait("8", "a", None)]
    orders = [Gallery.of(np.random.default_rng(seed).permutation(np.array(portraits, object))) for seed in range(4)]
    for gallery in orders:
        assert gallery.persons == ("a", "b") and gallery.missing == ("c",)
        assert gallery.vectors.tobytes() == orders[0].vectors.tobytes()
    mean = units[::2].mean(axis=0)
    assert orders[0].vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_nearest_of_a_large_gallery_are_those_of_exact_cosines_and_the_rest_is_summed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(galleries, "_TRACKS_AT_ONCE", 3)
    vectors = persons(5000, 64).astype(np.float32)
    gallery = Gallery(tuple(f"p{i:04d}" for i in range(5000)), vectors)
    units = length_normalise(vectors[[7, 4999, 2500, 0]] + 0.05 * persons(4, 64, seed=1))
    rows, rest = gallery.nearest(units, CALIBRATION)
    exact = units @ vectors.T.astype(np.float64)
    assert (np.diff(rows) > 0).all() and len(rows) <= 4 * galleries.NEAREST
    for cosines in exact:  # the best are there, and all who are likely
        assert set(np.argsort(-cosines)[: galleries.ALWAYS - 1]) <= set(rows)  # the last may be one that is as near
        assert set(np.flatnonzero(CALIBRATION.llr(cosines) > 0.1)) <= set(rows)
    others = np.setdiff1d(np.arange(5000), rows)
    expected = np.log(np.exp(CALIBRATION.llr(exact[:, others])).sum(axis=1))
    assert rest == pytest.approx(expected, abs=0.02)
    assert gallery.cosines(units, rows).tobytes() == exact[:, rows].tobytes()  # exact: not by blocks


def test_finder_with_a_large_gallery_answers_as_one_that_compares_all(monkeypatch: pytest.MonkeyPatch) -> None:
    units = persons(1500, 64)
    names = [f"p{i:04d}" for i in range(1500)]
    video = Video("v", "ok", 10.0), found([(0.0, 5, 10, units[1234]), (2.0, 5, 300, persons(1, 64, 9)[0])])
    (short,) = answers(finder_of(units, names), [video])
    monkeypatch.setattr(galleries, "ALL", 10_000)
    (full,) = answers(finder_of(units, names), [video])
    assert [(one.person, one.decision, one.llr) for one in short.appearances] == [
        (one.person, one.decision, one.llr) for one in full.appearances
    ]
    assert short.appearances[0].person == "p1234" and short.appearances[1].decision == "unknown"
    for one, other in zip(short.appearances, full.appearances, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-3)


# --------------------------------------------------------------------------------------------------------- clustering


def noisy(people: int, each: int, noise: float) -> tuple[Double, NDArray[np.int64]]:
    truth = np.repeat(np.arange(people), each)
    drawn = np.random.default_rng(3).standard_normal((len(truth), DIM))
    return length_normalise(persons(people)[truth] + noise * drawn / math.sqrt(DIM)), truth


def test_linked_clusters_are_those_of_average_linkage_also_when_vectors_come_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units, _ = noisy(30, 10, 0.8)
    expected = average_linkage(units, 0.45, 2**30)
    assert 30 <= expected.max() + 1 < 200
    monkeypatch.setattr(clustering, "_FEW", 64)
    monkeypatch.setattr(clustering, "_WIDE", 100)
    monkeypatch.setattr(clustering, "_ROWS", 7)
    assert linked_clusters(units, 0.45, 2**30).tolist() == expected.tolist()
    assert linked_clusters(units[:0], 0.45, 2**30).tolist() == []


def test_memory_does_not_grow_with_the_links_among_many_vectors_of_one_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "_FEW", 256)
    monkeypatch.setattr(clustering, "_WIDE", 1024)
    units = noisy(1, 3000, 0.3)[0].astype(np.float32)
    tracemalloc.start()
    labels = clustering._linked(units, np.float32(0.5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(labels.tolist())) == 1
    assert peak < 16 << 20  # its 4.5 million links take 36 MiB


@pytest.mark.parametrize("few", [16, 4096])
@pytest.mark.parametrize("max_bytes", [1, 2**30])
def test_rows_apart_are_never_in_one_cluster(monkeypatch: pytest.MonkeyPatch, few: int, max_bytes: int) -> None:
    monkeypatch.setattr(clustering, "_FEW", few)
    units, truth = noisy(8, 6, 0.3)
    apart = np.array([(i, i + 1) for i in range(0, 48, 6)] + [(4, 3)])
    labels = linked_clusters(units, 0.5, max_bytes, apart)
    assert all(labels[one] != labels[other] for one, other in apart.tolist())
    assert all(len(set(truth[labels == label])) == 1 for label in set(labels.tolist()))
    free = linked_clusters(units, 0.5, max_bytes)
    assert free.tolist() == truth.tolist()


def test_unknown_who_is_seen_longest_is_number_one() -> None:
    units, truth = noisy(3, 4, 0.2)
    seconds = np.where(truth == 2, 9.0, np.where(truth == 0, 3.0, 1.0))
    assert same_unknown(units, seconds, CALIBRATION).tolist() == [2] * 4 + [3] * 4 + [1] * 4


# ------------------------------------------------------------------------------------------------------------- videos


def test_videos_with_two_persons_and_two_strangers_are_answered_with_times_and_the_same_numbers() -> None:
    ada, bob, stranger, other = persons(4)
    finder = finder_of(np.stack([ada, bob]), ["Ada", "Bob"])
    shots = np.array([[0], [2], [6]], np.float32)
    one = found([(0.0, 10, 10, ada), (2.0, 15, 10, ada), (2.0, 10, 300, stranger), (6.0, 5, 10, bob)], 1)
    two = found([(1.0, 4, 10, other), (1.0, 5, 300, stranger)], 2)
    first, second = answers(
        finder, [(Video("a", "ok", 6.9, 640, 360, shots, 0.2, "2020-01-01"), one), (Video("b", "ok", 9.0), two)]
    )
    told = [(x.person, x.decision, x.start_s, x.end_s, x.num_faces) for x in first.appearances]
    assert told == [
        ("Ada", "yes", 0.0, 5.0, 25),  # goes on across the cut
        ("unknown 1", "unknown", 2.0, 4.0, 10),
        ("Bob", "yes", 6.0, 6.9, 5),  # not beyond the end
    ]
    assert len(first.appearances[0].tracks) == 2
    assert (first.duration_s, first.width, first.height, first.taken) == (6.9, 640, 360, "2020-01-01")
    assert {(x.person, x.decision) for x in second.appearances} == {("unknown 1", "unknown"), ("unknown 2", "unknown")}
    best = first.appearances[0].candidates
    assert [x.person for x in best] == ["Ada", "Bob"] and best[0].probability > 0.8 > 0.01 > best[1].probability
    assert all(x.llr < 0 and x.probability > 0.5 for x in second.appearances)


def test_a_gap_of_more_than_a_second_ends_an_appearance_and_an_image_lasts_no_time() -> None:
    ada = persons(1)
    finder = finder_of(ada, ["Ada"])
    shots = np.array([[0], [1], [4]], np.float32)
    video = Video("a", "ok", 10.0, shots=shots)
    answer, image = answers(
        finder,
        [(video, found([(0.0, 5, 10, ada[0]), (4.0, 5, 10, ada[0])])), (Video("b", "ok"), found([(0, 1, 10, ada[0])]))],
    )
    assert [(x.start_s, x.end_s) for x in answer.appearances] == [(0, 1), (4, 5)]
    assert [(x.start_s, x.end_s) for x in image.appearances] == [(0, 0)]


def test_without_a_gallery_everybody_is_unknown_and_without_faces_there_is_no_appearance() -> None:
    finder = Finder({"face": Gallery.of([])}, {"face": CALIBRATION}, Thresholds())
    empty = Found("face", np.zeros((0, 17), np.float32), None, np.zeros((0, 0), np.float32))
    one, none = answers(
        finder, [(Video("a", "ok"), found([(0, 5, 10, persons(1)[0])])), (Video("b", "no_face"), empty)]
    )
    (seen,) = one.appearances
    assert (seen.person, seen.probability, seen.candidates) == ("unknown 1", 1.0, ()) and math.isnan(seen.llr)
    assert none == VideoAnswer("b", "no_face", 0.0, 0, 0, ())


def test_a_person_is_not_named_twice_in_a_frame_unless_both_are_sure() -> None:
    ada, bob = persons(2)
    finder = finder_of(np.stack([ada, bob]), ["Ada", "Bob"])
    like = length_normalise((0.46 * ada + 0.85 * persons(3)[2])[None])[0]
    alone = answers(finder, [(Video("a", "ok"), found([(0, 5, 300, like)]))])[0]
    assert [x.decision for x in alone.appearances] == ["unsure"]
    beside = answers(finder, [(Video("a", "ok"), found([(0, 5, 10, ada), (0, 5, 300, like)]))])[0]
    assert sorted((x.person, x.decision) for x in beside.appearances) == [("Ada", "yes"), ("unknown 1", "unknown")]
    twins = answers(finder, [(Video("a", "ok"), found([(0, 5, 10, ada), (0, 5, 300, ada)]))])[0]
    assert [(x.person, x.decision, len(x.tracks)) for x in twins.appearances] == [("Ada", "yes", 2)]


def test_surest_track_of_a_frame_keeps_its_person_whatever_the_order_of_the_tracks() -> None:
    rng, count = np.random.default_rng(4), 12
    finder = finder_of(persons(3), ["a", "b", "c"])
    llrs, others = rng.normal(0, 4, (count, 3)), np.full(count, -math.inf)
    together = np.array([pair for pair in itertools.combinations(range(count), 2) if rng.random() < 0.4])
    expected, left = llrs.copy(), set(range(count))
    while left:
        track = max(left, key=lambda number: expected[number].max())
        left.remove(track)
        best = int(expected[track].argmax())
        share = posteriors(expected[track], 0.5, 3)[0][best]
        for other in left:
            if [min(track, other), max(track, other)] in together.tolist():
                expected[other, best] += math.log(1 - share + share * TWICE)
    assert finder.once_a_frame(llrs, others, together) == pytest.approx(expected)


def test_a_voice_that_is_surer_than_the_face_after_it_does_not_hide_the_face() -> None:
    voice = Track("speaker", 0.0, 2.0, (0,), (), 0)
    face = Track("face", 2.5, 4.0, (3,), ((2.5, 1.0, 2.0, 30.0, 40.0),), 0)
    heard = Appearance("Ada", "yes", 0.99, 6.0, 0.0, 2.0, (voice,))
    seen = Appearance("Ada", "yes", 0.9, 3.0, 2.5, 4.0, (face,))
    (one,) = join(VideoAnswer("v", "ok", 5.0, 64, 64, (heard, seen)), []).appearances
    assert (one.probability, one.start_s, one.end_s) == (0.99, 0.0, 4.0)
    assert (one.num_faces, one.best_time_s) == (1, 2.5)


def test_somebody_in_the_gallery_under_two_names_is_unsure_not_unknown() -> None:
    ada = persons(1)[0]
    answer = answers(finder_of(np.stack([ada, ada]), ["Ada", "Ida"]), [(Video("a", "ok"), found([(0, 5, 10, ada)]))])[0]
    assert [(x.person, x.decision) for x in answer.appearances] == [("Ada", "unsure")]
    assert answer.appearances[0].probability == pytest.approx(0.5, abs=0.01)


def test_portrait_of_three_faces_is_the_largest() -> None:
    units = persons(3)
    rows, embeddings = faces([(0, 1, 10, units[0]), (0, 1, 200, units[1]), (0, 1, 400, units[2])])
    rows[1, 4:6] += 60
    one = portrait("p", "Ada", Found("face", rows, None, embeddings))
    assert one.together == 3 and one.vector is not None and one.vector @ units[1] > 0.8


def test_embeddings_of_another_size_than_the_portraits_are_refused() -> None:
    with pytest.raises(ScoringError, match="16 numbers as in the portraits, found 256"):
        finder_of(persons(2, 16), ["a", "b"]).answer(Video("v", "ok"), [found([(0, 5, 10, persons(1)[0])])])


# -------------------------------------------------------------------------------------------------------- calibration


def test_calibration_of_normal_cosines_is_their_analytic_ratio() -> None:
    """Of two normal distributions of one deviation s and the means 0 and m it is m / s^2 * (cosine - m / 2)."""
    rng, mean, deviation = np.random.default_rng(0), 0.5, 0.15
    scores = np.concatenate([rng.normal(mean, deviation, 40_000), rng.normal(0, deviation, 400_000)])
    learnt = calibration_of_scores(scores, np.arange(440_000) < 40_000, "drawn")
    assert learnt.slope == pytest.approx(mean / deviation**2, rel=0.03)
    assert learnt.cosine(0.0) == pytest.approx(mean / 2, abs=0.01)
    assert (learnt.num_targets, learnt.num_nontargets, learnt.measured_on) == (40_000, 400_000, "drawn")
    with pytest.raises(ScoringError, match="no higher cosines"):
        calibration_of_scores(-scores, np.arange(440_000) < 40_000, "drawn")


def test_calibration_is_written_into_a_card_whose_other_lines_stay(tmp_path: Path) -> None:
    card = tmp_path / "arcface_tiny.yaml"
    before = card_path("arcface_tiny").read_text()
    card.write_text("# mine\n" + before)
    write_lines(tmp_path / "trials", ["a b target", "a c nontarget", "b c nontarget", "b d target"])
    write_lines(tmp_path / "scores", ["a b 0.7", "a c 0.1", "b c 0.4", "b d 0.3"])
    options = CalibrationOptions(tmp_path / "scores", tmp_path / "trials", card, "four pairs: mine")
    measure_calibration(options)
    learnt = load_card(card).calibration
    assert learnt is not None and learnt.measured_on == "four pairs: mine" and learnt.num_targets == 2
    rest = before.partition("calibration:")[0]
    assert card.read_text().startswith("# mine\n" + rest) and card.read_text().count("calibration:") == 1
    text = card.read_text()
    measure_calibration(options)
    assert card.read_text() == text


@pytest.mark.parametrize("wrong", ["slope: -3", "slope: .nan", "offset: .inf", "num_targets: -1"])
def test_card_with_a_calibration_that_cannot_be_is_refused(tmp_path: Path, wrong: str) -> None:
    card = tmp_path / "arcface_tiny.yaml"
    field = wrong.partition(":")[0]
    lines = [
        f"  {wrong}" if line.startswith(f"  {field}:") and seen else line
        for line, seen in _after_calibration(card_path("arcface_tiny").read_text())
    ]
    card.write_text("\n".join(lines) + "\n")
    with pytest.raises(ModelError, match="calibration"):
        load_card(card)


def _after_calibration(text: str) -> list[tuple[str, bool]]:
    lines = text.splitlines()
    return list(zip(lines, itertools.accumulate((line == "calibration:" for line in lines), max), strict=True))


def test_network_without_calibration_is_refused_with_the_command_that_measures_it(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    with pytest.raises(ModelError, match=r"arcface_r100_mxnet: .*python steps_face/evaluate_pairs.py --card"):
        calibration_of(load_card("arcface_r100_mxnet"))
    with pytest.raises(ModelError, match=r"python steps/measure_calibration.py --card"):
        calibration_of(load_card("wespeaker_resnet34_onnx"))


def test_published_thresholds_are_likely_and_sure() -> None:
    assert calibration_of(load_card("arcface_w600k_r50")).llr(np.array([0.2, 0.28])) == pytest.approx(
        [0, math.log(19)], abs=1e-3
    )


# --------------------------------------------------------------------------------------------------------------- step


@pytest.fixture
def stored(tmp_path: Path) -> FindOptions:
    """Data folders and what stages 2 and 3 have of them: two persons, three videos, one of them unreadable."""
    ada, bob, stranger = persons(3)
    portraits = {"Ada-1": found([(0, 1, 10, ada)], 5), "Bob-1": found([(0, 1, 10, bob)], 6)}
    none = Found("face", np.zeros((0, 17), np.float32), None, np.zeros((0, 0), np.float32))
    videos = {
        "v1": found([(0, 10, 10, ada), (0, 10, 300, stranger)], 1),
        "v2": found([(1, 5, 10, stranger), (3, 5, 300, bob)], 2),
        "v3": none,
    }
    for name, segments in (("enroll", portraits), ("test", videos)):
        items, data = tmp_path / "det" / name, tmp_path / "data" / name
        write_archive(items / "faces.ark", {key: one.rows for key, one in segments.items()})
        write_archive(tmp_path / "embed" / name / "embed.ark", {key: one.embeddings for key, one in segments.items()})
        status = {key: "unreadable: cut short" if key == "v3" else "ok" for key in segments}
        write_lines(items / "status", (f"{key} {word}" for key, word in status.items()))
        data.mkdir(parents=True)
        write_lines(data / "vid.scp", (f"{key} {key}.mp4" for key in segments))
    write_lines(tmp_path / "data/enroll/utt2spk", ["Ada-1 Ada", "Bob-1 Bob"])
    write_lines(tmp_path / "data/test/vid2dur", ["v1 8.000", "v2 3.900", "v3 0.000"])
    model = tmp_path / "models/arcface_tiny"
    model.mkdir(parents=True)
    (model / "arcface_tiny.yaml").write_text(card_path("arcface_tiny").read_text())
    source = f"--modality face --embed-dir {tmp_path}/embed --items-dir {tmp_path}/det --model {model}"
    return cli.fill(
        FindOptions,
        sources=[f"{source} --enroll-parts enroll --test-part test"],
        data_dir=tmp_path / "data",
        enroll_sets="enroll",
        test_set="test",
        fps=5.0,
        experiment="mine",
        scores_dir=tmp_path / "scores",
    )


def test_step_writes_a_line_per_segment_and_keeps_it_until_something_changes(stored: FindOptions) -> None:
    find_persons(stored)
    lines = stored.target.read_bytes()
    told = [VideoAnswer.from_dict(json.loads(line)) for line in lines.splitlines()]
    assert [(x.segment, x.status, x.duration_s) for x in told] == [
        ("v1", "ok", 8.0),
        ("v2", "ok", 3.9),
        ("v3", "unreadable: cut short", 0.0),
    ]
    people = [[(one.person, one.start_s, one.end_s) for one in video.appearances] for video in told]
    assert sorted(people[0]) == [("Ada", 0.0, 2.0), ("unknown 1", 0.0, 2.0)]
    assert sorted(people[1]) == [("Bob", 3.0, 3.9), ("unknown 1", 1.0, 2.0)] and people[2] == []
    written = stored.target.stat().st_mtime_ns
    find_persons(stored)
    assert stored.target.stat().st_mtime_ns == written
    write_lines(stored.data_dir / "enroll/utt2spk", ["Ada-1 Ida", "Bob-1 Bob"])
    find_persons(stored)
    assert stored.target.read_bytes() == lines.replace(b'"Ada"', b'"Ida"')
    write_lines(stored.test_data / "vid2taken", ["v2 2020-05-01T10:00:00"])
    find_persons(stored)
    taken = [VideoAnswer.from_dict(json.loads(line)).taken for line in stored.target.read_bytes().splitlines()]
    assert taken == ["", "2020-05-01T10:00:00", ""]


@pytest.mark.parametrize("name", ["vid.scp", "frames.scp", "wav.scp"])
def test_step_answers_again_where_any_list_of_segments_is_shorter(stored: FindOptions, name: str) -> None:
    (stored.test_data / "vid.scp").rename(stored.test_data / name)
    find_persons(stored)
    write_lines(stored.test_data / name, ["v1 a", "v3 c"])
    find_persons(stored)
    assert [json.loads(line)["segment"] for line in stored.target.read_text().splitlines()] == ["v1", "v3"]


def test_step_with_check_tells_what_is_to_be_made_and_writes_nothing(
    stored: FindOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = cli.fill(FindOptions, **{**_values(stored), "check": True})
    with pytest.raises(SystemExit) as left:
        find_persons(asked)
    assert left.value.code == 3 and "to make" in capsys.readouterr().out and not stored.scores_dir.exists()
    find_persons(stored)
    with pytest.raises(SystemExit) as left:
        find_persons(asked)
    assert left.value.code == 0


def _values(options: FindOptions) -> dict[str, object]:
    names = ("sources", "data_dir", "enroll_sets", "test_set", "fps", "experiment", "scores_dir")
    return {name: getattr(options, name) for name in names}


def test_step_without_an_enrolment_set_numbers_everybody(stored: FindOptions) -> None:
    words = [stored.sources[0].replace("--enroll-parts enroll", "--enroll-parts ''")]
    find_persons(cli.fill(FindOptions, **{**_values(stored), "sources": words, "enroll_sets": ""}))
    told = [json.loads(line) for line in stored.target.read_text().splitlines()]
    assert {one["person"] for video in told for one in video["appearances"]} == {"unknown 1", "unknown 2", "unknown 3"}
    assert all(one["llr"] is None for video in told for one in video["appearances"])


def test_step_refuses_a_segment_without_embeddings_and_a_network_without_calibration(stored: FindOptions) -> None:
    write_lines(stored.test_data / "vid.scp", ["v1 a", "v2 b", "v3 c", "v4 d"])
    with pytest.raises(Exception, match="segment 'v4' is not there; run stages 2 and 3"):
        find_persons(stored)
    assert not stored.target.exists()
    model = stored.scores_dir.parent / "models/arcface_tiny"
    other = model.with_name("arcface_r50_mxnet")
    model.rename(other)
    (other / "arcface_r50_mxnet.yaml").write_text(card_path("arcface_r50_mxnet").read_text())
    words = [stored.sources[0].replace("arcface_tiny", "arcface_r50_mxnet")]
    with pytest.raises(ModelError, match="no calibration"):
        find_persons(cli.fill(FindOptions, **{**_values(stored), "sources": words}))
