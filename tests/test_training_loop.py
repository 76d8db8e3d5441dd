"""The loop on a task of a few numbers: schedules, precision, checkpoints that go on bit for bit, what stops it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidperson import cli
from vidperson.errors import DataError, EngineError, TrainingError

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from torch import Tensor, nn  # noqa: E402

from vidperson.training.command import alone_in  # noqa: E402
from vidperson.training.loop import (  # noqa: E402
    BEST,
    CHECKPOINT,
    LOG,
    World,
    join_world,
    learning_rate,
    load_checkpoint,
    read_log,
    start_from,
    train,
)
from vidperson.training.settings import Settings  # noqa: E402

HERE = World(0, 1, torch.device("cpu"))


class Killed(Exception):
    """As if the process had ended."""


class Task(nn.Module):
    """Batch norm, dropout and a frozen number: everything that has a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        self.network[1].weight.requires_grad_(False)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(self.head(self.network(x)).float(), y)}


class Numbers:
    """Three heaps of numbers to tell apart; ends the process before a step if told so."""

    steps_per_epoch = 5

    def __init__(self, killed_at: int | None = None, spoilt_at: int | None = None) -> None:
        self.killed_at, self.spoilt_at = killed_at, spoilt_at

    def __call__(self, epoch: int, first_step: int = 0) -> Iterator[dict[str, Tensor]]:
        for step in range(first_step, self.steps_per_epoch):
            number = epoch * self.steps_per_epoch + step
            if number == self.killed_at:
                raise Killed
            rng = torch.Generator().manual_seed(number)
            y = torch.randint(0, 3, (12,), generator=rng)
            x = torch.randn(12, 4, generator=rng) + 2 * nn.functional.one_hot(y, 4)
            yield {"x": x * math.nan if number == self.spoilt_at else x, "y": y}


def run(folder: Path, batches: Numbers | None = None, **settings: Any) -> Task:
    folder.mkdir(exist_ok=True)
    task = Task()
    how = Settings(**({"epochs": 4, "lr": 0.02, "save_steps": 2, "log_steps": 1} | settings))
    train(task, batches or Numbers(), how, folder, HERE)
    return task


def judged(
    folder: Path, figures: list[float], on: str = "", batches: Numbers | None = None, **settings: Any
) -> dict[str, float]:
    """Train with a validation that gives one figure after the other, and fails behind the last; what was kept."""
    folder.mkdir(exist_ok=True)
    to_come = iter(figures)

    def validate(network: nn.Module) -> dict[str, float]:
        if (figure := next(to_come, None)) is None:
            raise Killed
        return {"good": figure}

    how = Settings(**({"epochs": 4, "lr": 0.02, "log_steps": 1} | settings))
    kept = train(Task(), batches or Numbers(), how, folder, HERE, validate, "good", on)
    assert next(to_come, None) is None
    return kept


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool((first == second).all()) if isinstance(first, Tensor) else first == second


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimiser": "adamw", "schedule": "cosine", "warmup_epochs": 1.5, "ema": 0.9, "clip": 1.0},
        {"optimiser": "sgd", "precision": "bf16", "weight_decay": 0.01},
        {"optimiser": "sgd", "precision": "fp16", "ema": 0.5, "clip": 0.5},
        {"optimiser": "muon", "precision": "bf16", "weight_decay": 0.01},
    ],
    ids=["adam", "adamw-cosine-ema-clip", "sgd-bf16", "sgd-fp16", "muon-bf16"],
)
def test_run_killed_twice_within_epochs_equals_an_undisturbed_one_bit_for_bit(tmp_path: Path, settings: dict) -> None:
    run(tmp_path / "whole", **settings)
    for killed_at in (3, 14):  # the first after the checkpoint of step 2, the second within the third epoch
        with pytest.raises(Killed):
            run(tmp_path / "killed", Numbers(killed_at), **settings)
    run(tmp_path / "killed", **settings)
    for name in (CHECKPOINT, BEST):
        whole, again = (load_checkpoint(tmp_path / folder / name) for folder in ("whole", "killed"))
        assert equal(whole, again), name
    logs = [[(e["step"], e["loss"]) for e in read_log(tmp_path / folder)] for folder in ("whole", "killed")]
    assert logs[0] == logs[1] and len(logs[0]) == 20


def test_run_from_another_seed_differs(tmp_path: Path) -> None:
    """The comparison above can fail: dropout depends on the seed."""
    first, second = run(tmp_path / "a"), run(tmp_path / "b", seed=1)
    assert not equal(first.state_dict(), second.state_dict())


