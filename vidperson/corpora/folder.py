"""A user's own folders: one of persons, one of videos, any names."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from vidperson.corpora.data_folder import (
    AllPairs,
    Segment,
    check_path,
    safe_id,
    shortened,
    unique_ids,
    write_data_folder,
    write_empty_folder,
)
from vidperson.errors import DataError
from vidperson.types import IMAGE_SUFFIXES

log = logging.getLogger(__name__)

_VIDEOS = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .asf .flv .f4v .3gp .3g2 .ogv .vob .y4m .mxf"
VIDEOS = frozenset(f"{_VIDEOS} .m2v .divx".split())
_LIVE = b"com.apple.quicktime.still-image-time"  # names the moment of the photo in the film of a live photo
_LIVE_BYTES = 64 << 20  # three seconds have less
MEDIA = VIDEOS.union(IMAGE_SUFFIXES, (".gif",))


def prepare(
    data_dir: str | os.PathLike[str],
    persons_dir: str | os.PathLike[str],
    videos_dir: str | os.PathLike[str],
    key: str | os.PathLike[str] | None = None,
    find_persons: bool = False,
    sound: bool = False,
) -> list[Path]:
    """Write `folder_enroll` (a model per person) and `folder_test` below data_dir; every pair is a trial.

    persons_dir: one folder per person with portraits or videos in it, at any depth.
    videos_dir: videos or images at any depth, or one file.
    key: optional list of the target pairs, one per line: person's folder name, tab, video's path below
        videos_dir; all other pairs are non-target. Without it the trials have no key. Accents may be written in
        another Unicode form (NFC, NFD) than in the names of the files.
    find_persons: whether the videos are asked who is in them. Then `folder_test` has trials only with a key.
        A file beside the persons' folders is a portrait, too, with the person's name. There may be no portrait
        at all, and persons_dir may be empty: then the lists of `folder_enroll` are empty.
    sound: whether `wav.scp` lists the sound of all files, too. Those without any are told by stage 2.

    Names become ids by `safe_id` and `unique_ids`, enrolment ids are `<person>-<file>`; the `names` list of a
    set gives the original of each id. Hidden files and what is no media by its extension are left out, links
    are followed.

    Returns the folders written. Raises DataError for a missing or empty folder, a name that no list can hold,
    or a key that names what is not there.
    """
    persons_root, videos_root = Path(os.path.abspath(persons_dir)), Path(os.path.abspath(videos_dir))
    found = portraits_of(persons_root, bool(persons_dir)) if find_persons else _files(media_of_persons(persons_root))
    portraits = {name: found[name] for name in without_live_films(persons_root, found)}
    videos_root, videos = _videos(videos_root)
    videos = without_live_films(videos_root, videos)

    persons = list(dict.fromkeys(portraits.values()))
    models = unique_ids({person: safe_id(person) for person in persons})
    enroll_ids = unique_ids(
        {whole: f"{models[person]}-{bare_id(_inside(whole, person))}" for whole, person in portraits.items()},
        set(models.values()),
    )
    enrolled = [
        _segment(enroll_ids[whole], persons_root / whole, models[person], sound) for whole, person in portraits.items()
    ]
    test_ids = unique_ids({name: bare_id(name) for name in videos})
    tested = [_segment(test_ids[name], videos_root / name, test_ids[name], sound) for name in videos]

    targets: dict[str, set[str]] | None = None
    if key:
        targets = {}
        for person, video in read_key(Path(key), persons, videos):
            targets.setdefault(models[person], set()).add(test_ids[video])
    pairs = AllPairs(list(models.values()), list(test_ids.values()), targets)
    names = {unique: whole for whole, unique in enroll_ids.items()} | {
        unique: person for person, unique in models.items()
    }
    to_enroll = Path(data_dir) / "folder_enroll"
    return [
        write_data_folder(to_enroll, enrolled, names=names) if enrolled else write_empty_folder(to_enroll),
        write_data_folder(
            Path(data_dir) / "folder_test",
            tested,
            trials=pairs if key or not find_persons else (),
            names={unique: name for name, unique in test_ids.items()},
        ),
    ]


def _segment(name: str, path: Path, model: str, sound: bool) -> Segment:
    return Segment(name, path, model, sound=path if sound else "")


def without_live_films(root: Path, names: Collection[str]) -> list[str]:
    """Media below a folder without the films of live photos, which show the seconds around a photo beside them.

    Such a film has the name of its photo, the extension .mov, and says in its header what it is.
    """
    photos = {_without_suffix(name) for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES}
    films = {
        name: None
        for name in names
        if name.lower().endswith(".mov") and _without_suffix(name) in photos and _is_live_film(root / name)
    }
    if films:
        log.info("%s: %d films of live photos left out, the photos count: %s", root, len(films), shortened(list(films)))
    return [name for name in names if name not in films]


def _without_suffix(name: str) -> str:
    return name.removesuffix(Path(name).suffix)


def _is_live_film(path: Path) -> bool:
    try:
        return path.stat().st_size <= _LIVE_BYTES and _LIVE in path.read_bytes()
    except OSError:
        return False


def _files(persons: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """File below the folder of all persons -> person, from person -> files below their own folder."""
    return {f"{person}/{name}": person for person, names in persons.items() for name in names}


def _inside(whole: str, person: str) -> str:
    """A file of a person as it is called in their folder; one beside the folders keeps its name."""
    return whole.removeprefix(f"{person}/")


def portraits_of(root: Path, is_given: bool = True) -> dict[str, str]:
    """File below root -> person: in the person's folder, or beside the folders and named as the person.

    Empty, with a warning, where there is none; is_given: False where the user names no folder.
    """
    found: dict[str, str] = {}
    if is_given:
        if root.is_file():
            raise DataError("expected a folder, found a file; put the photo into a folder and name that", root)
        if not root.is_dir():
            why = "no such folder; check its name, or make it: without any portrait everybody is unknown"
            raise DataError(why, root)
        loose = [path for path in root.iterdir() if _is_media(path) and not path.name.startswith(".")]
        for path in sorted(loose, key=os.fsencode):
            check_path(path)
            found[path.name] = path.stem
        if any(path.is_dir() and not path.name.startswith(".") for path in root.iterdir()):
            found |= _files(media_of_persons(root, folders_only=False))
    if not found:
        example = "put a photo into a folder with the person's name, such as persons/Anna/photo.jpg"
        log.warning("no portrait of anybody, so everybody is unknown; to have names, %s", example)
    return found


def _videos(root: Path) -> tuple[Path, list[str]]:
    """A folder and the media files in it, of a folder or one file."""
    if _is_media(root):
        check_path(root)
        return root.parent, [root.name]
    if root.is_file():
        raise DataError("no photo or video by its name, which ends in none of .mp4, .mov, .jpg and others", root)
    videos = media_below(root)
    if not videos:
        raise DataError("no video or image in it; put some there, such as .mp4, .mov or .jpg", root)
    return root, videos


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in MEDIA and path.is_file()


def bare_id(name: str) -> str:
    return safe_id(_without_suffix(name))


def media_of_persons(root: Path, suffixes: Collection[str] = MEDIA, folders_only: bool = True) -> dict[str, list[str]]:
    """Person -> media files relative to the person's folder; persons without any are named and left out.

    suffixes: extensions of what is taken. folders_only: nothing but these folders counts: files beside them are
    told, and DataError is raised where nobody has any file.
    """
    what = "video" if suffixes == VIDEOS else "image or video"
    if not root.is_dir():
        raise DataError("no such folder", root)
    persons = sorted((p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")), key=os.fsencode)
    if not persons:
        raise DataError("no folder in it; expected one folder per person", root)
    if folders_only and (loose := [p.name for p in root.iterdir() if not p.is_dir() and p.suffix.lower() in suffixes]):
        log.warning(
            "%s: %d files beside the persons' folders left out: %s",
            root,
            len(loose),
            shortened(sorted(loose)),
        )
    found: dict[str, list[str]] = {}
    for person in persons:
        check_path(person)
        if names := media_below(person, suffixes):
            found[person.name] = names
        else:
            log.warning("%s: no %s in it, so this person is left out", person, what)
    if not found and folders_only:
        raise DataError(f"no {what} in any person's folder", root)
    return found


def media_below(root: Path, suffixes: Collection[str] = MEDIA) -> list[str]:
    """Media files below a folder, relative to it, in C-locale order."""
    if not root.is_dir():
        raise DataError("no such folder", root)
    found: list[Path] = []
    ignored: list[str] = []
    for path in _files_below(root):
        check_path(path)
        if path.suffix.lower() in suffixes and path.is_file():
            found.append(path.relative_to(root))
        else:
            ignored.append(str(path.relative_to(root)))
    if ignored:
        what = "video" if suffixes == VIDEOS else "photo or video"
        log.warning("%s: left out, since no %s by their names: %s", root, what, shortened(sorted(ignored)))
    return [str(path) for path in sorted(found, key=os.fsencode)]


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Files that are not hidden; links are followed, except to a folder on the way here (``above``)."""
    real = folder.resolve()
    if real in above:
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_below(path, above | {real})
        else:
            yield path


