"""Cleansing of training lists: drawn embeddings with planted errors, and stage 15 on a small set."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from numpy.typing import NDArray

from benchmarks.pseudo_clips import write_archive
from steps.cleanse_list import CleanseOptions, cleanse_list
from vidperson import cli
from vidperson.backends import cleansing
from vidperson.backends.cleansing import Centres, View, calibrate, cleanse, judge
from vidperson.corpora import voxceleb
from vidperson.errors import DataError, ScoringError
from vidperson.io.data_dir import validate, write_subset
from vidperson.io.lines import write_lines
from vidperson.report.sounds import small_wav

NAMES = ["m0", "m1"]
Index = NDArray[np.int64]


class World:
    """People with two modalities, and how their embeddings are drawn."""

    def __init__(self, people: int, noise: float = 0.6, seed: int = 0, size: int = 32) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = [self.rng.normal(size=(people, size)) / math.sqrt(size) for _ in NAMES]
        self.noise, self.size = noise / math.sqrt(size), size

    def views(self, shown: Sequence[Index], missing: Sequence[Index] = ((), ())) -> list[View]:  # type: ignore[assignment]
        """shown: of each modality the person of each utterance. missing: utterances without it."""
        views = []
        for name, centres, people, without in zip(NAMES, self.centres, shown, missing, strict=True):
            vectors = centres[people] + self.noise * self.rng.normal(size=(len(people), self.size))
            rows = np.setdiff1d(np.arange(len(people)), np.asarray(without, np.int64))
            views.append(View(name, rows, vectors[rows].astype(np.float32)))
        return views


def reasons(found: cleansing.Cleansed) -> list[str]:
    return [found.reason(row, NAMES) for row in range(len(found.noisy))]


# ------------------------------------------------------------------------------------------------------- the algorithm


def test_planted_errors_are_found_each_with_its_reason_and_nothing_else() -> None:
    world = World(50)
    labels = np.repeat(np.arange(40), 8)
    person, seen = labels.copy(), labels.copy()
    person[[3, 50, 171]] = seen[[3, 50, 171]] = [7, 30, 0]  # people of other labels
    person[[9, 100]] = seen[[9, 100]] = [45, 46]  # people of no label
    person[[20, 21, 22]] = seen[[20, 21, 22]] = 48  # a whole video of another person
    person[[200, 290]] = [1, 2]  # another voice
    seen[[210, 310]] = [5, 49]  # another face
    found = cleanse(labels, 40, world.views([person, seen]))
    said = dict(enumerate(reasons(found)))
    expected = {
        **dict.fromkeys((3, 50, 171), "like_other"),
        **dict.fromkeys((9, 100), "not_like_class"),
        **dict.fromkeys((20, 21, 22), "split"),
        **dict.fromkeys((200, 290), "m0_differs"),
        **dict.fromkeys((210, 310), "m1_differs"),
    }
    assert {row: reason for row, reason in said.items() if reason} == expected
    assert found.nearest[[3, 50, 171]].tolist() == [7, 30, 0] and found.merges == []
    assert found.noisy.sum() == len(expected) and set(found.group[[20, 21, 22]]) == {1} and found.group.sum() == 3


def test_large_group_of_another_person_does_not_own_the_centre() -> None:
    world = World(31)
    labels = np.repeat(np.arange(30), 12)
    person = labels.copy()
    person[[0, 2, 4, 6, 8]] = 30  # 5 of the 12 of label 0
    found = cleanse(labels, 30, world.views([person, person]))
    assert np.flatnonzero(found.noisy).tolist() == [0, 2, 4, 6, 8]
    assert set(np.array(reasons(found))[found.noisy]) == {"split"}


def test_list_without_errors_loses_at_most_one_in_two_hundred() -> None:
    labels = np.repeat(np.arange(60), 10)
    for noise in (0.6, 1.2):  # at 1.2 right and wrong similarities overlap
        found = cleanse(labels, 60, World(60, noise, seed=1).views([labels, labels]))
        assert found.noisy.sum() <= 3


def test_overlapping_similarities_are_told_apart_better_by_both_modalities_than_by_one() -> None:
    world = World(40, 1.6, seed=2)
    labels = np.repeat(np.arange(40), 10)
    person = labels.copy()
    wrong = np.sort(world.rng.choice(len(labels), 40, replace=False))
    person[wrong] = (person[wrong] + world.rng.integers(1, 40, 40)) % 40
    views = world.views([person, person])
    truth = person != labels

    def area(scores: NDArray[np.float64]) -> float:
        return float((scores[truth][:, None] > scores[~truth]).mean())

    both = area(1 - cleanse(labels, 40, views).judged.right)
    assert both > 0.99 and all(both > area(1 - cleanse(labels, 40, [view]).judged.right) > 0.95 for view in views)


def test_utterance_without_a_modality_is_judged_by_the_other_and_one_without_any_is_noisy() -> None:
    world = World(30, seed=3)
    labels = np.repeat(np.arange(30), 8)
    person = labels.copy()
    person[[5, 60, 111]] = [9, 20, 28]
    without = np.array([5, 6, 60, 111, 112, 200])
    found = cleanse(labels, 30, world.views([person, person], [np.array([200, 201]), without]))
    said = reasons(found)
    assert {row for row in range(240) if found.noisy[row]} == {5, 60, 111, 200}
    assert said[200] == "no_items" and {said[row] for row in (5, 60, 111)} == {"like_other"}
    assert np.isnan(found.similarity[200]).all() and np.isfinite(found.similarity[201, 1])


def test_modality_that_fewer_have_has_a_prior_of_its_own_there() -> None:
    rng = np.random.default_rng(0)
    ratios = np.where(rng.random((400, 2)) < 0.02, -2.0, 6.0)  # hardly any error where both are known
    ratios[300:] = [-2.0, 0.0]
    ratios[300:360, 0] = 6.0  # 40 of 100 look wrong where only the first is
    known = np.ones((400, 2), bool)
    known[300:, 1] = False
    often = judge(ratios, known, np.full(400, -np.inf), 1).doubts(0)[360:].mean()
    ratios[300:, 0] = 6.0
    ratios[399, 0] = -2.0  # 1 of 100
    seldom = judge(ratios, known, np.full(400, -np.inf), 1).doubts(0)[399]
    assert often > 0.6 and seldom < 0.3


def test_tiny_labels_are_judged_by_those_that_are_left_and_by_other_labels() -> None:
    world = World(80, 0.5, seed=4)
    labels = np.concatenate([np.repeat(np.arange(30), 6), np.repeat(np.arange(30, 40), 2), [40, 41]])
    person = labels.copy()
    person[181], person[-1] = 3, 7  # one of two; the only one
    found = cleanse(labels, 42, world.views([person, person]))
    said = reasons(found)
    assert found.noisy[[181, 201]].all() and (said[181], said[201]) == ("like_other", "like_other")
    assert not found.noisy[200] and said[200] == "not_judged" and np.isnan(found.similarity[200]).all()
    assert found.noisy[180:200].sum() <= 2 and not found.noisy[:180].any()


@pytest.mark.parametrize("strangers", [0, 4])
def test_one_label_only_is_judged_by_two_distributions_and_nothing_is_flagged_where_there_is_one(
    strangers: int,
) -> None:
    world = World(10, 0.5, seed=5)
    labels = np.zeros(60, np.int64)
    person = labels.copy()
    person[:strangers] = np.arange(1, strangers + 1)
    found = cleanse(labels, 1, world.views([person, person]))
    assert np.flatnonzero(found.noisy).tolist() == list(range(strangers))


def test_same_utterance_under_two_labels_is_noisy_where_it_is_less_at_home_and_names_its_twin() -> None:
    world = World(20, seed=6)
    labels = np.repeat(np.arange(20), 8)
    views = world.views([labels, labels])
    for view in views:
        view.vectors[17] = view.vectors[90] * 1.5
    found = cleanse(labels, 20, views)
    assert np.flatnonzero(found.noisy).tolist() == [17] and reasons(found)[17] == "duplicate"
    assert found.twin[17] == 90 and found.twin[90] == -1


def test_two_labels_of_one_person_are_proposed_to_be_merged_and_kept() -> None:
    world = World(30, seed=7)
    labels = np.repeat(np.arange(30), 10)
    person = np.where(labels == 12, 4, labels)
    found = cleanse(labels, 30, world.views([person, person]))
    assert {(a, b) for a, b, _ in found.merges} == {(4, 12), (12, 4)} and found.noisy.sum() <= 1


def test_wished_precision_flags_more_the_lower_it_is_and_is_met() -> None:
    world = World(40, 1.6, seed=8)
    labels = np.repeat(np.arange(40), 10)
    person = labels.copy()
    wrong = world.rng.choice(len(labels), 60, replace=False)
    person[wrong] = (person[wrong] + world.rng.integers(1, 40, 60)) % 40
    views = [world.views([person, person])[0]]
    counts = []
    for precision in (0.95, 0.85, 0.7):
        found = cleanse(labels, 40, views, precision)
        counts.append(int(found.noisy.sum()))
        assert (1 - found.judged.right)[found.noisy].mean() >= precision
        assert (person != labels)[found.noisy].mean() > precision - 0.12
    assert 0 < counts[0] < counts[1] < counts[2]


def test_nothing_depends_on_how_many_rows_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(25, 1.2, seed=9)
    labels = np.sort(world.rng.integers(25, size=200))
    person = np.where(world.rng.random(200) < 0.1, world.rng.integers(25, size=200), labels)
    views = world.views([person, person], [np.arange(0, 200, 17), np.arange(3, 200, 11)])
    whole = cleanse(labels, 25, views)
    monkeypatch.setattr(cleansing, "_ROWS_AT_ONCE", 7)
    parts = cleanse(labels, 25, views)
    for name in ("similarity", "nearest", "noisy", "twin", "group"):
        assert getattr(whole, name).tobytes() == getattr(parts, name).tobytes(), name
    assert np.abs(whole.judged.right - parts.judged.right).max() < 1e-9


def test_similarity_is_the_cosine_with_the_mean_of_the_others_of_the_core() -> None:
    world = World(6, 0.3, seed=10)
    labels = np.repeat(np.arange(6), 5)
    view = world.views([labels, labels])[0]
    centres = Centres(view, labels, 6, 0)
    centres.keep(np.arange(30) != 7)
    found = centres.own()
    units = view.vectors / np.linalg.norm(view.vectors, axis=1, keepdims=True)
    for row in range(30):
        others = [i for i in range(30) if labels[i] == labels[row] and i not in (row, 7)]
        mean = units[others].mean(axis=0)
        assert abs(found[row] - units[row] @ mean / np.linalg.norm(mean)) < 1e-6


def test_calibration_gives_the_ratio_of_the_distributions_that_were_drawn() -> None:
    rng = np.random.default_rng(0)
    other = rng.normal(0.1, 0.1, 50_000)
    own = np.concatenate([rng.normal(0.6, 0.1, 18_000), rng.normal(0.1, 0.1, 2_000)])
    found = calibrate(own, other)
    assert found is not None and abs(found.share - 0.1) < 0.01
    for score in (0.25, 0.3, 0.35, 0.4, 0.45):
        true = ((score - 0.1) ** 2 - (score - 0.6) ** 2) / (2 * 0.01)
        assert abs(found(np.array([score]))[0] - true) < 1.3
    assert abs(found.threshold() - 0.35) < 0.03 and found(np.array([np.nan]))[0] == 0
    assert (np.diff(found.ratios) >= 0).all()


def test_labels_with_centres_of_length_0_are_kept_and_not_judged() -> None:
    unit = np.eye(1, 4, dtype=np.float32)
    labels = np.repeat(np.arange(2), 2)
    for vectors in (np.zeros((4, 4), np.float32), np.concatenate([unit, -unit] * 2)):
        found = cleanse(labels, 2, [View("m0", np.arange(4), vectors)])
        assert not found.noisy.any()


# -------------------------------------------------------------------------------------------------------- stage 15


def write_set(root: Path) -> dict[str, str]:
    """A set with two modalities as stages 1 and 3 write it. Segment -> what is wrong with it, "" for nothing."""
    world = World(14, seed=11)
    labels = np.repeat(np.arange(12), 7)
    person, seen = labels.copy(), labels.copy()
    person[[4, 30]] = seen[[4, 30]] = [9, 2]
    seen[60] = 13
    ids = [f"id{label:02d}-u{number:03d}" for number, label in enumerate(labels.tolist())]
    for modality, network, view in zip(
        ("speaker", "face"), ("voices", "looks"), world.views([person, seen]), strict=True
    ):
        rows = {name: view.vectors[i : i + 1] for i, name in enumerate(ids)}
        if modality == "face":
            rows[ids[10]] = rows[ids[10]][:0]
        write_archive(root / f"exp/{modality}_embed/{network}/train", "embed", rows.items())
    whole = np.array([[0, 2.5, 20, -26, 0, 0, 1]], np.float32)  # of stage 2: no box, so all rows are of one person
    write_archive(root / "exp/speaker_det/given/train", "speech", ((name, whole) for name in ids))
    data = root / "data/train"
    data.mkdir(parents=True)
    sound = root / "media/wav/x"
    sound.mkdir(parents=True)
    with wave.open(str(sound / "y.wav"), "wb") as stream:
        stream.setparams((1, 2, 16000, 0, "NONE", ""))
        stream.writeframes((8000 * np.sin(np.arange(40_000) / 20)).astype("<i2").tobytes())
    write = {
        "utt2spk": [f"{name} {name[:4]}" for name in ids],
        "spk2utt": [
            " ".join([f"id{i:02d}", *(name for name in ids if name.startswith(f"id{i:02d}"))]) for i in range(12)
        ],
        "wav.scp": [f"{name} ../../media/wav/{name.replace('-', '/')}.wav" for name in ids],
        "utt2dur": [f"{name} {2 + number / 10:g}" for number, name in enumerate(ids)],
    }
    for name in (ids[4], ids[11]):
        target = root / "media/wav" / f"{name.replace('-', '/')}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sound / "y.wav", target)
    for name, lines in write.items():
        (data / name).write_text("\n".join(lines) + "\n")
    return {name: {4: "like_other", 30: "like_other", 60: "face_differs"}.get(i, "") for i, name in enumerate(ids)}


@pytest.fixture
def made(tmp_path: Path) -> dict[str, str]:
    return write_set(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], str]:
    """A set that was cleansed, what is wrong in it, and what was printed."""
    root, said = tmp_path_factory.mktemp("cleansed"), io.StringIO()
    wrong = write_set(root)
    with contextlib.redirect_stdout(said):
        cleanse_list(options(root))
    return root, wrong, said.getvalue()


def options(root: Path, **values: object) -> CleanseOptions:
    views = [
        f"--modality {modality} --embed-dir {root}/exp/{modality}_embed/{network} --part train"
        for modality, network in (("speaker", "voices"), ("face", "looks"))
    ]
    views[0] += f" --items-dir {root}/exp/speaker_det/given"
    given = {"data": root / "data/train", "views": views, "output_dir": root / "out", "clean_data": root / "data/clean"}
    return cli.fill(CleanseOptions, **{**given, **values})


def outputs(root: Path) -> dict[str, bytes]:
    folders = root / "out", root / "data/clean"
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "record.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_step_writes_the_list_the_table_the_proposals_and_a_data_folder_without_the_noisy(
    finished: tuple[Path, dict[str, str], str],
) -> None:
    root, made, said = finished
    wrong = {name for name, reason in made.items() if reason}
    head, *lines = [line.split("\t") for line in (root / "out/decisions.tsv").read_text().splitlines()]
    table = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    assert list(table) == list(made)
    assert {name: row["reason"].replace("-", "") for name, row in table.items()} == made
    assert {name for name, row in table.items() if row["flag"] == "noisy"} == wrong
    assert table["id01-u010"]["face_similarity"] == "-" and float(table["id01-u010"]["speaker_similarity"]) > 0.7
    assert (root / "out/relabel").read_text() == "id00-u004 id00 id09 like_other\nid04-u030 id04 id02 like_other\n"
    listed = (root / "out/train_all_clean.txt").read_text().splitlines()
    assert re.fullmatch(r"id00 id00/u004\.wav 2\.4 -?0\.\d{4} -?0\.\d{4} noisy", listed[4])
    assert re.fullmatch(r"id01 id01/u010\.wav 3 0\.\d{4} - clean", listed[10])
    read = voxceleb._read_training_list(root / "out/train_all_clean.txt", cleansed=True)
    assert read.keys() == {name.replace("-", "/") for name in made if name not in wrong}
    assert validate(root / "data/clean") == []
    kept = (root / "data/clean/wav.scp").read_text().splitlines()
    assert [line.split()[0] for line in kept] == [name for name in made if name not in wrong]
    assert kept[0] == f"id00-u000 {root}/data/train/../../media/wav/id00/u000.wav"
    assert "3 of 84 segments are noisy (1 face_differs, 2 like_other)" in said


def test_summary_counts_what_the_report_shows_with_sounds_and_nothing_from_elsewhere(
    finished: tuple[Path, dict[str, str], str],
) -> None:
    root = finished[0]
    summary = json.loads((root / "out/results.json").read_text())
    assert (summary["segments"], summary["labels"], summary["noisy"]) == (84, 12, 3)
    assert summary["reasons"] == {"face_differs": 1, "like_other": 2} and summary["splits"] == summary["merges"] == []
    assert summary["per_label"]["id00"] == {"clean": 6, "like_other": 1}
    assert [summary["modalities"][name]["known"] for name in ("speaker", "face")] == [84, 83]
    page = (root / "out/report.html").read_text()
    assert "id00-u004, labelled id00" in page and "only its face is not that of its label" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "media-src data:" in page
    sounds = re.findall(r'<audio[^>]* src="data:audio/wav;base64,([^"]+)"', page)
    assert len(sounds) == 1, "of two that are there one is shown: files that are missing stop nothing"
    with wave.open(io.BytesIO(base64.b64decode(sounds[0]))) as stream:
        assert (stream.getframerate(), stream.getsampwidth(), stream.getnframes()) == (8000, 1, 20_000)


def test_report_in_a_browser_has_no_faults_and_finds_a_noisy_segment(
    finished: tuple[Path, dict[str, str], str], browser: Browser
) -> None:
    page = browser.open(finished[0] / "out/report.html", width=400)
    assert page.troubles() == page.broken_images() == page.findings() == [] and not page.is_wide()
    noisy = "[data-label='show only noisy with these words']"
    page.type(f"{noisy} input", "like_other id09")
    assert page.texts(f"{noisy} tbody th") == ["id00-u004"] and page.count("figure.plot svg.inside") == 2
    page.close()


def test_second_run_keeps_everything_and_one_that_was_killed_or_edited_gives_the_same_bytes(
    finished: tuple[Path, dict[str, str], str],
) -> None:
    root = finished[0]
    before, record = outputs(root), (root / "out/report.html.record.json").stat().st_mtime_ns
    cleanse_list(options(root))
    assert (root / "out/report.html.record.json").stat().st_mtime_ns == record
    (root / "out/results.json.record.json").unlink()  # as after a kill before the last records
    (root / "data/clean/wav.scp").unlink()
    shutil.rmtree(root / "out/vectors/face")
    (root / "out/relabel").write_text("edited\n")
    with pytest.raises(SystemExit) as stop:
        cleanse_list(options(root, check=True))
    assert stop.value.code == 3 and (root / "out/relabel").read_text() == "edited\n"
    cleanse_list(options(root))
    assert outputs(root) == before
    with pytest.raises(SystemExit) as stop:
        cleanse_list(options(root, check=True))
    assert stop.value.code == 0


def test_clean_folder_has_a_list_of_the_set_that_was_changed_after_it_was_cleansed(
    made: dict[str, str], tmp_path: Path
) -> None:
    lines = [f"{name} 0 0 5 5" for name in made]
    for number in (1, 2):
        (tmp_path / "data/train/region").write_text("\n".join(lines) + "\n")
        cleanse_list(options(tmp_path))
        kept = [line for line in lines if not made[line.split()[0]]]
        assert (tmp_path / "data/clean/region").read_text().splitlines() == kept, number
        lines = [line.replace(" 0 0 ", " 1 1 ") for line in lines]


def test_relabelling_keeps_what_surely_is_of_another_label_with_that_label(
    made: dict[str, str], tmp_path: Path
) -> None:
    cleanse_list(options(tmp_path, relabel=True))
    lines = dict(line.split() for line in (tmp_path / "data/clean/utt2spk").read_text().splitlines())
    assert (lines["id00-u004"], lines["id04-u030"]) == ("id09", "id02") and "id08-u060" not in lines
    assert validate(tmp_path / "data/clean") == []
    assert json.loads((tmp_path / "out/results.json").read_text())["relabelled"] == 2
    kept = "2 of these are kept, under a label that is theirs with 0.95 or more"
    assert (tmp_path / "out/results.txt").read_text().splitlines()[1] == kept


def test_segments_that_are_alone_in_their_labels_are_counted_as_not_judged(
    made: dict[str, str], tmp_path: Path
) -> None:
    write_lines(tmp_path / "data/train/utt2spk", [f"{name} alone-{name}" for name in made])
    cleanse_list(options(tmp_path))
    told = (tmp_path / "out/results.txt").read_text()
    assert re.search(r"^8\d segments are the only ones of their labels: they are kept, not judged$", told, re.M), told


def test_modality_without_any_item_tells_nothing_and_without_both_the_set_is_refused(
    made: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = {name: np.zeros((0, 0), np.float32) for name in made}
    write_archive(tmp_path / "exp/face_embed/looks/train", "embed", empty.items())
    cleanse_list(options(tmp_path))
    assert "face: no segment has any item: it tells nothing" in caplog.text
    flags = [line.split()[-1] for line in (tmp_path / "out/train_all_clean.txt").read_text().splitlines()]
    assert flags.count("noisy") == 2
    write_archive(tmp_path / "exp/speaker_embed/voices/train", "embed", empty.items())
    with pytest.raises(ScoringError, match="no segment of .*data/train has an item: there is nothing to judge by"):
        cleanse_list(options(tmp_path))


@pytest.mark.parametrize(("damage", "message"), [
    (lambda root: shutil.rmtree(root / "exp/face_embed"), "no embeddings in .*face_embed/looks/train; run ./run_003"),
    (lambda root: (root / "data/train/utt2spk").unlink(), "there is no .*utt2spk; run ./run_001_prepare_data.sh"),
    (lambda root: (root / "data/train/utt2spk").write_text("x y\n"), "expected labels of the segments of .*, found no"),
    (lambda root: (root / "data/train/utt2dur").write_text("id00-u000 ?\n"), "utt2dur:1: expected '<segment> <secon"),
    (lambda root: [
        (root / "data/train" / name).open("a").write("zz-u999 zz\n") for name in ("utt2spk", "wav.scp")
    ], "1 of 85 segments of the set are not in .*voices/train: zz-u999; run stages 2 and 3 for the set"),
])  # fmt: skip
def test_bad_input_is_named_with_what_to_run(made: dict[str, str], tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    damage(tmp_path)
    with pytest.raises((ScoringError, DataError), match=message):
        cleanse_list(options(tmp_path))
    assert not (tmp_path / "data/clean").exists()


def test_modality_that_is_named_twice_is_refused(made: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="modalities: expected different ones, found face face"):
        cleanse_list(options(tmp_path, views=options(tmp_path).views[1:] * 2))


def test_set_is_not_overwritten_by_what_is_left_of_it(made: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="clean_data: expected another folder than .*train, which would be overwr"):
        cleanse_list(options(tmp_path, clean_data=tmp_path / "data/clean/../train"))
    assert len((tmp_path / "data/train/utt2spk").read_text().splitlines()) == len(made)


def test_stage_15_cleanses_by_the_modalities_of_the_config_and_refuses_what_is_not_there(
    made: dict[str, str], repo: Path, tmp_path: Path
) -> None:
    call = [
        "./run_015_cleanse_list.sh",
        f"--data-dir={tmp_path}/data",
        f"--exp-dir={tmp_path}/exp",
        "--experiment",
        "x",
    ]
    call += ["--modalities", "face", "--face-embedder", "looks"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "VIDPERSON_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
        return subprocess.run([*call, *more], cwd=repo, env=environment, capture_output=True, text=True, timeout=120)

    done = run("--train-sets", "train")
    folder = tmp_path / "exp/cleanse/x/train"
    assert done.returncode == 0, done.stderr
    told = "train: 4 of 84 segments are noisy (2 like_other, 1 no_items, 1 not_like_class)"
    assert done.stdout.splitlines()[-2:] == [told, f"report: {folder}/report.html"]
    assert json.loads((folder / "results.json").read_text())["reasons"] == {
        "like_other": 2,
        "no_items": 1,
        "not_like_class": 1,
    }
    record = json.loads((folder / "report.html.record.json").read_text())
    assert record["stage"] == "./run_015_cleanse_list.sh" and record["options"]["train_sets"] == "train"
    for options, message in (
        ((), "train_sets is empty"),
        (("--train-sets", "train", "--face-embedder", "no"), "run stages 2 and 3 with train:train in trial_sets"),
        (("--train-sets", "train", "--train-epochs", "3"), "unknown option --train-epochs"),
    ):
        refused = run(*options)
        assert refused.returncode == 1 and message in refused.stderr


# ---------------------------------------------------------------------------------------------------------- its parts


def test_subset_of_a_data_folder_has_all_lists_of_segments_and_is_valid(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    lists = {
        "utt2spk": ["a p", "b p", "c q"], "spk2utt": ["p a b", "q c"],
        "vid.scp": ["a x/a b.mp4", "b /y/b.mp4", "c c.mp4"],
        "region": ["a 0 0 5 5", "b 1 1 2 2"], "utt2dur": ["a 1.5", "b 2", "c 3"], "trials": ["p a", "q c"],
        "face_boundingbox": ["a 0 1 1 2 2", "c 0 1 1 2 2"], "face_boundingbox_conf": ["frames 5"],
    }  # fmt: skip
    for name, lines in lists.items():
        (data / name).write_text("\n".join(lines) + "\n")
    out = tmp_path / "b/c"
    out.mkdir(parents=True)
    (out / "frames.scp").write_text("of an earlier call\n")
    write_subset(data, out, {"c": "p", "a": "p"})
    written = {path.name: path.read_text().splitlines() for path in out.iterdir()}
    assert written == {
        "utt2spk": ["a p", "c p"], "spk2utt": ["p a c"], "vid.scp": [f"a {data}/x/a b.mp4", f"c {data}/c.mp4"],
        "region": ["a 0 0 5 5"], "utt2dur": ["a 1.5", "c 3"], "face_boundingbox": ["a 0 1 1 2 2", "c 0 1 1 2 2"],
        "face_boundingbox_conf": ["frames 5"],
    }  # fmt: skip
    assert validate(out) == []
    (data / "utt2dur").write_text("a x\n")
    with pytest.raises(DataError, match=r"utt2dur:1: expected '<segment> <seconds>', found 'a x'"):
        write_subset(data, out, {"a": "p"})
    assert validate(out) != []


@pytest.mark.parametrize(("path", "listed"), [
    ("/corpus/wav/id1/v/00001.wav", "id1/v/00001.wav"),
    ("/corpus/frame_align/id1/v/00001", "id1/v/00001"),
    ("/wav/old/wav/id1/x.wav", "id1/x.wav"),
    ("/corpus/talks/a.mp4", "seg"),
    ("/corpus/wav/a b.wav", "seg"),
])  # fmt: skip
def test_list_has_the_path_below_the_folder_of_sounds_or_faces_or_else_the_segment(path: str, listed: str) -> None:
    assert voxceleb.listed_path("seg", path) == listed


def test_small_sound_is_a_wav_file_of_eight_bits_at_full_level_and_silence_stays() -> None:
    sound = (0.01 * np.sin(np.arange(801) / 5)).astype(np.float32)
    for samples, peak in ((sound, 0.9 * 127), (0 * sound, 0)):
        with wave.open(io.BytesIO(small_wav(samples, 8000))) as stream:
            assert stream.getparams()[:4] == (1, 1, 8000, 801)
            values = np.frombuffer(stream.readframes(801), np.uint8).astype(float) - 128
        assert abs(np.abs(values).max() - peak) <= 1
