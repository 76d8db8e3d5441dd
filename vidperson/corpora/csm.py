"""WIDER Person Search (CSM): lists and frames of films to data folders, ranks to the challenge's answer and back."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidperson.corpora.data_folder import (
    Search,
    Segment,
    check_path,
    has_area,
    remove_lists,
    shortened,
    write_data_folder,
)
from vidperson.errors import DataError
from vidperson.io.lines import check_id, read_lines, read_scp, sort_key, write_lines
from vidperson.io.ranks import read_ranks, read_search

PathLike = str | os.PathLike[str]
Box = tuple[float, float, float, float]

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
OTHERS = "others"
"""The label of candidates that show no cast member."""
USUAL_CANDIDATES = 10
"""A film with fewer is warned of: such a list is more likely cut than meant."""
_NOT_IN_AN_ID = re.compile(r"[\s,\ud800-\udfff]")


@dataclass(frozen=True)
class _Entry:
    """A portrait or a candidate.

    key: its place in the list, for messages. image: path below the part's folder. label: None where there is none.
    region: x1 y1 x2 y2 in pixels of the frame; None for a portrait.
    """

    key: str
    id: str
    image: str
    label: str | None
    region: Box | None = None


@dataclass(frozen=True)
class _Film:
    """The cast and the candidates of one film."""

    id: str
    cast: list[_Entry]
    candidates: list[_Entry]


@dataclass(frozen=True)
class _Part:
    """One list, read and checked. shown: cast member -> its candidates; None where the truth is not known."""

    path: Path
    folder: Path
    films: list[_Film]
    shown: Mapping[str, Sequence[str]] | None


def prepare(data_dir: PathLike, root: PathLike) -> list[Path]:
    """Write `csm_<part>_cast` and `csm_<part>_candidates` below data_dir, of train, val and test those that are there.

    root: holds `<part>.json` and the folder `<part>` with the images, and may hold `<part>_label.json`.

    A list is an object, film -> `cast`, a list of `id`, `img`, `label`, and `candidates`, a list of `id`, `img`,
    `bbox` (x y width height in pixels) and, where the truth is known, `label`: that of a cast member of the film, or
    `others`. `<part>_label.json` is an object, cast id -> ids of its candidates; it counts rather than the labels.

    A cast member is a model, and its portrait the segment `<cast id>-portrait`. A candidate is a segment with a
    region of its frame. Each cast member is searched in the group of its film.

    Images that are missing or cannot be read, frames that a box exceeds, films of few candidates and labels that
    differ from `<part>_label.json` are named in warnings. Returns the folders written. Raises DataError, before
    anything is written, with file and key, for: no list at all, malformed ones, ids or labels that are there twice, a
    label of no cast member, a box outside of its frame, a film without cast or candidates, or with none of its frames.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise DataError("no such folder", root)
    check_path(root)
    lists = {part: root / f"{part}.json" for part in PARTS}
    if not any(path.is_file() for path in lists.values()):
        raise DataError("none of train.json, val.json, test.json is in it; give the folder that holds them", root)
    parts = {part: _read_part(path) for part, path in lists.items() if path.is_file()}
    folders = []
    for part in PARTS:
        cast, candidates = (Path(data_dir) / f"csm_{part}_{kind}" for kind in ("cast", "candidates"))
        if part in parts:
            folders += [_write_cast(cast, parts[part]), _write_candidates(candidates, parts[part])]
        else:
            remove_lists(cast)
            remove_lists(candidates)
    return folders


def format_submission(ranks: PathLike, output: PathLike, data_folder: PathLike | None = None) -> tuple[int, int, int]:
    """Write the challenge's answer, `<cast id> <candidate>,<candidate>,...` per cast member, best first.

    ranks: `<set>_ranks` of stage 4; its order of cast members is kept.
    data_folder: the searched set. What ranks lack follows: candidates of the film, and cast members with all of them.

    Returns how many cast members and candidates there are, and how many candidates ranks lacked. Raises DataError,
    with nothing written, for a candidate that comes twice or has a comma in its id, and for what data_folder lacks.
    """
    ranked = read_ranks(ranks)
    for model, found in ranked.items():
        if len(set(found)) < len(found):
            raise DataError(f"cast member '{model}' has a candidate twice", ranks)
    lacking = 0 if data_folder is None else _add_lacking(ranked, ranks, Path(data_folder))
    for model, found in ranked.items():
        if wrong := [candidate for candidate in found if "," in candidate]:
            raise DataError(f"candidate '{wrong[0]}' of '{model}' has a comma, which parts them in the answer", ranks)
    write_lines(output, (f"{model} {','.join(found)}" for model, found in ranked.items()))
    return len(ranked), sum(map(len, ranked.values())), lacking


