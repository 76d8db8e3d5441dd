"""Who is in which video, and when: the lines of stage 4, and who.csv and who.json of stage 5.

All are read and written one video at a time: memory does not grow with their number.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from unicodedata import normalize

import orjson

from vidperson.answers import BEST_FOLDER, Appearance, VideoAnswer, WhoRow
from vidperson.errors import DataError
from vidperson.io.data_dir import SCPS
from vidperson.io.lines import PathLike, read_lines, read_scp
from vidperson.io.rttm import rttm_names

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")  # the last ones are full-width
_LONGEST_NAME = 200  # bytes of a part of a path, of at most 255 with what is added
_ENDINGS = (".vtt", ".xml", ".mp4", ".jpg", ".html", ".json", ".tmp")  # of files that we write


@dataclass(frozen=True)
class Names:
    """What the user calls persons and videos. persons: id in the enrolment set -> name; videos: segment -> name."""

    persons: Mapping[str, str]
    videos: Mapping[str, str]

    def person(self, person: str) -> str:
        return self.persons.get(person, person)

    def video(self, segment: str) -> str:
        return self.videos.get(segment, segment)


def read_names(enroll_data: Iterable[Path], test_data: Path) -> Names:
    """Of data folders, by their lists ``names``; where there is none, names are ids.

    Persons are those of ``spk2utt``; there may be none. Videos are all segments of the test set. Raises DataError for
    malformed lists.
    """
    persons: dict[str, str] = {}
    for folder in enroll_data:
        if (folder / "spk2utt").is_file():
            typed = _typed(folder)
            listed = (line.split(" ", 1)[0] for _, line in read_lines(folder / "spk2utt"))
            persons |= {person: typed.get(person, person) for person in listed}
    segments = (line.split(" ", 1)[0] for name in SCPS if (test_data / name).is_file()
                for _, line in read_lines(test_data / name))  # fmt: skip
    typed = _typed(test_data)
    return Names(persons, {segment: typed.get(segment, segment) for segment in segments})


def _typed(folder: Path) -> dict[str, str]:
    path = folder / "names"
    return read_scp(path) if path.is_file() else {}


def answer_line(answer: VideoAnswer) -> bytes:
    """The line of a video in a list of stage 4. A number that is none becomes null."""
    return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)


def read_answers(path: PathLike) -> Iterator[VideoAnswer]:
    """The videos of a list of stage 4, one at a time. Raises DataError, naming the line, for what is none."""
    for number, line in read_lines(path):
        try:
            yield VideoAnswer.from_dict(orjson.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            message = f"expected a video as stage 4 writes them, found '{line[:80]}'; run stage 4 again"
            raise DataError(message, path, number) from None


def best_name(segment: str, number: int, test_set: str = "") -> str:
    """Path, relative to who.csv, of the image of the best item of an appearance.

    number: of the appearance in its video, from 1. test_set: where there are several.
    """
    return os.path.join(BEST_FOLDER, test_set, f"{segment}_{number:03d}.jpg")


def file_names(videos: Mapping[str, str]) -> dict[str, str]:
    """Segment -> name, without an ending, of the files that are about it; no two are the same, whatever their case.

    videos: segment -> name as typed, a path. Its name is taken without its ending; with it where several would share
    it; the segment where no file can have the name.
    """
    stems = {segment: str(PurePosixPath(name).with_suffix("")) for segment, name in videos.items() if _is_path(name)}
    count = Counter(_folded(stem) for stem in stems.values())
    found: dict[str, str] = {}
    taken = set[str]()
    for segment, name in videos.items():
        stem = stems.get(segment, segment)
        first = stem if count[_folded(stem)] <= 1 else name
        wished = itertools.chain((first, segment), (f"{segment}-{number}" for number in itertools.count(2)))
        found[segment] = next(word for word in wished if _folded(word) not in taken)
        taken.add(_folded(found[segment]))
    return found


def _folded(name: str) -> str:
    return normalize("NFC", name).casefold()


def _is_path(name: str) -> bool:
    """Whether files can be named so, below a folder of ours."""
    parts = name.split("/")
    if not all(part.strip(".") and len(os.fsencode(part)) <= _LONGEST_NAME for part in parts):
        return False
    return name.isprintable() and "\\" not in name and not any(part.lower().endswith(_ENDINGS) for part in parts[:-1])


@dataclass(frozen=True)
class Listed:
    """A video as the answer files tell it.

    test_set: that it is of. stem: name of the files about it, without an ending. names: of persons and videos.
    best: per appearance the path of the image of its best item, relative to who.csv; empty where there is none.
    frames: per appearance and track the number of each box's frame, from 0.
    first_frame_s: seconds after which a player shows the first frame, from which all times count.
    """

    answer: VideoAnswer
    test_set: str
    stem: str
    names: Names
    best: tuple[str, ...]
    frames: tuple[tuple[tuple[int, ...], ...], ...]
    first_frame_s: float = 0.0

    @property
    def video(self) -> str:
        """Its name as typed."""
        return self.names.video(self.answer.segment)

    @property
    def is_still(self) -> bool:
        """Whether it is an image: nothing in it lasts."""
        return not self.answer.duration_s and not any(found.end_s for found in self.answer.appearances)

    def rows(self) -> list[WhoRow]:
        """The lines of who.csv."""
        return [
            found.row(self.names.person(found.person), self.video, best)
            for found, best in zip(self.answer.appearances, self.best, strict=True)
        ]


class WhoCsv:
    """Writes who.csv. stream: of text, new lines kept as written."""

    def __init__(self, stream: IO[str]) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(WhoRow._fields)

    def add(self, listed: Listed) -> None:
        for row in listed.rows():
            shown = row._replace(person=_harmless(row.person), video=_harmless(row.video))
            start_s, end_s, best_time_s = (f"{value:.2f}" for value in (row.start_s, row.end_s, row.best_time_s))
            cells = shown._asdict() | {"start_s": start_s, "end_s": end_s, "best_time_s": best_time_s}
            self._writer.writerow((cells | {"probability": f"{row.probability:.4f}"}).values())


def _harmless(text: str) -> str:
    """With an apostrophe before what a spreadsheet would compute (https://owasp.org/www-community/attacks/CSV_Injection)."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def _as_typed(text: str) -> str:
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text


def read_who_csv(path: PathLike) -> Iterator[WhoRow]:
    """The lines of who.csv, one at a time. Raises DataError, naming the line, for what is none."""
    if not Path(path).is_file():
        raise DataError("no such file; run stage 5 with find_persons=true", path)
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        try:
            if next(reader, None) != list(WhoRow._fields):
                raise DataError(f"expected the header '{','.join(WhoRow._fields)}'", path, 1)
            for cells in reader:
                yield _row(cells, path, reader.line_num)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"expected a table in UTF-8 ({error}); run stage 5 again", path, reader.line_num + 1
            ) from None


