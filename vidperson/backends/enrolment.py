"""What replaces an enrolment video without a face in its labelled windows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.sets import EmbeddingSets


def replace_missing_reference(
    reference: EmbeddingSets, detected: Mapping[str, NDArray[np.float32]]
) -> tuple[EmbeddingSets, list[str], list[str]]:
    """Give each video without reference faces the mean of all faces detected in it.

    reference: per video, the embeddings of the faces that the labels point at.
    detected: per video, (n, dim) embeddings of the faces found without labels; read only for videos without
        reference faces. A video that is absent there counts as one without faces.
    Returns the completed sets, the names of the videos that got a mean, and the names of those for which
    there was no detected face either. The latter keep an empty set: beside other videos of the same model it
    adds nothing, and a model with nothing else scores as a zero vector, 0.

    The mean is that of the embeddings as they are, so that poor faces (short embeddings) weigh less.
    """
    replaced: dict[str, NDArray[np.float32]] = {}
    absent: list[str] = []
    for key in reference.empty_keys():
        faces = detected.get(key)
        if faces is None or not len(faces):
            absent.append(key)
        else:
            replaced[key] = faces.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
    if not replaced:
        return reference, [], absent
    completed = EmbeddingSets.from_items((key, replaced.get(key, reference[i])) for i, key in enumerate(reference.keys))
    return completed, list(replaced), absent
