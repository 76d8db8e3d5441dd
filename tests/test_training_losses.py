"""Losses against formulas written out in float64 numpy, and their gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vidperson.errors import TrainingError

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from vidperson.training.losses import (  # noqa: E402
    IdentityLoss,
    TripletLoss,
    cosine_distillation,
    relational_distillation,
    risen_share,
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


# -- triplets -------------------------------------------------------------------------------------------------------

# The first identity three times, the second twice, the third once: no anchor, but a negative of the others.
TRIPLET_LABELS = np.array([4, 9, 4, 7, 9, 4])


def triplets_written_out(mining: str, margin: float | None, rows: np.ndarray, labels: np.ndarray) -> float:
    """One anchor after the other, in float64."""

    def penalty(apart: float) -> float:
        return math.log(1 + math.exp(apart)) if margin is None else max(0.0, apart + margin)

    losses = []
    for a, who in enumerate(labels):
        near = [math.dist(rows[a], rows[p]) for p in range(len(rows)) if labels[p] == who and p != a]
        far = [math.dist(rows[a], rows[n]) for n in range(len(rows)) if labels[n] != who]
        if not near or not far:
            continue
        if mining == "hard":
            losses.append(penalty(max(near) - min(far)))
        elif mining == "all":
            every = [penalty(p - n) for p in near for n in far]
            losses += every if margin is None else [loss for loss in every if loss > 0]
        else:
            rise, fall = [math.exp(d) for d in near], [math.exp(-d) for d in far]
            positive = sum(w * d for w, d in zip(rise, near, strict=True)) / sum(rise)
            negative = sum(w * d for w, d in zip(fall, far, strict=True)) / sum(fall)
            losses.append(penalty(positive - negative))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize("mining", ["hard", "all", "weighted"])
@pytest.mark.parametrize("margin", [None, 0.3, 2.0])
def test_triplet_loss_equals_the_written_out_formula(mining: str, margin: float | None) -> None:
    loss, right = TripletLoss(mining, margin)(torch.from_numpy(EMBEDDINGS), torch.from_numpy(TRIPLET_LABELS))
    expected = triplets_written_out(mining, margin, EMBEDDINGS, TRIPLET_LABELS)
    assert expected > 0 and loss.item() == pytest.approx(expected, rel=1e-5)
    distances = np.linalg.norm(EMBEDDINGS[:, None] - EMBEDDINGS, axis=2)
    same = TRIPLET_LABELS[:, None] == TRIPLET_LABELS
    wanted = [distances[a][same[a]].max() < distances[a][~same[a]].min() for a in range(6) if same[a].sum() > 1]
    assert right.tolist() == wanted


@pytest.mark.parametrize("mining", ["hard", "all", "weighted"])
@pytest.mark.parametrize("margin", [None, 2.0])
def test_gradient_of_triplets_equals_finite_differences_in_float64(
    mining: str, margin: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    made, labels = TripletLoss(mining, margin), torch.from_numpy(TRIPLET_LABELS)
    x = torch.from_numpy(EMBEDDINGS.copy()).requires_grad_()
    made(x, labels)[0].backward()
    found = x.grad.numpy()
    assert np.abs(found).max() > 1e-2
    for index in np.ndindex(EMBEDDINGS.shape):
        step = np.zeros_like(EMBEDDINGS)
        step[index] = 1e-5
        high, low = (made(torch.from_numpy(EMBEDDINGS + sign * step), labels)[0].item() for sign in (1, -1))
        assert found[index] == pytest.approx((high - low) / 2e-5, abs=1e-6)


@pytest.mark.parametrize("mining", ["hard", "all", "weighted"])
@pytest.mark.parametrize("labels", [[1, 2, 3, 4], [5, 5, 5, 5], [3]])
def test_batch_without_triplets_has_no_loss_and_no_gradient(mining: str, labels: list[int]) -> None:
    x = torch.from_numpy(EMBEDDINGS[: len(labels)].copy()).requires_grad_()
    loss, right = TripletLoss(mining, 0.3)(x, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0 and len(right) == 0 and (x.grad == 0).all()


@pytest.mark.parametrize("mining", ["hard", "all", "weighted"])
def test_images_that_are_the_same_have_a_finite_gradient(mining: str) -> None:
    x = torch.ones(4, 3, requires_grad=True)
    loss, right = TripletLoss(mining)(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2)) and torch.isfinite(x.grad).all() and not right.any()


def test_triplets_that_keep_the_margin_are_not_counted_by_batch_all() -> None:
    """One violation of 0.5 among many triplets in order: a mean over all would hide it."""
    rows = torch.tensor([[0.0], [1.0], [100.0], [101.0], [1.5]])
    loss, _ = TripletLoss("all", 1.0)(rows, torch.tensor([0, 0, 1, 1, 2]))
    # Anchor 1: positive at 1, stranger at 0.5, 1.5 too near; anchor 0: positive at 1, stranger at 1.5, 0.5 too near.
    assert loss.item() == pytest.approx((1.5 + 0.5) / 2)
    assert TripletLoss("all", 1.0)(rows[:4], torch.tensor([0, 0, 1, 1]))[0].item() == 0


@pytest.mark.parametrize(
    ("mining", "margin", "message"),
    [
        ("semi-hard", 0.3, "expected one of hard all weighted, found 'semi-hard'"),
        ("hard", 0.0, "a margin above 0, or none for the soft one, found 0"),
        ("hard", math.nan, "found nan"),
    ],
)
def test_triplets_with_settings_that_make_no_sense_are_refused(mining: str, margin: float, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        TripletLoss(mining, margin)


def test_label_smoothing_equals_the_written_out_formula() -> None:
    made = head("softmax", smoothing=0.1)
    logits = EMBEDDINGS @ made.weight.detach().double().numpy()[:, 0].T
    log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.full((6, 4), 0.1 / 4) + 0.9 * np.eye(4)[LABELS]
    np.testing.assert_allclose(losses_of(made), -(target * log_shares).sum(axis=1), rtol=1e-5)
    for smoothing in (-0.1, 1.0, math.nan):
        with pytest.raises(TrainingError, match="label smoothing: expected 0 or more and below 1"):
            head("softmax", smoothing=smoothing)


@pytest.mark.parametrize("kind", ["arcface", "cosface"])
@pytest.mark.parametrize(("count", "sub_centres"), [(1, 1), (2, 3), (9, 1)])
def test_nearest_wrong_classes_seem_nearer_by_an_angle(kind: str, count: int, sub_centres: int) -> None:
    head = IdentityLoss(5, 4, kind, 20.0, 0.3, sub_centres, top_k=count, top_k_angle=0.06).double()
    weight = np.random.default_rng(1).normal(size=(4, sub_centres, 5))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
    logits = np.zeros((len(EMBEDDINGS), 4))
    for n, embedding in enumerate(unit(EMBEDDINGS)):
        angles = [math.acos(max(float(embedding @ centre) for centre in unit(centres))) for centres in weight]
        others = sorted((c for c in range(4) if c != LABELS[n]), key=lambda c: angles[c])
        for c, theta in enumerate(angles):
            cosine = math.cos(theta - 0.06) if c in others[:count] else math.cos(theta)
            if c == LABELS[n]:
                cosine = math.cos(theta + 0.3) if kind == "arcface" else math.cos(theta) - 0.3
            logits[n, c] = 20 * cosine
    found, _ = head(torch.from_numpy(EMBEDDINGS), torch.from_numpy(LABELS))
    assert np.abs(found.detach().numpy() - cross_entropy(logits, LABELS)).max() < 1e-4
    found.sum().backward()
    assert torch.isfinite(head.weight.grad).all()


def test_margin_rises_between_two_epochs_and_stays() -> None:
    rising = IdentityLoss(5, 4, "arcface", 20.0, 0.3, top_k=1, top_k_angle=0.06, rises=(2, 4))
    given = torch.from_numpy(EMBEDDINGS).float(), torch.from_numpy(LABELS)
    for epoch, share in ((0.0, 0.0), (2.0, 0.0), (3.0, 1 - 1000**-0.5), (4.0, 1.0), (9.5, 1.0)):
        assert risen_share(epoch, 2, 4) == pytest.approx(share)
        fixed = IdentityLoss(5, 4, "arcface", 20.0, 0.3 * share, top_k=1 if share else 0, top_k_angle=0.06 * share)
        fixed.load_state_dict(rising.state_dict())
        rising.begin_step(epoch)
        assert torch.allclose(rising(*given)[0], fixed(*given)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kind": "softmax", "top_k": 2}, "need arcface or cosface"),
        ({"top_k": -1}, "expected 0 or more, and 0 to pi / 2, found -1 and 0"),
        ({"top_k": 1, "top_k_angle": 2.0}, "found 1 and 2"),
        ({"rises": (3, 3)}, r"expected two epochs between which it rises, found \(3, 3\)"),
        ({"rises": (3,)}, r"found \(3,\)"),
    ],
)
def test_margins_that_make_no_sense_are_refused(more: dict, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        IdentityLoss(5, 4, **more)
