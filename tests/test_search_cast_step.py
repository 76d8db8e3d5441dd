"""steps/search_cast.py on small archives: lists, portraits of two films, records, and what is refused."""

from __future__ import annotations

import logging
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_score_step import write_embeddings

from benchmarks.cast_lists import NOBODY, drawn_film
from steps.search_cast import SearchCastOptions, search_cast, ways_to_search
from vidperson import cli
from vidperson.backends.cast import REASONS, Cue, Film
from vidperson.errors import DataError, ScoringError
from vidperson.io.lines import read_scp
from vidperson.io.ranks import read_persons, read_reasons, read_relevant, read_scored_ranks
from vidperson.io.record import read_record

ROOT = Path(__file__).resolve().parents[1]
CAST, COUNT = 3, 30
FILMS = ("f", "g")
NAMES = ("ranks", "persons", "reasons")


class Corpus:
    """Two films of 30 candidates and 3 cast members, of faces and bodies; the second portrait of f-0 is another's."""

    def __init__(self, work: Path) -> None:
        self.work, self.data, self.exp = work, work / "data", work / "exp"
        self.films, self.shown = {}, {}
        portraits: dict[str, np.ndarray] = {}
        faces, bodies, self.frame = {}, {}, {}
        for number, film in enumerate(FILMS):
            rng = np.random.default_rng(number)
            drawn = rng.integers(0, CAST + 1, COUNT)
            shown = np.where(drawn < CAST, drawn, NOBODY)
            made = drawn_film(rng, shown, CAST, 0.4)
            self.films[film], self.shown[film] = made, shown
            face, body = made.identity.units[0], made.appearance.units[0]
            for n in range(COUNT):
                name = f"{film}-{n:02d}"
                faces[name] = face[n : n + 1] if made.identity.known[n] else np.zeros((0, 0))
                bodies[name], self.frame[name] = body[n : n + 1], f"{film}/{made.frames[n]}.jpg"
            portraits |= {f"{film}-{c}-portrait": made.cast.units[0][c : c + 1] for c in range(CAST)}
        blank = dict.fromkeys(portraits, np.zeros((0, 0)))
        for folder, some in (
            ("e/cast", portraits),
            ("e/test", faces),
            ("faceless/cast", blank),
            ("faceless/test", faces),
        ):
            self.embed("face", folder, some)
        self.embed("body", "o/test", bodies)
        self.embed("body", "o/cast", {name: next(iter(bodies.values())) for name in portraits})
        self.lists(portraits)

    def embed(self, modality: str, folder: str, matrices) -> None:
        write_embeddings(self.exp / f"{modality}_embed" / folder, matrices)

    def lists(self, portraits) -> None:
        (self.data / "cast").mkdir(parents=True)
        (self.data / "test").mkdir()
        self.write("cast/utt2spk", (f"{name} {name[:3]}" for name in portraits))
        self.write("test/search", (f"{film}-{c} {film}" for film in FILMS for c in range(CAST)))
        self.write("test/utt2group", (f"{name} {name[0]}" for name in self.frame))
        self.write("test/vid.scp", (f"{name} {frame}" for name, frame in self.frame.items()))
        pairs = ((film, n, who) for film in FILMS for n, who in enumerate(self.shown[film]) if who != NOBODY)
        self.write("test/relevant", sorted(f"{film}-{who} {film}-{n:02d}" for film, n, who in pairs))

    def write(self, name: str, lines) -> None:
        (self.data / name).write_text("".join(f"{line}\n" for line in lines))

    def cue(self, cue: str, modality: str, embedder: str) -> str:
        folder = str(self.exp / f"{modality}_embed" / embedder)
        return shlex.join(["--cue", cue, "--modality", modality, "--embed-dirs", folder])

    def search(self, **changes) -> None:
        given = {
            "data_dir": self.data,
            "enroll_sets": "cast",
            "test_set": "test",
            "cues": [self.cue("identity", "face", "e"), self.cue("appearance", "body", "o")],
            "scores_dir": self.work / "out",
            "experiment": "x",
            "cast_backends": "original propagation calibrated",
            "search_persons": 2,
        }
        search_cast(cli.fill(SearchCastOptions, **(given | changes)))

    def out(self, name: str, backend: str = "calibrated") -> Path:
        return self.work / "out" / backend / "x" / f"test_{name}"


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path / "a folder")


