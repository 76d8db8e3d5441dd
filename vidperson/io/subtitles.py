"""Who is to be seen or heard, as WebVTT subtitles of a video (https://www.w3.org/TR/webvtt1/)."""

from __future__ import annotations

import itertools
import unicodedata
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidperson.answers import Appearance
    from vidperson.io.answers import Listed

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\u200e": "&lrm;", "\u200f": "&rlm;"})


def webvtt(listed: Listed) -> str:
    """The subtitles of a video: while the same persons are there, a cue that names each of them on a line.

    Times are those of a player.
    """
    return "".join(["WEBVTT\n", *(f"\n{cue}\n" for cue in _cues(listed))])


def caption(found: Appearance, name: str) -> str:
    """``Name (97 %)``; ``Name? (61 %)`` of one that is not sure; ``unknown 1`` of nobody of the gallery.

    name: of the person, as typed; a mark after one that is written from right to left keeps what follows behind it.
    What would be rounded to 100 % is told as >99 %.
    """
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name):
        name += "\N{LEFT-TO-RIGHT MARK}"
    if found.decision == "unknown":
        return name
    percent = round(100 * found.probability)
    return f"{name}{'' if found.decision == 'yes' else '?'} ({'>99' if percent > 99 else percent} %)"


def _cues(listed: Listed) -> Iterator[str]:
    timed = [
        (_milliseconds(listed.first_frame_s + one.start_s), _milliseconds(listed.first_frame_s + one.end_s), one)
        for one in listed.answer.appearances
    ]
    bounds = sorted({bound for start, end, _ in timed for bound in (start, end)})
    left = deque(sorted(timed, key=lambda item: item[0]))
    there: list[tuple[int, Appearance]] = []  # until when, and who
    for start, end in itertools.pairwise(bounds):
        there = [(until, one) for until, one in there if until > start]
        while left and left[0][0] <= start:
            there.append(left.popleft()[1:])
        if there:
            texts = (caption(one, listed.names.person(one.person)) for _, one in there)
            lines = [" ".join(text.split()).translate(_ESCAPES) for text in dict.fromkeys(texts)]
            yield "\n".join([f"{_clock(start)} --> {_clock(end)}", *lines])


def _milliseconds(seconds: float) -> int:
    return max(0, round(1000 * seconds))


def _clock(milliseconds: int) -> str:
    seconds, part = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{part:03d}"
