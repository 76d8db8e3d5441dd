"""Muon: momentum made orthogonal, for the weight matrices of a network; AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST = 16  # rows and columns from which on a weight is taken as a matrix; heads of few values are left to AdamW
MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
RMS = 0.2  # of an update's entries, which AdamW's have, too


class Muon(torch.optim.AdamW):
    """K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    The kernel of a convolution is a matrix of outputs by inputs times places. Updates are scaled so that learning rate
    and weight decay mean what they do for AdamW: Liu et al., "Muon is scalable for LLM training" (arXiv:2502.16982),
    section 2.2.

    matrices: parameters of two or more dimensions; those with fewer than SMALLEST rows or columns, and ``others``, are
    left to AdamW.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], others: Iterable[nn.Parameter], lr: float, weight_decay: float
    ) -> None:
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: list(others)}
        for matrix in matrices:
            rows, columns = _shape(matrix)
            groups[min(rows, columns) >= SMALLEST].append(matrix)
        named = [{"params": parameters, "orthogonal": kind} for kind, parameters in groups.items() if parameters]
        super().__init__(named, lr, weight_decay=weight_decay, fused=True)
        self._step_supports_amp_scaling = False  # gradients come unscaled

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            if group["orthogonal"]:
                alike: dict[tuple[int, int], list[nn.Parameter]] = {}
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        alike.setdefault(_shape(parameter), []).append(parameter)
                for shape, parameters in alike.items():
                    self._update(parameters, shape, group["lr"], group["weight_decay"])
        return super().step(closure)

    def _update(self, parameters: list[nn.Parameter], shape: tuple[int, int], lr: float, decay: float) -> None:
        wanted = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)  # AdamW expects it when a state is loaded
                state["momentum"] = torch.zeros_like(parameter)
            momentum: Tensor = state["momentum"]
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            wanted.append(parameter.grad.lerp(momentum, MOMENTUM).reshape(shape))
            parameter.grad = None  # so that AdamW passes over it
        for parameter, update in zip(parameters, orthogonal(torch.stack(wanted)), strict=True):
            parameter.mul_(1 - lr * decay)
            parameter.add_(update.view(parameter.shape), alpha=-lr * RMS * max(shape) ** 0.5)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, R, C) matrices with all their singular values brought to 0.7 to 1.2, by a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    for _ in range(STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _shape(parameter: nn.Parameter) -> tuple[int, int]:
    return len(parameter), parameter[0].numel()
