"""Stage 2 on files that are broken, odd, or were sound until they were damaged here in some hundred ways.

Inputs:  folders of files to take as they are; sound clips to damage. The networks are those that ship with the project.
Outputs: a Markdown table of statuses per kind of file; exit status 1 when a process crashed or a segment took longer
         than --limit-s, when a segment was lost or doubled, or when a sound clip among the others has other faces or
         crops than it has alone.

Damage, seeded: the file is cut off (truncate), bits are flipped (flip), a part of another clip or of another place is
put in (splice), or a part is zeros (zero). Every tenth segment is a sound clip.

Example:
  python benchmarks/media_faults.py --files odd robustness --clips grid/*.mpg mead/*.mp4 --mutations 500
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults import DETECTOR, SET, prepare, run_stage, work_folder
from vidperson import cli

STATES = ("ok", "unsure", "no_face", "damaged", "unreadable")
FAULTS = {"crashed": "died of", "hung": "not done after"}
STAGE = "002_detect_faces"


def media_faults(
    files: list[str], clips: list[str], mutations: int, seed: int, limit_s: float, nj: int, work_dir: str | None
) -> None:
    """Print the table and leave with the outcome."""
    with work_folder(work_dir) as work:
        table, problems = campaign(list(map(Path, files)), list(map(Path, clips)), mutations, seed, limit_s, nj, work)
    columns = (*STATES, *FAULTS)
    print("| kind | tried |", " | ".join(columns), "|\n|---|---|" + "---|" * len(columns))
    for kind, counts in sorted(table.items()):
        print(f"| {kind} | {counts['tried']} |", " | ".join(str(counts[column]) for column in columns), "|")
    for problem in problems:
        print(f"- {problem}")
    if problems:
        sys.exit(1)


def campaign(
    folders: list[Path], clips: list[Path], mutations: int, seed: int, limit_s: float, nj: int, work: Path
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Counts of statuses per kind of file, and all that is not as it should be. work: a new or empty folder."""
    rng = random.Random(seed)
    harmed = {f"{folder.name}-{number:03d}": path for folder in folders for number, path in enumerate(regular(folder))}
    (work / "mutated").mkdir(parents=True)
    kinds = list(MUTATIONS)
    for number in range(mutations):
        kind, clip, other = kinds[number % len(kinds)], rng.choice(clips), rng.choice(clips)
        path = work / "mutated" / f"{number:04d}{clip.suffix}"
        path.write_bytes(MUTATIONS[kind](clip.read_bytes(), other.read_bytes(), rng))
        harmed[f"{kind}-{number:04d}"] = path
    names = list(harmed)
    rng.shuffle(names)
    segments: dict[str, Path] = {}  # numbered, so that harmed and sound ones are mixed in every job
    sound = {}
    for number, name in enumerate(names):
        if number % 10 == 0:
            clip = clips[number // 10 % len(clips)]
            sound[f"{number:04d}-a-sound"] = clip
        segments[f"{number:04d}-b-{name}"] = harmed[name]
    segments |= sound

    expected = detect(work / "alone", sound, 1, limit_s)
    found = detect(work / "together", segments, nj, limit_s)
    problems = [f"{name}: no status" for name in segments if name not in found]
    problems += [f"{name}: a status, but no such segment" for name in found if name not in segments]
    problems += [f"{name}: not as it is alone" for name in sound if found.get(name) != expected[name]]
    table: dict[str, Counter[str]] = {}
    for name, (status, *_) in found.items():
        counts = table.setdefault(name.split("-")[2], Counter())
        counts.update(["tried", status.partition(":")[0]])
        for fault, words in FAULTS.items():
            if words in status:
                counts[fault] += 1
                problems.append(f"{name} ({segments[name]}): {status}")
    return table, problems


def detect(work: Path, segments: dict[str, Path], nj: int, limit_s: float) -> dict[str, tuple[str, bytes, bytes, int]]:
    """Segment -> status, bytes of its faces and of its quality, hash of its crops."""
    from vidperson.io.crops import read_tar_files
    from vidperson.io.lines import read_paths, read_scp
    from vidperson.io.matrices import load_matrices
    from vidperson.types import FACE_COLUMNS

    prepare(work, segments)
    run_stage(STAGE, work, nj, "--segment-timeout-s", str(limit_s))
    folder = work / "exp" / "face_det" / DETECTOR / SET
    lines = (folder / "status").read_text().splitlines()
    statuses = read_scp(folder / "status")  # refuses a segment that is there twice
    assert len(lines) == len(statuses)
    faces, quality = load_matrices(folder / "faces.scp", len(FACE_COLUMNS)), load_matrices(folder / "quality.scp", 2)
    crops = read_paths(folder / "crops.scp")
    results = {}
    for segment, status in statuses.items():
        rows = faces[segment]
        pictures = list(read_tar_files(crops[segment], len(rows))) if len(rows) else []
        results[segment] = (status, rows.tobytes(), quality[segment].tobytes(), hash(tuple(pictures)))
    return results


def regular(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def truncate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to a thousand bits, anywhere or near the beginning, where headers are."""
    changed = bytearray(data)
    reach = len(data) if rng.random() < 0.5 else min(len(data), 4096)
    for _ in range(int(10 ** rng.uniform(0, 3))):
        changed[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    source = rng.choice([data, other])
    begin, at = rng.randrange(len(source)), rng.randrange(len(data))
    part = source[begin : begin + rng.randrange(1, 1 + len(source) // 2)]
    return data[:at] + part + data[at + rng.choice([0, len(part)]) :]


def zero(data: bytes, other: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    part = data[begin : begin + rng.randrange(1, 1 + len(data) // 4)]
    return data[:begin] + bytes(len(part)) + data[begin + len(part) :]


MUTATIONS: dict[str, Callable[[bytes, bytes, random.Random], bytes]] = {
    function.__name__: function for function in (truncate, flip, splice, zero)
}


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--files", nargs="*", default=[], help="folders of files to take as they are")
    parser.add_argument("--clips", nargs="+", required=True, help="sound clips to damage")
    parser.add_argument("--mutations", type=cli.whole(0), default=500, help="clips to damage")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is random")
    parser.add_argument("--limit-s", type=cli.positive, default=60.0, help="seconds that a segment may take")
    parser.add_argument("--nj", type=cli.whole(1), default=2, help="jobs")
    parser.add_argument("--work-dir", help="folder for temporary files; default: the system's")
    cli.main(media_faults, parser.parse_args())
