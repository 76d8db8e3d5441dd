"""The numbered stages on real video, as a user runs them, each in folders of its own."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import naive_metrics
import naive_scoring
import numpy as np
import pytest
from numpy.typing import NDArray

from vidperson.io.crops import TAR_END
from vidperson.io.lists import read_scores, read_scp, read_spk2utt, read_trials
from vidperson.io.matrices import load_matrices

SHIPPED = ("retinaface_tiny", "arcface_tiny")
PUBLISHED = ("retinaface_mnet025_pytorch", "mobilefacenet_casia_pytorch")
STAGES = ("002_detect_faces", "003_extract_embeddings", "004_score", "005_eval")


@dataclass
class Recipe:
    """The stage scripts with data and results under ``work``."""

    root: Path
    work: Path
    config: str
    detector: str = SHIPPED[0]
    embedder: str = SHIPPED[1]

    def command(self, stage: str, *options: str) -> list[str]:
        return [
            f"./run_{stage}.sh", "--config-file", f"global_conf/config_{self.config}.sh",
            "--data-dir", f"{self.work}/data", "--exp-dir", f"{self.work}/exp",
            "--face-detector", self.detector, "--face-embedder", self.embedder, *options,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VIDPERSON_PYTHON": sys.executable}

    def run(self, stage: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(stage, *options),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check and done.returncode:
            raise AssertionError(
                f"run_{stage}.sh gave {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def faces(self, name: str) -> Path:
        return self.work / "exp" / "face_det" / self.detector / name

    def embeddings(self, name: str) -> Path:
        return self.work / "exp" / "face_embed" / self.embedder / name

    def scores(self, name: str, backend: str = "max") -> dict[tuple[str, str], float]:
        return read_scores(self.work / "exp" / "scores" / self.embedder / backend / f"{name}_scores").table


def published(repo: Path, models: Path, work: Path, config: str) -> Recipe:
    """A recipe with the published networks."""
    (work / "exp").mkdir(parents=True)
    shutil.copytree(models, work / "exp" / "face_models")
    return Recipe(repo, work, config, *PUBLISHED)


def outputs(folder: Path) -> dict[str, bytes]:
    """What a set's folder holds for the next stage, its own place written as OUT."""
    kept = (
        "faces.ark",
        "faces.scp",
        "quality.ark",
        "quality.scp",
        "crops.tar",
        "crops.scp",
        "embed.ark",
        "embed.scp",
        "status",
    )
    return {
        name: (folder / name).read_bytes().replace(str(folder).encode(), b"OUT")
        for name in kept
        if (folder / name).exists()
    }


@pytest.fixture(scope="module")
def demo(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The demo with the networks that the project ships, all stages done: nothing is downloaded."""
    recipe = Recipe(repo, tmp_path_factory.mktemp("demo"), "demo")
    for stage in ("000_get_pretrained_models", "001_prepare_data", *STAGES):
        recipe.run(stage, "--nj", "2")
    return recipe


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
    systems = {}
    for system, scores in plain.items():
        calibrate = naive_scoring.calibration(scores["dev"], keys["dev"])
        for part in PARTS:
            systems[system, part], systems[f"{system}_cal", part] = scores[part][:, 0], calibrate(scores[part])

    def cost(targets: Array, nontargets: Array) -> float:
        return naive_metrics.act_dcf(targets, nontargets, 0.05)

    offered = {system: plain[system]["dev"][:, 0] for system in ("max", "ahc_snorm", "xatt")}
    chosen = naive_scoring.fusion(offered, keys["dev"], cost)
    columns = {part: np.hstack([plain[system][part] for system in chosen]) for part in PARTS}
    fuse = naive_scoring.calibration(columns["dev"], keys["dev"])
    return systems | {("fusion", part): fuse(columns[part]) for part in PARTS}


def test_demo_every_number_of_the_table_follows_from_embeddings_and_key_by_double_loops(demo: Recipe) -> None:
    """Scores, calibration, fusion and metrics are those of oracles; only files are read with the project's code."""
    results = demo.work / "exp" / "results" / demo.embedder
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
    results = demo.work / "exp" / "results" / demo.embedder
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
    # Three plots of each set, six sheets, and two faces of each instructive trial, unless a video shows nobody.
    assert 2 * 3 + 6 + 2 * 6 * 2 < page.count("data:image/") <= 2 * 3 + 6 + 2 * 2 * 6 * 2


def test_demo_fusion_names_its_systems_and_gives_a_score_per_trial(demo: Recipe) -> None:
    folder = demo.work / "exp" / "scores" / demo.embedder
    fusion = json.loads((folder / "fusion" / "fusion.json").read_text())
    offered = {str(folder / name) for name in ("max", "ahc_snorm", "xatt")}
    assert set(fusion["systems"]) <= offered and fusion["trained_on"] == "demo_dev_test"
    for name in ("demo_dev_test", "demo_eval_test"):
        assert demo.scores(name, "fusion").keys() == demo.scores(name).keys()
    assert json.loads((folder / "max_snorm_cal" / "calibration.json").read_text())["weights"][0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--calibration-set", "nowhere"), "expected one of the test sets (demo_dev_test demo_eval_test)"),
        (("--calibration-set", ""), "fusion_systems needs calibration_set"),
    ],
)
@pytest.mark.parametrize("stage", ["004_score", "005_eval"])
def test_calibration_set_that_is_none_is_refused_before_anything_is_done(
    repo: Path, tmp_path: Path, stage: str, options: tuple[str, str], message: str
) -> None:
    done = Recipe(repo, tmp_path, "demo").run(stage, *options, check=False)
    assert done.returncode == 1 and message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["002_detect_faces", "004_score"])
