"""What a detector is trained with: losses against formulas written out, anchors, pictures put together of photos."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vidperson.errors import DataError, TrainingError
from vidperson.face.annotations import FaceMarks
from vidperson.face.detector import RetinaFaceDetector, make_anchors
from vidperson.face.photos import PhotoSet, read_photos
from vidperson.io.pictures import held_out
from vidperson.media.image import decode_intact_image
from vidperson.metrics import overlap
from vidperson.networks.card import Output, PictureInput

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from drawn_faces import DOTS, write_photos  # noqa: E402

from vidperson.face import training_detector as losses  # noqa: E402
from vidperson.face.anchors import BEST_OVERLAP, MIN_OVERLAP, encode, match_anchors  # noqa: E402
from vidperson.face.training_detector import DetectorTask, ask_teacher, code_loss, hard_negative_loss  # noqa: E402
from vidperson.face.training_photos import MIRRORED, PhotoAugmentation, PhotoBatches, _aimed  # noqa: E402
from vidperson.training.export import new_card  # noqa: E402

CARD = new_card(
    "drawn", "face_detector", "", "none stated", "none",
    PictureInput("rgb", (127.5,) * 3, (127.5,) * 3), Output("retinaface"),
)  # fmt: skip


# -- losses --------------------------------------------------------------------------------------------------------


def naive_softmax_loss(logits: np.ndarray, face: bool) -> float:
    return math.log(math.exp(logits[0]) + math.exp(logits[1])) - logits[int(face)]


def some_logits(anchors: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Two pictures: one with two face anchors, one with none."""
    rng = np.random.default_rng(0)
    faces = np.zeros((2, anchors), bool)
    faces[0, [1, 3]] = True
    return rng.normal(size=(2, anchors, 2)), faces


def test_class_loss_takes_the_hard_negatives_that_a_naive_loop_takes() -> None:
    logits, faces = some_logits()
    total, counts = 0.0, []
    for picture, is_face in zip(logits, faces, strict=True):
        values = [naive_softmax_loss(row, face) for row, face in zip(picture, is_face, strict=True)]
        total += sum(value for value, face in zip(values, is_face, strict=True) if face)
        background = sorted((value for value, face in zip(values, is_face, strict=True) if not face), reverse=True)
        counts.append(max(losses.NEGATIVES_AT_LEAST, losses.NEGATIVES_PER_FACE * int(is_face.sum())))
        total += sum(background[: counts[-1]])
    assert counts == [14, 8]
    found = hard_negative_loss(torch.from_numpy(logits), torch.from_numpy(faces))
    assert float(found) == pytest.approx(total / 2, rel=1e-12)


def test_class_loss_asks_for_no_more_negatives_than_there_are() -> None:
    logits = torch.from_numpy(some_logits(4)[0][:1])
    faces = torch.tensor([[True, True, True, False]])
    expected = sum(naive_softmax_loss(row, face) for row, face in zip(logits[0].numpy(), faces[0], strict=True))
    assert float(hard_negative_loss(logits, faces)) == pytest.approx(expected / 3)
    nothing = hard_negative_loss(logits, torch.zeros(1, 4, dtype=torch.bool))
    assert float(nothing) == pytest.approx(sum(naive_softmax_loss(row, False) for row in logits[0].numpy()))


def test_code_loss_equals_the_written_out_sum_and_passes_over_unknown_codes() -> None:
    rng = np.random.default_rng(1)
    found, wanted = rng.normal(size=(2, 2, 6, 4))
    weights = np.array([[0, 0.5, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0.2]])
    wanted[weights == 0] = np.nan
    wanted[0, 4] = np.nan  # a face whose landmarks nobody marked
    total = norm = 0.0
    for n, a in zip(*np.nonzero(weights), strict=True):
        if np.isnan(wanted[n, a]).all():
            continue
        norm += weights[n, a]
        for difference in np.abs(found[n, a] - wanted[n, a]):
            parabola = difference**2 / (2 * losses.BETA)
            total += weights[n, a] * (parabola if difference < losses.BETA else difference - losses.BETA / 2)
    result = code_loss(*map(torch.from_numpy, (found, wanted, weights)))
    assert float(result) == pytest.approx(total / norm, rel=1e-12)
    unknown = torch.full((2, 6, 4), math.nan).double()
    assert float(code_loss(torch.from_numpy(found), unknown, torch.from_numpy(weights))) == 0


