"""Real networks through every engine, against torch, against float64 decoding, and against OpenCV's YuNet."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from engines_here import ENGINES
from naive_detector import decode_ssd, overlap, suppress

from vidperson.engines import load_network
from vidperson.errors import EngineError, ModelError
from vidperson.face.detector import FaceDetector, make_anchors, make_detector
from vidperson.face.embedder import FaceEmbedder
from vidperson.media.video import FrameReader, UniformSampling
from vidperson.networks.boxes import non_maximum_suppression
from vidperson.networks.card import load_card
from vidperson.networks.install import installed_model

DETECTOR, EMBEDDER = "retinaface_mnet025_pytorch", "mobilefacenet_casia_pytorch"


@pytest.fixture(scope="module")
def detector(models: Path) -> FaceDetector:
    installed = installed_model(models / DETECTOR)
    return make_detector(load_network(installed.network), installed.card)


def test_openvino_and_onnxruntime_agree_with_torch(models: Path, shared: Path) -> None:
    import torch

    from vidperson.networks.convert import load_checkpoint

    rng = np.random.default_rng(0)
    for name, shape in ((DETECTOR, (3, 96, 160)), (EMBEDDER, (3, 112, 96))):
        card = load_card(name)
        network = load_checkpoint(card, shared / "models" / name / card.file.name)
        for batch_size in (1, 3):
            batch = rng.normal(size=(batch_size, *shape)).astype(np.float32) * (60 if name == DETECTOR else 1)
            with torch.no_grad():
                expected = network(torch.from_numpy(batch))
            expected = [out.numpy() for out in (expected if isinstance(expected, tuple) else (expected,))]
            for engine in ENGINES:
                found = load_network(models / name / "network.onnx", engine)(batch)
                for out, reference in zip(found, expected, strict=True):
                    assert np.abs(out - reference).max() <= 1e-4 * np.abs(reference).max(), (name, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_result_of_a_picture_does_not_depend_on_its_batch(models: Path, engine: str) -> None:
    """What makes outputs independent of the number of jobs although batches run across segments."""
    rng = np.random.default_rng(0)
    for name, shape in ((DETECTOR, (3, 64, 96)), (EMBEDDER, (3, 112, 96))):
        network = load_network(models / name / "network.onnx", engine)
        batch = rng.normal(size=(16, *shape)).astype(np.float32)
        together = network(batch)
        for picked in ([3], [15, 0], [4, 8, 1, 2, 9], list(range(7, 16))):
            for whole, part in zip(together, network(batch[picked]), strict=True):
                assert (whole[picked] == part).all(), (name, picked)


def test_engine_log_names_engine_device_and_precision(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_network(models / EMBEDDER / "network.onnx", "onnxruntime", threads=2)
    assert "engine onnxruntime, device cpu, fp32, 2 threads" in caplog.text


def write_convolution(path: Path) -> np.ndarray:
    """A network of one convolution, 3 to 8 channels, 5 x 5, without padding; returns its weights."""
    import onnx
    from onnx import helper

    weights = np.random.default_rng(0).normal(size=(8, 3, 5, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weights"], ["out"])],
        "convolution",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", 8, None, None])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return weights


def test_openvino_in_bf16_is_close_to_float64_and_says_what_it_computes_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight significant bits where the processor has bfloat16; where it has not, it computes in float32."""
    pytest.importorskip("onnx", reason="writes a network")
    weights = write_convolution(tmp_path / "conv.onnx").astype(np.float64)
    batch = np.random.default_rng(1).normal(size=(2, 3, 20, 24)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(batch.astype(np.float64), (5, 5), axis=(2, 3))
    expected = np.einsum("nchwij,kcij->nkhw", windows, weights)
    with caplog.at_level(logging.INFO):
        for precision, rounding in (("fp32", 1e-5), ("bf16", 1e-2)):
            found = load_network(tmp_path / "conv.onnx", "openvino", precision=precision)(batch)[0]
            assert found.dtype == np.float32
            assert np.abs(found - expected).max() <= rounding * np.abs(expected).max()
            assert f"engine openvino, device cpu, {precision}, 1 threads" in caplog.text


def test_real_detector_in_bf16_finds_the_same_faces(models: Path, shared: Path, detector: FaceDetector) -> None:
    with FrameReader(shared / "data/video/grid/GRID_bbaf2n.mpg", UniformSampling(1)) as reader:
        images = [frame.image for frame in reader]
    in_bf16 = make_detector(load_network(models / DETECTOR / "network.onnx", precision="bf16"), detector.card)
    for one, other in zip(detector.detect(images, 0.9), in_bf16.detect(images, 0.9), strict=True):
        assert len(one) == len(other) == 1
        assert np.abs(one.boxes - other.boxes).max() < 3 and np.abs(one.landmarks - other.landmarks).max() < 3


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onnxruntime", "bf16", "engine 'onnxruntime' computes in fp32 on the device cpu, 'bf16' was asked for"),
        ("openvino", "fp16", "engine 'openvino' computes in fp32 bf16 on the device cpu, 'fp16' was asked for"),
        ("openvino", "int8", "precision 'int8' is unknown; valid precisions: fp32 bf16 fp16"),
    ],
)
def test_engine_without_the_precision_asked_for_names_those_that_it_has(
    tmp_path: Path, engine: str, precision: str, message: str
) -> None:
    (tmp_path / "network.onnx").touch()
    with pytest.raises(EngineError, match=message):
        load_network(tmp_path / "network.onnx", engine, precision=precision)


