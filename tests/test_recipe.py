"""The numbered stages on the demo, as a user runs them."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import naive_metrics
import naive_scoring
import numpy as np
import pytest
from numpy.typing import NDArray
from recipe import Recipe, outputs

from vidperson.io.crops import TAR_END
from vidperson.io.lines import read_scp, read_spk2utt
from vidperson.io.lists import read_trials
from vidperson.io.matrices import load_matrices
from vidperson.io.record import write_record


def test_demo_scores_every_target_trial_above_every_nontarget_trial(demo: Recipe) -> None:
    for name in ("demo_dev_test", "demo_eval_test"):
        scores, trials = demo.scores(name), read_trials(demo.work / "data" / name / "trials")
        assert trials.is_target is not None and len(scores) == len(trials) == 16
        values = [scores[pair] for pair in zip(trials.models, trials.segments, strict=True)]
        targets = [value for value, target in zip(values, trials.is_target, strict=True) if target]
        others = [value for value, target in zip(values, trials.is_target, strict=True) if not target]
        assert len(targets) == 8 and min(targets) > max(others) + 0.2


PARTS = ("dev", "eval")
Array = NDArray[Any]


def naive_scores(demo: Recipe, part: str, backend: str, *normaliser: Any) -> Array:
    """(N, 1) scores of a part's trials by double loops; normaliser: nothing, or cohort, ncoh."""

    def embeddings(name: str) -> dict[str, Array]:
        found = load_matrices(demo.embeddings(name) / "embed.scp")
        if backend != "track":
            return found
        faces = load_matrices(demo.faces(name) / "faces.scp")
        return {key: naive_scoring.track_means(rows, faces[key]) if len(rows) else rows for key, rows in found.items()}

    reference, tested = embeddings(f"demo_{part}_enroll_ref"), embeddings(f"demo_{part}_test")
    spk2utt = read_spk2utt(demo.work / "data" / f"demo_{part}_enroll" / "spk2utt")
    models = [[reference[segment] for segment in segments] for segments in spk2utt.values()]
    assert all(len(rows) for segments in models for rows in segments)  # no reference is missing
    trials = read_trials(demo.work / "data" / f"demo_{part}_test" / "trials")
    places = zip(map(list(spk2utt).index, trials.models), map(list(tested).index, trials.segments), strict=True)
    scored = "max" if backend == "track" else backend
    scores = naive_scoring.score(scored, models, list(tested.values()), list(places), *normaliser)
    return scores.astype(np.float32).astype(np.float64)[:, None]  # as a score file holds them


def naive_systems(demo: Recipe, backends: Iterable[str], keys: dict[str, Array]) -> dict[tuple[str, str], Array]:
    """(N,) scores of the trials of each system and part; ``keys``: which of them are targets."""
    faces = [rows for rows in load_matrices(demo.embeddings("demo_dev_test") / "embed.scp").values() if len(rows)]
    plain = {}
    for backend in backends:
        plain[backend] = {part: naive_scores(demo, part, backend) for part in PARTS}
        plain[backend + "_snorm"] = {
            part: naive_scores(demo, part, backend, np.concatenate(faces), 30) for part in PARTS
        }
    systems = {(system, part): scores[part][:, 0].copy() for system, scores in plain.items() for part in PARTS}
    for part in PARTS:  # what has no face is missing, and the 0 says nothing
        tested = load_matrices(demo.embeddings(f"demo_{part}_test") / "embed.scp")
        segments = read_trials(demo.work / "data" / f"demo_{part}_test" / "trials").segments
        for scores in plain.values():
            scores[part][[not len(tested[segment]) for segment in segments]] = np.nan
    for system, scores in plain.items():
        calibrate = naive_scoring.calibration(scores["dev"], keys["dev"])
        systems |= {(f"{system}_cal", part): calibrate(scores[part]) for part in PARTS}

    def cost(targets: Array, nontargets: Array) -> float:
        return naive_metrics.act_dcf(targets, nontargets, 0.05)

    offered = {system: plain[system]["dev"][:, 0] for system in ("max", "ahc_snorm", "xatt")}
    chosen = naive_scoring.fusion(offered, keys["dev"], cost)
    columns = {part: np.hstack([plain[system][part] for system in chosen]) for part in PARTS}
    fuse = naive_scoring.calibration(columns["dev"], keys["dev"])
    return systems | {("fusion", part): fuse(columns[part]) for part in PARTS}


