"""What the training steps share: options, the run from plan to exported network, progress, curves, and the card."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson import cli
from vidperson.errors import TrainingError
from vidperson.training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vidperson.networks.card import ModelCard
    from vidperson.networks.embedder import PictureEmbedder
    from vidperson.networks.install import InstalledModel
    from vidperson.training.batches import ShuffledBatches
    from vidperson.training.export import Run
    from vidperson.training.loop import Batches, World


Draw = Callable[[Sequence[Mapping[str, Any]]], bytes]
"""The entries of a run's log to a PNG file of its curves."""

DRAW_EVERY_S = 60.0  # drawing takes seconds, an epoch perhaps less


@dataclass(frozen=True)
class TrainingOptions:
    """The options that all training steps have."""

    train_data: list[str] = cli.option(help="what to train on, see above")
    output_dir: str = cli.option(help="folder of the network, named like it")
    init: str = cli.option("", "best.pt of an earlier run: start from its weights, not from random ones")
    licence: str = cli.option("none stated", "licence of the network, for its card")
    homepage: str = cli.option("none: trained by this recipe", "where it comes from, for its card")
    half_weights: bool = cli.option(False, "true: store the network's weights in 16 bits")
    device: str = cli.option("cpu", "where the network is trained", choices=("cpu", "cuda"))
    engine: str = cli.option("auto", "what runs networks that are not trained; auto: the best one here")
    threads: int = cli.option(1, "CPU threads of the networks", convert=cli.whole(1))
    workers: int = cli.option(0, "processes that load data, for each that trains", convert=cli.whole(0))
    settings: Settings = cli.group(Settings)

    @property
    def folder(self) -> Path:
        """Where the network goes; its last part is the network's name."""
        return Path(self.output_dir)


@dataclass(frozen=True)
class TaughtOptions(TrainingOptions):
    """Those of a training that may have teachers."""

    teacher: list[str] = cli.option((), "folders of installed networks to imitate")


@dataclass(frozen=True)
class TeachingOptions:
    """How an embedding network imitates its teachers."""

    cosine_weight: float = cli.option(1.0, "weight of: be like the teacher's embedding")
    relation_weight: float = cli.option(1.0, "weight of: cosines like the teacher's")
    teacher_weights: list[float] = cli.option((), "weight of each teacher; empty: all alike, 1 in all", convert=float)

    def note(self, teachers: Sequence[InstalledModel]) -> dict[str, Any]:
        """What to note of the teachers in the recipe: nothing without any."""
        if not teachers:
            return {}
        noted: dict[str, Any] = {"teacher": " ".join(f"{each.card.name} {each.sha256}" for each in teachers)}
        noted |= {"cosine_weight": self.cosine_weight, "relation_weight": self.relation_weight}
        return noted | ({"teacher_weights": self.teacher_weights} if self.teacher_weights else {})

    def apart(self) -> dict[str, Any]:
        """The other options, to note in the recipe."""
        shared = {field.name for field in dataclasses.fields(TeachingOptions)}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in shared}


@dataclass(frozen=True)
class IdentityOptions(TeachingOptions):
    """How an embedding network is taught identities, by their labels and by teachers."""

    embedding_size: int = cli.option(512, "values of an embedding", convert=cli.whole(1))
    loss: str = cli.option("arcface", "arcface, cosface, softmax, or none: only from the teacher")
    scale: float = cli.option(64.0, "s of arcface and cosface")
    margin: float = cli.option(0.4, "m of arcface (radians) and cosface")
    sub_centres: int = cli.option(1, "centres per identity")
    sample_rate: float = cli.option(1.0, "share of the identities per step (partial FC)")


