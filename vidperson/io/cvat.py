"""Boxes of a video as CVAT reads them: the XML of version 1.1, https://docs.cvat.ai/docs/manual/advanced/xml_format/."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from html import escape  # not that of xml.sax, which takes long to import
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidperson.answers import Appearance, Track
    from vidperson.io.answers import Listed

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SAME_S = 0.001
_SHAPE = 'source="auto" occluded="0"'
_ATTRIBUTES = ("decision", "probability")
_ATTRIBUTE_KINDS = "".join(
    f"<attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type>"
    "<default_value></default_value><values></values></attribute>"
    for name in _ATTRIBUTES
)


def cvat_xml(listed: Listed) -> str:
    """A track per track of the answer, labelled with the person; of an image a box per box.

    A box is a key frame; CVAT fills in what lies between two of them. A track ends one step behind its last box.
    """
    return "\n".join(_lines(listed)) + "\n"


def _lines(listed: Listed) -> Iterator[str]:
    answer = listed.answer
    labels = dict.fromkeys(_label(listed, found) for found in answer.appearances)
    size = f"<width>{answer.width}</width><height>{answer.height}</height>"
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>"
    yield "<version>1.1</version>"
    mode = f"<mode>{'annotation' if listed.is_still else 'interpolation'}</mode>"
    yield f"<meta><task><name>{escape(_clean(listed.video))}</name>{mode}<labels>"
    for label in labels:
        yield f"<label><name>{escape(label)}</name><attributes>{_ATTRIBUTE_KINDS}</attributes></label>"
    yield f"</labels><original_size>{size}</original_size></task></meta>"
    if listed.is_still:
        name = f'"{escape(_clean(listed.video))}"'
        yield f'<image id="0" name={name} width="{answer.width}" height="{answer.height}">'
    number = 0
    for found, frames in zip(answer.appearances, listed.frames, strict=True):
        label = f'"{escape(_label(listed, found))}"'
        for track, of_boxes in zip(found.tracks, frames, strict=True):
            if not track.boxes:
                continue
            if listed.is_still:
                for box in track.boxes:
                    yield f'<box label={label} {_SHAPE} {_corners(box)} z_order="0">{_attributes(found)}</box>'
            else:
                yield f'<track id="{number}" label={label} source="auto">'
                yield from _boxes(found, track, of_boxes, track.end_s + _SAME_S < answer.duration_s)
                yield "</track>"
                number += 1
    if listed.is_still:
        yield "</image>"
    yield "</annotations>"


def _boxes(found: Appearance, track: Track, frames: tuple[int, ...], goes_on: bool) -> Iterator[str]:
    """goes_on: the video has frames behind the track."""
    last = -1
    for frame, box in zip(frames, track.boxes, strict=True):
        if frame > last:
            yield _box(frame, False, box, found)
            last = frame
    if goes_on:
        step = min((after - before for before, after in itertools.pairwise(frames) if after > before), default=1)
        yield _box(last + step, True, track.boxes[-1], found)


def _box(frame: int, outside: bool, box: tuple[float, ...], found: Appearance) -> str:
    where = f'frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0"'
    return f'<box {where} {_corners(box)} z_order="0">{_attributes(found)}</box>'


def _corners(box: tuple[float, ...]) -> str:
    return " ".join(f'{name}="{side:.2f}"' for name, side in zip(("xtl", "ytl", "xbr", "ybr"), box[1:], strict=True))


def _attributes(found: Appearance) -> str:
    told = (found.decision, f"{found.probability:.4f}")
    return "".join(
        f'<attribute name="{name}">{value}</attribute>' for name, value in zip(_ATTRIBUTES, told, strict=True)
    )


def _label(listed: Listed, found: Appearance) -> str:
    return _clean(listed.names.person(found.person))


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
