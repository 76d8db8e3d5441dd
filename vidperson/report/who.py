"""Pages that say who is in which video, and when: one of all, one of each person and one of each video.

They are written from an index in a temporary file, so that memory does not grow with the number of videos.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from vidperson.answers import VideoAnswer
from vidperson.report.page import render
from vidperson.report.pictures import narrow_jpeg
from vidperson.types import is_image_name

T = TypeVar("T")

MOST_CARDS = 60
"""Persons, and videos, that the first page shows with their time lines; the others are listed there by name."""
MOST_LANES, MOST_TIMES = 8, 4
"""Lines of a card and times of a line on the first page; pages of their own have more, and paper has all times."""
MOST_LISTED = 20_000
"""Names in a list of the first page."""
MOST_FACES, FACE_WIDTH = 300, 112
"""Faces that a page of its own shows, and their width in pixels; of the others it has the times."""
MOST_VIDEOS = 300
"""Videos on the page of a person; further pages have the others."""
SHORT_S = 10.0
"""Times of what is shorter are written to a tenth of a second."""
BURST_S = 1.0
"""Photos of one folder that follow each other as fast as this are one burst."""

_SKIPPED = ("unreadable", "missing", "damaged")
_STATES = {
    "unreadable": "it cannot be read",
    "damaged": "a part of it is damaged and was left out",
    "missing": "there is no such file",
}

Face = Callable[[str, str, int], bytes | None]
"""Test set, segment, number of the appearance from 1 -> JPEG file of its best face, None where there is none."""


@dataclass(frozen=True)
class Shown:
    """A video or an image of the answer, with what the pages tell beside it.

    name: as typed. page: its own page below ``videos/``, without its suffix; unique among all videos.
    media: link to the file, as a browser takes it, absolute or relative to the first page; empty where it is unknown.
    annotated: likewise, to the copy with boxes and names. test_set: where the segment's id is from.
    first_frame_s: the time at which a player shows the first frame, from which the answer counts.
    """

    answer: VideoAnswer
    name: str
    page: str
    media: str = ""
    annotated: str = ""
    test_set: str = ""
    first_frame_s: float = 0.0


@dataclass(frozen=True)
class Skipped:
    """A file that was not used, or not as it is. why: in plain words. what: such as "video" or "portrait"."""

    what: str
    name: str
    why: str


@dataclass(frozen=True)
class Network:
    """A network that was used. sha256: of its file, empty where it is unknown."""

    name: str
    task: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Made:
    """How the answer was made.

    date: a day. command: what was called. options, versions: name -> value. files: other files of the answer,
    link -> what it is.
    """

    date: str = ""
    command: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    networks: Sequence[Network] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """An appearance as it is drawn.

    left, width: per cent of the time line. href: the video at that second, empty where its file is unknown.
    time, sure: what is written. decision: as in the answer. seen: whether it has a face or a body.
    others: the persons that it may show otherwise. face: its picture.
    """

    left: float
    width: float
    href: str
    time: str
    sure: str
    decision: str
    seen: bool
    others: str
    face: bytes | None


@dataclass(frozen=True)
class Lane:
    """A person in a video: the spans on one time line."""

    name: str
    href: str
    decision: str
    spans: Sequence[Span]
    duration: str
    face: bytes | None = None
    picture: bool = False


@dataclass(frozen=True)
class Card:
    """A person or a video with its lanes.

    more: how many lanes there are beyond these. words: what finds it. burst: names and links of the photos that were
    taken with it.
    """

    name: str
    href: str
    facts: Sequence[str]
    lanes: Sequence[Lane]
    more: int
    words: str
    face: bytes | None = None
    media: str = ""
    annotated: str = ""
    decision: str = ""
    burst: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Listing:
    """Names and links, at most MOST_LISTED, and how many there are in all."""

    lines: Sequence[tuple[str, str]]
    total: int


def who_pages(
    videos: Iterable[Shown], persons: Mapping[str, str], face: Face, skipped: Sequence[Skipped], made: Made
) -> Iterator[tuple[str, str]]:
    """Name of each page below the folder of the answer -> its text; the first page, ``report.html``, comes last.

    videos: are read once, one at a time. persons: that were searched for, id -> name as typed.
    """
    with _Index(persons, face) as index:
        for shown in videos:
            index.add(shown)
        yield from _person_pages(index)
        yield from _video_pages(index)
        yield "report.html", _first_page(index, skipped, made)


def _first_page(index: _Index, skipped: Sequence[Skipped], made: Made) -> str:
    known, unknown = index.persons(False), index.persons(True)
    films, bursts = index.videos(False), index.bursts()
    later = [number for burst in bursts[MOST_CARDS:] for number in burst]
    return render(
        "who.html.j2",
        title="Who is in these videos?" if films or not bursts else "Who is in these photos?",
        subtitle=index.summary(len(known), len(unknown)),
        most_times=MOST_TIMES,
        num_persons=len(known),
        persons=[index.person_card(key) for key in known[:MOST_CARDS]],
        more_persons=_listing(known[MOST_CARDS:], index.person_line),
        num_unknown=len(unknown),
        unknown=[index.person_card(key) for key in unknown[:MOST_CARDS]],
        more_unknown=_listing(unknown[MOST_CARDS:], index.person_line),
        num_videos=len(films),
        videos=[index.video_card(number) for number in films[:MOST_CARDS]],
        more_videos=_listing(films[MOST_CARDS:], index.video_line),
        num_pictures=sum(map(len, bursts)),
        pictures=[index.burst_card(burst) for burst in bursts[:MOST_CARDS]],
        more_pictures=_listing(later, index.video_line),
        nobody=_listing(index.without_anybody(), lambda line: line),
        absent=_listing(index.absent(), lambda name: (name, "")),
        skipped=[*index.skipped(), *skipped],
        made=made,
    )


def _listing(keys: Sequence[T], line_of: Callable[[T], tuple[str, str]]) -> Listing:
    return Listing([line_of(key) for key in keys[:MOST_LISTED]], len(keys))


def _person_pages(index: _Index) -> Iterator[tuple[str, str]]:
    """A page of each person, and more where the person is in many videos: the first one has the links to all."""
    for key in [*index.persons(False), *index.persons(True)]:
        first = index.page_of(key)
        count = max(1, -(-index.num_videos_of(key) // MOST_VIDEOS))
        pages = [first, *(f"{first.removesuffix('.html')}/{number}.html" for number in range(2, count + 1))]
        for number, page in enumerate(pages):
            root = _root(page)
            card = index.person_card(key, root, math.inf, number * MOST_VIDEOS)
            others = [(root + link, link == page) for link in pages] if count > 1 else []
            text = render("who_person.html.j2", title=card.name, card=card, root=root, others=others)
            yield unquote(page), text


def _video_pages(index: _Index) -> Iterator[tuple[str, str]]:
    for number in (*index.videos(False), *index.videos(True)):
        _, page = index.video_line(number)
        root = _root(page)
        card = index.video_card(number, root, math.inf)
        yield (
            unquote(page),
            render("who_video.html.j2", title=card.name, card=card, root=root, most_times=2 * MOST_TIMES),
        )


_TABLES = """
CREATE TABLE video(
  number INTEGER PRIMARY KEY, test_set, segment, name, page, media, annotated, duration_s, status, taken, found,
  picture, first_frame_s);
