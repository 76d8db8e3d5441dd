"""``<path>:<offset>``: how an scp names a place in an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_FARTHEST = 1 << 62


@contextmanager
def open_place(where: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file, open at the offset (0 where none is given), and the bytes that are left from there on.

    Nothing else is understood: neither a command with a pipe, as in Kaldi, nor ``-`` for the standard input. Raises
    OSError for a file that is not there or no regular one, ValueError for an offset that is outside of it.
    """
    path, colon, text = where.rpartition(":")
    if not (colon and text.isdecimal() and text.isascii()):
        path, text = where, "0"
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such file: '{path}'")
    with open(path, "rb") as stream:
        left = os.fstat(stream.fileno()).st_size - min(int(text[:20]), _FARTHEST)
        if left < 0:
            raise ValueError(f"the file ends before byte {text[:20]}")
        stream.seek(int(text))
        yield stream, left
