"""iQIYI-VID of 2018 and 2019, and iQIYI-VID-FACE: lists and clips to data folders, ranks to the challenge's answer."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidperson.corpora.data_folder import Search, Segment, check_path, remove_lists, write_data_folder
from vidperson.corpora.folder import VIDEOS
from vidperson.errors import DataError
from vidperson.io.lines import read_scp, write_lines
from vidperson.io.ranks import read_ranks, read_search
from vidperson.types import IMAGE_SUFFIXES

PathLike = str | os.PathLike[str]

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
TRAIN_LISTS, VAL_LISTS = ("train_v2.txt", "train_gt.txt"), ("val_v2.txt", "val_gt.txt")
FACE_LIST = "filelist.txt"
CLIP_LISTS = ("IQIYI_VID.txt", FACE_LIST)
ALIGNED_SHAPE = (112, 112, 3)
MOST_CLIPS = 100
_PART = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])")
_CLIP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PERSON = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class _Place:
    """Where clips lie: all in one folder with one extension; ``of_frames``: each is a folder of images."""

    folder: str
    suffix: str
    of_frames: bool

    def path(self, clip: str) -> str:
        return os.path.join(self.folder, clip + self.suffix)


@dataclass
class _Corpus:
    """What lies below a folder. clips: name without extension -> place; lists: file name -> path."""

    root: str
    clips: dict[str, _Place] = field(default_factory=dict)
    lists: dict[str, Path] = field(default_factory=dict)

    def path(self, clip: str) -> str:
        """The clip's file or folder; at the root where there is none."""
        place = self.clips.get(clip)
        return os.path.join(self.root, f"{clip}.mp4") if place is None else place.path(clip)

    def list_of(self, names: Iterable[str]) -> Path | None:
        """The list with one of these names; None: there is none. Raises DataError for two."""
        found = [self.lists[name] for name in names if name in self.lists]
        if len(found) > 1:
            raise DataError(f"lists of two editions, {found[0]} and {found[1]}; give the folder of one", self.root)
        return found[0] if found else None

    def part_of(self, clip: str) -> str:
        """The part in the clip's name, or in that of the nearest folder that has one; "" for none."""
        place = self.clips.get(clip)
        folders = [] if place is None else os.path.relpath(place.folder, self.root).split(os.sep)
        for name in (clip, *reversed(folders)):
            if part := _PART.search(name.lower()):
                return part[1]
        return ""


def prepare(data_dir: PathLike, root: PathLike, key: PathLike | None = None) -> list[Path]:
    """Write `iqiyi_vid_{train,val,test}` below data_dir, those of which there are clips.

    root: holds, at any depth, a list of the training clips (`train_v2.txt` or `train_gt.txt`), one of the validation
        clips (`val_v2.txt`, `val_gt.txt`) and clips: videos, or a folder of frames each. `IQIYI_VID.txt` and
        `filelist.txt` name clips, one per line; a clip that they do not name counts only if it is given to a person.
        Frames of 112 x 112, as in iQIYI-VID-FACE, are aligned faces: `frames.scp` lists them, not `vid.scp`.
    key: list of who is in which test clip, written as `relevant`.

    A line of a list is `<clip> <person>` or `<person> <clip> ...`; persons are numbers, and the models are called
    so. Ids of clips are their names without `.mp4`. A clip that no list gives to a person belongs to the part in its
    name, or in that of a folder above it, and shows a stranger. Without lists of persons, the clips of `filelist.txt`
    become `iqiyi_vid_face`, each a model of its own.

    Clips without a file get a path at the root, and are counted in a warning: their official features may be there.

    Returns the folders written. Raises DataError, before anything is written, for a folder or list that is missing, a
    malformed line, a clip of two persons or of two lists, a person who has no training clip, two clips of one name.
    """
    corpus = _look(os.path.abspath(root))
    train_list, val_list = corpus.list_of(TRAIN_LISTS), corpus.list_of(VAL_LISTS)
    if train_list is None:
        return [_write_faces(Path(data_dir), corpus)]
    owners = {"train": read_persons(train_list)}
    persons = sorted(set(owners["train"].values()), key=int)
    earlier = {train_list: owners["train"]}
    for part, path in (("val", val_list), ("test", Path(key) if key else None)):
        if path is not None:
            earlier[path] = owners[part] = read_persons(path, set(persons), earlier)
    clips = _clips_of_parts(corpus, owners)
    _report_missing(corpus, owners["train"], clips)

    folders = []
    for part in PARTS:
        folder, owner = Path(data_dir) / f"iqiyi_vid_{part}", owners.get(part)
        if not clips[part]:
            remove_lists(folder)
            continue
        models = {} if owner is None or part == "test" else owner
        segments = [Segment(clip, corpus.path(clip), models.get(clip, "")) for clip in clips[part]]
        search = None if part == "train" else Search(persons, None if owner is None else _clips_of(owner))
        folders.append(write_data_folder(folder, segments, search=search, scp=_scp(corpus)))
    return folders


