"""What the user should know of the portraits: those that show nobody or several persons, and persons who are alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from vidperson.answers import PortraitNote
from vidperson.backends.gallery import Gallery, Portrait
from vidperson.types import HEARD, ITEMS, Calibration

FALSE_NOTES = 0.001
"""How many pairs of different persons of a gallery are told to be the same one, at most, on average."""
COPY_COSINE = 0.99
"""Of portraits that are copies of each other, or nearly."""
_BLOCK = 2048
_ROUNDING = 1e-5  # more than float32 is off


def noted(portraits: Iterable[Portrait], modality: str, notes: list[PortraitNote]) -> Iterator[Portrait]:
    """The same portraits; what is wrong with each is added to ``notes``. That a photo is not heard is not wrong."""
    heard = ITEMS[modality] in HEARD
    for one in portraits:
        if one.vector is None:
            kind = "unreadable" if one.status.startswith("unreadable") else "nothing"
            if kind == "unreadable" or not heard:
                notes.append(PortraitNote(kind, modality, one.person, one.segment, detail=one.status))
        elif one.together > 1:
            notes.append(PortraitNote("several", modality, one.person, one.segment, number=one.together))
        yield one


def gallery_notes(gallery: Gallery, modality: str, calibration: Calibration) -> list[PortraitNote]:
    """Persons of whom no portrait shows anything, and pairs of persons who seem to be one, in C-locale order.

    A pair seems to be one where its log-likelihood ratio is so high that among all pairs of different persons at most
    FALSE_NOTES are expected to reach it: a ratio of a or more has at most the probability 1 / a for them. Copies of a
    portrait are told in any case.
    """
    notes = [PortraitNote("missing", modality, person) for person in gallery.missing]
    count = len(gallery)
    if count < 2:
        return notes
    least = min(calibration.cosine(math.log(count * (count - 1) / 2 / FALSE_NOTES)), COPY_COSINE)
    vectors = gallery.vectors
    for start in range(0, count, _BLOCK):
        alike = []
        for begin in range(start, count, _BLOCK):
            cosines = vectors[start : start + _BLOCK] @ vectors[begin : begin + _BLOCK].T
            alike += (np.argwhere(cosines >= least - _ROUNDING) + (start, begin)).tolist()
        for row, column in sorted(pair for pair in alike if pair[0] < pair[1]):
            exact = vectors[[row, column]].astype(np.float64)  # so the same on any machine
            if exact[0] @ exact[1] >= least:
                one, other = gallery.persons[row], gallery.persons[column]
                notes.append(PortraitNote("same", modality, one, other=other))
    return notes
