"""steps/score.py on tiny archives, from the command line and as a function."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import naive_scoring
import numpy as np
import pytest

from steps.score import score_trials
from vidperson.backends import BACKENDS
from vidperson.errors import DataError, ScoringError
from vidperson.io.lists import read_scores
from vidperson.io.matrices import matrix_bytes

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
    write_embeddings(tmp_path / "ref", {"a-1": [[1, 0]], "a-2": [[0, 5], [0, 1]], "b-1": NONE, "c-1": NONE})
    write_embeddings(tmp_path / "facedet", {"a-1": [[9, 9]], "a-2": NONE, "b-1": [[4, 0], [0, -4]], "c-1": NONE})
    write_embeddings(tmp_path / "test", {"t1": [[2, 0], [-1, 0]], "t2": [[-3, -4]], "t3": NONE, "unused": [[7, 7, 7]]})
    (tmp_path / "enroll").mkdir()
    (tmp_path / "enroll/spk2utt").write_text("a a-1 a-2\nb b-1\nc c-1\nd d-1\n")
    lines = [f"{model} {segment}" for segment in ("t2", "t1", "t3") for model in "cab"]
    (tmp_path / "trials").write_text("\n".join(lines) + "\n")
    return {
        "enroll_embed": tmp_path / "ref",
        "fallback_embed": tmp_path / "facedet",
        "enroll_data": tmp_path / "enroll",
        "test_embed": tmp_path / "test",
        "trials": tmp_path / "trials",
        "backend": "max",
        "output": tmp_path / "out/test_scores",
    }


def test_score_trials_with_fallback_writes_all_trials_in_order(task, caplog):
    caplog.set_level(logging.INFO)
    score_trials(**task)
    lines = [line.split() for line in task["output"].read_text().splitlines()]
    assert [line[:2] for line in lines] == [line.split() for line in task["trials"].read_text().splitlines()]
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
    score_trials(**{**task, "fallback_embed": None})
    scores = read_scores(task["output"])
    assert scores["b", "t1"] == scores["b", "t2"] == 0 and scores["a", "t1"] == 1


def test_score_trials_written_digits_give_the_float32_back_and_runs_are_identical(task, tmp_path):
    rng = np.random.default_rng(0)
    enrolled = {f"m{i}": rng.standard_normal((2, 64)) for i in range(9)}
    tested = {f"v{i}": rng.standard_normal((3, 64)) for i in range(9)}
    write_embeddings(tmp_path / "ref", enrolled)
    write_embeddings(tmp_path / "test", tested)
    (tmp_path / "enroll/spk2utt").write_text("".join(f"m{i} m{i}\n" for i in range(9)))
    pairs = [(m, v) for m in enrolled for v in tested]
    (tmp_path / "trials").write_text("".join(f"{m} {v} target\n" for m, v in pairs))
    task["fallback_embed"] = None
    score_trials(**task)
    first = task["output"].read_bytes()
    for line in first.decode().splitlines():
        text = line.split()[2]
        assert str(np.float32(text)) == text
    (tmp_path / "trials").write_text("".join(f"{m} {v} target\n" for m, v in reversed(pairs)))
    score_trials(**task)
    assert task["output"].read_bytes().splitlines() == first.splitlines()[::-1]


def test_score_trials_command_line_exits_0_and_unknown_option_exits_2(task):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in task.items()]
    command = [sys.executable, ROOT / "steps/score.py", *arguments]
    cohort = [f"--cohort-embed={task['test_embed']}", "--ncoh", "4"]
    run = subprocess.run([*command, *cohort], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 1 and "ERROR" in run.stderr and not task["output"].exists()
    run = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert len(task["output"].read_text().splitlines()) == 9
    run = subprocess.run([*command, "--nope"], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 2 and "--backend" in run.stderr


@pytest.fixture
def people(tmp_path, task):
    """Four models of one or two segments against five videos of three persons each, and a cohort; no face missing."""
    rng = np.random.default_rng(7)
    persons = rng.standard_normal((6, 16))

    def faces(count):
        return (persons[rng.integers(0, 6, count)] + 0.3 * rng.standard_normal((count, 16))).astype(np.float32)

    enrolled = {f"m{i}-{k}": faces(4) for i in range(4) for k in range(1 + i % 2)}
    tested = {f"v{i}": faces(6) for i in range(5)}
    write_embeddings(tmp_path / "ref", enrolled)
    write_embeddings(tmp_path / "test", tested)
    write_embeddings(tmp_path / "cohort", {"c1": faces(25), "c2": NONE, "c3": faces(15)})
    for name, sets in (("ref", enrolled), ("test", tested)):
        columns = {key: np.repeat(np.arange(len(m))[:, None] * 100.0, 17, axis=1) for key, m in sets.items()}
        write_embeddings(tmp_path / f"faces_{name}", columns, "faces")
    models = [" ".join(key for key in enrolled if key.startswith(f"m{i}")) for i in range(4)]
    (tmp_path / "enroll/spk2utt").write_text("".join(f"m{i} {members}\n" for i, members in enumerate(models)))
    (tmp_path / "trials").write_text("".join(f"m{m} v{v}\n" for m in range(4) for v in range(5)))
    task = {
        **task,
        "fallback_embed": None,
        "enroll_faces": tmp_path / "faces_ref",
        "test_faces": tmp_path / "faces_test",
    }
    segments = [[enrolled[key] for key in members.split()] for members in models]
    cohort = np.concatenate([faces_of for faces_of in matrices(tmp_path / "cohort") if len(faces_of)])
    return task, segments, list(tested.values()), cohort


def matrices(folder):
    from vidperson.io.matrices import load_matrices

    return load_matrices(folder / "embed.scp").values()


@pytest.mark.parametrize("backend", [*naive_scoring.METHODS, "v5", "v7"])
def test_score_trials_any_backend_with_a_cohort_and_without_equals_double_loop(people, backend, tmp_path, caplog):
    task, models, videos, cohort = people
    name = next(n for n, known in BACKENDS.items() if backend in (n, known.alias))
    trials = [(m, v) for m in range(4) for v in range(5)]
    score_trials(**{**task, "backend": backend})
    expected = naive_scoring.score(name, models, videos, trials)
    np.testing.assert_allclose(read_scores(task["output"]).values, expected, atol=1e-6)
    caplog.set_level(logging.INFO)
    score_trials(**{**task, "backend": backend, "cohort_embed": tmp_path / "cohort", "ncoh": 20, "ncoh_discard": 3})
    expected = naive_scoring.score(name, models, videos, trials, cohort, 20, 3)
    np.testing.assert_allclose(read_scores(task["output"]).values, expected, rtol=1e-6, atol=1e-6)
    assert "normalised by 20 of the 40 faces" in caplog.text


def test_score_trials_track_reads_faces_and_unlinked_ones_score_as_max(people):
    task, models, videos, _ = people
    score_trials(**{**task, "backend": "track"})
    expected = naive_scoring.score("max", models, videos, [(m, v) for m in range(4) for v in range(5)])
    np.testing.assert_allclose(read_scores(task["output"]).values, expected, atol=1e-6)


def test_score_trials_other_thr_ahc_and_memory_reach_the_backend(people):
    task, models, videos, _ = people
    score_trials(**{**task, "backend": "ahc", "thr_ahc": 1.0})
    trials = [(m, v) for m in range(4) for v in range(5)]
    expected = naive_scoring.score("max", models, videos, trials)
    np.testing.assert_allclose(read_scores(task["output"]).values, expected, atol=1e-6)
    task["output"].unlink()
    refuse({**task, "mem_gb": 0.01}, "mem_gb 0.01 is too little")


def refuse(task, match, error=ScoringError):
    with pytest.raises(error, match=match):
        score_trials(**task)
    assert not task["output"].exists() and not list(task["output"].parent.glob("*"))


def test_score_trials_unknown_backend_names_the_valid_ones(task):
    refuse({**task, "backend": "mix"}, r"'mix'; valid: max \(v1\) .* track")


def test_score_trials_cohort_smaller_than_asked_names_both_numbers(task, tmp_path):
    write_embeddings(tmp_path / "cohort", {"c1": np.ones((7, 2)), "c2": NONE})
    refuse(
        {**task, "cohort_embed": tmp_path / "cohort"}, "cohort/embed.scp: the cohort has 7 faces, 1000 are asked for"
    )


def test_score_trials_cohort_of_another_network_or_not_there_raises(task, tmp_path):
    write_embeddings(tmp_path / "cohort", {"c1": np.ones((7, 3))})
    refuse(
        {**task, "cohort_embed": tmp_path / "cohort", "ncoh": 5}, "cohort embeddings have 3 numbers, those to score 2"
    )
    refuse({**task, "cohort_embed": tmp_path / "no"}, "no/embed.scp: no such file", DataError)


def test_score_trials_threshold_that_is_no_number_raises(task):
    refuse({**task, "backend": "ahc", "thr_ahc": float("nan")}, "thr_ahc: expected a cosine, -1..1, found nan")


def test_score_trials_track_without_faces_raises_naming_the_option_or_the_segment(task, tmp_path):
    refuse({**task, "backend": "track"}, "needs --enroll-faces")
    faces = {"enroll_faces": tmp_path / "faces", "test_faces": tmp_path / "faces"}
    refuse({**task, "backend": "track", **faces}, "faces.scp: no such file", DataError)
    write_embeddings(tmp_path / "faces", {"a-2": np.zeros((3, 17)), "t1": np.zeros((2, 17))}, "faces")
    refuse({**task, "backend": "track", **faces, "test_faces": None}, "needs --test-faces")
    refuse({**task, "backend": "track", **faces}, "'a-2': 2 embeddings, 3 faces")


def test_score_trials_models_not_in_spk2utt_raises_with_first_and_count(task):
    task["trials"].write_text("".join(f"x{i} t1\n" for i in range(5)) + "a t1\n")
    refuse(task, "trials:1: 5 of 6 models .*: x0, x1, x2, ...;")


def test_score_trials_enrolment_segment_without_embeddings_raises(task):
    task["trials"].write_text("d t1\n")
    refuse(task, "1 of 1 enrolment segments of .*enroll/spk2utt are not in .*ref/embed.scp: d-1;")


def test_score_trials_test_segment_without_embeddings_raises(task):
    task["trials"].write_text("a t1\n\na t9\n")
    refuse(task, "trials:3: 1 of 2 test segments .*: t9;")


def test_score_trials_fallback_lacks_a_needed_segment_raises(task):
    write_embeddings(task["fallback_embed"], {"a-1": [[1, 1]], "c-1": NONE})
    refuse(task, "1 of 2 segments without reference faces .*: b-1;")


def test_score_trials_different_embedding_sizes_raises_naming_the_archives(task):
    write_embeddings(task["test_embed"], {key: np.ones((1, 3)) for key in ("t1", "t2", "t3")})
    refuse(task, "ref/embed.scp and .*test/embed.scp: enrolment embeddings have 2 numbers, test embeddings 3")
    write_embeddings(task["test_embed"], {"t1": [[1, 1]], "t2": [[1, 1, 1]], "t3": NONE})
    refuse(task, "test/embed.scp: 't1': embeddings have 2 numbers, those before it 3")
    write_embeddings(task["fallback_embed"], {"b-1": [[1, 1, 1]], "c-1": NONE})
    refuse(task, "ref/embed.scp and .*facedet/embed.scp: 'b-1': embeddings have 3 numbers, those before it 2")


def test_score_trials_nan_embedding_raises_naming_the_segment(task):
    write_embeddings(task["test_embed"], {"t1": [[1, 1]], "t2": [[1, np.nan]], "t3": NONE})
    refuse(task, "test/embed.scp: 't2': NaN")


def test_score_trials_missing_input_raises_naming_the_file(task):
    (task["test_embed"] / "embed.scp").unlink()
    refuse(task, "test/embed.scp: no such file", DataError)


@pytest.mark.parametrize(
    ("text", "match"),
    [("a t1\r\n", r"trials:1: Windows line end"), ("a t1\na\n", r"trials:2: expected"), ("", "no trials")],
)
def test_score_trials_malformed_trials_raise_naming_file_and_line(task, text, match):
    task["trials"].write_text(text)
    refuse(task, match, DataError)
