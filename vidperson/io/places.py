"""``<path>:<offset>``: how an scp names a place in an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO

_FARTHEST = 1 << 62


@contextmanager
def open_place(where: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file, open at the offset (0 where none is given), and the bytes that are left from there on.

    Raises as :meth:`Places.open`.
    """
    with Places() as places:
        yield places.open(where)


class Places:
    """Opens places one after the other; a file stays open as long as the next place is in it, too."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._stream: BinaryIO | None = None
        self._size = 0

    def __enter__(self) -> Places:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.close()

    def open(self, where: str) -> tuple[BinaryIO, int]:
        """The file at the offset (0 where none is given), up to the next call, and the bytes left from there on.

        Nothing else is understood: neither a command with a pipe, as in Kaldi, nor ``-`` for the standard input. Raises
        OSError for a file that is not there or no regular one, ValueError for an offset that is outside of it.
        """
        path, colon, text = where.rpartition(":")
        if not (colon and text.isdecimal() and text.isascii()):
            path, text = where, "0"
        if self._stream is None or path != self._path:
            self._change(path)
        assert self._stream is not None
        left = self._size - min(int(text[:20]), _FARTHEST)
        if left < 0:
            raise ValueError(f"the file ends before byte {text[:20]}")
        self._stream.seek(int(text))
        return self._stream, left

    def _change(self, path: str) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no such file: '{path}'")
        self._stream, self._path = open(path, "rb"), path  # noqa: SIM115
        self._size = os.fstat(self._stream.fileno()).st_size
