"""Model cards, and installing what they name: from folders, from a server that breaks off, with wrong files."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vidperson.engines import load_network
from vidperson.errors import ModelError
from vidperson.io.record import Output, read_record
from vidperson.networks.card import ZOO, FbankInput, card_names, card_text, load_card
from vidperson.networks.install import install_model, installed_model

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than one chunk


PARAMS: dict[str, Any] = {"name": "model-0000.params", "sha256": "0" * 64, "size_bytes": 9}


class Server(ThreadingHTTPServer):
    """Serves ``files``; breaks the connection off after ``budget`` bytes, once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.budget: int | None = None
        self.ranges: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        start = int(asked[6:-1]) if asked else 0
        if asked and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if self.server.budget is not None:
            body, self.server.budget = body[: self.server.budget], None
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def write_card(tmp_path: Path) -> Callable[..., str]:
    """A card for CONTENT as an ONNX embedder, with fields replaced (dotted names)."""

    def write(**changes: Any) -> str:
        fields: dict[str, Any] = {
            "name": "tiny", "kind": "face_embedder", "description": "d", "licence": "MIT", "homepage": "https://example.org/tiny",
            "training_data": "none",
            "file": {
                "name": "tiny.onnx", "sha256": hashlib.sha256(CONTENT).hexdigest(), "size_bytes": len(CONTENT),
                "sources": [],
            },
            "input": {
                "kind": "picture", "channels": "rgb", "mean": [0, 0, 0], "std": [1, 1, 1], "width": 112, "height": 112,
            },
            "output": {"embedding_size": 8},
        }  # fmt: skip
        for dotted, value in changes.items():
            *parents, last = dotted.split("__")
            target = fields
            for parent in parents:
                target = target[parent]
            if value is ...:
                del target[last]
            else:
                target[last] = value
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(fields))
        return str(path)

    return write


# exports of published weights: users have them, their hashes are checked
FOUND_NOWHERE = {"osnet_x0_25_msmt17.onnx", "resemblyzer.onnx", "yolox_nano.onnx"}


def test_every_card_in_the_zoo_is_valid_and_names_source_and_licence() -> None:
    assert len(card_names()) >= 4
    for name in card_names():
        card = load_card(name)
        ships = (ZOO / card.file.name).is_file()
        assert card.licence and (ships or card.homepage.startswith("https://"))
        for file in card.files:
            assert ships or file.sources or (file.name in FOUND_NOWHERE and file.sha256)
            # what has a hash is downloaded: no pages, which hold links and no file
            pages = ("pan.baidu.com", "drive.google.com/drive", "drive.google.com/file", "?dl=0")
            assert not file.sha256 or not any(page in source.url for source in file.sources for page in pages)


