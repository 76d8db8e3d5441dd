"""The plan of a training of a face embedding network, see :class:`~vidperson.training.command.TrainingPlan`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidperson.errors import TrainingError
from vidperson.face.align import CROP_SIZE
from vidperson.face.embedder import FaceEmbedder
from vidperson.face.training_faces import FaceBatches, FaceSet
from vidperson.media.image import decode_intact_image
from vidperson.networks.card import ModelCard, Output, PictureInput, picture_input
from vidperson.networks.convert import EMBEDDERS
from vidperson.networks.install import InstalledModel
from vidperson.training import command
from vidperson.training.augment import Augmentation
from vidperson.training.batches import TaughtBatches
from vidperson.training.command import IdentityOptions, TrainingOptions, TrainingPlan
from vidperson.training.export import Run, as_engine, flat_figures, new_card
from vidperson.training.loop import Batches, World
from vidperson.training.losses import IdentityLoss
from vidperson.training.task import EmbedderTask, TeacherModule, ask_teacher
from vidperson.types import Float, Image

MEAN = STD = (127.5, 127.5, 127.5)
Embed = Callable[[Image], Float]


@dataclass(frozen=True)
class EmbedderRecipe:
    """What is trained, and how. augment: see :class:`~vidperson.training.augment.Augmentation`.

    batch_size: crops per step, all processes together.
    Raises TrainingError for an unknown architecture or augmentation.
    """

    architecture: str
    augment: str
    batch_size: int
    identity: IdentityOptions

    def __post_init__(self) -> None:
        if self.architecture not in EMBEDDERS:
            raise TrainingError(f"architecture: expected one of {' '.join(EMBEDDERS)}, found '{self.architecture}'")
        Augmentation.parse(self.augment)


@dataclass(frozen=True)
class Validation:
    """What each epoch is measured on. measure: figures of an embedding function, among them ``eer``."""

    measure: Callable[[Embed], dict[str, Any]]
    digest: str


def embedder_card(recipe: EmbedderRecipe, options: TrainingOptions) -> ModelCard:
    """The card of the network to be. Raises ModelError for a folder with a name that no card can have."""
    size = recipe.identity.embedding_size
    return new_card(
        options.folder.name,
        "face_embedder",
        f"{recipe.architecture}, {size} values, trained by run_010_train_face_embedder.sh",
        options.licence,
        options.homepage,
        PictureInput("rgb", MEAN, STD, CROP_SIZE, CROP_SIZE),
        Output(embedding_size=size),
    )


def plan_embedder(
    recipe: EmbedderRecipe,
    card: ModelCard,
    options: TrainingOptions,
    faces: FaceSet,
    validation: Validation | None,
    world: World,
) -> TrainingPlan:
    """The network, its heads, batches and teacher. Raises VidPersonError for what is wrong with any of them."""
    how, seed = recipe.identity, options.settings.seed
    network, note = command.new_network(card, recipe.architecture, options)
    identity = None
    if how.loss != "none":
        identity = IdentityLoss(
            how.embedding_size,
            len(faces.identities),
            how.loss,
            how.scale,
            how.margin,
            how.sub_centres,
            how.sample_rate,
        )
    source = FaceBatches(
        faces,
        decode_intact_image,
        recipe.batch_size,
        Augmentation.parse(recipe.augment),
        seed,
        world.rank,
        world.ranks,
        options.workers,
    )
    note |= _note(recipe, faces)
    counted = f"{len(faces)} faces or utterances of {len(faces.identities)} identities"
    logging.info("training data: %s", counted)
    batches: Batches = source
    installed, teacher_size = None, 0
    if options.teacher:
        installed, batches, teacher_size = _taught(source, options, world)
        note["teacher"] = f"{installed.card.name} {installed.sha256}"
        note |= {"cosine_weight": how.cosine_weight, "relation_weight": how.relation_weight}
    weights = how.cosine_weight, how.relation_weight
    task = EmbedderTask(network, how.embedding_size, MEAN, STD, identity, teacher_size, *weights)
    data = command.data_in_words(counted, options, installed)
    figures_of = None if validation is None else _figures_of(validation)
    digest = validation.digest if validation else ""
    return TrainingPlan(card, task, batches, source, note, data, figures_of, flat_figures, "-eer", digest)


def _taught(source: FaceBatches, options: TrainingOptions, world: World) -> tuple[InstalledModel, TaughtBatches, int]:
    """The teacher, the batches with what it says, and the values of an embedding of it."""
    if world.device.type == "cuda":
        installed, module = command.open_teacher_on(world.device, options)
        teacher = FaceEmbedder(as_engine(module, world.device, "fp32"), installed.card)  # checks the card
        ask = TeacherModule(module, picture_input(installed.card), installed.card.output.mirror).to(world.device)
        return installed, TaughtBatches(source, ask, world.device), teacher.embedding_size
    installed, running = command.open_teacher(options)
    teacher = FaceEmbedder(running, installed.card)
    return installed, TaughtBatches(source, ask_teacher(teacher.embed)), teacher.embedding_size


def _note(recipe: EmbedderRecipe, faces: FaceSet) -> dict[str, Any]:
    """What the weights depend on, but for the settings and the teacher."""
    how = dataclasses.asdict(recipe.identity)
    return {
        **{name: value for name, value in how.items() if name not in ("cosine_weight", "relation_weight")},
        "augment": " ".join(recipe.augment.split()),
        "batch_size": recipe.batch_size,
        "identities": len(faces.identities),
        "items": len(faces),
        "items_sha256": faces.digest(),
    }


def _figures_of(validation: Validation) -> Callable[[Run, ModelCard], dict[str, Any]]:
    return lambda run, card: validation.measure(FaceEmbedder(run, card).embed)
