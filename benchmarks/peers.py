"""CPU seconds of whole commands beside those of other programs on the same networks and videos, on one core.

Inputs:  a clip with faces, of which the videos are made; --videos puts videos of your own in the place of some.
         Networks that do not ship are looked for in VIDPERSON_MODEL_DIR.
Outputs: Markdown tables: CPU seconds of our stages 2 and 3 and of InsightFace, with all processes that they start, the
         faces that each finds and how well their embeddings agree; then scoring beside scikit-learn and FAISS.

Every figure is the median of --repeat rounds, in which the programs take turns. The peers are installed apart, by
`utils/make_env.sh bench`; the rows of those that are not there say so. So does the row of an option that our stages do
not have. Another program, or another option of ours, is a line in PROGRAMS.

Example:
  python benchmarks/peers.py --clip talk.mp4 --videos "two talks" talk.mp4 other.mp4 --split true
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.faults import work_folder
from vidperson import cli
from vidperson.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
BOTH_STAGES = ("run_002_detect_faces.sh", "run_003_extract_embeddings.sh")
NO_PEER = "not installed: run utils/make_env.sh bench"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MADE = {  # label -> what is made of the clip: number of videos, seconds, width and height, Mbit/s
    "one clip of 5 s": (1, 5.0, (640, 360), 1.0),
    "two talks, 40 s": (2, 20.0, (640, 360), 1.0),
    "720p, 60 s": (1, 60.0, (1280, 720), 2.0),
    "30 clips of 5 s": (30, 5.0, (640, 360), 1.0),
}
SHARED = 0.5  # of two boxes, from which they are of the same face


@dataclass(frozen=True)
class Program:
    """One line of the table.

    commands: our stages; none: InsightFace. Its detector sees pictures of `det_size` (peer_insightface.py).
    options: of our stages, name and value by turns.
    """

    name: str
    commands: tuple[str, ...] = BOTH_STAGES
    options: tuple[str, ...] = ()
    det_size: str = ""


PROGRAMS = (
    Program("ours, two calls"),
    Program("ours, one call", BOTH_STAGES[:1], ("--stop-stage", "3")),
    Program("ours, one call, --frames fast", BOTH_STAGES[:1], ("--stop-stage", "3", "--frames", "fast")),
    Program("InsightFace, 640 x 640", (), det_size="640"),
    Program("InsightFace, our sizes", (), det_size="ours"),
)
PEERS = [program.name for program in PROGRAMS if program.det_size]


@dataclass
class Faces:
    """What a program found in all videos of an input: number of the video and frame, box, embedding of each face."""

    video: NDArray[np.int64]
    frame: NDArray[np.int64]
    box: NDArray[np.float32]
    embedding: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.video)


@dataclass
class Outcome:
    """Of one program with one input. seconds: per round; reason: why there are none."""

    seconds: list[float] = field(default_factory=list)
    faces: Faces | None = None
    reason: str = ""


@dataclass(frozen=True)
class Bench:
    """Where everything is: networks by name, the interpreter of the peers, a folder for what is made."""

    detector: str
    embedder: str
    python: Path
    work: Path

    def models(self) -> Path:
        return self.work / "exp" / "face_models"


def peers(
    clip: str,
    videos: list[list[str]] | None,
    detector: str,
    embedder: str,
    bench_python: str,
    repeat: int,
    scoring: bool,
    split: bool,
    work_dir: str | None,
) -> None:
    """Print the tables."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    measured = revision()
    with work_folder(work_dir) as work:
        bench = Bench(detector, embedder, Path(bench_python).absolute(), work)
        inputs = make_inputs(clip, work / "videos", dict(own_videos(line) for line in videos or []))
        prepare(bench, inputs)
        outcomes = measure(bench, inputs, repeat)
        print(f"Revision {measured}, networks `{detector}` and `{embedder}`, one core, median of {repeat} rounds.\n")
        report(inputs, outcomes)
        if split:
            report_split(bench, inputs, outcomes)
        if scoring:
            report_scoring(bench, repeat)


def revision() -> str:
    """The commit that is measured, with "-dirty" where files differ from it."""
    call = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def own_videos(line: Sequence[str]) -> tuple[str, list[Path]]:
    """The label of an input and its files; a folder gives all that are in it. Raises DataError where there are none."""
    files: list[Path] = []
    for path in map(Path, line[1:]):
        files += sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    missing = [path for path in files if not path.is_file()]
    if missing or not files:
        what = f"there is no {missing[0]}" if missing else "expected a label, then files or folders of videos"
        raise DataError(f"--videos {' '.join(line)}: {what}")
    return line[0], [path.resolve() for path in files]