@pytest.mark.parametrize("change,message", [
    ({"nmae": 1}, "nmae: unknown field; valid fields: name kind"),
    ({"licence": ...}, "licence: missing field"),
    ({"input__channels": "rbg"}, "input.channels: expected rgb or bgr, found 'rbg'"),
    ({"input__mean": [1, 2]}, "input.mean: expected three numbers"),
    ({"input__std": [1, 0, 1]}, "input.std: expected three positive numbers"),
    ({"input__width": "112"}, "input.width: expected int, found '112'"),
    ({"output__embedding_size": ...}, "output.embedding_size: expected a positive size of at most 65536, found None"),
    ({"output__mirror": "twice"}, "output.mirror: expected one of none concatenate sum"),
    ({"kind": "voice"}, "kind: expected <modality>_<role>, the role one of detector embedder classifier, found 'voi"),
    ({"kind": "face_recogniser"}, "kind: expected <modality>_<role>"),
    ({"kind": "Face_embedder"}, "kind: expected <modality>_<role>"),
    ({"kind": "a/b_embedder"}, "kind: expected <modality>_<role>"),
    ({"input__width": 0}, "input.width, input.height: expected sizes from 1 to 16384, found (0, 112)"),
    ({"input__width": ...}, "input.width, input.height: expected two sizes, found (None, 112)"),
    ({"kind": "face_detector"}, "output.decoder: expected the name of a decoder"),
    ({"file__sha256": "abc"}, "file.sha256: expected 64"),
    ({"input__batch": 4}, "input.batch: expected 1, or no such field, found 4"),
    ({"file__name": "../../etc/passwd"}, "file.name: expected a plain file name"),
    ({"name": "other"}, "name: expected the file's name 'tiny'"),
    ({"input": 3}, "input.: expected fields, found 3"),
    ({"file__sources": [{"url": 4}]}, "file.sources.url: expected str, found 4"),
    ({"mxnet": {}}, "mxnet.params: missing field"),
    ({"mxnet": {"params": {**PARAMS, "sha256": "x"}}}, "mxnet.params.sha256: expected 64"),
    ({"mxnet": {"params": {**PARAMS, "name": "a/b"}}}, "mxnet.params.name: expected a plain file name"),
    ({"mxnet": {"params": {**PARAMS, "name": "tiny.onnx"}}}, "mxnet.params.name: expected another name"),
    ({"mxnet": {"params": PARAMS, "outputs": [3]}}, "mxnet.outputs: expected str, found 3"),
    ({"mxnet": {"params": PARAMS}, "checkpoint": {"architecture": "a"}}, "mxnet: expected no checkpoint beside it"),
])  # fmt: skip
def test_card_with_a_bad_field_names_file_field_and_expectation(
    write_card: Callable[..., str], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match="tiny.yaml") as error:
        load_card(write_card(**change))
    assert message in str(error.value)


