"""Who is in which video, and when, as RTTM: a line per appearance, as tools of speaker diarisation read it.

``SPEAKER <segment> 1 <start> <duration> <NA> <NA> <person> <probability> <NA>``, times in seconds. The format is that
of NIST's Rich Transcription evaluation 2009, appendix A of its plan.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

from vidperson.answers import RTTM_TYPE

if TYPE_CHECKING:
    from vidperson.io.answers import Listed

_EMPTY = "<NA>"  # a field that has nothing
_LIKE_UNKNOWN = re.compile(r"unknown_\d+(_of_.+)?")


def rttm_names(persons: Mapping[str, str]) -> dict[str, str]:
    """Id -> name without blanks; those of different names as typed are different.

    persons: id -> name as typed. In it blanks become ``_``, and ``"`` becomes ``'``. Where two persons, or one and
    "unknown 1", would share it, ``-`` and eight hexadecimal digits of the SHA-256 of the name as typed are added.
    """
    words = {person: _word(name) for person, name in persons.items()}
    count = Counter(words.values())
    return {
        person: word
        if count[word] == 1 and word != _EMPTY and not _LIKE_UNKNOWN.fullmatch(word)
        else f"{word}-{hashlib.sha256(persons[person].encode()).hexdigest()[:8]}"
        for person, word in words.items()
    }


def _word(name: str) -> str:
    return "_".join(name.split()).replace('"', "'") or "_"  # readers of tables take " for the begin of a cell


class Rttm:
    """Writes who.rttm. persons: id -> name as typed, of all."""

    def __init__(self, stream: IO[str], persons: Mapping[str, str]) -> None:
        self._stream, self._words = stream, rttm_names(persons)

    def add(self, listed: Listed) -> None:
        """The appearances that last, as those of an image do not."""
        answer = listed.answer
        for found in answer.appearances:
            seconds = round(found.end_s, 3) - round(found.start_s, 3)
            if seconds > 0:
                word = self._words.get(found.person) or _word(found.person)
                where = f"{_word(answer.segment)} 1 {found.start_s:.3f} {seconds:.3f}"
                self._stream.write(f"{RTTM_TYPE} {where} {_EMPTY} {_EMPTY} {word} {found.probability:.4f} {_EMPTY}\n")