@dataclass(frozen=True)
class MarginOptions(IdentityOptions):
    """Those of losses with a margin as trainings on speech use them; more than pictures need."""

    embedding_size: int = cli.option(192, "values of an embedding", convert=cli.whole(1))
    scale: float = cli.option(30.0, "s of arcface and cosface")
    margin: float = cli.option(0.2, "m of arcface (radians) and cosface")
    margin_epochs: list[int] = cli.option((), "epochs between which the margin rises from 0", convert=cli.whole(0))
    top_k: int = cli.option(0, "nearest wrong classes that are made harder; 0: none", convert=cli.whole(0))
    top_k_angle: float = cli.option(0.06, "radians by which they seem nearer", convert=cli.not_negative)


@dataclass(frozen=True)
class ReidOptions(TeachingOptions):
    """How a network is taught to find persons again, by their labels and by teachers."""

    embedding_size: int = cli.option(0, "values of an embedding; 0: as the architecture has them", convert=cli.whole(0))
    loss: str = cli.option("softmax", "loss of the classes, one a person", choices=("softmax", "none"))
    smoothing: float = cli.option(0.1, "share of the target that is spread over all persons (label smoothing)")
    triplets: str = cli.option("hard", "which triplets count: hard, all, or weighted by a softmax")
    triplet_margin: float = cli.option(0.3, "margin of the triplets; 0: the soft margin", convert=cli.not_negative)
    triplet_weight: float = cli.option(1.0, "weight of the triplets; 0: none", convert=cli.not_negative)
    triplets_behind_neck: bool = cli.option(False, "true: triplets of what the classes are learnt on, too")
    images: int = cli.option(4, "images of each person in a batch; 0: each image once an epoch", convert=cli.whole(0))