FRONT_ENDS: dict[str, dict[str, Any]] = {
    "avcleanse": {
        "sample_rate": 16000, "mel_bins": 80, "window": 400, "hop": 160, "fft": 512, "low_hz": 20, "high_hz": 7600,
        "framing": "centred", "window_type": "hamming", "mel_scale": "htk", "mean_norm": True,
        "pre_emphasis": 0.97, "log_offset": 1e-6, "channels_first": True,
    },
    "kaldi": {
        "sample_rate": 16000, "mel_bins": 80, "window": 400, "hop": 160, "fft": 512, "low_hz": 20, "high_hz": 8000,
        "framing": "kaldi", "window_type": "povey", "mel_scale": "kaldi", "mean_norm": True,
        "scale": 32768, "pre_emphasis": 0.97, "log_floor": 1.1920929e-07,
    },
    "resemblyzer": {
        "sample_rate": 16000, "mel_bins": 40, "window": 400, "hop": 160, "fft": 400, "low_hz": 0, "high_hz": 8000,
        "framing": "centred", "window_type": "hann", "mel_scale": "slaney", "mean_norm": False,
        "level_dbfs": -30, "crop_frames": 160, "crop_hop": 80,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_card_of_a_published_speaker_network_says_its_front_end(write_card: Callable[..., str], name: str) -> None:
    fields = FRONT_ENDS[name]
    card = load_card(write_card(kind="speaker_embedder", input={"kind": "fbank", **fields}))
    assert (card.modality, card.role) == ("speaker", "embedder")
    assert isinstance(card.input, FbankInput)
    assert {key: getattr(card.input, key) for key in fields} == fields


@pytest.mark.parametrize("what", [{"kind": "waveform", "sample_rate": 16000}, {"kind": "vector", "size": 192}])
def test_card_of_sound_or_vectors_is_read_and_written_again(
    tmp_path: Path, write_card: Callable[..., str], what: dict[str, Any]
) -> None:
    card = load_card(write_card(input=what))
    assert card.input.kind == what["kind"]
    (tmp_path / "tiny.yaml").write_text(card_text(card))
    assert load_card(tmp_path / "tiny.yaml") == card


def test_card_of_a_classifier_names_its_classes_or_their_number(write_card: Callable[..., str]) -> None:
    vectors = {"kind": "vector", "size": 512}
    card = load_card(write_card(kind="person_classifier", input=vectors, output={"labels": ["ann", "bob"]}))
    assert (card.role, card.output.labels) == ("classifier", ("ann", "bob"))
    assert (
        load_card(write_card(kind="person_classifier", input=vectors, output={"classes": 5000})).output.classes == 5000
    )


FBANK = {"kind": "fbank", **FRONT_ENDS["kaldi"]}
NO_LOGARITHM = {name: value for name, value in FBANK.items() if name != "log_floor"}
VECTOR = {"kind": "vector", "size": 8}


@pytest.mark.parametrize("change,message", [
    ({"input__kind": ...}, "input.kind: expected one of picture fbank waveform vector, found no such field"),
    ({"input__kind": "sound"}, "input.kind: expected one of picture fbank waveform vector, found 'sound'"),
    ({"input__kind": ["fbank"]}, "input.kind: expected one of picture fbank waveform vector, found ['fbank']"),
    ({"input": {**VECTOR, "channels": "rgb"}}, "input.channels: unknown field; valid fields: kind batch size"),
    ({"input": {"kind": "vector"}}, "input.size: missing field"),
    ({"input": {**VECTOR, "size": 0}}, "input.size: expected a size from 1 to 65536, found 0"),
    ({"input": {"kind": "waveform", "sample_rate": 0}}, "input.sample_rate: expected 1 to 1000000 Hz, found 0"),
    ({"input": {"kind": "waveform", "sample_rate": 8000, "scale": 0}}, "input.scale: expected a positive number"),
    ({"input": {**FBANK, "hop": 0}}, "input.fft: expected positive sizes, found (80, 0, 400, 512)"),
    ({"input": {**FBANK, "fft": 256}}, "input.fft: expected the window's size to 65536 samples, found 256"),
    ({"input": {**FBANK, "mel_bins": 300}}, "input.mel_bins: expected at most 256, half of fft, found 300"),
    ({"input": {**FBANK, "high_hz": 8001}}, "expected 0 <= low < high <= half of sample_rate, found (20.0, 8001.0)"),
    ({"input": {**FBANK, "framing": "snip"}}, "input.framing: expected one of kaldi centred, found 'snip'"),
    ({"input": {**FBANK, "window_type": "x"}}, "input.window_type: expected one of hamming hann povey, found 'x'"),
    ({"input": {**FBANK, "mel_scale": "x"}}, "input.mel_scale: expected one of kaldi htk speechbrain slaney, found"),
    ({"input": {**FBANK, "mean_norm": 1}}, "input.mean_norm: expected bool, found 1"),
    ({"input": {**FBANK, "log_offset": 1}}, "input.log_floor: expected no log_offset beside it, found 1.0"),
    ({"input": {**FBANK, "log_floor": 0}}, "input.log_floor: expected a positive number, found 0.0"),
    ({"input": {**FBANK, "edges": "wrap"}}, "input.edges: expected one of reflect zeros, found 'wrap'"),
    ({"input": {**FBANK, "range_db": 80}}, "input.range_db: expected a positive number, with decibels, found 80.0"),
    ({"input": {**FBANK, "decibels": True, "range_db": 0}}, "input.range_db: expected a positive number, with dec"),
    ({"input": {**NO_LOGARITHM, "decibels": True}}, "input.decibels: expected log_offset or log_fl"),
    ({"input": {**FBANK, "pre_emphasis": 2}}, "input.pre_emphasis: expected a number from 0 to 1, found 2.0"),
    ({"input": {**FBANK, "level_dbfs": 3}}, "input.level_dbfs: expected a level of at most 0 dB, found 3.0"),
    ({"input": {**FBANK, "crop_hop": 80}}, "input.crop_hop: expected two sizes from 1 to 65536, or n"),
    ({"input": FBANK, "output__mirror": "sum"}, "output.mirror: expected none, as the input is no picture"),
    ({"input": VECTOR, "checkpoint": {"architecture": "a"}}, "checkpoint: expected input.kind picture or fbank, found"),
    ({"kind": "face_classifier"}, "output.classes: expected 2 to 16777216 classes, or labels, found None"),
    ({"kind": "face_classifier", "output": {"labels": ["a", "a"]}}, "output.labels: expected labels that differ"),
    ({"kind": "face_classifier", "output": {"labels": ["a", "b"], "classes": 3}}, "expected 3 labels, one a class"),
])  # fmt: skip
def test_card_with_a_bad_input_or_classes_names_file_field_and_expectation(
    write_card: Callable[..., str], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match="tiny.yaml") as error:
        load_card(write_card(**change))
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["", "a: [", "- 1\n- 2", "!!python/object/apply:os.system ['true']", "\x00"])
def test_card_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ModelError, match="x.yaml"):
        load_card(tmp_path / "x.yaml")


