"""What the steps' command lines share."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vidperson import cli
from vidperson.errors import DataError
from vidperson.progress import Progress, format_duration

ROOT = Path(__file__).parents[1]
STEPS = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob("steps*/*.py") if "__main__" in path.read_text(encoding="utf-8")
)


RunStep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_step(repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunStep:
    """Runs a step as a command line does, in this process."""

    def run(step: str, *options: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(repo)
        monkeypatch.setattr(sys, "argv", [step, *options])
        code: object = 0
        try:
            runpy.run_path(step, run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        message, status = (f"{code}\n", 1) if isinstance(code, str) else ("", code or 0)
        assert isinstance(status, int)
        return subprocess.CompletedProcess(sys.argv, status, shown.out, shown.err + message)

    return run


@pytest.mark.parametrize("step", STEPS)
def test_help_of_every_step_shows_inputs_outputs_and_an_example_that_its_parser_takes(
    run_step: RunStep, step: str
) -> None:
    done = run_step(step, "--help")
    assert done.returncode == 0
    for part in ("Inputs:", "Output", "Example:"):
        assert part in done.stdout, part
    example = done.stdout.partition("Example:")[2].partition("options:")[0]
    assert step in example
    call = re.match(r"(.*\\\n)*.*", example.split(step)[1])  # to the end of the continued lines
    assert call
    for option in set(re.findall(r"--[a-z-]+", call[0])):
        assert re.search(rf"^\s+{option}\b", done.stdout, re.MULTILINE), option


@pytest.mark.parametrize("step", STEPS)
def test_unknown_option_of_every_step_is_refused_with_the_valid_ones(run_step: RunStep, step: str) -> None:
    done = run_step(step, "--no-such-option", "1")
    assert done.returncode == 2 and "valid options: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("step,options", [
    ("steps_face/extract_embeddings.py",
     ["--items-dir", "no/such", "--scp", "no/such", "--model", "no", "--output-dir", "{tmp}/out"]),
    ("steps/get_durations.py", ["--data-dir", "no/such"]),
    ("steps/get_models.py", ["--detector", "no_such_card", "--models-dir", "{tmp}/models"]),
])  # fmt: skip
def test_missing_input_of_a_step_gives_one_message_and_no_stack_trace(
    run_step: RunStep, tmp_path: Path, step: str, options: list[str]
) -> None:
    done = run_step(step, *(option.format(tmp=tmp_path) for option in options))
    assert done.returncode == 1 and "ERROR: " in done.stderr and "Traceback" not in done.stderr
    assert "no/such" in done.stderr or "no_such_card" in done.stderr or "run_000" in done.stderr


def in_own_process(repo: Path, step: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    command = [sys.executable, step, *options]
    return subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True, timeout=60)


def test_missing_input_of_a_step_with_a_child_process_gives_one_message(repo: Path, tmp_path: Path) -> None:
    """It forks, which is not safe in a process that has run other tests."""
    options = ["--scp", "no/such", "--model", "no/model", "--output-dir", f"{tmp_path}/out"]
    done = in_own_process(repo, "steps_face/detect_faces.py", *options)
    assert done.returncode == 1 and "ERROR: no/such" in done.stderr and "Traceback" not in done.stderr


def test_step_in_a_process_of_its_own_ends_as_it_does_in_this_one(repo: Path, run_step: RunStep) -> None:
    for options, status in ((["--help"], 0), (["--data-dir", "no/such"], 1), (["--no-such-option", "1"], 2)):
        done = in_own_process(repo, "steps/get_durations.py", *options)
        here = run_step("steps/get_durations.py", *options)
        assert (done.returncode, done.stdout, done.stderr) == (here.returncode, here.stdout, here.stderr)
        assert done.returncode == status


def test_shortened_option_is_refused() -> None:
    parser = cli.parser("doc")
    parser.add_argument("--max-size", type=int)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--max", "3"])
    assert stop.value.code == 2


def test_flag_takes_true_and_false_only() -> None:
    assert cli.flag("true") is True and cli.flag("false") is False
    with pytest.raises(argparse.ArgumentTypeError, match="expected true or false, found 'yes'"):
        cli.flag("yes")


@pytest.mark.parametrize("value", ["0", "-3", "1.5", "x", ""])
def test_whole_number_below_the_least_is_refused_with_both(value: str) -> None:
    assert cli.whole(1)("7") == 7 and cli.whole(0)("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match=f"from 1 on, found {value}"):
        cli.whole(1)(value)


@pytest.mark.parametrize("value", ["0", "1.01", "-0.5", "nan", "x"])
def test_share_outside_zero_to_one_is_refused_with_what_was_found(value: str) -> None:
    assert cli.share("1") == 1 and cli.share("0.4") == 0.4
    with pytest.raises(argparse.ArgumentTypeError, match=f"up to 1, found {value}"):
        cli.share(value)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x", ""])
def test_positive_number_that_is_not_is_refused_with_what_was_found(value: str) -> None:
    assert cli.positive("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match=f"above 0, found {value}"):
        cli.positive(value)


@pytest.mark.parametrize("value", ["-5", "-0.1", "nan", "inf", "x", ""])
def test_number_below_zero_or_none_is_refused_with_what_was_found(value: str) -> None:
    assert cli.not_negative("0") == 0 and cli.not_negative("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match=f"from 0 on, found {value}"):
        cli.not_negative(value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "x", ""])
def test_number_that_is_not_finite_is_refused_with_what_was_found(value: str) -> None:
    assert cli.finite("-0.5") == -0.5
    with pytest.raises(argparse.ArgumentTypeError, match=f"a finite number, found {value}"):
        cli.finite(value)


def test_seconds_below_zero_are_refused_by_the_step(run_step: RunStep) -> None:
    option = "--segment-timeout-s"
    done = run_step("steps_face/detect_faces.py", option, "-5")
    assert done.returncode == 2 and f"argument {option}: expected a number from 0 on, found -5" in done.stderr


def raise_error(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error,message", [
    (DataError("expected a, found b", "list.txt", 3), "ERROR: list.txt:3: expected a, found b"),
    (FileNotFoundError(2, "No such file or directory", "x.ark"), "ERROR: x.ark: No such file or directory"),
    (OSError(28, "No space left on device"), "ERROR: file: No space left on device"),
])  # fmt: skip
def test_error_that_a_user_can_cause_ends_the_step_with_its_message(error: Exception, message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(raise_error, argparse.Namespace(error=error))
    assert stop.value.code == message


def test_error_of_the_program_itself_keeps_its_stack_trace() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.main(raise_error, argparse.Namespace(error=ZeroDivisionError()))


@pytest.mark.parametrize(
    ("quiet", "to_file", "told"), [("", False, True), ("true", False, False), ("true", True, True)]
)
def test_quiet_step_says_warnings_only_but_files_get_all(tmp_path: Path, quiet: str, to_file: bool, told: bool) -> None:
    code = "import logging, argparse\nfrom vidperson import cli\n"
    code += "def f():\n    logging.info('by the way')\n    logging.warning('beware')\ncli.main(f, argparse.Namespace())"
    with open(tmp_path / "log", "w+") as log:
        stream = log if to_file else subprocess.PIPE
        environment = {**os.environ, "VIDPERSON_QUIET": quiet}
        done = subprocess.run([sys.executable, "-c", code], stderr=stream, env=environment, text=True)
        said = (tmp_path / "log").read_text() if to_file else done.stderr
    assert ("by the way" in said) == told and "beware" in said
    assert ("INFO" in said or "WARNING" in said) == told


def test_progress_prints_first_and_last_line_with_counts(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(3, "segments", done=1, every_s=1000)
    progress.step()
    progress.step()
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("progress 1/3 segments, ") and last.startswith("progress 3/3 segments, ")
    assert last.endswith("0:00:00 left")


def test_progress_of_nothing_is_complete_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(0, "segments")
    assert capsys.readouterr().err.startswith("progress 0/0 segments")


def test_duration_is_written_in_hours_minutes_seconds() -> None:
    assert [format_duration(s) for s in (0, 59.9, 3661.2, 360000)] == ["0:00:00", "0:00:59", "1:01:01", "100:00:00"]


@dataclass(frozen=True)
class Where:
    device: str = cli.option("cpu", "where it runs", choices=("cpu", "cuda"))
    threads: int = cli.option(1, "threads", convert=cli.whole(1))


@dataclass(frozen=True)
class Options:
    """What a step takes."""

    scp: Path = cli.option(help="a list")
    names: list[str] = cli.option(help="some names")
    labels: Path | None = cli.option(None, "labels")
    mirror: bool = cli.option(False, "mirror")
    share: float = cli.option(0.5, "a share", convert=cli.share)
    sizes: list[int] = cli.option((1, 2), "sizes")
    where: Where = cli.group(Where)


def test_options_of_a_dataclass_have_its_types_defaults_and_groups() -> None:
    found = cli.parse(Options, "doc", ["--scp", "a b", "--names", "x", "y", "--mirror", "true", "--threads", "3"])
    assert found == Options(Path("a b"), ["x", "y"], None, True, 0.5, [1, 2], Where("cpu", 3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--names", "x"], "the following arguments are required: --scp\n"),
        (["--names", "x", "--spc=a"], "the following arguments are required: --scp; unknown: --spc=a\n"),
        (["--scp", "a", "--names", "x", "--mirror", "yes"], "expected true or false, found 'yes'"),
        (["--scp", "a", "--names", "x", "--share", "2"], "expected a number above 0 and up to 1, found 2"),
        (["--scp", "a", "--names", "x", "--threads", "0"], "expected a whole number from 1 on, found 0"),
        (["--scp", "a", "--names", "x", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["--scp", "a", "--names", "x", "--sizes", "1", "b"], "invalid int value: 'b'"),
        (["--scp", "a", "--names", "x", "--dev", "cpu"], "unrecognized arguments: --dev"),
    ],
)
def test_options_of_a_dataclass_that_are_wrong_are_refused_with_the_valid_ones(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse(Options, "doc", arguments)
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert words in shown and "valid options: --device --help --labels" in shown


def test_help_of_a_dataclass_shows_each_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parse(Options, "What it does.", ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "What it does." in shown and "--threads THREADS threads (default: 1)" in shown
    assert "--scp SCP a list --names" in shown


def test_options_filled_from_python_go_to_their_groups_and_the_others_keep_their_defaults() -> None:
    found = cli.fill(Options, scp=Path("a"), names=["x"], threads=3)
    assert found == Options(Path("a"), ["x"], None, False, 0.5, [1, 2], Where("cpu", 3))


def test_options_filled_from_python_that_no_group_has_or_that_lack_one_are_refused() -> None:
    with pytest.raises(TypeError, match="Options has no option treads"):
        cli.fill(Options, scp=Path("a"), names=["x"], treads=3)
    with pytest.raises(TypeError, match="'scp'"):
        cli.fill(Options, names=["x"])


@dataclass(frozen=True)
class Choosy:
    number: int = cli.option(1, "a number")

    def __post_init__(self) -> None:
        if self.number > 5:
            raise DataError(f"number: expected 5 at most, found {self.number}")


def test_options_that_refuse_their_values_end_the_step_with_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["step.py", "--number", "7"])
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda options: None, Choosy, "doc")
    assert stop.value.code == "ERROR: number: expected 5 at most, found 7"
