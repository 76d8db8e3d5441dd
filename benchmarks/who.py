"""How well is answered who is in a video, and when: on real clips, and on clips composed of them, all labelled.

Inputs:  the labels and portraits of benchmarks/who_clips.py, the real media that they name, and the networks.
Outputs: <out-dir>/{persons,videos} with portraits, links to clips and composed clips; <out-dir>/{data,exp} of
         ./run_who.sh; on stdout the figures, and a line per person missed and per wrong name.

A person with a portrait who is seen for 1 s or longer, 60 pixels high or more, has to be found: of the rows of who.csv
with the right name and the decision `yes`, the time that they share with that in which the person is seen has to be
at least half of the time of both together. Times in which the face is smaller, and gaps of up to 1 s, do not count.
A row with the decision `yes` has a wrong name unless that person is seen during at least half of it, at the place of
its boxes.

Persons and clips are split in two halves: constants are chosen on `choose`, and `test` is measured at the end.

Example:
  VIDPERSON_SHARED=../shared python benchmarks/who.py --out-dir /tmp/who --half choose
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.who_clips import (
    SILENT,
    Portrait,
    Shown,
    compose,
    compose_voices,
    frame_at,
    labels_of,
    read_labels,
    read_portraits,
    write_composed,
)
from vidperson import cli
from vidperson.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
LEAST_S, LEAST_PX = 1.0, 60
LARGEST_GAP_S = 1.0
OVERLAP = 0.5
STEP_S = 0.01  # of the grid on which times are compared
TOLERANCE_S = 0.5
SEEDS = {"choose": 1, "test": 2}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Options:
    out_dir: str = cli.option(help="folder for portraits, videos and results; what is there is kept")
    half: str = cli.option("choose", "which half: choose or test", choices=tuple(SEEDS))
    shared: str = cli.option(os.environ.get("VIDPERSON_SHARED", "../shared"), "folder of the real media")
    portraits: bool = cli.option(True, "give portraits; without them all persons are unknown", convert=cli.flag)
    composed: bool = cli.option(True, "also measure on composed clips", convert=cli.flag)
    voices: bool = cli.option(False, "also give videos as portraits, and clips with voices", convert=cli.flag)
    results: str = cli.option("", "folder with who.csv and who.json to judge; nothing is run")
    who_options: str = cli.option("", "further options of ./run_who.sh, as one word")
    verbose: bool = cli.option(True, "name the persons missed and the wrong rows", convert=cli.flag)


class Row(NamedTuple):
    """A row of who.csv. place: the centre of its boxes as a share of the width, NaN where nothing is seen."""

    clip: str
    person: str
    start_s: float
    end_s: float
    decision: str
    probability: float
    place: float


@dataclass(frozen=True)
class Seen:
    """A person in a clip, without gaps of more than ``LARGEST_GAP_S``."""

    parts: tuple[Shown, ...]

    @property
    def sure(self) -> tuple[Shown, ...]:
        """The parts that are large enough, or heard."""
        return tuple(part for part in self.parts if part.is_heard or part.face_px >= LEAST_PX)

    @property
    def is_wanted(self) -> bool:
        """Whether the person has to be found: large for long enough, or an image."""
        seconds = sum(part.end_s - part.start_s for part in self.sure)
        is_image = bool(self.sure) and self.parts[-1].end_s == 0
        return not self.parts[0].is_stranger and (is_image or seconds >= LEAST_S - STEP_S)

    @property
    def span(self) -> tuple[float, float]:
        return self.parts[0].start_s, max(part.end_s for part in self.parts)

    def has(self, row: Row) -> bool:
        """Whether the row may be of this person in this place: seen during at least half of it."""
        start, end = self.span
        shared = min(end, row.end_s) - max(start, row.start_s)
        is_there = np.isnan(row.place) or any(
            part.left <= row.place <= part.right and not part.is_heard for part in self.parts
        )
        return is_there and shared >= (row.end_s - row.start_s) / 2

    def overlap(self, rows: Sequence[Row]) -> float:
        """Time shared by the rows and the large parts, as a share of the time of both. 0..1; of images 1."""
        if not rows:
            return 0.0
        length = round(max([self.span[1], *(row.end_s for row in rows)]) / STEP_S)
        if not length:
            return 1.0
        wanted, found = mask(self.sure, length), mask(rows, length)
        counts = wanted | ~mask([Row("", "", *self.span, "", 0, 0)], length)
        return float((wanted & found & counts).sum() / ((wanted | found) & counts).sum())

    def errors(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Seconds by which start and end are wrong; anywhere within small parts at the edges is right."""
        start, end = min(row.start_s for row in rows), max(row.end_s for row in rows)
        first, last = min(part.start_s for part in self.sure), max(part.end_s for part in self.sure)
        return max(0.0, self.span[0] - start, start - first), max(0.0, end - self.span[1], last - end)


