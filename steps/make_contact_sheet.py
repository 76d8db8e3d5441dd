#!/usr/bin/env python3
"""Compose the thumbnails of a detected set into one picture.

Inputs:
  INPUT_DIR/status       <segment> <state>[: <why>]
  INPUT_DIR/thumbs.tar   <segment>.jpg, RGB thumbnails with the faces drawn in; a segment without one
                         becomes a grey tile
Output:
  INPUT_DIR/contact_sheet.jpg   at most MAX_SEGMENTS segments, evenly spaced over the list, in tiles of
                                320 x 284 pixels

Example:
  steps/make_contact_sheet.py --input-dir exp/face_det/retinaface/sre19_test --max-segments 60
"""

from __future__ import annotations

import logging
from pathlib import Path


def make_contact_sheet(input_dir: Path, max_segments: int) -> None:
    """See the top of this file.

    Raises DataError when an input is missing, damaged or without segments, or no segment may be shown.
    """
    import tarfile

    from vidperson.errors import DataError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import read_scp
    from vidperson.report.contact_sheet import Tile, compose, decode_picture, evenly_spaced

    if max_segments < 1:
        raise DataError(f"expected --max-segments of at least 1, found {max_segments}")
    statuses = read_scp(input_dir / "status")
    if not statuses:
        raise DataError("no segments", input_dir / "status")
    segments = list(statuses)
    chosen = [segments[i] for i in evenly_spaced(len(segments), max_segments)]
    wanted = {f"{segment}.jpg": segment for segment in chosen}
    thumbs = input_dir / "thumbs.tar"
    if not thumbs.is_file():
        raise DataError("no such file; detect the faces again with --contact-sheet true", thumbs)
    pictures = {}
    try:
        with tarfile.open(thumbs, encoding="utf-8") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name in wanted else None
                if content is not None:
                    pictures[wanted[member.name]] = decode_picture(content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"damaged ({error}); detect the faces again", thumbs) from None
    sheet = compose([Tile(segment, statuses[segment], pictures.get(segment)) for segment in chosen])
    with atomic_write(input_dir / "contact_sheet.jpg", "wb") as stream:
        stream.write(sheet)
    logging.info(
        "%s: %d of %d segments, %d without a picture",
        input_dir / "contact_sheet.jpg",
        len(chosen),
        len(segments),
        len(chosen) - len(pictures),
    )


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--input-dir", type=Path, required=True, help="output folder of the face detection of one set")
    parser.add_argument("--max-segments", type=int, default=60, help="segments to show at most")
    cli.main(make_contact_sheet, parser.parse_args())
