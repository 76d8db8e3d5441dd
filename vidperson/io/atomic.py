"""Files that appear under their final name only when they are whole, and on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vidperson.errors import DataError


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


def make_once(folder: str | os.PathLike[str], stamp: str, make: Callable[[Path], None]) -> bool:
    """Have ``make`` fill a folder, which appears whole, with `.done` in it; that has ``stamp``, one line.

    Returns False when the folder was there already with this stamp. Raises DataError for a folder that holds
    something else.
    """
    out = Path(folder)
    done = out / ".done"
    if done.is_file() and done.read_text() == stamp:
        return False
    if out.exists() and not done.is_file():
        raise DataError("exists and was not finished by this program; remove it or choose another folder", out)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    make(partial)
    with atomic_write(partial / ".done") as stream:
        stream.write(stamp)
    old = out.with_name(out.name + ".old")  # where it is removed: half of it is nobody's folder
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)
    return True


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
