"""The official face features of iQIYI-VID as outputs of stages 2 and 3: no video is read, and no network is needed."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidperson.corpora.iqiyi_vid import is_clip_name, segments_of_clips
from vidperson.errors import DataError
from vidperson.io.data_dir import pictures_list
from vidperson.io.job_store import JobStore
from vidperson.io.matrices import matrix_bytes
from vidperson.io.merging import Plan, Source, merge, set_files
from vidperson.io.record import Output, Record, damaged_outputs, differences, new_record, save_record
from vidperson.io.safe_pickle import read_items
from vidperson.io.set_folder import SetFolder
from vidperson.types import FACE_COLUMNS, Float

FRAMES_PER_SECOND = 25.0
QUALITY_WEIGHTS = ((0.0, 0.0), (20.0, 0.2), (30.0, 0.3), (40.0, 0.6))
"""(quality, weight of a face below it); 1 from the last on. From the report of the fourth team of 2019."""
STATES = ("ok", "no_face", "damaged")
ITEM_ARCHIVES = ("faces.ark", "weights.ark")
EMBED_ARCHIVES = ("embed.ark",)
_PROGRAM = "local/iqiyi_vid/convert_features.py"
_COMMAND = ("python", _PROGRAM)
_EXPECTED = "expected a list of [frame number, [x1, y1, x2, y2], detection score, quality, feature]"
_LARGEST = 1e30
_LAST_FRAME = 1 << 24  # float32 tells all whole numbers up to it
_TOLD_EVERY = 10_000


@dataclass(frozen=True)
class ClipFaces:
    """The faces of a clip. N may be 0.

    rows: (N, 17) float32, columns ``vidperson.types.FACE_COLUMNS``; the landmarks, which are not told, are 0.
    weights: (N, 1) float32, detection score times the weight of the quality.
    embeddings: (N, D) float32.
    lost: faces that were left out, since a value of them is not finite.
    """

    rows: Float
    weights: Float
    embeddings: Float
    lost: int

    @property
    def status(self) -> str:
        """As in a list ``status``."""
        if self.lost:
            return f"damaged: {self.lost} of {self.lost + len(self.rows)} faces have values that are not finite"
        return "ok" if len(self.rows) else "no_face"


@dataclass(frozen=True)
class Converted:
    """How many clips of the list there are, how many of them without a face, and how many faces.

    others: clips of the pickles that are not in the list.
    """

    clips: int
    without: int
    faces: int
    others: int


def quality_weight(quality: float) -> float:
    """The weight of a face by the corpus's quality score: 0 for unusable faces, 1 for good ones."""
    return next((weight for limit, weight in QUALITY_WEIGHTS if quality < limit), 1.0)


def clip_faces(value: object) -> ClipFaces:
    """The faces of a clip, in order of their frames, from what the pickle holds of it.

    Raises DataError for anything else than a list of faces with features of one size.
    """
    if type(value) is not list:
        raise DataError(f"{_EXPECTED}, found {_shown(value)}")
    if not value:
        return ClipFaces(_rows(0), np.zeros((0, 1), np.float32), np.zeros((0, 0), np.float32), 0)
    rows, weights, features = _rows(len(value)), np.empty((len(value), 1), np.float32), []
    for row, weight, face in zip(rows, weights, value, strict=True):
        if type(face) not in (list, tuple) or len(face) != 5:
            raise DataError(f"{_EXPECTED}, found {_shown(face)}")
        frame, score, quality = _frame(face[0]), _number(face[2]), _number(face[3])
        row[0], row[1], row[6] = frame, frame / FRAMES_PER_SECOND, score
        row[2:6] = _box(face[1])
        weight[0] = max(score, 0.0) * quality_weight(quality) if math.isfinite(quality) else math.nan
        features.append(_feature(face[4]))
    if len(sizes := {len(feature) for feature in features}) > 1:
        raise DataError(f"expected features of one size, found {' and '.join(map(str, sorted(sizes)))} values")
    with np.errstate(over="ignore"):  # what is too large is infinite, and left out
        embeddings = np.stack(features).astype(np.float32)
    finite = np.isfinite(rows).all(axis=1) & np.isfinite(weights[:, 0]) & np.isfinite(embeddings).all(axis=1)
    kept = np.flatnonzero(finite)
    kept = kept[np.argsort(rows[kept, 0], kind="stable")]
    return ClipFaces(rows[kept], weights[kept], embeddings[kept], len(rows) - len(kept))


