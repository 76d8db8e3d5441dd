#!/usr/bin/env python3
"""Compose the thumbnails of a set of stage 2 into one image.

Inputs:
  ITEMS_DIR/status       <segment> <state>[: <why>]
  ITEMS_DIR/thumbs.tar   <segment>.jpg, RGB thumbnails with what was found drawn in; a segment
                         without one becomes a grey tile
Output:
  ITEMS_DIR/contact_sheet.jpg
                         at most MAX_SEGMENTS segments, evenly spaced over the list, those with the
                         state `unsure` last, in tiles of 320 x 284 pixels; beside it the record of
                         how it was made. One that is there, intact and of the same inputs is kept

Example:
  steps/make_contact_sheet.py --max-segments 60 \\
    --items-dir exp/face_det/retinaface_tiny/demo_dev_test
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.types import Image


@dataclass(frozen=True)
class ContactSheetOptions:
    items_dir: Path = cli.option(help="output folder of stage 2 of one set")
    max_segments: int = cli.option(60, "segments to show at most", convert=cli.whole(1))


def make_contact_sheet(options: ContactSheetOptions) -> None:
    """See the top of this file.

    Raises DataError when an input is missing, damaged, edited or without segments.
    """
    from vidperson.io.planned import Planned

    folder = options.items_dir
    sheet, thumbs = folder / "contact_sheet.jpg", folder / "thumbs.tar"
    command = ["python", "steps/make_contact_sheet.py", "--max-segments", str(options.max_segments)]
    planned = Planned(sheet, command, [folder / "status", thumbs])
    if not planned.reasons():
        return
    from vidperson.errors import DataError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lines import read_scp
    from vidperson.io.record import checked
    from vidperson.report.contact_sheet import Tile, compose, shown_segments

    statuses = read_scp(checked(folder / "status"))
    if not statuses:
        raise DataError("no segments", folder / "status")
    chosen = shown_segments(statuses, options.max_segments)
    if not thumbs.is_file():
        raise DataError("no such file; run stage 2 with --contact-sheet true", thumbs)
    images = _thumbnails(checked(thumbs), chosen)
    with atomic_write(sheet, "wb") as stream:
        stream.write(compose([Tile(segment, statuses[segment], images.get(segment)) for segment in chosen]))
    planned.note()
    logging.info(
        "%s: %d of %d segments, %d without an image", sheet, len(chosen), len(statuses), len(chosen) - len(images)
    )


def _thumbnails(path: Path, segments: Collection[str]) -> dict[str, Image]:
    """The thumbnails of the segments that have one. Raises DataError for damaged ones."""
    import tarfile

    from vidperson.errors import DataError
    from vidperson.report.contact_sheet import decode_picture

    wanted = {f"{segment}.jpg": segment for segment in segments}
    images = {}
    try:
        with tarfile.open(path, encoding="utf-8") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name in wanted else None
                if content is not None:
                    images[wanted[member.name]] = decode_picture(content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"damaged ({error}); run stage 2 again", path) from None
    return images


if __name__ == "__main__":
    cli.run(make_contact_sheet, ContactSheetOptions, __doc__)