@pytest.mark.parametrize(
    ("optimiser", "precision"), [("adam", "fp32"), ("adamw", "bf16"), ("sgd", "fp16"), ("muon", "fp16")]
)
def test_loss_falls_with_every_optimiser_and_precision(tmp_path: Path, optimiser: str, precision: str) -> None:
    run(tmp_path, epochs=8, optimiser=optimiser, precision=precision, lr=0.1 if optimiser == "sgd" else 0.02)
    losses = [entry["loss"] for entry in read_log(tmp_path)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_finished_run_called_again_does_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes(), (tmp_path / "log.jsonl").read_bytes()
    run(tmp_path, Numbers(killed_at=0))
    assert before == ((tmp_path / CHECKPOINT).read_bytes(), (tmp_path / "log.jsonl").read_bytes())


def test_run_made_longer_equals_one_that_was_as_long_from_the_start(tmp_path: Path) -> None:
    run(tmp_path / "whole", epochs=4)
    run(tmp_path / "longer", epochs=2)
    assert equal(
        run(tmp_path / "longer", epochs=4).state_dict(), load_checkpoint(tmp_path / "whole" / CHECKPOINT)["task"]
    )


def test_start_from_takes_the_weights_of_the_best_epoch_and_writes_down_which(tmp_path: Path) -> None:
    trained = run(tmp_path)
    network = Task().network
    assert not equal(network.state_dict(), trained.network.state_dict())
    hash_of_file = hashlib.sha256((tmp_path / BEST).read_bytes()).hexdigest()
    assert start_from(network, str(tmp_path / BEST)) == f"{BEST} {hash_of_file}"
    assert equal(network.state_dict(), trained.network.state_dict())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(4, 2), r"best.pt: 0.bias: expected \[16\], found nothing; it is of another network"),
        (nn.Sequential(nn.Linear(5, 16)), r"best.pt: 0.weight: expected \[16, 4\], found \[16, 5\]; it is of another"),
        (None, r"best.pt: not a checkpoint: no such file or directory; name the best.pt of an earlier run"),
    ],
    ids=["other layers", "other shapes", "not there"],
)
def test_start_from_what_does_not_fit_is_refused(tmp_path: Path, other: nn.Module | None, message: str) -> None:
    if other is not None:
        torch.save({"network": other.state_dict()}, tmp_path / BEST)
    with pytest.raises(TrainingError, match=message):
        start_from(Task().network, str(tmp_path / BEST))


@pytest.mark.parametrize("content", [[], {"network": [1]}, {"network": {"0.weight": 1}}, {}])
def test_start_from_a_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / BEST)
    with pytest.raises(TrainingError, match=r"best.pt: no weights in it; name the best.pt of an earlier run"):
        start_from(Task().network, str(tmp_path / BEST))


def test_checkpoint_of_other_settings_is_refused_with_the_difference(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(TrainingError, match=r"last.pt: was made with other settings: lr 0.02 -> 0.5; train another"):
        run(tmp_path, lr=0.5)


def test_checkpoint_cut_short_or_with_code_in_it_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / CHECKPOINT
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match=r"last.pt: not a checkpoint: it is damaged, or its end is missing; remove"):
        run(tmp_path)
    torch.save({"step": Path("x")}, path)
    with pytest.raises(TrainingError, match=r"last.pt: not a checkpoint: it holds more than tensors, such as code"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>not found", "PyTorch did not write it; it begins with '<html>no'"), (b"", "the file is empty")],
)
def test_checkpoint_that_pytorch_did_not_write_is_refused_with_what_it_begins_with(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / BEST).write_bytes(content)
    with pytest.raises(TrainingError, match=f"best.pt: not a checkpoint: {reason}; name the best.pt"):
        start_from(Task().network, str(tmp_path / BEST))


def test_second_training_in_a_folder_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    lines = ["import pathlib, sys, types", "from vidperson.training.command import alone_in"]
    lines += ["with alone_in(pathlib.Path(sys.argv[1]), types.SimpleNamespace(rank=0)):"]
    lines += ["    print('at work', flush=True)", "    sys.stdin.read()"]
    call = [sys.executable, "-c", "\n".join(lines), str(tmp_path / "x")]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdout.readline() == "at work\n"
        refused = pytest.raises(TrainingError, match="x: another training is at work in it; wait")
        with refused, alone_in(tmp_path / "x", HERE):
            pass
        with alone_in(tmp_path / "x", World(1, 2, HERE.device)):  # others of the same training
            pass
        first.kill()
    with alone_in(tmp_path / "x", HERE):
        pass