@dataclass(frozen=True)
class IdentifierOptions:
    """How an identifier is made and taught; ``training.identifier.check_options`` says what is not possible."""

    architecture: str = cli.option("cosine", "original or cosine")
    hidden: list[int] = cli.option((), "widths of the layers before the classifier", convert=cli.whole(1))
    dropout: float = cli.option(0.0, "share of their values left out in training")
    score: str = cli.option("logit", "what ranks: logit or log-probability")
    loss: str = cli.option("sigmoid", "sigmoid, softmax, cosface or arcface; all but softmax are for cosine")
    scale: float = cli.option(20.0, "s of the cosines")
    margin: float = cli.option(0.1, "m of cosface and arcface (radians)")
    focal: float = cli.option(0.0, "exponent of the focal loss; 0: none")
    strangers: int = cli.option(
        1, "classes of known strangers (sigmoid has none); 0: they are left out", convert=cli.whole(0)
    )
    stranger_weight: float = cli.option(1.0, "weight of the mean loss of strangers, that of persons being 1")
    items: str = cli.option(
        "1=0.25 3=0.65 5=0.1", "of how many random items a sample is pooled: <number or all>=<share>"
    )
    batch_size: int = cli.option(256, "clips per step, all processes together", convert=cli.whole(1))
    folds: int = cli.option(0, "networks, each trained without its part of the clips, of which the mean is taken")


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, on what, and how it is measured.

    card: of the network to be; hash, data and figures are put in at the end.
    task, batches: what :func:`~vidperson.training.loop.train` gets. source: where the batches come from, to tell what
    was left out of them.
    recipe: what else the weights depend on, with the ``architecture``; plain values. data: what it is trained on, in
    words.
    validate: figures of a network that runs, with its card, after an epoch; None: there is nothing to measure it on.
    The largest ``goal`` among them is kept ("-" in front: the smallest).
    describe: figures of the exported network, for its card, on what has chosen nothing where there is such a thing;
    None: none are known.
    validated_on: digest of what ``validate`` measures on.
    valid_precision: what the network computes in then; empty: what it is trained in.
    from_the_start: the network may be kept as it begins.
    """

    card: ModelCard
    task: nn.Module
    batches: Batches
    source: ShuffledBatches
    recipe: dict[str, Any]
    data: str
    validate: Callable[[Run, ModelCard], dict[str, float]] | None
    describe: Callable[[Run, ModelCard], dict[str, Any]] | None
    goal: str
    validated_on: str
    valid_precision: str = ""
    from_the_start: bool = False


def begin(threads: int) -> None:
    """Have torch compute in so many threads. Raises EngineError where it is not installed."""
    try:
        import torch
    except ImportError:
        from vidperson.errors import EngineError

        raise EngineError("training needs the torch extra; run: utils/make_env.sh torch") from None
    torch.set_num_threads(threads)


def new_network(card: ModelCard, architecture: str, options: TrainingOptions) -> tuple[nn.Module, dict[str, Any]]:
    """The network to train, with seeded random weights or those of ``init``, and what to note of it in the recipe."""
    import torch

    from vidperson.networks.convert import build_network
    from vidperson.training.loop import start_from

    torch.manual_seed(options.settings.seed)
    network = build_network(architecture, card.input, card.output)
    note: dict[str, Any] = {"architecture": architecture}
    if options.init:
        note["init"] = start_from(network, options.init)
    return network, note


def open_teacher(folder: str, options: TaughtOptions) -> tuple[InstalledModel, Run]:
    """A teacher installed in a folder, and its network as it answers for batches.

    In bf16 where that is trained in: it is then two to three times faster on a CPU, and says the same.
    """
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    fast = options.settings.precision == "bf16" and options.engine in ("auto", "openvino")
    installed = installed_model(folder)
    return installed, open_network(installed, options.engine, "cpu", options.threads, "bf16" if fast else "fp32")


def teacher_module(installed: InstalledModel, options: TaughtOptions) -> nn.Module:
    """A teacher as a torch module, for the GPU that trains: crops and answers never leave it.

    In bf16 where that is trained in. Raises ModelError for an operator that the engine torch does not know.
    """
    from vidperson.networks.opening import as_module

    return as_module(installed, "bf16" if options.settings.precision == "bf16" else "fp32")


def taught_batches(
    source: ShuffledBatches, options: TaughtOptions, world: World, embedder: Callable[[Run, ModelCard], PictureEmbedder]
) -> tuple[list[InstalledModel], Batches, tuple[int, ...]]:
    """The teachers, the batches with what they say, and the values of an embedding of each; none: the batches only.

    embedder: a network behind its card.
    """
    from vidperson.networks.card import picture_input
    from vidperson.training.batches import TaughtBatches
    from vidperson.training.task import TeacherModule, ask_engine, ask_teachers

    opened = [open_teacher(folder, options) for folder in options.teacher]
    teachers = [embedder(run, installed.card) for installed, run in opened]
    asked: list[Callable[[Tensor], Tensor]] = []
    for (installed, _), teacher in zip(opened, teachers, strict=True):
        if world.device.type == "cuda":
            module = teacher_module(installed, options)
            pictures = picture_input(installed.card)
            asked.append(TeacherModule(module, pictures, teacher.mirror).to(world.device))
        else:
            asked.append(ask_engine(teacher.embed))
    found = [installed for installed, _ in opened], tuple(teacher.embedding_size for teacher in teachers)
    if not opened:
        return found[0], source, found[1]
    return found[0], TaughtBatches(source, ask_teachers(asked), world.device), found[1]


def data_in_words(counted: str, options: TrainingOptions, teachers: Sequence[InstalledModel] = ()) -> str:
    """What a network is trained on, for its card. counted: how many of what."""
    text = f"{counted} ({' '.join(Path(name).name for name in options.train_data)})"
    for teacher in teachers:
        text += f"; teacher {teacher.card.name}, trained on {teacher.card.training_data}"
    return text


def run_plan(plan: TrainingPlan, options: TrainingOptions, world: World, draw: Draw) -> dict[str, Any]:
    """Train to the end, and export the best epoch's network.

    Returns the figures of the exported file: {} without anything to measure it on, and in all processes but the first.
    Raises TrainingError while another training is at work in the folder.
    """
    with alone_in(options.folder, world):
        best = train_plan(plan, options, world, draw, options.folder)
        return export(plan, options, best) if world.rank == 0 else {}


@contextmanager
def alone_in(folder: Path, world: World) -> Iterator[None]:
    """Keep other trainings out of a folder for the time of the block. Raises TrainingError while one is at work.

    The lock is of this process: it ends with it, also by a kill, and those that load data do not inherit it.
    """
    if world.rank:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):  # else the disk knows no locks
                message = "another training is at work in it; wait for it or end it, or train another name"
                raise TrainingError(f"{folder}: {message}") from None
        yield


def train_plan(
    plan: TrainingPlan, options: TrainingOptions, world: World, draw: Draw, folder: Path
) -> dict[str, float]:
    """Train to the end in a folder; returns what is known of the best epoch.

    See :func:`~vidperson.training.loop.train`.
    """
    from vidperson.training.export import as_engine
    from vidperson.training.loop import train

    how = options.settings
    folder.mkdir(parents=True, exist_ok=True)

    def validate(network: nn.Module) -> dict[str, float]:
        assert plan.validate is not None
        return plan.validate(as_engine(network, world.device, plan.valid_precision or how.precision), plan.card)

    validates = validate if plan.validate else None
    report = reporter(folder, plan.source.steps_per_epoch, draw)
    to_measure = validates, plan.goal, plan.validated_on
    best = train(plan.task, plan.batches, how, folder, world, *to_measure, plan.recipe, report, plan.from_the_start)
    if world.rank == 0:
        warn_of_left_out(plan.source)
        draw_curves(folder, draw)
    return best


def run_file(path: Path, card: ModelCard, options: TrainingOptions) -> Run:
    """A network's file as an engine runs it on the CPU."""
    from vidperson.networks.install import InstalledModel
    from vidperson.networks.opening import open_network

    return open_network(InstalledModel(card, path, ""), options.engine, "cpu", options.threads)