def _add_lacking(ranked: dict[str, list[str]], ranks: PathLike, data_folder: Path) -> int:
    """Put behind the ranks what they lack of a searched set; returns how many candidates."""
    members: dict[str, list[str]] = {}
    for segment, group in read_scp(data_folder / "utt2group").items():
        members.setdefault(group, []).append(segment)
    searched = {
        model: [segment for group in groups for segment in members.get(group, ())]
        for model, groups in read_search(data_folder / "search").items()
    }
    lacking = 0
    for model, found in ranked.items():
        if strange := sorted(set(found) - set(searched.get(model, ()))):
            raise DataError(f"candidate '{strange[0]}' of '{model}' is not searched for it in {data_folder}", ranks)
    for model, candidates in searched.items():
        found = ranked.setdefault(model, [])
        given = set(found)
        rest = [candidate for candidate in candidates if candidate not in given]
        found += rest
        lacking += len(rest)
    return lacking


def read_submission(
    result: PathLike, labels: PathLike, ranks: PathLike, relevant: PathLike, search: PathLike | None = None
) -> tuple[int, int]:
    """Turn an answer and its key into lists for `steps/evaluate_ranks.py`.

    result: lines `<cast id> <candidate>,<candidate>,...`. labels: such as `val_label.json`.
    ranks: written, `<cast id> <rank> <candidate> <score>` in the order of result; the score is the negative rank.
    relevant: written, `<cast id> <candidate>`.
    search: written unless None, `<cast id> <film>`, the film by the part of the id before its last `_`.

    Returns how many cast members are in the answer and in the key. Raises DataError with file and line or key, with
    nothing written, for a line that has not two words with one blank between, an empty candidate, a cast member that
    comes twice, a malformed key, or, with search, an id without film.
    """
    answered = _read_answer(result)
    key = _read_key(Path(labels))
    films: dict[str, str] = {}
    for cast in key if search is not None else ():
        film, found, _ = cast.rpartition("_")
        if not film or not found:
            raise DataError(f"'{cast}': expected the id of a cast member, '<film>_<person>'", labels)
        films[cast] = film
    lines = [f"{cast} {place} {c} {-place}" for cast, found in answered.items() for place, c in enumerate(found, 1)]
    write_lines(ranks, lines)
    write_lines(relevant, sorted((f"{cast} {c}" for cast, shown in key.items() for c in shown), key=sort_key))
    if search is not None:
        write_lines(search, sorted((f"{cast} {film}" for cast, film in films.items()), key=sort_key))
    return len(answered), len(key)


def _read_answer(path: PathLike) -> dict[str, list[str]]:
    """Cast id -> candidates, best first."""
    answered: dict[str, list[str]] = {}
    for number, line in read_lines(path):
        cast, *rest = line.split(" ")
        candidates = rest[0].split(",") if len(rest) == 1 else []
        if not candidates or not all((cast, *candidates)) or re.search(r"\s", cast + rest[0]):
            expected = "expected '<cast id> <candidate>,<candidate>,...'"
            raise DataError(f"{expected}, found '{line[:100]}'", path, number)
        if cast in answered:
            raise DataError(f"cast member '{cast}' has a second line; remove one", path, number)
        answered[cast] = candidates
    if not answered:
        raise DataError("expected lines '<cast id> <candidate>,<candidate>,...', found none", path)
    return answered


# -- the lists of a release


def _read_part(path: Path) -> _Part:
    """Read and check all of a part."""
    content = _read_json(path)
    folder = path.with_suffix("")
    if not folder.is_dir():
        raise DataError(f"the list is there, but not the folder {folder} of its images; unpack it", path)
    films = [_film(path, name, value) for name, value in content.items()]
    for kind in ("cast", "candidates"):
        keys: dict[str, str] = {}
        for entry in (entry for film in films for entry in getattr(film, kind)):
            if entry.id in keys:
                raise DataError(f"{entry.key}: id '{entry.id}' is there twice, first at {keys[entry.id]}", path)
            keys[entry.id] = entry.key
    few = [film.id for film in films if len(film.candidates) < USUAL_CANDIDATES]
    if few:
        message = "%s: %d films have fewer than %d candidates: %s"
        log.warning(message, path, len(few), USUAL_CANDIDATES, shortened(few))
    shown = _shown(path, films)
    _check_images(path, folder, films)
    return _Part(path, folder, films, shown)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file, not empty. Raises DataError with the line of what is no JSON, and for a key given twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"key '{twice}' is there twice in one object; remove one", path)
        return table

    if not path.is_file():
        raise DataError("no such file", path)
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason} at byte {error.start}", path) from None
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg}, column {error.colno}; is the file whole?"
        raise DataError(message, path, error.lineno) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
        raise DataError(f"not JSON of this kind: {error}", path) from None
    if not isinstance(content, dict) or not content:
        raise DataError("expected a JSON object with an entry per film or cast member, found none", path)
    return content