def test_engine_unknown_or_device_missing_is_an_error() -> None:
    with pytest.raises(EngineError, match="valid engines: openvino onnxruntime torch mxnet"):
        load_network("x.onnx", "tensorflow")
    for device in ("gpu", "cuda:", "cuda:x", "cpu:0", ""):
        with pytest.raises(EngineError, match=f"device '{device}' is unknown; valid devices: cpu cuda cuda:<number>"):
            load_network("x.onnx", "onnxruntime", device=device)


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_given_a_broken_file_names_it(tmp_path: Path, engine: str) -> None:
    for content in (b"", b"not a network" * 100):
        path = tmp_path / "broken.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="broken.onnx"):
            load_network(path, engine)
    with pytest.raises(ModelError, match="no such network file"):
        load_network(tmp_path / "none.onnx", engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_given_a_batch_of_the_wrong_shape_names_the_file(models: Path, engine: str) -> None:
    with pytest.raises(ModelError, match="batch of shape"):
        load_network(models / EMBEDDER / "network.onnx", engine)(np.zeros((1, 3, 7, 5), np.float32))


def test_detections_equal_a_naive_float64_decoding_of_the_same_outputs(detector: FaceDetector, shared: Path) -> None:
    with FrameReader(shared / "data/video/hamilton/short_hamilton_clip.mp4", UniformSampling(1)) as reader:
        image = next(iter(reader)).image
    found = detector.detect([image], 0.1)[0]
    batch = np.zeros((1, 3, 384, 640), np.float32)  # 640 x 360, padded to a multiple of 32
    batch[0, :, :360] = (image[..., ::-1].astype(np.float64) - [104, 117, 123]).transpose(2, 0, 1)
    expected = suppress(decode_ssd(detector.network(batch), 0, 384, 640, 0.1), 0.4)
    assert len(found) == len(expected) >= 2
    np.testing.assert_allclose(found.scores, [face[0] for face in expected], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, np.clip([face[1] for face in expected], 0, [640, 360] * 2), atol=1e-3)
    np.testing.assert_allclose(found.landmarks, [face[2] for face in expected], atol=1e-3)


def test_one_pass_at_a_low_threshold_holds_the_detections_of_every_higher_one(
    detector: FaceDetector, shared: Path
) -> None:
    image = cv2.imread(str(shared / "data/photos/deepface_pairs/selfie-many-people.jpg"))[..., ::-1]
    low = detector.detect([image], 0.1)[0]
    for threshold in (0.3, 0.6, 0.9):
        high = detector.detect([image], threshold)[0]
        picked = low[low.scores >= threshold]
        assert len(high) == len(picked) > 5
        np.testing.assert_array_equal(high.boxes, picked.boxes)


def test_detector_finds_every_large_face_that_yunet_finds(detector: FaceDetector, shared: Path) -> None:
    yunet = cv2.FaceDetectorYN.create(str(shared / "models/yunet_onnx/yunet_n_dynamic.onnx"), "", (320, 320), 0.9, 0.3)
    compared, missed = 0, []
    for path in sorted((shared / "data/photos/deepface_pairs").glob("*.jpg")):
        image = cv2.imread(str(path))
        shrink = min(1.0, 800 / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        yunet.setInputSize(image.shape[1::-1])
        found = detector.detect([image[..., ::-1]], 0.9)[0]
        for row in yunet.detect(image)[1] if yunet.detect(image)[1] is not None else []:
            if row[3] <= 40 or row[-1] <= 0.9:
                continue
            compared += 1
            box = (row[0], row[1], row[0] + row[2], row[1] + row[3])
            if not any(overlap(box, tuple(other)) > 0.4 for other in found.boxes):
                missed.append((path.name, row[:4].round(), row[-1]))
    assert compared >= 60 and not missed, missed


def test_landmarks_lie_where_yunet_puts_them(detector: FaceDetector, shared: Path) -> None:
    image = cv2.imread(str(shared / "data/video/hamilton/obama.jpg"))
    image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    yunet = cv2.FaceDetectorYN.create(
        str(shared / "models/yunet_onnx/yunet_n_dynamic.onnx"), "", image.shape[1::-1], 0.9, 0.3
    )
    expected = yunet.detect(image)[1][0, 4:14].reshape(5, 2)
    found = detector.detect([image[..., ::-1]], 0.9)[0].landmarks[0]
    eye_distance = np.linalg.norm(expected[0] - expected[1])
    assert (np.linalg.norm(found - expected, axis=1) / eye_distance).max() < 0.15


def test_frames_of_one_size_give_the_same_faces_together_and_alone(detector: FaceDetector, shared: Path) -> None:
    with FrameReader(shared / "data/video/hamilton/short_hamilton_clip.mp4", UniformSampling(1)) as reader:
        images = [frame.image for frame in reader]
    together = detector.detect(images, 0.1)
    assert sum(map(len, together)) > 10
    for image, found in zip(images, together, strict=True):
        alone = detector.detect([image], 0.1)[0]
        np.testing.assert_array_equal(alone.boxes, found.boxes)
        np.testing.assert_array_equal(alone.landmarks, found.landmarks)


def test_large_frame_gives_boxes_in_its_own_pixels(detector: FaceDetector, shared: Path) -> None:
    small = cv2.imread(str(shared / "data/video/hamilton/obama.jpg"))[..., ::-1]
    small = cv2.resize(small, (560, 700), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (2240, 2800), interpolation=cv2.INTER_LINEAR)
    found, expected = detector.detect([large], 0.9)[0], detector.detect([small], 0.9)[0]
    assert len(found) == len(expected) == 1
    assert overlap(tuple(found.boxes[0] / 4), tuple(expected.boxes[0])) > 0.85


def test_landmarks_lie_on_the_face_when_the_frame_is_shrunk(models: Path, shared: Path) -> None:
    image = np.asarray(cv2.imread(str(shared / "data/video/hamilton/obama.jpg")), np.uint8)[..., ::-1]
    installed = installed_model(models / DETECTOR)
    network = load_network(installed.network)
    small, large = (make_detector(network, installed.card, size).detect([image], 0.9)[0] for size in (300, 700))
    assert max(image.shape) > 700 and len(small) == len(large) == 1
    eye_distance = np.linalg.norm(large.landmarks[0, 0] - large.landmarks[0, 1])
    assert np.linalg.norm(small.landmarks[0] - large.landmarks[0], axis=1).max() < 0.15 * eye_distance


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (37, 5), (31, 33)])
def test_tiny_and_odd_frames_give_no_face_and_no_error(detector: FaceDetector, size: tuple[int, int]) -> None:
    assert len(detector.detect([np.zeros((*size, 3), np.uint8)], 0.5)[0]) == 0
    assert detector.detect([], 0.5) == []


