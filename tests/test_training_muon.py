"""Muon against the formulas written out in numpy, and against AdamW where it is AdamW."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from torch import nn  # noqa: E402

from vidperson.training.muon import Muon, orthogonal  # noqa: E402


@pytest.mark.parametrize("shape", [(16, 16), (24, 100), (100, 24)])
def test_orthogonal_keeps_the_singular_vectors_and_brings_the_values_to_about_one(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    matrices = torch.from_numpy(rng.normal(size=(3, *shape)) * np.array([1e-4, 1, 1e4])[:, None, None])
    for matrix, found in zip(matrices.numpy(), orthogonal(matrices).numpy(), strict=True):
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        inside = left.T @ found @ right.T
        assert np.abs(inside - np.diag(np.diag(inside))).max() < 1e-6
        sure = values > 0.02 * np.linalg.norm(values)  # tiny ones take more steps
        assert (np.diag(inside)[sure] > 0.6).all() and (np.diag(inside) < 1.25).all()


def test_orthogonal_of_nothing_but_zeros_is_zero() -> None:
    assert not orthogonal(torch.zeros(1, 20, 30)).any()


def naive_muon(weights: np.ndarray, gradients: list[np.ndarray], lr: float, decay: float) -> np.ndarray:
    momentum = np.zeros((len(weights), weights[0].size))
    for gradient in gradients:
        given = gradient.reshape(momentum.shape)
        momentum = 0.95 * momentum + 0.05 * given
        x = 0.05 * given + 0.95 * momentum
        x = x / np.sqrt((x * x).sum())
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
        weights = weights * (1 - lr * decay) - lr * 0.2 * np.sqrt(max(momentum.shape)) * x.reshape(weights.shape)
    return weights


def test_steps_equal_the_written_out_formulas_and_adamw_takes_the_rest() -> None:
    rng = np.random.default_rng(1)
    shapes = {"kernel": (16, 4, 3, 3), "matrix": (20, 40), "narrow": (8, 40), "bias": (16,)}
    start = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    gradients = {name: [rng.normal(size=shape) for _ in range(4)] for name, shape in shapes.items()}
    ours = {name: nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    theirs = {name: nn.Parameter(torch.from_numpy(start[name].copy())) for name in ("narrow", "bias")}
    muon = Muon([ours["kernel"], ours["matrix"], ours["narrow"]], [ours["bias"]], lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW(theirs.values(), lr=0.01, weight_decay=0.1)
    for step in range(4):
        for parameters in (ours, theirs):
            for name, parameter in parameters.items():
                parameter.grad = torch.from_numpy(gradients[name][step].copy())
        muon.step()
        adamw.step()
    for name in ("kernel", "matrix"):
        wanted = naive_muon(start[name], gradients[name], 0.01, 0.1)
        np.testing.assert_allclose(ours[name].detach().numpy(), wanted, rtol=1e-9, atol=1e-12)
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name], parameter)
