"""Files that a step is to write, each with the command and the inputs that decide its content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson.io.record import damaged_outputs, differences, read_record, record_path, write_record

MOST_LINES = 12


@dataclass(frozen=True)
class Planned:
    """A file to write.

    target: the file; beside it lies the record of how it was made.
    command: the words that decide its content.
    inputs: the files that decide it.
    """

    target: Path
    command: Sequence[str]
    inputs: Sequence[Path]

    def reasons(self) -> list[str]:
        """Lines that say why the file has to be made.

        None where it is there, intact, and of this command and these inputs.

        Raises DataError for a damaged record.
        """
        record = read_record(self.target)
        if record is None:
            if self.target.is_file():
                return [f"{self.target}: expected a record of how it was made, found none"]
            return [f"{self.target}: not there"]
        lines = differences(record, self.command, self.inputs)
        if lines:
            more = ["..."] if len(lines) > MOST_LINES else []
            head = f"{self.target}: made again, since its command or inputs have changed (< then, > now):"
            return [head, *lines[:MOST_LINES], *more]
        if damaged_outputs(self.target, record, thorough=True):
            found = "other bytes" if self.target.is_file() else "no such file"
            return [f"{self.target}: expected the file as it was written, found {found}"]
        return []

    def remove(self) -> None:
        """Remove the file and its record, so that nobody takes an old one for a new one."""
        record_path(self.target).unlink(missing_ok=True)
        self.target.unlink(missing_ok=True)

    def note(self) -> None:
        """Write the record of the file, which is there by now."""
        write_record(self.target, self.command, self.inputs, [self.target])


def new_files(planned: Sequence[Planned]) -> list[Planned]:
    """Those that are not there, and never were."""
    return [one for one in planned if not one.target.is_file() and not record_path(one.target).is_file()]


def reasons(planned: Sequence[Planned]) -> list[str]:
    """The lines of all the files that have to be made; what differs is said once where several follow each other."""
    lines: list[str] = []
    said: list[str] = []
    for one in planned:
        if not (own := one.reasons()):
            continue
        lines += [f"{one.target}: likewise"] if own[1:] and own[1:] == said else own
        said = own[1:]
    return lines