def test_demo_every_number_of_the_table_follows_from_embeddings_and_key_by_double_loops(demo: Recipe) -> None:
    """Scores, calibration, fusion and metrics are those of oracles; only files are read with the project's code."""
    results = demo.results
    rows = json.loads((results / "results.json").read_text())["results"]
    trials = {part: read_trials(demo.work / "data" / f"demo_{part}_test" / "trials") for part in PARTS}
    keys = {part: np.array(listed.is_target) for part, listed in trials.items()}
    backends = dict.fromkeys(row["backend"] for row in rows if row["backend"] != "fusion")
    scores = naive_systems(demo, backends, keys)
    for (system, part), values in scores.items():
        written = demo.scores(f"demo_{part}_test", system)
        assert list(written) == list(zip(trials[part].models, trials[part].segments, strict=True))
        np.testing.assert_allclose(
            list(written.values()), values, rtol=0, atol=1e-6 * np.abs(values).max(), err_msg=system
        )

    lines = [line.strip("| ").split(" | ") for line in (results / "results.md").read_text().splitlines()]
    printed = {
        tuple(line[:5]): line[5:]
        for line in lines
        if len(line) == 10 and line[0] in ("demo_dev_test", "demo_eval_test")
    }
    assert len(printed) == len(scores) and len(rows) == 4 * len(scores)  # four priors each
    for row in rows:
        part = row["set"].split("_")[1]
        system = row["backend"] + ("_snorm" if row["snorm_cohort"] else "")
        if row["calibrated_on"] and system != "fusion":
            system += "_cal"
        values = scores[system, part]
        parted = values[keys[part]].tolist(), values[~keys[part]].tolist()
        expected = {
            "num_trials": len(values),
            "num_targets": len(parted[0]),
            "num_nontargets": len(parted[1]),
            "eer": naive_metrics.eer(*parted),
            "min_cprimary": naive_metrics.min_dcf(*parted, 0.05),
            "act_cprimary": naive_metrics.act_dcf(*parted, 0.05),
            "min_cllr": naive_metrics.min_cllr(*parted),
            "cllr": naive_metrics.cllr(*parted),
            "min_dcf": naive_metrics.min_dcf(*parted, row["prior"]),
            "act_dcf": naive_metrics.act_dcf(*parted, row["prior"]),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-6), (system, part)
        trained_on = "no" if not row["calibrated_on"] else "on itself" if part == "dev" else "yes"
        cells = printed[row["set"], demo.embedder, row["backend"], "yes" if row["snorm_cohort"] else "no", trained_on]
        figures = [100 * row["eer"], row["min_cprimary"], row["act_cprimary"], row["min_cllr"], row["cllr"]]
        assert cells == [f"{figures[0]:.3f}", *(f"{figure:.4f}" for figure in figures[1:])]