def test_card_unknown_by_name_lists_the_zoo() -> None:
    with pytest.raises(ModelError, match="retinaface_mnet025_pytorch"):
        load_card("retinaface_r51")


@pytest.mark.parametrize("place", ["tiny.onnx", "tiny/tiny.onnx"])
def test_install_takes_a_file_put_there_by_hand(tmp_path: Path, write_card: Callable[..., str], place: str) -> None:
    by_hand = tmp_path / "mine" / place
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(CONTENT)
    installed = install_model(write_card(), tmp_path / "models", [tmp_path / "mine"])
    assert installed.network.read_bytes() == CONTENT and installed == installed_model(tmp_path / "models" / "tiny")
    by_hand.unlink()
    assert install_model(write_card(), tmp_path / "models") == installed  # nothing is needed the second time


def test_install_refuses_a_local_file_with_another_hash(tmp_path: Path, write_card: Callable[..., str]) -> None:
    (tmp_path / "tiny.onnx").write_bytes(CONTENT + b"!")
    with pytest.raises(ModelError, match="expected SHA-256 .* found .*; remove the file or get it again"):
        install_model(write_card(), tmp_path / "models", [tmp_path])


def test_install_downloads_and_goes_on_where_a_broken_connection_stopped(
    tmp_path: Path, write_card: Callable[..., str], server: Server
) -> None:
    server.files["tiny.onnx"] = CONTENT
    server.budget = 1_500_000
    card = write_card(file__sources=[{"url": server.url("tiny.onnx")}])
    with pytest.raises(ModelError, match="cannot be downloaded"):
        install_model(card, tmp_path / "models")
    seen: list[tuple[int, int]] = []
    installed = install_model(card, tmp_path / "models", report=lambda done, total: seen.append((done, total)))
    assert installed.network.read_bytes() == CONTENT
    first, second = server.ranges
    assert first is None and second is not None and 1_000_000 <= int(second[6:-1]) <= 1_500_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_install_tries_the_next_source_after_a_dead_link_and_a_wrong_file(
    tmp_path: Path, write_card: Callable[..., str], server: Server
) -> None:
    server.files.update({"wrong": b"something else", "right": CONTENT})
    urls = [server.url(name) for name in ("dead", "wrong", "right")]
    installed = install_model(write_card(file__sources=[{"url": url} for url in urls]), tmp_path / "models")
    assert installed.network.read_bytes() == CONTENT


def test_install_without_any_working_source_says_what_to_put_where(
    tmp_path: Path, write_card: Callable[..., str], server: Server
) -> None:
    server.files["wrong"] = b"x"
    card = write_card(file__sources=[{"url": server.url("dead")}, {"url": server.url("wrong")}])
    with pytest.raises(ModelError) as error:
        install_model(card, tmp_path / "models")
    for part in (
        "404",
        "expected SHA-256",
        "tiny.onnx",
        "https://example.org/tiny",
        str(tmp_path / "models" / "tiny"),
        "VIDPERSON_MODEL_DIR",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "models" / "tiny" / "tiny.onnx").exists()