def _row(cells: list[str], path: PathLike, line: int) -> WhoRow:
    try:
        person, video, start_s, end_s, probability, decision, count, best_time_s, best = cells
        numbers = float(start_s), float(end_s), float(probability)
        return WhoRow(_as_typed(person), _as_typed(video), *numbers, decision, int(count), float(best_time_s), best)
    except ValueError:
        message = f"expected {len(WhoRow._fields)} cells as the header names them, found {cells}"
        raise DataError(message, path, line) from None


class WhoJson:
    """Writes who.json: ``persons``, all of the gallery, and ``videos``, one a line. stream: of bytes."""

    def __init__(self, stream: IO[bytes], persons: Mapping[str, str]) -> None:
        self._stream, self._count = stream, 0
        words = rttm_names(persons)
        listed = [{"id": person, "name": name, "rttm": words[person]} for person, name in persons.items()]
        stream.write(b'{"persons": ' + orjson.dumps(listed) + b',\n"videos": [')

    def add(self, listed: Listed) -> None:
        self._stream.write((b",\n" if self._count else b"\n") + orjson.dumps(_as_json(listed)))
        self._count += 1

    def close(self) -> None:
        """Write the end; the stream stays open."""
        self._stream.write(b"\n]}\n")


def _as_json(listed: Listed) -> dict[str, Any]:
    answer, rows = listed.answer, listed.rows()
    return {
        "video": listed.video,
        "segment": answer.segment,
        "test_set": listed.test_set,
        "status": answer.status,
        "duration_s": round(answer.duration_s, 3),
        "first_frame_s": round(listed.first_frame_s, 3),
        "width": answer.width,
        "height": answer.height,
        "taken": answer.taken,
        "files": listed.stem,
        "appearances": [
            _appearance(found, row, frames, listed.names)
            for found, row, frames in zip(answer.appearances, rows, listed.frames, strict=True)
        ],
    }


def _appearance(found: Appearance, row: WhoRow, frames: tuple[tuple[int, ...], ...], names: Names) -> dict[str, Any]:
    told = row._asdict()
    del told["video"]
    told["llr"] = round(found.llr, 4)  # not a number is null
    told["candidates"] = [
        {"person": names.person(one.person), "llr": round(one.llr, 4), "probability": round(one.probability, 4)}
        for one in found.candidates
    ]
    told["tracks"] = [
        {
            "modality": track.modality,
            "start_s": round(track.start_s, 3),
            "end_s": round(track.end_s, 3),
            "frames": of_boxes,
            "boxes": [[round(time_s, 3), *(round(side, 1) for side in box)] for time_s, *box in track.boxes],
        }
        for track, of_boxes in zip(found.tracks, frames, strict=True)
    ]
    return told


def read_who_json(path: PathLike) -> Iterator[dict[str, Any]]:
    """The videos of who.json, one at a time, as it was written: a video a line.

    Raises DataError, naming the line, for what is no JSON.
    """
    for number, line in read_lines(path):
        if number > 2 and line != "]}":
            try:
                yield orjson.loads(line.removesuffix(","))
            except ValueError:
                raise DataError(f"expected a video, found '{line[:80]}'; run stage 5 again", path, number) from None