def test_best_weights_in_the_place_of_the_checkpoint_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / BEST).replace(tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match=r"expected what a run resumes from, .* only the weights of best.pt"):
        run(tmp_path)


def test_loss_that_is_not_finite_stops_and_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 7 \(epoch 1\): loss is nan; lower the learning rate.* is of before"):
        run(tmp_path, Numbers(spoilt_at=7))
    content = load_checkpoint(tmp_path / CHECKPOINT)
    assert content["step"] == 6 and all(torch.isfinite(value.float()).all() for value in content["task"].values())
    whole = run(tmp_path / "whole")
    assert equal(run(tmp_path).state_dict(), whole.state_dict())  # with the cause mended it goes on


class Overflowing(torch.autograd.Function):
    """Finite forwards, infinite backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


class Spoiling(Task):
    """Its losses are finite, its gradients from the fifth step on, the last of an epoch, are not."""

    steps = 0

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        self.steps += 1
        return super().forward(Overflowing.apply(self.network[0].weight.sum()) * 0 + x if self.steps == 5 else x, y)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path: Path, clip: float) -> None:
    settings = Settings(epochs=2, lr=0.02, save_steps=2, clip=clip)
    with pytest.raises(TrainingError, match=r"step 4 \(epoch 0\): the gradient is (nan|inf); lower"):
        train(Spoiling(), Numbers(), settings, tmp_path, HERE)
    content = load_checkpoint(tmp_path / CHECKPOINT)
    assert content["step"] == 4 and all(torch.isfinite(value.float()).all() for value in content["task"].values())
    train(Task(), Numbers(), settings, tmp_path, HERE)  # with the cause mended it goes on


def test_weights_that_are_not_finite_are_neither_saved_nor_kept(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 1 \(epoch 0\): \S+ is nan; lower the learning rate"):
        run(tmp_path, save_steps=1, lr=1e39)  # more than float32 holds
    assert not (tmp_path / CHECKPOINT).exists() and not (tmp_path / BEST).exists()


def test_validation_added_to_a_run_begun_without_it_chooses_among_the_epochs_to_come(tmp_path: Path) -> None:
    run(tmp_path, epochs=2)
    figures = iter([{"good": 0.2}, {"good": 0.1}])
    kept = train(Task(), Numbers(), Settings(epochs=4, lr=0.02), tmp_path, HERE, lambda network: next(figures), "good")
    assert kept == {"epoch": 2, "good": 0.2}


def test_validation_on_another_list_chooses_among_the_epochs_to_come(tmp_path: Path) -> None:
    assert judged(tmp_path, [0.9, 0.8], "first list", epochs=2)["epoch"] == 0
    assert judged(tmp_path, [0.1, 0.2], "second list") == {"epoch": 3, "good": 0.2}
    assert judged(tmp_path, [], "third list") == {"epoch": 3}  # none to come: it stays, with figures of another list


def test_validation_on_the_same_list_or_from_an_older_checkpoint_keeps_the_best_so_far(tmp_path: Path) -> None:
    assert judged(tmp_path, [0.9, 0.8], "list", epochs=2)["epoch"] == 0
    assert judged(tmp_path, [0.1], "list", epochs=3) == {"epoch": 0, "good": 0.9}
    content = load_checkpoint(tmp_path / CHECKPOINT)
    del content["validated_on"], content["chosen_at"]  # as they were before
    torch.save(content, tmp_path / CHECKPOINT)
    assert judged(tmp_path, [0.2], "another list") == {"epoch": 0, "good": 0.9}


@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_validation_that_fails_loses_no_epoch_and_is_made_again(tmp_path: Path, fails_at: int) -> None:
    figures = [0.1, 0.3, 0.2, 0.4]
    judged(tmp_path / "whole", figures)
    with pytest.raises(Killed):
        judged(tmp_path / "failed", figures[:fails_at])
    assert load_checkpoint(tmp_path / "failed" / CHECKPOINT)["step"] == 5 * (fails_at + 1)
    judged(tmp_path / "failed", figures[fails_at:])
    for name in (CHECKPOINT, BEST):
        whole, again = (load_checkpoint(tmp_path / folder / name) for folder in ("whole", "failed"))
        assert equal(whole, again), name
    logs = [[(e["step"], e.get("good")) for e in read_log(tmp_path / folder)] for folder in ("whole", "failed")]
    assert logs[0] == logs[1] and len(logs[0]) == 24


def test_run_killed_before_its_validation_is_noted_writes_its_figures_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*given: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("vidperson.training.loop._Run._keep", dying)
        judged(tmp_path, [0.1], epochs=1)
    judged(tmp_path, [0.1], epochs=1)
    assert [entry["good"] for entry in read_log(tmp_path) if entry["kind"] == "validate"] == [0.1]


def test_run_made_as_short_as_it_is_already_validates_its_last_epoch(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        judged(tmp_path, [], batches=Numbers(killed_at=12), valid_epochs=5, epochs=10)
    assert not (tmp_path / BEST).exists()
    assert judged(tmp_path, [0.5], epochs=2, valid_epochs=5) == {"epoch": 1, "good": 0.5}
    assert load_checkpoint(tmp_path / BEST)["best"] == {"epoch": 1, "good": 0.5}


def test_run_of_fewer_epochs_than_were_done_is_refused(tmp_path: Path) -> None:
    run(tmp_path, epochs=3)
    with pytest.raises(
        TrainingError, match=r"last.pt: expected at most 10 steps, as in 2 epochs, found 15; ask for 3 epochs or more"
    ):
        run(tmp_path, epochs=2)


@pytest.mark.parametrize(("goal", "best"), [("good", 1), ("-bad", 2)])
def test_best_epoch_by_validation_is_kept_and_told(
    tmp_path: Path, goal: str, best: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    figures = [
        {"good": 0.1, "bad": 0.5},
        {"good": 0.9, "bad": 0.4},
        {"good": 0.3, "bad": 0.1},
        {"good": 0.9, "bad": 0.2},
    ]
    seen: list[dict[str, Tensor]] = []

    def validate(network: nn.Module) -> dict[str, float]:
        assert not network.training
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return figures[len(seen) - 1]

    kept = train(Task(), Numbers(), Settings(epochs=4, lr=0.02), tmp_path, HERE, validate, goal)
    assert kept == {"epoch": best, **figures[best]}
    content = load_checkpoint(tmp_path / BEST)
    assert content["best"] == kept and equal(content["network"], seen[best])
    assert not equal(content["network"], seen[3])
    assert [entry["good"] for entry in read_log(tmp_path) if entry["kind"] == "validate"] == [0.1, 0.9, 0.3, 0.9]
    name = goal.removeprefix("-")
    assert f"epoch {best + 1}: {name} {figures[best][name]}, the best so far" in caplog.text
    assert f"epoch 4: {name} {figures[3][name]}, the best one has {figures[best][name]}" in caplog.text


def test_average_of_the_weights_equals_the_written_out_sum(tmp_path: Path) -> None:
    path, mean = [], None
    for steps in range(1, 4):
        with pytest.raises(Killed):
            run(tmp_path / str(steps), Numbers(killed_at=steps), save_steps=1, ema=0.2)
        content = load_checkpoint(tmp_path / str(steps) / CHECKPOINT)
        path.append(content["task"]["network.0.weight"])
    initial = Task().network[0].weight.detach()
    mean = initial.double()
    for step, value in enumerate(path, 1):
        past = min(0.2, step / (step + 10))
        mean = past * mean + (1 - past) * value.double()
    assert (content["average"]["0.weight"] - mean).abs().max() < 1e-6
    assert not torch.equal(content["average"]["0.weight"], path[-1])


def test_learning_rate_of_the_recipe_falls_by_three_per_cent_an_epoch() -> None:
    settings = Settings()
    rates = [learning_rate(settings, step, 100) for step in (0, 99, 100, 250, 3999)]
    assert rates == pytest.approx([0.001, 0.001, 0.00097, 0.001 * 0.97**2, 0.001 * 0.97**39])


def test_learning_rate_warms_up_and_follows_the_cosine_to_zero() -> None:
    settings = Settings(epochs=10, lr=1.0, schedule="cosine", warmup_epochs=2)
    assert learning_rate(settings, 0, 10) == pytest.approx(1 / 20)
    assert learning_rate(settings, 9, 10) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.09)) / 2)
    assert learning_rate(settings, 50, 10) == pytest.approx(0.5)
    assert learning_rate(settings, 100, 10) == pytest.approx(0.0, abs=1e-12)
    every_ten = Settings(lr=1.0, decay=0.1, decay_epochs=10)
    assert [learning_rate(every_ten, epoch, 1) for epoch in (9, 10, 25)] == pytest.approx([1, 0.1, 0.01])


def test_learning_rate_falls_after_each_of_several_epochs() -> None:
    challenge = cli.parse(Settings, None, ["--lr", "0.2", "--decay", "0.1", "--decay-epochs", "30 35"])
    rates = [learning_rate(challenge, step, 10) for step in (0, 299, 300, 349, 350, 399)]
    assert rates == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])
    assert cli.parse(Settings, None, ["--decay-epochs", "10"]) == Settings(decay_epochs=10)


class Line(nn.Module):
    """A line through points; its bias learns at twice the rate, without decay."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(4, 1)
        nn.init.zeros_(self.network.weight)
        nn.init.ones_(self.network.bias)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.network(x)[:, 0] - y).square().mean()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        bias = {"params": [self.network.bias], "rate": 2.0, "weight_decay": 0.0}
        return [{"params": [self.network.weight]}, bias]


