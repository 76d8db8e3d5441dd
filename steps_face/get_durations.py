#!/usr/bin/env python3
"""Durations of the videos of a data folder, from their headers, so that jobs can be balanced.

Inputs:  <data-dir>/vid.scp.
Outputs: <data-dir>/vid2dur: segment and seconds; a file that cannot be read counts as 0.

Example:
  python steps_face/get_durations.py --data-dir data/demo_dev_test
"""

from __future__ import annotations

from pathlib import Path

from vidperson import cli


def get_durations(data_dir: str) -> None:
    """Write ``vid2dur`` unless it already lists exactly the segments of ``vid.scp``."""
    from vidperson.errors import MediaError
    from vidperson.io.lists import read_scp, write_lines
    from vidperson.media.video import probe_duration

    segments = read_scp(Path(data_dir) / "vid.scp")
    output = Path(data_dir) / "vid2dur"
    if output.is_file() and list(read_scp(output)) == list(segments):
        return
    known: dict[str, float] = {}
    for path in dict.fromkeys(segments.values()):
        try:
            known[path] = probe_duration(path)
        except MediaError:
            known[path] = 0.0
    write_lines(output, (f"{segment} {known[path]:.3f}" for segment, path in segments.items()))


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", required=True, help="folder with vid.scp")
    cli.main(get_durations, parser.parse_args())
