"""What the stages say to options that cannot be, before they do any work."""

from __future__ import annotations

import os
import re
import shutil
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


@pytest.mark.parametrize(("there", "found"), [((), "none"), (("train", "vox1_o_other"), "train vox1_o_other")])
def test_stage_1_without_any_set_of_the_trial_sets_names_those_that_are_there(
    repo: Path, tmp_path: Path, there: tuple[str, ...], found: str
) -> None:
    for name in there:
        (tmp_path / "data" / name).mkdir(parents=True)
    options = ("--stage", "2", "--trial-sets", "a:b", "--data-dir", str(tmp_path / "data"))
    done = run(repo, tmp_path, "run_001_prepare_data", *options)
    assert done.returncode == 1 and done.stderr.endswith(f"is there; {tmp_path}/data has: {found}\n")


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
    assert re.search(rf"modalities: expected one or several of (\w+ )*face( \w+)*, found {found}$", said.strip())


STAGE = ". ./cmd.sh; . ./utils/parse_options.sh; . ./utils/stage.sh; use_modality face;"


def stage_says(repo: Path, tmp_path: Path, trial_sets: str, script: str) -> subprocess.CompletedProcess[str]:
    """What a stage would: options, utils/stage.sh, then a script. Data and exp are in tmp_path."""
    path = tmp_path / "run_004_x.sh"
    path.write_text(f"# A stage.\nset -euo pipefail\n{STAGE}\n{script}\n")
    command = ["bash", path, "--trial-sets", trial_sets, "--data-dir", f"{tmp_path}/data", "--exp-dir", "exp"]
    return subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=60)


def test_searched_pair_may_have_several_enrolment_sets_and_each_is_a_data_set(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "data/val").mkdir(parents=True)
    (tmp_path / "data/val/search").touch()
    script = """
    echo "${data_sets[*]} | ${test_sets[*]} | ${enroll_of[val]} | ${enroll_of[test]}"
    for pair in $trial_sets; do pair_options "$pair"; printf '<%s>' "${pair_args[@]}"; echo; done
    is_search val && ! is_search test"""
    done = stage_says(repo, tmp_path, "a+b.1:val b.1:test", script)
    assert (done.returncode, done.stderr) == (0, "")
    sets, searched, verified = done.stdout.splitlines()
    assert sets == "a b.1 val test | val test | a+b.1 | b.1"
    assert f"<--enroll-sets><a b.1><--test-set><val><--data-dir><{tmp_path}/data>" in searched
    assert "<--embed-root><exp/face_embed><--train-root><exp/face_train>" in searched
    assert f"<--enroll-parts><b.1><--enroll-data><{tmp_path}/data/b.1><--test-part><test>" in verified


@pytest.mark.parametrize(("calibration", "expected"), [
    ("val", "|val|"),  # a searched set
    ("test", "data/test/trials||test"),
    ("typo", "data/typo/trials||typo"),  # refused by the step that scores
    ("", "||"),
])  # fmt: skip
def test_each_kind_of_system_gets_its_own_test_sets_and_calibration_set(
    repo: Path, tmp_path: Path, calibration: str, expected: str
) -> None:
    (tmp_path / "data/val").mkdir(parents=True)
    (tmp_path / "data/val/search").touch()
    script = f"""
    calibration_set={calibration}
    system_options
    for i in "${{!system_args[@]}}"; do
      case ${{system_args[i]}} in --calibration-set) trained=${{system_args[i + 1]}} ;; esac
    done
    echo "${{train_trials#"$exp_dir"}}|$search_calibration|$trained"
    echo "${{system_args[*]}}" "${{search_args[*]}}" """
    done = stage_says(repo, tmp_path, "a+b:val b:test", script)
    assert (done.returncode, done.stderr) == (0, "")
    first, words = done.stdout.splitlines()
    assert first.replace(f"{tmp_path}/", "") == expected
    assert "--test-sets test --backends" in words and "--test-sets val --search-backends" in words