def test_groups_of_parameters_keep_their_rate_and_decay_in_every_step_and_when_resumed(tmp_path: Path) -> None:
    settings = Settings(
        epochs=3, optimiser="sgd", lr=0.02, decay=0.1, decay_epochs=[1, 2], weight_decay=0.5, save_steps=2
    )
    with pytest.raises(Killed):
        train(Line(), Numbers(killed_at=8), settings, tmp_path, HERE)
    task = Line()
    train(task, Numbers(), settings, tmp_path, HERE)
    weight, bias, speed = np.zeros(4), 1.0, np.zeros(5)
    for step in range(15):
        batch = next(iter(Numbers()(step // 5, step % 5)))
        x, y = (batch[name].double().numpy() for name in "xy")
        off = 2 * (x @ weight + bias - y) / len(y)
        speed = 0.9 * speed + np.append(off @ x + 0.5 * weight, off.sum())
        rate = 0.02 * 0.1 ** (step // 5)
        weight, bias = weight - rate * speed[:4], bias - 2 * rate * speed[4]
    assert task.network.weight.detach().numpy()[0] == pytest.approx(weight, abs=1e-5)
    assert task.network.bias.item() == pytest.approx(bias, abs=1e-5) and abs(bias - 1) > 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": "lamb"}, "optimiser: expected one of adam adamw muon sgd, found 'lamb'"),
        ({"schedule": "poly"}, "schedule: expected one of step cosine"),
        ({"precision": "int8"}, "precision: expected one of fp32 bf16 fp16"),
        ({"lr": 0.0}, "lr: expected more than 0"),
        ({"ema": 1.0}, "ema: expected at least 0 and less than 1"),
        ({"clip": -1.0}, "clip: expected 0 or more"),
        ({"lr": math.nan}, "lr: expected more than 0, found nan"),
        ({"decay_epochs": 0}, "decay_epochs: expected a number from 1 on, or several that rise, found 0"),
        ({"decay_epochs": [35, 30]}, r"decay_epochs: .*found \[35, 30\]"),
        ({"decay_epochs": []}, r"decay_epochs: .*found \[\]"),
        ({"seed": -1}, "seed: expected 0 or more, found -1"),
        ({"seed": 2**32}, r"seed: expected less than 2\^32 = 4294967296, found 4294967296"),
    ],
)
def test_settings_wrong_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Settings(**settings)


def test_largest_seed_trains(tmp_path: Path) -> None:
    run(tmp_path, epochs=1, seed=2**32 - 1)


def test_processes_wait_for_a_validation_of_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[timedelta] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.init_process_group", lambda backend, timeout: given.append(timeout))
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    with join_world("cpu"):
        assert given[0] >= timedelta(hours=12)


def test_gpu_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match="GPU number 0 was asked for, torch sees 0"), join_world("cuda"):
        pass
    with pytest.raises(EngineError, match="'tpu' was asked for"), join_world("tpu"):
        pass


def test_log_with_a_broken_line_names_it_and_a_cut_last_line_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2]
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"log.jsonl:2: not a line"):
        read_log(tmp_path)


