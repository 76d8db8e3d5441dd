"""Losses against formulas written out in float64 numpy, and their gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vidperson.errors import TrainingError

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from vidperson.training.losses import (  # noqa: E402
    IdentityLoss,
    cosine_distillation,
    relational_distillation,
    sample_classes,
)

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(6, 5))
LABELS = np.array([0, 3, 1, 3, 2, 0])


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).sum(axis=-1, keepdims=True))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([math.log(sum(math.exp(v - row[y]) for v in row)) for row, y in zip(logits, labels, strict=True)])


def written_out(kind: str, weight: np.ndarray, scale: float, margin: float) -> np.ndarray:
    """Angles and all, one crop and one class after the other. weight: (C, K, D)."""
    logits = np.zeros((len(EMBEDDINGS), len(weight)))
    for n, embedding in enumerate(unit(EMBEDDINGS)):
        for c, centres in enumerate(weight):
            cosine = max(float(embedding @ centre) for centre in unit(centres))
            if c == LABELS[n]:
                theta = math.acos(cosine)
                if kind == "cosface":
                    cosine -= margin
                elif theta + margin < math.pi:
                    cosine = math.cos(theta + margin)
                else:
                    cosine -= margin * math.sin(margin)
            logits[n, c] = scale * cosine
    return cross_entropy(logits, LABELS)


def head(kind: str, sub_centres: int = 1, **options: float) -> IdentityLoss:
    torch.manual_seed(1)
    made = IdentityLoss(5, 4, kind, sub_centres=sub_centres, **options)  # type: ignore[arg-type]
    torch.nn.init.normal_(made.weight)
    return made


def losses_of(made: IdentityLoss, embeddings: np.ndarray = EMBEDDINGS) -> np.ndarray:
    return made(torch.from_numpy(embeddings).float(), torch.from_numpy(LABELS))[0].detach().numpy()


@pytest.mark.parametrize("kind", ["arcface", "cosface"])
@pytest.mark.parametrize("sub_centres", [1, 3])
@pytest.mark.parametrize(("scale", "margin"), [(64.0, 0.4), (10.0, 0.0), (4.0, 1.5)])
def test_margin_loss_equals_the_written_out_formula(kind: str, sub_centres: int, scale: float, margin: float) -> None:
    made = head(kind, sub_centres, scale=scale, margin=margin)
    expected = written_out(kind, made.weight.detach().double().numpy(), scale, margin)
    np.testing.assert_allclose(losses_of(made), expected, rtol=1e-4, atol=1e-4)


def test_arcface_beyond_the_turning_point_still_falls_with_the_angle() -> None:
    """A crop on the far side of its centre: cos(theta + m) would rise, the loss must not fall."""
    made = head("arcface", scale=1.0, margin=0.5)
    losses = []
    for theta in np.linspace(0, math.pi, 200):
        with torch.no_grad():
            made.weight.zero_()
            made.weight[:, 0, 0] = 1.0
            made.weight[1:, 0, 1] = 5.0
        embedding = torch.tensor([[math.cos(theta), 0.0, math.sin(theta), 0.0, 0.0]])
        target = made.logits(embedding, torch.tensor([0]))[0, 0].item()
        losses.append(-target)
    assert (np.diff(losses) > -1e-6).all()


def test_softmax_equals_the_written_out_formula() -> None:
    made = head("softmax")
    with torch.no_grad():
        made.bias.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    logits = EMBEDDINGS @ made.weight.detach().double().numpy()[:, 0].T + made.bias.detach().double().numpy()
    np.testing.assert_allclose(losses_of(made), cross_entropy(logits, LABELS), rtol=1e-5)


def test_distillation_terms_equal_the_written_out_formulas() -> None:
    student, teacher = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 7))
    a, b = unit(student), unit(teacher)
    expected = sum((a[i] @ a[j] - b[i] @ b[j]) ** 2 for i in range(5) for j in range(5) if i != j) / 20
    found = relational_distillation(torch.from_numpy(student), torch.from_numpy(teacher)).item()
    assert found == pytest.approx(expected, rel=1e-5)
    expected = np.mean([1 - a[i] @ b[i, :4] / np.linalg.norm(b[i, :4]) for i in range(5)])
    found = cosine_distillation(torch.from_numpy(student), torch.from_numpy(teacher[:, :4])).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_distillation_of_the_teachers_own_embeddings_turned_and_scaled_is_zero() -> None:
    teacher = RNG.normal(size=(5, 4))
    turned = 3 * teacher @ np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    assert relational_distillation(torch.from_numpy(turned), torch.from_numpy(teacher)).item() < 1e-10
    assert cosine_distillation(torch.from_numpy(3 * teacher), torch.from_numpy(teacher)).item() < 1e-6
    assert relational_distillation(torch.from_numpy(teacher[:1]), torch.from_numpy(turned[:1])).item() == 0


@pytest.mark.parametrize("kind", ["arcface", "cosface", "softmax", "sub-centre", "relation", "cosine"])
def test_gradient_equals_finite_differences_in_float64(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # differences need more digits than float32 has
    teacher = torch.from_numpy(RNG.normal(size=(6, 5)))
    made = (
        head({"sub-centre": "arcface"}.get(kind, kind), 2 if kind == "sub-centre" else 1, scale=8.0)
        if kind
        not in (
            "relation",
            "cosine",
        )
        else None
    )

    def loss(x: torch.Tensor) -> torch.Tensor:
        if made is not None:
            return made(x, torch.from_numpy(LABELS))[0].mean()
        return relational_distillation(x, teacher) if kind == "relation" else cosine_distillation(x, teacher)

    x = torch.from_numpy(EMBEDDINGS.copy()).requires_grad_()
    loss(x).backward()
    found = x.grad.numpy()
    assert np.abs(found).max() > 1e-3
    for index in np.ndindex(EMBEDDINGS.shape):
        step = np.zeros_like(EMBEDDINGS)
        step[index] = 1e-5
        high, low = (loss(torch.from_numpy(EMBEDDINGS + sign * step)).item() for sign in (1, -1))
        assert found[index] == pytest.approx((high - low) / 2e-5, abs=1e-6)


def test_partial_fc_keeps_the_classes_of_the_batch_and_fills_up_with_others() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([7, 2, 7, 90])
    seen = set()
    for _ in range(50):
        classes, positions = sample_classes(labels, 100, 0.1)
        assert len(classes) == 10 and (classes.diff() > 0).all()
        assert (classes[positions] == labels).all()
        seen |= set(classes.tolist())
    assert len(seen) > 90
    classes, _ = sample_classes(torch.arange(20), 100, 0.1)
    assert classes.tolist() == list(range(20))


@pytest.mark.parametrize("kind", ["arcface", "cosface", "softmax"])
def test_partial_fc_equals_the_full_loss_over_the_sampled_classes(kind: str) -> None:
    torch.manual_seed(0)
    partial = IdentityLoss(5, 40, kind, scale=8.0, sample_rate=0.25)
    torch.nn.init.normal_(partial.weight)
    x, labels = torch.from_numpy(EMBEDDINGS).float(), torch.tensor([0, 30, 11, 30, 2, 0])
    torch.manual_seed(5)
    found, _ = partial(x, labels)
    found.sum().backward()
    torch.manual_seed(5)
    classes, positions = sample_classes(labels, 40, 0.25)
    full = IdentityLoss(5, len(classes), kind, scale=8.0)
    with torch.no_grad():
        full.weight.copy_(partial.weight[classes])
    expected, _ = full(x, positions)
    expected.sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(partial.weight.grad[classes], full.weight.grad)
    others = np.setdiff1d(np.arange(40), classes.numpy())
    assert len(others) == 30 and (partial.weight.grad[others] == 0).all()


def test_gradient_of_a_crop_that_equals_its_centre_is_finite() -> None:
    made = head("arcface")
    x = made.weight[:, 0].detach().clone().requires_grad_()
    made(x, torch.arange(4))[0].sum().backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(made.weight.grad).all()


def test_loss_under_autocast_is_computed_in_float32() -> None:
    made = head("arcface")
    student, teacher = torch.from_numpy(EMBEDDINGS).float(), torch.from_numpy(EMBEDDINGS[::-1].copy()).float()
    expected = losses_of(made), relational_distillation(student, teacher), cosine_distillation(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses_of(made), relational_distillation(student, teacher), cosine_distillation(student, teacher)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "triplet"}, "expected one of arcface cosface softmax, found 'triplet'"),
        ({"num_classes": 1}, "at least 2 identities"),
        ({"sample_rate": 0.0}, "0 < sample rate"),
        ({"kind": "softmax", "sub_centres": 2}, "sub-centres need"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        IdentityLoss(**({"embedding_size": 4, "num_classes": 3} | options))