@pytest.mark.parametrize("backend", ["original", "propagation", "calibrated"])
def test_lists_hold_every_candidate_of_the_film_with_score_reason_and_evidence(corpus: Corpus, backend: str) -> None:
    corpus.search(cast_backends=backend)
    ranks, reasons = read_scored_ranks(corpus.out("ranks", backend)), read_reasons(corpus.out("reasons", backend))
    assert list(ranks) == [f"{film}-{c}" for film in FILMS for c in range(CAST)]
    for film in FILMS:
        expected = ways_to_search()[backend](corpus.films[film], ())
        names = [f"{film}-{n:02d}" for n in range(COUNT)]
        for c in range(CAST):
            model = f"{film}-{c}"
            order = sorted(range(COUNT), key=lambda n, c=c, found=expected: (-found.scores[c, n], names[n]))
            assert [segment for segment, _ in ranks[model]] == [names[n] for n in order]
            assert np.allclose([score for _, score in ranks[model]], expected.scores[c, order], atol=1e-4)
            lines = corpus.out("reasons", backend).read_text().splitlines()
            own = [line.split()[1] for line in lines if line.split()[0] == model]
            assert own == [names[n] for n in order]
            for n in range(COUNT):
                by = expected.evidence[c, n]
                told = [*names, *(f"{film}-{k}-portrait" for k in range(CAST)), "-"][by]
                assert reasons[model][names[n]] == (REASONS[expected.reasons[c, n]], told)


def test_persons_are_the_best_cast_members_of_each_candidate(corpus: Corpus) -> None:
    corpus.search()
    persons = read_persons(corpus.out("persons"))
    scores = {(m, s): v for m, some in read_scored_ranks(corpus.out("ranks")).items() for s, v in some}
    assert list(persons) == sorted(corpus.frame)
    for segment, listed in persons.items():
        of_film = sorted((-scores[f"{segment[0]}-{c}", segment], f"{segment[0]}-{c}") for c in range(CAST))
        assert listed == [(model, -score) for score, model in of_film[:2]]


def test_lists_are_cut_at_search_top_and_reasons_are_those_of_their_lines(corpus: Corpus) -> None:
    corpus.search(search_top=4, search_persons=1)
    lines = [corpus.out(name).read_text().splitlines() for name in NAMES]
    assert [len(some) for some in lines] == [4 * 6, 2 * COUNT, 4 * 6]
    of = [
        [(line.split()[0], line.split()[place]) for line in some]
        for some, place in zip(lines[::2], (2, 1), strict=True)
    ]
    assert of[0] == of[1]


def test_lists_do_not_depend_on_the_order_of_inputs(corpus: Corpus) -> None:
    corpus.search()
    before = [corpus.out(name, backend).read_bytes() for name in NAMES for backend in ways_to_search()]
    for name in ("test/utt2group", "test/vid.scp", "test/search", "cast/utt2spk"):
        lines = (corpus.data / name).read_text().splitlines()
        random.Random(name).shuffle(lines)
        corpus.write(name, lines)
    corpus.search()
    assert [corpus.out(name, backend).read_bytes() for name in NAMES for backend in ways_to_search()] == before


def test_cast_member_in_two_films_is_ranked_in_both_and_portraits_are_the_nearest(corpus: Corpus) -> None:
    """f-0 also plays in g, and has a second portrait, that of g-1."""
    other = corpus.films["g"].cast.units[0][1:2]
    portraits = {f"f-{c}-portrait": corpus.films["f"].cast.units[0][c : c + 1] for c in range(CAST)}
    portraits |= {f"g-{c}-portrait": corpus.films["g"].cast.units[0][c : c + 1] for c in range(CAST)}
    corpus.embed("face", "e/cast", portraits | {"f-0-second": other})
    corpus.write("cast/utt2spk", [f"{name} {name[:3]}" for name in portraits] + ["f-0-second f-0"])
    corpus.write("test/search", [*(corpus.data / "test/search").read_text().splitlines(), "f-0 g"])
    corpus.search()
    found = read_scored_ranks(corpus.out("ranks"))["f-0"]
    assert sorted(segment for segment, _ in found) == sorted(corpus.frame)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    told = {s: by for s, (reason, by) in read_reasons(corpus.out("reasons"))["f-0"].items() if reason == "identity"}
    for segment, by in told.items():
        row = corpus.films[segment[0]].identity.units[0][int(segment[2:])]
        assert by == ("f-0-portrait" if row @ portraits["f-0-portrait"][0] > row @ other[0] else "f-0-second")
    assert len(set(told.values())) == 2


