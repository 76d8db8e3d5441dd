"""Kill stages 2 and 3 at random moments, run them again, and compare every byte with an undisturbed run.

Inputs:  a folder of videos or pictures, each one a segment. The networks are those that ship with the project.
Outputs: a Markdown table per stage; exit status 1 when a segment was lost or doubled, or a byte differs.

Each run is killed several times, with SIGKILL to the stage and all that it started, at moments drawn from the time that
an undisturbed run takes; then it is left to end. Every run has a number of jobs of its own.

Example:
  python benchmarks/faults.py --videos /corpora/grid --kills 30 --work-dir exp/faults
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli

ROOT = Path(__file__).resolve().parents[1]
DETECTOR, EMBEDDER, SET = "retinaface_tiny", "arcface_tiny", "clips"
STAGES = {
    "002_detect_faces": Path("face_det", DETECTOR, SET),
    "003_extract_embeddings": Path("face_embed", EMBEDDER, SET),
}
OUTPUTS = ("*.ark", "*.scp", "*.tar", "status", "journal.jsonl")
PATIENCE_S = 600.0


@dataclass
class Outcome:
    """Of one stage. at_work: kills that met the stage at work; the others came after its end."""

    stage: str
    segments: int
    kills: int = 0
    at_work: int = 0
    runs: int = 0
    lost: int = 0
    doubled: int = 0
    files_that_differ: int = 0

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.files_that_differ)


def faults(videos: str, kills: int, kills_per_run: int, seed: int, work_dir: str | None) -> None:
    """Print the table and leave with the outcome."""
    print("| stage | segments | kills | of these at work | runs compared | lost | doubled | files that differ |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    good = True
    with work_folder(work_dir) as work:
        for outcome in campaign(Path(videos), kills, kills_per_run, seed, work):
            print("|", " | ".join(map(str, vars(outcome).values())), "|", flush=True)
            good &= outcome.good
    if not good:
        sys.exit(1)


def campaign(videos: Path, kills: int, kills_per_run: int, seed: int, work: Path) -> Iterator[Outcome]:
    """Kill each stage ``kills`` times. work: an empty folder."""
    files = sorted(path for path in videos.iterdir() if path.is_file())
    prepare(work, {f"clip{number:03d}": path for number, path in enumerate(files)})
    rng = random.Random(seed)
    for stage in STAGES:
        yield kill_stage(stage, work, kills, kills_per_run, rng)


def kill_stage(stage: str, work: Path, kills: int, kills_per_run: int, rng: random.Random) -> Outcome:
    """The undisturbed run, whose outputs stay for the next stage, then those that are killed."""
    folder = work / "exp" / STAGES[stage]
    begin = time.monotonic()
    run_stage(stage, work, nj=2)
    usual_s = time.monotonic() - begin
    expected, segments = digests(folder), (folder / "status").read_text().splitlines()
    outcome = Outcome(stage, len(segments))
    while outcome.kills < kills:
        shutil.rmtree(folder)
        nj = rng.randint(1, 4)
        for _ in range(min(kills_per_run, kills - outcome.kills)):
            outcome.at_work += kill_at(rng.uniform(0, usual_s), stage, work, folder, nj)
            outcome.kills += 1
        run_stage(stage, work, nj)
        outcome.runs += 1
        found = Counter((folder / "status").read_text().splitlines())
        outcome.lost += sum(line not in found for line in segments)
        outcome.doubled += sum(count - 1 for count in found.values())
        now = digests(folder)
        outcome.files_that_differ += sum(now.get(name) != expected.get(name) for name in now | expected)
    return outcome


def kill_at(moment_s: float, stage: str, work: Path, folder: Path, nj: int) -> bool:
    """Start the stage and kill it so many seconds later. Returns whether it was at work still."""
    with open(work / "killed.log", "ab") as log:
        process = subprocess.Popen(
            command(stage, work, nj), cwd=ROOT, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        process.wait(moment_s)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also when somebody interrupts the campaign
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    at_work = process.wait() == -signal.SIGKILL
    if (folder / ".lock").exists():  # the jobs hold it until they have followed their launcher
        subprocess.run(["flock", "-w", str(int(PATIENCE_S)), str(folder / ".lock"), "true"], check=True)
    return at_work


def run_stage(stage: str, work: Path, nj: int, *options: str) -> None:
    """Raises SystemExit with what the stage said when it fails."""
    run = subprocess.run(
        [*command(stage, work, nj), *options], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    if run.returncode:
        sys.exit(f"run_{stage}.sh ended with {run.returncode}:\n{run.stdout[-4000:]}\n{run.stderr[-4000:]}")


def command(stage: str, work: Path, nj: int) -> list[str]:
    return [
        f"./run_{stage}.sh", "--config-file", "global_conf/config_demo.sh", "--contact-sheet", "false", "--nj", str(nj),
        "--data-dir", f"{work}/data", "--exp-dir", f"{work}/exp", "--trial-sets", f"{SET}:{SET}",
        "--face-detector", DETECTOR, "--face-embedder", EMBEDDER,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "VIDPERSON_PYTHON": sys.executable}


def prepare(work: Path, files: dict[str, Path]) -> None:
    """A data folder of these segments, and the networks."""
    from vidperson.corpora.data_folder import Segment, write_data_folder
    from vidperson.networks.install import install_model

    write_data_folder(work / "data" / SET, [Segment(name, path.resolve(), name) for name, path in files.items()])
    for network in (DETECTOR, EMBEDDER):
        install_model(network, work / "exp" / "face_models")


def digests(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of each output of a stage, and what its record says of command, inputs and outputs."""
    paths = [path for pattern in OUTPUTS for path in folder.glob(pattern)]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    if (folder / "record.json").exists():
        record = json.loads((folder / "record.json").read_text())
        found["record.json"] = json.dumps({**record, "options": {}})  # the number of jobs is one of them
    return found


@contextmanager
def work_folder(path: str | None) -> Iterator[Path]:
    """A new folder in ``path``, or the system's place for temporary files; removed in the end."""
    if path is not None:
        Path(path).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path) as folder:
        yield Path(folder).resolve()


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--videos", required=True, help="folder of videos or pictures")
    parser.add_argument("--kills", type=cli.whole(1), default=30, help="kills per stage")
    parser.add_argument("--kills-per-run", type=cli.whole(1), default=3, help="kills before a run is left to end")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and numbers of jobs")
    parser.add_argument("--work-dir", help="folder for temporary files; default: the system's")
    cli.main(faults, parser.parse_args())
