"""A user's own clips: of persons to learn, of strangers, and those to search; any names."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vidperson.corpora.data_folder import (
    Search,
    Segment,
    remove_lists,
    safe_id,
    shortened,
    unique_ids,
    write_data_folder,
)
from vidperson.corpora.folder import bare_id, media_below, media_of_persons, read_key
from vidperson.errors import DataError

log = logging.getLogger(__name__)

_STRANGERS_HELD_OUT = 0.5


@dataclass(frozen=True)
class _Clip:
    """A file to learn from.

    root: folder of all persons, or of the strangers.
    person: name of the person's folder; "" for a stranger.
    name: path below it, or below the folder of the strangers.
    """

    root: Path
    person: str
    name: str

    @property
    def path(self) -> str:
        return os.path.join(self.root, self.person, self.name)

    @property
    def label(self) -> str:
        """Unique among all; does not depend on where the folders are."""
        return f"{self.person}/{self.name}"

    @property
    def owner(self) -> str:
        """For a message."""
        return f"person '{self.person}'" if self.person else "the strangers"

    @property
    def source(self) -> str:
        """What it was cut from: a folder inside the person's folder, else the file is one of its own."""
        return self.name.split(os.sep)[0]


def prepare(
    data_dir: str | os.PathLike[str],
    persons_dir: str | os.PathLike[str],
    search_dir: str | os.PathLike[str],
    strangers_dir: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    valid_share: float = 0.0,
) -> list[Path]:
    """Write `clips_train` and `clips_test` below data_dir, and `clips_valid` where a share is held out.

    persons_dir: one folder per person with videos or images to learn from.
    search_dir: videos or images in which all persons are searched for.
    strangers_dir: optional, videos or images of other people. They go to `clips_train` without a person.
    key: optional list of who is in which searched video, `<person><tab><video below search_dir>`; written as
        `relevant`. A video in no line shows strangers.
    valid_share: in 0..1, the share of each person's sources that is held out for `clips_valid`, a searched set with
        half of the strangers' sources. Files in one folder inside a person's folder are one source, a file beside
        such folders is one. At least one source stays for training. Names alone decide which are held out.

    Ids are made as by :func:`vidperson.corpora.folder.prepare`; the `names` list has the originals.

    Returns the folders written. Raises DataError for a missing or empty folder, a name that no list can hold, a file
    of two persons or of a person and the strangers, a key that names what is not there, a share outside 0..1, or one
    that holds nothing out.
    """
    if not 0 <= valid_share <= 1:
        raise DataError(f"clips_valid: expected a share in 0..1, found {valid_share}")
    persons = media_of_persons(_absolute(persons_dir))
    clips = [_Clip(_absolute(persons_dir), person, name) for person, names in persons.items() for name in names]
    if strangers_dir:
        clips += [_Clip(_absolute(strangers_dir), "", name) for name in _media(strangers_dir)]
    held_out = _held_out(clips, valid_share) if valid_share else set()
    videos = _media(search_dir)
    _check_files(clips, [os.path.join(_absolute(search_dir), name) for name in videos])
    shown = read_key(Path(key), persons, videos) if key else None

    models = unique_ids({person: safe_id(person) for person in persons})
    wished = {clip.label: f"{models.get(clip.person, 'stranger')}-{bare_id(clip.name)}" for clip in clips}
    ids = unique_ids(wished, set(models.values()))
    test_ids = unique_ids({name: bare_id(name) for name in videos}, set(models.values()))

    def write(name: str, segments: dict[Segment, str], pairs: Iterable[tuple[str, str]] | None, searched: bool) -> Path:
        """segments: each with its original name; pairs: who is in which segment."""
        relevant: dict[str, list[str]] = {}
        for person, segment in pairs or ():
            relevant.setdefault(models[person], []).append(segment)
        search = Search(models.values(), None if pairs is None else relevant) if searched else None
        names = {model: person for person, model in models.items()} | {s.id: name for s, name in segments.items()}
        return write_data_folder(Path(data_dir) / name, list(segments), search=search, names=names)

    def learnt(some: Iterable[_Clip]) -> dict[Segment, str]:
        return {Segment(ids[c.label], c.path, models.get(c.person, "")): os.path.join(c.person, c.name) for c in some}

    folders = [write("clips_train", learnt(clip for clip in clips if clip not in held_out), None, searched=False)]
    if held_out:
        known = [(clip.person, ids[clip.label]) for clip in clips if clip in held_out and clip.person]
        folders.append(write("clips_valid", learnt(clip for clip in clips if clip in held_out), known, searched=True))
    else:
        remove_lists(Path(data_dir) / "clips_valid")
    tested = {Segment(test_ids[name], _absolute(search_dir) / name): name for name in videos}
    pairs = None if shown is None else [(person, test_ids[name]) for person, name in shown]
    return [*folders, write("clips_test", tested, pairs, searched=True)]


def _absolute(folder: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(folder))


def _media(folder: str | os.PathLike[str]) -> list[str]:
    names = media_below(_absolute(folder))
    if not names:
        raise DataError("no video or image in it", _absolute(folder))
    return names


def _check_files(clips: Iterable[_Clip], searched: Iterable[str]) -> None:
    """Refuse a file that two persons share, or one and the strangers; warn of searched ones that are learnt from.

    Links and hard links are the file that they lead to.
    """
    learnt: dict[tuple[int, int], _Clip] = {}
    for clip in clips:
        earlier = learnt.setdefault(_file(clip.path), clip)
        if earlier.person != clip.person:
            raise DataError(f"of {clip.owner} and of {earlier.owner}, as {earlier.path}; remove one of them", clip.path)
    known = [path for path in searched if _file(path) in learnt]
    if known:
        what = "searched videos are learnt from, too: finding them proves nothing"
        log.warning("%d %s: %s", len(known), what, shortened(known))


def _file(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _held_out(clips: Iterable[_Clip], share: float) -> set[_Clip]:
    """Those to validate on: a share of each person's sources and half of the strangers', never all of one's own."""
    sources: dict[str, dict[str, list[_Clip]]] = {}
    for clip in clips:
        sources.setdefault(clip.person, {}).setdefault(clip.source, []).append(clip)
    held_out: set[_Clip] = set()
    for person, by_source in sources.items():
        wanted = (share if person else _STRANGERS_HELD_OUT) * len(by_source)
        order = sorted(by_source, key=lambda source: hashlib.sha256(f"{person}/{source}".encode()).digest())
        for source in order[: min(round(wanted), len(by_source) - 1)]:
            held_out.update(by_source[source])
    if not any(clip.person for clip in held_out):
        raise DataError(f"clips_valid={share} holds nothing out: no person has enough videos; set it to 0")
    if all(clip.person for clip in held_out):
        log.warning("no strangers are held out: clips_valid cannot tell how often one is taken for a person")
    return held_out
