"""The answer files of stage 5, which hold who is in which video, and when.

``who.csv``, ``who.json``, ``who.rttm`` and ``coco.json`` are about all videos, ``subtitles/``, ``cvat/`` and
``annotated/`` have a file per video, ``faces/`` an image per appearance. The videos are taken one at a time: memory
does not grow with their number.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidperson.answers import BEST_FOLDER, Appearance, VideoAnswer
from vidperson.errors import DataError, MediaError
from vidperson.io.answers import Listed, Names, WhoCsv, WhoJson, answer_line, best_name, file_names
from vidperson.io.coco import Coco
from vidperson.io.cvat import cvat_xml
from vidperson.io.items import StoredItems
from vidperson.io.lines import read_paths
from vidperson.io.planned import Planned
from vidperson.io.record import MISSING, RECORD, new_record, save_record
from vidperson.io.rttm import Rttm
from vidperson.io.subtitles import caption, webvtt
from vidperson.types import BODY_COLUMNS, FACE_COLUMNS, HEARD, ITEMS, Image, is_image_name

log = logging.getLogger(__name__)

FILES = ("who.csv", "who.json", "who.rttm", "coco.json")
FOLDERS = ("subtitles", "cvat", BEST_FOLDER)
ANNOTATED = "annotated"
QUALITY = 92  # of the JPEG files
_COLUMNS = {"faces": len(FACE_COLUMNS), "bodies": len(BODY_COLUMNS)}


@dataclass(frozen=True)
class Source:
    """The answers of a test set.

    answers: its videos, to be read once. items: modality -> folder of stage 2 with the items of the set; of those that
    are seen, their images and the numbers of their frames are taken from there. media: segment -> file, of which the
    subtitles take when its first frame is shown.
    """

    answers: Iterable[VideoAnswer]
    names: Names
    items: Mapping[str, Path]
    test_set: str = ""
    media: Mapping[str, Path] = field(default_factory=dict)


def videos_of(data: Path) -> dict[str, Path]:
    """Segment -> its video or image, of a data folder; none in a set of sounds. Raises DataError for a wrong list."""
    scp = data / "vid.scp"
    return {segment: Path(path) for segment, path in read_paths(scp).items()} if scp.is_file() else {}


def write_answer_files(sources: Sequence[Source], output_dir: Path) -> None:
    """Write ``FILES`` and ``FOLDERS`` into a folder; each appears whole, in place of what was there.

    Raises DataError for items that are missing or others than those of the answers.
    """
    partial = output_dir / "answers.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for name in FOLDERS:
        (partial / name).mkdir(parents=True)
    persons = {person: name for source in sources for person, name in source.names.persons.items()}
    with ExitStack() as stack:
        who = stack.enter_context(open(partial / "who.csv", "w", encoding="utf-8", newline=""))
        rttm = stack.enter_context(open(partial / "who.rttm", "w", encoding="utf-8", newline=""))
        as_json = stack.enter_context(open(partial / "who.json", "wb"))
        coco = stack.enter_context(Coco(stack.enter_context(open(partial / "coco.json", "wb"))))
        whole = WhoJson(as_json, persons)
        writers = (WhoCsv(who), whole, Rttm(rttm, persons), coco)
        for source in sources:
            for listed, images in _listed(source, len(sources) > 1):
                for writer in writers:
                    writer.add(listed)
                if not listed.is_still:
                    _write(partial / "subtitles" / f"{listed.stem}.vtt", webvtt(listed).encode())
                if _has_boxes(listed):
                    _write(partial / "cvat" / f"{listed.stem}.xml", cvat_xml(listed).encode())
                for name, image in images.items():
                    _write(partial / name, image)
        whole.close()
    for name in (*FOLDERS, *FILES):
        _replace(partial / name, output_dir / name)
    partial.rmdir()


def annotate_videos(
    answers: Iterable[VideoAnswer], names: Names, media: Mapping[str, Path], output_dir: Path, test_set: str = ""
) -> list[Path]:
    """Copy the videos and images in which somebody is into ``annotated/`` of a folder, with boxes and names drawn in.

    media: segment -> file; a segment without one, as of sound only, is left out. test_set: where there are several.
    A copy that is there, intact, of the same file, answer and fonts is kept. What cannot be read is named in the log.
    Returns the copies.
    """
    from vidperson.media.lettering import undrawable

    stems, copies, failed, missing = file_names(names.videos), list[Path](), 0, ""
    for answer in (_told_apart(answer, test_set) for answer in answers):
        if answer.segment not in media or not answer.appearances:
            continue
        path, labels = media[answer.segment], _labels(answer, names)
        captions = "\n".join(text for _, text in labels)
        lacking = undrawable(captions)
        missing = missing or lacking
        stem = output_dir / ANNOTATED / test_set / stems.get(answer.segment, answer.segment)
        copy = _copy_of(answer, captions, lacking, path, stem)
        if not copy.reasons():
            copies.append(copy.target)
            continue
        copy.target.unlink(missing_ok=True)
        save_record(copy.target, new_record([], []))  # of no copy: what a killed run leaves is known to be ours
        try:
            damage = _annotate(path, copy.target, labels)
        except MediaError as error:
            copy.remove()
            log.warning("%s: no copy with names: %s", path, error)
            failed += 1
            continue
        if damage:
            log.warning("%s: a part is not in the copy with names: %s", path, damage)
        copy.note()
        copies.append(copy.target)
    if missing:
        log.warning("no font of this machine has the letters %s: install one, such as Noto, and run again", missing)
    log.info("%s: %d copies with names, %d failed", output_dir / ANNOTATED, len(copies), failed)
    return copies


def remove_annotated(output_dir: Path, but: Collection[Path] = ()) -> None:
    """Remove the copies of :func:`annotate_videos` but some, and what a killed run left; other files stay."""
    for left in filter(Path.is_file, (output_dir / ANNOTATED).rglob("*.tmp")):
        left.unlink()
    for record in sorted((output_dir / ANNOTATED).rglob(f"*.{RECORD}")):
        target = record.with_name(record.name.removesuffix(f".{RECORD}"))
        if target not in but:
            target.unlink(missing_ok=True)
            record.unlink()  # last: what has none is the user's


def _labels(answer: VideoAnswer, names: Names) -> list[tuple[Appearance, str]]:
    return [(found, caption(found, names.person(found.person))) for found in answer.appearances]


def _copy_of(answer: VideoAnswer, captions: str, lacking: str, path: Path, stem: Path) -> Planned:
    """The copy of a file, with what decides its content. lacking: letters without a font. stem: without an ending."""
    still = is_image_name(path.name)
    digest = hashlib.sha256(answer_line(answer) + captions.encode()).hexdigest()
    try:
        stat = path.stat()
        state = f"{stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        state = MISSING
    command = ["annotate", "--answer", digest, "--file", state, *(["--without-font", lacking] if lacking else [])]
    return Planned(stem.with_name(f"{stem.name}{'.jpg' if still else '.mp4'}"), command, [])


def _annotate(path: Path, target: Path, labels: list[tuple[Appearance, str]]) -> str | None:
    """Make a copy whole or not at all; what was lost. Raises MediaError, and OSError where it cannot be written."""
    from vidperson.media.annotated import annotate_image, annotate_video

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.tmp")
    try:
        if target.suffix == ".jpg":
            partial.write_bytes(annotate_image(path, labels))
            damage = None
        else:
            damage = annotate_video(path, partial, labels)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return damage


def _has_boxes(listed: Listed) -> bool:
    return any(track.boxes for found in listed.answer.appearances for track in found.tracks)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # names of videos are paths, and ids may have slashes
    path.write_bytes(content)


def _replace(new: Path, old: Path) -> None:
    """Put a file or a folder in place of another."""
    if new.is_dir():
        gone = old.with_name(f"{old.name}.old")
        shutil.rmtree(gone, ignore_errors=True)
        if old.exists():
            os.replace(old, gone)
        os.replace(new, old)
        shutil.rmtree(gone, ignore_errors=True)
    else:
        os.replace(new, old)


def _listed(source: Source, several: bool) -> Iterator[tuple[Listed, dict[str, bytes]]]:
    """The videos of a set, each with the images of the best items: path -> JPEG file.

    several: there are other sets, so that the names of files say which set they are of.
    """
    stored = {
        modality: StoredItems(folder, ITEMS[modality], _COLUMNS[ITEMS[modality]])
        for modality, folder in source.items.items()
        if ITEMS[modality] not in HEARD
    }
    prefix = source.test_set if several else ""
    stems = file_names(source.names.videos)
    for answer in (_told_apart(answer, prefix) for answer in source.answers):
        stem = os.path.join(prefix, stems.get(answer.segment, answer.segment))
        best, wanted = [], {}
        for number, found in enumerate(answer.appearances, 1):
            shown = found.tracks[0]
            best.append(best_name(answer.segment, number, prefix) if shown.boxes else "")
            if shown.boxes:
                wanted[best[-1]] = shown.modality, shown.rows[shown.best]
        frames = _frames(answer, stored)
        first_frame_s = _first_frame_s(source.media.get(answer.segment)) if answer.appearances else 0.0
        listed = Listed(answer, source.test_set, stem, source.names, tuple(best), frames, first_frame_s)
        yield listed, _images(answer.segment, wanted, stored)


def _told_apart(answer: VideoAnswer, test_set: str) -> VideoAnswer:
    """With the set in the names of unknown persons, who are counted in each set; test_set: "" where there is one."""
    if not test_set:
        return answer
    found = (
        replace(one, person=f"{one.person} of {test_set}") if one.decision == "unknown" else one
        for one in answer.appearances
    )
    return replace(answer, appearances=tuple(found))


def _first_frame_s(path: Path | None) -> float:
    """0 also where the file is not there any more, or there was none."""
    if path is None or is_image_name(path.name):
        return 0.0
    from vidperson.media.video import first_frame_s

    try:
        return first_frame_s(path)
    except MediaError:
        return 0.0


def _frames(answer: VideoAnswer, stored: Mapping[str, StoredItems]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Per appearance and track the number of each box's frame. Raises DataError for items that are others."""
    seen = {track.modality: None for found in answer.appearances for track in found.tracks if track.boxes}
    numbers = {modality: _frame_numbers(answer.segment, _items(modality, stored)) for modality in seen}
    for track in (track for found in answer.appearances for track in found.tracks if track.boxes):
        known = len(numbers[track.modality])
        if max(track.rows) >= known or len(track.rows) != len(track.boxes):
            message = f"segment '{answer.segment}': expected item {max(track.rows)} of a track, found {known} items"
            raise DataError(f"{message}; run stage 4 again", _items(track.modality, stored).folder)
    return tuple(
        tuple(
            tuple(numbers[track.modality][row] for row in track.rows) if track.boxes else () for track in found.tracks
        )
        for found in answer.appearances
    )


def _frame_numbers(segment: str, items: StoredItems) -> list[int]:
    items.require([segment])
    return [int(frame) for frame in items.rows(segment)[:, 0]]


def _items(modality: str, stored: Mapping[str, StoredItems]) -> StoredItems:
    if modality not in stored:
        raise DataError(
            f"expected the folder with the items of {modality}, found that of {', '.join(stored) or 'none'}"
        )
    return stored[modality]


def _images(segment: str, wanted: Mapping[str, tuple[str, int]], stored: Mapping[str, StoredItems]) -> dict[str, bytes]:
    """Name -> JPEG file. wanted: name -> modality, and number of the item in the segment."""
    found: dict[str, bytes] = {}
    for modality in dict.fromkeys(modality for modality, _ in wanted.values()):
        rows = {row for other, row in wanted.values() if other == modality}
        images = {row: _jpeg(image) for row, image in _items(modality, stored).some(segment, rows)}
        found |= {name: images[row] for name, (other, row) in wanted.items() if other == modality}
    return found


def _jpeg(image: Image) -> bytes:
    import cv2

    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
