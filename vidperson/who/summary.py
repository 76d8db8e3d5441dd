"""The answer files in numbers and words. It takes no NumPy: most runs of stage 5 need no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidperson.io.answers import read_who_json

_SHOWN = 5  # videos that are named for something


@dataclass
class Summary:
    """What was written, in numbers. failed: of videos that could not be read the first, with the reasons."""

    videos: int = 0
    empty: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, video: str, status: str, decisions: Sequence[str]) -> None:
        """decisions: of the appearances in the video."""
        self.videos += 1
        self.decisions.update(decisions)
        state, _, why = status.partition(": ")
        if state == "unreadable":
            self.failures += 1
            if len(self.failed) < _SHOWN:
                self.failed.append((video, why))
        elif not decisions:
            self.empty += 1

    def lines(self) -> list[str]:
        """In words."""
        told = f"{self.decisions['yes']} recognised, {self.decisions['unsure']} unsure"
        told += f", {self.decisions['unknown']} unknown"
        lines = [f"files: {self.videos}, with nobody: {self.empty}; appearances: {told}"]
        if self.failures:
            more = f", and {self.failures - len(self.failed)} more" if self.failures > len(self.failed) else ""
            names = "; ".join(f"{video} ({why})" for video, why in self.failed)
            lines.append(f"{self.failures} could not be read: {names}{more}")
        return lines


def summarise(who_json: Path) -> Summary:
    """The summary of a who.json. Raises DataError for another file."""
    summary = Summary()
    for video in read_who_json(who_json):
        summary.add(video["video"], video["status"], [found["decision"] for found in video["appearances"]])
    return summary