def test_demo_result_tables_agree_with_each_other_and_the_report_is_one_file(demo: Recipe) -> None:
    results = demo.results
    rows = json.loads((results / "results.json").read_text())["results"]
    with open(results / "results.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    systems = 4 * 2 * 2 + 1  # back-ends, plain and normalised, raw and calibrated; and the fusion
    assert len(rows) == len(lines) == 2 * systems * 4
    assert {float(line["prior"]) for line in lines} == {0.05, 0.01, 0.005, 0.001}
    assert all(float(line["eer"]) == row["eer"] for line, row in zip(lines, rows, strict=True))
    assert all(row["eer"] == 0 for row in rows if row["backend"] == "max" and not row["snorm_cohort"])
    raw, calibrated = (
        [row for row in rows if row["backend"] == "max" and not row["snorm_cohort"] and row["calibrated_on"] == trained]
        for trained in (None, "demo_dev_test")
    )
    assert all(row["act_dcf"] == 1 for row in raw if row["prior"] == 0.05)
    assert all(row["act_dcf"] < 0.2 for row in calibrated if row["prior"] == 0.05)
    for name in ("results.txt", "results.md"):
        assert sum(line.count("demo_eval_test") for line in (results / name).read_text().splitlines()) > systems
    page = (results / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    # Six sheets, and two faces of each instructive trial, unless a video shows nobody; curves, and two plots a system.
    assert 6 + 2 * 6 * 2 < page.count("data:image/") <= 6 + 2 * 2 * 6 * 2
    assert page.count('<figure class="plot') == 2 * (1 + 2 * systems)


def test_demo_fusion_names_its_systems_and_gives_a_score_per_trial(demo: Recipe) -> None:
    fusion = json.loads((demo.systems("fusion") / "fusion.json").read_text())
    offered = {str(demo.systems(name)) for name in ("max", "ahc_snorm", "xatt")}
    assert set(fusion["systems"]) <= offered and fusion["trained_on"] == "demo_dev_test"
    for name in ("demo_dev_test", "demo_eval_test"):
        assert demo.scores(name, "fusion").keys() == demo.scores(name).keys()
    assert json.loads((demo.systems("max_snorm_cal") / "calibration.json").read_text())["weights"][0] > 0


@pytest.mark.parametrize("stage", ["002_detect_faces", "004_score"])
def test_test_set_behind_two_enrolment_sets_is_refused_and_the_same_pair_twice_is_not(
    repo: Path, tmp_path: Path, stage: str
) -> None:
    recipe = Recipe(repo, tmp_path, "folder")
    two = recipe.run(stage, "--trial-sets", "folder_enroll:folder_test enr2:folder_test", check=False)
    assert two.returncode == 1 and not list(tmp_path.iterdir())
    assert "folder_test has two enrolment sets, folder_enroll and enr2" in two.stderr
    legal = recipe.run(stage, "--trial-sets", "one:both one:both both:one two:three", check=False)
    assert legal.returncode == 1 and "run_001_prepare_data.sh" in legal.stderr
    assert "two enrolment sets" not in legal.stderr


def test_labelled_set_whose_conf_lacks_its_line_end_is_detected_with_that_conf(repo: Path, tmp_path: Path) -> None:
    recipe = Recipe(repo, tmp_path, "folder")
    (tmp_path / "data" / "a").mkdir(parents=True)
    for name, text in {
        "vid.scp": f"m-a {tmp_path}/a.mp4\n", "utt2spk": "m-a m\n", "spk2utt": "m m-a\n",
        "face_boundingbox": "m-a 1.5 10 10 50 50\n", "face_boundingbox_conf": "seconds 5",
    }.items():  # fmt: skip
        (tmp_path / "data" / "a" / name).write_text(text)
    (tmp_path / "a.mp4").touch()
    model = tmp_path / "exp" / "face_models" / recipe.detector
    model.mkdir(parents=True)
    files = [model / "network.onnx", model / f"{recipe.detector}.yaml"]
    for file in files:
        file.touch()
    write_record(model, [], [], files)
    recipe.run("002_detect_faces", "--trial-sets", "a:a", "--cmd", "false", check=False)
    words = " ".join(json.loads((recipe.faces("a_ref") / "unfinished.json").read_text())["command"])
    assert "--label-unit seconds --det-window 5 " in words


def test_demo_labelled_enrolment_keeps_only_the_labelled_person(demo: Recipe) -> None:
    """One model's enrolment video shows the other person too: facedet sees both, ref only the one in the box."""
    for part in ("dev", "eval"):
        reference = load_matrices(demo.embeddings(f"demo_{part}_enroll_ref") / "embed.scp")
        everyone = load_matrices(demo.embeddings(f"demo_{part}_enroll_facedet") / "embed.scp")
        crowded = 0
        for segment, embeddings in reference.items():
            unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
            assert len(unit) >= 10 and (unit @ unit.T).min() > 0.6
            others = everyone[segment] / np.linalg.norm(everyone[segment], axis=1, keepdims=True)
            crowded += bool((others @ unit.mean(axis=0)).min() < 0.4)
        assert crowded >= 1


def test_every_segment_has_exactly_one_status_and_every_face_a_crop_and_an_embedding(demo: Recipe) -> None:
    import tarfile

    for name in ("demo_dev_enroll_ref", "demo_dev_enroll_facedet", "demo_dev_test", "demo_eval_test"):
        data = demo.work / "data" / name.removesuffix("_ref").removesuffix("_facedet")
        segments = list(read_scp(data / "vid.scp"))
        folder = demo.faces(name)
        assert list(read_scp(folder / "status")) == segments == list(read_scp(folder / "faces.scp"))
        faces, quality = load_matrices(folder / "faces.scp", 17), load_matrices(folder / "quality.scp", 2)
        embeddings = load_matrices(demo.embeddings(name) / "embed.scp")
        with tarfile.open(folder / "crops.tar") as archive:
            members = [member.split("/")[0] for member in archive.getnames()]
        for segment in segments:
            assert len(faces[segment]) == len(quality[segment]) == len(embeddings[segment]) == members.count(segment)


def test_rerun_of_a_finished_stage_does_nothing_and_says_so(demo: Recipe) -> None:
    files = [demo.faces("demo_dev_test") / name for name in ("faces.ark", "contact_sheet.jpg")]
    before = [file.stat().st_mtime_ns for file in files]
    done = demo.run("002_detect_faces", "--nj", "1")
    assert done.stdout.count("done already: ") == 6
    assert [file.stat().st_mtime_ns for file in files] == before


def test_rerun_with_other_settings_is_refused_with_both_settings_and_the_choice(demo: Recipe) -> None:
    done = demo.run("002_detect_faces", "--fps", "2", check=False)
    assert done.returncode == 1
    assert "--fps 1" in done.stderr and "--fps 2" in done.stderr and "--force true" in done.stderr


def test_stage_without_its_input_names_the_stage_to_run_first(repo: Path, demo: Recipe, tmp_path: Path) -> None:
    empty = Recipe(repo, tmp_path, "demo")
    shutil.copytree(demo.work / "data", tmp_path / "data")
    assert "run_000_get_pretrained_models" in empty.run("002_detect_faces", check=False).stderr
    shutil.copytree(demo.work / "exp" / "face_models", tmp_path / "exp" / "face_models")
    assert "run_002_detect_faces" in empty.run("003_extract_embeddings", check=False).stderr
    assert "run_003_extract_embeddings" in empty.run("004_score", check=False).stderr
    assert "run_004_score" in empty.run("005_eval", check=False).stderr
    assert not (tmp_path / "exp" / "scores").exists()


def test_exp_that_was_moved_is_done_up_to_its_embeddings_and_gives_the_same_scores_and_pictures(
    repo: Path, demo: Recipe, tmp_path: Path
) -> None:
    moved = Recipe(repo, tmp_path, "demo")
    shutil.copytree(demo.work / "exp", tmp_path / "exp", ignore=shutil.ignore_patterns("scores", "results", "log"))
    for path in (tmp_path / "exp").rglob("*"):
        if path.is_file() and not path.name.endswith("record.json"):  # which tells of the past
            assert str(demo.work).encode() not in path.read_bytes(), path
    data = ("--data-dir", f"{demo.work}/data")
    for stage in ("002_detect_faces", "003_extract_embeddings"):
        said = moved.run(stage, *data).stdout
        assert said.count("done already") == 6, said
    fewer = ("--backends", "max", "--snorm-cohort=", "--calibration-set=", "--fusion-systems=")
    for stage in ("004_score", "005_eval"):
        moved.run(stage, *data, *fewer)
    for name in ("demo_dev_test", "demo_eval_test"):
        assert moved.scores(name) == demo.scores(name)
    (report,) = (tmp_path / "exp" / "results").rglob("report.html")
    assert report.read_text().count("data:image/") > 10


def test_set_that_another_run_is_at_work_on_is_refused_and_left_as_it_is(demo: Recipe) -> None:
    folder = demo.faces("demo_eval_test")
    before = outputs(folder)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = demo.run(
            "002_detect_faces", "--force", "true", "--trial-sets", "demo_eval_test:demo_eval_test", check=False
        )
    assert done.returncode == 1 and "is at work on it" in done.stderr
    assert outputs(folder) == before


def test_embeddings_of_faces_that_were_recomputed_are_recomputed_without_being_forced(
    repo: Path, demo: Recipe, tmp_path: Path
) -> None:
    again = Recipe(repo, tmp_path, "demo")
    shutil.copytree(demo.work / "data", tmp_path / "data")
    shutil.copytree(demo.work / "exp", tmp_path / "exp")
    sets = ["--trial-sets", "demo_dev_test:demo_dev_test"]
    again.run("002_detect_faces", *sets, "--force", "true", "--fps", "2")
    said = again.run("003_extract_embeddings", *sets).stdout
    assert " of 8 segments are new or changed; the others are kept" in said
    faces, embeddings = (load_matrices(path) for path in (
        again.faces("demo_dev_test") / "faces.scp", again.embeddings("demo_dev_test") / "embed.scp"
    ))  # fmt: skip
    assert {name: len(matrix) for name, matrix in faces.items()} == {n: len(m) for n, m in embeddings.items()}


@pytest.mark.parametrize("options,message", [
    (["--trial-sets", ""], "trial_sets is empty"),
    (["--trial-sets", "demo_dev_test"], "expected <enrolment set>:<test set>, found 'demo_dev_test'"),
    (["--trial-sets", "../x:demo_dev_test"], "expected <enrolment set>:<test set>, found '../x:demo_dev_test'"),
    (["--trial-sets", "demo_dev_test:.."], "found 'demo_dev_test:..'; names are letters"),
    (["--max-pixels", "0"], "command line: expected a whole number from 1 on for max_pixels, found '0'"),
    (["--nj", "0"], "command line: expected a whole number from 1 on for nj, found '0'"),
    (["--exp-dir", ""], "command line: expected a folder for exp_dir, found ''"),
    (["--device", "tpu"], "command line: expected one of cpu cuda cuda:N for device, found 'tpu'"),
    (["--fsp", "2"], "unknown option --fsp; valid:"),
    (["--config-file", "global_conf/none.sh"], "no config 'global_conf/none.sh'"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused_before_anything_is_touched(
    demo: Recipe, options: list[str], message: str
) -> None:
    before = outputs(demo.faces("demo_dev_test"))
    done = demo.run("002_detect_faces", "--force", "true", *options, check=False)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr
    assert outputs(demo.faces("demo_dev_test")) == before


EVAL_SETS = ["--trial-sets", "demo_eval_enroll:demo_eval_test"]


def demo_to_run_again(repo: Path, demo: Recipe, work: Path) -> Recipe:
    """The demo's data and networks in a folder of their own."""
    shutil.copytree(demo.work / "data", work / "data")
    shutil.copytree(demo.work / "exp" / "face_models", work / "exp" / "face_models")
    return Recipe(repo, work, "demo")


def assert_faces_and_embeddings_are_those_of_the_demo(again: Recipe, demo: Recipe) -> None:
    for name in ("demo_eval_enroll_ref", "demo_eval_enroll_facedet", "demo_eval_test"):
        found, expected = outputs(again.faces(name)), outputs(demo.faces(name))
        assert len(expected) == 7 and expected["crops.tar"].endswith(TAR_END)
        assert found == expected
        assert outputs(again.embeddings(name)) == outputs(demo.embeddings(name))


def test_outputs_are_the_same_bytes_for_five_jobs_as_for_two(repo: Path, demo: Recipe, tmp_path: Path) -> None:
    """For one job, too: see the stage that is killed below."""
    again = demo_to_run_again(repo, demo, tmp_path)
    again.run("002_detect_faces", *EVAL_SETS, "--nj", "5")
    again.run("003_extract_embeddings", *EVAL_SETS, "--nj", "5")
    assert_faces_and_embeddings_are_those_of_the_demo(again, demo)


def test_stage_of_one_job_killed_in_the_middle_and_rerun_gives_the_undisturbed_bytes_of_two_jobs(
    repo: Path, demo: Recipe, tmp_path: Path
) -> None:
    again = demo_to_run_again(repo, demo, tmp_path)
    journal = again.faces("demo_eval_test") / "jobs1" / "1" / "journal.jsonl"
    stage = subprocess.Popen(
        again.command("002_detect_faces", *EVAL_SETS, "--nj", "1"), cwd=repo, env=again.environment,
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(stage.pid, signal.SIGKILL)
    stage.wait()
    wait_until_gone(str(again.work))
    finished = journal.read_text().count("\n")
    assert 3 <= finished < 8
    done = again.run("002_detect_faces", *EVAL_SETS, "--nj", "3")
    assert "resumes with the 1 jobs that it was started with" in done.stdout
    log = (again.faces("demo_eval_test") / "log" / "1.log").read_text()
    assert f"progress {finished}/8 segments" in log  # nothing that was finished is done again
    again.run("003_extract_embeddings", *EVAL_SETS, "--nj", "1")
    assert_faces_and_embeddings_are_those_of_the_demo(again, demo)


def wait_until_gone(marker: str) -> None:
    """Wait for processes that still have ``marker`` on their command line, such as jobs whose launcher was killed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(marker.encode() in command for command in commands()):
            return
        time.sleep(0.05)
    raise AssertionError(f"a process of {marker} outlived its launcher")


def commands() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue
