"""The aligned faces that stage 2 wrote, segment by segment."""

from __future__ import annotations

import os

from vidperson.io.items import StoredItems
from vidperson.types import FACE_COLUMNS


class FaceCrops(StoredItems):
    """The crops in a folder of stage 2, (112, 112, 3) uint8 RGB each; see :class:`StoredItems`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder, "faces", len(FACE_COLUMNS))