def test_test_set_behind_two_enrolment_sets_is_refused_and_the_same_pair_twice_is_not(
    repo: Path, tmp_path: Path, stage: str
) -> None:
    recipe = Recipe(repo, tmp_path, "folder")
    two = recipe.run(stage, "--trial-sets", "folder_enroll:folder_test enr2:folder_test", check=False)
    assert two.returncode == 1 and not list(tmp_path.iterdir())
    assert "folder_test stands behind two enrolment sets, folder_enroll and enr2" in two.stderr
    legal = recipe.run(stage, "--trial-sets", "one:both one:both both:one two:three", check=False)
    assert legal.returncode == 1 and "; run " in legal.stderr and "stands behind" not in legal.stderr


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
    (model / "installed.json").touch()
    recipe.run("002_detect_faces", "--trial-sets", "a:a", "--cmd", "false", check=False)
    assert "--label-unit seconds --det-window 5 " in (recipe.faces("a_ref") / "settings").read_text()


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


def test_stage_4_with_a_cohort_that_was_not_embedded_is_refused_before_anything_is_scored(
    repo: Path, demo: Recipe, tmp_path: Path
) -> None:
    again = Recipe(repo, tmp_path, "demo")
    shutil.copytree(demo.work / "data", tmp_path / "data")
    shutil.copytree(demo.work / "exp" / "face_embed", tmp_path / "exp" / "face_embed")
    done = again.run("004_score", "--snorm-cohort", "nowhere", check=False)
    assert done.returncode == 1 and f"no embeddings in {again.embeddings('nowhere')}; run run_003" in done.stderr
    assert not (tmp_path / "exp" / "scores").exists()


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


def test_embeddings_of_faces_that_were_made_anew_are_refused_until_forced(
    repo: Path, demo: Recipe, tmp_path: Path
) -> None:
    again = Recipe(repo, tmp_path, "demo")
    shutil.copytree(demo.work / "data", tmp_path / "data")
    shutil.copytree(demo.work / "exp", tmp_path / "exp")
    sets = ["--trial-sets", "demo_dev_test:demo_dev_test"]
    again.run("002_detect_faces", *sets, "--force", "true", "--fps", "2")
    refused = again.run("003_extract_embeddings", *sets, check=False)
    assert refused.returncode == 1 and "other settings or inputs" in refused.stderr and "--force true" in refused.stderr
    again.run("003_extract_embeddings", *sets, "--force", "true")
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


@pytest.mark.parametrize("nj", ["1", "5"])
def test_outputs_are_the_same_bytes_for_any_number_of_jobs(repo: Path, demo: Recipe, tmp_path: Path, nj: str) -> None:
    again = Recipe(repo, tmp_path, "demo")
    shutil.copytree(demo.work / "data", tmp_path / "data")
    shutil.copytree(demo.work / "exp" / "face_models", tmp_path / "exp" / "face_models")
    sets = ["--trial-sets", "demo_eval_enroll:demo_eval_test", "--nj", nj]
    again.run("002_detect_faces", *sets)
    again.run("003_extract_embeddings", *sets)
    for name in ("demo_eval_enroll_ref", "demo_eval_enroll_facedet", "demo_eval_test"):
        found, expected = outputs(again.faces(name)), outputs(demo.faces(name))
        assert len(expected) == 7 and expected["crops.tar"].endswith(TAR_END)
        assert found == expected
        assert outputs(again.embeddings(name)) == outputs(demo.embeddings(name))


