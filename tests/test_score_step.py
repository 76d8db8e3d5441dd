"""steps/score.py on tiny archives, from the command line and as a function."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import naive_scoring
import numpy as np
import pytest

from steps.score import PairOptions, RunOptions, ScoreOptions, SystemOptions, score
from vidperson.backends import BACKENDS
from vidperson.errors import DataError, ScoringError
from vidperson.io.lists import read_scores
from vidperson.io.matrices import matrix_bytes
from vidperson.io.record import read_record, record_path, write_record

ROOT = Path(__file__).resolve().parents[1]


def write_embeddings(folder: Path, matrices, name: str = "embed") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.ark", "wb") as ark, open(folder / f"{name}.scp", "w") as scp:
        for key, matrix in matrices.items():
            scp.write(f"{key} {folder / name}.ark:{ark.tell() + len(key) + 1}\n")
            ark.write(matrix_bytes(key, np.asarray(matrix, dtype=np.float32)))


NONE = np.zeros((0, 2))


@pytest.fixture
def task(tmp_path):
    """Model a: two videos; b: reference missing, detected faces there; c: nothing at all; t3: no face."""
    embed = tmp_path / "embed/e"
    write_embeddings(embed / "ref", {"a-1": [[1, 0]], "a-2": [[0, 5], [0, 1]], "b-1": NONE, "c-1": NONE})
    write_embeddings(embed / "facedet", {"a-1": [[9, 9]], "a-2": NONE, "b-1": [[4, 0], [0, -4]], "c-1": NONE})
    write_embeddings(embed / "tested", {"t1": [[2, 0], [-1, 0]], "t2": [[-3, -4]], "t3": NONE, "unused": [[7, 7, 7]]})
    for folder in ("enroll", "test"):
        (tmp_path / folder).mkdir()
    (tmp_path / "enroll/spk2utt").write_text("a a-1 a-2\nb b-1\nc c-1\nd d-1\n")
    lines = [f"{model} {segment}" for segment in ("t2", "t1", "t3") for model in "cab"]
    (tmp_path / "test/trials").write_text("\n".join(lines) + "\n")
    return Task(tmp_path)


class Task:
    """A call of the step; keyword arguments are its options."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.embed = work / "embed/e"
        self.trials = work / "test/trials"
        self.given = {
            "modality": "face",
            "embed_dir": self.embed,
            "enroll_parts": "ref facedet",
            "enroll_data": work / "enroll",
            "test_part": "tested",
            "test_data": work / "test",
            "scores_dir": work / "out",
        }

    def options(self, **changes) -> ScoreOptions:
        given = self.given | changes
        parts = [{name: given.pop(name) for name in fields if name in given} for fields in (
            PairOptions.__dataclass_fields__, SystemOptions.__dataclass_fields__, RunOptions.__dataclass_fields__
        )]  # fmt: skip
        return ScoreOptions(PairOptions(**parts[0]), SystemOptions(**parts[1]), RunOptions(**parts[2]), **given)

    def score(self, **changes) -> None:
        score(self.options(**changes))

    def output(self, system: str = "max") -> Path:
        return self.work / "out/e" / system / "test_scores"

    def scores(self, system: str = "max"):
        return read_scores(self.output(system))

    def command(self, **changes) -> list[str]:
        given = [f"--{name.replace('_', '-')}={value}" for name, value in (self.given | changes).items()]
        return [sys.executable, str(ROOT / "steps/score.py"), *given]

    def note(self, folder: Path, inputs=()) -> None:
        """The record that stage 3 leaves of embeddings."""
        write_record(folder, ["stage 3"], inputs, [folder / "embed.ark", folder / "embed.scp"])


def test_score_trials_with_fallback_writes_all_trials_in_order(task, caplog):
    caplog.set_level(logging.INFO)
    task.score()
    lines = [line.split() for line in task.output().read_text().splitlines()]
    assert [line[:2] for line in lines] == [line.split() for line in task.trials.read_text().splitlines()]
    half = np.sqrt(0.5)
    expected = [0, -0.6, (-0.6 + 0.8) * half, 0, 1, half, 0, 0, 0]
    np.testing.assert_allclose([float(line[2]) for line in lines], expected, atol=1e-7)
    assert "9 trials scored with 'max'; 1 of 3 models and 1 of 3 test segments without a face" in caplog.text
    for logged in (
        "b-1: no reference face",
        "c-1: enrolment segment without",
        "c: model without",
        "t3: test segment",
    ):
        assert logged in caplog.text


