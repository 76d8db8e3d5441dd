"""path.sh and utils/make_env.sh with a stand-in for Python and pip, and with VIDPERSON_PYTHON."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A python3 that can make an "environment" (a copy of itself) and "install" (notes what it is asked for).
FAKE_PYTHON = """#!/bin/bash
case "$*" in
  "-c import os, sys"*) [ "${0##*/}" = "${OLD_PYTHON:-}" ] && exit 1; echo "$0" ;;
  "-c import sys"*) exit 0 ;;
  "-V") echo "Python ${FAKE_VERSION:-3.12.1}" ;;
  "-m venv .venv") echo "venv with ${0##*/}" >> calls; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m venv .venv-mxnet")
    echo "mxnet venv with ${0##*/}" >> calls; mkdir -p .venv-mxnet/bin; cp "$0" .venv-mxnet/bin/python ;;
  "-m venv .venv-bench")
    echo "bench venv with ${0##*/}" >> calls; mkdir -p .venv-bench/bin; cp "$0" .venv-bench/bin/python ;;
  "-m pip --version") exit 0 ;;
  "-m pip install "*)
    shift 4
    echo "pip $*" >> calls
    while [ -f slow ]; do sleep 0.05; done
    exit "${PIP_STATUS:-0}" ;;
  *) echo "fake python: $*" >&2; exit 3 ;;