def test_install_unpacks_only_the_named_member_of_a_zip(
    tmp_path: Path, write_card: Callable[..., str], server: Server
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil", b"evil")
        archive.writestr("pack/tiny.onnx", CONTENT)
    server.files["pack.zip"] = packed.getvalue()
    card = write_card(file__sources=[{"url": server.url("pack.zip"), "member": "pack/tiny.onnx"}])
    install_model(card, tmp_path / "models")
    assert sorted(p.name for p in (tmp_path / "models" / "tiny").iterdir()) == [
        "network.onnx",
        "record.json",
        "tiny.onnx",
        "tiny.yaml",
    ]
    assert not list(tmp_path.rglob("evil"))


def test_file_without_a_known_hash_is_asked_for_and_never_downloaded(
    tmp_path: Path, write_card: Callable[..., str], server: Server, mxnet_files: dict[str, bytes]
) -> None:
    """Symbol and params are both named at once, with the links, the folder, the homepage and the licence."""
    server.files.update(mxnet_files)
    fields = mxnet_fields(mxnet_files, lambda name: [{"url": server.url(name)}])
    for file in (fields["file"], fields["mxnet"]["params"]):
        del file["sha256"], file["size_bytes"]
    with pytest.raises(ModelError, match="no SHA-256 is known") as error:
        install_model(write_card(**fields), tmp_path / "models")
    where = [str(tmp_path / "models" / "tiny"), "a folder 'tiny'", "VIDPERSON_MODEL_DIR"]
    links = [server.url("tiny.json"), server.url("tiny.params"), "https://example.org/tiny"]
    for part in ("'tiny.json', 'tiny.params'", "licence: MIT", *where, *links):
        assert part in str(error.value)
    assert server.ranges == []


def test_file_without_a_known_hash_put_there_by_hand_is_taken_and_its_hash_recorded(
    tmp_path: Path, write_card: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    mine = tmp_path / "mine" / "tiny"
    mine.mkdir(parents=True)
    (mine / "tiny.onnx").write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    installed = install_model(write_card(file__sha256=None), tmp_path / "models", [tmp_path / "mine"])
    assert installed.network.read_bytes() == CONTENT
    record = read_record(tmp_path / "models" / "tiny")
    assert record is not None and record.command == ["install_model", "tiny"]
    assert record.inputs == {str(mine / "tiny.onnx"): digest}
    assert record.outputs["network.onnx"] == Output(digest, len(CONTENT))
    assert "no hash is known of it" in caplog.text and digest in caplog.text
    installed.network.write_bytes(b"changed")
    with pytest.raises(ModelError, match="expected SHA-256"):
        installed_model(tmp_path / "models" / "tiny")


def test_damaged_record_is_no_installed_network(tmp_path: Path, write_card: Callable[..., str]) -> None:
    (tmp_path / "tiny.onnx").write_bytes(CONTENT)
    folder = install_model(write_card(), tmp_path / "models").network.parent
    record = json.loads((folder / "record.json").read_text())
    record["outputs"]["network.onnx"]["sha256"] = "abc" * 100_000
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="no installed network; run ./run_000") as caught:
        installed_model(folder)
    assert len(str(caught.value)) < 1000


def test_installed_card_that_was_edited_is_refused(tmp_path: Path, write_card: Callable[..., str]) -> None:
    (tmp_path / "tiny.onnx").write_bytes(CONTENT)
    folder = install_model(write_card(), tmp_path / "models").network.parent
    (folder / "tiny.yaml").write_text((folder / "tiny.yaml").read_text().replace("rgb", "bgr"))
    with pytest.raises(ModelError, match="tiny.yaml: expected SHA-256 .*, found .*; remove the folder and run"):
        installed_model(folder)


def test_two_installations_have_the_same_bytes_in_every_file(tmp_path: Path) -> None:
    """Nothing in them depends on a clock."""
    first, second = (install_model("arcface_tiny", tmp_path / name).network.parent for name in "ab")
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second)]
    assert sorted(files[0]) == ["arcface_tiny.yaml", "network.onnx", "record.json"]
    assert files[0] == files[1]