def _film(path: Path, name: str, value: Any) -> _Film:
    """A film of a list."""
    _check_name(name, f"film {name!r}", path)
    lists = []
    for kind in ("cast", "candidates"):
        found = value.get(kind) if isinstance(value, dict) else None
        if not isinstance(found, list) or not found:
            raise DataError(f"{name}: expected '{kind}', a list with at least one entry", path)
        lists.append([_entry(path, f"{name}.{kind}[{n}]", each, kind == "candidates") for n, each in enumerate(found)])
    cast, candidates = lists
    labels = [entry.label for entry in cast]
    for entry in cast:
        if entry.label is None or entry.label == OTHERS or labels.count(entry.label) > 1:
            expected = f"expected a label that no other cast member of the film has, and not '{OTHERS}'"
            raise DataError(f"{entry.key}.label: {expected}; found {entry.label!r}", path)
    for entry in candidates:
        if entry.label is not None and entry.label != OTHERS and entry.label not in labels:
            expected = f"expected '{OTHERS}' or the label of a cast member of {name}"
            raise DataError(f"{entry.key}.label: {expected}; found '{entry.label}'", path)
    return _Film(name, cast, candidates)


def _entry(path: Path, key: str, value: Any, boxed: bool) -> _Entry:
    """An entry of a list; boxed: it has a box."""
    if not isinstance(value, dict):
        raise DataError(f"{key}: expected an object, found {value!r:.100}", path)
    texts = {}
    for name in ("id", "img", "label"):
        text = value.get(name)
        if text is None and name == "label":
            continue
        if not isinstance(text, str) or not text:
            raise DataError(f"{key}.{name}: expected a text, found {text!r:.100}", path)
        texts[name] = text
    _check_name(texts["id"], f"{key}.id", path)
    image = texts["img"]
    if os.path.isabs(image) or ".." in image.split("/"):
        raise DataError(f"{key}.img: expected a path below the folder of the part, found '{image}'", path)
    try:
        check_path(image)
    except DataError as error:
        raise DataError(f"{key}.img: {error}", path) from None
    return _Entry(key, texts["id"], image, texts.get("label"), _region(path, key, value.get("bbox")) if boxed else None)


def _check_name(name: str, what: str, path: Path) -> None:
    """Refuse an id that a list or the answer cannot hold."""
    try:
        check_id(name, what, path, 1)
        good = not _NOT_IN_AN_ID.search(name)
    except DataError:
        good = False
    if not good:
        raise DataError(f"{what}: expected an id without blanks, commas and '..', found {name!r}", path)


def _region(path: Path, key: str, bbox: Any) -> Box:
    """x1 y1 x2 y2 of x y width height."""
    numbers = bbox if isinstance(bbox, list) and len(bbox) == 4 else []
    try:
        x, y, width, height = (float(n) for n in numbers if isinstance(n, int | float) and not isinstance(n, bool))
        box = (x, y, x + width, y + height)
    except (ValueError, OverflowError):
        box = (0.0, 0.0, 0.0, 0.0)
    if not has_area(box):
        expected = "expected [x, y, width, height] in pixels with a width and a height above 0"
        raise DataError(f"{key}.bbox: {expected}, found {bbox!r:.100}", path)
    return box


def _read_key(path: Path) -> dict[str, list[str]]:
    """Cast id -> ids of its candidates, at least one, each once."""
    content = _read_json(path)
    for cast, shown in content.items():
        _check_name(cast, f"cast id {cast!r}", path)
        if not isinstance(shown, list) or not shown:
            raise DataError(f"{cast}: expected a list with at least one candidate, found {shown!r:.100}", path)
        for number, candidate in enumerate(shown):
            if not isinstance(candidate, str):
                raise DataError(f"{cast}[{number}]: expected a text, found {candidate!r:.100}", path)
            _check_name(candidate, f"{cast}[{number}]", path)
        if len(set(shown)) < len(shown):
            twice = next(candidate for candidate in shown if shown.count(candidate) > 1)
            raise DataError(f"{cast}: candidate '{twice}' is there twice; remove one", path)
    return content


