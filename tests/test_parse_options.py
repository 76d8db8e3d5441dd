"""utils/parse_options.sh in a small recipe of its own, and with the options of the recipe."""

from __future__ import annotations

import os
import re
import shlex
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
force=false      # do all again
name_of_it="a b" # it's quoted
threads=3
. ./utils/parse_options.sh
later=5
mkdir -p out
echo "$VIDPERSON_OPTIONS" > out/settings
echo "$VIDPERSON_STAGE" > out/stage
for name in stage force name_of_it threads detector fps contact_sheet model_dir config_file nj; do
  printf '%s=%s\\n' "$name" "${!name}"
done
"""
DEFAULTS = """
config_file=global_conf/config_a.sh  # [not empty] the config
detector=retina      # the detector
fps=1.0              # pictures per second
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
@pytest.mark.parametrize("value", [
    "$(touch x)", "`touch x`; touch x", "a b", "it's", '"q" \\ *', "-1", "a=b", "", "a --help b", "&",
])  # fmt: skip
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
        defaults.write("data_dir=data  # [folder]\nexp_dir=exp  # [folder] outputs\n")
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


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--detctor", "--detector"),
        ("--fsp", "--fps"),
        ("--contactsheets", "--contact-sheet"),
        ("--fqs", "--fps"),
        ("--xyz", ""),
        ("--f", ""),
        ("--detected", "--detector"),
    ],
)
def test_options_the_most_similar_one_is_asked_for(recipe: Path, given: str, meant: str) -> None:
    message = refusal(recipe, given, "1")
    assert message.partition("did you mean ")[2].strip() == (f"{meant}?" if meant else "")


def test_options_switch_without_value_is_told_both(recipe: Path) -> None:
    message = refusal(recipe, "--force")
    assert "option --force lacks its value; write --force true, or --force false" in message


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


def test_options_value_of_two_lines_is_recorded_such_that_bash_and_python_read_it_back(recipe: Path) -> None:
    value = "one it's\ntwo 'x=y"
    assert call(recipe, "--model-dir", value).returncode == 0
    settings = (recipe / "out" / "settings").read_text()
    assert f"model_dir={value}" in shlex.split(settings)
    command = ["bash", "-c", '. out/settings; printf %s "$model_dir"']
    read_back = subprocess.run(command, cwd=recipe, capture_output=True)
    assert read_back.stdout.decode() == value


def of_the_recipe(recipe: Path, repo: Path, script: str) -> str:
    """A script that reads its options as the recipe's does, and prints them as they are recorded."""
    shutil.copytree(repo / "global_conf", recipe / "global_conf", dirs_exist_ok=True)
    shutil.copy(repo / "cmd.sh", recipe)
    (recipe / "path.sh").touch()
    for folder in repo.glob("steps_*"):
        (recipe / folder.name).mkdir(exist_ok=True)
    head, line, _ = (repo / f"{script}.sh").read_text().partition(". ./utils/parse_options.sh\n")
    (recipe / f"{script}.sh").write_text(head + line + 'echo "$VIDPERSON_OPTIONS"\n')
    return f"{script}.sh"