def test_scalars_go_to_tensorboard_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="an optional package")
    run(tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in board.Scalars("train/loss")]
    assert losses == pytest.approx([(entry["step"], entry["loss"]) for entry in read_log(tmp_path)])


SEVERAL = """
import sys
from pathlib import Path
import torch
from torch import nn
from vidperson.training.loop import join_world, train
from vidperson.training.settings import Settings

class Task(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(2, 3)  # first, though last in use: gradients come in another order than weights
        self.network = nn.Sequential(nn.Linear(4, 33), nn.Tanh(), nn.Linear(33, 2))
    def forward(self, x, y):
        return {"loss": nn.functional.cross_entropy(self.head(self.network(x)), y)}

class Numbers:
    steps_per_epoch = 5
    def __init__(self, world): self.world = world
    def __call__(self, epoch, first_step=0):
        for step in range(first_step, 5):
            rng = torch.Generator().manual_seed(epoch * 5 + step)
            if [str(epoch * 5 + step)] == sys.argv[2:]: sys.exit("killed")
            x, y = torch.randn(12, 4, generator=rng), torch.randint(0, 3, (12,), generator=rng)
            yield {"x": x[self.world.rank :: self.world.ranks], "y": y[self.world.rank :: self.world.ranks]}

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
validated = []
with join_world("cpu") as world:
    train(Task(), Numbers(world), Settings(epochs=3, lr=0.1, optimiser="sgd", log_steps=1, save_steps=2), folder, world,
          lambda network: validated.append(1) or {"good": len(validated)}, "good")
    assert world.rank == 0 or not validated
"""


