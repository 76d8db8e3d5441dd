"""Real clips from folder to report: is every clip of a person ranked before all clips of strangers?

Inputs:  the real media that tests use (VIDPERSON_SHARED, see docs/develop.md): 16 persons with two to ten clips,
         speakers and films of other people, damaged and odd files without a face.
Outputs: <out-dir>/corpus with the folders of the corpus `clips`, <out-dir>/data, <out-dir>/exp with the report, and
         on stdout the figures, a line per clip that does not stand before all strangers, CPU and wall seconds.

Of a person with n videos, n // 2 (at least 1) are to learn from; the others are validated on and tested in turn, the
first one is tested. Talks are cut into pieces of 4 s that do not overlap; all pieces of a talk stay on one side. Every
other video of strangers, in the order of their names, is to learn from. Other videos are links to the originals.

Exit status 1 where a clip stands behind a stranger and its faces were found.

Example:
  VIDPERSON_SHARED=../shared python benchmarks/real_clips.py --out-dir /tmp/real_clips
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from vidperson import cli

PIECE_S = 4
TALKS = {"Obama_": "Obama", "feifeili_": "Fei-Fei Li", "andrew_": "Andrew Ng"}
LEFT_OUT = {
    "GRID_bbaf2n.mpg",  # the same file as s1_bbaf2n.mpg
    "id2_vcd_swwp2s.mpg",  # perhaps one of the speakers GRID_*
}
STAGES = ("000_get_pretrained_models", "001_prepare_data", "002_detect_faces", "003_extract_embeddings")


class Source(NamedTuple):
    """A video of a person, or of strangers. cut_s: up to where it is cut into pieces, in seconds; 0: whole."""

    path: Path
    person: str = ""
    cut_s: float = 0.0


class Clip(NamedTuple):
    """A clip that is searched."""

    name: str
    persons: frozenset[str]


def sources(shared: Path) -> Iterator[Source]:
    """All videos, in the order of their names."""
    video = shared / "data/video"
    for path in sorted((shared / "data/clips").glob("asl_*/*.mkv")):
        yield Source(path, path.parent.name)
    for path in sorted(video.glob("avspeech/*.mp4")):
        yield Source(path, re.split(r"(_co)?_\d+_$", path.stem)[0])
    for path in sorted(video.glob("grid/*.mpg")):
        if path.name not in LEFT_OUT:
            yield Source(path, "s1" if path.name.startswith("s1_") else "")
    for path in sorted(video.glob("mead/*.mp4")):
        yield Source(path, path.name.split("_")[0])
    for path in sorted(video.glob("talks/*.mp4")):
        person = next((name for start, name in TALKS.items() if path.name.startswith(start)), "")
        yield Source(path, person, 60.0)
    yield Source(video / "hamilton/short_hamilton_clip.mp4", cut_s=7.0)  # after that Obama is in the audience
    yield Source(video / "titanic/test.mp4", cut_s=60.0)
    yield Source(video / "robustness/base.mp4")
    for path in sorted([*video.glob("odd/*.*"), video / "robustness/black_silent_noface.mp4"]):
        yield Source(path)


def lay_out(found: Sequence[Source], corpus: Path) -> None:
    """Make the folders of the corpus `clips`, and `search.key`, lines `<person><tab><clip>`."""
    by_person: dict[str, list[Source]] = defaultdict(list)
    for source in found:
        by_person[source.person].append(source)
    key: list[str] = []
    for person, own in sorted(by_person.items()):
        others = own[max(1, len(own) // 2) :]
        tested = set(others[::2]) if person else set(own[1::2])
        for source in own:
            if source in tested:
                key += [f"{person}\t{clip}\n" for clip in put(source, corpus / "search", False) if person]
            else:
                put(source, corpus / "persons" / person if person else corpus / "strangers", True)
    (corpus / "search.key").write_text("".join(sorted(key)))


def put(source: Source, folder: Path, own_folder: bool) -> list[str]:
    """Link a video into a folder, or cut it into pieces there; returns the names of the clips.

    own_folder: pieces get a folder of their own, which tells that they are of one video.
    """
    name = f"{source.path.parent.name}_{source.path.name}"
    if not source.cut_s:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(source.path.resolve())
        return [name]
    stem = Path(name).stem
    return cut(source, folder / stem if own_folder else folder, stem)


def cut(source: Source, folder: Path, stem: str) -> list[str]:
    """Cut a video into pieces of ``PIECE_S`` without sound; the rest of less than half a piece is left out."""
    import av

    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    with av.open(str(source.path)) as container:
        video = container.streams.video[0]
        rate = video.average_rate or Fraction(25)
        frames = round(PIECE_S * rate)
        pictures = [
            frame.reformat(format="yuv420p")
            for frame in container.decode(video)
            if frame.time is not None and frame.time < source.cut_s
        ]
    for begin in range(0, len(pictures) - frames // 2, frames):
        names.append(f"{stem}_{len(names):02d}.mp4")
        encode(pictures[begin : begin + frames], folder / names[-1], rate)
    return names


def encode(pictures: Sequence[Any], path: Path, rate: Fraction) -> None:
    """Write frames of PyAV as H.264, hardly with loss."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        for index, picture in enumerate(pictures):
            picture.pts, picture.time_base = index, 1 / rate
            picture.pict_type = 0
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