def options_of(recipe: Path, repo: Path, script: str, *args: str) -> dict[str, str]:
    call = ["bash", of_the_recipe(recipe, repo, script), *args]
    done = subprocess.run(call, cwd=recipe, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(word.split("=", 1) for word in shlex.split(done.stdout))


def help_of(recipe: Path, repo: Path, script: str, *args: str) -> str:
    call = ["bash", of_the_recipe(recipe, repo, script), "--help", *args]
    done = subprocess.run(call, cwd=recipe, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


SCRIPTS = sorted(path.stem for path in Path(__file__).parents[1].glob("run_0*.sh"))


def test_options_every_number_of_the_recipe_is_whole_or_may_be_a_fraction(recipe: Path, repo: Path) -> None:
    kinds: dict[str, str] = {}
    for script in SCRIPTS:
        with open(recipe / of_the_recipe(recipe, repo, script), "a") as stage:
            stage.write('for n in "${!po_kinds[@]}"; do echo "$n: ${po_kinds[$n]}"; done > kinds\n')
        subprocess.run(["bash", f"{script}.sh"], cwd=recipe, check=True, stdout=subprocess.DEVNULL, timeout=30)
        kinds |= dict(line.split(": ") for line in (recipe / "kinds").read_text().splitlines())
    assert {name for name, kind in kinds.items() if kind == "whole"} == {
        "nj", "stage", "stop_stage", "threads", "max_size", "det_batch", "aligned_faces", "min_faces",
        "max_pixels", "embed_batch", "speaker_crops", "ncoh", "ncoh_discard", "max_systems", "det_window",
        "second_look", "search_top", "search_persons",
        "train_embedding_size", "film_frames", "train_images", "train_unlabelled_batch",
        "train_sub_centres", "train_batch", "train_top_k", "train_utterances", "train_average",
        "train_epochs", "train_gpus", "train_processes", "train_workers", "train_threads",
        "train_seed", "train_valid_epochs", "train_save_steps", "train_held_out", "train_strangers", "train_folds",
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind == "number"} == {
        "fps", "det_threshold", "nms_threshold", "max_centre_distance", "max_duration_s", "segment_timeout_s",
        "longest_gap_s", "clips_valid", "false_alarm_rate", "link_cosine", "person_threshold", "person_nms_threshold",
        "person_prior", "min_probability", "unsure_probability",
        "speaker_shortest_s", "speaker_longest_s", "speaker_window_s", "thr_ahc", "mem_gb",
        "train_scale", "train_margin",
        "cleanse_precision", "cleanse_duplicate",
        "train_sample_rate", "train_lr", "train_weight_decay",
        "train_decay", "train_warmup_epochs", "train_clip", "train_ema", "train_cosine_weight",
        "train_relation_weight", "train_dropout", "train_focal", "train_smoothing",
        "train_triplet_margin", "train_triplet_weight", "film_longest_s", "film_timeout_s", "train_stranger_weight",
        "train_crop_s",
    }  # fmt: skip


def test_words_before_the_options_set_the_options_that_the_script_names(recipe: Path) -> None:
    script = recipe / "stage.sh"
    script.write_text(STAGE.replace(". ./utils/p", "declare -a po_words=(name_of_it detector)\n. ./utils/p"))
    done = call(recipe, "$(touch pwned) b", "two words", "--fps", "2")
    assert "name_of_it=$(touch pwned) b\n" in done.stdout and "detector=two words\n" in done.stdout
    assert "fps=2\n" in done.stdout and not (recipe / "pwned").exists()
    assert "name_of_it=a b\n" in call(recipe).stdout  # a word may be missing
    for words in (("x", "y", "z"), ("--fps", "2", "x")):
        assert f"expected options, found '{words[-1]}'" in call(recipe, *words).stderr


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


def test_options_are_exported_for_the_records_sorted_and_quoted(recipe: Path) -> None:
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
    assert (recipe / "out" / "stage").read_text() == "stage.sh\n"


def script_of(config: Path) -> str:
    """A script that takes what the config sets."""
    if "train_name" not in config.read_text():
        return "run_015_cleanse_list" if "cleanse" in config.name else "run_000_get_pretrained_models"
    scripts = {
        "arcface": "run_010_train_face_embedder",
        "retinaface": "run_011_train_face_detector",
        "body": "run_013_train_body_embedder",
        "cast": "run_013_train_body_embedder",
        "voxceleb_face": "run_010_train_face_embedder",
        "voxceleb": "run_012_train_speaker_embedder",
        "ecapa": "run_012_train_speaker_embedder",
        "demo_av": "run_012_train_speaker_embedder",
    }
    found = [script for word, script in scripts.items() if word in config.name]
    return found[0] if found else "run_014_train_identifier"


@pytest.mark.parametrize("config", sorted((Path(__file__).parents[1] / "global_conf").glob("config_*.sh")))
def test_options_configs_of_the_recipe_are_valid(recipe: Path, repo: Path, config: Path) -> None:
    found = options_of(recipe, repo, script_of(config), "--config-file", f"global_conf/{config.name}")
    assert found["face_detector"].startswith("retinaface_") and found["face_embedder"]
    assert found["modalities"] in ("face", "body", "speaker", "face body", "face speaker")
    assert found["experiment"] == config.stem.removeprefix("config_")


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_every_default_of_the_recipe_has_a_comment_and_help_fits_the_screen(
    recipe: Path, repo: Path, script: str
) -> None:
    text = help_of(recipe, repo, script, "all")
    text = text.partition("\nOptions, with")[2]
    assert max(map(len, text.splitlines())) <= 100
    options = [line for line in text.replace("\n" + " " * 34, "  ").splitlines() if line.startswith("  --")]
    assert len(options) > 50
    for line in options:
        assert len(line.split("  ")[-1].split()) > 1, line


def test_default_number_of_jobs_is_not_the_number_of_threads(recipe: Path, repo: Path) -> None:
    (recipe / "stage.sh").write_text((repo / "utils/parse_options.sh").read_text())
    of_the_recipe(recipe, repo, "run_002_detect_faces")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    text = subprocess.run(
        ["bash", "run_002_detect_faces.sh", "--config-file=global_conf/config_r50.sh"],
        cwd=recipe, env=environment, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert f"\nnj='{len(os.sched_getaffinity(0))}'\n" in text


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPU cores")
def test_default_number_of_jobs_counts_the_cores_that_the_process_may_use(recipe: Path, repo: Path) -> None:
    core = min(os.sched_getaffinity(0))
    script = of_the_recipe(recipe, repo, "run_002_detect_faces")
    done = subprocess.run(
        ["bash", script], cwd=recipe, capture_output=True, text=True, timeout=30,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    assert "\nnj='1'\n" in done.stdout


# Which options a script takes, and what its help shows.


def titles(text: str) -> list[str]:
    shown = text.partition("\nOptions, with")[2].splitlines()[1:-1]
    return [line for line in shown if not line.startswith(" ")]


def names(text: str) -> set[str]:
    return set(re.findall(r"^  --([a-z0-9-]+) ", text, re.MULTILINE))


def test_help_shows_the_header_and_the_options_of_the_stage_under_their_headings(recipe: Path, repo: Path) -> None:
    text = help_of(recipe, repo, "run_003_extract_embeddings")
    assert text.startswith("Turn the items of stage 2, such as aligned faces, into embeddings")
    assert titles(text) == ["Data", "How to run", "Face", "Embeddings"]
    assert names(text) == {
        "force", "config-file", "data-dir", "exp-dir", "modalities", "trial-sets", "cmd", "nj", "threads", "engine",
        "device", "precision", "face-detector", "face-embedder", "embed-batch", "embed-mirror",
    }  # fmt: skip
    assert "--help all shows them" in text
    for form in ("[folder]", "[not empty]"):
        assert form not in text
    assert "[cpu|cuda|cuda:N] where the networks run" in text


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name < "run_01"])
def test_help_is_about_a_screen_long_and_help_all_shows_every_option(recipe: Path, repo: Path, script: str) -> None:
    shown, everything = (names(help_of(recipe, repo, script, *all)) for all in ((), ("all",)))
    assert 6 <= len(shown) <= 40
    assert shown < everything == {
        name.replace("_", "-") for name in options_of(recipe, repo, script)
    }  # fmt: skip
    assert not any(name.startswith("train-") for name in everything)


@pytest.mark.parametrize("args, there, not_there", [
    (["--corpora", "folder film"], "film-videos film-frames face-detector", "voxceleb1-dir body-detector"),
    (["--modalities", "body"], "sre19-dev-dir body-detector", "film-videos face-detector"),
    (["all"], "film-videos voxceleb1-dir face-detector body-detector", ""),
])  # fmt: skip
def test_help_shows_the_options_of_the_corpora_and_modalities_in_use(
    recipe: Path, repo: Path, args: list[str], there: str, not_there: str
) -> None:
    shown = names(help_of(recipe, repo, "run_001_prepare_data", *args))
    assert set(there.split()) <= shown and not set(not_there.split()) & shown


def test_help_names_every_option_that_the_stage_reads(recipe: Path, repo: Path) -> None:
    """Options that stand in a stage's script are below headings that name the stage."""
    for script in SCRIPTS:
        read = set(re.findall(r"\$\{?([a-z_0-9]+)", (repo / f"{script}.sh").read_text()))
        options = {name.replace("_", "-") for name in read & set(options_of(recipe, repo, script))}
        assert (script, options - names(help_of(recipe, repo, script))) == (script, set())


def test_heading_with_no_stage_and_script_with_a_name_that_is_no_number(recipe: Path) -> None:
    with open(recipe / "global_conf" / "defaults.sh", "a") as defaults:
        defaults.write("## Who to find (stages 2 who)\nfound=1  # for one\n## Rest (stage 12)\nrest=1  # not it\n")
    shutil.copy(recipe / "stage.sh", recipe / "run_who.sh")
    text = subprocess.run(["bash", "run_who.sh", "-h"], cwd=recipe, capture_output=True, text=True).stdout
    assert not {"found", "rest"} & names(call(recipe, "-h").stdout)
    assert {"found", "rest"} <= names(call(recipe, "-h", "all").stdout)
    assert titles(text) == ["Who to find"] and {"nj", "found"} <= names(text) and "rest" not in names(text)


@pytest.mark.parametrize(("broken", "said"), [
    ("exit 0", "./mine.sh: the config ended the stage"),
    ("exec true", "./mine.sh: a config sets variables; it cannot replace the stage (exec)"),
    ("fps=2\nif then", "./mine.sh: the config ended the stage"),
    ("nj=$no_such_variable", "./mine.sh: the config ended the stage"),
    ("unset nj", "./mine.sh: it unsets nj"),
    ("set +e\nfalse", "./mine.sh: the last command it ran gave status 1"),
    ("fpss=1", "mine.sh:1: there is no variable 'fpss'"),
    ("nj=(1 2)", "nj is an array"),
    ("nj=two", "expected a whole number for nj, found 'two'"),
])  # fmt: skip
def test_broken_config_stops_the_stage_and_leaves_the_help(recipe: Path, broken: str, said: str) -> None:
    (recipe / "mine.sh").write_text(f"{broken}\n")
    assert said in refusal(recipe, "--config-file", "mine.sh")
    for more in ([], ["all"]):
        result = call(recipe, "--config-file", "mine.sh", "--help", *more)
        assert result.returncode == 0 and said in result.stderr
        assert result.stdout.startswith("Do a thing: data -> exp.") and "\n  --threads 3 " in result.stdout
    missing = call(recipe, "--config-file", "none.sh", "--help")
    assert missing.returncode == 0 and "no config 'none.sh'" in missing.stderr and "\n  --stage 1 " in missing.stdout


def test_config_that_lets_commands_fail_does_not_do_so_for_the_stage(recipe: Path) -> None:
    (recipe / "mine.sh").write_text("set +eu\nset +o pipefail\nfps=3\n")
    with open(recipe / "stage.sh", "a") as stage:
        stage.write("echo on\nfalse | true\necho went on\n")
    result = call(recipe, "--config-file", "mine.sh")
    assert result.returncode == 1 and result.stdout.endswith("\non\n")


def test_configs_are_read_in_their_order_and_name_the_experiment(recipe: Path, repo: Path) -> None:
    configs = "global_conf/config_sre21.sh,global_conf/config_r50.sh"
    found = options_of(recipe, repo, "run_005_eval", "--config-file", configs)
    assert (found["corpora"], found["face_embedder"]) == ("sre21_av_v", "arcface_r50_mxnet")
    assert (found["config_file"], found["experiment"]) == (configs, "sre21+r50")
    (recipe / "late.sh").write_text("experiment=mine\ncorpora=other\n")
    found = options_of(recipe, repo, "run_005_eval", f"--config-file={configs},late.sh")
    assert (found["corpora"], found["face_embedder"], found["experiment"]) == ("other", "arcface_r50_mxnet", "mine")
    found = options_of(recipe, repo, "run_005_eval", f"--config-file={configs},late.sh", "--experiment", "a+b-1.2")
    assert found["experiment"] == "a+b-1.2"


def test_second_config_that_is_wrong_is_named(recipe: Path) -> None:
    (recipe / "late.sh").write_text("stage=two\n")
    said = refusal(recipe, "--config-file", "global_conf/config_a.sh,late.sh")
    assert "./late.sh: expected a whole number for stage, found 'two'" in said
    (recipe / "late.sh").write_text("x=1\n")
    assert "late.sh:1: there is no variable 'x'" in refusal(recipe, "--config-file", "global_conf/config_a.sh,late.sh")
    for given in ("global_conf/config_a.sh,", ",global_conf/config_a.sh", "global_conf/config_a.sh,none.sh"):
        assert "no config '" in refusal(recipe, "--config-file", given)


@pytest.mark.parametrize(("config", "name"), [("my conf.sh", "my_conf"), ("é.sh", "__"), ("config_x", "x")])
def test_experiment_named_by_a_config_is_a_plain_name(recipe: Path, repo: Path, config: str, name: str) -> None:
    (recipe / config).touch()
    assert options_of(recipe, repo, "run_005_eval", "--config-file", config)["experiment"] == name


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "a b", "-x", "a\nb"])
def test_experiment_that_is_no_plain_name_is_refused(recipe: Path, repo: Path, name: str) -> None:
    assert "experiment: expected letters, digits" in said_by(recipe, repo, "run_005_eval", f"--experiment={name}")