def test_stage_killed_in_the_middle_and_rerun_gives_the_undisturbed_bytes(
    repo: Path, demo: Recipe, tmp_path: Path
) -> None:
    again = Recipe(repo, tmp_path, "demo")
    shutil.copytree(demo.work / "data", tmp_path / "data")
    shutil.copytree(demo.work / "exp" / "face_models", tmp_path / "exp" / "face_models")
    sets = ["--trial-sets", "demo_eval_enroll:demo_eval_test", "--nj", "1"]
    journal = again.faces("demo_eval_test") / "jobs1" / "1" / "journal.jsonl"
    stage = subprocess.Popen(
        again.command("002_detect_faces", *sets), cwd=repo, env=again.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(stage.pid, signal.SIGKILL)
    stage.wait()
    wait_until_gone(str(again.work))
    finished = journal.read_text().count("\n")
    assert 3 <= finished < 8
    done = again.run("002_detect_faces", *sets[:-1], "3")
    assert "goes on with the 1 jobs that it was started with" in done.stdout
    log = (again.faces("demo_eval_test") / "log" / "1.log").read_text()
    assert f"progress {finished}/8 segments" in log  # nothing that was finished is done again
    assert outputs(again.faces("demo_eval_test")) == outputs(demo.faces("demo_eval_test"))


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


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


@pytest.fixture(scope="module")
def hamilton(repo: Path, models: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A user's own folders, with names that people give: spaces, quotes, accents."""
    work = tmp_path_factory.mktemp("hamilton")
    recipe = published(repo, models, work, "folder")
    media = shared / "data/video/hamilton"
    portraits = {
        "Lin-Manuel Miranda": ["lin-manuel-miranda.png"],
        'Alex "The Conductor" Lacamoire': ["alex-lacamoire.png", "alex_lacamoire1.jpg"],
        "Barack Obama": ["obama.jpg"],
        "Joe Biden's": ["biden.jpg"],
    }
    for person, files in portraits.items():
        for name in files:
            link(media / name, work / "my persons" / person / name)
    link(
        media / "short_hamilton_clip.mp4",
        work / "my videos" / "soirée à Washington; $(touch pwned) 'live'.mp4",
    )
    options = [
        "--folder-persons",
        f"{work}/my persons",
        "--folder-videos",
        f"{work}/my videos",
        "--fps",
        "5",
        "--nj",
        "2",
    ]
    for stage in ("001_prepare_data", *STAGES):
        recipe.run(stage, *options)
    return recipe


def test_folder_with_names_of_all_kinds_finds_who_is_in_the_clip_and_not_who_is_not(
    hamilton: Recipe, repo: Path
) -> None:
    """Obama is in it too: he sits in the audience that is shown from 7 s on, in profile. Biden is not."""
    names = read_scp(hamilton.work / "data" / "folder_enroll" / "names")
    best = {names[model]: score for (model, _), score in hamilton.scores("folder_test").items() if model in names}
    assert len(best) == 4
    biden = best["Joe Biden's"]
    assert best["Lin-Manuel Miranda"] > 0.6 > 0.25 > biden
    assert best['Alex "The Conductor" Lacamoire'] > biden + 0.1
    assert not list(repo.glob("pwned")) and not list(hamilton.work.rglob("pwned"))


def test_folder_obama_is_seen_only_where_the_clip_shows_the_audience(hamilton: Recipe) -> None:
    names = read_scp(hamilton.work / "data" / "folder_enroll" / "names")
    (obama,) = [model for model, original in names.items() if original == "Barack Obama"]
    members = load_matrices(hamilton.embeddings("folder_enroll") / "embed.scp")
    (clip,) = load_matrices(hamilton.embeddings("folder_test") / "embed.scp").values()
    (faces,) = load_matrices(hamilton.faces("folder_test") / "faces.scp").values()
    (portrait,) = [matrix for segment, matrix in members.items() if segment.startswith(f"{obama}-")]
    cosine = (clip / np.linalg.norm(clip, axis=1, keepdims=True)) @ (portrait / np.linalg.norm(portrait)).T
    times = faces[cosine.max(axis=1) > 0.4, 1]
    assert len(times) >= 3 and times.min() > 7  # seconds; the camera turns to the audience at 7.2


def test_folder_without_key_is_scored_and_reported_without_numbers(hamilton: Recipe) -> None:
    results = hamilton.work / "exp" / "results" / hamilton.embedder
    (row,) = json.loads((results / "results.json").read_text())["results"]
    assert row["num_trials"] == 4 and row["eer"] is None
    assert "no key" in (results / "report.html").read_text()


@pytest.mark.parametrize("networks", [SHIPPED, PUBLISHED], ids=["shipped", "published"])
def test_clips_of_four_corpora_are_verified_below_five_percent_equal_error(
    repo: Path, models: Path, shared: Path, tmp_path: Path, networks: tuple[str, str]
) -> None:
    """First clip of each person enrols, the others test, all cross pairs are non-target trials."""
    recipe = published(repo, models, tmp_path, "folder")
    if networks == SHIPPED:
        recipe = Recipe(repo, tmp_path, "folder")
        recipe.run("000_get_pretrained_models")
    video = shared / "data/video"
    clips: dict[str, list[Path]] = {}
    for path in sorted(
        [
            *video.glob("grid/*.mpg"),
            *video.glob("mead/*.mp4"),
            *video.glob("talks/*.mp4"),
            *video.glob("avspeech/*.mp4"),
        ]
    ):
        corpus, name = path.parent.name, path.stem
        if corpus == "grid":
            person = "s1" if name.startswith("s1_") else name
        elif corpus == "avspeech":
            person = "_".join(name.split("_")[:-2]).removesuffix("_co")
        else:
            person = re.split("_", name, maxsplit=1)[0]
        if name.startswith("id2_"):  # may be one of the GRID_ speakers
            continue
        clips.setdefault(f"{corpus} {person}", []).append(path)
    assert len(clips) == 11 + 3 + 5 + 5
    key = []
    for person, (first, *others) in clips.items():
        link(first, tmp_path / "persons" / person / first.name)
        for path in others:
            link(path, tmp_path / "videos" / path.name)
            key.append(f"{person}\t{path.name}")
    (tmp_path / "key.tsv").write_text("\n".join(key) + "\n")
    options = [
        "--folder-persons",
        f"{tmp_path}/persons",
        "--folder-videos",
        f"{tmp_path}/videos",
        "--folder-key",
        f"{tmp_path}/key.tsv",
    ]
    options += ["--backends", "max median ahc norm-mean track", "--snorm-cohort", "folder_test", "--ncoh", "50"]
    options += ["--calibration-set", "folder_test", "--fusion-systems", "max ahc_snorm norm-mean track"]
    for stage in ("001_prepare_data", *STAGES):
        recipe.run(stage, *options, "--contact-sheet", "false")
    results = tmp_path / "exp/results" / recipe.embedder
    rows = json.loads((results / "results.json").read_text())["results"]
    print(f"EER {100 * rows[0]['eer']:.2f} %, {rows[0]['num_targets']} targets, {rows[0]['num_nontargets']} nontargets")
    assert rows[0]["num_targets"] == len(key) and rows[0]["num_nontargets"] == len(clips) * len(key) - len(key)
    assert rows[0]["eer"] < 0.05
    table = {(row["backend"], bool(row["snorm_cohort"]), bool(row["calibrated_on"])): row for row in rows}
    assert len(table) == 5 * 2 * 2 + 1 and ("fusion", False, True) in table
    assert all(0 <= row["min_cprimary"] <= row["act_cprimary"] + 1e-9 for row in table.values())
    raw, calibrated = (table["max", False, calibrated] for calibrated in (False, True))
    assert raw["act_cprimary"] == 1 > calibrated["act_cprimary"] and raw["eer"] == pytest.approx(calibrated["eer"])
    assert "Instructive trials of max, calibrated" in (results / "report.html").read_text()


def test_every_readable_form_of_a_video_shows_the_face_of_the_original(models: Path, shared: Path) -> None:
    import cv2

    from vidperson.engines import load_network
    from vidperson.face.candidates import SelectionPolicy
    from vidperson.face.detector import make_detector
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.face.pipeline import Task, find_faces
    from vidperson.media.video import UniformSampling
    from vidperson.networks.install import installed_model

    found, read = (installed_model(models / name) for name in PUBLISHED)
    detector = make_detector(load_network(found.network, threads=2), found.card)
    embedder = FaceEmbedder(load_network(read.network, threads=2), read.card)

    def embed(path: Path) -> tuple[str, np.ndarray]:
        ((_, status, faces),) = find_faces([Task("s", str(path), UniformSampling(1))], detector, SelectionPolicy())
        crops = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for png in faces.crops]
        vectors = embedder.embed(np.stack(crops) if crops else np.zeros((0, 112, 112, 3), np.uint8))
        return status, vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    folder = shared / "data/video/robustness"
    _, base = embed(folder / "base.mp4")
    _, other_man = embed(folder / "nonsquare_base.mp4")
    shows_other_man = {"nonsquare_base.mp4", "phone_upright_via_matrix.mp4"}
    faceless = {
        "audio_only.mp4",
        "black_silent_noface.mp4",
        "random_bytes.mp4",
        "text.mp4",
        "truncated_moov_at_end.mp4",
    }
    faceless.add("zero_bytes.mp4")
    lowest = {"sar2.mp4": 0.25}  # declares pixels twice as wide as high, so the face is shown stretched
    best = {}
    for path in sorted(folder.iterdir()):
        _, vectors = embed(path)
        reference = other_man if path.name in shows_other_man else base
        best[path.name] = float((vectors @ reference.T).max(initial=-1))
    assert {name for name, cosine in best.items() if cosine == -1} == faceless
    assert not {name: c for name, c in best.items() if name not in faceless and c < lowest.get(name, 0.6)}
    assert (other_man @ base.T).max() < 0.25