def test_file_without_a_known_hash_is_not_taken_from_a_folder_of_many_networks(
    tmp_path: Path, write_card: Callable[..., str]
) -> None:
    """There, a file of that name may be another network's: InsightFace calls them all model-0000.params."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tiny.onnx").write_bytes(CONTENT)
    card = write_card(file__sha256=None)
    with pytest.raises(ModelError, match="'tiny.onnx': missing"):
        install_model(card, tmp_path / "models", [tmp_path / "mine"])
    (tmp_path / "tiny.onnx").write_bytes(CONTENT)  # beside the card it is meant
    assert install_model(card, tmp_path / "models", [tmp_path / "mine"]).network.read_bytes() == CONTENT


def test_file_of_another_network_in_a_folder_of_many_is_left_alone(
    tmp_path: Path, write_card: Callable[..., str], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tiny.onnx").write_bytes(b"another network")
    server.files["tiny.onnx"] = CONTENT
    card = write_card(file__sources=[{"url": server.url("tiny.onnx")}])
    assert install_model(card, tmp_path / "models", [tmp_path / "mine"]).network.read_bytes() == CONTENT
    assert "not the file of tiny; left alone" in caplog.text
    (tmp_path / "mine" / "tiny").mkdir()
    (tmp_path / "mine" / "tiny" / "tiny.onnx").write_bytes(b"meant to be this one")
    with pytest.raises(ModelError, match="expected SHA-256"):
        install_model(card, tmp_path / "other", [tmp_path / "mine"])


@pytest.mark.parametrize(
    "pictures,message",
    [
        (1, "takes 1 items at a time, the card says any number; put 'batch: 1'"),
        (4, "export it with a free batch size"),
    ],
)
def test_onnx_file_with_a_fixed_batch_that_the_card_does_not_name_is_refused(
    tmp_path: Path, write_card: Callable[..., str], pictures: int, message: str
) -> None:
    from onnx import TensorProto, helper

    def write(batch: int | str) -> str:
        image, out = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, 8, 8]) for name in ("in", "out")
        )
        graph = helper.make_graph([helper.make_node("Relu", ["in"], ["out"])], "g", [image], [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        (tmp_path / "tiny.onnx").write_bytes(model.SerializeToString())
        return hashlib.sha256((tmp_path / "tiny.onnx").read_bytes()).hexdigest()

    digest = write(pictures)
    with pytest.raises(ModelError, match=message):
        install_model(write_card(file__sha256=digest), tmp_path / "models")
    if pictures == 1:
        install_model(write_card(file__sha256=digest, input__batch=1), tmp_path / "models")
    install_model(write_card(file__sha256=write("n")), tmp_path / "models")


def test_list_of_the_zoo_shows_every_card_and_which_files_are_put_there_manually(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from steps.get_models import list_models

    list_models()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")}
    assert sorted(lines) == card_names()
    for name in ("retinaface_r50_mxnet", "retinaface_mnet025_mxnet", "arcface_r50_mxnet", "iresnet18_vox2_pytorch"):
        assert lines[name].endswith("; manual")
    for name in ("scrfd_10g", "scrfd_2.5g", "arcface_r100_mxnet", "arcface_w600k_r50", "arcface_glint360k_r100",
                 "mobilefacenet_arcface_mxnet", "retinaface_mnet025_pytorch", "retinaface_tiny"):  # fmt: skip
        assert "manual" not in lines[name] and " MB " in lines[name]


@pytest.fixture
def mxnet_files() -> dict[str, bytes]:
    """The two files of an MXNet network that flattens a 2 x 2 picture and multiplies it with a matrix."""
    nodes: list[dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in ("data", "w")]
    nodes.append({"op": "FullyConnected", "name": "fc1", "attrs": {"no_bias": "True"}, "inputs": [[0, 0], [1, 0]]})
    header = struct.pack("<QQQIiiqqiii", 0x112, 0, 1, 0xF993FAC9, 0, 2, 8, 12, 1, 0, 0)
    params = header + struct.pack("<96f", *range(96)) + struct.pack("<QQ", 1, 5) + b"arg:w"
    return {"tiny.json": json.dumps({"nodes": nodes, "heads": [[2, 0]]}).encode(), "tiny.params": params}


def mxnet_fields(files: dict[str, bytes], sources: Callable[[str], list[dict[str, str]]]) -> dict[str, Any]:
    """Fields of a card for them; ``sources`` of a file by its name."""
    symbol, params = (
        {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": 1, "sources": sources(name)}
        for name, content in files.items()
    )
    return {"file": symbol, "mxnet": {"params": params}, "input__width": 2, "input__height": 2}


def test_install_of_an_mxnet_card_checks_and_converts_both_files(
    tmp_path: Path, write_card: Callable[..., str], mxnet_files: dict[str, bytes]
) -> None:
    card = write_card(**mxnet_fields(mxnet_files, lambda name: []))
    mine = tmp_path / "mine" / "tiny"
    mine.mkdir(parents=True)
    with pytest.raises(ModelError, match=r"Get 'tiny\.json' \(.*\) and 'tiny\.params' \(.*\) from .* and put them in"):
        install_model(card, tmp_path / "models", [tmp_path / "mine"])
    (mine / "tiny.json").write_bytes(mxnet_files["tiny.json"])
    with pytest.raises(ModelError, match=r"Get 'tiny\.params' \(SHA-256 .* from https://example.org/tiny"):
        install_model(card, tmp_path / "models", [tmp_path / "mine"])
    (mine / "tiny.params").write_bytes(mxnet_files["tiny.params"] + b"!")
    with pytest.raises(ModelError, match=r"tiny\.params: expected SHA-256"):
        install_model(card, tmp_path / "models", [tmp_path / "mine"])
    (mine / "tiny.params").write_bytes(mxnet_files["tiny.params"])
    installed = install_model(card, tmp_path / "models", [tmp_path / "mine"])
    pictures = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    (found,) = load_network(installed.network, "onnxruntime")(pictures)
    np.testing.assert_allclose(found[0], np.arange(96).reshape(8, 12) @ np.arange(12))


def test_install_fetches_a_zip_that_holds_both_files_once(
    tmp_path: Path, write_card: Callable[..., str], server: Server, mxnet_files: dict[str, bytes]
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in mxnet_files.items():
            archive.writestr(f"pack/{name}", content)
    server.files["pack.zip"] = packed.getvalue()
    fields = mxnet_fields(mxnet_files, lambda name: [{"url": server.url("pack.zip"), "member": f"pack/{name}"}])
    install_model(write_card(**fields), tmp_path / "models")
    assert len(server.ranges) == 1
    assert sorted(path.name for path in (tmp_path / "models" / "tiny").iterdir()) == [
        "network-0000.params",
        "network-symbol.json",
        "network.onnx",
        "record.json",
        "tiny.json",
        "tiny.params",
        "tiny.yaml",
    ]


def test_install_from_a_damaged_zip_is_an_error_with_the_reason(
    tmp_path: Path, write_card: Callable[..., str], server: Server
) -> None:
    server.files["pack.zip"] = b"PK\x03\x04 not really"
    with pytest.raises(ModelError, match="zip"):
        install_model(write_card(file__sources=[{"url": server.url("pack.zip"), "member": "a"}]), tmp_path / "models")


def test_install_after_a_page_came_instead_of_the_zip_starts_the_download_anew(
    tmp_path: Path, write_card: Callable[..., str], server: Server
) -> None:
    card = write_card(file__sources=[{"url": server.url("pack.zip"), "member": "tiny.onnx"}])
    server.files["pack.zip"] = b"<html>please log in</html>"
    with pytest.raises(ModelError, match="zip"):
        install_model(card, tmp_path / "models")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tiny.onnx", CONTENT)
    server.files["pack.zip"] = packed.getvalue()
    assert install_model(card, tmp_path / "models").network.read_bytes() == CONTENT


def test_installed_network_that_changed_is_noticed(tmp_path: Path, write_card: Callable[..., str]) -> None:
    (tmp_path / "tiny.onnx").write_bytes(CONTENT)
    installed = install_model(write_card(), tmp_path / "models", [tmp_path])
    installed.network.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match="expected SHA-256"):
        installed_model(tmp_path / "models" / "tiny")


def test_network_that_was_never_installed_says_which_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run_000_get_pretrained_models"):
        installed_model(tmp_path / "none")


@pytest.mark.parametrize("named", ["mine", "mine/mine.yaml"])
def test_network_that_was_trained_but_not_installed_is_refused_with_its_card(tmp_path: Path, named: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/mine.yaml").write_text("name: mine\n")
    with pytest.raises(ModelError, match="no installed network; run ./run_000.* with the card .*/mine/mine.yaml, and"):
        installed_model(tmp_path / named)


def test_checkpoint_that_is_no_checkpoint_is_an_error_without_running_it(
    tmp_path: Path, write_card: Callable[..., str]
) -> None:
    pytest.importorskip("torch")
    import os
    import pickle as evil_format

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "attacked"),)

    content = evil_format.dumps({"weights": Attack()})
    (tmp_path / "tiny.onnx").write_bytes(content)
    card = write_card(checkpoint={"architecture": "mobilefacenet"}, file__sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ModelError, match="not a checkpoint of tensors: it holds more than tensors"):
        install_model(card, tmp_path / "models", [tmp_path])
    assert not (tmp_path / "attacked").exists()


def test_models_asked_for_by_role_are_installed_and_others_refused_with_both_kinds(tmp_path: Path) -> None:
    from steps.get_models import GetOptions, get_models

    get_models(GetOptions(tmp_path, "face", embedder="arcface_tiny"))
    assert installed_model(tmp_path / "arcface_tiny").card.role == "embedder"
    with pytest.raises(ModelError, match="1 of 2 networks are missing:\n  arcface_tiny is a face_embedder, not a"):
        get_models(GetOptions(tmp_path, "face", detector="arcface_tiny", embedder="arcface_tiny"))
    with pytest.raises(ModelError, match="arcface_tiny is a face_embedder, not a body_embedder; --list true shows"):
        get_models(GetOptions(tmp_path, "body", embedder="arcface_tiny"))
    with pytest.raises(ModelError, match="arcface_tiny is a face_embedder, not a face_classifier"):
        get_models(GetOptions(tmp_path, classifier="arcface_tiny"))


def test_models_without_a_folder_to_put_them_in_are_refused() -> None:
    from steps.get_models import GetOptions, get_models

    with pytest.raises(ModelError, match="expected --models-dir"):
        get_models(GetOptions(embedder="arcface_tiny"))


@pytest.mark.parametrize(
    ("card", "waits"),
    [("iresnet18_vox2_pytorch", True), ("arcface_tiny", False), ("", False), ("no_such_card", False)],
)
def test_torch_is_needed_for_a_checkpoint_that_is_not_installed_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], card: str, waits: bool
) -> None:
    from steps.get_models import GetOptions, get_models

    for found in (object(), None):  # torch is installed, and is not
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        get_models(GetOptions(tmp_path, "face", embedder=card, needs_torch=True))
        assert capsys.readouterr().out == ("true\n" if waits and found is None else "false\n")
    assert not list(tmp_path.iterdir())
