"""Jobs in forks: what they share, and what becomes of one that dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from byte_step import ARCHIVES
from naive_decoder import write_video
from recipe import Recipe
from test_supervision import die, portrait

from vidperson.engines.processor import processor_features
from vidperson.errors import VidPersonError
from vidperson.io.merging import set_files
from vidperson.io.record import RECORD
from vidperson.supervision import Supervisor, run_supervised


def environment(repo: Path, **more: str) -> dict[str, str]:
    """Of a program of utils, as the stages call it."""
    path = f"{repo}/utils/bin:{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(repo), "VIDPERSON_PYTHON": sys.executable, "PATH": path, **more}


def byte_sets(repo: Path, work: Path, sets: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Make sets, out folder -> arguments of the step, with one call; each has two segments."""
    (work / "vid.scp").write_text("".join(f"s{n} {work}/{n}.bin\n" for n in range(2)))
    for number in range(2):
        (work / f"{number}.bin").write_bytes(bytes([number, 5]))
    words: list[str] = []
    for out, arguments in sets.items():
        words += [":::", "--archives", " ".join(ARCHIVES), "--states", "ok unreadable", *options, f"{work}/vid.scp"]
        words += [f"{work}/{out}", "--", "python", f"{work}/step.py", *arguments.split()]
    (work / "step.py").write_text(
        "import os, runpy, sys\nprint('process', os.getpid(), flush=True)\n"
        "if 'crash' in sys.argv:\n    os.abort()\n"
        f"sys.argv[0] = {str(repo / 'tests/byte_step.py')!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    call = [sys.executable, "utils/segment_jobs.py", *words]
    return subprocess.run(call, cwd=repo, env=environment(repo), capture_output=True, text=True, timeout=60)


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in (*set_files(ARCHIVES), RECORD)}


def processes(out: Path) -> set[str]:
    """The processes that ran the jobs of a set, by their logs."""
    lines = "".join(log.read_text() for log in (out / "log").glob("*.log")).splitlines()
    return {line for line in lines if line.startswith("process ")}


def test_two_sets_are_made_by_the_same_process_and_are_those_of_two_calls(repo: Path, tmp_path: Path) -> None:
    sets = {"one": "--times 1", "two": "--times 2"}
    together = byte_sets(repo, tmp_path, sets)
    assert together.returncode == 0, together.stderr
    assert f"{tmp_path}/one: 2 segments: 2 ok\n{tmp_path}/two: 2 segments: 2 ok\n" == together.stdout
    assert len(processes(tmp_path / "one") | processes(tmp_path / "two")) == 1
    found = {out: contents(tmp_path / out) for out in sets}
    for out, arguments in sets.items():
        (tmp_path / out).rename(tmp_path / f"{out} before")
        assert byte_sets(repo, tmp_path, {out: arguments}).returncode == 0
        assert contents(tmp_path / out) == found[out]
    again = byte_sets(repo, tmp_path, sets)
    assert again.stdout.count("done already: 2 segments: 2 ok") == 2


def test_set_with_a_job_that_dies_fails_with_its_log_and_the_other_set_is_written(repo: Path, tmp_path: Path) -> None:
    failed = byte_sets(repo, tmp_path, {"bad": "crash", "good": "--times 2"}, "--nj", "2")
    assert failed.returncode == 1
    assert f"run.py: 2 / 2 failed, logs are {tmp_path}/bad/log/1.log {tmp_path}/bad/log/2.log" in failed.stderr
    assert "was ended by SIGABRT before its first segment" in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "bad" / RECORD).exists() and (tmp_path / "good" / RECORD).exists()


def test_set_that_is_refused_leaves_those_before_it_done(repo: Path, tmp_path: Path) -> None:
    assert byte_sets(repo, tmp_path, {"one": "", "two": ""}).returncode == 0
    before = contents(tmp_path / "one")
    done = byte_sets(repo, tmp_path, {"new": "", "two": "crash"})  # other settings for the second
    assert done.returncode == 1 and "two was made with other settings" in done.stderr
    assert {name: data for name, data in contents(tmp_path / "new").items() if name != RECORD} == {
        name: data for name, data in before.items() if name != RECORD
    }


def test_set_that_reads_another_one_is_made_behind_it(repo: Path, tmp_path: Path) -> None:
    made = byte_sets(repo, tmp_path, {"first": ""})
    assert made.returncode == 0
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    first = [":::", "--archives", " ".join(ARCHIVES), f"{tmp_path}/vid.scp", f"{tmp_path}/first", "--", "python"]
    second = [*first[:-3], f"{tmp_path}/second", "--", "python"]
    second[1:1] = ["--per-segment", f"{tmp_path}/first"]
    words = [*first, f"{tmp_path}/step.py", *second, f"{tmp_path}/step.py"]
    call = [sys.executable, "utils/segment_jobs.py", *words]
    done = subprocess.run(call, cwd=repo, env=environment(repo), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "second" / RECORD).read_text())
    first_record = json.loads((tmp_path / "first" / RECORD).read_text())
    digests = {os.path.basename(path): digest for path, digest in record["inputs"].items() if "/first/" in path}
    assert digests == {name: output["sha256"] for name, output in first_record["outputs"].items()}