def test_score_trials_without_fallback_scores_zero_for_missing_reference(task):
    task.score(enroll_parts="ref")
    scores = task.scores()
    assert scores["b", "t1"] == scores["b", "t2"] == 0 and scores["a", "t1"] == 1


def test_score_trials_written_digits_give_the_float32_back_and_runs_are_identical(task):
    rng = np.random.default_rng(0)
    enrolled = {f"m{i}": rng.standard_normal((2, 64)) for i in range(9)}
    tested = {f"v{i}": rng.standard_normal((3, 64)) for i in range(9)}
    write_embeddings(task.embed / "ref", enrolled)
    write_embeddings(task.embed / "tested", tested)
    (task.work / "enroll/spk2utt").write_text("".join(f"m{i} m{i}\n" for i in range(9)))
    pairs = [(m, v) for m in enrolled for v in tested]
    task.trials.write_text("".join(f"{m} {v} target\n" for m, v in pairs))
    task.score(enroll_parts="ref")
    first = task.output().read_bytes()
    for line in first.decode().splitlines():
        text = line.split()[2]
        assert str(np.float32(text)) == text
    task.trials.write_text("".join(f"{m} {v} target\n" for m, v in reversed(pairs)))
    task.score(enroll_parts="ref")
    assert task.output().read_bytes().splitlines() == first.splitlines()[::-1]