def said_by(recipe: Path, repo: Path, script: str, *args: str) -> str:
    call = ["bash", of_the_recipe(recipe, repo, script), *args]
    done = subprocess.run(call, cwd=recipe, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and not done.stdout
    return done.stderr


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("device", "tpu", "one of cpu cuda cuda:N"),
    ("device", "cuda:x", "one of cpu cuda cuda:N"),
    ("device", "", "one of cpu cuda cuda:N"),
    ("device", "*", "one of cpu cuda cuda:N"),
    ("speaker-detector", "energi", "one of energy"),
    ("engine", "tensorrt", "one of auto openvino onnxruntime torch mxnet"),
    ("precision", "fp8", "one of auto fp32 bf16 fp16"),
    ("embed-mirror", "both", "one of none concatenate sum"),
    ("primary-cost", "sre16", "one of sre19 sre21"),
    ("nj", "0", "a whole number from 1 on"),
    ("min-faces", "-1", "a whole number from 0 on"),
    ("det-window", "0", "a whole number from 1 on"),
    ("det-window", "2.5", "a whole number from 1 on"),
    ("fps", "0", "a number above 0"),
    ("fps", "0.0", "a number above 0"),
    ("max-duration-s", "-1", "a number above 0"),
    ("segment-timeout-s", "-0.5", "a number from 0 on"),
    ("det-threshold", "0", "a number above 0 and up to 1"),
    ("det-threshold", "1.000001", "a number above 0 and up to 1"),
    ("thr-ahc", "-1.5", "a number from -1 to 1"),
    ("thr-ahc", "1.5", "a number from -1 to 1"),
    ("thr-ahc", "", "a number from -1 to 1"),
    ("contact-sheet", "yes", "true or false"),
    ("exp-dir", "", "a folder"),
    ("data-dir", "", "a folder"),
    ("config-file", "", "a value"),
    ("cmd", "", "a value"),
])  # fmt: skip
def test_value_that_an_option_does_not_take_is_refused_by_name_wherever_it_stands(
    recipe: Path, repo: Path, name: str, value: str, expected: str
) -> None:
    message = f"expected {expected} for {name.replace('-', '_')}, found '{value}'\n"
    said = said_by(recipe, repo, "run_001_prepare_data", f"--{name}={value}")
    assert said == f"run_001_prepare_data.sh: command line: {message}"
    if name != "config-file":
        (recipe / "mine.sh").write_text(f"{name.replace('-', '_')}='{value}'\n")
        said = said_by(recipe, repo, "run_001_prepare_data", "--config-file", "mine.sh")
        assert said == f"run_001_prepare_data.sh: ./mine.sh: {message}"


