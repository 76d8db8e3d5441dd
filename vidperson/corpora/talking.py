"""A user's own talking videos: a folder per person; are two videos of the same person, by face and by voice?"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson.corpora.data_folder import (
    PairsOfSources,
    Segment,
    remove_lists,
    safe_id,
    shortened,
    unique_ids,
    write_data_folder,
)
from vidperson.corpora.folder import VIDEOS, bare_id, media_of_persons
from vidperson.errors import DataError

PathLike = str | os.PathLike[str]

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Video:
    """A file below the folder of a person; name: its path there."""

    root: Path
    person: str
    name: str

    @property
    def path(self) -> str:
        return os.path.join(self.root, self.person, self.name)

    @property
    def source(self) -> str:
        """What it was cut from: a folder inside the person's folder, else the video is one of its own."""
        return self.name.split(os.sep)[0]


def prepare(data_dir: PathLike, test_dir: PathLike, train_dir: PathLike | None = None) -> list[Path]:
    """Write `talking_test` below data_dir, and `talking_train` where there are videos to train on.

    test_dir: one folder per person with talking videos. Every two of different sources are a trial, a target one if
        they are of the same person. Videos in one folder inside a person's folder are one source, as are copies of a
        video. The set is both the enrolment set and the test set: its models are the videos.
    train_dir: optional, likewise, of other persons, who are the models of `talking_train`.

    Both sets have `vid.scp` and `wav.scp` of the same files. Ids are `<person>-<video>`, made legal as by
    :func:`vidperson.corpora.folder.prepare`; the `names` list has the originals.

    Returns the folders written. Raises DataError, before anything is written, for a missing or empty folder, a name
    that no list can hold, a video that is there under two persons, or videos that give no trial.
    """
    tested = _videos(test_dir)
    trained = _videos(train_dir) if train_dir else []
    copies = _copies([*tested, *trained])
    sources = _sources(tested, copies)
    _check_persons(tested, trained, copies, sources)

    def segments(videos: Sequence[_Video], by_person: bool) -> tuple[dict[_Video, Segment], dict[str, str]]:
        """The segment of each video, and the original of each id."""
        models = unique_ids({person: safe_id(person) for person in dict.fromkeys(v.person for v in videos)})
        wished = {f"{v.person}/{v.name}": f"{models[v.person]}-{bare_id(v.name)}" for v in videos}
        ids = unique_ids(wished, set(models.values()))
        found = {}
        for video in videos:
            unique = ids[f"{video.person}/{video.name}"]
            found[video] = Segment(unique, video.path, models[video.person] if by_person else unique, sound=video.path)
        names = {unique: name for name, unique in ids.items()}
        return found, names | ({unique: person for person, unique in models.items()} if by_person else {})

    found, names = segments(tested, by_person=False)
    trials = PairsOfSources({s.id: (v.person, sources[v]) for v, s in found.items()})
    if not len(trials):
        raise DataError("expected two videos of different sources at least; found none", test_dir)
    folder = Path(data_dir)
    folders = [write_data_folder(folder / "talking_test", list(found.values()), trials=trials, names=names)]
    if trained:
        found, names = segments(trained, by_person=True)
        folders.append(write_data_folder(folder / "talking_train", list(found.values()), names=names))
    else:
        remove_lists(folder / "talking_train")
    return folders


def _videos(root: PathLike) -> list[_Video]:
    folder = Path(os.path.abspath(root))
    return [_Video(folder, who, name) for who, names in media_of_persons(folder, VIDEOS).items() for name in names]


def _copies(videos: Sequence[_Video]) -> dict[_Video, _Video]:
    """Video -> the first with the same content, for each that is a copy. Files of one size are read."""
    by_size: dict[int, list[_Video]] = {}
    for video in videos:
        by_size.setdefault(os.path.getsize(video.path), []).append(video)
    copies: dict[_Video, _Video] = {}
    for size, same in by_size.items():
        if size == 0 or len(same) == 1:
            continue
        first: dict[str, _Video] = {}
        for video in same:
            earlier = first.setdefault(_digest(video.path), video)
            if earlier is not video:
                copies[video] = earlier
    return copies


def _sources(videos: Sequence[_Video], copies: dict[_Video, _Video]) -> dict[_Video, str]:
    """Video -> its source. Sources that share a video are one."""
    joined: dict[tuple[str, str], str] = {}

    def first(person: str, source: str) -> str:
        while (person, source) in joined:
            source = joined[person, source]
        return source

    for video, earlier in copies.items():
        one, other = first(video.person, video.source), first(video.person, earlier.source)
        if one != other:
            joined[video.person, one] = other
    return {video: first(video.person, video.source) for video in videos}


def _digest(path: str) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _check_persons(
    tested: Sequence[_Video], trained: Sequence[_Video], copies: dict[_Video, _Video], sources: dict[_Video, str]
) -> None:
    """Refuse a video of two persons; warn of copies, of persons in both sets, and of what gives no target trial."""
    for video, earlier in copies.items():
        if video.person != earlier.person:
            what = f"the same video as {earlier.path}, of another person"
            raise DataError(f"{what}; remove one of them", video.path)
    if copies:
        message = "%d videos are copies of others, and give no trial with them: %s"
        log.warning(message, len(copies), shortened([video.path for video in copies]))
    persons = {video.person for video in tested}
    if both := sorted(persons & {video.person for video in trained}):
        log.warning("%d persons are both in the training and in the test videos: %s", len(both), shortened(both))
    if len(persons) == 1:
        log.warning("only one person, %s: there will be no non-target trial", next(iter(persons)))
    own = {(video.person, sources[video]) for video in tested}
    single = sorted(person for person, count in Counter(person for person, _ in own).items() if count == 1)
    if single:
        message = "%d of %d persons have videos of one source only, so no target trial: %s"
        log.warning(message, len(single), len(persons), shortened(single))