CREATE TABLE appearance(
  person, video INTEGER, number INTEGER, decision, probability, start_s, end_s, seen, others,
  PRIMARY KEY (person, video, number)) WITHOUT ROWID;
CREATE INDEX of_video ON appearance(video, number);
"""


class _Index:
    """All videos and appearances, in a file that SQLite makes for itself and removes when it is closed.

    A person's key: the id, after "+" for one of the gallery and after "?" for an unknown one.
    """

    def __init__(self, names: Mapping[str, str], face: Face) -> None:
        self._names = names
        self._face = face
        self._sets: set[str] = set()

    def __enter__(self) -> _Index:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_TABLES + "BEGIN;")
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, shown: Shown) -> None:
        """Note a video."""
        answer = shown.answer
        ends = [appearance.end_s for appearance in answer.appearances]
        number = self._one("SELECT count(*) FROM video") + 1
        self._sets.add(shown.test_set)
        values = (number, shown.test_set, answer.segment, shown.name, shown.page, shown.media, shown.annotated)
        about = (max([answer.duration_s, *ends]), answer.status, answer.taken, len(ends))
        picture = answer.duration_s == 0 and is_image_name(shown.name)
        self._db.execute(
            f"INSERT INTO video VALUES ({','.join('?' * 13)})", (*values, *about, picture, shown.first_frame_s)
        )
        for place, one in enumerate(answer.appearances, 1):
            key = f"?{shown.test_set}\n{one.person}" if one.decision == "unknown" else f"+{one.person}"
            others = [(each.person, each.probability) for each in one.candidates if each.person != one.person]
            row = (key, number, place, one.decision, one.probability, one.start_s, one.end_s, one.num_faces > 0)
            self._db.execute(f"INSERT INTO appearance VALUES ({','.join('?' * 9)})", (*row, json.dumps(others)))

    # -- lists ------------------------------------------------------------------------------------------------------

    def persons(self, unknown: bool) -> list[str]:
        """Keys of the persons that appear: who is in most videos first, then by name."""
        counts = self._db.execute(
            "SELECT person, count(DISTINCT video) AS videos FROM appearance WHERE substr(person, 1, 1) = ? "
            "GROUP BY person",
            ("?" if unknown else "+",),
        )
        return [key for key, _ in sorted(counts, key=lambda row: (-row[1], _natural(self.name_of(row[0])), row[0]))]

    def videos(self, pictures: bool) -> list[int]:
        """Numbers of the videos, or pictures, in which somebody is: by the time when they were taken, then as given."""
        rows = self._db.execute(
            "SELECT number FROM video WHERE found AND picture = ? ORDER BY taken = '', taken, number",
            (pictures,),
        )
        return [number for (number,) in rows]

    def bursts(self) -> list[list[int]]:
        """The pictures of :meth:`videos`; those that were taken right after each other are together."""
        groups: list[list[int]] = []
        latest: dict[str, tuple[datetime | None, list[int]]] = {}  # by folder
        for number in self.videos(True):
            name, taken = self._db.execute("SELECT name, taken FROM video WHERE number = ?", (number,)).fetchone()
            folder, now = name.rpartition("/")[0], _time(taken)
            before, group = latest.get(folder, (None, []))
            if _seconds_between(before, now) > BURST_S:
                group = []
                groups.append(group)
            group.append(number)
            latest[folder] = now, group
        return groups

    def skipped(self) -> list[Skipped]:
        """Files that could not be read, or not as a whole."""
        rows = self._db.execute("SELECT name, status, picture FROM video ORDER BY number")
        return [
            Skipped("photo" if picture else "video", name, plain_status(status))
            for name, status, picture in rows
            if status.partition(":")[0] in _SKIPPED
        ]

    def without_anybody(self) -> list[tuple[str, str]]:
        """Name and link of videos that were read, and in which nobody was found."""
        rows = self._db.execute("SELECT name, media, status FROM video WHERE NOT found ORDER BY number")
        return [(name, media) for name, media, status in rows if status.partition(":")[0] not in _SKIPPED]

    def absent(self) -> list[str]:
        """Names of the gallery's persons that appear nowhere."""
        here = {key for (key,) in self._db.execute("SELECT DISTINCT person FROM appearance")}
        return [name for person, name in self._names.items() if f"+{person}" not in here]

    def summary(self, known: int, unknown: int) -> str:
        """What was found, in a sentence, in the files that could be read."""
        read = "status NOT LIKE 'unreadable%' AND status NOT LIKE 'missing%'"
        films, pictures = (
            self._one(f"SELECT count(*) FROM video WHERE {read} AND picture = {each}") for each in (0, 1)
        )
        persons = [_count(known, "person")] if known or self._names or not unknown else []
        persons += [_count(unknown, "unknown person")] if unknown else []
        media = [_count(films, "video")] if films or not pictures else []
        media += [_count(pictures, "photo")] if pictures else []
        return f"{_joined(persons)} in {_joined(media)}."

    # -- cards ------------------------------------------------------------------------------------------------------

    def name_of(self, key: str) -> str:
        """A person's name as it is shown; an unknown one is named with the set where there are several."""
        if key.startswith("+"):
            return self._names.get(key[1:], key[1:])
        test_set, _, name = key[1:].partition("\n")
        return f"{name} of {test_set}" if len(self._sets) > 1 else name

    def page_of(self, key: str) -> str:
        """Link from the first page to a person's page."""
        if key.startswith("+"):
            return f"persons/{quote(key[1:].replace('%', '%25').replace('/', '%2F'))}.html"
        test_set, _, name = key[1:].partition("\n")
        of_set = f"{quote(test_set, '')}/" if len(self._sets) > 1 else ""
        return f"unknown/{of_set}{quote(name.removeprefix('unknown '), '')}.html"

    def person_line(self, key: str) -> tuple[str, str]:
        return self.name_of(key), self.page_of(key)

    def video_line(self, number: int) -> tuple[str, str]:
        name, page = self._db.execute("SELECT name, page FROM video WHERE number = ?", (number,)).fetchone()
        return name, f"videos/{quote(page)}.html"

    def person_card(self, key: str, root: str = "", most: float = MOST_LANES, skip: int = 0) -> Card:
        """A person with a lane per video.

        root: from the page to the first page. most: lanes, inf for a whole page. skip: videos on pages before it.
        """
        films, pictures, seconds = self._db.execute(
            "SELECT count(DISTINCT CASE WHEN NOT picture THEN video END), "
            "count(DISTINCT CASE WHEN picture THEN video END), total(end_s - start_s) "
            "FROM appearance JOIN video ON video = video.number WHERE person = ?",
            (key,),
        ).fetchone()
        facts = [_count(films, "video")] if films else []
        facts += [_count(pictures, "photo")] if pictures else []
        facts += [f"{seconds_text(seconds)} in all"] if films else []
        lanes, words, whole = [], [self.name_of(key)], most == math.inf
        faces = MOST_FACES if whole else 0
        for video in self._videos_of(key, MOST_VIDEOS if whole else int(most), skip):
            lane = self._lane(video, self._of(key, video["number"]), root, whole, faces)
            faces -= len(lane.spans)
            lanes.append(lane)
            words.append(video["name"])
        best = self._db.execute(
            "SELECT test_set, segment, appearance.number FROM appearance JOIN video ON video = video.number "
            "WHERE person = ? AND seen ORDER BY decision = 'yes' DESC, probability DESC, end_s - start_s DESC, "
            "video, appearance.number LIMIT 1",
            (key,),
        ).fetchone()
        return Card(
            name=self.name_of(key),
            href=root + self.page_of(key),
            facts=facts,
            lanes=lanes,
            more=films + pictures - len(lanes) if not whole else 0,
            words=" ".join(words),
            face=self._small(*best) if best else None,
            decision="unknown" if key.startswith("?") else "yes",
        )

    def video_card(self, number: int, root: str = "", most: float = MOST_LANES) -> Card:
        """A video with a lane per person; arguments as of :meth:`person_card`."""
        video = self._db.execute("SELECT * FROM video WHERE number = ?", (number,)).fetchone()
        keys = self._persons_in(number)
        lanes, whole = [], most == math.inf
        faces = MOST_FACES if whole else len(keys)
        for key in keys if whole else keys[: int(most)]:
            lane = self._lane(video, self._of(key, number), root, whole, faces, key)
            faces -= len(lane.spans)
            lanes.append(lane)
        facts = [seconds_text(video["duration_s"])] if video["duration_s"] else []
        facts += [_count(len(keys), "person")]
        facts += [video["taken"][:16].replace("T", " ")] if video["taken"] else []
        facts += [plain_status(video["status"])] if video["status"].partition(":")[0] in _SKIPPED else []
        return Card(
            name=video["name"],
            href=f"{root}videos/{quote(video['page'])}.html",
            facts=facts,
            lanes=lanes,
            more=len(keys) - len(lanes),
            words=" ".join([video["name"], *map(self.name_of, keys)]),
            media=_below(root, video["media"]),
            annotated=_below(root, video["annotated"]),
        )

    def burst_card(self, burst: Sequence[int]) -> Card:
        """The picture of a burst with the most persons, with the names of the others."""
        persons = {number: self._persons_in(number) for number in burst}
        card = self.video_card(max(burst, key=lambda number: len(persons[number])))
        if len(burst) == 1:
            return card
        lines = [self.video_line(number) for number in burst]
        keys = dict.fromkeys(key for each in persons.values() for key in each)
        words = " ".join([*(name for name, _ in lines), *map(self.name_of, keys)])
        return replace(card, words=words, burst=lines[:MOST_LISTED])

    def _lane(
        self, video: sqlite3.Row, rows: Sequence[sqlite3.Row], root: str, whole: bool, faces: int, person: str = ""
    ) -> Lane:
        """The appearances of a person in a video. faces: pictures that may be shown. person: key, to name it by."""
        media = _below(root, video["media"])
        spans = [
            self._span(video, row, media, at < faces if whole else video["picture"]) for at, row in enumerate(rows)
        ]
        first = next((row for row in rows if row["seen"]), None)
        face = self._small(video["test_set"], video["segment"], first["number"]) if person and first else None
        return Lane(
            name=self.name_of(person) if person else video["name"],
            href=root + (self.page_of(person) if person else f"videos/{quote(video['page'])}.html"),
            decision="unsure" if all(row["decision"] == "unsure" for row in rows) else rows[0]["decision"],
            spans=spans,
            duration=clock(video["duration_s"]),
            face=face,
            picture=bool(video["picture"]),
        )

    def _span(self, video: sqlite3.Row, row: sqlite3.Row, media: str, with_face: bool) -> Span:
        length = video["duration_s"]
        still = video["picture"]
        names = (
            f"{self.name_of(f'+{person}')} {percent(share)}" for person, share in json.loads(row["others"]) if share > 0
        )
        return Span(
            left=round(100 * row["start_s"] / length, 3) if length else 0,
            width=round(100 * (row["end_s"] - row["start_s"]) / length, 3) if length else 100,
            href=media if still or not media else f"{media}#t={round(row['start_s'] + video['first_frame_s'], 3):g}",
            time="" if still else span_text(row["start_s"], row["end_s"]),
            sure="" if row["decision"] == "unknown" else percent(row["probability"]),
            decision=row["decision"],
            seen=bool(row["seen"]),
            others=_joined(list(names)[:3], "or") if row["decision"] == "unsure" else "",
            face=self._small(video["test_set"], video["segment"], row["number"]) if with_face and row["seen"] else None,
        )

    def _persons_in(self, number: int) -> list[str]:
        """Keys of the persons of a video, by when they are first there; the unknown ones last."""
        order = "ORDER BY substr(person, 1, 1), min(number)"
        found = f"SELECT person FROM appearance WHERE video = ? GROUP BY person {order}"
        return [key for (key,) in self._db.execute(found, (number,))]

    def num_videos_of(self, key: str) -> int:
        """Videos and pictures of a person."""
        found = self._db.execute("SELECT count(DISTINCT video) FROM appearance WHERE person = ?", (key,))
        return int(found.fetchone()[0])

    def _videos_of(self, key: str, most: int, skip: int) -> list[sqlite3.Row]:
        """Videos of a person, as :meth:`videos` orders them, the pictures last."""
        return self._db.execute(
            "SELECT * FROM video WHERE number IN (SELECT video FROM appearance WHERE person = ?) "
            "ORDER BY picture, taken = '', taken, number LIMIT ? OFFSET ?",
            (key, most, skip),
        ).fetchall()

    def _of(self, key: str, number: int) -> list[sqlite3.Row]:
        found = "SELECT * FROM appearance WHERE person = ? AND video = ? ORDER BY number"
        return self._db.execute(found, (key, number)).fetchall()

    def _small(self, test_set: str, segment: str, number: int) -> bytes | None:
        """The face of an appearance, small enough for a page; None where there is none or it is damaged."""
        content = self._face(test_set, segment, number)
        try:
            return narrow_jpeg(content, FACE_WIDTH) if content else None
        except OSError:
            return None

    def _one(self, query: str) -> int:
        (value,) = self._db.execute(query).fetchone()
        return int(value)