def test_frames_that_the_network_sees_in_different_shapes_are_refused_in_one_batch(detector: FaceDetector) -> None:
    assert detector.shapes(32, 8) != detector.shapes(33, 8)
    with pytest.raises(ValueError, match=r"equal size, found \[\(32, 8\), \(33, 8\)\]"):
        detector.detect([np.zeros((32, 8, 3), np.uint8), np.zeros((33, 8, 3), np.uint8)])


def test_embedder_of_the_casia_card_equals_the_written_out_formula(models: Path, shared: Path) -> None:
    import torch

    from vidperson.networks.convert import load_checkpoint

    card = load_card(EMBEDDER)
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    pictures = torch.from_numpy(((crops[:, :, 8:104].astype(np.float64) - 127.5) / 128).transpose(0, 3, 1, 2)).float()
    network = load_checkpoint(card, shared / "models" / EMBEDDER / card.file.name)
    with torch.no_grad():
        expected = torch.cat([network(pictures), network(pictures.flip(-1))], dim=1).numpy()
    found = FaceEmbedder(load_network(models / EMBEDDER / "network.onnx"), card).embed(crops)
    assert found.shape == (3, 256) and np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_embedder_without_crops_returns_no_rows(models: Path) -> None:
    embedder = FaceEmbedder(load_network(models / EMBEDDER / "network.onnx"), load_card(EMBEDDER))
    assert embedder.embed(np.zeros((0, 112, 112, 3), np.uint8)).shape == (0, 256)