def _by_nfc(names: Iterable[str]) -> dict[str, list[str]]:
    """The names under the form that all ways to write their accents have in common."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return found


def read_key(path: Path, persons: Iterable[str], videos: Iterable[str]) -> set[tuple[str, str]]:
    """The target pairs (person, video)."""

    def look_up(name: str, listed: dict[str, list[str]], absent: str, there: str) -> str:
        same = listed.get(unicodedata.normalize("NFC", name), [])
        if name in same:
            return name
        if len(same) == 1:
            return same[0]
        if same:
            what = f"differs from {len(same)} names only in how accents are written; copy that of the file"
            raise DataError(f"'{name}' {what}", path, number)
        every = sorted(other for names in listed.values() for other in names)
        raise DataError(f"{absent} '{name}'; {there} are: {shortened(every)}", path, number)

    known_persons, known_videos = _by_nfc(persons), _by_nfc(videos)
    if not path.is_file():
        raise DataError("no such file", path)
    targets: set[tuple[str, str]] = set()
    try:
        lines = re.split(r"\r?\n", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason} at byte {error.start}", path) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        person, tab, video = line.partition("\t")
        if not tab:
            raise DataError(f"expected '<person><tab><video>', found '{line}'", path, number)
        person = look_up(person, known_persons, "no media of a person", "the persons")
        video = look_up(video, known_videos, "no video", "the videos")
        targets.add((person, video))
    if not targets:
        raise DataError("no target pair in it", path)
    return targets
