"""Checkpoints of voice networks of other projects: their layouts with random weights, rewritten in numpy and loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vidperson.networks.card import Checkpoint, card_names, load_card
from vidperson.networks.install import install_model
from vidperson.networks.opening import open_network
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.types import Float

torch = pytest.importorskip("torch", reason="networks are defined in PyTorch")

from test_sound_architectures import FAMILIES, card_of, features_of, settled  # noqa: E402

from vidperson.networks.architectures.ecapa import SPEECHBRAIN, WESPEAKER, Ecapa, EcapaForm  # noqa: E402
from vidperson.networks.convert import FBANK_EMBEDDERS, build_network, load_checkpoint  # noqa: E402

WIDTH, BINS, POOLED, SCALE, GATE, ATTENTION, SIZE = 16, 16, 12, 4, 5, 7, 6
Weights = dict[str, torch.Tensor]


class Layout:
    """Names and shapes of a project's ECAPA-TDNN, its weights drawn at random, and what it computes, in float64.

    conv, norm: behind a layer's name, the names of its convolution and of its batch norm.
    """

    conv = norm = ""
    edges = "constant"

    def __init__(self) -> None:
        self.rng = np.random.default_rng(8)
        self.values: dict[str, Float] = {}
        for name, kind, shape in self.layers():
            if kind == "norm":
                for part, low, high in (("weight", 0.5, 1.5), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1)):
                    self.values[f"{name}.{part}"] = self.rng.uniform(low, high, shape)
                self.values[f"{name}.running_var"] = self.rng.uniform(0.5, 1.5, shape)
            else:
                spread = np.sqrt(2 / np.prod(shape[1:]))
                self.values[f"{name}.weight"] = self.rng.normal(0, spread, shape)
                self.values[f"{name}.bias"] = self.rng.normal(0, 0.1, shape[0])
        self.values = {name: value.astype(np.float32).astype(np.float64) for name, value in self.values.items()}

    def layers(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        raise NotImplementedError

    def checkpoint(self) -> Weights:
        return {name: torch.from_numpy(value).float() for name, value in self.values.items()}

    def convolved(self, name: str, x: Float, dilation: int = 1) -> Float:
        """(channels, frames)."""
        kernel, bias = self.values[f"{name}.weight"], self.values[f"{name}.bias"]
        kernel = kernel[..., None] if kernel.ndim == 2 else kernel
        reach, frames = kernel.shape[2] // 2 * dilation, x.shape[1]
        mode = self.edges if reach else "constant"
        wide = np.pad(x, ((0, 0), (reach, reach)), mode=mode)  # type: ignore[call-overload]
        taps = (kernel[:, :, tap] @ wide[:, tap * dilation :][:, :frames] for tap in range(kernel.shape[2]))
        return np.asarray(bias[:, None] + sum(taps))

    def normed(self, name: str, x: Float) -> Float:
        mean, variance, weight, bias = (
            self.values[f"{name}.{part}"][:, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return np.asarray((x - mean) / np.sqrt(variance + 1e-5) * weight + bias)

    def tdnn(self, name: str, x: Float, dilation: int = 1) -> Float:
        """Convolution, ReLU, batch norm."""
        conv, norm = (f"{name}.{part}" for part in (self.conv, self.norm))
        return self.normed(norm, np.maximum(self.convolved(conv, x, dilation), 0))


def gated(x: Float, scores: Float) -> Float:
    return np.asarray(x / (1 + np.exp(-scores)))


def shares_of(scores: Float) -> Float:
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def column(values: Float, like: Float) -> Float:
    return np.broadcast_to(values[:, None], like.shape)


class WeSpeaker(Layout):
    """ECAPA_TDNN_GLOB of wespeaker/models/ecapa_tdnn.py."""

    conv, norm = "conv", "bn"
    form = WESPEAKER

    def layers(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        yield from self.both("layer1", (WIDTH, BINS, 5))
        for number in (2, 3, 4):
            block = f"layer{number}.se_res2block"
            yield from self.both(f"{block}.0", (WIDTH, WIDTH, 1))
            for group in range(SCALE - 1):
                yield f"{block}.1.convs.{group}", "conv", (WIDTH // SCALE, WIDTH // SCALE, 3)
                yield f"{block}.1.bns.{group}", "norm", (WIDTH // SCALE,)
            yield from self.both(f"{block}.2", (WIDTH, WIDTH, 1))
            yield f"{block}.3.linear1", "conv", (GATE, WIDTH)
            yield f"{block}.3.linear2", "conv", (WIDTH, GATE)
        yield "conv", "conv", (POOLED, 3 * WIDTH, 1)
        yield "pool.linear1", "conv", (ATTENTION, 3 * POOLED, 1)
        yield "pool.linear2", "conv", (POOLED, ATTENTION, 1)
        yield "bn", "norm", (2 * POOLED,)
        yield "linear", "conv", (SIZE, 2 * POOLED)

    def both(self, name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        yield f"{name}.conv", "conv", shape
        yield f"{name}.bn", "norm", shape[:1]

    def checkpoint(self) -> Weights:
        """As avg_model.pt, with the classes that were trained."""
        return {**super().checkpoint(), "projection.weight": torch.zeros(9, SIZE)}

    def block(self, name: str, x: Float, dilation: int) -> Float:
        groups = np.split(self.tdnn(f"{name}.0", x), SCALE)
        found: list[Float] = []
        for number, group in enumerate(groups[:-1]):
            given = group + found[-1] if found else group
            inside = np.maximum(self.convolved(f"{name}.1.convs.{number}", given, dilation), 0)
            found.append(self.normed(f"{name}.1.bns.{number}", inside))
        inside = self.tdnn(f"{name}.2", np.concatenate([*found, groups[-1]]))
        squeezed = np.maximum(self.convolved(f"{name}.3.linear1", inside.mean(axis=1, keepdims=True)), 0)
        return x + gated(inside, self.convolved(f"{name}.3.linear2", squeezed))

    def __call__(self, features: Float) -> Float:
        x, found = self.tdnn("layer1", features), []
        for number in (2, 3, 4):
            x = self.block(f"layer{number}.se_res2block", x, number)
            found.append(x)
        x = np.maximum(self.convolved("conv", np.concatenate(found)), 0)
        deviation = np.sqrt(x.var(axis=1, ddof=1) + 1e-7)
        seen = np.concatenate([x, column(x.mean(axis=1), x), column(deviation, x)])
        shares = shares_of(self.convolved("pool.linear2", np.tanh(self.convolved("pool.linear1", seen))))
        mean = (shares * x).sum(axis=1)
        spread = np.sqrt(np.maximum((shares * x**2).sum(axis=1) - mean**2, 1e-7))
        pooled = np.concatenate([mean, spread])[:, None]
        return self.convolved("linear", self.normed("bn", pooled))[:, 0]


class SpeechBrain(Layout):
    """ECAPA_TDNN of speechbrain/lobes/models/ECAPA_TDNN.py, with the names of embedding_model.ckpt."""

    conv, norm, edges = "conv.conv", "norm.norm", "reflect"
    form = SPEECHBRAIN

    def layers(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        yield from self.both("blocks.0", (WIDTH, BINS, 5))
        for number in (1, 2, 3):
            block = f"blocks.{number}"
            yield from self.both(f"{block}.tdnn1", (WIDTH, WIDTH, 1))
            for group in range(SCALE - 1):
                yield from self.both(f"{block}.res2net_block.blocks.{group}", (WIDTH // SCALE, WIDTH // SCALE, 3))
            yield from self.both(f"{block}.tdnn2", (WIDTH, WIDTH, 1))
            yield f"{block}.se_block.conv1.conv", "conv", (GATE, WIDTH, 1)
            yield f"{block}.se_block.conv2.conv", "conv", (WIDTH, GATE, 1)
        yield from self.both("mfa", (POOLED, 3 * WIDTH, 1))
        yield from self.both("asp.tdnn", (ATTENTION, 3 * POOLED, 1))
        yield "asp.conv.conv", "conv", (POOLED, ATTENTION, 1)
        yield "asp_bn.norm", "norm", (2 * POOLED,)
        yield "fc.conv", "conv", (SIZE, 2 * POOLED, 1)

    def both(self, name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        yield f"{name}.conv.conv", "conv", shape
        yield f"{name}.norm.norm", "norm", shape[:1]

    def checkpoint(self) -> Weights:
        counts = {f"{name}.num_batches_tracked": torch.tensor(7) for name, kind, _ in self.layers() if kind == "norm"}
        return {**super().checkpoint(), **counts}

    def block(self, name: str, x: Float, dilation: int) -> Float:
        groups = np.split(self.tdnn(f"{name}.tdnn1", x), SCALE)
        found = [groups[0]]
        for number, group in enumerate(groups[1:]):
            given = group + found[-1] if number else group
            found.append(self.tdnn(f"{name}.res2net_block.blocks.{number}", given, dilation))
        inside = self.tdnn(f"{name}.tdnn2", np.concatenate(found))
        squeezed = np.maximum(self.convolved(f"{name}.se_block.conv1.conv", inside.mean(axis=1, keepdims=True)), 0)
        return x + gated(inside, self.convolved(f"{name}.se_block.conv2.conv", squeezed))

    def __call__(self, features: Float) -> Float:
        x, found = self.tdnn("blocks.0", features), []
        for number in (1, 2, 3):
            x = self.block(f"blocks.{number}", x, number + 1)
            found.append(x)
        x = self.tdnn("mfa", np.concatenate(found))
        seen = np.concatenate([x, column(x.mean(axis=1), x), column(np.sqrt(np.maximum(x.var(axis=1), 1e-12)), x)])
        shares = shares_of(self.convolved("asp.conv.conv", np.tanh(self.tdnn("asp.tdnn", seen))))
        mean = (shares * x).sum(axis=1)
        spread = np.sqrt(np.maximum((shares * (x - mean[:, None]) ** 2).sum(axis=1), 1e-12))
        pooled = np.concatenate([mean, spread])[:, None]
        return self.convolved("fc.conv", self.normed("asp_bn.norm", pooled))[:, 0]


def redimnet(weights: Weights, features: torch.Tensor, strides: tuple[int, ...], channels: int) -> torch.Tensor:
    """ReDimNet of IDRnD/ReDimNet, redimnet/model.py, from the tensors of its checkpoint; (N, bins, frames), float64."""
    w = {name: value.double() for name, value in weights.items()}
    functional, count = torch.nn.functional, len(features)

    def conv(name: str, x: torch.Tensor, depthwise: bool = False, stride: int = 1) -> torch.Tensor:
        kernel, bias, groups = w[f"{name}.weight"], w.get(f"{name}.bias"), x.shape[1] if depthwise else 1
        if kernel.ndim == 3:
            return functional.conv1d(x, kernel, bias, padding=kernel.shape[2] // 2, groups=groups)
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if stride == 1 else 0
        return functional.conv2d(x, kernel, bias, (stride, 1), padding, groups=groups)

    def norm(name: str, x: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
        parts = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts, eps=epsilon)

    def layer_norm(name: str, x: torch.Tensor) -> torch.Tensor:
        last = x.movedim(1, -1)
        scaled = functional.layer_norm(last, last.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)
        return scaled.movedim(-1, 1)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def weighted(name: str, rows: list[torch.Tensor]) -> torch.Tensor:
        shares = w[name].exp() / w[name].exp().sum(dim=1, keepdim=True)
        return sum(shares[:, k] * each for k, each in enumerate(rows))  # type: ignore[return-value]

    def attend(name: str, x: torch.Tensor) -> torch.Tensor:
        rows = x.transpose(1, 2)
        parts = [linear(f"{name}.attention.{part}_proj", rows).chunk(4, dim=2) for part in "qkv"]
        seen = [(q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(2) @ v for q, k, v in zip(*parts, strict=True)]
        x = layer_norm(f"{name}.layer_norm", x + linear(f"{name}.attention.out_proj", torch.cat(seen, 2)).mT)
        inside = linear(f"{name}.feed_forward.intermediate_dense", x.mT)
        inside = 0.5 * inside * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inside + 0.044715 * inside**3)))
        return layer_norm(f"{name}.final_layer_norm", x + linear(f"{name}.feed_forward.output_dense", inside).mT)

    def context(name: str, x: torch.Tensor) -> torch.Tensor:
        inside = layer_norm(f"{name}.red_dim_conv.1", conv(f"{name}.red_dim_conv.0", x))
        for number in range(4):
            layer = f"{name}.tcm.{number}"
            row = norm(f"{layer}.norm", conv(f"{layer}.dwconvs.0", inside, depthwise=True))
            inside = inside + conv(f"{layer}.pwconv1", functional.gelu(row))
        return x + conv(f"{name}.exp_dim_conv", attend(f"{name}.tcm.4", inside))

    def to_rows(x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 1, 3).reshape(count, -1, x.shape[3])

    def residual(name: str, x: torch.Tensor) -> torch.Tensor:
        inside = x
        for number in "12":
            inside = conv(f"{name}.conv{number}pw", conv(f"{name}.conv{number}", inside, depthwise=True))
            inside = norm(f"{name}.bn{number}", inside.relu() if number == "1" else inside)
        return (inside + x).relu()

    bins = features.shape[1]
    rows = [to_rows(layer_norm("backbone.stem.1", conv("backbone.stem.0", features.double()[:, None])))]
    for number, stride in enumerate(strides):
        stage = f"backbone.stage{number}"
        x = weighted(f"{stage}.0.w", rows).reshape(count, bins, channels, -1).permute(0, 2, 1, 3)
        x = conv(f"{stage}.2", x, stride=stride)
        bins, channels, part = bins // stride, channels * stride, 3
        while f"{stage}.{part}.conv_block.conv1.weight" in w:
            x, part = residual(f"{stage}.{part}.conv_block", x), part + 1
        if f"{stage}.{part}.0.weight" in w:
            x = functional.conv2d(
                x, w[f"{stage}.{part}.0.weight"], w[f"{stage}.{part}.0.bias"], padding=1, groups=channels
            )
            x, part = conv(f"{stage}.{part}.3", functional.gelu(norm(f"{stage}.{part}.1", x, 1e-6))), part + 1
        rows.append(context(f"{stage}.{part + 1}", to_rows(x)))
    x = weighted("backbone.fin_wght1d.w", rows)
    deviation = (x.var(dim=2, keepdim=True) + 1e-7).sqrt()
    seen = torch.cat([x, x.mean(dim=2, keepdim=True).expand_as(x), deviation.expand_as(x)], dim=1)
    shares = conv("pool.linear2", conv("pool.linear1", seen).tanh()).softmax(2)
    mean = (shares * x).sum(2)
    spread = ((shares * x**2).sum(2) - mean**2).clamp(min=1e-7).sqrt()
    return linear("linear", norm("bn", torch.cat([mean, spread], dim=1)))


def test_redimnet_loads_a_checkpoint_with_its_settings_and_front_end_and_equals_its_rewriting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = settled(FAMILIES["redimnet"])
    for name, value in network.named_parameters():
        if name.endswith(".w"):
            torch.nn.init.normal_(value)
    beside = {"spec.torchfbank.2.mel_scale.fb": torch.zeros(257, 16), "cls_head.2.weight": torch.zeros(9, SIZE)}
    content = {"model_config": {"F": 16, "C": 2}, "state_dict": {**network.state_dict(), **beside}}
    torch.save(content, tmp_path / "b0.pt")
    monkeypatch.setitem(FBANK_EMBEDDERS, "tiny", lambda *given: FAMILIES["redimnet"]())
    card = dataclasses.replace(card_of("tiny", SIZE, BINS), checkpoint=Checkpoint("tiny", "state_dict"))
    features = features_of(2, 70)
    with torch.inference_mode():
        found = load_checkpoint(card, tmp_path / "b0.pt")(features)
        expected = redimnet(network.state_dict(), features, (1, 2), 2)
    assert expected.std(dim=0).min() > 1e-3
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def small(form: EcapaForm) -> Ecapa:
    return Ecapa(WIDTH, SIZE, BINS, POOLED, SCALE, GATE, ATTENTION, form)


@pytest.mark.parametrize("layout", [WeSpeaker, SpeechBrain])
def test_ecapa_of_another_project_loads_by_its_own_names_and_equals_its_rewriting(
    layout: type[WeSpeaker | SpeechBrain], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = layout()
    monkeypatch.setitem(FBANK_EMBEDDERS, "tiny", lambda *given: small(layout.form))
    torch.save(theirs.checkpoint(), tmp_path / "theirs.pt")
    ours = load_checkpoint(card_of("tiny", SIZE, BINS), tmp_path / "theirs.pt")
    for frames in (50, 9):
        features = features_of(2, frames)
        with torch.inference_mode():
            found = ours(features).numpy()
        expected = np.stack([theirs(item) for item in features.double().numpy()])
        assert expected.std(axis=0).min() > 1e-3
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("ecapa_c512_wespeaker", 6.19),
        ("ecapa_c1024_wespeaker", 14.66),
        ("ecapa_c1024_speechbrain", 20.77),
        ("redimnet_b0", 1.004),
    ],
)
def test_network_of_another_project_has_as_many_parameters_as_published(name: str, millions: float) -> None:
    """Published: 6.19 and 14.65 million in WeSpeaker's table, 20.8 million for SpeechBrain's, 1.0 for ReDimNet-B0."""
    card = card_of(name, 192, 60 if name == "redimnet_b0" else 80)
    with torch.device("meta"):
        network = build_network(name, card.input, card.output)
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_cards_of_voice_networks_in_the_zoo_are_built_from_their_architectures() -> None:
    cards = [card for card in map(load_card, card_names()) if card.kind == "speaker_embedder" and card.checkpoint]
    assert len(cards) >= 8
    for card in cards:
        assert card.checkpoint
        network = build_network(card.checkpoint.architecture, card.input, card.output)
        outputs = [value.shape[0] for name, value in network.state_dict().items() if value.ndim > 1]
        assert outputs[-1] == card.output.embedding_size, card.name


def test_onnx_file_of_wespeaker_is_installed_and_run_as_it_is(tmp_path: Path) -> None:
    """Frames first, input ``feats``, output ``embs``, as its export_onnx.py writes them; any number of both."""
    onnx = pytest.importorskip("onnx", reason="makes the file")
    helper, card = onnx.helper, load_card("wespeaker_resnet34_onnx")
    weights = np.random.default_rng(6).normal(size=(80, 256)).astype(np.float32)
    nodes = [
        helper.make_node("Abs", ["feats"], ["sizes"]),  # the mean over time of the features themselves is 0
        helper.make_node("ReduceMean", ["sizes"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["pooled", "weights"], ["embs"]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "x",
        [helper.make_tensor_value_info("feats", kind, ["B", "T", 80])],
        [helper.make_tensor_value_info("embs", kind, ["B", 256])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    mine = tmp_path / "mine" / card.name
    mine.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.save(model, mine / card.file.name)
    installed = install_model(card.name, tmp_path / "models", [tmp_path / "mine"])
    embedder = SpeakerEmbedder(open_network(installed), card)
    sounds = [np.random.default_rng(n).uniform(-0.1, 0.1, 16000 - 400 * n).astype(np.float32) for n in range(2)]
    found = embedder.embed([embedder.items(sound) for sound in sounds])
    expected = [np.abs(embedder.items(sound)[0]).mean(axis=0) @ weights for sound in sounds]
    assert found == pytest.approx(np.stack(expected), rel=1e-4, abs=1e-4)
