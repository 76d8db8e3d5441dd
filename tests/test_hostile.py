"""Files and names made to do harm: each is refused with a message, and nothing is run, written or filled with it."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from engines_here import ENGINES

from steps.make_report import _read_json
from vidperson.engines import load_network
from vidperson.errors import DataError, ModelError
from vidperson.io.crops import read_tar_files, tar_entry
from vidperson.io.matrices import load_matrices, matrix_bytes
from vidperson.io.pictures import list_pictures
from vidperson.networks.card import ZOO, load_card
from vidperson.networks.install import installed_model
from vidperson.networks.mxnet_files import read_symbol


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


def card_with(folder: Path, old: str, new: str) -> Path:
    """The card of arcface_tiny, with ``old`` in its text replaced."""
    text = (ZOO / "arcface_tiny.yaml").read_text(encoding="utf-8")
    assert old in text
    (folder / "arcface_tiny.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder / "arcface_tiny.yaml"


LAUGHS = "figures:\n  a0: &a0 [x, x]\n" + "".join(f"  a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("figures:", LAUGHS, "anchors"),
        ("figures:", "figures:\n  deep: " + "[" * 5000 + "]" * 5000 + "\n", "nested more than 16 deep"),
        ("figures:", "figures:\n  long: " + "x" * (1 << 21) + "\n", "expected at most 2097152 bytes"),
        ("figures:", "figures:\n  many: [" + "{}," * (1 << 18) + "]\n", "expected at most 262144 values"),
        ("figures:", "figures:\n  big: " + "9" * 5000 + "\n", "not a YAML file"),
        ("figures:", "figures:\n  when: 2001-99-99\n", "not a YAML file"),
        ("figures:", "figures:\n  run: !!python/object/apply:os.system [id]\n", "tags"),
        ("embedding_size:", "embedding_size: 1000000000000 #", "expected a positive size of at most 65536"),
        ("width:", "width: 1000000000 #", "sizes from 1 to 16384"),
        ("mean:\n  - 127.5", "mean:\n  - .nan", "input.mean: expected three numbers"),
        ("std:\n  - 127.5", "std:\n  - .inf", "input.std: expected three positive numbers"),
        ("name: arcface_tiny.onnx", "name: ..", "file.name: expected a plain file name"),
        ("name: arcface_tiny.onnx", "name: ''", "file.name: expected a plain file name"),
        ("name: arcface_tiny.onnx", "name: ../evil", "file.name: expected a plain file name"),
    ],
)
def test_card_made_to_blow_up_or_to_lead_elsewhere_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        load_card(card_with(tmp_path, old, new))
    assert len(str(error.value)) < 1000


def test_json_made_to_blow_up_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "arcface_tiny"
    folder.mkdir()
    (folder / "network.onnx").write_bytes(b"abc")
    for text in ("[" * 100_000, '{"network_sha256": ' * 50_000, "9" * 100_000, "null", "[1]"):
        (folder / "record.json").write_text(text)
        with pytest.raises(ModelError, match="no installed network"):
            installed_model(folder)
        with pytest.raises(ModelError, match="not an MXNet symbol"):
            read_symbol(folder / "record.json")
    (folder / "results.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="results.json: not a result of evaluate.py"):
        _read_json(folder / "results.json", "evaluate.py")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dims", [[1 << 40], [1 << 20, 1 << 20, 1 << 20], [-5], [64, 3, 3, 3]])
def test_network_with_a_weight_of_an_absurd_shape_is_refused(tmp_path: Path, engine: str, dims: list[int]) -> None:
    import onnx

    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=dims, raw_data=b"abcd")
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [None, 3, 8, 8])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    node = onnx.helper.make_node("Conv", ["images", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [images], [result], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="network.onnx"):
        load_network(tmp_path / "network.onnx", engine)(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize("engine", ENGINES)
def test_network_whose_weights_lie_in_another_file_elsewhere_is_refused(tmp_path: Path, engine: str) -> None:
    import onnx

    (tmp_path / "secret").write_bytes(bytes(4 * 64 * 27))
    (tmp_path / "models").mkdir()
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[64, 3, 3, 3])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [None, 3, 8, 8])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    node = onnx.helper.make_node("Conv", ["images", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [images], [result], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "models" / "network.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="network.onnx"):
        load_network(tmp_path / "models" / "network.onnx", engine)