def several(script: Path, repo: Path, processes: int, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    call = [sys.executable, *(torchrun if processes > 1 else []), str(script), *args]
    return subprocess.run(call, env=environment, cwd=script.parent, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> Path:
    """The script, and what one process and three processes made with it in ``one`` and ``three``."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "several.py").write_text(SEVERAL)
    for processes, name in ((1, "one"), (3, "three")):
        done = several(folder / "several.py", repo, processes, name)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_three_processes_of_torchrun_equal_one_with_the_whole_batch(undisturbed: Path) -> None:
    one, three = (load_checkpoint(undisturbed / name / CHECKPOINT) for name in ("one", "three"))
    assert one["step"] == three["step"] == 15 and json.loads(three["recipe"])["ranks"] == 3
    assert one["best"] == three["best"] == {"epoch": 2, "good": 3}  # validated after each epoch, by the first one alone
    for name, value in one["task"].items():
        torch.testing.assert_close(three["task"][name], value, rtol=1e-5, atol=1e-6)
    assert not equal(Task().head.state_dict()["weight"], three["task"]["head.weight"])


def test_three_processes_killed_and_started_again_equal_undisturbed_ones_bit_for_bit(
    undisturbed: Path, repo: Path
) -> None:
    """With two processes any order of adding up gives the same sum."""
    for killed_at in (["7"], []):
        done = several(undisturbed / "several.py", repo, 3, "killed", *killed_at)
        assert (done.returncode == 0) is (not killed_at), done.stderr[-3000:]
    whole, again = (load_checkpoint(undisturbed / name / CHECKPOINT) for name in ("three", "killed"))
    assert equal(whole["task"], again["task"]) and whole["step"] == 15


@pytest.mark.parametrize("line", [b"[" * 100_000, b"7", b"\xff\xfe", b"{", b"[{}]"])
def test_log_with_a_line_that_is_none_is_refused_by_its_number(tmp_path: Path, line: bytes) -> None:
    (tmp_path / LOG).write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\nno whole line')
    with pytest.raises(DataError, match=f"{LOG}:2: not a line of the training log"):
        read_log(tmp_path)


def test_mean_of_the_last_epochs_is_what_a_training_ends_with(tmp_path: Path) -> None:
    ends = []
    for epochs in (2, 3, 4):
        task = run(tmp_path / str(epochs), epochs=epochs)
        ends.append({name: value.clone() for name, value in task.network.state_dict().items()})
    run(tmp_path / "mean", average=3)
    kept = load_checkpoint(tmp_path / "mean/best.pt")["network"]
    for name, value in kept.items():
        parts = torch.stack([end[name].double() for end in ends])
        expected = parts.mean(dim=0) if value.is_floating_point() else parts[-1]
        assert torch.allclose(value.double(), expected, atol=1e-6), name
    with pytest.raises(TrainingError, match="average 0 -> 2|average 3 -> 2"):
        run(tmp_path / "mean", average=2)


@pytest.mark.parametrize(("average", "ema"), [(5, 0.0), (2, 0.9), (-1, 0.0)])
def test_mean_of_more_epochs_than_there_are_or_of_means_is_refused(average: int, ema: float) -> None:
    with pytest.raises(TrainingError, match="average: expected at most the 4 epochs"):
        Settings(epochs=4, average=average, ema=ema)