def test_probability_loss_is_the_divergence_from_the_teacher_and_zero_where_both_agree() -> None:
    logits, _ = some_logits()
    wanted = np.random.default_rng(2).uniform(0, 1, (2, 60))
    total = 0.0
    for row, p in zip(logits.reshape(-1, 2), wanted.ravel(), strict=True):
        q = 1 / (1 + math.exp(row[0] - row[1]))
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    found = losses.probability_loss(torch.from_numpy(logits), torch.from_numpy(wanted))
    assert float(found) == pytest.approx(total / (1 + wanted.sum()), rel=1e-9)
    same = torch.from_numpy(logits).softmax(dim=2)[..., 1]
    assert abs(float(losses.probability_loss(torch.from_numpy(logits), same))) < 1e-12
    extreme = torch.tensor([[0.0, 1.0]]).double()
    assert math.isfinite(float(losses.probability_loss(torch.zeros(1, 2, 2).double(), extreme)))


def test_gradients_of_the_losses_equal_finite_differences() -> None:
    logits, faces = some_logits(12)
    rng = np.random.default_rng(3)
    found, wanted = rng.normal(size=(2, 2, 12, 4))
    wanted[0, 5] = np.nan
    weights, probabilities = rng.uniform(0, 1, (2, 2, 12))
    given = [torch.from_numpy(value) for value in (wanted, weights, probabilities)]
    for loss, value in (
        (lambda x: hard_negative_loss(x, torch.from_numpy(faces)), logits),
        (lambda x: code_loss(x, given[0], given[1]), found),
        (lambda x: losses.probability_loss(x, given[2]), logits),
    ):
        assert torch.autograd.gradcheck(loss, torch.from_numpy(value).requires_grad_())


