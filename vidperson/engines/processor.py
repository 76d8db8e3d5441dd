"""What the processor of this machine can do, by the names that Linux gives it."""

from __future__ import annotations

import os
from pathlib import Path


def processor_features(path: str | os.PathLike[str] = "/proc/cpuinfo") -> frozenset[str]:
    """Flags of the first processor that a file in the form of ``/proc/cpuinfo`` describes.

    Examples are ``avx2`` and ``amx_tile`` on x86, ``asimd`` on ARM. Empty where there is no such
    file, as on other systems, or none of the lines ``flags`` and ``Features`` in it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(words.split())
    return frozenset()