def mask(spans: Iterable[Shown | Row], length: int) -> Mask:
    """(length,) which steps of ``STEP_S`` are within the spans."""
    inside = np.zeros(length, bool)
    for span in spans:
        inside[round(span.start_s / STEP_S) : round(span.end_s / STEP_S)] = True
    return inside


def appearances(shown: Iterable[Shown]) -> list[Seen]:
    """Joins what is seen of a person in a clip across gaps of up to ``LARGEST_GAP_S``."""
    by_person: dict[tuple[str, str], list[list[Shown]]] = defaultdict(list)
    for one in sorted(shown, key=lambda one: one.start_s):
        runs = by_person[one.clip, one.person]
        if runs and one.start_s - max(part.end_s for part in runs[-1]) <= LARGEST_GAP_S:
            runs[-1].append(one)
        else:
            runs.append([one])
    return [Seen(tuple(run)) for _, runs in sorted(by_person.items()) for run in runs]


@dataclass
class Figures:
    """Counts over clips; errors in seconds."""

    wanted: int = 0
    found: int = 0
    found_unsure: int = 0
    named: int = 0
    wrong: int = 0
    unsure: int = 0
    unsure_right: int = 0
    pieces: int = 0
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The figures, one a line."""
        times = [f"{name} {_spread(errors)}" for name, errors in (("start", self.starts), ("end", self.ends))]
        return [
            f"persons to find {self.wanted}, found {self.found} ({_share(self.found, self.wanted)}), "
            f"found or unsure {self.found_unsure}; rows per person found {self.pieces / max(1, self.found):.2f}",
            f"rows with a name {self.named}, wrong {self.wrong} ({_share(self.wrong, self.named)}); "
            f"unsure rows {self.unsure}, right {self.unsure_right}",
            *times,
        ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _spread(errors: Sequence[float]) -> str:
    """Median, 95 % and largest error, and how many are within the tolerance."""
    if not errors:
        return "none"
    values = np.sort(errors)
    within = int((values <= TOLERANCE_S + STEP_S / 2).sum())
    middle, most = float(np.median(values)), float(np.quantile(values, 0.95))
    return (
        f"error: median {middle:.2f} s, 95 % {most:.2f} s, largest {values[-1]:.2f} s, "
        f"within {TOLERANCE_S} s {_share(within, len(values))}"
    )


def judge(shown: Sequence[Shown], rows: Sequence[Row]) -> Figures:
    """Compares the rows with what is seen. Rows of persons without a portrait (unknown) are left out."""
    figures = Figures()
    seen = appearances(shown)
    assigned: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.decision == "unknown":
            continue
        own = [at for at, one in enumerate(seen) if (one.parts[0].clip, one.parts[0].person) == (row.clip, row.person)]
        is_right = any(seen[at].has(row) for at in own)
        if row.decision == "yes":
            figures.named, figures.wrong = figures.named + 1, figures.wrong + (not is_right)
        else:
            figures.unsure, figures.unsure_right = figures.unsure + 1, figures.unsure_right + is_right
        if not is_right:
            figures.remarks.append(f"{'wrong' if row.decision == 'yes' else 'unsure, wrong'}: {_told(row)}")
        else:
            best = max(own, key=lambda at: _shared(seen[at], row))
            assigned[best, row.decision].append(row)
    for at, one in enumerate(seen):
        if one.is_wanted:
            _count(figures, one, assigned[at, "yes"], assigned[at, "unsure"])
    return figures


def _shared(one: Seen, row: Row) -> float:
    start, end = one.span
    return min(end, row.end_s) - max(start, row.start_s)


def _count(figures: Figures, one: Seen, rows: Sequence[Row], unsure: Sequence[Row]) -> None:
    """Adds a person who has to be found."""
    figures.wanted += 1
    figures.found_unsure += one.overlap([*rows, *unsure]) >= OVERLAP
    if one.overlap(rows) < OVERLAP:
        part, (start, end) = one.parts[0], one.span
        found = ", ".join(map(_told, [*rows, *unsure])) or "nothing"
        figures.remarks.append(f"missed: {part.clip} {part.person} {start:.2f} to {end:.2f} s; found: {found}")
        return
    figures.found += 1
    figures.pieces += len(rows)
    start, end = one.errors(rows)
    figures.starts.append(start)
    figures.ends.append(end)
    if max(start, end) > TOLERANCE_S:
        told = ", ".join(map(_told, rows))
        figures.remarks.append(f"time: {one.parts[0].person} {one.span[0]:.2f} to {one.span[1]:.2f} s; found: {told}")


def _told(row: Row) -> str:
    return f"{row.clip} {row.person} {row.start_s:.2f} to {row.end_s:.2f} s {row.decision} {row.probability:.3f}"


def clusters(shown: Sequence[Shown], rows: Sequence[Row]) -> tuple[float, float, int]:
    """B-cubed precision and recall of the names of all rows, 0..1, and how many rows show somebody who is labelled.

    Of a row: the share of rows with its name that show the same person, and the share of the rows that show its
    person that have its name (Bagga and Baldwin 1998). A row shows the labelled person with whom it shares most time.
    """
    seen = appearances(shown)
    pairs = []
    for row in rows:
        there = [one for one in seen if one.parts[0].clip == row.clip and one.has(row)]
        if there:
            pairs.append((row.person, max(there, key=lambda one: _shared(one, row)).parts[0].person))
    both, names, persons = Counter(pairs), Counter(name for name, _ in pairs), Counter(person for _, person in pairs)
    if not pairs:
        return 0.0, 0.0, 0
    precision = sum(count**2 / names[name] for (name, _), count in both.items()) / len(pairs)
    recall = sum(count**2 / persons[person] for (_, person), count in both.items()) / len(pairs)
    return precision, recall, len(pairs)


def read_rows(results: Path) -> list[Row]:
    """The rows of who.csv, with the place of their boxes from who.json, which has the same rows in the same order."""
    with open(results / "who.json", "rb") as file:
        videos = json.load(file)["videos"]
    places = {video["video"]: [_place(one, video["width"]) for one in video["appearances"]] for video in videos}
    number: Counter[str] = Counter()
    found = []
    with open(results / "who.csv", encoding="utf-8-sig", newline="") as table:
        for line in csv.DictReader(table):
            clip = line["video"]
            if number[clip] >= len(places.get(clip, [])):
                raise DataError(f"who.csv has more rows of {clip} than who.json", results)
            found.append(
                Row(
                    *(clip, line["person"], float(line["start_s"]), float(line["end_s"]), line["decision"]),
                    *(float(line["probability"]), places[clip][number[clip]]),
                )
            )
            number[clip] += 1
    return found


def _place(appearance: Mapping[str, list[Mapping[str, list[list[float]]]]], width: int) -> float:
    centres = [(box[1] + box[3]) / 2 for track in appearance["tracks"] for box in track["boxes"]]
    return float(np.median(centres)) / width if centres and width else float("nan")


def lay_out(options: Options, work: Path) -> list[Shown]:
    """Write portraits, links and composed clips where they are missing; returns what is seen in all clips."""
    data = Path(options.shared).resolve() / "data"
    shown = read_labels(options.half)
    persons, videos = work / "persons", work / "videos"
    persons.mkdir(parents=True, exist_ok=True)
    if options.portraits:
        for number, portrait in enumerate(read_portraits(options.half)):
            put_portrait(portrait, data, persons / portrait.person, number)
            if options.voices and portrait.time_s is not None and not portrait.file.startswith(SILENT):
                put_portrait(replace(portrait, time_s=None), data, persons / portrait.person, number)
    for clip in sorted({one.clip for one in shown}):
        target = videos / clip
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(data / clip)
    if not options.composed:
        return shown
    found = list(shown)
    made = compose(shown, SEEDS[options.half])
    if options.voices:
        made += compose_voices(shown, SEEDS[options.half])
    for composed in made:
        sizes = {panel.clip: _size(data / panel.clip) for panel in composed.panels}
        found += labels_of(composed, shown, sizes)
        target = videos / composed.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            part = target.with_suffix(".part.mp4")
            write_composed(composed, data, part)
            part.replace(target)
    return found


def _size(path: Path) -> tuple[int, int]:
    frame = frame_at(path, 0.0)
    return frame.width, frame.height


def put_portrait(portrait: Portrait, data: Path, folder: Path, number: int) -> None:
    """Link an image into the folder of its person, or write the frame of a video there."""
    folder.mkdir(exist_ok=True)
    source = data / portrait.file
    if portrait.time_s is None:
        target = folder / source.name
        if not target.is_symlink():
            target.symlink_to(source)
    elif not (target := folder / f"{source.stem}_{number}.png").exists():
        frame_at(source, portrait.time_s).to_image().save(target)


def answered(options: Options, work: Path) -> Path:
    """Run ./run_who.sh; returns its folder of results."""
    command = ["./run_who.sh", f"{work}/persons", f"{work}/videos", "--data-dir", f"{work}/data"]
    command += ["--exp-dir", f"{work}/exp", *shlex.split(options.who_options)]
    start = time.perf_counter()
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        raise DataError(f"./run_who.sh failed with {answer.returncode}", work)
    print(f"./run_who.sh took {time.perf_counter() - start:.1f} s")
    return (ROOT / answer.stdout.splitlines()[-2].split()[-1]).parent


def kind_of(clip: str) -> str:
    """The group of clips to which a clip belongs."""
    if not clip.startswith("composed/"):
        return "real clips"
    return "voices of others" if clip.startswith("composed/voice") else "composed clips"


def who(options: Options) -> None:
    """Lay out the clips, answer, and print the figures."""
    work = Path(options.out_dir).resolve()
    shown = lay_out(options, work)
    rows = read_rows(Path(options.results) if options.results else answered(options, work))
    print(f"half {options.half}: {len({one.clip for one in shown})} clips, {len(rows)} rows")
    figures = judge(shown, rows)
    for title in ("real clips", "composed clips", "voices of others"):
        part = judge(
            [one for one in shown if kind_of(one.clip) == title], [row for row in rows if kind_of(row.clip) == title]
        )
        if part.wanted or part.named:
            print(f"{title}:", *part.lines(), sep="\n  ")
    print("all clips:", *figures.lines(), sep="\n  ")
    unknown = [row for row in rows if row.decision == "unknown"]
    precision, recall, count = clusters(shown, unknown)
    print(f"unknown rows {len(unknown)}, {count} of somebody labelled: B-cubed", end=" ")
    print(f"precision {precision:.3f}, recall {recall:.3f}")
    if options.verbose:
        print(*figures.remarks, sep="\n")


if __name__ == "__main__":
    cli.run(who, Options, __doc__)