def test_calibration_set_beside_searched_sets_only_is_left_to_the_search(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "data/val").mkdir(parents=True)
    (tmp_path / "data/val/search").touch()
    script = '  calibration_set=typo; system_options; echo "$search_calibration|$train_trials"'
    assert stage_says(repo, tmp_path, "a:val", script).stdout == "typo|\n"
    script = "  calibration_set=typo; cast_backends=original; system_options; cast_options a:val"
    done = stage_says(repo, tmp_path, "a:val", f'{script}; echo "${{cast_args[*]}}"')
    assert (done.returncode, done.stderr) == (0, "") and "--calibration-set typo" in done.stdout
    done = stage_says(repo, tmp_path, "a:val", f"  cast_embedders='face/x face/'; {script.lstrip()}")
    assert (
        done.returncode == 1
        and "expected <modality>/<embedder> with a modality of 'face', found 'face/'" in done.stderr
    )


@pytest.mark.parametrize(("trial_sets", "message"), [
    ("a+b:test", "a+b:test: several enrolment sets go with a searched test set only, and there is no"),
    ("a+:test", "expected <enrolment set>:<test set>, found 'a+:test'"),
    ("a:b+c", "found 'a:b+c'"),
    ("a+b+a:test", "a+b+a:test names the enrolment set a twice"),
    ("a:test a+b:test", "test has two enrolment sets, a and a+b"),
])  # fmt: skip
def test_enrolment_sides_that_cannot_be_are_refused(repo: Path, tmp_path: Path, trial_sets: str, message: str) -> None:
    done = stage_says(repo, tmp_path, trial_sets, 'for pair in $trial_sets; do pair_options "$pair"; done')
    assert done.returncode == 1 and message in done.stderr


@pytest.mark.parametrize(("there", "lacking"), [("", "search"), ("search", "relevant")])
def test_set_that_cannot_validate_an_identifier_is_refused_before_the_training(
    repo: Path, tmp_path: Path, there: str, lacking: str
) -> None:
    for name in ("train/utt2spk", f"valid/{there or 'trials'}"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).touch()
    done = run(repo, tmp_path, "run_014_train_identifier", "--train-sets", "train", "--valid-set", "valid")
    assert done.returncode == 1 and not (tmp_path / "exp").exists()
    assert f"there is no {tmp_path}/data/valid/{lacking}; name another set, or leave valid_set empty" in done.stderr


@pytest.mark.parametrize(("stages", "message"), [
    ("0 1 14:train_other 4", "14:train_other: there is no global_conf/config_train_other.sh"),
    ("0 7", "7: there is no run_007_*.sh"),
    ("0 14:", "expected <stage> or <stage>:<config>, found '14:'"),
    ("0 ../1", "expected <stage> or <stage>:<config>, found '../1'"),
])  # fmt: skip
def test_demo_with_a_stage_that_cannot_run_is_refused_at_its_beginning(
    repo: Path, tmp_path: Path, stages: str, message: str
) -> None:
    assert f"demo_stages: {message}" in refused(repo, tmp_path, "run_demo", "--demo-stages", stages)


def test_network_of_a_training_is_installed_by_its_name_unless_the_zoo_has_one_of_that_name(
    repo: Path, tmp_path: Path
) -> None:
    for name in ("mine", "arcface_tiny"):
        folder = tmp_path / f"exp/face_train/{name}"
        folder.mkdir(parents=True)
        shutil.copy(repo / "vidperson/zoo/arcface_tiny.onnx", folder / f"{name}.onnx")
        card = (repo / "vidperson/zoo/arcface_tiny.yaml").read_text()
        (folder / f"{name}.yaml").write_text(card.replace("name: arcface_tiny", f"name: {name}") + "# trained here\n")
    for name in ("mine", "arcface_tiny", "other"):
        options = ("--face-detector", "", "--face-embedder", name)
        done = run(repo, tmp_path, "run_000_get_pretrained_models", *options)
        installed = tmp_path / f"exp/face_models/{name}/{name}.yaml"
        assert installed.is_file() == (done.returncode == 0) == (name != "other"), done.stderr
        if installed.is_file():
            assert ("# trained here" in installed.read_text()) == (name == "mine")
