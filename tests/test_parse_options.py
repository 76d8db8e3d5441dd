"""utils/parse_options.sh in a small recipe of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

STAGE = """#!/usr/bin/env bash
# Do a thing: data -> exp.
#
#   ./stage.sh --nj 2
set -euo pipefail
stage=1          # first part to run
force=false      # do all anew
name_of_it="a b" # it's quoted
threads=3
. ./utils/parse_options.sh
later=5
save_settings out/settings
for name in stage force name_of_it threads detector fps contact_sheet model_dir config_file nj; do
  printf '%s=%s\\n' "$name" "${!name}"
done
"""
DEFAULTS = """
config_file=global_conf/config_a.sh  # the config
detector=retina      # the detector
fps=1                # pictures per second
contact_sheet=false  # a sheet
model_dir=           # where models are
threads=1            # threads per job
nj=$((1 + 3))        # jobs
"""


@pytest.fixture
def recipe(tmp_path: Path, repo: Path) -> Path:
    (tmp_path / "utils").mkdir()
    (tmp_path / "global_conf").mkdir()
    for name in ("parse_options.sh", "signals.sh", "guard.py"):
        shutil.copy(repo / "utils" / name, tmp_path / "utils")
    (tmp_path / "global_conf" / "defaults.sh").write_text(DEFAULTS)
    (tmp_path / "global_conf" / "config_a.sh").write_text("detector=from_a\nfps=0.5\n")
    (tmp_path / "global_conf" / "config_b.sh").write_text(". global_conf/config_a.sh\nfps=2\nstage=7\n")
    (tmp_path / "stage.sh").write_text(STAGE)
    return tmp_path


def call(recipe: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "stage.sh", *args], cwd=recipe, capture_output=True, text=True, timeout=30)


def values(recipe: Path, *args: str) -> dict[str, str]:
    result = call(recipe, *args)
    assert (result.returncode, result.stderr) == (0, "")
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


def refusal(recipe: Path, *args: str) -> str:
    result = call(recipe, *args)
    assert (result.returncode, result.stdout) == (1, "")
    assert not (recipe / "out").exists()
    return result.stderr


def test_options_none_given_takes_defaults_and_default_config(recipe: Path) -> None:
    assert values(recipe) == {
        "stage": "1",
        "force": "false",
        "name_of_it": "a b",
        "threads": "3",
        "detector": "from_a",
        "fps": "0.5",
        "contact_sheet": "false",
        "model_dir": "",
        "config_file": "global_conf/config_a.sh",
        "nj": "4",
    }


def test_options_config_wins_over_script_and_command_line_over_config(recipe: Path) -> None:
    found = values(recipe, "--config-file", "global_conf/config_b.sh", "--fps", "5")
    assert (found["fps"], found["stage"], found["detector"]) == ("5", "7", "from_a")
    assert values(recipe, "--stage=2", "--config-file=global_conf/config_b.sh")["stage"] == "2"


def test_options_config_with_threads_wins_over_the_script(recipe: Path) -> None:
    (recipe / "mine.sh").write_text("threads=9\n")
    assert values(recipe, "--config-file", "mine.sh")["threads"] == "9"


@pytest.mark.parametrize("form", [["--model-dir", "{}"], ["--model-dir={}"]])
@pytest.mark.parametrize("value", ["$(touch x)", "`touch x`; touch x", "a b", "it's", '"q" \\ *', "-1", "a=b", ""])
def test_options_value_is_taken_literally_and_survives_the_settings_file(
    recipe: Path, form: list[str], value: str
) -> None:
    assert values(recipe, *[part.format(value) for part in form])["model_dir"] == value
    read_back = subprocess.run(
        ["bash", "-c", '. out/settings; printf %s "$model_dir"'], cwd=recipe, capture_output=True, text=True
    )
    assert read_back.stdout == value
    assert not (recipe / "x").exists()


@pytest.mark.parametrize(("given", "taken"), [("a b/", "a b"), ("../x//", "../x"), ("/", "/"), ("x/y", "x/y")])
def test_options_slash_behind_the_folder_of_outputs_changes_nothing(recipe: Path, given: str, taken: str) -> None:
    with open(recipe / "global_conf" / "defaults.sh", "a") as defaults:
        defaults.write("data_dir=data\nexp_dir=exp  # outputs\n")
    (recipe / "mine.sh").write_text(f"data_dir='{given}'\n")
    values(recipe, "--config-file", "mine.sh", "--exp-dir", given, "--model-dir", given)
    settings = (recipe / "out" / "settings").read_text().splitlines()
    assert {f"data_dir='{taken}'", f"exp_dir='{taken}'", f"model_dir='{given}'"} <= set(settings)


def test_stage_interrupted_ends_and_so_does_a_loop_around_it_though_the_child_ended_well(recipe: Path) -> None:
    child = "import signal, time; signal.signal(2, lambda *_: exit(0)); print('on', flush=True); time.sleep(60)"
    with open(recipe / "stage.sh", "a") as stage:
        stage.write(f'"{sys.executable}" -c "{child}"\necho went on\n')
    process = subprocess.Popen(
        ["bash", "-c", "for i in 1 2; do bash stage.sh; done; echo went on"], cwd=recipe, text=True,
        stdout=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout
    while process.stdout.readline() not in ("on\n", ""):
        pass
    os.killpg(process.pid, signal.SIGINT)
    assert "went on" not in process.communicate(timeout=30)[0]
    assert process.returncode == -signal.SIGINT


def test_options_last_of_two_wins(recipe: Path) -> None:
    assert values(recipe, "--nj", "2", "--nj", "3")["nj"] == "3"


def test_options_unknown_option_is_refused_with_the_valid_ones(recipe: Path) -> None:
    message = refusal(recipe, "--detctor", "x")
    assert message.startswith("stage.sh: unknown option --detctor; valid: --stage --force --name-of-it --threads")
    assert "--contact-sheet" in message and "--later" not in message


@pytest.mark.parametrize("name", ["--stage force", "--a[$(touch x)]", "--stage]", "--PATH", "--po_names"])
def test_options_name_that_is_no_name_is_refused(recipe: Path, name: str) -> None:
    assert f"unknown option {name};" in refusal(recipe, name, "1")
    assert not (recipe / "x").exists()


@pytest.mark.parametrize("args", [["--nj"], ["--nj", "--stage", "2"]])
def test_options_value_missing_is_refused(recipe: Path, args: list[str]) -> None:
    assert "option --nj lacks its value" in refusal(recipe, *args)


def test_options_positional_argument_is_refused(recipe: Path) -> None:
    assert "expected options, found 'data/dev'" in refusal(recipe, "data/dev")


@pytest.mark.parametrize("args", [["--contact-sheet", "yes"], ["--contact-sheet="], ["--force", "True"]])
def test_options_switch_with_other_value_is_refused(recipe: Path, args: list[str]) -> None:
    assert "command line: expected true or false for" in refusal(recipe, *args)


def test_options_text_where_the_default_is_a_number_is_refused(recipe: Path) -> None:
    assert "command line: expected a whole number for stage, found 'two'" in refusal(recipe, "--stage", "two")
    assert "command line: expected a number for fps, found 'two'" in refusal(recipe, "--fps", "two")


@pytest.mark.parametrize("value", ["2.5", "08", "010", "1e3", "-0", "+1"])
@pytest.mark.parametrize("name", ["nj", "stage"])
def test_options_whole_number_is_refused_where_it_is_none_to_bash(recipe: Path, name: str, value: str) -> None:
    assert f"expected a whole number for {name}, found '{value}'\n" in refusal(recipe, f"--{name}", value)
    (recipe / "mine.sh").write_text(f"{name}={value}\n")
    assert f"mine.sh: expected a whole number for {name}, found" in refusal(recipe, "--config-file", "mine.sh")


@pytest.mark.parametrize(("name", "value"), [("nj", "10"), ("stage", "-1"), ("stage", "0"), ("fps", "0.25")])
def test_options_numbers_are_taken_as_they_are(recipe: Path, name: str, value: str) -> None:
    assert values(recipe, f"--{name}", value)[name] == value


def test_options_every_number_of_the_recipe_is_whole_or_may_be_a_fraction(recipe: Path, repo: Path) -> None:
    shutil.copytree(repo / "global_conf", recipe / "global_conf", dirs_exist_ok=True)
    stage = STAGE.replace("threads=3\n", "stop_stage=2\n") + 'printf "%s %s\\n" --- "$po_whole" > kinds\n'
    (recipe / "stage.sh").write_text(
        stage + 'for n in "${!po_kinds[@]}"; do echo "$n: ${po_kinds[$n]}"; done >> kinds\n'
    )
    values(recipe, "--config-file", "global_conf/config_r50.sh")
    listed, *kinds = (recipe / "kinds").read_text().splitlines()
    found = dict(line.split(": ") for line in kinds if not line.endswith(": "))
    assert sorted(name for name, kind in found.items() if kind == "a whole number") == sorted(listed.split()[1:])
    fractions = {
        "fps", "det_threshold", "nms_threshold", "max_centre_distance", "max_duration_s", "segment_timeout_s",
        "thr_ahc", "mem_gb", "train_scale", "train_margin", "train_sample_rate", "train_lr", "train_weight_decay",
        "train_decay", "train_warmup_epochs", "train_clip", "train_ema", "train_cosine_weight",
        "train_relation_weight",
    }  # fmt: skip
    assert {name for name, kind in found.items() if kind == "a number"} == fractions


def test_options_switch_with_other_value_in_config_is_refused_naming_the_config(recipe: Path) -> None:
    (recipe / "mine.sh").write_text("contact_sheet=1\n")
    assert "mine.sh: expected true or false for contact_sheet, found '1'" in refusal(recipe, "--config-file", "mine.sh")


@pytest.mark.parametrize("line", ["face_detctor=x", "export face_detctor=x", 'face_detctor+=" x"'])
def test_options_unknown_variable_in_config_is_refused_with_file_and_line(recipe: Path, line: str) -> None:
    (recipe / "mine.sh").write_text(f"# mine\n\n{line}\n")
    message = refusal(recipe, "--config-file", "mine.sh")
    assert "mine.sh:3: there is no variable 'face_detctor'; valid: stage force" in message


def test_options_unknown_variable_in_config_that_a_config_sources_is_refused(recipe: Path) -> None:
    (recipe / "inner.sh").write_text("fpss=2\n")
    (recipe / "mine.sh").write_text('. "./inner.sh"\n')
    assert "./inner.sh:1: there is no variable 'fpss'" in refusal(recipe, "--config-file", "mine.sh")


def test_options_config_with_windows_line_ends_is_refused(recipe: Path) -> None:
    (recipe / "mine.sh").write_bytes(b"fps=2\r\n")
    assert "mine.sh:1: Windows line end" in refusal(recipe, "--config-file", "mine.sh")


def test_options_config_missing_is_refused_with_those_that_there_are(recipe: Path) -> None:
    message = refusal(recipe, "--config-file", "config_r51.sh")
    assert "no config 'config_r51.sh'; there are: global_conf/config_a.sh global_conf/config_b.sh" in message


@pytest.mark.parametrize("line", ['[ -n "${MODELS:-}" ] && model_dir=$MODELS', "false\nfps=2"])
def test_options_config_with_a_command_that_fails_is_refused_naming_the_config(recipe: Path, line: str) -> None:
    (recipe / "mine.sh").write_text(f"{line}\n")
    message = refusal(recipe, "--config-file", "mine.sh")
    assert message.startswith("stage.sh: ./mine.sh: the last command it ran gave status 1; write a condition as if")


@pytest.mark.parametrize(("value", "words"), [("(max mean)", "max mean"), ("()", ""), ("('a b')", "a b")])
def test_options_array_in_config_is_refused_with_what_to_write(recipe: Path, value: str, words: str) -> None:
    (recipe / "mine.sh").write_text(f"name_of_it={value}\n")
    message = refusal(recipe, "--config-file", "mine.sh")
    assert "./mine.sh: name_of_it is an array" in message and f'write name_of_it="{words}"\n' in message


def test_options_upper_case_variables_of_a_config_are_free(recipe: Path) -> None:
    (recipe / "mine.sh").write_text("export CUDA_VISIBLE_DEVICES=1\n")
    assert values(recipe, "--config-file", "mine.sh")["stage"] == "1"


def test_options_help_shows_purpose_and_options_with_resolved_values_and_comments(recipe: Path) -> None:
    result = call(recipe, "--config-file", "global_conf/config_b.sh", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:3] == ["Do a thing: data -> exp.", "", "  ./stage.sh --nj 2"]
    assert "set -euo" not in result.stdout
    shown = [" ".join(line.split()) for line in lines]
    assert "--stage 7 first part to run" in shown
    assert "--name-of-it a b it's quoted" in shown
    assert "--threads 3 threads per job" in shown
    assert "--fps 2 pictures per second" in shown
    assert '--model-dir "" where models are' in shown
    assert not (recipe / "out").exists()


def test_save_settings_writes_all_options_sorted_and_quoted(recipe: Path) -> None:
    values(recipe, "--model-dir", "it's", "--nj", "2")
    assert (recipe / "out" / "settings").read_text().splitlines() == [
        "config_file='global_conf/config_a.sh'",
        "contact_sheet='false'",
        "detector='from_a'",
        "force='false'",
        "fps='0.5'",
        "model_dir='it'\\''s'",
        "name_of_it='a b'",
        "nj='2'",
        "stage='1'",
        "threads='3'",
    ]
    assert [p.name for p in (recipe / "out").iterdir()] == ["settings"]


@pytest.mark.parametrize("config", sorted((Path(__file__).parents[1] / "global_conf").glob("config_*.sh")))
def test_options_configs_of_the_recipe_are_valid(recipe: Path, repo: Path, config: Path) -> None:
    shutil.copytree(repo / "global_conf", recipe / "global_conf", dirs_exist_ok=True)
    found = values(recipe, "--config-file", f"global_conf/{config.name}")
    # The config of an embedder's training names its teacher alone.
    assert found["detector"].startswith("retinaface_") or (config.name, found["detector"]) == (
        "config_train_arcface_tiny.sh",
        "",
    )


def test_options_every_default_of_the_recipe_has_a_comment(recipe: Path, repo: Path) -> None:
    shutil.copytree(repo / "global_conf", recipe / "global_conf", dirs_exist_ok=True)
    (recipe / "stage.sh").write_text(STAGE.replace("threads=3\n", ""))
    text = call(recipe, "--help").stdout.replace("\n" + " " * 42, " ")
    options = [line for line in text.splitlines() if line.startswith("  --")]
    assert len(options) > 30
    for line in options:
        assert len(line.split("  ")[-1].split()) > 1, line


def test_default_number_of_jobs_is_not_the_number_of_threads(recipe: Path, repo: Path) -> None:
    shutil.copytree(repo / "global_conf", recipe / "global_conf", dirs_exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    text = subprocess.run(
        ["bash", "stage.sh", "--config-file=global_conf/config_r50.sh"],
        cwd=recipe, env=environment, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert f"\nnj={len(os.sched_getaffinity(0))}\n" in text
