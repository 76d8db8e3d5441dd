"""Rows of archives through memory maps: those that Kaldi's own reader gives, whatever is asked for."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from vidperson.errors import DataError
from vidperson.io.mapped import MappedRows
from vidperson.io.matrices import matrix_bytes

COUNTS = {"a": 3, "b": 0, "dir/c": 1, "d": 40, "e": 7}


def write(folder: Path, counts: dict[str, int], columns: int = 5, split: str = "d") -> dict[str, np.ndarray]:
    """``x.scp`` and two archives, the second from a name on; returns the matrices."""
    rng = np.random.default_rng(len(counts))
    matrices = {key: rng.standard_normal((rows, columns)).astype(np.float32) for key, rows in counts.items()}
    lines, file = [], "x1.ark"
    for key, matrix in matrices.items():
        file = "x2.ark" if key == split else file
        with open(folder / file, "ab") as archive:
            lines.append(f"{key} {file}:{archive.tell() + len(key) + 1}\n")
            archive.write(matrix_bytes(key, matrix))
    (folder / "x.scp").write_text("".join(lines))
    return matrices


def tell_size(archive: Path, size: bytes) -> None:
    """Have the header of the first matrix tell other rows and columns, 4 bytes each."""
    content = bytearray(archive.read_bytes())
    content[8:12], content[13:17] = size[:4], size[4:]
    archive.write_bytes(content)


def test_rows_in_any_order_are_those_that_kaldis_reader_gives(tmp_path: Path) -> None:
    write(tmp_path, COUNTS)
    keys = ["e", "dir/c", "a", "d", "b"]
    table = MappedRows(tmp_path / "x.scp", keys)
    assert table.columns == 5 and table.counts.tolist() == [COUNTS[key] for key in keys]
    asked = [(number, row) for number, key in enumerate(keys) for row in range(COUNTS[key])]
    asked = [asked[i] for i in np.random.default_rng(0).permutation(len(asked))] + asked[:3]
    found = table.take(*np.array(asked).T)
    scp = dict(line.split() for line in (tmp_path / "x.scp").read_text().splitlines())
    for (number, row), each in zip(asked, found, strict=True):
        assert np.array_equal(kaldiio.load_mat(f"{tmp_path}/{scp[keys[number]]}")[row], each)
    assert found.dtype == np.float32 and table.take(*np.zeros((2, 0), np.int64)).shape == (0, 5)


def test_table_in_another_process_maps_its_archives_anew(tmp_path: Path) -> None:
    matrices = write(tmp_path, COUNTS)
    table = MappedRows(tmp_path / "x.scp", list(COUNTS))
    copied = pickle.dumps(table)
    assert len(copied) < 2000
    assert np.array_equal(pickle.loads(copied).take(np.array([3]), np.array([39])), matrices["d"][39:])


@pytest.mark.parametrize(
    ("keys", "change", "message"),
    [
        ("a d", lambda x2, scp: x2.unlink(), r"matrix 'd' cannot be read \(no such file: .*x2.ark'\); redo the stage"),
        ("a d", lambda x2, scp: x2.write_bytes(b""), "matrix 'd' cannot be read .*x2.ark' ends before it"),
        ("a d e", lambda x2, scp: x2.write_bytes(x2.read_bytes()[:-1]), "matrix 'e' .*expected 7 x 5 values, .* ends"),
        ("a d", lambda x2, scp: kaldiio.save_ark(str(x2), {"d": np.zeros((2, 5))}), "expected a binary .* float32"),
        ("a d", lambda x2, scp: kaldiio.save_ark(str(x2), {"d": np.zeros((9, 4), "f")}), "'d': expected 5 columns"),
        ("a d", lambda x2, scp: tell_size(x2, b"\xff\xff\xff\x7f" * 2), r"expected 2147483647 x 2147483647 values"),
        ("a d", lambda x2, scp: tell_size(x2, b"\xff\xff\xff\x7f\0\0\0\0"), "expected 2147483647 x 0 values"),
        ("d", lambda x2, scp: scp.write_text("d x2.ark\n"), "expected '<archive>:<offset>', found 'x2.ark'"),
        ("d", lambda x2, scp: scp.write_text("d cat x2.ark |\n"), "expected '<archive>:<offset>'"),
        ("a z", lambda x2, scp: None, r"matrix 'z' cannot be read \(it is not listed\)"),
    ],
)
def test_archive_that_is_not_whole_is_refused_by_the_name_of_the_matrix(
    tmp_path: Path, keys: str, change: Callable[[Path, Path], None], message: str
) -> None:
    write(tmp_path, COUNTS)
    change(tmp_path / "x2.ark", tmp_path / "x.scp")
    with pytest.raises(DataError, match=message):
        MappedRows(tmp_path / "x.scp", keys.split())


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for rows in (10, 1000):
        (tmp_path / str(rows)).mkdir()
        write(tmp_path / str(rows), {f"k{i:02d}": rows for i in range(40)}, columns=64, split="")
        tracemalloc.start()
        table = MappedRows(tmp_path / f"{rows}/x.scp", [f"k{i:02d}" for i in range(40)])
        table.take(np.arange(40), np.full(40, rows - 1))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] and peaks[1] < 200_000  # the rows take 10 MB
