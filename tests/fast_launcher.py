"""Run utils/slurm.py, utils/queue.py or utils/run.py with clocks that are ten times as fast.

Usage: fast_launcher.py <path of the launcher> [<argument> ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils import grid, run, slurm
from utils import queue as sge

FASTER = 10


def main() -> int:
    grid.POLL_S = tuple(seconds / FASTER for seconds in grid.POLL_S)
    grid.TICK_S = tuple(seconds / FASTER for seconds in grid.TICK_S)
    run.REFRESH_S, run.GRACE_S = run.REFRESH_S / FASTER, run.GRACE_S / FASTER
    sys.argv = sys.argv[1:]
    name = Path(sys.argv[0]).name
    if name == "run.py":
        return run.main()
    scheduler, text = (slurm.Slurm(), slurm.__doc__) if name == "slurm.py" else (sge.GridEngine(), sge.__doc__)
    return grid.main(scheduler, sys.argv[1:], text)


if __name__ == "__main__":
    sys.exit(main())
