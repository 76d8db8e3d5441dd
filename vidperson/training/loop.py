"""The training loop, whatever is trained: optimiser, schedule, precision, several GPUs, checkpoints, log.

What is trained is a *task*: a module with a ``network``, which is what is wanted in the end. Its call takes a batch's
tensors by name and returns scalar tensors by name, among them ``loss``. Heads and projections are parts of the task.
It may have a method ``parameter_groups``: the optimiser's groups, each a dict of ``params``, and where they differ from
the settings ``rate``, a factor of the learning rate, and ``weight_decay``. The optimiser muon has groups of its own.
It may have ``begin_step``, which is called before each step with the epochs since the start, a fraction among them; and
``kept``, what is kept in best.pt beside the network, tensors and plain values.

A run that was stopped and resumes gives the same weights, bit for bit, as one that was not: the checkpoint holds
weights, optimiser, loss scale, averages and position, and torch's generator is seeded again at each step from seed,
step and rank, so that no state of a generator outlives a step.

Several processes: started by ``torchrun``, gradients are averaged over all (DistributedDataParallel).
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vidperson.errors import DataError, EngineError, ModelError, TrainingError
from vidperson.io.atomic import atomic_write
from vidperson.io.record import sha256
from vidperson.networks.architectures.backbones import load_backbone
from vidperson.networks.convert import why_not_loaded
from vidperson.training.muon import Muon
from vidperson.training.settings import Settings

CHECKPOINT, BEST, LOG = "last.pt", "best.pt", "log.jsonl"


class Batches(Protocol):
    """Where batches come from: the same ones for the same epoch and step, those of this process's rank."""

    steps_per_epoch: int

    def __call__(self, epoch: int, first_step: int) -> Iterable[dict[str, Tensor]]: ...


