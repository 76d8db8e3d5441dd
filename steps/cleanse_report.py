"""What the report on a cleansed training list shows: the noisy segments that are likeliest to be wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.pick_trials import ItemSet
from steps.score import items_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from steps.cleanse_list import CleanseOptions, Decisions

SHOWN_PER_REASON, SHOWN_IN_ALL = 6, 24
SOUND_RATE, SOUND_S = 8000, 3.0


def write_report(folder: Path, summary: Mapping[str, Any], decisions: Decisions, options: CleanseOptions) -> None:
    """results.json and report.html. Raises DataError for lists and items that were edited."""
    from vidperson.io.atomic import atomic_write
    from vidperson.report.cleansing import cleansing_page

    with atomic_write(folder / "results.json") as stream:
        stream.write(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    worst = worst_first(decisions)
    media = Media(decisions, options)
    shown = {reason: [media.card(row) for row in rows] for reason, rows in picked(worst, decisions.reasons).items()}
    with atomic_write(folder / "report.html") as stream:
        stream.write(cleansing_page(summary, shown, noisy_table(worst, decisions)))


def worst_first(decisions: Decisions) -> list[int]:
    """The noisy segments, those first that are likeliest to be wrong, of equals the least similar."""
    import numpy as np

    wrong = 1 - decisions.found.judged.right
    rows = np.flatnonzero(decisions.found.noisy)
    similar = np.nan_to_num(decisions.found.similarity[rows], nan=1.0).sum(axis=1)
    order: list[int] = rows[np.lexsort((rows, similar, -np.round(wrong[rows], 4)))].tolist()
    return order


def picked(worst: Sequence[int], reasons: Sequence[str]) -> dict[str, list[int]]:
    """Reason -> a few segments to show, of those with items; the most frequent reason first."""
    rows: dict[str, list[int]] = {}
    for row in worst:
        if reasons[row] != "no_items":
            rows.setdefault(reasons[row], []).append(row)
    found, left = {}, SHOWN_IN_ALL
    for reason in sorted(rows, key=lambda reason: (-len(rows[reason]), reason)):
        found[reason] = rows[reason][: min(SHOWN_PER_REASON, left)]
        left -= len(found[reason])
    return {reason: some for reason, some in found.items() if some}


def noisy_table(worst: Sequence[int], decisions: Decisions) -> tuple[list[str], list[list[str]]]:
    """The noisy segments, as many as a page lists."""
    from vidperson.report.tables import MOST_LISTED

    head = ["segment", "label", "wrong", "reason", "proposed", *decisions.modalities]
    lines = []
    for row in worst[:MOST_LISTED]:
        segment = decisions.listed.segments[row]
        wrong = f"{1 - decisions.found.judged.right[row]:.3f}"
        similar = ["-" if value != value else f"{value:.3f}" for value in decisions.found.similarity[row].tolist()]
        known = [segment, decisions.listed.label_of[segment], wrong, decisions.reasons[row]]
        lines.append([*known, decisions.proposal(row), *similar])
    return head, lines


class Media:
    """Images and sounds of segments, of what there is."""

    def __init__(self, decisions: Decisions, options: CleanseOptions) -> None:
        from vidperson.io.lines import read_paths

        self.decisions = decisions
        self.items = [
            ItemSet(view.embed_dir / view.part, view.items_dir and view.items_dir / view.part, items_of(view.modality))
            for view in options.viewed
        ]
        sounds = options.data / "wav.scp"
        self.sounds = read_paths(sounds) if sounds.is_file() else {}
        self._typical = typical(decisions)

    def card(self, row: int) -> dict[str, Any]:
        """A noisy segment, beside a good one of its label or of the one that is proposed."""
        decisions = self.decisions
        listed, found = decisions.listed, decisions.found
        segment, proposal = listed.segments[row], decisions.proposal(row)
        label = listed.label_of[segment]
        values = zip(decisions.modalities, found.similarity[row].tolist(), strict=True)
        sides = [("this", segment)]
        for title, name in (("its label", label), ("proposed", proposal)):
            if name in self._typical:
                sides.append((title, listed.segments[self._typical[name]]))
        return {
            "segment": segment,
            "label": label,
            "wrong": float(1 - found.judged.right[row]),
            "similarity": ", ".join(f"{name} {value:.2f}" for name, value in values if value == value),
            "proposed": proposal,
            "sides": [self._side(title, name) for title, name in sides],
        }

    def _side(self, title: str, segment: str) -> dict[str, Any]:
        pictures = []
        for items in self.items:
            if items.crops:
                count = len(items.rows.get(segment, ()))
                pictures.append(items.item(segment, count // 2))
        return {"title": title, "segment": segment, "pictures": pictures, "sound": self._sound(segment)}

    def _sound(self, segment: str) -> bytes | None:
        """The beginning of the sound of a segment; None where there is none."""
        from vidperson.errors import VidPersonError
        from vidperson.media.audio import blocks
        from vidperson.report.sounds import small_wav

        if segment not in self.sounds:
            return None
        try:
            found: Iterator[NDArray[np.float32]] = blocks(self.sounds[segment], SOUND_S, SOUND_RATE)
            return small_wav(next(found)[: int(SOUND_S * SOUND_RATE)], SOUND_RATE)
        except (VidPersonError, OSError, StopIteration):
            return None


def typical(decisions: Decisions) -> dict[str, int]:
    """Label -> the clean segment that is most like its centre."""
    import numpy as np

    found, listed = decisions.found, decisions.listed
    similar = np.nan_to_num(found.similarity, nan=0.0).sum(axis=1)
    best: dict[str, int] = {}
    for row in np.flatnonzero(~found.noisy).tolist():
        label = listed.label_of[listed.segments[row]]
        if label not in best or similar[row] > similar[best[label]]:
            best[label] = row
    return best