def read_persons(
    path: PathLike, known: Collection[str] | None = None, earlier: Mapping[Path, Mapping[str, str]] | None = None
) -> dict[str, str]:
    """Clip, without `.mp4`, to its person, of a list in either form; Windows line ends and a byte order mark are fine.

    known: persons that may be named; None: any.
    earlier: other lists, whose clips must not be named.

    A clip that is given to the same person again is counted in a warning. Raises DataError with the line.
    """
    owners: dict[str, str] = {}
    repeated = 0
    for number, line in _lines(path):
        person, clips = _person_and_clips(line, path, number)
        if known is not None and person not in known:
            raise DataError(
                f"person {person} has no training clip, so nobody can be searched for; remove the line", path, number
            )
        for clip in clips:
            if owners.setdefault(clip, person) != person:
                found = f"clip {clip} is given to person {person}, and before to {owners[clip]}"
                raise DataError(f"{found}; remove one of the two", path, number)
            for other, theirs in (earlier or {}).items():
                if clip in theirs:
                    raise DataError(f"clip {clip} is in {other}, too; remove it from one list", path, number)
        repeated += len(clips)
    if not owners:
        raise DataError("expected lines '<clip> <person>' or '<person> <clip> ...', found none", path)
    if repeated > len(owners):
        log.warning("%s: %d clips are there again, with the same person", os.fspath(path), repeated - len(owners))
    return owners


def format_submission(ranks: PathLike, data_folder: PathLike, output: PathLike) -> int:
    """Write the challenge's answer, `<person> <clip.mp4> <clip.mp4> ...` per person, best clip first.

    ranks: `<set>_ranks` of stage 4. data_folder: the searched set, whose vid.scp or frames.scp names the clips.

    Persons are in the order of their numbers. Returns how many there are. Raises DataError, with nothing written, for
    a person with more than 100 clips or with a clip twice, a model that is no number or that the set's `search` does
    not have, a clip of another set, or a set with two segments of one clip. Persons of `search` without a list are
    counted in a warning.
    """
    ranked = read_ranks(ranks)
    scps = [path for path in (Path(data_folder, name) for name in ("vid.scp", "frames.scp")) if path.is_file()]
    if not scps:
        raise DataError("neither vid.scp nor frames.scp is there; expected the data folder of the ranks", data_folder)
    files = {segment: f"{clip}.mp4" for clip, segment in segments_of_clips(scps[0]).items()}
    search = Path(data_folder, "search")
    searched = read_search(search) if search.is_file() else None
    for person, clips in ranked.items():
        if not _PERSON.fullmatch(person):
            raise DataError(f"expected models that are numbers of persons, found '{person}'", ranks)
        if searched is not None and person not in searched:
            raise DataError(f"person {person} is not in {search}; expected the ranks of this set", ranks)
        if len(clips) > MOST_CLIPS:
            raise DataError(
                f"person {person} has {len(clips)} clips, more than {MOST_CLIPS}; use --search-top {MOST_CLIPS}", ranks
            )
        if len(set(clips)) < len(clips):
            raise DataError(f"person {person} has a clip twice", ranks)
        if strange := [clip for clip in clips if clip not in files]:
            raise DataError(f"clip '{strange[0]}' of person {person} is not in {scps[0]}", ranks)
    if missing := [person for person in searched or () if person not in ranked]:
        log.warning("%s: %d of %d persons have no list, which counts as 0", ranks, len(missing), len(searched or ()))
    write_lines(output, (" ".join([p, *(files[clip] for clip in ranked[p])]) for p in sorted(ranked, key=int)))
    return len(ranked)