esac
"""
ALL = ["python3", *(f"python3.{minor}" for minor in range(11, 15))]
SOURCE = "set -euo pipefail; . ./path.sh; "


@pytest.fixture
def recipe(tmp_path: Path, repo: Path) -> Path:
    root = tmp_path / "re cipe"
    shutil.copytree(repo / "utils", root / "utils", symlinks=True)
    shutil.copy(repo / "path.sh", root)
    (root / "requirements").mkdir()
    for name in ("base", "demo", "torch", "mxnet", "bench"):
        (root / "requirements" / f"{name}.txt").write_text(f"{name}==1\n")
    (tmp_path / "bin").mkdir()
    for name in ALL:
        (tmp_path / "bin" / name).write_text(FAKE_PYTHON)
        (tmp_path / "bin" / name).chmod(0o755)
    return root


def start(recipe: Path, command: str = "true", source: str = SOURCE, **variables: str) -> subprocess.Popen[str]:
    environment = {"PATH": f"{recipe.parent / 'bin'}:/usr/bin:/bin", "HOME": "", **variables}
    call = ["bash", "-c", source + command]
    return subprocess.Popen(
        call, cwd=recipe, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def source(recipe: Path, command: str = "true", **variables: str) -> tuple[int, str, str]:
    process = start(recipe, command, **variables)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def calls(recipe: Path) -> list[str]:
    """What the stand-in was asked for since the last time."""
    path = recipe / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.replace("--disable-pip-version-check ", "").replace("requirements/", "") for line in lines]


MADE = ["venv with python3", "pip -r base.txt"]


def test_path_first_use_makes_the_environment_and_the_second_calls_nothing(recipe: Path) -> None:
    status, _, err = source(recipe)
    assert (status, calls(recipe)) == (0, MADE)
    assert "installing requirements (base) into .venv" in err
    assert source(recipe, "command -v python") == (0, f"{recipe}/.venv/bin/python\n", "")
    assert calls(recipe) == []


def test_path_exports_what_the_scripts_rely_on(recipe: Path) -> None:
    source(recipe)
    shown = 'echo "$LC_ALL|$PYTHONPATH|$OMP_NUM_THREADS"'
    assert source(recipe, shown)[1] == f"C.UTF-8|{recipe}/utils/lib|1\n"
    assert source(recipe, shown, OMP_NUM_THREADS="4", LC_ALL="de_DE")[1] == f"C.UTF-8|{recipe}/utils/lib|4\n"


def test_path_sourced_twice_puts_its_folder_on_path_once(recipe: Path) -> None:
    source(recipe)
    _, out, _ = source(recipe, '. ./path.sh; bash -c ". ./path.sh; echo \\$PATH"')
    assert out == f"{recipe}/.venv/bin:{recipe.parent}/bin:/usr/bin:/bin\n"


def test_path_extra_is_added_and_stays(recipe: Path) -> None:
    source(recipe)
    calls(recipe)
    assert source(recipe, VIDPERSON_EXTRAS="demo")[0] == 0
    assert calls(recipe) == ["pip -r base.txt -r demo.txt"]
    for extras in ("", "demo"):
        source(recipe, VIDPERSON_EXTRAS=extras)
        assert calls(recipe) == []
    source(recipe, VIDPERSON_EXTRAS="torch")
    assert sorted(calls(recipe)[0].split()[2::2]) == ["base.txt", "demo.txt", "torch.txt"]
    source(recipe, VIDPERSON_EXTRAS="demo torch")
    assert calls(recipe) == []


def test_path_changed_pins_are_installed_with_the_extras_that_are_there(recipe: Path) -> None:
    source(recipe, VIDPERSON_EXTRAS="demo")
    calls(recipe)
    (recipe / "requirements" / "torch.txt").write_text("torch==2\n")
    source(recipe)
    assert calls(recipe) == []  # torch is not installed: its pins do not matter
    (recipe / "requirements" / "demo.txt").write_text("demo==2\n")
    source(recipe)
    assert calls(recipe) == ["pip -r base.txt -r demo.txt"]
    source(recipe)
    assert calls(recipe) == []


def test_path_unknown_extra_is_refused_with_the_valid_ones(recipe: Path) -> None:
    status, _, err = source(recipe, "echo on", VIDPERSON_EXTRAS="deom")
    assert status == 1
    assert "unknown extra 'deom'; valid: demo torch dev mxnet bench" in err
    assert calls(recipe) == []


def wait_for_pip(recipe: Path) -> None:
    deadline = time.monotonic() + 20
    path = recipe / "calls"
    while not (path.exists() and "pip" in path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("first", ["base", "update"])
def test_path_killed_while_installing_is_made_anew_with_all_extras(recipe: Path, first: str) -> None:
    if first == "update":
        source(recipe, VIDPERSON_EXTRAS="torch")
        calls(recipe)
    (recipe / "slow").touch()
    process = start(recipe, VIDPERSON_EXTRAS="demo")
    wait_for_pip(recipe)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    (recipe / "slow").unlink()
    (recipe / ".venv" / "left_over").touch()
    calls(recipe)
    assert source(recipe)[0] == 0
    venv, pip = calls(recipe)
    assert venv == "venv with python3"
    assert sorted(pip.split()[2::2]) == ["base.txt", "demo.txt"] + (["torch.txt"] if first == "update" else [])
    assert not (recipe / ".venv" / "left_over").exists()


def test_path_two_shells_at_once_install_once(recipe: Path) -> None:
    (recipe / "slow").touch()
    processes = [start(recipe, "command -v python") for _ in range(2)]
    wait_for_pip(recipe)
    time.sleep(0.3)  # the other one is waiting by now
    (recipe / "slow").unlink()
    for process in processes:
        out, _ = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, f"{recipe}/.venv/bin/python\n")
    assert calls(recipe) == MADE


def test_path_failed_installation_fails_and_is_tried_again(recipe: Path) -> None:
    status, out, err = source(recipe, "echo on", PIP_STATUS="1")
    assert (status, out) == (1, "")
    assert "the installation failed" in err
    calls(recipe)
    assert source(recipe)[0] == 0
    assert calls(recipe) == MADE


def test_path_moved_folder_gets_a_new_environment(recipe: Path) -> None:
    source(recipe, VIDPERSON_EXTRAS="demo")
    calls(recipe)
    moved = recipe.rename(recipe.parent / "moved")
    source(moved)
    assert calls(moved) == ["venv with python3", "pip -r base.txt -r demo.txt"]


def test_path_folder_entered_by_a_link_keeps_the_environment(recipe: Path) -> None:
    source(recipe)
    calls(recipe)
    (recipe.parent / "link").symlink_to(recipe)
    for come in (f"cd '{recipe.parent}/link'; . ./path.sh; ", f"cd '{recipe.parent}/link'; . '{recipe}/path.sh'; "):
        process = start(recipe, "command -v python", come)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, f"{recipe.parent}/link/.venv/bin/python\n", "")
    assert source(recipe)[0] == 0
    assert calls(recipe) == []


def test_path_interpreter_of_another_version_gets_a_new_environment(recipe: Path) -> None:
    source(recipe)
    calls(recipe)
    source(recipe, FAKE_VERSION="3.13.0")
    assert calls(recipe) == MADE


def test_path_environment_made_by_hand_is_completed_not_removed(recipe: Path) -> None:
    (recipe / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(recipe.parent / "bin" / "python3", recipe / ".venv" / "bin" / "python")
    assert source(recipe)[0] == 0
    assert calls(recipe) == ["pip -r base.txt"]


def test_path_default_interpreter_too_old_takes_the_next_that_will_do(recipe: Path) -> None:
    (recipe.parent / "bin" / "python3.14").write_text("#!/bin/bash\nexit 127\n")  # as a version manager's shim
    assert source(recipe, OLD_PYTHON="python3")[0] == 0
    assert calls(recipe) == ["venv with python3.13", "pip -r base.txt"]


def test_path_no_interpreter_new_enough_says_so(recipe: Path) -> None:
    for name in ALL:
        (recipe.parent / "bin" / name).write_text("#!/bin/bash\nexit 1\n")
    status, out, err = source(recipe, "echo on")
    assert (status, out) == (1, "")
    assert "no Python 3.11 or newer among python3 python3.14 python3.13 python3.12 python3.11" in err


def test_path_sourced_elsewhere_says_where_to_go(recipe: Path, tmp_path: Path) -> None:
    result = subprocess.run(["bash", "-c", f". '{recipe}/path.sh'"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"run the recipe's scripts from the repository root: cd '{recipe}'" in result.stderr


def test_path_given_interpreter_is_used_as_it_is_and_nothing_is_made(recipe: Path) -> None:
    command = 'for p in python python3; do $p -c "import sys, numpy; print(sys.executable)"; done'
    status, out, err = source(recipe, command, VIDPERSON_PYTHON=sys.executable)
    assert (status, out, err) == (0, f"{sys.executable}\n" * 2, "")
    assert not (recipe / ".venv").exists()


def test_path_given_interpreter_by_name_does_not_call_itself(recipe: Path) -> None:
    link = recipe.parent / "bin" / "python"
    link.write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    link.chmod(0o755)
    nested = "bash -c \". ./path.sh; VIDPERSON_PYTHON=python; . ./path.sh; python -c 'print(5)'\""
    assert source(recipe, nested, VIDPERSON_PYTHON="python") == (0, "5\n", "")


def test_path_given_interpreter_that_is_not_there_is_refused(recipe: Path) -> None:
    status, out, err = source(recipe, "echo on", VIDPERSON_PYTHON="/no/such/python")
    assert (status, out, err) == (1, "", "VIDPERSON_PYTHON=/no/such/python: no such program\n")


def test_path_given_interpreter_without_the_packages_is_refused_naming_them(recipe: Path) -> None:
    bare = recipe.parent / "bare"
    bare.write_text(f'#!/bin/bash\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    status, out, err = source(recipe, "echo on", VIDPERSON_PYTHON=str(bare))
    assert (status, out) == (1, "")
    assert "cannot import numpy, av, cv2, kaldiio, orjson, yaml, matplotlib; install what requirements/ pins" in err
    assert "skimage" in source(recipe, VIDPERSON_PYTHON=str(bare), VIDPERSON_EXTRAS="demo")[2]


MXNET = ["mxnet venv with python3", "pip -r .venv-mxnet/requirements.txt"]


def make(recipe: Path, *extras: str, **variables: str) -> tuple[int, str]:
    process = start(recipe, f"utils/make_env.sh {' '.join(extras)}", "", **variables)
    err = process.communicate(timeout=30)[1]
    return process.returncode, err


def mxnet_pins(recipe: Path) -> str:
    return (recipe / ".venv-mxnet" / "requirements.txt").read_text()


def test_mxnet_gets_an_environment_of_its_own_once(recipe: Path) -> None:
    status, err = make(recipe, "mxnet")
    assert (status, calls(recipe)) == (0, MXNET)
    assert "installing requirements (mxnet) into .venv-mxnet" in err
    assert mxnet_pins(recipe) == "mxnet==1\n" and not (recipe / ".venv").exists()
    assert make(recipe, "mxnet") == (0, "") and calls(recipe) == []
    (recipe / "requirements" / "mxnet.txt").write_text("mxnet==2\n")
    assert make(recipe, "mxnet")[0] == 0
    assert (calls(recipe), mxnet_pins(recipe)) == (MXNET[1:], "mxnet==2\n")


def test_mxnet_beside_other_extras_makes_both_environments(recipe: Path) -> None:
    assert source(recipe, VIDPERSON_EXTRAS="mxnet demo")[0] == 0
    assert calls(recipe) == ["venv with python3", "pip -r base.txt -r demo.txt", *MXNET]
    assert source(recipe, VIDPERSON_EXTRAS="mxnet")[0] == 0
    assert calls(recipe) == []


def test_peers_to_measure_get_an_environment_of_their_own_once(recipe: Path) -> None:
    assert make(recipe, "bench")[0] == 0
    assert calls(recipe) == ["bench venv with python3", "pip -r bench.txt"] and not (recipe / ".venv").exists()
    assert make(recipe, "bench") == (0, "") and calls(recipe) == []
    assert make(recipe, "demo", "bench", "mxnet")[0] == 0
    assert calls(recipe) == ["venv with python3", "pip -r base.txt -r demo.txt", *MXNET]


def test_mxnet_for_gpus_takes_the_place_of_the_one_for_the_cpu_and_stays(recipe: Path) -> None:
    make(recipe, "mxnet")
    calls(recipe)
    assert make(recipe, "mxnet", VIDPERSON_MXNET="mxnet-cu102")[0] == 0
    assert (calls(recipe), mxnet_pins(recipe)) == (MXNET, "mxnet-cu102==1\n")
    assert make(recipe, "mxnet") == (0, "") and calls(recipe) == []
    assert make(recipe, "mxnet", VIDPERSON_MXNET="mxnet")[0] == 0
    assert (calls(recipe), mxnet_pins(recipe)) == (MXNET, "mxnet==1\n")


def test_mxnet_package_unknown_is_refused_with_the_valid_ones(recipe: Path) -> None:
    status, err = make(recipe, "mxnet", VIDPERSON_MXNET="mxnet-cu112")
    assert (status, calls(recipe)) == (1, [])
    assert "VIDPERSON_MXNET: expected mxnet or mxnet-cu102, found 'mxnet-cu112'" in err


def test_mxnet_installation_that_failed_is_made_anew_with_the_same_package(recipe: Path) -> None:
    assert make(recipe, "mxnet", VIDPERSON_MXNET="mxnet-cu102", PIP_STATUS="1")[0] == 1
    calls(recipe)
    assert make(recipe, "mxnet")[0] == 0
    assert (calls(recipe), mxnet_pins(recipe)) == (MXNET, "mxnet-cu102==1\n")


def test_mxnet_without_a_python_that_it_runs_on_says_which_ones(recipe: Path) -> None:
    for minor in range(8, 12):
        path = recipe.parent / "bin" / f"python3.{minor}"
        path.write_text("#!/bin/bash\nexit 1\n")
        path.chmod(0o755)
    status, err = make(recipe, "mxnet", OLD_PYTHON="python3")
    assert status == 1
    assert "no Python 3.8 to 3.11 among python3 python3.11 python3.10 python3.9 python3.8" in err
    assert "VIDPERSON_MXNET_PYTHON" in err and not (recipe / ".venv-mxnet").exists()


def test_path_repository_with_a_colon_in_its_path_is_refused(recipe: Path) -> None:
    moved = recipe.rename(recipe.parent / "re:cipe")
    status, out, err = source(moved, "echo on")
    assert (status, out, calls(moved)) == (1, "", [])
    assert f"expected no ':' in the repository's path, since it separates folders in PATH, found '{moved}'" in err


OWN_FILES = ("numpy", "types", "queue", "socket", "cv2", "torch", "utils", "vidperson", "data_dir")
CALLS = {
    "a program of the package": "python -m vidperson.io.data_dir validate --help > /dev/null",
    "a line of Python": "python -c 'import numpy, queue, types, vidperson.io.matrices'",
    "a script": "mkdir -p steps; echo 'import queue; import vidperson.io.matrices' > steps/x.py; python steps/x.py",
    "the launchers": "for name in run slurm queue; do utils/$name.py --help > /dev/null; done",
    "a job": "utils/run.py x.log python -c 'import numpy, queue, vidperson.io.matrices'",
    "a task of a grid": "{ python utils/grid_task.py 2>&1 || true; } | grep -q 'list index out of range'",
    "a process for each of several": "echo 'import multiprocessing as m, numpy, queue\n"
    'if __name__ == "__main__": m.get_context("spawn").Pool(1).map(abs, [1])\' > x.py; python x.py',
}


@pytest.mark.parametrize("call", CALLS)
def test_path_files_of_the_user_in_the_root_hide_no_module(recipe: Path, repo: Path, call: str) -> None:
    (recipe / "vidperson").symlink_to(repo / "vidperson")
    for name in OWN_FILES:
        (recipe / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of the user')\n")
    status, out, err = source(recipe, CALLS[call], VIDPERSON_PYTHON=sys.executable)
    assert (status, out, err) == (0, "", "")


def test_path_python_options_of_the_user_do_not_reach_the_recipe(recipe: Path) -> None:
    command = "python -c 'import sys; print(sys.flags.optimize, __debug__, bool(sys.__doc__))'; utils/run.py --help"
    status, out, err = source(recipe, command, VIDPERSON_PYTHON=sys.executable, PYTHONOPTIMIZE="2")
    assert (status, err) == (0, "") and out.startswith("0 True True\nRun a command")
