"""What the stages say to options that cannot be, before they do any work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(repo: Path, work: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    folders = ["--config-file", "global_conf/config_demo.sh", "--data-dir", f"{work}/data", "--exp-dir", f"{work}/exp"]
    return subprocess.run(
        [f"./{script}.sh", *folders, *options],
        cwd=repo,
        env={**os.environ, "VIDPERSON_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(repo: Path, work: Path, script: str, *options: str) -> str:
    done = run(repo, work, script, *options)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not list(work.rglob("*"))
    return done.stderr


def test_networks_of_the_wrong_kind_are_refused_by_stage_0(repo: Path, tmp_path: Path) -> None:
    options = ("--face-detector", "arcface_tiny", "--face-embedder", "retinaface_tiny")
    said = refused(repo, tmp_path, "run_000_get_pretrained_models", *options)
    assert "arcface_tiny is a face_embedder, not a face_detector" in said
    assert "retinaface_tiny is a face_detector, not a face_embedder" in said


def test_path_of_a_card_with_a_space_is_one_path(repo: Path, tmp_path: Path) -> None:
    options = ("--face-detector", "my cards/mine.yaml", "--face-embedder", "")
    said = refused(repo, tmp_path, "run_000_get_pretrained_models", *options)
    assert "1 of 1 networks" in said and "no model card 'my cards/mine.yaml'" in said


@pytest.mark.parametrize(("script", "option"), [
    ("run_002_detect_faces", "face_detector"),
    ("run_003_extract_embeddings", "face_detector"),
    ("run_003_extract_embeddings", "face_embedder"),
    ("run_004_score", "face_embedder"),
    ("run_005_eval", "face_embedder"),
])  # fmt: skip
def test_path_of_a_card_behind_stage_0_is_refused_with_the_name_to_give(
    repo: Path, tmp_path: Path, script: str, option: str
) -> None:
    said = refused(repo, tmp_path, script, f"--{option.replace('_', '-')}", "/my cards/mine.yaml")
    assert f"{option}: expected the name of an installed network, found the path '/my cards/mine.yaml'" in said
    assert "then use the name mine" in said
    assert f"{option} is empty" in refused(repo, tmp_path, script, f"--{option.replace('_', '-')}", "")


@pytest.mark.parametrize(("options", "message"), [
    (("--stage", "2", "--trial-sets", "a:b"), "none of the sets of trial_sets is there"),
    (("--stage", "3"), "nothing to do from part 3 to part 2"),
    (("--stop-stage", "0"), "nothing to do from part 1 to part 0"),
])  # fmt: skip
def test_stage_1_with_nothing_to_do_fails_and_says_so(
    repo: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in refused(repo, tmp_path, "run_001_prepare_data", *options)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_the_demo_is_its_own_and_nothing_is_run(repo: Path, tmp_path: Path, option: str) -> None:
    done = run(repo, tmp_path, "run_demo", option)
    assert done.returncode == 0 and done.stdout.startswith("The whole recipe on a small corpus")
    assert "== run_000" not in done.stdout


@pytest.mark.parametrize("command", [("segment_jobs.py", "--nj"), ("segment_jobs.py", "--input"), ("once.py", "--log")])
def test_last_option_without_its_value_is_named(repo: Path, command: tuple[str, str]) -> None:
    script, option = command
    done = subprocess.run([f"utils/{script}", option], cwd=repo, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr == f"{script}: option {option} lacks its value\n"


@pytest.mark.parametrize(("modalities", "found"), [("", "none"), (" ", "none"), ("ear", "ear"), ("face ear", "ear")])
def test_modalities_that_are_none_or_unknown_are_refused_with_the_valid_ones(
    repo: Path, tmp_path: Path, modalities: str, found: str
) -> None:
    said = refused(repo, tmp_path, "run_002_detect_faces", f"--modalities={modalities}")
    assert re.search(rf"modalities: expected one or several of face( \w+)*, found {found}$", said.strip())
