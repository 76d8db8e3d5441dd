"""Pictures in a tar that ordinary tools open; its scp points at the first one of each segment."""

from __future__ import annotations

import tarfile
from collections.abc import Container, Iterator

from vidperson.errors import DataError
from vidperson.io.places import open_place

TAR_END = b"\0" * (2 * tarfile.BLOCKSIZE)


def tar_entry(name: str, data: bytes) -> bytes:
    """One file of a tar archive: header, data and padding; without owner or time, so equal input gives equal bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    header = info.tobuf(format=tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")
    return header + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


def read_tar_files(where: str, count: int, wanted: Container[int] | None = None) -> Iterator[tuple[str, bytes]]:
    """``count`` files from ``<tar>:<offset>`` on, as (name, content).

    wanted: places, from 0, of those that are to be read; the others come without a content. None: all are.
    Raises DataError when the archive ends early or is damaged there.
    """
    try:
        with open_place(where) as (stream, left), tarfile.open(fileobj=stream, mode="r:", encoding="utf-8") as archive:
            for place in range(count):
                member = archive.next()
                content = archive.extractfile(member) if member and 0 <= member.size <= left else None
                if member is None or content is None:
                    raise DataError(
                        f"expected {count} files at {where}, the archive ends before; redo the stage that wrote it"
                    )
                yield member.name, content.read() if wanted is None or place in wanted else b""
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{where} cannot be read ({error}); redo the stage that wrote it") from None