def learning_rate(settings: Settings, step: int, steps_per_epoch: int) -> float:
    """The rate of a step, from 0; a function of only the step, so that a scheduler has no state to save."""
    epoch = step / steps_per_epoch
    rise = min(1.0, (step + 1) / (settings.warmup_epochs * steps_per_epoch)) if settings.warmup_epochs else 1.0
    if settings.schedule == "cosine":
        return settings.lr * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / settings.epochs)))
    if isinstance(settings.decay_epochs, int):
        return settings.lr * rise * settings.decay ** (int(epoch) // settings.decay_epochs)
    return settings.lr * rise * settings.decay ** sum(after <= epoch for after in settings.decay_epochs)


@dataclass(frozen=True)
class World:
    """This process among those of ``torchrun``, and its device."""

    rank: int
    ranks: int
    device: torch.device


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, if it did, for the time of the block.

    device: cpu or cuda. Raises EngineError for a GPU that was asked for and is not there.
    """
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device not in ("cpu", "cuda"):
        raise EngineError(f"training runs on cpu or cuda, '{device}' was asked for")
    if device == "cuda" and torch.cuda.device_count() <= local:
        found = f"torch sees {torch.cuda.device_count()}"
        raise EngineError(f"GPU number {local} was asked for, {found}; --train-gpus 0 uses the CPU")
    if device == "cuda":
        torch.cuda.set_device(local)
    if ranks > 1:
        # The others wait while the first one validates, which may take longer than the ten or thirty minutes that they
        # would wait otherwise. Processes that have died are noticed by torchrun.
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(days=1))
    logging.info("training on %s, process %d of %d", device, rank + 1, ranks)
    try:
        yield World(rank, ranks, torch.device(device, local) if device == "cuda" else torch.device("cpu"))
    finally:
        if ranks > 1:
            torch.distributed.destroy_process_group()


@contextmanager
def first_alone(world: World) -> Iterator[None]:
    """The first process passes the block alone, for what it leaves on the disk; then all others do."""
    if world.rank:
        torch.distributed.barrier()
    yield
    if world.ranks > 1 and not world.rank:
        torch.distributed.barrier()


def train(
    task: nn.Module,
    batches: Batches,
    settings: Settings,
    folder: Path,
    world: World,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    goal: str = "",
    validated_on: str = "",
    recipe: dict[str, Any] | None = None,
    on_log: Callable[[int, int], None] = lambda done, total: None,
    from_the_start: bool = False,
) -> dict[str, float]:
    """Train to the end, from the checkpoint in ``folder`` where there is one; returns the figures of the best network.

    validate: figures of a network in evaluation mode, called on rank 0 after every ``valid_epochs``; the epoch with the
    largest ``goal`` (with a leading "-": the smallest) is kept in best.pt; without ``validate``, the last epoch.
    validated_on: digest of what it measures on; where that has changed, the epoch is chosen among those to come.
    recipe: what else the weights depend on, plain values; a checkpoint of another recipe is refused.
    on_log(done, total): optimiser steps.
    from_the_start: the network is also validated, and may be kept, as it begins; then its epoch is -1.
    Raises TrainingError when a loss is not finite, naming the step, or when the checkpoint is of other settings or of
    more epochs.
    """
    run = _Run(task, batches, settings, folder, world, recipe or {})
    run.choose_by(validate, goal, validated_on)
    if from_the_start and validate and not run.step:
        run.chosen_at = -1
    return run.go(on_log)


class _Run:
    def __init__(
        self,
        task: nn.Module,
        batches: Batches,
        settings: Settings,
        folder: Path,
        world: World,
        recipe: dict[str, Any],
    ) -> None:
        self.task, self.batches, self.settings, self.folder, self.world = task, batches, settings, folder, world
        self.recipe = json.loads(json.dumps({**_lasting(settings), "ranks": world.ranks, **recipe}))
        # Channels last: convolutions in bf16 are up to 15 times faster on a CPU, and faster on GPUs.
        task.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = _optimiser(task, settings)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "fp16")
        self.average: nn.Module | None = None
        if settings.ema or settings.average:
            self.average = copy.deepcopy(self.trained).eval()
        self.total = settings.epochs * batches.steps_per_epoch
        self.step = 0
        self.chosen_at = 0  # the last step at which the network was compared with the best one
        self.best: dict[str, float] = {}
        self.validated_on: str | None = None
        self.validate: Callable[[nn.Module], dict[str, float]] | None = None
        self.goal = ""
        if (folder / CHECKPOINT).is_file():
            self._resume()
        self.wrapped = task
        if world.ranks > 1:
            # Looking for unused parameters keeps gradients in the places that they are first given. Else they get
            # others after the first step, of a run that goes on too, and three processes add them in another order.
            self.wrapped = nn.parallel.DistributedDataParallel(
                task,
                device_ids=[world.device.index] if world.device.type == "cuda" else None,
                find_unused_parameters=True,
            )

    @property
    def trained(self) -> nn.Module:
        network = self.task.network
        assert isinstance(network, nn.Module)
        return network

    @property
    def network(self) -> nn.Module:
        """What is validated and kept: the mean of the last epochs at the end only."""
        if self.average is None or (self.settings.average and self.step < self.total):
            return self.trained
        return self.average

    def choose_by(self, validate: Callable[[nn.Module], dict[str, float]] | None, goal: str, validated_on: str) -> None:
        """How rank 0 chooses the epoch to keep. Figures on other data are no measure for those to come."""
        if validate is None:
            validated_on = ""
        known = self.validated_on is not None  # not where a run has just begun, nor in an older checkpoint
        if self.world.rank == 0 and known and self.validated_on != validated_on:
            logging.info("validation is on other data than before: the best epoch is chosen among those to come")
            self.best = {name: value for name, value in self.best.items() if name == "epoch"}
        self.validate, self.goal, self.validated_on = validate, goal, validated_on

    def go(self, on_log: Callable[[int, int], None]) -> dict[str, float]:
        per_epoch = self.batches.steps_per_epoch
        log = _Log(self.folder, self.step, self.chosen_at) if self.world.rank == 0 else None
        if log:
            on_log(self.step, self.total)
        self._choose(log)  # the run may have ended in the midst of it
        while self.step < self.total:
            epoch, first = divmod(self.step, per_epoch)
            self.task.train()
            sums: dict[str, float] = {}
            since, crops, lines = time.monotonic(), 0, 0
            for batch in self.batches(epoch, first):
                terms = self._update(batch)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value
                lines += 1
                crops += len(next(iter(batch.values()))) * self.world.ranks
                ends = self.step % per_epoch == 0
                if log and (ends or self.step % self.settings.log_steps == 0):
                    rate = crops / max(1e-9, time.monotonic() - since)
                    values = {name: value / lines for name, value in sums.items()}
                    log.write(
                        "train",
                        self.step,
                        epoch,
                        {**values, "lr": self.optimiser.param_groups[0]["lr"], "items_per_s": rate},
                    )
                    on_log(self.step, self.total)
                    sums, since, crops, lines = {}, time.monotonic(), 0, 0
                saves = self.step % self.settings.save_steps == 0
                if ends or saves:
                    self._refuse_unless_sound()
                if ends:
                    break
                if saves:
                    self._save()
            self._save()  # before the validation: should that fail, the epoch is not lost
            self._choose(log)
        return self.best

    def _choose(self, log: _Log | None) -> None:
        """At the end of an epoch, once: validate where that is due, and keep the network if it is the best.

        log: of rank 0, which does it; the others wait.
        """
        done, within = divmod(self.step, self.batches.steps_per_epoch)
        validates = self.validate is not None
        due = not validates or done % self.settings.valid_epochs == 0 or self.step == self.total
        if log and due and not within and self.chosen_at < self.step:
            figures = self.validate(self.network.eval()) if self.validate else {}
            if validates:
                log.write("validate", self.step, done - 1, figures)
            name, sign = self.goal.removeprefix("-"), -1 if self.goal.startswith("-") else 1
            best = self.best.get(name)
            keeps = not validates or best is None or sign * figures[name] > sign * best
            if validates:
                beside = "the best so far" if keeps else f"the best one has {best:.4g}"
                logging.info("epoch %d: %s %.4g, %s", done, name, figures[name], beside)
            if keeps:
                self._keep(figures, done - 1)
            self.chosen_at = self.step
            self._save()
        self._wait()

    def _update(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step of the optimiser; returns the loss's terms."""
        settings, device = self.settings, self.world.device
        torch.manual_seed((settings.seed * 1_000_003 + self.step) * 4099 + self.world.rank)
        if hasattr(self.task, "begin_step"):
            self.task.begin_step(self.step / self.batches.steps_per_epoch)  # type: ignore[operator]
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings, self.step, self.batches.steps_per_epoch) * group.get("rate", 1.0)
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        with autocast(device.type, settings.precision):
            terms: dict[str, Tensor] = self.wrapped(**batch)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(terms["loss"]).backward()
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.get_total_norm([each.grad for each in self.task.parameters() if each.grad is not None])
        if settings.clip:
            nn.utils.clip_grads_with_norm_(self.task.parameters(), settings.clip, norm)
        # All at once: each number that is brought from a GPU waits until it has done all that it was told.
        numbers = torch.stack([value.detach().float() for value in (*terms.values(), norm)]).tolist()
        values = dict(zip(terms, numbers[:-1], strict=True))
        for name, value in values.items():
            self._refuse_unless_finite(name, value)
        if not self.scaler.is_enabled():  # in fp16 such steps are passed over, and the loss is scaled less
            self._refuse_unless_finite("the gradient", numbers[-1])
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        if self.average is not None and settings.ema:
            _move_average(self.average, self.trained, min(settings.ema, self.step / (self.step + 10)))
        done, within = divmod(self.step, self.batches.steps_per_epoch)
        taken = done - (settings.epochs - settings.average)  # of the epochs that are averaged, this one included
        if self.average is not None and settings.average and not within and taken > 0:
            _move_average(self.average, self.trained, 1 - 1 / taken)
        return values

    def _refuse_unless_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"step {self.step} (epoch {self.step // self.batches.steps_per_epoch}): {name} is {value}; lower the "
                "learning rate, raise warmup_epochs, set clip, or use bf16 or fp32 (each under another name); "
                f"{self.folder / CHECKPOINT} is of before"
            )

    def _content(self) -> dict[str, Any]:
        return {
            "recipe": json.dumps(self.recipe),
            "step": self.step,
            "task": self.task.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "best": self.best,
            "chosen_at": self.chosen_at,
            "validated_on": self.validated_on,
        }

    def _refuse_unless_sound(self) -> None:
        """The last update may have been one too many, without any loss that shows it."""
        for name, value in self.task.state_dict().items():
            if not torch.isfinite(value).all():
                self._refuse_unless_finite(name, math.nan)

    def _save(self) -> None:
        if self.world.rank == 0:
            with atomic_write(self.folder / CHECKPOINT, "wb") as stream:
                torch.save(self._content(), stream)

    def _keep(self, figures: dict[str, float], epoch: int) -> None:
        self.best = {"epoch": epoch, **figures}
        with atomic_write(self.folder / BEST, "wb") as stream:
            beside = self.task.kept() if hasattr(self.task, "kept") else {}  # type: ignore[operator]
            torch.save({"network": self.network.state_dict(), "best": self.best, **beside}, stream)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        content = load_checkpoint(path)
        if not isinstance(content, dict) or "recipe" not in content:
            raise TrainingError(
                f"{path}: expected what a run resumes from, found something else, such as only the weights of {BEST}; "
                "remove it to begin again"
            )
        mine, found = self.recipe, json.loads(content["recipe"])
        names = sorted(mine.keys() | found.keys())
        other = [f"{name} {found.get(name)} -> {mine.get(name)}" for name in names if mine.get(name) != found.get(name)]
        if other:
            raise TrainingError(
                f"{path}: was made with other settings: {', '.join(other)}; train another name, or remove the folder"
            )
        if content["step"] > self.total:
            done = math.ceil(content["step"] / self.batches.steps_per_epoch)
            raise TrainingError(
                f"{path}: expected at most {self.total} steps, as in {self.settings.epochs} epochs, found "
                f"{content['step']}; ask for {done} epochs or more, or train another name"
            )
        try:
            self.task.load_state_dict(content["task"])
        except RuntimeError:
            raise TrainingError(f"{path}: was made by another version; train another name, or remove it") from None
        self.optimiser.load_state_dict(content["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.scaler.load_state_dict(content["scaler"])
        self.step, self.best = content["step"], content["best"]
        # Older checkpoints do not say; they were written when the epoch had been chosen.
        self.chosen_at = content.get("chosen_at", self.step if self.best else 0)
        self.validated_on = content.get("validated_on")
        logging.info("%s: resuming at step %d", path, self.step)

    def _wait(self) -> None:
        if self.world.ranks > 1:
            torch.distributed.barrier()


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Where ``precision`` is bf16 or fp16, convolutions and products are computed in it for the time of the block."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device, kind) if kind else nullcontext()


def load_checkpoint(path: Path, remedy: str = "remove it to begin again") -> dict[str, Any]:
    """What a checkpoint holds. Raises TrainingError, with the remedy, for a file that is damaged or holds more than
    tensors."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged file leads it to
        raise TrainingError(f"{path}: not a checkpoint: {why_not_loaded(path, error)}; {remedy}") from None
    return content


def start_from(network: nn.Module, path: str) -> str:
    """Give a network the weights of an earlier run's ``best.pt``; returns what to write down of it.

    Raises TrainingError for a file that is not one, or that is of a network of other layers, naming the first.
    """
    content = load_checkpoint(Path(path), f"name the {BEST} of an earlier run to start from")
    found: Any = content.get("network") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise TrainingError(f"{path}: no weights in it; name the {BEST} of an earlier run to start from")
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | found.keys()):
        shapes = [list(weights[name].shape) if name in weights else "nothing" for weights in (wanted, found)]
        if shapes[0] != shapes[1]:
            raise TrainingError(f"{path}: {name}: expected {shapes[0]}, found {shapes[1]}; it is of another network")
    network.load_state_dict(found)
    return f"{Path(path).name} {sha256(Path(path))}"


def start_centres(weight: Tensor, classes: Sequence[str], path: str) -> int:
    """Give classes the centres that they had in the run of a ``best.pt``; returns of how many there were some.

    weight: (C, centres, values), of the classes of these names; it is changed. Raises TrainingError as
    :func:`start_from`.
    """
    content = load_checkpoint(Path(path), f"name the {BEST} of an earlier run to start from")
    names, centres = content.get("classes"), content.get("centres")
    if not isinstance(names, list) or not isinstance(centres, list) or not centres:
        return 0
    known = {name: number for number, name in enumerate(names)}
    here = [number for number, name in enumerate(classes) if name in known]
    if centres[0].shape[1:] != weight.shape[1:] or len(centres[0]) != len(names):
        return 0
    with torch.no_grad():
        weight[here] = centres[0][[known[classes[number]] for number in here]]
    return len(here)


def start_backbone(network: nn.Module, path: str) -> str:
    """Give a network for re-identification the weights of a backbone learnt on ImageNet; returns what to note of it.

    Raises TrainingError for a file that holds no weights, ModelError for those of another backbone, naming the first.
    """
    remedy = "name a file of weights learnt on ImageNet, as torchvision or torchreid publish them"
    content = load_checkpoint(Path(path), remedy)
    weights: Any = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise TrainingError(f"{path}: no weights in it; {remedy}")
    try:
        load_backbone(network, weights)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return f"{Path(path).name} {sha256(Path(path))}"


def _lasting(settings: Settings) -> dict[str, Any]:
    """The settings that the weights depend on; with the step schedule a run may be made longer afterwards."""
    longer = settings.schedule == "step" and not settings.average
    free = {"valid_epochs", "save_steps", "log_steps"} | ({"epochs"} if longer else set())
    free |= set() if settings.average else {"average"}
    return {name: value for name, value in asdict(settings).items() if name not in free}


def _optimiser(task: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    groups = task.parameter_groups() if hasattr(task, "parameter_groups") else parameters  # type: ignore[operator]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    if settings.optimiser == "muon":
        network = {id(parameter) for parameter in task.network.parameters() if parameter.ndim > 1}  # type: ignore[union-attr]
        matrices = [parameter for parameter in parameters if id(parameter) in network]
        others = [parameter for parameter in parameters if id(parameter) not in network]
        return Muon(matrices, others, settings.lr, settings.weight_decay)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    # Fused: all parameters in one call, ten times faster for small networks.
    return kind(groups, settings.lr, weight_decay=settings.weight_decay, fused=True)


@torch.no_grad()
def _move_average(average: nn.Module, network: nn.Module, past: float) -> None:
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([mean for mean, _ in floats], [value for _, value in floats], 1 - past)
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)


class _Log:
    """Lines of JSON, one per report; lines after the checkpoint that a run resumes from are dropped, and the figures
    of a validation that is made again.

    The same as TensorBoard scalars where the package tensorboard is installed.
    """

    def __init__(self, folder: Path, step: int, chosen_at: int) -> None:
        self.path = folder / LOG
        last = {"train": step, "validate": chosen_at}
        kept = [line for line in read_log(folder) if line["step"] <= last[line["kind"]]] if step else []
        with atomic_write(self.path) as stream:
            stream.writelines(json.dumps(line) + "\n" for line in kept)
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(os.fspath(folder / "tensorboard"), purge_step=step + 1)

    def write(self, kind: str, step: int, epoch: int, values: dict[str, float]) -> None:
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"kind": kind, "step": step, "epoch": epoch, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)
            self.board.flush()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a training log, oldest first; none where there is no log yet.

    Raises DataError for a line in the midst that is no JSON object.
    """
    path = folder / LOG
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            raise DataError("not a line of the training log", path, number)
        entries.append(entry)
    return entries
