#!/usr/bin/env python3
"""Durations of the videos of a data folder, from their headers, so that jobs can be balanced.

Inputs:  <data-dir>/vid.scp.
Outputs: <data-dir>/vid2dur: segment and seconds; a file that cannot be read counts as 0, as does one whose header
         crashes the reader or takes it longer than --file-timeout-s.

Example:
  python steps/get_durations.py --data-dir data/demo_dev_test
"""

from __future__ import annotations

from pathlib import Path

from vidperson import cli


def get_durations(data_dir: str, file_timeout_s: float = 60.0) -> None:
    """Write ``vid2dur`` unless it already lists exactly the segments of ``vid.scp``."""
    from vidperson.io.lists import read_paths, read_scp, write_lines
    from vidperson.supervision import Watch, run_supervised

    segments = read_paths(Path(data_dir) / "vid.scp")
    output, notes = Path(data_dir) / "vid2dur", Path(data_dir) / "vid2dur.notes"
    if output.is_file() and list(read_scp(output)) == list(segments):
        return
    notes.unlink(missing_ok=True)

    def probe_files(watch: Watch) -> None:
        from vidperson.errors import MediaError
        from vidperson.media.video import probe_duration

        known = _read_notes(notes)
        for path in dict.fromkeys(segments.values()):
            if path in known:
                continue
            watch.begin(path)
            try:
                note(path, probe_duration(path))
            except MediaError:
                note(path, 0.0)
            watch.end(path)

    def note(path: str, seconds: float) -> None:
        with open(notes, "a", encoding="utf-8") as stream:
            stream.write(f"{seconds:.3f} {path}\n")

    run_supervised(probe_files, lambda path, why: note(path, 0.0), file_timeout_s)
    known = _read_notes(notes)
    write_lines(output, (f"{segment} {known[path]}" for segment, path in segments.items()))
    notes.unlink()


def _read_notes(notes: Path) -> dict[str, str]:
    """Path -> seconds, as they were written."""
    if not notes.exists():
        return {}
    lines = notes.read_bytes().decode().split("\n")[:-1]
    return {path: seconds for seconds, _, path in (line.partition(" ") for line in lines)}


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", required=True, help="folder with vid.scp")
    parser.add_argument("--file-timeout-s", type=cli.positive, default=60.0, help="seconds that a file may take")
    cli.main(get_durations, parser.parse_args())
