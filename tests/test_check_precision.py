"""A precision against fp32: what is counted, on made-up outputs and on a shipped network."""

from __future__ import annotations

import logging
import re
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import kaldiio
import numpy as np
import pytest

from steps import check_precision as step
from steps.check_precision import CheckOptions, check_precision, compare_boxes, compare_embeddings
from steps.options import EngineOptions
from vidperson.errors import DataError, EngineError, ModelError
from vidperson.face.embedder import FaceEmbedder
from vidperson.face.sampling import sample_frames, sample_items
from vidperson.io.crops import TAR_END, tar_entry
from vidperson.networks.card import card_text, load_card
from vidperson.networks.install import install_model
from vidperson.networks.opening import open_network

FRAME = np.zeros((100, 100, 3), np.uint8)


def embedder(*rows: list[float]) -> Any:
    left = iter(rows)
    return lambda items: np.array([next(left) for _ in items], np.float32)


def detector(*boxes: list[float]) -> Any:
    """Finds these boxes, (x1, y1, x2, y2, score) each, in every frame."""
    table = np.array(boxes, np.float32).reshape(-1, 5)

    return lambda frame, score: table[table[:, 4] >= score, :4]


def test_embeddings_compared_give_the_lowest_and_the_mean_cosine_whatever_their_lengths() -> None:
    exact, tried = embedder([1, 0], [0, 2], [3, 0]), embedder([5, 0], [0, 1], [1, 1])
    figures = compare_embeddings(exact, tried, [FRAME] * 3)
    assert figures["items"] == 3
    assert figures["lowest"] == pytest.approx(np.sqrt(0.5))
    assert figures["mean"] == pytest.approx((2 + np.sqrt(0.5)) / 3)


def test_boxes_compared_take_the_nearest_candidate_of_any_score_from_one_half_on() -> None:
    exact = detector([10, 10, 50, 50, 0.95], [60, 60, 90, 90, 0.99], [1, 1, 9, 9, 0.8])
    near = detector([10, 11, 50.5, 50, 0.6], [60, 60, 91.5, 90, 0.99], [60, 62, 90, 90, 0.99])
    assert compare_boxes(exact, near, [FRAME] * 2) == {"items": 4, "within": 0.5, "shift": 1.5}
    lost = compare_boxes(exact, detector([10, 10, 50, 50, 0.4]), [FRAME])
    assert lost == {"items": 2, "within": 0, "shift": float("inf")}
    assert compare_boxes(detector(), near, [FRAME]) == {"items": 0, "within": 1, "shift": 0}


@pytest.fixture
def items_dir(tmp_path: Path) -> Path:
    """As stage 2 leaves it: segments a (2 faces), b (none) and c (3)."""
    rng, counts = np.random.default_rng(0), {"a": 2, "b": 0, "c": 3}
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / "status").write_text("a ok\nb no_face\nc ok\n")
    kaldiio.save_ark(
        str(folder / "faces.ark"),
        {name: np.zeros((count, 17) if count else (0, 0), np.float32) for name, count in counts.items()},
        scp=str(folder / "faces.scp"),
    )
    archive, places = b"", []
    for name, count in counts.items():
        places.append(f"{name} {folder}/crops.tar:{len(archive)}\n")
        for number in range(count):
            noise = cv2.GaussianBlur(rng.integers(0, 256, (112, 112, 3)).astype(np.uint8), (9, 9), 0)
            archive += tar_entry(f"{name}/{number}.png", cv2.imencode(".png", noise)[1].tobytes())
    (folder / "crops.tar").write_bytes(archive + TAR_END)
    (folder / "crops.scp").write_text("".join(places))
    return folder


@pytest.mark.parametrize(("wanted", "found"), [(1, 1), (2, 2), (4, 4), (64, 5)])
def test_sample_of_crops_comes_from_all_segments_with_faces(items_dir: Path, wanted: int, found: int) -> None:
    crops = list(sample_items(items_dir, wanted))
    assert len(crops) == found and all(crop.shape == (112, 112, 3) for crop in crops)