def test_same_options_keep_the_lists_and_others_make_those_that_they_change(corpus: Corpus, caplog) -> None:
    corpus.search()
    dates = {path: path.stat().st_mtime_ns for path in (corpus.work / "out").rglob("*")}
    corpus.search()
    assert {path: path.stat().st_mtime_ns for path in (corpus.work / "out").rglob("*")} == dates
    with caplog.at_level(logging.INFO):
        corpus.search(cast_rerank="identity")
    made = {path for path, date in dates.items() if path.is_file() and path.stat().st_mtime_ns != date}
    assert {path.parts[-3] for path in made} == {"original"}
    assert "--cast-rerank identity" in " ".join(read_record(corpus.out("ranks", "original")).command)
    corpus.out("reasons").write_text("f-0 f-00 identity -\n")
    corpus.search(cast_rerank="identity")
    assert len(corpus.out("reasons").read_text().splitlines()) == 6 * COUNT
    with pytest.raises(SystemExit) as left:
        corpus.search(check=True)
    assert left.value.code == 3


def test_calibrated_scores_are_log_likelihood_ratios_of_the_key_in_the_same_order(corpus: Corpus, caplog) -> None:
    corpus.search(cast_backends="calibrated")
    odds = read_scored_ranks(corpus.out("ranks"))
    with caplog.at_level(logging.INFO):
        corpus.search(cast_backends="calibrated", calibration_set="test", calibration_enroll_sets="cast")
    ratios = read_scored_ranks(corpus.out("ranks"))
    pairs = [(v, w) for m in odds for (_, v), (_, w) in zip(odds[m], ratios[m], strict=True)]
    slope, offset = np.polyfit(*np.transpose(pairs), 1)
    assert slope > 0 and np.allclose([slope * v + offset for v, _ in pairs], [w for _, w in pairs], atol=1e-3)
    assert [[s for s, _ in odds[m]] for m in odds] == [[s for s, _ in ratios[m]] for m in odds]
    key = read_relevant(corpus.data / "test/relevant")
    right = np.array([s in key[m] for m in ratios for s, _ in ratios[m]])
    values = np.array([v for m in ratios for _, v in ratios[m]])
    cllr = (np.log2(1 + np.exp(-values[right])).mean() + np.log2(1 + np.exp(values[~right])).mean()) / 2
    assert cllr < 0.6  # 1 says nothing
    assert "log-likelihood ratio = " in caplog.text


def test_key_that_contradicts_the_scores_and_one_that_is_missing_are_refused(corpus: Corpus) -> None:
    key = read_relevant(corpus.data / "test/relevant")
    wrong = [f"{m} {s}" for m in key for s in corpus.frame if s[0] == m[0] and s not in key[m]]
    corpus.write("test/relevant", wrong)
    calibration = {"calibration_set": "test", "calibration_enroll_sets": "cast"}
    with pytest.raises(ScoringError, match="calibration_set: .*relevant.*is it the key of this set"):
        corpus.search(cast_backends="calibrated", **calibration)
    (corpus.data / "test/relevant").unlink()
    with pytest.raises(ScoringError, match="relevant; name a calibration_set"):
        corpus.search(**calibration)
    corpus.search(cast_backends="original propagation", **calibration)


def test_two_folders_of_a_modality_are_an_ensemble(corpus: Corpus) -> None:
    rng = np.random.default_rng(5)
    second = {name: rng.standard_normal((1, 8)) for name in corpus.frame}
    corpus.embed("body", "second/test", second)
    folders = [str(corpus.exp / "body_embed" / name) for name in ("o", "second")]
    word = shlex.join(["--cue", "appearance", "--modality", "body", "--embed-dirs", *folders])
    corpus.search(cast_backends="propagation", cues=[corpus.cue("identity", "face", "e"), word])
    film, some = corpus.films["f"], np.concatenate([second[f"f-{n:02d}"] for n in range(COUNT)])
    there = np.ones(COUNT, bool)
    both = Cue(COUNT, [(film.appearance.units[0], there), (some, there)])
    expected = ways_to_search()["propagation"](Film(film.cast, film.identity, both, film.frames), ())
    found = dict(read_scored_ranks(corpus.out("ranks", "propagation"))["f-0"])
    assert np.allclose([found[f"f-{n:02d}"] for n in range(COUNT)], expected.scores[0], atol=1e-4)


def test_segments_without_an_item_are_counted_in_the_log(corpus: Corpus, caplog) -> None:
    unseen = sum(int((~film.identity.known).sum()) for film in corpus.films.values())
    with caplog.at_level(logging.INFO):
        corpus.search(cast_backends="original")
    told = [message.partition(": ")[2] for message in caplog.messages if "segments without any" in message]
    assert told == [f"{unseen} of 60 segments without any faces"]


