"""The benchmark of body networks on real pictures of some persons."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.market import Options, market, prepare
from vidperson.errors import DataError

EMBEDDER = "osnet_x025_msmt17_onnx"


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
    values = f"{figures.queries} | {figures.rank1:.3f} | {figures.map:.3f} | {figures.minp:.3f} |"
    assert f"| `{EMBEDDER}` | auto | as the card says | {values}" in capsys.readouterr().out
