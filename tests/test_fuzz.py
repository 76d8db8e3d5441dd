"""Any bytes under the readers of lists, archives, networks' files and cards: a result or an error of ours.

Each example is a valid file with some damage, or bytes without sense. Meanwhile the process may take a gigabyte at
most, and each example five seconds. VIDPERSON_FUZZ_EXAMPLES=10000 makes the campaign longer.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import kaldiio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steps.make_report import _read_json
from utils.grid import Config
from vidperson.corpora.folder import read_key
from vidperson.corpora.iqiyi_vid import read_persons
from vidperson.corpora.tables import Column, read_table
from vidperson.errors import VidPersonError
from vidperson.face.annotations import read_annotations
from vidperson.io import data_dir, lines, lists, matrices, pairs
from vidperson.io.crops import read_tar_files, tar_entry
from vidperson.io.job_store import JOURNAL, JobStore
from vidperson.io.pictures import list_pictures
from vidperson.io.trial_list import TrialList
from vidperson.media.image import decode_image
from vidperson.networks.card import ZOO, load_card
from vidperson.networks.install import installed_model
from vidperson.networks.mxnet_files import read_params, read_symbol

EXAMPLES = int(os.environ.get("VIDPERSON_FUZZ_EXAMPLES", "40"))
GIB = 1 << 30

fuzz = settings(
    deadline=5000,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextmanager
def one_gibibyte() -> Iterator[None]:
    """What takes more fails with a MemoryError, which is no error of ours."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + GIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