def test_embedder_and_detector_refuse_each_others_cards(models: Path) -> None:
    network = load_network(models / EMBEDDER / "network.onnx")
    with pytest.raises(ModelError, match="not a face_embedder"):
        FaceEmbedder(network, load_card(DETECTOR))
    with pytest.raises(ModelError, match="not a face_detector"):
        make_detector(network, load_card(EMBEDDER))


def test_detector_fed_the_outputs_of_another_network_says_so() -> None:
    detector = make_detector(lambda batch: [np.zeros((len(batch), 128), np.float32)], load_card(DETECTOR))
    with pytest.raises(ModelError, match="expected boxes, scores and landmarks"):
        detector.detect([np.zeros((112, 96, 3), np.uint8)])


def test_suppression_equals_a_double_loop_on_random_boxes() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 60):
        corner = rng.uniform(0, 60, (count, 2))
        boxes = np.hstack([corner, corner + rng.uniform(1, 40, (count, 2))]).astype(np.float32)
        expected: list[int] = []
        for index in range(count):
            if all(overlap(tuple(boxes[index]), tuple(boxes[k])) <= 0.4 for k in expected):
                expected.append(index)
        assert non_maximum_suppression(boxes, 0.4).tolist() == expected


def test_anchors_lie_in_the_middle_of_their_cells_and_are_cached() -> None:
    anchors = make_anchors(64, 32, ((8, (16, 32)), (32, (256, 512))))
    assert anchors.shape == ((8 * 4 + 2 * 1) * 2, 4)
    np.testing.assert_array_equal(anchors[:3], [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]])
    np.testing.assert_array_equal(anchors[-1], [16, 48, 512, 512])
    assert make_anchors(64, 32, ((8, (16, 32)), (32, (256, 512)))) is anchors
