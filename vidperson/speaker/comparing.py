"""The voice of a file, as stages 2 and 3 embed it."""

from __future__ import annotations

import logging

import numpy as np

from vidperson.errors import MediaError
from vidperson.speaker.cutting import Span, join_rows, read_spans
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.speaker.speech import SpeechPolicy, find_speech
from vidperson.types import Float


def voice_of(path: str, embedder: SpeakerEmbedder, speech: SpeechPolicy | None = None) -> Float:
    """(D,) float32, not length-normalised. Raises MediaError, with the path, for a file without speech."""
    status, rows = find_speech(path, speech)
    if not len(rows):
        raise MediaError(f"{path}: {status}")
    if status != "ok":
        logging.warning("%s: %s", path, status)
    spans, found = list[Span](), list[Float]()
    for span, sound in read_spans(path, rows, embedder.sample_rate):
        spans.append(span)
        found.append(embedder.embed([embedder.items(sound)])[0])
    return join_rows(spans, found)[0]


def voice_cosine(one: str, other: str, embedder: SpeakerEmbedder, speech: SpeechPolicy | None = None) -> float:
    """The cosine of the voices of two files, -1..1. Raises as :func:`voice_of`."""
    first, second = (voice_of(path, embedder, speech).astype(np.float64) for path in (one, other))
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
