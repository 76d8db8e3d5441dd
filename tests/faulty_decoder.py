"""Stage 2's step with a decoder that has faults, given by the names of files; for tests of what survives them.

    python tests/faulty_decoder.py <arguments of steps_face/detect_faces.py>

A file with ``crash`` in its name ends the process by SIGSEGV, ``abort`` by SIGABRT, ``hang`` hangs, ``killed`` ends it
as the system does when memory runs out, ``once`` crashes the first process only, ``memory`` asks for too much of it.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from vidperson.media import video

ROOT = Path(__file__).resolve().parents[1]


class FaultyReader(video.FrameReader):
    def __init__(self, path: str, *arguments: Any) -> None:
        name, marker = os.path.basename(path), Path(path + ".seen")
        if "crash" in name or ("once" in name and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        if "abort" in name:
            os.abort()
        if "killed" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in name:
            while True:
                time.sleep(1)
        if "memory" in name:
            raise MemoryError
        super().__init__(path, *arguments)


video.FrameReader = FaultyReader  # type: ignore[misc]
sys.argv[0] = str(ROOT / "steps_face" / "detect_faces.py")
runpy.run_path(sys.argv[0], run_name="__main__")
