"""Files that appear under their final name only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``<path>.tmp`` for writing and rename it to ``path`` when the block ends without an error.

    mode: "w" (UTF-8 text, newline kept as written) or "wb".
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(final.name + ".tmp")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with open(partial, mode, **text) as stream:  # type: ignore[call-overload]
            yield stream
        os.replace(partial, final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