def test_cast_members_without_a_face_are_named_and_ranked(corpus: Corpus, caplog) -> None:
    portraits = read_scp(corpus.exp / "face_embed/e/cast/embed.scp")
    film = corpus.films["f"].cast.units[0]
    rows = {name: np.zeros((0, 0)) for name in portraits} | {"f-1-portrait": film[1:2]}
    corpus.embed("face", "e/cast", rows)
    corpus.search()
    assert "f-0: cast member without any usable portrait" in caplog.text
    assert len(corpus.out("ranks").read_text().splitlines()) == 6 * COUNT
    reasons = read_reasons(corpus.out("reasons"))
    assert "identity" in {reason for reason, _ in reasons["f-1"].values()}
    assert "identity" not in {reason for reason, _ in reasons["f-0"].values()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cast_backends": "origin"}, "expected one or several of original propagation calibrated, found 'origin'"),
        ({"cast_backends": ""}, "cast_backends: .* found none"),
        ({"cast_rerank": "face"}, "cast_rerank: expected words of identity appearance identity:.*, found 'face'"),
        ({"cast_rerank": "identity:best"}, "appearance:ecn, found 'identity:best'"),
        ({"cast_rerank": "identity identity:ecn"}, "expected each of identity appearance once, found 'identity id"),
        ({"embedders": "net original"}, "other names than the back-ends of a cast search: original"),
        ({"experiment": ""}, "experiment: expected the name of a folder"),
        ({"enroll_sets": "nobody"}, "there is no .*nobody/utt2spk"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_is_valid(corpus: Corpus, changes, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        corpus.search(**changes)
    assert not (corpus.work / "out").exists()


def test_inputs_that_do_not_fit_are_refused_by_name_and_nothing_is_written(corpus: Corpus) -> None:
    only_bodies = [corpus.cue("appearance", "body", "o")]
    with pytest.raises(ScoringError, match="expected a modality in which portraits and candidates are compared"):
        corpus.search(cues=only_bodies)
    with pytest.raises(ScoringError, match="no embeddings in .*body_embed/none/test"):
        corpus.search(cues=[corpus.cue("identity", "face", "e"), corpus.cue("appearance", "body", "none")])
    with pytest.raises(ScoringError, match="no cast member has a portrait with an embedding"):
        corpus.search(cues=[corpus.cue("identity", "face", "faceless")])
    for name, lines, message in (
        ("cast/utt2spk", ["f-0-portrait f-0"], "5 of 6 cast members .* are not in .*utt2spk: f-1, f-2, g-0, ..."),
        ("test/vid.scp", ["f-00 a.jpg"], "59 of 60 segments of .*utt2group are not in .*vid.scp"),
        ("test/utt2group", ["f-00 f", "g-99 g"], "1 of 2 segments of .*utt2group are not in .*vid.scp: g-99"),
    ):
        before = (corpus.data / name).read_text()
        corpus.write(name, lines)
        with pytest.raises(ScoringError, match=message):
            corpus.search()
        (corpus.data / name).write_text(before)
    corpus.embed("body", "o/test", {name: np.full((1, 4), np.nan) for name in corpus.frame})
    with pytest.raises((ScoringError, DataError), match="f-00.*NaN or infinite"):
        corpus.search()
    assert not list((corpus.work / "out").rglob("*_ranks"))


def stage_4(corpus: Corpus, *options: str) -> subprocess.CompletedProcess[str]:
    call = ["./run_004_score.sh", "--config-file", "global_conf/config_csm.sh", "--data-dir", str(corpus.data)]
    call += ["--exp-dir", str(corpus.exp), "--modalities", "face body", "--trial-sets", "cast:test"]
    call += [
        "--search-backends",
        "class-mean",
        "--search-top",
        "100",
        "--face-embedder",
        "e",
        "--body-embedder",
        "o",
        *options,
    ]
    environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
    return subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_stage_4_searches_with_the_embedders_of_all_modalities_or_those_that_are_named(corpus: Corpus) -> None:
    calibrated = ("--cast-backends", "calibrated", "--calibration-set", "test", "--experiment", "x")
    done = stage_4(corpus, *calibrated, "--cast-embedders", "body/o face/e")
    assert done.returncode == 0, done.stderr
    corpus.search(cast_backends="calibrated", calibration_set="test", calibration_enroll_sets="cast", search_persons=5)
    for name in NAMES:
        made = corpus.exp / "scores/calibrated/x" / f"test_{name}"
        lines = corpus.out(name).read_text().splitlines()
        assert made.read_text().splitlines() == lines
    done = stage_4(corpus, *calibrated, "--cast-embedders", "voice/e")
    expected = "cast_embedders: expected <modality>/<embedder> with a modality of 'face body', found 'voice/e'"
    assert done.returncode == 1 and expected in done.stderr
