"""The benchmark of body networks: figures across cameras against plain loops, and on real pictures of some persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.market import Measured, Options, across_cameras, market, prepare
from vidperson.errors import DataError

EMBEDDER = "osnet_x025_msmt17_onnx"


def naive(embeddings: np.ndarray, persons: list[str], cameras: list[str]) -> Measured:
    """By the definition, in plain loops."""
    firsts, precisions = [], []
    for query in range(len(embeddings)):
        found = []
        for other in range(len(embeddings)):
            if persons[other] == persons[query] and cameras[other] == cameras[query]:
                continue
            one, two = embeddings[query].astype(float), embeddings[other].astype(float)
            found.append((one @ two / np.sqrt((one @ one) * (two @ two)), persons[other] == persons[query]))
        hits = [right for _, right in sorted(found, key=lambda pair: -pair[0])]
        if any(hits):
            firsts.append(hits[0])
            at = [rank for rank, right in enumerate(hits, 1) if right]
            precisions.append(np.mean([number / rank for number, rank in enumerate(at, 1)]))
    return Measured(len(firsts), float(np.mean(firsts)), float(np.mean(precisions)))


def test_figures_are_those_of_plain_loops_and_leave_out_pictures_by_the_same_camera() -> None:
    rng = np.random.default_rng(0)
    persons = [str(person) for person in rng.integers(0, 12, 80)] + ["alone"]
    cameras = [str(camera) for camera in rng.integers(1, 4, 81)]
    centres = {person: rng.normal(size=8) for person in set(persons)}
    embeddings = np.stack([centres[person] + rng.normal(size=8) for person in persons]).astype(np.float32)
    found, expected = across_cameras(embeddings, persons, cameras), naive(embeddings, persons, cameras)
    assert found.queries == expected.queries < 81 and 0.2 < found.rank1 < 1
    assert (found.rank1, found.map) == pytest.approx((expected.rank1, expected.map))
    with pytest.raises(DataError, match="expected persons that two cameras saw"):
        across_cameras(embeddings, persons, ["1"] * 81)


def test_pictures_without_the_names_of_market_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="expected pictures with names like 0012_c1s1_004.jpg, found none"):
        prepare(tmp_path, tmp_path / "data")


def test_real_persons_are_found_across_cameras_through_the_stages(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = sorted((shared / "data/person/market100/gallery").glob("*.jpg"))
    (tmp_path / "pictures").mkdir()
    for path in pictures:
        if int(path.name[:4]) <= 12:
            (tmp_path / "pictures" / path.name).symlink_to(path)
    options = Options(tmp_path / "pictures", tmp_path, str(shared / "models"), EMBEDDER)
    (figures,) = market(options).values()
    assert figures.queries > 30 and figures.rank1 > 0.75 and figures.map > 0.6
    line = f"| `{EMBEDDER}` | auto | as the card says | {figures.queries} | {figures.rank1:.3f} | {figures.map:.3f} |"
    assert line in capsys.readouterr().out
