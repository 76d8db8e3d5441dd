"""CPU seconds and peak memory of stages 4 and 5 of ./run_who.sh for many videos.

Inputs:  <out-dir>/data and <out-dir>/exp of benchmarks/who.py, or of any run of ./run_who.sh with these folders
Outputs: on stdout a line of a Markdown table for each number of videos, and the sizes of the answer files. The copies
         are lines of lists that point at what stage 2 found; the embeddings of a share of them are moved, so that
         strangers of different copies are different persons. They are in a temporary folder.

Example:
  python benchmarks/who_scale.py --out-dir /tmp/who --videos "500 2000 10000"
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from vidperson import cli
from vidperson.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
SETS = "folder_test"
LISTS = ("names", "utt2spk", "vid.scp", "vid2dur")
ARCHIVES = ("faces.ark", "quality.ark", "shots.ark")
PLACED = ("faces.scp", "quality.scp", "shots.scp", "status")
MOVED = 3.0  # length of what is added to the embeddings of a copy, in lengths of the embedding


@dataclass(frozen=True)
class Options:
    out_dir: str = cli.option(help="folder with data and exp of a finished run of ./run_who.sh")
    videos: str = cli.option("500 2000", "numbers of videos, one run each")
    moved: float = cli.option(0.5, "share of the copies with persons of their own", convert=cli.share)
    who_options: str = cli.option("", "further options of the stages, as one word")


class Copy(NamedTuple):
    """A copy of a segment. number: from 0, of all copies of all segments."""

    segment: str
    source: str
    number: int


def copies(segments: Sequence[str], count: int) -> list[Copy]:
    """So many copies of the segments in turn, in C-locale order of their names."""
    found = (Copy(f"v{number:06d}", source, number) for number, source in enumerate(cycle(segments)))
    return list(islice(found, count))


def lay_out(work: Path, base: Path, count: int, moved: float) -> None:
    """``data`` and ``exp`` with so many copies of the test segments of ``base``, and its persons."""
    data = work / f"data/{SETS}"
    data.mkdir(parents=True)
    (work / "data/folder_enroll").symlink_to(base / "data/folder_enroll")
    names = _read(base / f"data/{SETS}/vid.scp")
    made = copies(sorted(names), count)
    for name in LISTS:
        values = _read(base / f"data/{SETS}/{name}")
        lines = (f"{one.segment} {_value(name, one, values[one.source])}\n" for one in made)
        (data / name).write_text("".join(lines))
    (data / "spk2utt").write_text((data / "utt2spk").read_text())
    for kind in ("det", "embed"):
        (network,) = (base / f"exp/face_{kind}").iterdir()
        folder = work / f"exp/face_{kind}" / network.name
        folder.mkdir(parents=True)
        (folder / "folder_enroll").symlink_to(network / "folder_enroll")
        target, source = folder / SETS, network / SETS
        target.mkdir()
        for name in PLACED:
            if (source / name).is_file():
                values = _read(source / name)
                (target / name).write_text("".join(f"{one.segment} {values[one.source]}\n" for one in made))
        for name in ARCHIVES:
            if (source / name).is_file():
                (target / name).symlink_to(source / name)
        if kind == "embed":
            _write_embeddings(source, target, made, moved)
        else:
            _write_crops(source, target, made)
    (work / "exp/face_models").symlink_to(base / "exp/face_models")


def _value(name: str, one: Copy, value: str) -> str:
    if name == "names":
        return f"{one.number // 100:04d}/{one.segment}{Path(value).suffix}"
    return one.segment if name == "utt2spk" else value


def _read(path: Path) -> dict[str, str]:
    from vidperson.io.lines import read_scp

    return read_scp(path)


def _write_crops(source: Path, target: Path, made: Sequence[Copy]) -> None:
    """The crops of each copy, named after it."""
    from vidperson.io.crops import TAR_END, read_tar_files, tar_entry
    from vidperson.io.matrices import MatrixTable

    places, faces = _read(source / "crops.scp"), MatrixTable(source / "faces.scp")
    with open(target / "crops.tar", "wb") as tar, open(target / "crops.scp", "w") as scp:
        for one in made:
            if one.source in places:
                scp.write(f"{one.segment} crops.tar:{tar.tell()}\n")
                where = f"{source}/{places[one.source]}"
                for name, data in read_tar_files(where, len(faces[one.source])):
                    tar.write(tar_entry(f"{one.segment}/{Path(name).name}", data))
        tar.write(TAR_END)


def _write_embeddings(source: Path, target: Path, made: Sequence[Copy], moved: float) -> None:
    import numpy as np

    from vidperson.io.matrices import MatrixTable, matrix_bytes

    table = MatrixTable(source / "embed.scp")
    every = round(1 / moved) if moved else 0
    with open(target / "embed.ark", "wb") as ark, open(target / "embed.scp", "w") as scp:
        for one in made:
            rows = table[one.source]
            if every and one.number % every == 0 and len(rows):
                drawn = np.random.default_rng(one.number).standard_normal(rows.shape[1])
                drawn *= MOVED * np.linalg.norm(rows, axis=1).mean() / np.linalg.norm(drawn)
                rows = rows + drawn.astype(np.float32)
            scp.write(f"{one.segment} embed.ark:{ark.tell() + len(one.segment) + 1}\n")
            ark.write(matrix_bytes(one.segment, rows))


class Used(NamedTuple):
    """What a stage used: seconds, and MB of its largest process."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def stages(work: Path, options: Options) -> Iterator[Used]:
    """Run stages 4 and 5."""
    network = next((work / "exp/face_det").iterdir()).name, next((work / "exp/face_embed").iterdir()).name
    for stage in ("run_004_score.sh", "run_005_eval.sh"):
        command = [f"./{stage}", "--config-file", "global_conf/config_folder.sh", "--data-dir", f"{work}/data"]
        command += ["--exp-dir", f"{work}/exp", "--face-detector", network[0], "--face-embedder", network[1]]
        started = time.perf_counter()
        running = subprocess.Popen([*command, *options.who_options.split()], cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(running.pid, 0)
        if status:
            raise DataError(f"./{stage} failed", work)
        wall = time.perf_counter() - started
        yield Used(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024 / 1e6)


def scale(options: Options) -> None:
    print("| videos | stage 4: CPU s, peak MB | stage 5: CPU s, peak MB | who.csv rows | results MB |")
    print("|---|---|---|---|---|", flush=True)
    for count in map(int, options.videos.split()):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder).resolve()
            lay_out(work, Path(options.out_dir).resolve(), count, options.moved)
            used = list(stages(work, options))
            (table,) = (work / "exp/results").glob("*/who.csv")
            rows = table.read_text("utf-8").count("\n") - 1
            size = sum(path.stat().st_size for path in table.parent.rglob("*") if path.is_file()) / 1e6
            cells = " | ".join(f"{stage.cpu_s:.1f}, {stage.peak_mb:.0f}" for stage in used)
            print(f"| {count:,} | {cells} | {rows:,} | {size:.0f} |", flush=True)


if __name__ == "__main__":
    cli.run(scale, Options, __doc__)
