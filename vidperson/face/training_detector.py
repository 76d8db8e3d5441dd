"""What a face detector is trained for: marked faces, and what a teacher says at every anchor of the same images.

:func:`plan_detector` makes the plan of a training of it, see :class:`~vidperson.training.command.TrainingPlan`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson.errors import DataError, TrainingError
from vidperson.face.annotations import LOWEST_SCORE, MIN_HEIGHT, FaceMarks
from vidperson.face.detector import RetinaFaceDetector, make_detector
from vidperson.face.photos import PhotoSet
from vidperson.face.references import has_tall_face, readable_photos, reference_of
from vidperson.face.training_photos import PhotoAugmentation, PhotoBatches
from vidperson.media.image import decode_intact_image
from vidperson.networks.card import ModelCard, Output, PictureInput
from vidperson.networks.convert import DETECTORS
from vidperson.networks.opening import open_network
from vidperson.training import command
from vidperson.training.batches import Normalise, TaughtBatches
from vidperson.training.command import TaughtOptions, TrainingPlan
from vidperson.training.export import Run, new_card
from vidperson.training.loop import Batches, World
from vidperson.types import Detections, Float, Image

MEAN = STD = (127.5, 127.5, 127.5)

NEGATIVES_PER_FACE = 7  # hardest background anchors per anchor of a face; 3 in RetinaFace, section 4.2
NEGATIVES_AT_LEAST = 8  # of them in any image, even in one without a face
WEIGHTS = {"class": 1.0, "box": 2.0, "landmark": 2.0}  # of the losses
BETA = 1 / 9  # where the smooth L1 loss turns from a parabola into a line, in units of the codes
SURE = 0.1  # face probability from which a teacher's box and landmarks are imitated


class DetectorTask(nn.Module):
    """A RetinaFace network, and its losses; see :mod:`vidperson.training.loop`.

    network: a module with ``logits``: (N, 3, H, W) to boxes (N, A, 4), scores (N, A, 2) and landmarks (N, A, 10).
    mean, std: three each, ``(pixel - mean) / std`` on pixels 0..255, RGB.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(mean, std)

    def forward(
        self,
        images: Tensor,
        faces: Tensor | None = None,
        boxes: Tensor | None = None,
        landmarks: Tensor | None = None,
        teacher_scores: Tensor | None = None,
        teacher_boxes: Tensor | None = None,
        teacher_landmarks: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of one batch, by name; ``loss`` is their weighted sum.

        images: (N, H, W, 3) uint8 RGB. faces: (N, A) bool, whether an anchor belongs to a marked face. boxes: (N, A, 4)
        and landmarks: (N, A, 10) codes there, NaN where unknown. teacher_*: what the teacher's network says, in the
        same shapes, scores as probabilities. Raises TrainingError with neither marks nor teacher.
        """
        box_codes, logits, landmark_codes = (value.float() for value in self.network.logits(self.normalise(images)))  # type: ignore[operator]
        terms: dict[str, Tensor] = {}
        if faces is not None and boxes is not None and landmarks is not None:
            terms["class"] = hard_negative_loss(logits, faces)
            terms["box"] = code_loss(box_codes, boxes, faces.float())
            terms["landmark"] = code_loss(landmark_codes, landmarks, faces.float())
        if teacher_scores is not None and teacher_boxes is not None and teacher_landmarks is not None:
            weights = teacher_scores * (teacher_scores >= SURE)
            terms["teacher_class"] = probability_loss(logits, teacher_scores)
            terms["teacher_box"] = code_loss(box_codes, teacher_boxes, weights)
            terms["teacher_landmark"] = code_loss(landmark_codes, teacher_landmarks, weights)
        if not terms:
            raise TrainingError("there is nothing to learn from: neither marked faces nor a teacher")
        return {
            "loss": torch.stack([WEIGHTS[name.split("_")[-1]] * value for name, value in terms.items()]).sum(),
            **terms,
        }


def hard_negative_loss(logits: Tensor, faces: Tensor) -> Tensor:
    """Cross-entropy over the face anchors and the hardest background ones of each image, per face anchor.

    logits: (N, A, 2). faces: (N, A) bool. Online hard negative mining as in SSD (Liu et al., ECCV 2016, section 2.2).
    """
    losses = functional.cross_entropy(logits.flatten(0, 1), faces.long().flatten(), reduction="none").view(faces.shape)
    counts = (faces.sum(dim=1) * NEGATIVES_PER_FACE).clamp(min=NEGATIVES_AT_LEAST)
    background = losses.masked_fill(faces, -1).sort(dim=1, descending=True).values
    ranks = torch.arange(faces.shape[1], device=faces.device)
    hardest = background * ((ranks < counts[:, None]) & (background >= 0))
    return ((losses * faces).sum() + hardest.sum()) / faces.sum().clamp(min=1)


def probability_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the face probabilities from the teacher's, summed over all anchors, over 1 + the
    sum of the teacher's.

    logits: (N, A, 2). probabilities: (N, A). 0 where both agree, so that no anchors need to be chosen.
    """
    margin = logits[..., 1] - logits[..., 0]
    wanted = probabilities.clamp(1e-6, 1 - 1e-6)
    # With logits both: autocast on GPUs refuses the cross-entropy of probabilities.
    cross = functional.binary_cross_entropy_with_logits(margin, wanted, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(wanted.logit(), wanted, reduction="none")
    return (cross - entropy).sum() / (1 + probabilities.sum())


def code_loss(found: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Smooth L1 loss of (N, A, K) codes, summed over K, as the mean over the anchors weighted by (N, A) ``weights``.

    Where ``wanted`` is NaN nothing is asked for. Girshick, Fast R-CNN, ICCV 2015, equation 3, with the parabola up to
    BETA instead of 1: x^2 / (2 BETA), then |x| - BETA / 2.
    """
    known = ~wanted.isnan()
    losses = functional.smooth_l1_loss(found, wanted.where(known, found.detach()), reduction="none", beta=BETA)
    weights = weights * known.any(dim=2)
    return (losses.sum(dim=2) * weights).sum() / weights.sum().clamp(min=1)


def ask_teacher(predict: Callable[[np.ndarray], list[Float]]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """What :class:`~vidperson.training.batches.TaughtBatches` asks of a teacher: its outputs at every anchor.

    predict: (N, H, W, 3) uint8 RGB to boxes (N, A, 4), scores (N, A) and landmarks (N, A, 10).
    """

    def ask(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = [predict(image[None]) for image in batch["images"].numpy()]  # one by one is fastest on a CPU
        boxes, scores, landmarks = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return {
            "teacher_scores": torch.from_numpy(scores),
            "teacher_boxes": torch.from_numpy(boxes),
            "teacher_landmarks": torch.from_numpy(landmarks),
        }

    return ask


@dataclass(frozen=True)
class DetectorRecipe:
    """What is trained, and how. augment: see :class:`~vidperson.face.training_photos.PhotoAugmentation`.

    sizes: sides of the training images in pixels, separated by blanks. batch_size: images per step, all processes
    together.
    Raises TrainingError for an unknown architecture or augmentation, and for sizes that are no numbers.
    """

    architecture: str
    augment: str
    sizes: str
    batch_size: int

    def __post_init__(self) -> None:
        if self.architecture not in DETECTORS:
            raise TrainingError(f"architecture: expected one of {' '.join(DETECTORS)}, found '{self.architecture}'")
        PhotoAugmentation.parse(self.augment)
        self.sides()

    def sides(self) -> list[int]:
        """``sizes`` as numbers."""
        try:
            return [int(word) for word in self.sizes.split()]
        except ValueError:
            raise TrainingError(f"image sizes: expected whole numbers, found '{self.sizes}'") from None


Measure = Callable[[Iterable[tuple[Detections, FaceMarks]]], dict[str, Any]]
"""What was found in images, each with its reference faces, to figures: average_precision, landmark_median, ..."""


class Teacher:
    """A RetinaFace network: what it says at every anchor, and the faces that it finds.

    Raises TrainingError for a network with other anchors, and for several teachers.
    """

    def __init__(self, options: TaughtOptions) -> None:
        if len(options.teacher) > 1:
            raise TrainingError(f"--teacher: expected one, as a detector has, found {len(options.teacher)}")
        self.installed, running = command.open_teacher(options.teacher[0], options)
        card = self.installed.card
        in_batches = make_detector(running, card)
        exact = make_detector(open_network(self.installed, options.engine, "cpu", options.threads), card)
        if not isinstance(in_batches, RetinaFaceDetector) or not isinstance(exact, RetinaFaceDetector):
            raise TrainingError(f"{card.name}: a teacher has RetinaFace's anchors, this one has others")
        self._in_batches, self._exact = in_batches, exact

    def find(self, image: Image) -> FaceMarks:
        """The faces of an image, as reference faces."""
        return reference_of(lambda one: self._exact.detect([one])[0], image)

    def ask(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """See :func:`ask_teacher`."""
        detector = self._in_batches
        return ask_teacher(lambda images: detector.network(detector.prepare(list(images), *images.shape[1:3])))


class _Validation:
    """The photos that can be read, with their reference faces: the marked ones; without marks, those of the teacher.

    Raises DataError where no photo shows a face that counts.
    """

    def __init__(self, photos: PhotoSet, teacher: Teacher | None, measure: Measure) -> None:
        usable: list[int] = []
        self.references: list[FaceMarks] = []
        for item, image in readable_photos(photos):
            usable.append(item)
            if photos.marks is not None:
                self.references.append(photos.marks[item])
            else:
                assert teacher is not None
                self.references.append(teacher.find(image))
        if len(photos) and not any(map(has_tall_face, self.references)):
            raise DataError(
                f"none of the {len(photos)} photos to validate on shows a reference face of at least "
                f"{MIN_HEIGHT:g} pixels; name others"
            )
        self.photos, self.measure = photos.pick(usable), measure
        self.with_landmarks = any(np.isfinite(marks.landmarks).any() for marks in self.references)

    def describe(self, run: Run, card: ModelCard) -> dict[str, Any]:
        detector = make_detector(run, card)
        return self.measure(
            (detector.detect([image], LOWEST_SCORE)[0], self.references[item])
            for item, image in readable_photos(self.photos)
        )

    def validate(self, run: Run, card: ModelCard) -> dict[str, float]:
        """The same with ``quality``, by which the epoch is chosen: faces found, and landmarks where they belong, if
        that is known.
        """
        figures = {name: value for name, value in self.describe(run, card).items() if name != "interval"}
        misplaced = min(1.0, figures.get("landmark_median", 1.0)) if self.with_landmarks else 0.0
        return {**figures, "quality": figures["average_precision"] - misplaced}


def detector_card(recipe: DetectorRecipe, options: TaughtOptions) -> ModelCard:
    """The card of the network to be. Raises ModelError for a folder with a name that no card can have."""
    return new_card(
        options.folder.name,
        "face_detector",
        f"{recipe.architecture}, boxes, scores and five landmarks, trained by run_011_train_face_detector.sh",
        options.licence,
        options.homepage,
        PictureInput("rgb", MEAN, STD),
        Output(decoder="retinaface"),
    )


def plan_detector(
    recipe: DetectorRecipe,
    card: ModelCard,
    options: TaughtOptions,
    photos: PhotoSet,
    validation: PhotoSet,
    test: PhotoSet,
    measure: Measure,
    world: World,
) -> TrainingPlan:
    """The network, its batches and teacher. Raises VidPersonError for what is wrong with any of them.

    photos: to train on. validation: those that the first process measures each epoch on, by ``measure``; may be empty.
    test: those that choose nothing, for the figures of the card; empty: it has those of ``validation``.
    """
    network, note = command.new_network(card, recipe.architecture, options)
    note |= _note(recipe, photos)
    counted = f"{len(photos)} {'marked ' if photos.marks is not None else ''}photos"
    logging.info("training data: %s; %d photos to validate on", counted, len(validation))
    teacher = Teacher(options) if options.teacher else None
    augmentation, places = PhotoAugmentation.parse(recipe.augment), None
    if teacher is not None:
        note["teacher"] = f"{teacher.installed.card.name} {teacher.installed.sha256}"
        if photos.marks is None and augmentation.aim:
            faces = {item: teacher.find(image).boxes for item, image in readable_photos(photos)}
            places = [faces.get(item, np.zeros((0, 4), np.float32)) for item in range(len(photos))]
    source = PhotoBatches(
        photos,
        decode_intact_image,
        recipe.batch_size,
        augmentation,
        recipe.sides(),
        options.settings.seed,
        world.rank,
        world.ranks,
        options.workers,
        places,
    )
    batches: Batches = source if teacher is None else TaughtBatches(source, teacher.ask())
    data = command.data_in_words(counted, options, () if teacher is None else [teacher.installed])

    # Rank 0 validates; whether there is anything to be found is seen before the first epoch.
    def lasting(photos: PhotoSet) -> _Validation:
        return _Validation(photos if world.rank == 0 else photos.pick([]), teacher, measure)

    measured = lasting(validation)
    last = lasting(test) if len(test) else measured
    return TrainingPlan(
        card,
        DetectorTask(network, MEAN, STD),
        batches,
        source,
        note,
        data,
        measured.validate if len(validation) else None,
        (lambda run, card: _figures(last, measured, run, card)) if len(test) or len(validation) else None,
        "quality",
        measured.photos.digest(),
    )


def _figures(last: _Validation, chosen: _Validation, run: Run, card: ModelCard) -> dict[str, Any]:
    """For the card: which photos the figures are of, and which chose the epoch, if any did."""
    photos = {"measured_on": last.photos, "epoch_chosen_on": chosen.photos}
    return {**{name: of.in_words() for name, of in photos.items() if len(of)}, **last.describe(run, card)}


def _note(recipe: DetectorRecipe, photos: PhotoSet) -> dict[str, Any]:
    """What the weights depend on, but for the settings and the teacher."""
    return {
        "augment": " ".join(recipe.augment.split()),
        "sizes": " ".join(map(str, recipe.sides())),
        "batch_size": recipe.batch_size,
        "items": len(photos),
        "items_sha256": photos.digest(),
        "marked": photos.marks is not None,
    }