def test_sample_of_frames_leaves_out_what_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), FRAME)
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "vid.scp").write_text("".join(f"{name} {tmp_path}/{name}.png\n" for name in "abc"))
    assert len(list(sample_frames(tmp_path / "vid.scp", 64, 1))) == 2
    assert "c.png: left out: " in caplog.text


def test_shipped_embedder_in_bf16_passes_and_a_stricter_rule_fails_it(
    tmp_path: Path, items_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = install_model("arcface_tiny", tmp_path / "models").network.parent

    def check(precision: str, engine: str = "auto", items_dir: Path | None = items_dir) -> dict[str, float]:
        how = EngineOptions(engine=engine, precision=precision)
        return check_precision(CheckOptions(model, items_dir=items_dir, scp=tmp_path / "vid.scp", network=how))

    monkeypatch.setattr(step, "MIN_COSINE", 0.99)  # noise is no face
    with caplog.at_level(logging.INFO):
        figures = check("bf16")
    assert figures["items"] == 5 and 0.99 <= figures["lowest"] <= figures["mean"] <= 1
    assert "arcface_tiny in bf16: lowest 0.99" in caplog.text
    assert check("fp32")["lowest"] == pytest.approx(1)
    monkeypatch.setattr(step, "MIN_COSINE", 1.01)
    with pytest.raises(ModelError, match="arcface_tiny: bf16 is not exact enough: expected a cosine of 1.01 or more"):
        check("bf16")
    with pytest.raises(DataError, match="arcface_tiny is a face_embedder: expected --items-dir"):
        check("bf16", items_dir=None)
    with pytest.raises(EngineError, match="'onnxruntime' computes in fp32 on the device cpu, 'bf16' was asked for"):
        check("bf16", "onnxruntime")


def test_detector_that_finds_nobody_in_the_sample_passes_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = install_model("retinaface_tiny", tmp_path / "models").network.parent
    cv2.imwrite(str(tmp_path / "a.png"), FRAME)
    (tmp_path / "vid.scp").write_text(f"a {tmp_path}/a.png\n")
    how = EngineOptions(precision="bf16")
    assert check_precision(CheckOptions(model, scp=tmp_path / "vid.scp", network=how))["items"] == 0
    with pytest.raises(DataError, match="retinaface_tiny is a face_detector: expected --scp"):
        check_precision(CheckOptions(model, items_dir=tmp_path, network=how))
    assert "nothing in the sample: bf16 could not be compared with fp32" in caplog.text


@pytest.mark.parametrize(
    ("engine", "device", "speed", "run"),
    [
        ("auto", "cpu", "--threads 2 --det-batch 4", ""),
        ("openvino", "cpu", "--threads 2 --det-batch 4", ""),
        ("mxnet", "cpu", "--threads 2", " --det-batch 4"),
        ("auto", "cuda:1", "--threads 2", " --det-batch 4"),
    ],
)
def test_stage_takes_the_batch_size_for_a_setting_where_it_may_change_the_last_digits(
    repo: Path, tmp_path: Path, engine: str, device: str, speed: str, run: str
) -> None:
    folder = tmp_path / "exp" / "face_models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "record.json").touch()
    script = (
        f"set -euo pipefail; cmd=here cuda_cmd=there engine={engine} device={device} precision=fp32 threads=2\n"
        f"trial_sets=a:b snorm_cohort= submean_set= modalities=face exp_dir={tmp_path}/exp data_dir={tmp_path}/data\n"
        "find_persons=false frames=uniform\n"
        ". utils/stage.sh; use_modality face; use_network tiny --det-batch 4; check_precision /no/such\n"
        'echo "$launch|$speed_args|${network_args[*]}|${network_inputs[*]}"'
    )
    found = subprocess.run(["bash", "-c", script], cwd=repo, capture_output=True, text=True, check=True).stdout
    inputs = f"--input {folder}/network.onnx --input {folder}/tiny.yaml"
    arguments = f"--model {folder} --engine {engine} --device {device} --precision fp32{run}"
    assert found == f"{'here' if device == 'cpu' else 'there'}|{speed}|{arguments}|{inputs}\n"


# ------------------------------------------------------------------------------------------------ precision auto


@pytest.mark.parametrize(
    ("options", "flags", "card", "expected"),
    [
        ("auto auto cpu", "avx2 avx512_bf16", "bf16_check:\n  items: 5\n", "bf16"),
        ("auto openvino cpu", "avx2 amx_bf16", "bf16_check:\n  items: 5\n", "bf16"),
        ("auto auto cpu", "avx2", "bf16_check:\n  items: 5\n", "fp32"),
        ("auto auto cpu", "avx2 avx512_bf16", "description: has no bf16_check:\n", "fp32"),
        ("auto auto cuda", "avx512_bf16", "bf16_check:\n  items: 5\n", "fp32"),
        ("auto mxnet cpu", "avx512_bf16", "bf16_check:\n  items: 5\n", "fp32"),
        ("fp32 auto cpu", "avx512_bf16", "bf16_check:\n  items: 5\n", "fp32"),
        ("fp16 torch cuda", "avx2", "", "fp16"),
    ],
)
def test_precision_auto_is_bf16_where_card_processor_and_engine_allow_it(
    repo: Path, tmp_path: Path, options: str, flags: str, card: str, expected: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t: x\n")
    (tmp_path / "card.yaml").write_text(f"name: x\n{card}")
    function = re.search(r"^set_computes_in\(\) \{.*?^\}$", (repo / "utils/stage.sh").read_text(), re.M | re.S)
    assert function is not None
    script = f"set -euo pipefail\nread -r precision engine device <<< '{options}'\n{function[0]}\n"
    script += f"set_computes_in '{tmp_path}/card.yaml' '{tmp_path}/cpuinfo'\necho $computes_in\n"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_check_passed_is_noted_in_a_card_of_which_the_rest_stays(items_dir: Path, tmp_path: Path) -> None:
    install_model("arcface_tiny", tmp_path)
    card = tmp_path / "arcface_tiny" / "arcface_tiny.yaml"
    before, mine = load_card(card), tmp_path / "arcface_tiny.yaml"
    mine.write_text(card_text(replace(before, bf16_check={})))
    options = CheckOptions(card.parent, items_dir, card=mine, sample=4, network=EngineOptions(precision="bf16"))
    figures = check_precision(options)
    assert load_card(mine) == replace(before, bf16_check={name: round(value, 6) for name, value in figures.items()})
    with pytest.raises(ModelError, match="notes checks of bf16, not of fp32"):
        check_precision(replace(options, network=EngineOptions(precision="fp32")))


def test_networks_that_ship_with_a_check_pass_it_on_real_faces(shared: Path, tmp_path: Path) -> None:
    """LFW View 1, faces of which the check that the card notes knows none."""
    noted = [name for name in ("arcface_tiny", "retinaface_tiny") if load_card(name).bf16_check]
    assert noted == ["arcface_tiny"]
    installed = install_model(noted[0], tmp_path)
    networks = (open_network(installed, "openvino", precision=precision) for precision in ("fp32", "bf16"))
    exact, tried = (FaceEmbedder(network, installed.card) for network in networks)
    crops = []
    with tarfile.open(shared / "data/faces/lfw_view1_aligned.tar") as archive:
        while len(crops) < 48 and (member := archive.next()):
            if member.name.endswith(".jpg"):
                content = archive.extractfile(member)
                assert content is not None
                crops.append(cv2.imdecode(np.frombuffer(content.read(), np.uint8), cv2.IMREAD_COLOR_RGB))
    one, other = exact.embed(np.stack(crops)), tried.embed(np.stack(crops))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines.min() >= 0.999
    alone = np.concatenate([tried.embed(np.stack(crops[i : i + 5])) for i in range(0, 48, 5)])
    assert alone.tobytes() == other.tobytes()  # no number depends on the batch
