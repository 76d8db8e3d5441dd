"""Notes on portraits in words that everybody understands."""

from __future__ import annotations

from collections.abc import Mapping

from vidperson.answers import PortraitNote

_WORDS = {"face": ("face", "faces"), "speaker": ("voice", "voices"), "body": ("body", "bodies")}


def note_text(note: PortraitNote, names: Mapping[str, str]) -> str:
    """A note as a sentence. names: id -> name as typed, of persons and of portraits."""
    person, file = names.get(note.person, note.person), names.get(note.segment, note.segment)
    one, many = _WORDS.get(note.modality, (note.modality, note.modality))
    if note.kind == "unreadable":
        return f"{file}: this file cannot be read, so it is left out ({note.detail.removeprefix('unreadable: ')})"
    if note.kind == "nothing":
        return f"{file}: no {one} is found in it, so it is left out; take one that shows {person} larger and sharper"
    if note.kind == "several":
        return f"{file}: there are {note.number} {many} in it; the largest one is taken as {person}"
    if note.kind == "missing":
        return f"{person}: no {one} is found in any portrait, so {person} cannot be recognised by it"
    other = names.get(note.other, note.other)
    return f"{person} and {other} seem to be the same person; put their portraits into one folder"