def make_inputs(clip: str, folder: Path, own: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Label -> videos, in the order of the table: those of MADE, by default made of the clip, then the others."""
    from benchmarks.make_video import encode

    folder.mkdir(parents=True)
    inputs: dict[str, list[Path]] = {}
    for label, (count, seconds, size, mbit_per_s) in MADE.items():
        if label not in own:
            inputs[label] = [folder / f"{len(inputs)}_{number:03d}.mp4" for number in range(count)]
            for number, path in enumerate(inputs[label]):
                encode(clip, str(path), 0.7 * number, seconds, size, mbit_per_s)
        else:
            inputs[label] = own[label]
    return inputs | own


def prepare(bench: Bench, inputs: dict[str, list[Path]]) -> None:
    """The networks, and a data folder per input: set0, set1, ..."""
    from vidperson.corpora.data_folder import Segment, write_data_folder
    from vidperson.networks.install import install_model

    folders = [folder for folder in [os.environ.get("VIDPERSON_MODEL_DIR", "")] if folder]
    for network in (bench.detector, bench.embedder):
        install_model(network, bench.models(), folders)
    for number, files in enumerate(inputs.values()):
        data = bench.work / "data" / f"set{number}"
        write_data_folder(data, [Segment(f"v{k:04d}", path, f"v{k:04d}") for k, path in enumerate(files)])
        run([sys.executable, "steps/get_durations.py", "--data-dir", str(data)])


def measure(bench: Bench, inputs: dict[str, list[Path]], repeat: int) -> dict[tuple[str, str], Outcome]:
    """(label of the input, name of the program) -> what was measured; the programs take turns."""
    outcomes = {(label, program.name): Outcome() for label in inputs for program in PROGRAMS}
    for program in PROGRAMS:
        for label in inputs:
            outcomes[label, program.name].reason = reason_to_skip(program, bench)
    for turn in range(1, repeat + 1):
        for number, (label, files) in enumerate(inputs.items()):
            for program in PROGRAMS:
                outcome = outcomes[label, program.name]
                if not outcome.reason:
                    seconds, outcome.faces = run_program(program, bench, f"set{number}", files)
                    outcome.seconds.append(seconds)
                    logging.info("round %d of %d: %s: %s: %.2f CPU s", turn, repeat, label, program.name, seconds)
    return outcomes


def reason_to_skip(program: Program, bench: Bench) -> str:
    """Why a program cannot run here; empty: it can."""
    if program.det_size:
        return "" if has(bench, "insightface") else NO_PEER
    missing = [name for name in program.options[::2] if name not in stage_options(program.commands[0])]
    return f"the stages have no {missing[0]} yet" if missing else ""


def has(bench: Bench, package: str) -> bool:
    """Whether the interpreter of the peers is there and finds this package."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{package}') is None)"
    try:
        return subprocess.run([bench.python, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
    except OSError:
        return False


def stage_options(script: str) -> set[str]:
    """The options of a stage, as they are written on a command line."""
    text = "".join((ROOT / name).read_text() for name in ("global_conf/defaults.sh", script))
    return {f"--{name.replace('_', '-')}" for name in re.findall(r"^(\w+)=", text, re.MULTILINE)}


def run_program(program: Program, bench: Bench, data_set: str, files: list[Path]) -> tuple[float, Faces]:
    """CPU seconds, and the faces found; nothing is left of an earlier run."""
    if program.det_size:
        return run_insightface(program, bench, files)
    for name in ("face_det", "face_embed"):
        shutil.rmtree(bench.work / "exp" / name, ignore_errors=True)
    seconds = sum(run([f"./{name}", *our_options(bench, data_set), *program.options]) for name in program.commands)
    return seconds, our_faces(bench, data_set)


def our_options(bench: Bench, data_set: str) -> list[str]:
    return [
        "--config-file", "global_conf/config_mobileface.sh", "--trial-sets", f"{data_set}:{data_set}",
        "--data-dir", f"{bench.work}/data", "--exp-dir", f"{bench.work}/exp",
        "--face-detector", bench.detector, "--face-embedder", bench.embedder,
    ]  # fmt: skip


def run_insightface(program: Program, bench: Bench, files: list[Path]) -> tuple[float, Faces]:
    import numpy as np

    output = bench.work / "insightface"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    detector, embedder = (str(bench.models() / name / "network.onnx") for name in (bench.detector, bench.embedder))
    command = [str(bench.python), str(ROOT / "benchmarks" / "peer_insightface.py"), "--setup", json.dumps(setup(bench))]
    command += ["--detector", detector, "--embedder", embedder, "--det-size", program.det_size]
    seconds = run([*command, "--output-dir", str(output), *map(str, files)])
    found = [np.load(output / f"faces.{number}.npz") for number in range(len(files))]
    return seconds, joined([(one["frame"], one["box"], one["embedding"]) for one in found])


def setup(bench: Bench) -> dict[str, dict[str, Any]]:
    """What the peer has to know of the networks. Raises DataError for networks that it cannot run."""
    from vidperson.networks.card import load_card, picture_input

    cards = {role: load_card(name) for role, name in (("detector", bench.detector), ("embedder", bench.embedder))}
    if cards["detector"].output.decoder != "retinaface":
        raise DataError(f"{bench.detector}: expected a detector of decoder retinaface for the comparison")
    return {role: {**vars(picture_input(card)), "mirror": card.output.mirror} for role, card in cards.items()}


def run(command: list[str]) -> float:
    """CPU seconds, user and system, of a command and of all processes that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Leaves the process with what the command said when it fails."""
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done


def our_faces(bench: Bench, data_set: str) -> Faces:
    from vidperson.io.matrices import load_matrices
    from vidperson.types import FACE_COLUMNS

    items = bench.work / "exp" / "face_det" / bench.detector / data_set / "faces.scp"
    faces = load_matrices(items, len(FACE_COLUMNS))
    embeddings = load_matrices(bench.work / "exp" / "face_embed" / bench.embedder / data_set / "embed.scp")
    return joined([(faces[key][:, 0], faces[key][:, 2:6], embeddings[key]) for key in sorted(faces)])


def joined(videos: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> Faces:
    """One from frame, box and embedding of the faces of each video."""
    import numpy as np

    kept = [(np.full(len(frame), k), frame, box, embedding) for k, (frame, box, embedding) in enumerate(videos)]
    kept = [one for one in kept if len(one[0])]
    if not kept:
        return Faces(
            np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros((0, 1), np.float32)
        )
    video, frame, box, embedding = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return Faces(video, frame.astype(np.int64), box, embedding)


def agreement(ours: Faces, other: Faces) -> NDArray[np.float32]:
    """Cosines between the embeddings of the faces that both found, in the order of ours.

    The same face: of the same frame of a video, boxes with an intersection over union of SHARED or more, the best one.
    """
    import numpy as np

    cosines = []
    for video, frame, box, embedding in zip(ours.video, ours.frame, ours.box, ours.embedding, strict=True):
        rows = np.flatnonzero((other.video == video) & (other.frame == frame))
        shares = [overlap(box, other.box[row]) for row in rows]
        if shares and max(shares) >= SHARED:
            match = other.embedding[rows[int(np.argmax(shares))]]
            cosines.append(float(embedding @ match / np.linalg.norm(embedding) / np.linalg.norm(match)))
    return np.array(cosines, np.float32)


def overlap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes (4,)."""
    import numpy as np

    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    shared = float(sides.prod())
    return shared / max(float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - shared, 1e-9)


def report(inputs: dict[str, list[Path]], outcomes: dict[tuple[str, str], Outcome]) -> None:
    """The table of videos."""
    print(
        "| input | program | CPU s |", " | ".join(f"of {name}" for name in PEERS), "| faces | of these ours | cosine |"
    )
    print("|" + "---|" * (6 + len(PEERS)))
    for label in inputs:
        ours = outcomes[label, PROGRAMS[0].name].faces
        for program in PROGRAMS:
            outcome = outcomes[label, program.name]
            if outcome.reason or not outcome.seconds or outcome.faces is None:
                print(f"| {label} | {program.name} | skipped: {outcome.reason}", "| " * (3 + len(PEERS)) + "|")
                continue
            ratios = (ratio(outcome, outcomes[label, name]) for name in PEERS)
            print(f"| {label} | {program.name} | {median(outcome.seconds):.2f} |", " | ".join(ratios), end=" | ")
            print(f"{len(outcome.faces)} |", matched(ours, outcome.faces), flush=True)


def ratio(one: Outcome, other: Outcome) -> str:
    return f"{median(one.seconds) / median(other.seconds):.2f}" if other.seconds else ""


def matched(ours: Faces | None, found: Faces) -> str:
    """Two cells: how many of the faces we found, too, and the median and lowest cosine of their embeddings."""
    import numpy as np

    if ours is None or ours is found:
        return "| |"
    cosines = agreement(ours, found)
    if not len(cosines):
        return "0 | |"
    return f"{len(cosines)} | {np.median(cosines):.4f}, lowest {cosines.min():.4f} |"


PARTS = ("start-up", "decoding", "detector", "embedder", "rest")


def report_split(bench: Bench, inputs: dict[str, list[Path]], outcomes: dict[tuple[str, str], Outcome]) -> None:
    """Where the seconds of our stages go.

    start-up: what the commands take beyond the work of one process on the same input, that of the second call.
    """
    print("\n| input |", " | ".join(f"{part}, CPU s" for part in PARTS), "|\n|" + "---|" * (1 + len(PARTS)))
    for number, (label, files) in enumerate(inputs.items()):
        seconds = outcomes[label, PROGRAMS[0].name].seconds
        if seconds:
            parts = split(bench, files, median(seconds), bench.work / f"split{number}")
            print(f"| {label} |", " | ".join(f"{parts[part]:.2f}" for part in PARTS), "|", flush=True)


def split(bench: Bench, files: list[Path], whole_s: float, folder: Path) -> dict[str, float]:
    """CPU seconds per part of both stages that took ``whole_s`` as commands."""
    from benchmarks import end_to_end as steps

    for turn in range(2):  # the first one imports and warms up
        place = folder / str(turn)
        place.parent.mkdir(exist_ok=True)
        with steps.stage2_stopwatch() as watch2:
            seconds = steps.cost(steps.stage2, files, str(bench.models() / bench.detector), "auto", place)[0]
        steps.join(place)
        with steps.stage3_stopwatch() as watch3:
            seconds += steps.cost(steps.stage3, str(bench.models() / bench.embedder), "auto", place)[0]
    opening = sum(watch.seconds[steps.OPENING] for watch in (watch2, watch3))
    parts = {
        "start-up": whole_s - seconds + opening,
        "decoding": watch2.seconds["decoding"],
        "detector": watch2.seconds["network"],
        "embedder": watch3.seconds["network"],
    }
    return parts | {"rest": whole_s - sum(parts.values())}


SCORING = {  # label -> models, segments, faces of each model and of each segment
    "205 models x 1,000 segments, 20 x 20 faces": (205, 1000, 20, 20),
    "4,000 models x 2,000 segments, 1 x 10 faces": (4000, 2000, 1, 10),
}
FLOOR, OURS = "products", "ours"
WAYS = {  # name -> (what it is called, the package that it needs, none: of ours)
    FLOOR: ("float32 products only", ""),
    OURS: ("ours, `max`", ""),
    "numpy": ("NumPy, float32", ""),
    "sklearn": ("scikit-learn, `cosine_similarity`", "sklearn"),
    "faiss": ("FAISS, `pairwise_distances`", "faiss"),
}


def report_scoring(bench: Bench, repeat: int) -> None:
    """The table of scoring."""
    print("\n| scoring | program | CPU s | of the products | largest difference from ours |\n|---|---|---|---|---|")
    skipped = {way for way, (_, package) in WAYS.items() if package and not has(bench, package)}
    for label, sizes in SCORING.items():
        seconds: dict[str, list[float]] = {way: [] for way in WAYS if way not in skipped}
        for _ in range(repeat):
            for way, found in seconds.items():
                found.append(score(bench, way, sizes))
        for way, (name, _) in WAYS.items():
            if way in skipped:
                print(f"| {label} | {name} | skipped: {NO_PEER} | | |")
                continue
            taken, floor = median(seconds[way]), median(seconds[FLOOR])
            print(f"| {label} | {name} | {taken:.2f} | {taken / floor:.2f} |", difference(bench, way), "|", flush=True)


def score(bench: Bench, way: str, sizes: tuple[int, int, int, int]) -> float:
    """CPU seconds of scoring in one way, in a process of its own; the scores stay in the work folder."""
    python = bench.python if WAYS[way][1] else Path(sys.executable)
    command = [str(python), str(ROOT / "benchmarks" / "peer_scoring.py"), "--way", way]
    for option, size in zip(("--models", "--segments", "--model-faces", "--segment-faces"), sizes, strict=True):
        command += [option, str(size)]
    done = call([*command, "--output", str(bench.work / f"{way}.npy")])
    return float(done.stdout.split()[-1])


def difference(bench: Bench, way: str) -> str:
    import numpy as np

    if way in (FLOOR, OURS):
        return ""
    ours, other = (np.load(bench.work / f"{name}.npy") for name in (OURS, way))
    return f"{np.abs(ours - other).max():.1e}"


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--clip", required=True, help="a video with faces, of any size and length")
    parser.add_argument(
        "--videos", action="append", nargs="+", metavar="LABEL FILE",
        help="videos of your own, or folders of them, as the input of this label; may be given again",
    )  # fmt: skip
    parser.add_argument("--detector", default="retinaface_tiny", help="name of a detector of decoder retinaface")
    parser.add_argument("--embedder", default="arcface_tiny", help="name of a face embedder")
    parser.add_argument("--bench-python", default=".venv-bench/bin/python", help="interpreter of the peers")
    parser.add_argument("--repeat", type=cli.whole(1), default=3, help="rounds to take the median of")
    parser.add_argument("--scoring", type=cli.flag, default=True, help="also the table of scoring: true or false")
    parser.add_argument("--split", type=cli.flag, default=False, help="also where our seconds go: true or false")
    parser.add_argument("--work-dir", help="folder for temporary files; default: the system's")
    cli.main(peers, parser.parse_args())
