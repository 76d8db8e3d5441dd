"""Figures of persons found again across cameras: against plain loops, and what is left out of a list."""

from __future__ import annotations

import numpy as np
import pytest

from vidperson.errors import ScoringError
from vidperson.metrics import reidentification
from vidperson.metrics.ranking import average_precision
from vidperson.metrics.reidentification import Retrieval, across_cameras


def plainly(embeddings: np.ndarray, persons: list[str], cameras: list[str]) -> Retrieval:
    """By the definitions, in plain loops."""
    firsts, precisions, penalties = [], [], []
    for query in range(len(embeddings)):
        found = []
        for other in range(len(embeddings)):
            seen = cameras[query] != "" and cameras[other] == cameras[query]
            if other == query or (persons[other] == persons[query] and seen):
                continue
            one, two = embeddings[query].astype(float), embeddings[other].astype(float)
            found.append((one @ two / np.sqrt((one @ one) * (two @ two)), other))
        order = [other for _, other in sorted(found, key=lambda pair: -pair[0])]
        relevant = {str(other) for other in order if persons[other] == persons[query]}
        if relevant:
            firsts.append(str(order[0]) in relevant)
            precisions.append(average_precision(map(str, order), relevant))
            penalties.append(len(relevant) / max(rank for rank, o in enumerate(order, 1) if str(o) in relevant))
    return Retrieval(len(firsts), float(np.mean(firsts)), float(np.mean(precisions)), float(np.mean(penalties)))


@pytest.mark.parametrize("unknown", [0.0, 0.3, 1.0])
def test_figures_are_those_of_plain_loops_with_and_without_cameras(
    unknown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    persons = [str(person) for person in rng.integers(0, 12, 80)] + ["lonely"]
    cameras = ["" if rng.random() < unknown else str(camera) for camera in rng.integers(1, 4, 81)]
    centres = {person: rng.normal(size=8) for person in sorted(set(persons))}
    embeddings = np.stack([centres[person] + rng.normal(size=8) for person in persons]).astype(np.float32)
    found, expected = across_cameras(embeddings, persons, cameras), plainly(embeddings, persons, cameras)
    assert found.queries == expected.queries < 81 and 0.2 < found.rank1 < 1 and 0 < found.minp < found.map < 1
    values = (expected.rank1, expected.map, expected.minp)
    assert (found.rank1, found.map, found.minp) == pytest.approx(values)
    monkeypatch.setattr(reidentification, "_BLOCK", 7 * 81)
    assert across_cameras(embeddings, persons, cameras) == found


def test_picture_of_the_same_camera_neither_helps_nor_harms_its_person() -> None:
    rows = np.eye(3, dtype=np.float32)[[0, 0, 1, 0, 2]]
    persons, cameras = ["a", "a", "a", "b", "b"], ["1", "1", "2", "3", "4"]
    found = across_cameras(rows, persons, cameras)
    # Of a, the two by camera 1 find b's first picture before the one by camera 2, which finds all alike.
    assert found.queries == 5 and found.rank1 == pytest.approx(1 / 5)
    assert across_cameras(rows[:3], persons[:3], cameras[:3]).rank1 == 1


@pytest.mark.parametrize("cameras", [["1"] * 4, ["", "2", "3", ""]])
def test_nobody_to_be_found_is_an_error(cameras: list[str]) -> None:
    persons = ["a", "a", "b", "b"] if cameras[0] else ["a", "b", "c", "d"]
    with pytest.raises(ScoringError, match="expected persons with pictures by two cameras"):
        across_cameras(np.ones((4, 2), np.float32), persons, cameras)