def reporter(folder: Path, steps_per_epoch: int, draw: Draw) -> Callable[[int, int], None]:
    """What :func:`~vidperson.training.loop.train` calls with steps done and in all: progress, and after an
    epoch the curves, unless they were drawn within the last minute.
    """
    from vidperson.progress import Progress

    progress: list[Progress] = []
    drawn = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal drawn
        if not progress:
            progress.append(Progress(total, "steps", done=done))
        elif done > progress[0].done:
            progress[0].step(done - progress[0].done)
        if done and done % steps_per_epoch == 0 and time.monotonic() - drawn >= DRAW_EVERY_S:
            draw_curves(folder, draw)
            drawn = time.monotonic()

    return report


def draw_curves(folder: Path, draw: Draw) -> None:
    """Draw the log of a training run as curves.png."""
    from vidperson.io.atomic import atomic_write
    from vidperson.training.loop import read_log

    with atomic_write(folder / "curves.png", "wb") as stream:
        stream.write(draw(read_log(folder)))


def export(plan: TrainingPlan, options: TrainingOptions, best: dict[str, float]) -> dict[str, Any]:
    """Export the best epoch's network, and write its card with the figures of that very file, which are returned.

    best: what is known of that epoch.
    """
    from vidperson.training.export import export_best, write_card

    folder = options.folder
    card = dataclasses.replace(plan.card, training_data=plan.data)
    card = export_best(folder, card, plan.recipe["architecture"], options.half_weights)
    figures = plan.describe(run_file(folder / card.file.name, card, options), card) if plan.describe else {}
    settings = dataclasses.asdict(options.settings)
    training = {"best_epoch": int(best["epoch"]) + 1, **plan.recipe, **settings}
    write_card(folder, dataclasses.replace(card, training=training, figures=figures))
    return figures


def warn_of_left_out(source: ShuffledBatches) -> None:
    """Say how many items could not be used; each of them has been named."""
    if source.broken:
        by = f" by process 1 of {source.ranks}" if source.ranks > 1 else ""
        logging.warning("%d items were left out%s; they are named above", len(source.broken), by)