def segments_of_clips(scp: PathLike) -> dict[str, str]:
    """Clip -> segment of a list of paths, whose last parts are the clips' names, with or without `.mp4`.

    Raises DataError for two segments of one clip, or an empty list.
    """
    segments: dict[str, str] = {}
    for segment, path in read_scp(scp).items():
        clip = os.path.basename(path.rstrip("/")).removesuffix(".mp4")
        if segments.setdefault(clip, segment) != segment:
            raise DataError(f"'{segments[clip]}' and '{segment}' are the same clip, {clip}; remove one", scp)
    if not segments:
        raise DataError("expected '<segment> <path>' of each clip, found no line", scp)
    return segments


def _lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, and their numbers."""
    if not Path(path).is_file():
        raise DataError("no such file", path)
    with open(path, "rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise DataError(f"not UTF-8 text: {error.reason}", path, number) from None
            if line:
                yield number, line


def _person_and_clips(line: str, path: PathLike, number: int) -> tuple[str, list[str]]:
    fields = line.split()
    person, clips = fields[0], fields[1:]
    if len(fields) == 2 and fields[1].isdecimal() and not person.isdecimal():
        person, clips = fields[1], fields[:1]
    clips = [_clip_name(clip) for clip in clips]
    if not _PERSON.fullmatch(person) or not clips or "" in clips:
        form = "expected '<clip> <person>' or '<person> <clip> ...' with persons that are numbers from 1 on"
        raise DataError(f"{form}, found '{line[:100]}'", path, number)
    return person, clips


def _clip_name(text: str) -> str:
    """A clip's name without extension; "" where it is none, or a number that would be taken for a person."""
    name = text.removesuffix(".mp4")
    return name if is_clip_name(name) and not text.isdecimal() else ""


def is_clip_name(name: str) -> bool:
    """Whether lists can hold a clip's name: letters, digits, '.', '_' and '-'."""
    return _CLIP.fullmatch(name) is not None


def _look(root: str) -> _Corpus:
    """Look once at all that lies below a folder; links are followed, hidden files are not."""
    if not os.path.isdir(root):
        raise DataError("no such folder", root)
    corpus, seen, left = _Corpus(root), set[tuple[int, int]](), [root]
    while left:
        folder = left.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        check_path(folder)
        inner, videos, has_images = _look_into(folder, corpus.lists)
        places: dict[str, _Place] = {}
        for name in videos:
            clip, suffix = os.path.splitext(name)
            _add(corpus, clip, places.setdefault(suffix, _Place(folder, suffix, of_frames=False)))
        if has_images and not inner and not videos and folder != root:
            above, name = os.path.split(folder)
            clip = name.removesuffix(".mp4")
            _add(corpus, clip, _Place(above, name[len(clip) :], of_frames=True))
        left += [os.path.join(folder, name) for name in sorted(inner, key=os.fsencode, reverse=True)]
    return corpus


def _look_into(folder: str, lists: dict[str, Path]) -> tuple[list[str], list[str], bool]:
    """Names of the folders and of the videos in a folder, and whether there are images. The corpus' lists are noted."""
    inner, videos, has_images = [], [], False
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if _is_folder(entry):
                inner.append(name)
            elif suffix in VIDEOS:
                videos.append(name)
            elif suffix in IMAGE_SUFFIXES:
                has_images = True
            elif name in (*TRAIN_LISTS, *VAL_LISTS, *CLIP_LISTS):
                path = Path(entry.path)
                if lists.setdefault(name, path) != path:
                    raise DataError(f"there is another {name}, {lists[name]}; give the folder of one edition", path)
    return inner, videos, has_images


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _add(corpus: _Corpus, clip: str, place: _Place) -> None:
    """Note where a clip lies; a video counts rather than a folder of its frames."""
    before = corpus.clips.get(clip)
    if before is None or (before.of_frames and not place.of_frames):
        corpus.clips[clip] = place
    elif before.of_frames == place.of_frames:
        first, second = sorted((before.path(clip), place.path(clip)))
        raise DataError(f"two clips of one name, this and {second}; remove one", first)