def _rows(count: int) -> Float:
    return np.zeros((count, len(FACE_COLUMNS)), np.float32)


def _frame(value: Any) -> int:
    try:
        frame = int(value) if type(value) in (str, bytes, int) else -1
    except ValueError:
        frame = -1
    if not 0 <= frame <= _LAST_FRAME:
        raise DataError(f"expected the number of a frame, found {_shown(value)}")
    return frame


def _number(value: Any) -> float:
    """As float32 holds it; infinite where it is too large."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if type(value) not in (int, float):
        raise DataError(f"expected a number, found {_shown(value)}")
    return float(value) if -_LARGEST < value < _LARGEST else math.inf


def _box(value: Any) -> list[float]:
    values = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    if type(values) not in (list, tuple) or len(values) != 4:
        raise DataError(f"expected a box [x1, y1, x2, y2], found {_shown(value)}")
    return [_number(one) for one in values]


def _feature(value: object) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.size != max(value.shape, default=0):
        raise DataError(f"expected a feature, an array of numbers in one row, found {_shown(value)}")
    if not value.size:
        raise DataError("expected a feature, found an array without values")
    return value.ravel()


def _shown(value: Any) -> str:
    """What was found, for a message; never long."""
    if isinstance(value, np.ndarray):
        return f"an array of {' x '.join(map(str, value.shape))} values ({value.dtype})"
    if type(value) in (list, tuple):
        return f"{len(value)} entries" if value else "no entries"
    if type(value) in (str, bytes, int, float, bool):
        text = str(value) if type(value) is not int or abs(value) < 1e30 else "a very large number"
        return f"'{text[:60]}'"
    return "nothing" if value is None else f"something of the type {type(value).__name__.strip('_')}"


def convert_features(
    pickles: Sequence[Path], data_dir: Path, items_dir: Path, embed_dir: Path, force: bool = False
) -> Converted | None:
    """Write what stages 2 and 3 would of the clips of a data folder, in the order of its list.

    pickles: dictionaries of clip (without .mp4) -> list of faces; see :func:`clip_faces`.
    data_dir: its vid.scp or frames.scp names the clips: the last part of each path is the name, without .mp4.
    items_dir: gets faces, weights, status and record. embed_dir: gets embed, status and record.
    force: whether to make again what is there.
    Memory holds what the pickler wrote at once, 1,000 clips. The clips are written in the order of the pickles first,
    then joined in that of the list.

    Returns None where all this is there already, of the same files. Raises DataError, with nothing changed, for
    pickles that are not as expected, a clip that is there twice, a list with none of the clips in it, or folders of
    other files without ``force``.
    """
    scp = pictures_list(data_dir)
    segments = segments_of_clips(scp)
    folders = [SetFolder(items_dir, ITEM_ARCHIVES), SetFolder(embed_dir, EMBED_ARCHIVES)]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(folder.locked())
        spools = [folder.path / "spool" for folder in folders]
        _remove(spools)  # of a run that was killed
        inputs = [scp, *pickles]
        items_files = [items_dir / name for name in set_files(ITEM_ARCHIVES)]
        done = [not force and _is_done(folder, inputs, items_files) for folder in folders]
        if all(done):
            return None
        try:
            counts = _spool(pickles, segments, scp, spools)
            made: dict[Path, str] = {}  # embeddings are of these items, as their record says
            for folder, spool in zip(folders, spools, strict=True):
                outputs = _join(folder, spool, list(segments.values()), new_record(_COMMAND, inputs, hashed=made))
                made = {folder.path / name: output.sha256 for name, output in outputs.items()}
        finally:
            _remove(spools)
    return counts


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _is_done(folder: SetFolder, inputs: Sequence[Path], uncounted: Sequence[Path]) -> bool:
    """Raises DataError where something else is there. uncounted: inputs that the others decide."""
    then = folder.begun_with()
    if then is None:
        if folder.has_work():
            raise DataError("something without a record is there; --force true replaces it", folder.path)
        return False
    if lines := differences(then, _COMMAND, inputs, uncounted):
        head = "it was made of other files or by other means (< then, > now):"
        raise DataError("\n".join([head, *lines[:12], "--force true replaces it"]), folder.path)
    return folder.record() is not None and not damaged_outputs(folder.path, then, thorough=False)


def _spool(pickles: Sequence[Path], segments: dict[str, str], scp: Path, spools: Sequence[Path]) -> Converted:
    """Append the clips of the list to archives, in the order of the pickles, then those without a face."""
    faces = others = without = size = 0
    first_other = ""
    with (
        JobStore(spools[0], ITEM_ARCHIVES, STATES) as items,
        JobStore(spools[1], EMBED_ARCHIVES, STATES) as embeddings,
    ):

        def store(segment: str, found: ClipFaces) -> None:
            rows, weights = matrix_bytes(segment, found.rows), matrix_bytes(segment, found.weights)
            items.append(segment, found.status, {"faces.ark": [rows], "weights.ark": [weights]})
            embeddings.append(segment, found.status, {"embed.ark": [matrix_bytes(segment, found.embeddings)]})

        for path, clip, value in _clips(pickles):
            segment = segments.get(clip)
            if segment is None:
                first_other = first_other or clip
                others += 1
                continue
            if segment in items.statuses:
                raise DataError(f"clip '{clip}' is there twice, or in an earlier pickle, too", path)
            try:
                found = clip_faces(value)
            except DataError as error:
                raise DataError(f"clip '{clip}': {error}", path) from None
            size = size or found.embeddings.shape[1]
            if len(found.rows) and found.embeddings.shape[1] != size:
                what = f"expected features of {size} values as in the clips before"
                raise DataError(f"clip '{clip}': {what}, found {found.embeddings.shape[1]}", path)
            store(segment, found)
            faces, without = faces + len(found.rows), without + (not len(found.rows))
            if len(items.statuses) % _TOLD_EVERY == 0:
                logging.info("%d of %d clips", len(items.statuses), len(segments))
        if not items.statuses:
            why = f"its own begin with '{first_other}'" if first_other else "it is empty"
            raise DataError(
                f"none of the {len(segments)} clips of {scp} is in it, first '{next(iter(segments))}'; {why}",
                pickles[-1],
            )
        for segment in segments.values():
            if segment not in items.statuses:
                store(segment, clip_faces([]))
                without += 1
    return Converted(len(segments), without, faces, others)


def clip_names(pickles: Sequence[Path]) -> Iterator[str]:
    """The names of the clips in pickles, without `.mp4`.

    Raises DataError for what is no pickle of clips, and for a name that no list can hold.
    """
    for path, clip, _ in _clips(pickles):
        if not is_clip_name(clip):
            raise DataError(f"expected names of letters, digits, '.', '_' and '-', found {clip[:60]!r}", path)
        yield clip


def _clips(pickles: Sequence[Path]) -> Iterator[tuple[Path, str, Any]]:
    for path in pickles:
        for key, value in read_items(path):
            try:
                clip = key if type(key) is str else key.decode()  # type: ignore[union-attr]
            except (AttributeError, UnicodeDecodeError):
                raise DataError(f"expected the name of a clip, found {_shown(key)}", path) from None
            yield path, clip.removesuffix(".mp4"), value


def _join(folder: SetFolder, spool: Path, segments: Sequence[str], record: Record) -> dict[str, Output]:
    """Make the set of a folder, its record last. Returns name -> file of all that was written."""
    record = replace(record, stage=_PROGRAM)
    plan = Plan(((segment, "") for segment in segments), folder.archives)
    plan.add(Source(spool), lambda note: "")
    folder.begin(record)
    outputs = merge(plan, folder.path, STATES)
    save_record(folder.path, replace(record, outputs=outputs))
    folder.remove_leftovers()
    return outputs
