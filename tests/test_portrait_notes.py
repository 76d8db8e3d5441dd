"""What the user is told of portraits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from vidperson.answers import PortraitNote
from vidperson.backends.gallery import Gallery, Portrait
from vidperson.backends.portrait_notes import FALSE_NOTES, gallery_notes, noted
from vidperson.errors import DataError
from vidperson.io.portrait_notes import notes_path, read_notes, write_notes
from vidperson.report.portrait_notes import note_text
from vidperson.types import Calibration

UNIT = np.eye(4)


def test_portraits_that_show_nobody_or_several_are_noted_and_all_go_on() -> None:
    portraits = [
        Portrait("a-1", "a", UNIT[0]),
        Portrait("a-2", "a", None, "no_face", 0),
        Portrait("a-3", "a", UNIT[1], "ok", 3),
        Portrait("b-1", "b", None, "unreadable: cut off", 0),
    ]
    notes: list[PortraitNote] = []
    assert list(noted(portraits, "face", notes)) == portraits
    assert notes == [
        PortraitNote("nothing", "face", "a", "a-2", detail="no_face"),
        PortraitNote("several", "face", "a", "a-3", number=3),
        PortraitNote("unreadable", "face", "b", "b-1", detail="unreadable: cut off"),
    ]
    missing = gallery_notes(Gallery.of(portraits), "face", Calibration(20.0, -6.0, "x"))
    assert missing == [PortraitNote("missing", "face", "b")]


def test_photo_without_a_voice_is_no_news_and_a_person_without_one_is() -> None:
    portraits = [Portrait("a-1", "a", None, "no_audio: the file has no sound track", 0)]
    portraits.append(Portrait("a-2", "a", None, "unreadable: cut off", 0))
    notes: list[PortraitNote] = []
    assert list(noted(portraits, "speaker", notes)) == portraits
    assert [(note.kind, note.segment) for note in notes] == [("unreadable", "a-2")]
    assert gallery_notes(Gallery.of(portraits), "speaker", Calibration(20.0, -6.0, "x"))[0].kind == "missing"


@pytest.mark.parametrize("persons", [2, 50])
def test_persons_who_are_alike_are_told_from_the_ratio_that_so_many_pairs_demand(persons: int) -> None:
    calibration = Calibration(20.0, 0.0, "x")
    cosine = math.log(persons * (persons - 1) / 2 / FALSE_NOTES) / 20  # by the definition in the docstring
    base = np.eye(persons + 1)
    for shift, found in ((0.01, 1), (-0.01, 0)):
        angle = math.acos(min(1.0, cosine + shift))
        vectors = np.vstack([base[:1], base[:1] * math.cos(angle) + base[1:2] * math.sin(angle), base[3:]])[:persons]
        portraits = [Portrait(f"p{i:03}-1", f"p{i:03}", row) for i, row in enumerate(vectors)]
        notes = gallery_notes(Gallery.of(portraits), "face", calibration)
        assert notes == [PortraitNote("same", "face", "p000", other="p001")] * found


def test_copies_of_a_portrait_are_told_though_no_cosine_reaches_the_ratio() -> None:
    gallery = Gallery.of([Portrait("a-1", "a", UNIT[0]), Portrait("b-1", "b", UNIT[0]), Portrait("c-1", "c", UNIT[1])])
    notes = gallery_notes(gallery, "face", Calibration(1.0, 0.0, "x"))
    assert [(note.person, note.other) for note in notes] == [("a", "b")]


def test_persons_who_are_alike_are_told_across_blocks_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidperson.backends.portrait_notes._BLOCK", 2)
    portraits = [Portrait(f"{name}-1", name, UNIT[k]) for name, k in zip("abcde", (0, 1, 2, 0, 3), strict=True)]
    notes = gallery_notes(Gallery.of(portraits), "face", Calibration(20.0, -6.0, "x"))
    assert [(note.person, note.other) for note in notes] == [("a", "d")]


@pytest.mark.parametrize(
    ("note", "text"),
    [
        (PortraitNote("several", "face", "b", "b-1", number=3),
         "Bea <b>/1.jpg: there are 3 faces in it; the largest one is taken as Bea <b>"),
        (PortraitNote("same", "face", "b", other="c"),
         "Bea <b> and c seem to be the same person; put their portraits into one folder"),
        (PortraitNote("unreadable", "face", "b", "b-1", detail="unreadable: cut off"),
         "Bea <b>/1.jpg: this file cannot be read, so it is left out (cut off)"),
        (PortraitNote("nothing", "body", "b", "b-1"),
         "Bea <b>/1.jpg: no body is found in it, so it is left out; take one that shows Bea <b> larger and sharper"),
        (PortraitNote("missing", "body", "b"),
         "Bea <b>: no body is found in any portrait, so Bea <b> cannot be recognised by it"),
    ],
)  # fmt: skip
def test_note_is_a_sentence_with_names_as_typed(note: PortraitNote, text: str) -> None:
    assert note_text(note, {"b": "Bea <b>", "b-1": "Bea <b>/1.jpg"}) == text


def test_notes_are_read_as_they_were_written_and_another_line_is_refused(tmp_path: Path) -> None:
    notes = [
        PortraitNote("several", "face", "b", "b-1", number=3, text="\u738b\u4f1f: 3"),
        PortraitNote("missing", "face", "c"),
    ]
    path = notes_path(tmp_path / "x_who.jsonl")
    assert path == tmp_path / "x_notes.jsonl"
    write_notes(path, notes)
    assert read_notes(path) == notes
    path.write_text(path.read_text() + '{"kind": 1}\n')
    with pytest.raises(DataError, match=r"x_notes.jsonl:3: expected a note on a portrait, found '{\"kind\": 1}'"):
        read_notes(path)
