"""The aligned faces that stage 2 wrote, segment by segment."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from vidperson.errors import DataError
from vidperson.io.crops import read_tar_files
from vidperson.io.lines import read_paths, read_scp
from vidperson.io.matrices import load_matrices
from vidperson.io.record import checked
from vidperson.types import FACE_COLUMNS, Image

_STAGE = "run ./run_002_detect_faces.sh"


class FaceCrops:
    """The crops in a folder of stage 2: ``faces.scp``, ``crops.scp`` and ``status``.

    statuses: segment -> status.
    Raises DataError for files that cannot be read, or are not as stage 2 wrote them.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        for name in ("status", "faces.scp", "faces.ark", "crops.scp"):  # a set's crops.tar is checked once, not per job
            checked(self.folder / name)
        self.statuses = read_scp(self.folder / "status")
        self._faces = load_matrices(self.folder / "faces.scp", len(FACE_COLUMNS))
        self._places = read_paths(self.folder / "crops.scp")

    def require(self, segments: Iterable[str]) -> None:
        """Raises DataError, with the file and the first segment, where the folder lacks some."""
        wanted = list(segments)
        self._require("faces.scp", wanted, self._faces)
        self._require("status", wanted, self.statuses)
        self._require("crops.scp", [segment for segment in wanted if self.count(segment)], self._places)

    def _require(self, name: str, wanted: list[str], known: Container[str]) -> None:
        missing = [segment for segment in wanted if segment not in known]
        if missing:
            message = f"{len(missing)} of {len(wanted)} segments are not in it, first '{missing[0]}'; {_STAGE}"
            raise DataError(message, self.folder / name)

    def count(self, segment: str) -> int:
        """Number of the segment's faces."""
        return len(self._faces[segment])

    def read(self, segment: str, most: int | None = None) -> Iterator[Image]:
        """(112, 112, 3) uint8 RGB crops of a segment, in the order of its faces; the first ``most``.

        Raises DataError for a crop that is missing, damaged or another segment's.
        """
        count = self.count(segment)
        if not count:
            return
        where = self._places[segment]
        for name, png in read_tar_files(where, count if most is None else min(most, count)):
            crop = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
            if crop is None or not name.startswith(f"{segment}/"):
                raise DataError(f"'{name}' at {where} is not a crop of {segment}; {_STAGE} again")
            yield np.asarray(crop, np.uint8)

    def sample(self, wanted: int) -> Iterator[Image]:
        """About ``wanted`` crops, of segments spread over the set."""
        segments = [segment for segment in self._places if self.count(segment)]
        picked = segments[:: max(1, len(segments) // wanted)]
        each = -(-wanted // max(1, len(picked)))
        for segment in picked:
            yield from self.read(segment, each)
