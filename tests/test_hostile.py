"""Files and names made to do harm: each is refused with a message, and nothing is run, written or filled with it."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from vidperson.errors import DataError
from vidperson.io.crops import read_tar_files, tar_entry
from vidperson.io.matrices import load_matrices, matrix_bytes
from vidperson.io.pictures import list_pictures


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["touch {0} |", "| touch {0}", "touch {0}|:0", "-", "/dev/zero:0", "/dev/stdin:7"])
def test_matrix_place_that_is_a_command_or_a_device_is_refused_and_not_run(tmp_path: Path, place: str) -> None:
    pwned = tmp_path / "pwned"
    (tmp_path / "embed.scp").write_text(f"a {place.format(pwned)}\n")
    with pytest.raises(DataError, match="embed.scp: matrix 'a' at .* cannot be read"):
        load_matrices(tmp_path / "embed.scp")["a"]
    assert not pwned.exists()


def test_matrix_that_is_a_pickle_is_refused_and_not_loaded(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    (tmp_path / "a.ark").write_bytes(b"a PKL" + pickle.dumps(Evil(pwned)))
    (tmp_path / "embed.scp").write_text(f"a {tmp_path}/a.ark:2\n")
    with pytest.raises(DataError, match="expected a binary Kaldi matrix of floats"):
        load_matrices(tmp_path / "embed.scp")["a"]
    assert not pwned.exists()


@pytest.mark.parametrize(
    ("rows", "columns"), [(2**31 - 1, 2**31 - 1), (-1, 4), (4, -1), (2**31 - 1, 0), (0, 3), (-2, -2), (3, 3)]
)
def test_matrix_of_another_size_than_the_archive_holds_is_refused(tmp_path: Path, rows: int, columns: int) -> None:
    sizes = b"".join(b"\4" + size.to_bytes(4, "little", signed=True) for size in (rows, columns))
    (tmp_path / "a.ark").write_bytes(b"a \0BFM " + sizes + bytes(32))
    (tmp_path / "embed.scp").write_text(f"a {tmp_path}/a.ark:2\n")
    with pytest.raises(DataError, match="cannot be read"):
        load_matrices(tmp_path / "embed.scp")["a"]


@pytest.mark.parametrize("offset", ["-1", "99999", "9" * 30, "9" * 5000, "1e3", "٣", ""])
def test_matrix_at_an_offset_that_is_none_is_refused(tmp_path: Path, offset: str) -> None:
    (tmp_path / "a.ark").write_bytes(matrix_bytes("a", np.ones((2, 3))))
    (tmp_path / "embed.scp").write_text(f"a {tmp_path}/a.ark:{offset}\n")
    with pytest.raises(DataError, match="cannot be read"):
        load_matrices(tmp_path / "embed.scp")["a"]


@pytest.mark.parametrize("size", [10**6, 8 * 1024**3, 2**62, -5])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_crop_of_another_size_than_the_archive_holds_is_refused(tmp_path: Path, size: int, kind: bytes) -> None:
    info = tarfile.TarInfo("a/0.png")
    info.type, info.size = kind, size
    (tmp_path / "crops.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(DataError, match="crops.tar:0"):
        list(read_tar_files(f"{tmp_path}/crops.tar:0", 1))


def test_names_that_lead_out_of_an_archive_are_names_and_nothing_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    names = ("../../escaped.png", "/escaped.png", "ok/1.png")
    path = tmp_path / "inside" / "pictures.tar"
    path.write_bytes(b"".join(tar_entry(name, b"abc") for name in names) + bytes(1024))
    assert [name for name, _ in read_tar_files(f"{path}:0", 3)] == list(names)
    pictures = list_pictures(path)
    assert {pictures.read(index) for index in range(3)} == {b"abc"}
    assert [entry.name for entry in tmp_path.rglob("*")] == ["inside", "pictures.tar"]


def test_links_that_run_in_circles_give_every_picture_once(tmp_path: Path) -> None:
    (tmp_path / "top" / "deep").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("top/1.png", "top/deep/2.png", "other/3.png"):
        (tmp_path / name).write_bytes(b"abc")
    for number in range(3):
        (tmp_path / "top" / "deep" / f"up{number}").symlink_to(tmp_path / "top")
        (tmp_path / "other" / f"back{number}").symlink_to(tmp_path / "top")
    (tmp_path / "top" / "linked").symlink_to(tmp_path / "other")
    assert list_pictures(tmp_path / "top").names == ["1.png", "deep/2.png", "linked/3.png"]


def test_archive_that_is_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.tar").symlink_to(tmp_path / "loop.tar")
    with pytest.raises(DataError, match="no such file"):
        list(read_tar_files(f"{tmp_path}/loop.tar:0", 1))
    with pytest.raises(DataError, match="no such folder or tar archive"):
        list_pictures(tmp_path / "loop.tar")