def _scp(corpus: _Corpus) -> str:
    """The list for the corpus' clips: frames.scp where all are folders of aligned faces, by an image of one."""
    import cv2

    if not corpus.clips or not all(place.of_frames for place in corpus.clips.values()):
        return "vid.scp"
    folder = corpus.path(min(corpus.clips))
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    images = (cv2.imread(os.path.join(folder, name)) for name in names if name.lower().endswith(IMAGE_SUFFIXES))
    first = next((image for image in images if image is not None), None)
    return "frames.scp" if first is not None and first.shape == ALIGNED_SHAPE else "vid.scp"


def _named_clips(corpus: _Corpus) -> set[str]:
    """All clips that the lists of clips name."""
    named = set[str]()
    for path in (corpus.lists[name] for name in CLIP_LISTS if name in corpus.lists):
        for number, line in _lines(path):
            clip = _clip_name(line.split()[0].rsplit("/", 1)[-1])
            if not clip:
                raise DataError(f"expected the name of a clip, found '{line[:100]}'", path, number)
            named.add(clip)
    return named


def _clips_of_parts(corpus: _Corpus, owners: Mapping[str, Mapping[str, str]]) -> dict[str, set[str]]:
    """The clips of each part: those with a person, and in val and test those without."""
    named = _named_clips(corpus)
    listed_parts = {corpus.part_of(clip) for clip in named}
    clips = {part: set(owners.get(part, ())) for part in PARTS}
    left_out = dict[str, int]()
    for clip in (*corpus.clips, *(named - corpus.clips.keys())):
        if any(clip in theirs for theirs in owners.values()):
            continue
        part, why = corpus.part_of(clip), ""
        if not is_clip_name(clip):
            why = "their names have other characters than letters, digits, '.', '_' and '-'"
        elif not part:
            why = "neither their names nor their folders say train, val or test"
        elif part in listed_parts and clip not in named:
            why = f"they are not in {' or '.join(name for name in CLIP_LISTS if name in corpus.lists)}"
        elif part == "train":
            why = "no list gives these training clips to a person"
        elif part == "val" and part not in owners:
            why = f"there is no {' or '.join(VAL_LISTS)}"
        if why:
            left_out[why] = left_out.get(why, 0) + 1
        else:
            clips[part].add(clip)
    for why, count in sorted(left_out.items()):
        log.warning("%s: %d clips are left out: %s", corpus.root, count, why)
    if "val" in owners and len(clips["val"]) == len(owners["val"]):
        log.warning(
            "%s: iqiyi_vid_val has no strangers, so it cannot tell how often one is taken for a person", corpus.root
        )
    return clips


def _clips_of(owners: Mapping[str, str]) -> dict[str, list[str]]:
    clips: dict[str, list[str]] = {}
    for clip, person in owners.items():
        clips.setdefault(person, []).append(clip)
    return clips


def _report_missing(corpus: _Corpus, trained: Mapping[str, str], clips: Mapping[str, Collection[str]]) -> None:
    """Warn of clips without a file, and of persons who have no other ones to learn from."""
    missing = sum(clip not in corpus.clips for some in clips.values() for clip in some)
    if missing:
        message = "%s: %d of %d clips have no file below it; without their official features they will be unreadable"
        log.warning(message, corpus.root, missing, sum(map(len, clips.values())))
        persons = set(trained.values()) - {person for clip, person in trained.items() if clip in corpus.clips}
        if persons:
            log.warning("%s: %d persons have no training clip with a file", corpus.root, len(persons))


def _write_faces(data_dir: Path, corpus: _Corpus) -> Path:
    """iQIYI-VID-FACE alone, whose persons are not public: every clip is a model."""
    if FACE_LIST not in corpus.lists:
        what = f"neither {' nor '.join((*TRAIN_LISTS, FACE_LIST))} is in it or below it"
        raise DataError(f"{what}; give the folder that holds the lists", corpus.root)
    clips = sorted(_named_clips(corpus))
    if not clips:
        raise DataError("expected a clip per line, found none", corpus.lists[FACE_LIST])
    segments = [Segment(clip, corpus.path(clip), clip) for clip in clips]
    _report_missing(corpus, {}, {"": clips})
    return write_data_folder(data_dir / "iqiyi_vid_face", segments, scp=_scp(corpus))