@pytest.mark.parametrize(("name", "value"), [
    ("device", "cuda"), ("device", "cuda:12"), ("engine", "mxnet"), ("embed-mirror", ""), ("embed-mirror", "sum"),
    ("nj", "1"), ("min-faces", "0"), ("det-window", ""), ("det-window", "3"), ("fps", "0.000001"), ("fps", "30"),
    ("det-threshold", "1"), ("det-threshold", "0.05"), ("nms-threshold", "1.0"), ("thr-ahc", "-1"), ("thr-ahc", "0.0"),
    ("segment-timeout-s", "0"), ("max-pixels", "100000000000"), ("face-detector", ""), ("face-embedder", ""),
    ("sre21-partitions", ""), ("fusion-systems", "max exp/voice/scores/x"),
])  # fmt: skip
def test_value_that_an_option_takes_is_taken_as_it_is(recipe: Path, repo: Path, name: str, value: str) -> None:
    assert options_of(recipe, repo, "run_004_score", f"--{name}={value}")[name.replace("-", "_")] == value


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name < "run_01"])
def test_training_options_are_refused_where_nothing_is_trained(recipe: Path, repo: Path, script: str) -> None:
    assert "unknown option --train-lr; valid: " in said_by(recipe, repo, script, "--train-lr", "0.1")
    (recipe / "mine.sh").write_text("train_lr=0.1\n")
    said = said_by(recipe, repo, script, "--config-file", "mine.sh")
    assert "mine.sh:1: there is no variable 'train_lr'" in said