def test_slow_job_keeps_no_other_one_waiting(repo: Path, tmp_path: Path) -> None:
    """The first job of four ends when the others have ended: the other process has done all three."""
    for number in range(16):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]))
    (tmp_path / "vid.scp").write_text("".join(f"s{n:02d} {tmp_path}/{n}.bin\n" for n in range(16)))
    (tmp_path / "step.py").write_text(
        "import os, runpy, sys, time\nfrom pathlib import Path\nprint('process', os.getpid(), flush=True)\n"
        "job = Path(sys.argv[sys.argv.index('--output-dir') + 1])\ndeadline = time.monotonic() + 30\n"
        "def done():\n    return sum(path.read_text().count(chr(10)) for path in job.parent.glob('*/journal.jsonl'))\n"
        "while job.name == '1' and done() < 12:\n    assert time.monotonic() < deadline\n    time.sleep(0.02)\n"
        f"sys.argv[0] = {str(repo / 'tests/byte_step.py')!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    call = [
        sys.executable, "utils/segment_jobs.py", "--nj", "2", "--archives", " ".join(ARCHIVES), f"{tmp_path}/vid.scp",
        f"{tmp_path}/out", "--", "python", f"{tmp_path}/step.py",
    ]  # fmt: skip
    done = subprocess.run(call, cwd=repo, env=environment(repo), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    logs = [(tmp_path / "out" / "log" / f"{job}.log").read_text() for job in (1, 2, 3, 4)]
    first, *others = [re.findall("^process .*", log, re.MULTILINE) for log in logs]
    assert others[0] == others[1] == others[2] != first and len(first) == 1


def test_supervisor_does_tasks_in_one_process_and_in_another_one_behind_a_crash(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    def do(task: str) -> int:
        with open(notes, "a") as stream:
            stream.write(f"{task} {os.getpid()}\n")
        if task == "crash":
            run_supervised(lambda watch: (watch.begin("x"), die(signal.SIGABRT)()), note_loss, None)
        if task == "hang":
            run_supervised(lambda watch: (watch.begin("y"), os.read(os.pipe()[0], 1)), note_loss, 0.2)
        return 7 if task == "seven" else 0

    def note_loss(segment: str, why: str) -> None:
        with open(notes, "a") as stream:
            stream.write(f"lost {segment} {why}\n")
        os._exit(0)  # the task needs no end

    with Supervisor(do) as supervisor:
        assert [supervisor.run(task) for task in ("a", "seven")] == [0, 7]
        for task in ("crash", "hang"):
            with pytest.raises(VidPersonError, match="ended with exit code 0"):
                supervisor.run(task)
        assert supervisor.run("b") == 0
    lines = [line.split(maxsplit=1) for line in notes.read_text().splitlines()]
    pids = [pid for task, pid in lines if task != "lost"]
    assert [task for task, _ in lines] == [
        "a", "seven", "crash", "crash", "crash", "lost", "hang", "hang", "lost", "b"
    ]  # fmt: skip
    assert pids[0] == pids[1] == pids[2] and len(set(pids)) == 6
    assert lines[5][1] == "x the process that decodes it died of SIGABRT"
    assert lines[8][1] == "y not done after 0.2 s (segment_timeout_s)"


def test_openvino_is_imported_without_its_converter_which_is_there_when_it_is_asked_for(repo: Path) -> None:
    code = (
        "import sys\nimport vidperson.engines.openvino_engine\nimport openvino\n"
        "assert 'openvino.tools.ovc' not in sys.modules and 'urllib.request' not in sys.modules\n"
        "assert not hasattr(openvino, 'no_such_thing')\n"
        "from openvino import convert_model\nassert callable(openvino.convert_model)\nimport openvino.tools.ovc\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repo, env=environment(repo), check=True)


@pytest.fixture(scope="module")
def clip(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe with one set of one clip, and the shipped networks."""
    work = tmp_path_factory.mktemp("clip")
    data = work / "data" / "clip"
    data.mkdir(parents=True)
    write_video(work / "clip.mp4", (portrait(number) for number in range(12)))
    for name, value in (("vid.scp", work / "clip.mp4"), ("utt2spk", "c1"), ("spk2utt", "c1")):
        (data / name).write_text(f"c1 {value}\n")
    recipe = Recipe(repo, work, "demo")
    recipe.run("000_get_pretrained_models")
    return recipe


ONE = ("--trial-sets", "clip:clip", "--nj", "1")


def test_stages_2_and_3_in_one_call_give_the_files_of_two_calls(clip: Recipe) -> None:
    folders = [clip.faces("clip"), clip.embeddings("clip")]

    def files() -> dict[str, bytes]:
        names = (path for folder in folders for path in folder.iterdir() if path.is_file() and path.name != ".lock")
        return {str(path): path.read_bytes() for path in names}

    clip.run("002_detect_faces", *ONE)
    clip.run("003_extract_embeddings", *ONE)
    two = files()
    assert len(two) > 15
    for folder in folders:
        folder.rename(f"{folder} before")
    clip.run("002_detect_faces", *ONE, "--stop-stage", "3")
    assert files() == two
    assert json.loads((folders[1] / RECORD).read_text())["stage"] == "./run_003_extract_embeddings.sh"
    computed_in = "bf16" if any("bf16" in feature for feature in processor_features()) else "fp32"
    for folder, precision in zip(folders, ("fp32", computed_in), strict=True):  # what auto was, is in the record
        assert f"--precision {precision}" in " ".join(json.loads((folder / RECORD).read_text())["command"])
    again = clip.run("002_detect_faces", *ONE, "--stop-stage", "3").stdout
    assert again.count("done already") == 2 and "(./run_003_extract_embeddings.sh --force true" in again


def test_stage_that_finds_all_done_starts_one_python_program_without_numpy(clip: Recipe) -> None:
    clip.run("002_detect_faces", *ONE)
    call = clip.command("002_detect_faces", *ONE)
    traced = {**clip.environment, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(call, cwd=clip.root, env=traced, capture_output=True, text=True, timeout=60)
    assert "done already" in done.stdout
    modules = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert modules.count("vidperson.io.merging") == 1 and "numpy" not in modules