def _shown(path: Path, films: Sequence[_Film]) -> dict[str, list[str]] | None:
    """Cast id -> its candidates, by `<part>_label.json` where it is there, or else by the labels."""
    labels = _labelled(path, films)
    key_path = path.with_name(f"{path.stem}_label.json")
    if not key_path.is_file():
        return labels
    key = _read_key(key_path)
    film_of = {entry.id: film for film in films for entry in film.cast}
    members = {film.id: {entry.id for entry in film.candidates} for film in films}
    for cast, shown in key.items():
        if cast not in film_of:
            raise DataError(f"'{cast}' is in the cast of no film of {path}; give lists of one release", key_path)
        if strange := [candidate for candidate in shown if candidate not in members[film_of[cast].id]]:
            raise DataError(f"{cast}: '{strange[0]}' is no candidate of {film_of[cast].id} in {path}", key_path)
    owner: dict[str, str] = {}
    for cast, candidate in ((cast, candidate) for cast, shown in key.items() for candidate in shown):
        if candidate in owner:
            found = f"'{candidate}' is given to {owner[candidate]}, too"
            raise DataError(f"{cast}: {found}; remove it from one of the two", key_path)
        owner[candidate] = cast
    pairs, labelled = ({(c, s) for c, some in (table or {}).items() for s in some} for table in (key, labels))
    if labels is not None and pairs != labelled:
        first = " ".join(min(pairs ^ labelled))
        message = "%s: %d pairs differ from the labels of %s, the first is '%s'; this file counts"
        log.warning(message, key_path, len(pairs ^ labelled), path, first)
    return key


def _labelled(path: Path, films: Sequence[_Film]) -> dict[str, list[str]] | None:
    """Cast id -> its candidates by their labels; None where no candidate has one. Refuses lists in which some have."""
    entries = [entry for film in films for entry in film.candidates]
    without = [entry for entry in entries if entry.label is None]
    if len(without) == len(entries):
        return None
    if without:
        expected = f"expected a label, as {len(entries) - len(without)} of {len(entries)} candidates have one"
        raise DataError(f"{without[0].key}: {expected}", path)
    shown: dict[str, list[str]] = {}
    for film in films:
        ids = {entry.label: entry.id for entry in film.cast}
        for entry in film.candidates:
            if entry.label != OTHERS:
                shown.setdefault(ids[entry.label], []).append(entry.id)
    return shown


# -- images


def _check_images(path: Path, folder: Path, films: Sequence[_Film]) -> None:
    """Refuse a film without any frame and boxes outside of frames; warn of images that are not there, and so on."""
    unread: list[str] = []
    beyond: list[str] = []
    total = 0
    for film in films:
        images = {entry.image for entry in (*film.cast, *film.candidates)}
        sizes = {image: _size(folder / image) for image in images}
        total += len(images)
        if not any(sizes[entry.image] for entry in film.candidates):
            what = f"none of the frames of its {len(film.candidates)} candidates can be read"
            first = folder / film.candidates[0].image
            raise DataError(f"{film.id}: {what}, the first is {first}; unpack the film or remove it here", path)
        for entry in (*film.cast, *film.candidates):
            size = sizes[entry.image]
            if size is None:
                unread.append(f"{entry.key} {folder / entry.image}")
            elif entry.region is not None and _exceeds(path, entry, size):
                beyond.append(entry.key)
    if unread:
        message = "%s: images of %d entries are missing or cannot be read, and will be unreadable in stage 2: %s"
        log.warning(message, path, len(unread), shortened(unread))
    if beyond:
        log.warning("%s: %d boxes exceed their frames, and are kept so: %s", path, len(beyond), shortened(beyond))


def _size(image: Path) -> tuple[int, int] | None:
    """(width, height) in the header of an image; None where it is not there or is none."""
    from PIL import Image as Picture

    try:
        with Picture.open(image) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        return None


def _exceeds(path: Path, entry: _Entry, size: tuple[int, int]) -> bool:
    """Whether part of an entry's region is outside of its frame. Raises DataError where all of it is."""
    x1, y1, x2, y2 = entry.region or (0.0, 0.0, 0.0, 0.0)
    width, height = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        found = f"x {x1:g} to {x2:g}, y {y1:g} to {y2:g}"
        raise DataError(f"{entry.key}.bbox: outside of its frame, {width} x {height} pixels: {found}", path)
    return x1 < 0 or y1 < 0 or x2 > width or y2 > height


# -- data folders


def _write_cast(folder: Path, part: _Part) -> Path:
    """The portraits, to enrol."""
    cast = (entry for film in part.films for entry in film.cast)
    return write_data_folder(folder, [Segment(f"{c.id}-portrait", part.folder / c.image, c.id) for c in cast])


def _write_candidates(folder: Path, part: _Part) -> Path:
    """The candidates, to search."""
    owner = {candidate: cast for cast, shown in (part.shown or {}).items() for candidate in shown}
    segments = [
        Segment(c.id, part.folder / c.image, owner.get(c.id, ""), film.id, c.region)
        for film in part.films
        for c in film.candidates
    ]
    groups = {entry.id: (film.id,) for film in part.films for entry in film.cast}
    return write_data_folder(folder, segments, search=Search(groups, part.shown, groups))