# -- words ----------------------------------------------------------------------------------------------------------


def plain_status(status: str) -> str:
    """The status of stage 2 for a reader who knows nothing of stages."""
    state, _, why = status.partition(": ")
    words = _STATES.get(state, state.replace("_", " "))
    return f"{words} ({why})" if why else words


def clock(seconds: float, digits: int = 0) -> str:
    """``0:07``, ``12:30`` or ``1:02:03``, with so many digits after the point."""
    whole = round(max(0.0, seconds), digits)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def span_text(start_s: float, end_s: float) -> str:
    """From when to when."""
    digits = 1 if end_s - start_s < SHORT_S else 0
    return f"{clock(start_s, digits)} – {clock(end_s, digits)}"


def seconds_text(seconds: float) -> str:
    """How long something lasts: ``14 s``, ``2 min 5 s`` or ``1 h 2 min``."""
    whole = max(1, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def percent(probability: float) -> str:
    """``97 %``; what is not quite certain is never called 100 or 0 %."""
    value = 100 * probability
    number = "> 99" if value > 99.5 else "< 1" if value < 0.5 else f"{value:.0f}"
    return f"{number} %".replace(" ", "\N{NO-BREAK SPACE}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _joined(words: Sequence[str], last: str = "and") -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def _natural(name: str) -> tuple[Any, ...]:
    """A key by which 2 comes before 10."""
    import re

    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.casefold()))


def _time(taken: str) -> datetime | None:
    try:
        return datetime.fromisoformat(taken)
    except ValueError:
        return None


def _seconds_between(one: datetime | None, other: datetime | None) -> float:
    """Infinite where one is not known, or only one has a time zone."""
    if one is None or other is None or (one.tzinfo is None) != (other.tzinfo is None):
        return math.inf
    return abs((other - one).total_seconds())


def _root(page: str) -> str:
    """From a page to the folder of the first page."""
    return "../" * page.count("/")


def _below(root: str, link: str) -> str:
    """A link of the first page as a page in a folder has it."""
    return link if not root or not link or ":" in link.partition("/")[0] else root + link
