"""How to train, whatever is trained: the settings of the loop, which are options of every training step."""

from __future__ import annotations

from dataclasses import dataclass

from vidperson import cli
from vidperson.errors import TrainingError

OPTIMISERS = ("adam", "adamw", "muon", "sgd")
SCHEDULES = ("step", "cosine")
PRECISIONS = ("fp32", "bf16", "fp16")


def _epochs(text: str) -> int | list[int]:
    """One whole number, or several with spaces between."""
    numbers = [cli.whole(1)(word) for word in text.split()]
    return numbers[0] if len(numbers) == 1 else numbers


@dataclass(frozen=True)
class Settings:
    """Each field is an option of the training steps. Raises TrainingError for a value that is not possible.

    schedule: "step": lr * decay ^ (epoch // decay_epochs), or, of several decay_epochs, lr * decay ^ (how many of them
    have passed); "cosine": to 0 at the end. Both after a linear rise over warmup_epochs.
    average: the network of the last epoch is then the mean of those at the ends of so many epochs.
    save_steps, log_steps: in optimiser steps; a checkpoint is also written after each epoch.
    """

    epochs: int = cli.option(40, "passes over the data")
    optimiser: str = cli.option("adam", "adam, adamw, muon or sgd")
    lr: float = cli.option(0.001, "learning rate")
    weight_decay: float = cli.option(0.0, "weight decay")
    momentum: float = cli.option(0.9, "momentum of sgd")
    schedule: str = cli.option("step", "step (times decay after decay-epochs) or cosine (to 0)")
    decay: float = cli.option(0.97, "factor of the step schedule")
    decay_epochs: int | list[int] = cli.option(
        1, "epochs between its steps; several, such as '30 35': after which epochs it steps", convert=_epochs
    )
    warmup_epochs: float = cli.option(0.0, "epochs in which the rate rises linearly")
    clip: float = cli.option(0.0, "largest norm of the gradient; 0: any")
    ema: float = cli.option(0.0, "running average of the weights, validated and kept: share of the past; 0: none")
    average: int = cli.option(0, "last epochs, the mean of the weights of which ends the training; 0: none")
    precision: str = cli.option("fp32", "fp32, or autocast to bf16 or fp16")
    seed: int = cli.option(0, "seed of everything random, less than 2^32")
    valid_epochs: int = cli.option(1, "epochs between validations; the last epoch is always validated")
    save_steps: int = cli.option(500, "steps between checkpoints within an epoch")
    log_steps: int = cli.option(20, "steps between lines of the log")

    def __post_init__(self) -> None:
        for name, valid in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in valid:
                raise TrainingError(f"{name}: expected one of {' '.join(valid)}, found '{getattr(self, name)}'")
        for name in ("epochs", "lr", "decay", "valid_epochs", "save_steps", "log_steps"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name}: expected more than 0, found {getattr(self, name)}")
        steps = [self.decay_epochs] if isinstance(self.decay_epochs, int) else self.decay_epochs
        if not steps or min(steps) < 1 or sorted(set(steps)) != steps:
            raise TrainingError(
                f"decay_epochs: expected a number from 1 on, or several that rise, found {self.decay_epochs}"
            )
        if not 0 <= self.average <= self.epochs or (self.average and self.ema):
            raise TrainingError(
                f"average: expected at most the {self.epochs} epochs that there are, and no ema beside it, found "
                f"{self.average} and ema {self.ema}"
            )
        for name in ("weight_decay", "warmup_epochs", "clip", "seed"):
            if not getattr(self, name) >= 0:
                raise TrainingError(f"{name}: expected 0 or more, found {getattr(self, name)}")
        if self.seed >= 2**32:
            raise TrainingError(f"seed: expected less than 2^32 = {2**32}, found {self.seed}")
        for name in ("ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"{name}: expected at least 0 and less than 1, found {getattr(self, name)}")
