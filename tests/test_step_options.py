"""Values that the steps refuse before they begin, each named as its option."""

from __future__ import annotations

from typing import Any

import pytest

from steps_face import detect_faces
from steps_face.detect_faces import DetectOptions, selection_policy
from vidperson import cli
from vidperson.face.selection import SelectionPolicy
from vidperson.media.limits import Limits

REQUIRED = ["--scp", "vid.scp", "--model", "network", "--output-dir", "out"]


def refusal(options: type, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line says before it leaves with status 2."""
    with pytest.raises(SystemExit) as stop:
        cli.parse(options, "doc", arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--fps", "0", "expected a number above 0, found 0"),
        ("--fps", "-1", "expected a number above 0, found -1"),
        ("--fps", "nan", "expected a number above 0, found nan"),
        ("--label-unit", "minutes", "invalid choice: 'minutes'"),
        ("--det-window", "4", "expected an odd number of frames, found 4"),
        ("--det-window", "0", "expected a whole number from 1 on, found 0"),
        ("--max-size", "0", "expected a whole number from 1 on, found 0"),
        ("--det-batch", "1.5", "expected a whole number from 1 on, found 1.5"),
        ("--det-scales", "0.5 x", "expected a number above 0, found x"),
        ("--det-scales", "1 11", "expected factors up to 10, found 1 11"),
        ("--det-mirror", "yes", "expected true or false, found 'yes'"),
        ("--nms-threshold", "1.5", "expected a number above 0 and up to 1, found 1.5"),
        ("--det-threshold", "0", "expected a number above 0 and up to 1, found 0"),
        ("--min-faces", "-1", "expected a whole number from 0 on, found -1"),
        ("--max-centre-distance", "-1", "expected a number from 0 on, found -1"),
        ("--discard-low-quality", "no", "expected true or false, found 'no'"),
        ("--max-pixels", "0", "expected a whole number from 1 on, found 0"),
        ("--max-duration-s", "0", "expected a number above 0, found 0"),
        ("--segment-timeout-s", "-5", "expected a number from 0 on, found -5"),
        ("--engine", "tensorrt", "invalid choice: 'tensorrt'"),
        ("--device", "gpu", "expected cpu, cuda or cuda:<number>, found gpu"),
        ("--precision", "int8", "invalid choice: 'int8'"),
        ("--threads", "0", "expected a whole number from 1 on, found 0"),
    ],
)
def test_bad_value_of_stage_2_is_refused_by_the_name_of_its_option(
    option: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"argument {option}: {expected}" in refusal(DetectOptions, [*REQUIRED, option, value], capsys)


def test_check_refuses_wrong_options_and_does_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the list nor the network is there: with --check they are not opened."""

    def no_work(*given: Any) -> None:
        raise AssertionError("the step began")

    monkeypatch.setattr(detect_faces, "detect_faces", no_work)
    detect_faces.detect_faces_supervised(cli.parse(DetectOptions, "doc", [*REQUIRED, "--check", "true"]))


def test_defaults_of_stage_2_are_those_of_the_package() -> None:
    options = cli.fill(DetectOptions, scp="a", model="b", output_dir="c")
    assert selection_policy(options) == SelectionPolicy()
    assert Limits(options.limits.max_pixels, options.limits.max_duration_s) == Limits()
    assert options.detector.det_scales == [1.0] and options.sampling.fps == 1