def test_trainings_take_the_shared_options_and_their_own(recipe: Path, repo: Path) -> None:
    embedder, detector = "run_010_train_face_embedder", "run_011_train_face_detector"
    first = options_of(recipe, repo, embedder, "--train-lr", "0.1", "--train-margin", "0.3", "--fps", "2")
    assert (first["train_lr"], first["train_margin"], first["train_batch"]) == ("0.1", "0.3", "400")
    assert options_of(recipe, repo, detector, "--train-held-out", "9")["train_batch"] == "32"
    assert "unknown option --train-margin" in said_by(recipe, repo, detector, "--train-margin", "0.3")
    assert "unknown option --train-sizes" in said_by(recipe, repo, embedder, "--train-sizes", "64")
    assert first["train_threads"] == str(len(os.sched_getaffinity(0)))


def test_usual_path_starts_no_process(recipe: Path, repo: Path) -> None:
    """With no PATH there is no other program, and in a subshell the trap would note it."""
    script = of_the_recipe(recipe, repo, "run_002_detect_faces")
    with open(recipe / script) as stage:
        text = stage.read().replace("set -euo pipefail\n", "set -euo pipefail\nset -T; PATH=\n", 1)
    (recipe / script).write_text("trap '((BASH_SUBSHELL == 0)) || echo $BASH_COMMAND >> subshells' DEBUG\n" + text)
    call = ["bash", script, "--config-file", "global_conf/config_demo.sh", "--nj", "2"]
    env = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
    done = subprocess.run(call, cwd=recipe, env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (recipe / "subshells").exists()
    with open(recipe / "global_conf/defaults.sh", "a") as defaults:
        defaults.write("other=$(echo 1)  # needs a process\n")
    subprocess.run(call, cwd=recipe, env=env, check=True, stdout=subprocess.DEVNULL, timeout=30)
    assert (recipe / "subshells").read_text() == "echo 1\n"


@pytest.mark.parametrize(("script", "first"), [("run_demo", "The whole recipe"), ("run_tests", "Every check of CI")])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_demo_and_tests_tells_what_they_do_and_runs_nothing(
    repo: Path, script: str, first: str, option: str
) -> None:
    done = subprocess.run([f"./{script}.sh", option], cwd=repo, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stdout.startswith(first) and "set -euo" not in done.stdout
    assert f"./{script}.sh" in done.stdout and "==" not in done.stdout


@pytest.mark.parametrize("script", ["run_demo", "run_tests"])
def test_unknown_option_of_demo_and_tests_is_refused_before_anything_runs(repo: Path, script: str) -> None:
    done = subprocess.run([f"./{script}.sh", "--detctor", "x"], cwd=repo, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and not done.stdout and "unknown option" in done.stderr
    assert "--detctor" in done.stderr


def stages_that_tell_their_options(recipe: Path, repo: Path) -> list[str]:
    """Put the stages, trainings included, into a recipe; returns their scripts."""
    scripts = sorted(path.name for path in repo.glob("run_0[0-9]*.sh"))
    for script in scripts:
        (recipe / script).write_text('#!/bin/bash\nprintf "<%s>" "$@"; echo\n')
        (recipe / script).chmod(0o755)
    return scripts


def test_demo_runs_the_stages_of_its_config_in_their_order_each_with_its_own_options(recipe: Path, repo: Path) -> None:
    of_the_recipe(recipe, repo, "run_demo")
    shutil.copy(repo / "run_demo.sh", recipe)
    stages_that_tell_their_options(recipe, repo)
    for name in ("one", "two"):
        (recipe / f"global_conf/config_train_{name}.sh").touch()
    (recipe / "global_conf/config_mine.sh").write_text('demo_stages="1 10:train_one 0 14:train_two 5"\n')
    given = ["--config-file", "global_conf/config_demo_clips.sh,global_conf/config_mine.sh", "--nj", "3"]
    done = subprocess.run(["bash", "run_demo.sh", *given], cwd=recipe, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    names = ("001_prepare_data", "010_train_face_embedder", "000_get_pretrained_models", "014_train_identifier")
    assert said[::2] == [f"== run_{name}.sh" for name in (*names, "005_eval")]
    for added, line in zip(("", "one", "", "two", ""), said[1::2], strict=True):
        own = f",global_conf/config_train_{added}.sh" if added else ""
        assert line == f"<{'><'.join(given)}><--config-file><{given[1]}{own}>"


def test_demo_gives_its_options_to_every_stage_and_takes_help_in_a_value_for_a_value(recipe: Path, repo: Path) -> None:
    of_the_recipe(recipe, repo, "run_demo")
    shutil.copy(repo / "run_demo.sh", recipe)
    stages = [name for name in stages_that_tell_their_options(recipe, repo) if name < "run_01"]
    given = ["--folder-key", "a --help b", "--nj=2"]
    done = subprocess.run(["bash", "run_demo.sh", *given], cwd=recipe, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    line = "<--folder-key><a --help b><--nj=2><--config-file><global_conf/config_demo.sh>"
    assert done.stdout.splitlines() == [text for stage in stages for text in (f"== {stage}", line)]
