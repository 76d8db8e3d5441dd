"""The networks that the project ships: small enough, whole, and as good as their cards say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from engines_here import ENGINES

from vidperson import cli
from vidperson.body.embedder import BodyEmbedder
from vidperson.engines import load_network
from vidperson.face.detector import FaceDetector, make_detector
from vidperson.face.embedder import FaceEmbedder
from vidperson.io.record import sha256
from vidperson.networks.card import ZOO, load_card
from vidperson.networks.install import install_model, installed_model

SHIPPED = ("retinaface_tiny", "arcface_tiny", "body_tiny", "ecapa_tiny")
TAKEN = {
    "retinaface_tiny": (3, 96, 160), "arcface_tiny": (3, 112, 112), "body_tiny": (3, 256, 128), "ecapa_tiny": (80, 203)
}  # fmt: skip
TEACHER = "retinaface_mnet025_pytorch"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped networks, installed as stage 0 does: like exp/face_models and exp/body_models."""
    folder = tmp_path_factory.mktemp("tiny")
    for name in SHIPPED:
        install_model(name, folder)
    return folder


@pytest.fixture(scope="module")
def detector(tiny: Path) -> FaceDetector:
    installed = installed_model(tiny / "retinaface_tiny")
    return make_detector(load_network(installed.network), installed.card)


def test_shipped_networks_together_are_at_most_ten_mebibytes() -> None:
    assert sum((ZOO / f"{name}.onnx").stat().st_size for name in SHIPPED) <= 10 * 2**20


@pytest.mark.parametrize("name", SHIPPED)
def test_card_of_a_shipped_network_has_its_hash_data_command_commit_figures_and_use(name: str) -> None:
    card = load_card(name)
    assert card.file.sha256 == sha256(ZOO / card.file.name)
    assert card.file.size_bytes == (ZOO / card.file.name).stat().st_size
    assert card.training_data and card.figures and "for trying" in card.description
    assert card.training["command"].startswith("./run_01") and len(card.training["commit"]) == 40
    assert "teacher" in card.training_data and card.licence.startswith("Apache-2.0; learnt from")


@pytest.mark.parametrize("name", SHIPPED)
def test_figures_of_a_shipped_network_are_of_what_chose_nothing_and_within_their_intervals(name: str) -> None:
    figures = load_card(name).figures
    assert figures["measured_on"] != figures["epoch_chosen_on"]
    for figure, (low, high) in figures.get("interval", {}).items():
        assert low < figures[figure] < high


@pytest.mark.parametrize("name", SHIPPED)
def test_engines_agree_on_a_shipped_network(tiny: Path, name: str) -> None:
    batch = np.random.default_rng(0).normal(size=(2, *TAKEN[name])).astype(np.float32)
    first, *others = (load_network(tiny / name / "network.onnx", engine)(batch) for engine in ENGINES)
    for found in others:
        for one, other in zip(first, found, strict=True):
            assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


def test_public_domain_portraits_are_found_and_told_apart(tiny: Path, detector: FaceDetector) -> None:
    """Without any media but what Python packages carry."""
    skimage_data = pytest.importorskip("skimage.data", reason="needs the demo extra")
    from matplotlib import cbook
    from matplotlib.image import imread

    from vidperson.face.align import align_faces

    installed = installed_model(tiny / "arcface_tiny")
    embedder = FaceEmbedder(load_network(installed.network), installed.card)
    collins = skimage_data.astronaut()
    hopper = np.asarray(imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    crops = []
    for image in (collins, np.ascontiguousarray(collins[:, ::-1]), hopper, np.ascontiguousarray(hopper[:, ::-1])):
        found = detector.detect([image], 0.9)[0]
        assert len(found.scores) == 1
        crops.append(align_faces(image, found.landmarks)[0][0])
    vectors = embedder.embed(np.stack(crops))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    same, other = [vectors[0] @ vectors[1], vectors[2] @ vectors[3]], vectors[:2] @ vectors[2:].T
    assert min(same) > other.max() + 0.3


def test_embedder_reaches_98_percent_on_lfw_view_1_as_its_card_says(tiny: Path, shared: Path) -> None:
    from steps_face.evaluate_pairs import PairsOptions, evaluate_pairs

    faces = shared / "data/faces"
    options = cli.fill(
        PairsOptions,
        model=str(tiny / "arcface_tiny"),
        pictures=str(faces / "lfw_view1_aligned.tar"),
        pairs=str(faces / "lfw_pairsDevTest.txt"),
        threshold_pairs=str(faces / "lfw_pairsDevTrain.txt"),
        threads=2,
    )
    figures = evaluate_pairs(options)
    assert figures["ten_fold_accuracy"] >= 0.978
    said = load_card("arcface_tiny").figures
    for name in ("accuracy", "ten_fold_accuracy", "eer"):
        assert figures[name] == pytest.approx(said[name], abs=0.002)


@pytest.fixture(scope="module")
def body(tiny: Path) -> BodyEmbedder:
    installed = installed_model(tiny / "body_tiny")
    return BodyEmbedder(load_network(installed.network), installed.card)


def drawn_person(shirt: tuple[int, ...], trousers: tuple[int, ...], seed: int) -> np.ndarray:
    """(256, 128, 3) uint8 RGB: somebody in front of a grey wall, in another place, size and light for another seed."""
    rng = np.random.default_rng(seed)
    image = np.full((256, 128, 3), rng.integers(110, 150), np.uint8)
    middle, top, wide = 64 + int(rng.integers(-6, 7)), 20 + int(rng.integers(-5, 6)), int(rng.integers(24, 29))
    cv2.circle(image, (middle, top + 15), 14, (200, 160, 130), -1)
    cv2.rectangle(image, (middle - wide, top + 30), (middle + wide, top + 115), shirt, -1)
    for side in (-1, 1):
        outer, inner = middle + side * (wide - 3), middle + side * 3
        cv2.rectangle(image, (min(outer, inner), top + 115), (max(outer, inner), 245), trousers, -1)
    light = rng.uniform(0.8, 1.15) + rng.normal(0, 0.03, image.shape)
    return (image * light).clip(0, 255).astype(np.uint8)


def test_body_network_tells_two_drawn_persons_apart(body: BodyEmbedder) -> None:
    clothes = ((180, 30, 40), (30, 30, 40)), ((230, 230, 220), (60, 80, 150))
    crops = np.stack([drawn_person(*worn, seed) for worn in clothes for seed in range(4)])
    vectors = body.embed(crops)
    assert vectors.shape == (8, 256)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    assert min(cosines[:4, :4].min(), cosines[4:, 4:].min()) > cosines[:4, 4:].max() + 0.3


def test_body_network_finds_persons_of_market100_in_other_cameras_as_its_card_says(
    body: BodyEmbedder, shared: Path
) -> None:
    """On the persons that nothing was learnt from: every second one."""
    from vidperson.body.training_bodies import fitted_body
    from vidperson.media.image import decode_intact_image
    from vidperson.metrics.reidentification import across_cameras

    files = sorted((shared / "data/person/market100/gallery").glob("*.jpg"))
    held_out = set(sorted({path.name[:4] for path in files})[1::2])
    files = [path for path in files if path.name[:4] in held_out]
    crops = [fitted_body(decode_intact_image(path.read_bytes())) for path in files]
    vectors = np.concatenate([body.embed(np.stack(crops[at : at + 32])) for at in range(0, len(crops), 32)])
    found = across_cameras(vectors, [path.name[:4] for path in files], [path.name[6] for path in files])
    said = load_card("body_tiny").figures
    assert found.queries == said["queries"] == 426
    assert found.rank1 == pytest.approx(said["rank1"], abs=0.005) and found.rank1 > 0.55
    assert found.map == pytest.approx(said["map"], abs=0.005) and found.map > 0.40


def test_voice_network_tells_speakers_apart_in_a_third_of_the_recordings_of_its_card(tiny: Path, shared: Path) -> None:
    """Measured so, after the mean of a third of the cohort. UCLA: pairs of other sessions. All recordings, as on the
    card: benchmarks/speech.py."""
    from vidperson.media.audio import read
    from vidperson.metrics.detection import eer, roc
    from vidperson.speaker.embedder import SpeakerEmbedder

    installed = installed_model(tiny / "ecapa_tiny")
    voices = SpeakerEmbedder(load_network(installed.network), installed.card)
    speech = shared / "data/speech"

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embedded(files: list[Path]) -> np.ndarray:
        return unit(np.concatenate([voices.embed([voices.items(read(str(path)))]) for path in files]))

    mean = embedded(sorted((speech / "librispeech_cohort").rglob("*.flac"))[::3]).mean(axis=0)
    for corpus, session, expected in (("ucla", r"_\d+([ABC])_", 0.073), ("librispeech", "()$", 0.016)):
        files = sorted((speech / corpus).rglob("*.flac"))[::3]
        vectors = unit(embedded(files) - mean)
        first, second = np.triu_indices(len(files), 1)
        who = np.array([path.parent.name for path in files])
        when = np.array([re.search(session, path.stem)[1] for path in files])  # type: ignore[index]
        kept = (when[first] != when[second]) | (when[first] == "")
        scores, same = (vectors @ vectors.T)[first, second][kept], (who[first] == who[second])[kept]
        assert eer(roc(scores[same], scores[~same])) == pytest.approx(expected, abs=0.01)


def measured(model: str, pictures: list[str], **options: Any) -> dict[str, Any]:
    from steps_face.evaluate_detector import DetectorFiguresOptions, evaluate_detector

    return evaluate_detector(cli.fill(DetectorFiguresOptions, model=model, pictures=pictures, **options))


def test_detector_agrees_with_its_teacher_on_photos_that_chose_nothing_as_its_card_says(
    tiny: Path, models: Path, shared: Path
) -> None:
    photos = [str(shared / "data/faces/lfw_view1_photos.tar")]
    figures = measured(str(tiny / "retinaface_tiny"), photos, reference_model=str(models / TEACHER), threads=2)
    said = load_card("retinaface_tiny").figures
    assert figures["num_pictures"] == said["num_pictures"] == 416 and figures["picture_recall"] == 1
    for name in ("recall", "extra", "landmark_error", "landmark_median", "average_precision"):
        assert figures[name] == pytest.approx(said[name], abs=0.005)
    assert figures["recall"] >= 0.94 and figures["extra"] <= 0.01 and figures["landmark_median"] <= 0.042


@pytest.mark.parametrize(
    "corpus,share", [("mead", 0.98), ("talks", 0.98), ("grid", 0.98), ("hamilton", 0.8), ("avspeech", 0.98)]
)
def test_detector_finds_a_face_where_its_teacher_does(
    tiny: Path, models: Path, shared: Path, tmp_path: Path, corpus: str, share: float
) -> None:
    """Clips and portraits, two frames a second."""
    files = sorted(path for path in (shared / "data/video" / corpus).iterdir() if path.suffix != ".txt")
    (tmp_path / "vid.scp").write_text("".join(f"{number:03d} {path}\n" for number, path in enumerate(files)))
    figures = measured(
        str(tiny / "retinaface_tiny"),
        [],
        videos=str(tmp_path / "vid.scp"),
        fps=2,
        reference_model=str(models / TEACHER),
        min_height=0,
        threads=2,
    )
    assert figures["picture_recall"] >= share


def test_detector_finds_the_faces_that_dlib_marked(tiny: Path, shared: Path) -> None:
    folder = shared / "data/photos/dlib"
    figures = measured(
        str(tiny / "retinaface_tiny"), [str(folder)], annotations=str(folder / "testing.xml"), min_height=30
    )
    assert figures["num_faces"] >= 20 and figures["recall"] >= 0.9


def test_install_of_a_shipped_network_needs_no_download_and_no_torch(tmp_path: Path) -> None:
    for name in SHIPPED:
        assert install_model(name, tmp_path).card.checkpoint is None