SPECIAL_NUMBERS = [
    0,
    1,
    2,
    4,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
TEXTS = ["\n", " ", "\t", "\r\n", "\0", "..", "/", "../", "nan", "inf", "1e999", "-1", "9" * 400, "é", "\u3000", "\x85"]
TEXTS += [
    "'",
    '"',
    "#",
    ":",
    "|",
    "[[[[",
    "{",
    "- ",
    "? ",
    "&a ",
    "*a",
    "!!int ",
    "<<: ",
    "~",
    "2001-99-99",
    "0x",
    "1_0",
    "٣",
    "x" * 200_000,
]


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The file cut, with bytes flipped, put in, taken out or doubled, or with numbers that readers stumble over."""

    def damage(seed: int, count: int) -> bytes:
        rng, data = random.Random(seed), bytearray(whole)
        for _ in range(count):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(8)
            if kind == 0 and data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            elif kind == 1:
                size = rng.choice([1, 2, 4, 8])
                number = rng.choice(SPECIAL_NUMBERS) % (1 << 8 * size)
                data[at : at + size] = number.to_bytes(size, rng.choice(["little", "big"]))
            elif kind == 2:
                data[at:at] = rng.choice(TEXTS).encode()
            elif kind == 3:
                del data[at : at + rng.randrange(1, 40)]
            elif kind == 4:
                data[at:at] = data[at : at + rng.randrange(1, 60)]
            elif kind == 5:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            elif kind == 6 and (words := list(re.finditer(rb"[^\s,:\"]+", data))):
                word = rng.choice(words)
                data[word.start() : word.end()] = rng.choice(TEXTS).encode()
            elif rng.random() < 0.2:
                del data[at:]
        return bytes(data)

    return st.one_of(st.builds(damage, st.integers(0, 2**32), st.integers(0, 8)), st.binary(max_size=200))


def matrix_table(path: Path) -> None:
    table = matrices.load_matrices(path)
    for key in table:
        assert table[key].dtype == np.float32 and table[key].ndim == 2


def archive(path: Path) -> None:
    (path.parent / "x.scp").write_text(f"a {path}:2\n")
    matrix_table(path.parent / "x.scp")


def tar_files(path: Path) -> None:
    for name, content in read_tar_files(f"{path}:0", 2):
        assert isinstance(name, str) and isinstance(content, bytes)


def pictures(path: Path) -> None:
    found = list_pictures(path)
    for number in range(len(found)):
        found.read(number)


def journal(path: Path) -> None:
    folder = path.parent / "job"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / JOURNAL)
    (folder / "a.ark").write_bytes(bytes(64))
    with JobStore(folder, ["a.ark"], ["ok"]) as store:
        store.append("new", "ok", {"a.ark": [b"x"]})


def table_of_a_release(path: Path) -> None:
    columns = {"id": Column(("model id",)), "x": Column(("x",), optional=True, fallback=2, matches=r"\d+")}
    for row in read_table(path, columns):
        row.id("id")
        if row.get("x"):
            assert np.isfinite(row.number("x"))


def data_folder(name: str, lists: dict[str, str]) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        folder = path.parent / "data"
        folder.mkdir(exist_ok=True)
        for other, text in lists.items():
            (folder / other).write_text(text)
        shutil.copy(path, folder / name)
        data_dir.validate(folder)
        data_dir.fix(folder)
        data_dir.require_valid(folder)
        data_dir.split(folder, 2, path.parent / "split")

    return read


def installed(path: Path) -> None:
    folder = path.parent / "arcface_tiny"
    folder.mkdir(exist_ok=True)
    (folder / "network.onnx").write_bytes(b"abc")
    shutil.copy(ZOO / "arcface_tiny.yaml", folder)
    shutil.copy(path, folder / "record.json")
    installed_model(folder)


def settings_of_a_site(path: Path) -> None:
    try:
        Config.read(path)
    except SystemExit as refused:
        assert str(path) in str(refused)


def image(path: Path) -> None:
    shown, _ = decode_image(path.read_bytes())
    assert shown.dtype == np.uint8 and shown.ndim == 3


DATA = {
    "vid.scp": "m1-a /x/a b.mp4\nm1-b /x/b.mp4\n",
    "utt2spk": "m1-a m1\nm1-b m1\n",
    "spk2utt": "m1 m1-a m1-b\n",
    "face_boundingbox": "m1-a 1.5 10 10 50 50\n",
    "face_boundingbox_conf": "seconds 5\n",
    "trials": "m1 m1-a target\nm2 m1-b nontarget\n",
    "vid2dur": "m1-a 3.5\nm1-b 4\n",
}
SEARCHED = {
    "vid.scp": DATA["vid.scp"],
    "utt2spk": "m1-a m1\n",
    "spk2utt": "m1 m1-a\n",
    "search": "m1 all\nm2 all\n",
    "utt2group": "m1-a all\nm1-b all\n",
    "relevant": "m1 m1-a\nm2 m1-b\n",
}


def params_bytes() -> bytes:
    """Two arrays in MXNet's format: V2, float32, and a scalar list of V3."""
    out = struct.pack("<QQQ", 0x112, 0, 2)
    for magic, shape in ((0xF993FAC9, (2, 3)), (0xF993FACA, (4,))):
        out += struct.pack("<Iii", magic, 0, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
        out += struct.pack("<iii", 1, 0, 0) + np.arange(np.prod(shape), dtype="<f4").tobytes()
    out += struct.pack("<Q", 2)
    for name in (b"arg:weight", b"aux:mean"):
        out += struct.pack("<Q", len(name)) + name
    return out


SYMBOL = {
    "nodes": [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "Activation", "name": "relu", "attrs": {"act_type": "relu"}, "inputs": [[0, 0, 0]]},
    ],
    "heads": [[1, 0, 0]],
}
NOTE = {
    "segment": "a",
    "status": "ok",
    "start": {"a.ark": 0},
    "end": {"a.ark": 10},
    "crc32": {"a.ark": zlib.crc32(bytes(10))},
}
INSTALLED = {
    "stage": "", "command": ["install_model", "arcface_tiny"], "options": {}, "versions": {}, "inputs": {},
    "outputs": {
        "network.onnx": {"sha256": sha256(b"abc").hexdigest(), "bytes": 3},
        "arcface_tiny.yaml": {"sha256": sha256((ZOO / "arcface_tiny.yaml").read_bytes()).hexdigest(), "bytes": 9},
    },
}  # fmt: skip
SITE = "# a site\ncommand qsub -v 'A B'\noption gpu=* -l gpu=$0\ndefault gpu=0\npatience 60\n"
PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
WIDER = "# a/1.jpg\n44 33 22 14 48.9 37.6 0 54.1 37.4 0 51.0 41.8 0 48.2 42.9 0 53.4 43.5 0 0.8\n# b.jpg\n1 2 3 4\n"
IMGLAB = "<dataset><images><image file='a.jpg'><box left='1' top='2' width='3' height='4'/></image></images></dataset>"


def long_list(path: Path) -> None:
    with TrialList(path, path.parent) as trials:
        list(trials.parts(2))


def ark_bytes() -> bytes:
    return matrices.matrix_bytes("a", np.ones((3, 4))) + matrices.matrix_bytes("b", np.ones((1, 4)))


def tar_bytes() -> bytes:
    return tar_entry("a/0.png", b"x" * 700) + tar_entry("a/" + "é" * 120 + ".png", b"y") + bytes(1024)


READERS: dict[str, tuple[Callable[[Path], Any], bytes, str]] = {
    "scp": (lines.read_scp, b"a /x/a b.mp4\nb /x/b\n", "x"),
    "spk2utt": (lines.read_spk2utt, b"m a b c\nn d\n", "x"),
    "trials": (lists.read_trials, b"m a target\nm b nontarget\n\nn a target\n", "x"),
    "long trials": (long_list, b"m a target\nm b nontarget\n\nn a target\n", "x"),
    "scores": (lists.read_scores, b"m a 0.25\nm b -1e-7\n\nn\ta 12345678.123456789\n", "x"),
    "partitions": (lists.read_partitions, b"m a male\nm b female\n", "x"),
    "key": (lists.read_key, b"m a target\nm b nontarget\n", "x"),
    "boxes": (lists.read_boxes, b"a 1.5 10 10 50 50\na 3 1 1 2 2\n", "x"),
    "pairs": (pairs.read_pairs, b"2\nA 1 2\nA 1 3\nA 1 B 2\nB 1 C 1\n", "x"),
    "plain pairs": (pairs.read_pairs, b"a/1.png b/2.png target\na/1.png c/1.png nontarget\n", "x"),
    "wider": (read_annotations, WIDER.encode(), "x"),
    "imglab": (read_annotations, IMGLAB.encode(), "x.xml"),
    "key of folders": (lambda path: read_key(path, {"A"}, {"v.mp4"}), b"A\tv.mp4\r\n\nA\tv.mp4\n", "x"),
    "list of iQIYI-VID": (read_persons, b"a.mp4 1\r\n\n2 b.mp4 c.mp4\n", "x"),
    "table": (table_of_a_release, b'model id,x\na,1\n"b",2\n', "x"),
    "table with tabs": (table_of_a_release, b"model_id\tx\r\na\t1\r\nb\t2\r\n", "x"),
    "journal": (journal, "".join(json.dumps(n) + "\n" for n in (NOTE, NOTE)).encode(), "x"),
    "scp of matrices": (matrix_table, b"a x.ark:2\nb | cat\n", "x"),
    "ark": (archive, ark_bytes(), "x"),
    "tar": (tar_files, tar_bytes(), "x"),
    "tar of pictures": (pictures, tar_bytes(), "x.tar"),
    "params": (read_params, params_bytes(), "x"),
    "symbol": (read_symbol, json.dumps(SYMBOL).encode(), "x"),
    "card": (load_card, (ZOO / "mobilefacenet_arcface_mxnet.yaml").read_bytes(), "mobilefacenet_arcface_mxnet.yaml"),
    "card of our own": (load_card, (ZOO / "arcface_tiny.yaml").read_bytes(), "arcface_tiny.yaml"),
    "installed": (installed, json.dumps(INSTALLED).encode(), "x"),
    "results": (lambda path: _read_json(path, "evaluate.py"), b'{"results": [{"eer": 0.5}]}', "x"),
    "settings of a site": (settings_of_a_site, SITE.encode(), "x"),
    "png": (image, cv2.imencode(".png", PHOTO)[1].tobytes(), "x"),
    "jpeg": (image, cv2.imencode(".jpg", PHOTO)[1].tobytes(), "x"),
    "webp": (image, cv2.imencode(".webp", PHOTO)[1].tobytes(), "x"),
    "bmp": (image, cv2.imencode(".bmp", PHOTO)[1].tobytes(), "x"),
    "tiff": (image, cv2.imencode(".tiff", PHOTO)[1].tobytes(), "x"),
    **{f"data {name}": (data_folder(name, DATA), text.encode(), "x") for name, text in DATA.items()},
    **{
        f"searched {name}": (data_folder(name, SEARCHED), SEARCHED[name].encode(), "x")
        for name in ("utt2spk", "search", "utt2group", "relevant")
    },
}


@pytest.mark.parametrize("name", READERS)
def test_reader_of_a_whole_file_reads_it(tmp_path: Path, name: str) -> None:
    """Else the damage below would be done to files that are refused anyway."""
    reader, whole, file = READERS[name]
    (tmp_path / file).write_bytes(whole)
    if name in ("scp of matrices", "journal"):
        return  # their files name others
    reader(tmp_path / file)


@pytest.mark.parametrize("name", READERS)
def test_reader_of_any_bytes_gives_a_result_or_an_error_of_ours(tmp_path: Path, name: str) -> None:
    reader, whole, file = READERS[name]
    path = tmp_path / file

    @fuzz
    @given(damaged(whole))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with one_gibibyte():
            try:
                reader(path)
            except VidPersonError as error:
                assert len(str(error)) < 20_000

    check()


def test_kaldiio_as_oracle_reads_what_the_reader_of_archives_reads(tmp_path: Path) -> None:
    (tmp_path / "x.ark").write_bytes(ark_bytes())
    (tmp_path / "x.scp").write_text(f"a {tmp_path}/x.ark:2\n")
    expected = dict(kaldiio.load_ark(str(tmp_path / "x.ark")))
    assert matrices.load_matrices(tmp_path / "x.scp")["a"].tobytes() == expected["a"].tobytes()