class Answers(torch.nn.Module):
    """A network that says the same of all pictures, and keeps the picture that it was given."""

    def __init__(self, anchors: int) -> None:
        super().__init__()
        rng = np.random.default_rng(4)
        self.said = torch.nn.ParameterList(
            torch.from_numpy(rng.normal(size=(1, anchors, values))).float() for values in (4, 2, 10)
        )

    def logits(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.given = images
        return tuple(value.expand(len(images), -1, -1) for value in self.said)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_task_normalises_weighs_its_terms_and_takes_marks_or_a_teacher_or_both(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    rng = np.random.default_rng(5)
    network = Answers(6)
    task = DetectorTask(network, (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)).to(device)
    faces = np.array([[True, False, False, True, False, False], [False] * 6])
    marks = {"faces": faces, "boxes": rng.normal(size=(2, 6, 4)), "landmarks": np.full((2, 6, 10), np.nan)}
    teacher = {
        "scores": faces * 0.9 + 0.05,
        "boxes": rng.normal(size=(2, 6, 4)),
        "landmarks": rng.normal(size=(2, 6, 10)),
    }
    batch = {**marks, **{f"teacher_{name}": value for name, value in teacher.items()}}
    tensors = {
        name: torch.from_numpy(value.astype(bool if name == "faces" else np.float32)).to(device)
        for name, value in batch.items()
    }
    images = torch.from_numpy(rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)).to(device)
    with torch.autocast(device, torch.bfloat16):  # whatever the network computes in, the losses take it
        terms = task(images, **tensors)
    expected = (images.cpu().numpy() - np.array([10, 20, 30])) / [2, 4, 5]
    np.testing.assert_allclose(network.given.cpu(), expected.transpose(0, 3, 1, 2), rtol=1e-5)
    assert set(terms) == {"loss", "class", "box", "landmark", "teacher_class", "teacher_box", "teacher_landmark"}
    total = sum(value.item() * (1 if name.endswith("class") else 2) for name, value in terms.items() if name != "loss")
    assert terms["loss"].item() == pytest.approx(total, rel=1e-5) and terms["landmark"].item() == 0
    boxes = torch.cat([network.said[0].detach()] * 2)
    sure = torch.where(tensors["teacher_scores"] > 0.5, tensors["teacher_scores"], 0)
    torch.testing.assert_close(terms["teacher_box"], code_loss(boxes, tensors["teacher_boxes"], sure))
    assert {*task(images, **{name: tensors[name] for name in marks})} == {"loss", "class", "box", "landmark"}
    with pytest.raises(TrainingError, match="nothing to learn from"):
        task(images)


def test_teacher_is_asked_for_the_very_pictures_one_by_one() -> None:
    seen = []

    def predict(images: np.ndarray) -> list[np.ndarray]:
        seen.append(images)
        value = float(images[0, 0, 0, 0])
        return [
            np.full((1, 3, 4), value, np.float32),
            np.full((1, 3), value, np.float32),
            np.zeros((1, 3, 10), np.float32),
        ]

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    said = ask_teacher(predict)({"images": images})
    np.testing.assert_array_equal(np.concatenate(seen), images)
    assert {name: tuple(value.shape) for name, value in said.items()} == {
        "teacher_scores": (2, 3),
        "teacher_boxes": (2, 3, 4),
        "teacher_landmarks": (2, 3, 10),
    }
    assert said["teacher_scores"][:, 0].tolist() == images[:, 0, 0, 0].tolist()


# -- anchors -------------------------------------------------------------------------------------------------------


def some_boxes(count: int, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(5), np.log(size), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (size - sides)
    return np.hstack([corner, corner + sides]).astype(np.float32)


def test_codes_are_turned_back_into_boxes_and_landmarks_by_the_detectors_decoding() -> None:
    anchors = make_anchors(128, 128, RetinaFaceDetector.anchor_sizes)
    boxes = some_boxes(len(anchors), 128)
    landmarks = np.random.default_rng(1).uniform(-20, 150, (len(anchors), 5, 2)).astype(np.float32)
    landmarks[7] = np.nan
    codes, points = encode(anchors, boxes, landmarks)
    assert codes.shape == (len(anchors), 4) and points.shape == (len(anchors), 10) and codes.dtype == np.float32
    outputs = [codes[None], np.ones((1, len(anchors)), np.float32), points[None]]
    found, _, marks = RetinaFaceDetector(lambda batch: [], CARD).decode(outputs, 128, 128, 0.5)[0]
    np.testing.assert_allclose(found, boxes, atol=1e-3)
    np.testing.assert_allclose(marks, landmarks, atol=1e-3)
    assert np.isnan(points[7]).all() and np.isfinite(points[8]).all()


@pytest.mark.parametrize("seed", range(4))
def test_anchors_are_matched_as_by_a_naive_loop(seed: int) -> None:
    anchors = make_anchors(96, 128, RetinaFaceDetector.anchor_sizes)
    boxes = some_boxes(5, 96, seed)
    corners = np.hstack([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2])
    shares = [[float(overlap([corner], [box])[0, 0]) for box in boxes] for corner in corners]
    expected = []
    for row in shares:
        best = max(range(5), key=lambda face: row[face])
        expected.append(best if row[best] >= MIN_OVERLAP else -1)
    for face in range(5):
        best = max(range(len(anchors)), key=lambda anchor: shares[anchor][face])
        if shares[best][face] >= BEST_OVERLAP:
            expected[best] = face
    found = match_anchors(anchors, boxes)
    assert found.tolist() == expected and len(set(expected)) > 2


def test_no_anchor_stands_for_a_picture_without_faces_or_a_face_of_no_size() -> None:
    anchors = make_anchors(64, 64, RetinaFaceDetector.anchor_sizes)
    assert (match_anchors(anchors, np.zeros((0, 4), np.float32)) == -1).all()
    assert (match_anchors(anchors, np.array([[9, 9, 10, 10]], np.float32)) == -1).all()


# -- training pictures ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """Ten marked photos."""
    folder = tmp_path_factory.mktemp("photos") / "drawn"
    marks = write_photos(folder, 10, side=128, face=(60, 100))
    return read_photos([str(folder)], marks)


def batches(
    photos: PhotoSet, augment: str, size: int = 4, sizes: tuple[int, ...] = (192,), **options: Any
) -> PhotoBatches:
    return PhotoBatches(photos, decode_intact_image, size, PhotoAugmentation.parse(augment), sizes, **options)


def is_skin(colours: np.ndarray) -> np.ndarray:
    """Whether pixels are of a face, not of the grey around it, whatever of a dot is mixed in."""
    return np.ptp(colours.astype(int), axis=-1) > 70


def decoded(batch: dict[str, Any], item: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes and landmarks that a picture's codes stand for, each once."""
    outputs = [np.asarray(batch[name]) for name in ("boxes", "faces", "landmarks")]
    side = batch["images"].shape[1]
    given = [value[item : item + 1].astype(np.float32) for value in outputs]
    boxes, _, landmarks = RetinaFaceDetector(lambda images: [], CARD).decode(given, side, side, 0.5)[0]
    _, first = np.unique(boxes.round(1), axis=0, return_index=True)
    return [(boxes[k], landmarks[k]) for k in first]


def check_marks_lie_on_the_drawn_faces(image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> bool:
    """True for a mirrored face; assertions fail where the marks and the pixels do not agree."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    inner = image[
        round(y1 + 0.1 * height) : round(y2 - 0.1 * height), round(x1 + 0.1 * width) : round(x2 - 0.1 * width)
    ]
    assert is_skin(inner).mean() > 0.97
    said = []
    for x, y in landmarks:
        if 1 <= x < image.shape[1] - 1 and 1 <= y < image.shape[0] - 1 and x1 <= x < x2 and y1 <= y < y2:
            said.append(int(np.abs(DOTS - image[int(y), int(x)]).sum(axis=1).argmin()))
            assert np.abs(DOTS[said[-1]] - image[int(y), int(x)]).max() < 90
        else:
            said.append(-1)
    straight = all(dot in (-1, k) for k, dot in enumerate(said))
    mirrored = all(dot in (-1, MIRRORED[k]) for k, dot in enumerate(said))
    assert straight or mirrored, said
    assert landmarks[0, 0] < landmarks[1, 0] and landmarks[3, 0] < landmarks[4, 0]
    return not straight


@pytest.mark.parametrize(
    "augment",
    ["", "mirror=0.5", "zoom=1", "aim=1", "aim=1 cut=1", "mosaic=1", "mosaic=0.5 mirror=0.5 aim=0.5 zoom=0.8"],
)
def test_marks_follow_the_pixels_through_every_change(photos: PhotoSet, augment: str) -> None:
    checked = mirrored = 0
    for batch in batches(photos, augment, 5, (160, 224))(0):
        assert batch["images"].dtype == torch.uint8 and batch["images"].shape[1] in (160, 224)
        for item in range(5):
            for box, landmarks in decoded(batch, item):
                if min(box[2:] - box[:2]) >= 30:  # smaller dots are smeared
                    mirrored += check_marks_lie_on_the_drawn_faces(batch["images"][item].numpy(), box, landmarks)
                    checked += 1
    assert checked >= 8
    assert (mirrored > 0) == ("mirror" in augment) and mirrored < checked


def test_every_photo_of_a_mosaic_brings_its_face_with_tight_boxes(photos: PhotoSet) -> None:
    made = batches(photos, "mosaic=1", 2, (256,))
    for item in range(4):
        image, marks, _ = made.picture(item, 256, np.random.default_rng(item))
        assert len(marks.boxes) == 4 and (marks.boxes >= 0).all() and (marks.boxes <= 256).all()
        skin = is_skin(image)
        covered = np.zeros_like(skin)
        for x1, y1, x2, y2 in marks.boxes.round().astype(int):
            covered[y1:y2, x1:x2] = True
            assert not skin[y1:y2, [x1 - 2, x2 + 1]].any() and not skin[[y1 - 2, y2 + 1], x1:x2].any()
        assert (skin & ~cv2.dilate(covered.astype(np.uint8), np.ones((3, 3))).astype(bool)).sum() == 0


def test_aimed_faces_are_of_all_sizes_alike_and_wholly_in_the_picture(photos: PhotoSet) -> None:
    made = batches(photos, "aim=1", 2, (256,))
    sides = []
    for seed in range(200):
        image, marks, _ = made.picture(seed % 10, 256, np.random.default_rng(seed))
        x1, y1, x2, y2 = marks.boxes[0].round().astype(int)
        assert is_skin(image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]).mean() > 0.8
        skin = is_skin(image)
        skin[max(0, y1 - 3) : y2 + 3, max(0, x1 - 3) : x2 + 3] = False
        assert skin.sum() == 0  # nothing of the face lies outside its box
        sides.append((marks.boxes[0, 2:] - marks.boxes[0, :2]).max())
    assert 19 < min(sides) < 23 and 230 < max(sides) < 260
    expected = 20 * (256 / 20) ** np.array([0.25, 0.5, 0.75])  # quartiles of a log-uniform size from 20 to 256
    np.testing.assert_allclose(np.quantile(sides, [0.25, 0.5, 0.75]), expected, rtol=0.2)


def test_cut_faces_lack_up_to_half_on_one_side(photos: PhotoSet) -> None:
    assert photos.marks is not None
    cut = batches(photos, "aim=1 cut=1", 2, (256,))
    shares, sides = [], set()
    for seed in range(200):
        picture, marks, _ = cut.picture(seed % 10, 256, np.random.default_rng(seed))
        whole = photos.marks[seed % 10]
        (face,), (points,) = whole.boxes, whole.landmarks
        if not len(marks.boxes):  # by rounding the middle came to lie outside
            continue
        # The landmarks tell where in the picture the whole face would lie.
        scale = np.ptp(marks.landmarks[0, :, 0]) / np.ptp(points[:, 0])
        corner = marks.landmarks[0].mean(axis=0) - (points.mean(axis=0) - face[:2]) * scale
        expected = np.concatenate([corner, corner + (face[2:] - face[:2]) * scale]).round().astype(int)
        height, width = expected[3] - expected[1], expected[2] - expected[0]
        y, x = np.nonzero(is_skin(picture))
        missing = np.array(
            [x.min() - expected[0], y.min() - expected[1], expected[2] - x.max() - 1, expected[3] - y.max() - 1]
        )
        missing = missing / [width, height, width, height]
        shares.append(missing.max())
        sides.add(int(missing.argmax()))
        assert np.sort(missing)[2] < 0.1 and missing.max() < 0.55
    assert len(shares) > 190 and sides == {0, 1, 2, 3}
    assert np.median(shares) == pytest.approx(0.25, abs=0.06)


def test_face_marked_beyond_the_edges_of_its_photo_can_be_cut() -> None:
    photo = np.zeros((300, 400, 3), np.uint8)
    for box in ([-30, 100, 30, 160], [100, -40, 160, 20], [370, 270, 430, 330]):
        for seed in range(100):
            part, rng = np.zeros((96, 96, 3), np.uint8), np.random.default_rng(seed)
            top, bottom, left, right, scale = _aimed(np.array(box, np.float32), photo, part, True, rng)
            assert 0 <= top < bottom <= 300 and 0 <= left < right <= 400 and scale > 0


def test_digest_of_photos_changes_with_their_names_and_marks(photos: PhotoSet) -> None:
    assert photos.marks is not None
    moved = [FaceMarks(marks.boxes + 1, marks.landmarks) for marks in photos.marks]
    others = [photos.pick(range(1, len(photos))), dataclasses.replace(photos, marks=moved), photos]
    assert [other.digest() == photos.digest() for other in others] == [False, False, True]


def test_photos_without_marks_are_aimed_at_the_places_that_are_given(photos: PhotoSet) -> None:
    assert photos.marks is not None
    unmarked = PhotoSet(photos.sources, photos.source, photos.number, None)
    places = [marks.boxes for marks in photos.marks]
    given = batches(unmarked, "aim=1", 2, (192,), places=places)
    for seed in range(10):
        marked = batches(photos, "aim=1", 2, (192,)).picture(seed, 192, np.random.default_rng(seed))
        picture, marks, _ = given.picture(seed, 192, np.random.default_rng(seed))
        assert len(marks.boxes) == 0 and np.array_equal(picture, marked[0])


def test_face_whose_centre_is_cut_off_or_that_is_tiny_is_not_taught(photos: PhotoSet) -> None:
    made = batches(photos, "zoom=1", 2, (64,))
    counts = []
    for seed in range(60):
        _, marks, _ = made.picture(seed % 10, 64, np.random.default_rng(seed))
        sides = marks.boxes[:, 2:] - marks.boxes[:, :2]
        assert (marks.boxes >= 0).all() and (marks.boxes <= 64).all() and (sides >= 4).all()
        counts.append(len(marks.boxes))
    assert set(counts) == {0, 1}


def test_pictures_depend_on_seed_epoch_and_place_alone(photos: PhotoSet) -> None:
    every = "mosaic=0.5 mirror=0.5 aim=0.5 cut=0.5 zoom=0.8 colour=0.5 grey=0.3 blur=0.3 motion=0.3 dark=0.3 jpeg=0.5"
    sizes = (64, 96, 128)
    whole = list(batches(photos, every, 2, sizes)(1))
    assert len(whole) == 5 and len({batch["images"].shape[1] for batch in whole}) > 1
    for other in (
        list(batches(photos, every, 2, sizes, workers=1)(1)),
        [None, *batches(photos, every, 2, sizes)(1, 1)],
    ):
        for expected, found in zip(whole[1:], other[1:], strict=True):
            assert expected.keys() == found.keys() == {"images", "faces", "boxes", "landmarks"}
            assert all(torch.equal(expected[name].nan_to_num(), found[name].nan_to_num()) for name in expected)
    for other in (batches(photos, every, 2, sizes)(2), batches(photos, every, 2, sizes, seed=1)(1)):
        pairs = zip(whole, other, strict=True)
        assert not any(torch.equal(a["images"], b["images"]) for a, b in pairs)


def test_photos_without_marks_give_pictures_alone(photos: PhotoSet) -> None:
    unmarked = PhotoSet(photos.sources, photos.source, photos.number, None)
    batch = next(iter(batches(unmarked, "mosaic=0.5", 4, (64,))(0)))
    assert batch.keys() == {"images"} and batch["images"].shape == (4, 64, 64, 3)


@pytest.mark.parametrize("sizes", [(), (32,), (100,), (320, 321)])
def test_picture_sizes_that_the_anchors_do_not_fit_are_refused(photos: PhotoSet, sizes: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match="multiples of 32 from 64 on, found"):
        batches(photos, "", 4, sizes)


def test_ranks_without_a_photo_each_are_refused(photos: PhotoSet) -> None:
    with pytest.raises(DataError, match="at least 4 photos in a batch, found 3"):
        batches(photos, "", 3, ranks=4)


def test_held_out_photos_are_spread_evenly_and_leave_some_to_train_on() -> None:
    taught, kept = held_out(10, 3, "photos")
    assert kept == [0, 3, 6] and sorted(taught + kept) == list(range(10))
    assert held_out(5, 0, "photos") == ([0, 1, 2, 3, 4], []) and held_out(5, 4, "photos") == ([4], [0, 1, 2, 3])
    for wanted in (-1, 5, 9):
        with pytest.raises(DataError, match=f"{wanted} photos cannot be held out of 5"):
            held_out(5, wanted, "photos")


def test_marked_photo_in_no_source_or_in_two_is_an_error_that_names_it(photos: PhotoSet, tmp_path: Path) -> None:
    marks = write_photos(tmp_path / "a", 2)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DataError, match="2 of 2 marked photos are not in exactly one of .*, first: 000.png"):
        read_photos([str(tmp_path / "a"), str(tmp_path / "b")], marks)
    with pytest.raises(DataError, match="1 of 3 marked photos .*, first: c d.png"):
        read_photos([str(tmp_path / "a")], {**marks, "c d.png": marks["000.png"]})
    picked = read_photos([str(tmp_path / "a")], marks).pick([1])
    assert len(picked) == 1 and picked.name(0) == "001.png" and picked.marks == [marks["001.png"]]