def test_score_command_line_exits_0_and_unknown_option_exits_2(task):
    def run(*options, **changes):
        environment = {"PYTHONPATH": str(ROOT)}
        command = [*task.command(**changes), *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = run(snorm_cohort="tested", ncoh=4)
    assert done.returncode == 1 and "ERROR" in done.stderr and not task.output("max_snorm").exists()
    asked = run(check="true")
    assert asked.returncode == 0, asked.stdout  # the plain scores are done
    task.output().unlink()
    asked = run(check="true")
    assert (
        asked.returncode == 3
        and asked.stdout == f"{task.output()}: expected the file as it was written, found no such file\n"
    )
    done = run()
    assert done.returncode == 0, done.stderr
    assert len(task.output().read_text().splitlines()) == 9
    done = run("--nope")
    assert done.returncode == 2 and "--backend" in done.stderr


@pytest.fixture
def people(task):
    """Four models of one or two segments against five videos of three persons each, and a cohort; no face missing."""
    rng = np.random.default_rng(7)
    persons = rng.standard_normal((6, 16))

    def faces(count):
        return (persons[rng.integers(0, 6, count)] + 0.3 * rng.standard_normal((count, 16))).astype(np.float32)

    enrolled = {f"m{i}-{k}": faces(4) for i in range(4) for k in range(1 + i % 2)}
    tested = {f"v{i}": faces(6) for i in range(5)}
    write_embeddings(task.embed / "ref", enrolled)
    write_embeddings(task.embed / "tested", tested)
    write_embeddings(task.embed / "cohort", {"c1": faces(25), "c2": NONE, "c3": faces(15)})
    for name, sets in (("ref", enrolled), ("tested", tested)):
        columns = {key: np.repeat(np.arange(len(m))[:, None] * 100.0, 17, axis=1) for key, m in sets.items()}
        write_embeddings(task.work / "items" / name, columns, "faces")
    models = [" ".join(key for key in enrolled if key.startswith(f"m{i}")) for i in range(4)]
    (task.work / "enroll/spk2utt").write_text("".join(f"m{i} {members}\n" for i, members in enumerate(models)))
    task.trials.write_text("".join(f"m{m} v{v}\n" for m in range(4) for v in range(5)))
    task.given |= {"enroll_parts": "ref", "items_dir": task.work / "items"}
    segments = [[enrolled[key] for key in members.split()] for members in models]
    cohort = np.concatenate([faces_of for faces_of in matrices(task.embed / "cohort") if len(faces_of)])
    return task, segments, list(tested.values()), cohort


def matrices(folder):
    from vidperson.io.matrices import load_matrices

    return load_matrices(folder / "embed.scp").values()


TRIALS = [(m, v) for m in range(4) for v in range(5)]


@pytest.mark.parametrize("backend", [*naive_scoring.METHODS, "v5", "v7"])
def test_score_any_backend_with_a_cohort_and_without_equals_double_loop(people, backend, caplog):
    task, models, videos, cohort = people
    name = next(n for n, known in BACKENDS.items() if backend in (n, known.alias))
    task.score(backends=backend)
    expected = naive_scoring.score(name, models, videos, TRIALS)
    np.testing.assert_allclose(task.scores(backend).values, expected, atol=1e-6)
    caplog.set_level(logging.INFO)
    task.score(backends=backend, snorm_cohort="cohort", ncoh=20, ncoh_discard=3)
    expected = naive_scoring.score(name, models, videos, TRIALS, cohort, 20, 3)
    np.testing.assert_allclose(task.scores(f"{backend}_snorm").values, expected, rtol=1e-6, atol=1e-6)
    assert "normalised by 20 of the 40 faces" in caplog.text


def test_score_all_backends_in_one_call_reads_each_part_once_and_gives_the_bytes_of_single_calls(people, monkeypatch):
    import steps.score

    task, *_ = people
    backends = "max track ahc xatt"
    cohort = {"snorm_cohort": "cohort", "ncoh": 20}
    for backend in backends.split():
        task.score(backends=backend, scores_dir=task.work / "single", **cohort)
    read = []
    real = steps.score.checked_matrices

    def reader(folder, name, *columns):
        read.append((folder.name, name))
        return real(folder, name, *columns)

    monkeypatch.setattr(steps.score, "checked_matrices", reader)
    task.score(backends=backends, **cohort)
    assert sorted(part for part, name in read if name == "embed") == ["cohort", "ref", "tested"]
    for backend in backends.split():
        for system in (backend, f"{backend}_snorm"):
            single = task.work / "single/e" / system / "test_scores"
            assert task.output(system).read_bytes() == single.read_bytes(), system


def test_score_track_reads_faces_and_unlinked_ones_score_as_max(people):
    task, models, videos, _ = people
    task.score(backends="track")
    expected = naive_scoring.score("max", models, videos, TRIALS)
    np.testing.assert_allclose(task.scores("track").values, expected, atol=1e-6)


def test_score_other_thr_ahc_and_memory_reach_the_backend(people):
    task, models, videos, _ = people
    task.score(backends="ahc", thr_ahc=1.0)
    expected = naive_scoring.score("max", models, videos, TRIALS)
    np.testing.assert_allclose(task.scores("ahc").values, expected, atol=1e-6)
    shutil.rmtree(task.work / "out")
    refuse(task, "mem_gb 0.01 is too little", backends="ahc", mem_gb=0.01)


def refuse(task, match, error=ScoringError, **changes):
    with pytest.raises(error, match=match):
        task.score(**changes)
    assert not list(task.work.glob("out/*/*/*"))


def test_score_unknown_backend_names_the_valid_ones(task):
    refuse(task, r"'mix'; valid: max \(v1\) .* track", backends="mix")
    refuse(task, "backends: expected a back-end or several, such as max, found none", backends=" ")


def test_score_unknown_modality_names_the_valid_ones(task):
    refuse(task, "modality: expected one of face .*, found 'gait'", modality="gait")


def test_score_cohort_smaller_than_asked_names_both_numbers(task):
    write_embeddings(task.embed / "cohort", {"c1": np.ones((7, 2)), "c2": NONE})
    with pytest.raises(ScoringError, match="cohort/embed.scp: the cohort has 7 items, 1000 are asked for"):
        task.score(snorm_cohort="cohort")
    assert not task.output("max_snorm").exists()


def test_score_cohort_of_another_network_or_not_there_raises(task):
    write_embeddings(task.embed / "cohort", {"c1": np.ones((7, 3))})
    with pytest.raises(ScoringError, match="cohort embeddings have 3 numbers, those to score 2"):
        task.score(snorm_cohort="cohort", ncoh=5)
    assert not task.output("max_snorm").exists()
    shutil.rmtree(task.work / "out")
    refuse(task, f"no embeddings in {task.embed}/no; run ./run_003_extract_embeddings.sh", snorm_cohort="no")


def test_score_threshold_that_is_no_number_raises(task):
    refuse(task, "thr_ahc: expected a cosine, -1..1, found nan", thr_ahc=float("nan"))


def test_score_track_without_faces_raises_naming_the_option_or_the_segment(task):
    refuse(task, "back-end 'track' needs --items-dir", backends="track")
    items = task.work / "items"
    refuse(task, "there is no .*ref/faces.scp; run stage 2", backends="track", items_dir=items)
    write_embeddings(items / "ref", {"a-2": np.zeros((3, 17)), "t1": np.zeros((2, 17))}, "faces")
    refuse(task, "there is no .*tested/faces.scp; run stage 2", backends="track", items_dir=items)
    write_embeddings(items / "tested", {"t1": np.zeros((2, 17))}, "faces")
    refuse(task, "'a-2': 2 embeddings, 3 items of 17 numbers", backends="track", items_dir=items)
    write_embeddings(items / "ref", {"a-2": np.zeros((2, 5))}, "faces")
    refuse(task, "'a-2': 2 embeddings, 2 items of 5 numbers", backends="track", items_dir=items)


def test_score_models_not_in_spk2utt_raises_with_first_and_count(task):
    task.trials.write_text("".join(f"x{i} t1\n" for i in range(5)) + "a t1\n")
    refuse(task, "trials:1: 5 of 6 models .*: x0, x1, x2, ...;")


def test_score_enrolment_segment_without_embeddings_raises(task):
    task.trials.write_text("d t1\n")
    refuse(task, "1 of 1 enrolment segments of .*enroll/spk2utt are not in .*ref/embed.scp: d-1;")


def test_score_test_segment_without_embeddings_raises(task):
    task.trials.write_text("a t1\n\na t9\n")
    refuse(task, "trials:3: 1 of 2 test segments .*: t9;")


def test_score_fallback_lacks_a_needed_segment_raises(task):
    write_embeddings(task.embed / "facedet", {"a-1": [[1, 1]], "c-1": NONE})
    refuse(task, "1 of 2 segments without reference faces .*: b-1;")


def test_score_different_embedding_sizes_raises_naming_the_archives(task):
    write_embeddings(task.embed / "tested", {key: np.ones((1, 3)) for key in ("t1", "t2", "t3")})
    refuse(task, "ref/embed.scp and .*tested/embed.scp: enrolment embeddings have 2 numbers, test embeddings 3")
    write_embeddings(task.embed / "tested", {"t1": [[1, 1]], "t2": [[1, 1, 1]], "t3": NONE})
    refuse(task, "tested/embed.scp: 't1': embeddings have 2 numbers, those before it 3")
    write_embeddings(task.embed / "facedet", {"b-1": [[1, 1, 1]], "c-1": NONE})
    refuse(task, "ref/embed.scp and .*facedet/embed.scp: 'b-1': embeddings have 3 numbers, those before it 2")


def test_score_nan_embedding_raises_naming_the_segment(task):
    write_embeddings(task.embed / "tested", {"t1": [[1, 1]], "t2": [[1, np.nan]], "t3": NONE})
    refuse(task, "tested/embed.scp: 't2': NaN")


def test_score_missing_input_raises_naming_the_file_and_the_stage(task):
    (task.embed / "tested/embed.scp").unlink()
    refuse(task, "no embeddings in .*embed/e/tested; run ./run_003_extract_embeddings.sh")
    (task.work / "enroll/spk2utt").unlink()
    refuse(task, "there is no .*enroll/spk2utt; run ./run_001_prepare_data.sh, or write it")
    task.trials.unlink()
    (task.work / "enroll/spk2utt").write_text("a a-1\n")
    refuse(task, "there is no .*test/trials; run ./run_001_prepare_data.sh, or write it, or correct trial_sets")


@pytest.mark.parametrize(
    ("text", "match"),
    [("a t1\r\n", r"trials:1: Windows line end"), ("a t1\na\n", r"trials:2: expected"), ("", "no trials")],
)
def test_score_malformed_trials_raise_naming_file_and_line(task, text, match):
    task.trials.write_text(text)
    refuse(task, match, DataError)


def flip_signs(folder):
    content = bytearray((folder / "embed.ark").read_bytes())
    content[-1] ^= 0x80
    (folder / "embed.ark").write_bytes(content)


def swap_lines(folder):
    first, second, *others = (folder / "embed.scp").read_text().splitlines()
    (a, place_a), (b, place_b) = first.split(), second.split()
    (folder / "embed.scp").write_text("\n".join([f"{a} {place_b}", f"{b} {place_a}", *others]) + "\n")


@pytest.mark.parametrize("part", ["ref", "facedet", "tested", "cohort"])
@pytest.mark.parametrize(("change", "name"), [(flip_signs, "embed.ark"), (swap_lines, "embed.scp")])
def test_score_edited_embeddings_are_refused_by_name_even_where_all_scores_are_there(task, part, change, name):
    write_embeddings(task.embed / "cohort", {"c1": np.eye(2), "c2": np.eye(2)})
    for folder in task.embed.iterdir():
        task.note(folder)
    task.score(snorm_cohort="cohort", ncoh=2)
    change(task.embed / part)
    for asked in (False, True):
        with pytest.raises(DataError, match=f"embed/e/{part}: expected {name} as it was written, found other bytes"):
            task.score(snorm_cohort="cohort", ncoh=2, check=asked)


@pytest.mark.parametrize(("change", "name"), [(flip_signs, "embed.ark"), (swap_lines, "embed.scp")])
def test_score_edited_embeddings_with_the_times_of_before_are_refused_when_they_are_read(task, change, name):
    for folder in task.embed.iterdir():
        task.note(folder)
    path = task.embed / "tested" / name
    times = path.stat()
    change(path.parent)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    refuse(task, f"tested/{name}: expected SHA-256 [0-9a-f]+, found [0-9a-f]+; put it back, or run", DataError)


def test_score_embeddings_of_other_items_than_those_that_are_there_are_refused(task):
    items = task.work / "items/tested"
    write_embeddings(items, {"t1": np.zeros((2, 17))}, "faces")
    write_record(items, ["stage 2"], [], [items / "faces.ark"])
    task.note(task.embed / "tested", [items / "faces.ark"])
    task.score(items_dir=items.parent)
    write_record(items, ["stage 2", "--max-pixels", "7"], [], [items / "faces.ark"])
    task.score(items_dir=items.parent)  # the same items, made in another way
    (items / "journal.jsonl").write_text("the same items of files with other times\n")
    write_record(items, ["stage 2"], [], [items / "faces.ark", items / "journal.jsonl"])
    task.score(items_dir=items.parent)
    write_embeddings(items, {"t1": np.ones((2, 17))}, "faces")
    write_record(items, ["stage 2"], [], [items / "faces.ark"])
    match = f"{task.embed}/tested: expected embeddings of the items in {items}, found .*; run ./run_003"
    with pytest.raises(ScoringError, match=match):
        task.score(items_dir=items.parent)
    shutil.rmtree(items)
    task.score(items_dir=items.parent)  # items that are not there are none of its business


def made(task, **changes) -> list[str]:
    """The systems whose scores a call writes."""
    before = {path: path.stat().st_mtime_ns for path in task.work.glob("out/e/*/*_scores")}
    task.score(**changes)
    after = {path: path.stat().st_mtime_ns for path in task.work.glob("out/e/*/*_scores")}
    return sorted(path.parent.name for path in after if after[path] != before.get(path))


def test_score_makes_only_what_an_option_or_an_input_changes(people):
    task, *_ = people
    for folder in task.embed.iterdir():
        task.note(folder)
    given = {"backends": "max ahc track", "snorm_cohort": "cohort", "ncoh": 20}
    every = ["ahc", "ahc_snorm", "max", "max_snorm", "track", "track_snorm"]
    assert made(task, **given) == every
    assert made(task, **given) == []
    assert made(task, **given, mem_gb=7.0) == []
    assert made(task, **given, max_systems=1, primary_cost="sre21") == []
    assert made(task, **given | {"thr_ahc": 0.7}) == ["ahc", "ahc_snorm"]
    given["thr_ahc"] = 0.7
    assert made(task, **given | {"ncoh": 10}) == ["ahc_snorm", "max_snorm", "track_snorm"]
    given["ncoh"] = 10
    write_embeddings(task.embed / "cohort", {"c1": np.ones((30, 16)) + np.eye(30, 16)})
    task.note(task.embed / "cohort")
    assert made(task, **given) == ["ahc_snorm", "max_snorm", "track_snorm"]
    faces = dict(zip(("v0", "v1", "v2", "v3", "v4"), [np.ones((6, 17))] * 5, strict=True))
    write_embeddings(task.work / "items/tested", faces, "faces")
    assert made(task, **given) == ["track", "track_snorm"]
    task.trials.write_text("".join(reversed(task.trials.read_text().splitlines(keepends=True))))
    assert made(task, **given) == every
    assert made(task, **given, force=True) == every


def cut(path):
    path.write_text(path.read_text().split("\n")[0] + "\n")


def edit(path):
    path.write_text(path.read_text().replace(" -0.", " 0."))


@pytest.mark.parametrize("change", [cut, edit, Path.unlink])
def test_score_edited_cut_or_missing_scores_are_made_again_and_it_says_so(task, change, caplog):
    task.score(backends="max mean")
    before, other = task.output().read_bytes(), task.output("mean").stat().st_mtime_ns
    change(task.output())
    caplog.set_level(logging.INFO)
    task.score(backends="max mean")
    assert task.output().read_bytes() == before and task.output("mean").stat().st_mtime_ns == other
    found = "no such file" if change is Path.unlink else "other bytes"
    assert f"{task.output()}: expected the file as it was written, found {found}" in caplog.text
    assert f"{task.output('mean')}: done already" in caplog.text


def test_score_without_its_record_is_made_again(task):
    task.score()
    record_path(task.output()).unlink()
    with pytest.raises(SystemExit, match="3"):
        task.score(check=True)
    task.score()
    assert read_record(task.output()) is not None


def test_score_check_writes_nothing_says_what_differs_and_tells_by_the_exit_status(task, capsys):
    with pytest.raises(SystemExit, match="3"):
        task.score(backends="max ahc", check=True)
    assert capsys.readouterr().out == f"to make: {task.output()} and 2 more\n"
    assert not (task.work / "out").exists()
    task.score(backends="max ahc")
    with pytest.raises(SystemExit, match="0"):
        task.score(backends="max ahc", check=True)
    assert capsys.readouterr().out == "3 files are kept; --force true makes them again\n"
    before = task.output("ahc").read_bytes()
    with pytest.raises(SystemExit, match="3"):
        task.score(backends="max ahc", thr_ahc=0.7, check=True)
    head = f"{task.output('ahc')}: made again, since its command or inputs have changed (< then, > now):"
    assert capsys.readouterr().out == f"{head}\n< --thr-ahc 0.8\n> --thr-ahc 0.7\n"
    assert task.output("ahc").read_bytes() == before


VALID = {"embedders": "e", "test_sets": "test dev", "experiment": "x"}


@pytest.mark.parametrize(("options", "match"), [
    ({"thr_ahc": 5.0}, "thr_ahc: expected a cosine, -1..1, found 5"),
    ({"primary_cost": "sre99"}, "no primary cost 'sre99'; valid: sre19 sre21"),
    ({"backends": "max maxx"}, "no back-end 'maxx'; valid: max "),
    ({"calibration_set": "nowhere"}, r"calibration_set: expected one of the test sets \(test dev\), found 'nowhere'"),
    ({"fusion_systems": "max"}, "fusion_systems needs calibration_set"),
    ({"calibration_set": "dev", "fusion_systems": "max maxx"},
     "out/e/maxx/test_scores; run ./run_004_score.sh with that system, or correct its name"),
    ({"calibration_set": "dev", "fusion_systems": "max e/max"}, "expected each system once, found .*/out/e/max twice"),
    ({"embedders": "e e"}, "expected embedders with different names, none of them fusion, found e e"),
    ({"embedders": "fusion"}, "expected embedders with different names, none of them fusion, found fusion"),
])  # fmt: skip
def test_score_options_of_systems_that_cannot_be_are_refused_before_anything_is_scored(task, options, match):
    refuse(task, match, **VALID | options)
