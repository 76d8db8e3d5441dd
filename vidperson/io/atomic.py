"""Files that appear under their final name only when they are whole, and on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``<path>.tmp`` for writing and rename it to ``path`` when the block ends without an error.

    mode: "w" (UTF-8 text, newline kept as written) or "wb".
    The content is on the disk before it has its name: a power failure leaves no empty or cut file under it either.
    A link that lies under the temporary name is not followed. Raises OSError, with ``path`` as its file name where the
    system gives none, as for a full disk; nothing is left under either name then.
    """
    final = Path(path)
    partial = final.with_name(final.name + ".tmp")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, mode, opener=_open_no_link, **text) as stream:  # type: ignore[call-overload]
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, final)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)
        raise


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
