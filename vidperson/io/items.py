"""What stage 2 stores of each segment, whatever the modality: the items, their quality, their pictures.

``<items>.ark`` has a row per item, which begins with frame, time_s, x1 y1 x2 y2 in pixels and score; ``quality.ark``
two numbers per item; ``shots.ark`` the seconds at which shots begin, among the frames that were searched; ``crops.tar``
a lossless picture per item; ``thumbs.tar`` one picture of the segment to look at.
Of what is heard there is ``<items>.ark`` only, with its own columns.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vidperson.errors import DataError
from vidperson.io.crops import read_tar_files, tar_entry
from vidperson.io.job_store import JobStore
from vidperson.io.lines import read_paths, read_scp
from vidperson.io.matrices import load_matrices, matrix_bytes
from vidperson.io.record import checked
from vidperson.types import HEARD, Float, Image

NO_SHOTS = np.zeros((0, 3), np.float32)
_STAGE = "run stage 2"
_IN_MEMORY = 1 << 18  # bytes of a spool that need no file: segments may be many, and have an item or two


class Spool:
    """Pieces of bytes, in a temporary file where they are many: memory does not grow with their number."""

    def __init__(self) -> None:
        self._stream = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - lives as long as the spool
        self._ends = [0]

    def append(self, piece: bytes) -> None:
        """Raises OSError where the disk is full."""
        self._stream.seek(self._ends[-1])
        self._stream.write(piece)
        self._ends.append(self._stream.tell())

    def __len__(self) -> int:
        return len(self._ends) - 1

    def read(self, places: Iterable[int]) -> Iterator[bytes]:
        """The pieces at these places, counted from 0 in the order in which they were appended."""
        for place in places:
            self._stream.seek(self._ends[place])
            yield self._stream.read(self._ends[place + 1] - self._ends[place])


def archives_of(items: str) -> tuple[str, ...]:
    """Names of the archives of stage 2. items: what it finds, one of ``vidperson.types.ITEMS``."""
    if items in HEARD:
        return (f"{items}.ark",)
    return f"{items}.ark", "quality.ark", "shots.ark", "crops.tar", "thumbs.tar"


def item_entries(
    items: str,
    segment: str,
    rows: Float,
    quality: Float,
    shots: Float,
    crops: Iterable[bytes],
    thumbnail: bytes | None,
) -> dict[str, Iterator[bytes]]:
    """The bytes that a segment adds to each archive, to be read once.

    rows: (N, columns), the frame in the first one. quality: (N, 2). shots: (S, 3). crops: N PNG files.
    thumbnail: a JPEG file.
    """
    names = (f"{segment}/{number:05d}_{int(frame):07d}.png" for number, frame in enumerate(rows[:, 0]))
    shown = [] if thumbnail is None else [tar_entry(f"{segment}.jpg", thumbnail)]
    contents = (
        iter([matrix_bytes(segment, rows)]),
        iter([matrix_bytes(segment, quality)]),
        iter([matrix_bytes(segment, shots)]),
        (tar_entry(name, png) for name, png in zip(names, crops, strict=True)),
        iter(shown),
    )
    return dict(zip(archives_of(items), contents, strict=True))


def store_unreadable(
    output_dir: str | os.PathLike[str], items: str, states: Sequence[str], segment: str, why: str
) -> None:
    """Note a segment that crashed or hung its process, unless the job has finished it."""
    with JobStore(output_dir, archives_of(items), states) as store:
        if segment not in store.statuses:
            nothing = matrix_bytes(segment, np.zeros((0, 1), np.float32))
            parts = {name: [nothing] if name.endswith(".ark") else [] for name in store.archives}
            store.append(segment, f"unreadable: {why}", parts)


class StoredRows:
    """What a folder of stage 2 says of each segment: ``<items>.scp`` and ``status``.

    items: what was found, one of ``vidperson.types.ITEMS``. columns: numbers per item.
    statuses: segment -> status.
    Raises DataError for files that cannot be read, or are not as stage 2 wrote them.
    """

    def __init__(self, folder: str | os.PathLike[str], items: str, columns: int) -> None:
        self.folder, self._list = Path(folder), f"{items}.scp"
        for name in ("status", self._list, f"{items}.ark"):
            checked(self.folder / name)
        self.statuses = read_scp(self.folder / "status")
        self._rows = load_matrices(self.folder / self._list, columns)

    def require(self, segments: Iterable[str]) -> None:
        """Raises DataError, with the file and the first segment, where the folder lacks some."""
        wanted = list(segments)
        self._require(self._list, wanted, self._rows)
        self._require("status", wanted, self.statuses)

    def _require(self, name: str, wanted: list[str], known: Container[str]) -> None:
        missing = [segment for segment in wanted if segment not in known]
        if missing:
            message = f"{len(missing)} of {len(wanted)} segments are not in it, first '{missing[0]}'; {_STAGE}"
            raise DataError(message, self.folder / name)

    def count(self, segment: str) -> int:
        """Number of the segment's items."""
        return len(self._rows[segment])

    def rows(self, segment: str) -> Float:
        """(N, columns) of the segment."""
        return self._rows[segment]


class StoredItems(StoredRows):
    """Items with their pictures, listed in ``crops.scp``; see :class:`StoredRows`."""

    def __init__(self, folder: str | os.PathLike[str], items: str, columns: int) -> None:
        super().__init__(folder, items, columns)
        self._places = read_paths(checked(self.folder / "crops.scp"))  # crops.tar is checked once a set, not per job

    def require(self, segments: Iterable[str]) -> None:
        """Raises DataError, with the file and the first segment, where the folder lacks some."""
        wanted = list(segments)
        super().require(wanted)
        self._require("crops.scp", [segment for segment in wanted if self.count(segment)], self._places)

    def read(self, segment: str, most: int | None = None) -> Iterator[Image]:
        """(height, width, 3) uint8 RGB crops of a segment, in the order of its items; the first ``most``.

        Raises DataError for a crop that is missing, damaged or another segment's.
        """
        count = self.count(segment)
        for _, crop in self.some(segment, range(count if most is None else min(most, count))):
            yield crop

    def some(self, segment: str, rows: Collection[int]) -> Iterator[tuple[int, Image]]:
        """Some crops of a segment with the numbers of their items, from 0; as :meth:`read`, in the order of the items.

        Raises as :meth:`read`.
        """
        import cv2

        if not rows:
            return
        where = self._places[segment]
        for row, (name, png) in enumerate(read_tar_files(where, max(rows) + 1, rows)):
            if row in rows:
                crop = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
                if crop is None or not name.startswith(f"{segment}/"):
                    raise DataError(f"'{name}' at {where} is not a crop of {segment}; {_STAGE} again")
                yield row, np.asarray(crop, np.uint8)

    def sample(self, wanted: int) -> Iterator[Image]:
        """About ``wanted`` crops, of segments spread over the set."""
        segments = [segment for segment in self._places if self.count(segment)]
        picked = segments[:: max(1, len(segments) // wanted)]
        each = -(-wanted // max(1, len(picked)))
        for segment in picked:
            yield from self.read(segment, each)
