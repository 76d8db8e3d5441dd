"""Networks for features of sound: a rewriting in numpy, names and numbers of weights, masks, checkpoints and ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engines_here import ENGINES

from vidperson.engines import load_network
from vidperson.errors import ModelError
from vidperson.networks.card import Checkpoint, FbankInput, ModelCard, NetworkFile, Output, card_text, load_card
from vidperson.types import Float

torch = pytest.importorskip("torch", reason="networks are defined in PyTorch")

from vidperson.networks.architectures.campplus import CamPlusPlus, segment_means  # noqa: E402
from vidperson.networks.architectures.ecapa import SHAPES as ECAPAS  # noqa: E402
from vidperson.networks.architectures.ecapa import SPEECHBRAIN, WESPEAKER, Ecapa  # noqa: E402
from vidperson.networks.architectures.fbank_resnet import SHAPES, FbankResNet, FbankResNetShape, ResidualBlock  # noqa: E402
from vidperson.networks.architectures.redimnet import ReDimNet, Stage  # noqa: E402
from vidperson.networks.convert import (  # noqa: E402
    FBANK_EMBEDDERS,
    build_network,
    export_network,
    load_checkpoint,
)

FAMILIES = {
    "ecapa": lambda: Ecapa(16, 6, bins=16, pooled=12, scale=4, gate=5, attention=7),
    "ecapa of WeSpeaker": lambda: Ecapa(16, 6, 16, 12, 4, 5, 7, WESPEAKER),
    "ecapa of SpeechBrain": lambda: Ecapa(16, 6, 16, 12, 4, 5, 7, SPEECHBRAIN),
    "resnet": lambda: FbankResNet(FbankResNetShape((1, 2, 1, 1), width=4), 6, 16),
    "campplus": lambda: CamPlusPlus(6, 16, (1, 2, 1), 4, 8),
    "redimnet": lambda: ReDimNet(6, 16, (Stage(1, 1, 1, 4), Stage(2, 2, 2, 2)), 2),
    "bottlenecks": lambda: FbankResNet(FbankResNetShape((1, 1, 1, 1), True, 4), 6, 16),
}
LENGTHS = (237, 8, 1, 200, 9)  # CAM++ has segments of 100 frames, 200 before they are halved


def card_of(architecture: str, size: int, bins: int = 80, channels_first: bool = True) -> ModelCard:
    sound = FbankInput(
        sample_rate=16000, mel_bins=bins, window=400, hop=160, fft=512, low_hz=20.0, high_hz=7600.0,
        framing="centred", window_type="hamming", mel_scale="htk", mean_norm=True, log_offset=1e-6,
        channels_first=channels_first,
    )  # fmt: skip
    output = Output(embedding_size=size)
    return ModelCard(
        "x", "speaker_embedder", "d", "l", "h", "t", NetworkFile("x.pt"), sound, output, Checkpoint(architecture)
    )


def settled(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """In evaluation mode, the same weights each time, and statistics of batch norms as after training."""
    torch.manual_seed(4)
    network = make()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            if module.affine:
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return network.eval()


def features_of(count: int, frames: int, bins: int = 16) -> torch.Tensor:
    return torch.randn(count, bins, frames, generator=torch.Generator().manual_seed(5))


def parameters(network: torch.nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


class Plain:
    """Layers for one recording in float64, of a network's weights by their names."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.weights = {name: value.double().numpy() for name, value in network.state_dict().items()}

    def conv(self, name: str, x: Float, dilation: int = 1) -> Float:
        """(channels, frames), zeros around it."""
        kernel = self.weights[f"{name}.weight"]
        bias = self.weights.get(f"{name}.bias", np.zeros(len(kernel)))
        reach, frames = kernel.shape[2] // 2 * dilation, x.shape[1]
        wide = np.pad(x, ((0, 0), (reach, reach)))
        return bias[:, None] + sum(
            kernel[:, :, tap] @ wide[:, tap * dilation : tap * dilation + frames] for tap in range(kernel.shape[2])
        )

    def norm(self, name: str, x: Float) -> Float:
        mean, variance = self.weights[f"{name}.running_mean"], self.weights[f"{name}.running_var"]
        weight, bias = self.weights.get(f"{name}.weight", 1.0), self.weights.get(f"{name}.bias", 0.0)
        return ((x.T - mean) / np.sqrt(variance + 1e-5) * weight + bias).T

    def relu_norm(self, conv: str, norm: str, x: Float, dilation: int = 1) -> Float:
        return self.norm(norm, np.maximum(self.conv(conv, x, dilation), 0))


class PlainEcapa(Plain):
    """ECAPA-TDNN, written from its description."""

    def block(self, name: str, x: Float, dilation: int) -> Float:
        inside = self.relu_norm(f"{name}.conv1", f"{name}.bn1", x)
        width = self.weights[f"{name}.convs.0.weight"].shape[0]
        groups = [inside[first : first + width] for first in range(0, len(inside), width)]
        found, last = [], np.zeros_like(groups[0])
        for number, group in enumerate(groups[:-1]):
            last = self.relu_norm(f"{name}.convs.{number}", f"{name}.bns.{number}", group + last, dilation)
            found.append(last)
        inside = self.relu_norm(f"{name}.conv3", f"{name}.bn3", np.concatenate([*found, groups[-1]]))
        squeezed = np.maximum(self.conv(f"{name}.se.se.1", inside.mean(axis=1, keepdims=True)), 0)
        return x + inside / (1 + np.exp(-self.conv(f"{name}.se.se.3", squeezed)))

    def __call__(self, features: Float) -> Float:
        x = self.relu_norm("conv1", "bn1", features.astype(np.float64))
        first = self.block("layer1", x, 2)
        second = self.block("layer2", x + first, 3)
        third = self.block("layer3", x + first + second, 4)
        x = np.maximum(self.conv("layer4", np.concatenate([first, second, third])), 0)
        deviation = np.sqrt(np.maximum(x.var(axis=1, ddof=1), 1e-4))
        seen = np.concatenate([x, np.tile(x.mean(axis=1), (x.shape[1], 1)).T, np.tile(deviation, (x.shape[1], 1)).T])
        scores = self.conv("attention.4", np.tanh(self.relu_norm("attention.0", "attention.2", seen)))
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        mean = (shares * x).sum(axis=1)
        spread = np.sqrt(np.maximum((shares * x**2).sum(axis=1) - mean**2, 1e-4))
        pooled = self.norm("bn5", np.concatenate([mean, spread]))
        return self.norm("bn6", self.weights["fc6.weight"] @ pooled + self.weights["fc6.bias"])


class PlainCampplus(Plain):
    """CAM++ behind its maps, written from its description."""

    def norm_relu(self, name: str, x: Float) -> Float:
        return np.maximum(self.norm(f"{name}.batchnorm", x), 0)

    def layer(self, name: str, x: Float, dilation: int) -> Float:
        inside = self.conv(f"{name}.linear1", self.norm_relu(f"{name}.nonlinear1", x))
        inside = self.norm_relu(f"{name}.nonlinear2", inside)
        context = np.repeat(inside.mean(axis=1, keepdims=True), inside.shape[1], axis=1)
        for first in range(0, inside.shape[1], 100):
            context[:, first : first + 100] += inside[:, first : first + 100].mean(axis=1, keepdims=True)
        context = np.maximum(self.conv(f"{name}.cam_layer.linear1", context), 0)
        weights = 1 / (1 + np.exp(-self.conv(f"{name}.cam_layer.linear2", context)))
        return np.concatenate([x, self.conv(f"{name}.cam_layer.linear_local", inside, dilation) * weights])

    def __call__(self, maps: Float) -> Float:
        x = self.conv("xvector.tdnn.linear", maps.astype(np.float64))[:, ::2]
        x = self.norm_relu("xvector.tdnn.nonlinear", x)
        for block, dilation in ((1, 1), (2, 2), (3, 2)):
            layer = 1
            while f"xvector.block{block}.tdnnd{layer}.linear1.weight" in self.weights:
                x = self.layer(f"xvector.block{block}.tdnnd{layer}", x, dilation)
                layer += 1
            name = f"xvector.transit{block}"
            x = self.conv(f"{name}.linear", self.norm_relu(f"{name}.nonlinear", x))
        x = self.norm_relu("xvector.out_nonlinear", x)
        pooled = np.concatenate([x.mean(axis=1), np.sqrt(x.var(axis=1, ddof=1) + 1e-7)])
        return self.norm(
            "xvector.dense.nonlinear.batchnorm", self.weights["xvector.dense.linear.weight"][..., 0] @ pooled
        )


def test_campplus_equals_a_rewriting_in_numpy_behind_its_maps() -> None:
    network, maps = settled(FAMILIES["campplus"]), []
    network.head.register_forward_hook(lambda *values: maps.append(values[2]))
    with torch.inference_mode():
        found = network(features_of(2, 423)).numpy()
    assert maps[0].shape == (2, 64, 423)
    plain = PlainCampplus(network)
    expected = np.stack([plain(item) for item in maps[0].numpy()])
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("bottleneck", "stride"), [(False, (1, 1)), (False, (2, 1)), (True, (2, 2))])
def test_residual_block_is_its_convolutions_and_its_shortcut(bottleneck: bool, stride: tuple[int, int]) -> None:
    block = settled(lambda: ResidualBlock(4, 4, stride, bottleneck)).double()
    weights = block.state_dict()
    functional = torch.nn.functional

    def layer(conv: str, norm: str, given: torch.Tensor, step: tuple[int, int] = (1, 1)) -> torch.Tensor:
        kernel = weights[f"{conv}.weight"]
        found = functional.conv2d(given, kernel, None, step, kernel.shape[2] // 2)
        kept = (weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(found, *kept)

    x = torch.randn(2, 4, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    inside = layer("conv1", "bn1", x, (1, 1) if bottleneck else stride).relu()
    inside = layer("conv2", "bn2", inside, stride if bottleneck else (1, 1))
    inside = layer("conv3", "bn3", inside.relu()) if bottleneck else inside
    shortcut = x if stride == (1, 1) else layer("shortcut.0", "shortcut.1", x, stride)
    with torch.inference_mode():
        found, mask = block(x, None)
    assert mask is None and torch.allclose(found, (inside + shortcut).relu(), atol=1e-9)


@pytest.mark.parametrize("bins", [16, 80])
def test_ecapa_equals_a_rewriting_in_numpy_with_the_same_weights(bins: int) -> None:
    network = settled(lambda: Ecapa(64, 24, bins=bins, pooled=40, gate=9, attention=11))
    plain = PlainEcapa(network)
    features = features_of(3, 50, bins)
    with torch.inference_mode():
        found = network(features).numpy()
    expected = np.stack([plain(item) for item in features.numpy()])
    assert expected.std(axis=0).min() > 1e-3
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "published"), [("ecapa_c512", 6.65), ("ecapa_c1024", 14.73)])
def test_ecapa_has_as_many_weights_as_published_under_the_originals_names(name: str, published: float) -> None:
    """Of the larger "14.73" are printed by the original, which divides by 1024 x 1024: 15.4 million.

    Each layer's are counted here: weights, biases and batch norm.
    """
    with torch.device("meta"):
        network = Ecapa(ECAPAS[name][0])
    width = ECAPAS[name][0]
    inside = 2 * width * (width + 3) + 7 * (width // 8) * (3 * width // 8 + 3)
    gate = 2 * 128 * width + 128 + width
    pooling = (3 * width + 1) * 1536 + (3 * 1536 + 3) * 256 + (256 + 1) * 1536
    head = 2 * 3072 + (3072 + 3) * 192
    assert parameters(network) == width * (5 * 80 + 3) + 3 * (inside + gate) + pooling + head
    assert round(parameters(network) / 1024**2, 2) == published
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    expected = {
        "conv1.weight": (width, 80, 5), "bn1.running_var": (width,), "layer2.conv3.bias": (width,),
        "layer1.convs.6.weight": (width // 8, width // 8, 3), "layer3.bns.6.weight": (width // 8,),
        "layer1.se.se.1.weight": (128, width, 1), "layer3.se.se.3.weight": (width, 128, 1),
        "layer4.weight": (1536, 3 * width, 1), "attention.0.weight": (256, 4608, 1), "attention.2.weight": (256,),
        "attention.4.weight": (1536, 256, 1), "bn5.bias": (3072,), "fc6.weight": (192, 3072), "bn6.weight": (192,),
    }  # fmt: skip
    assert {key: shapes[key] for key in expected} == expected
    assert {key.split(".")[0] for key in shapes} == {key.split(".")[0] for key in expected}


@pytest.mark.parametrize(("name", "millions"), [("resnet34_tstp", 6.63), ("resnet293_tstp", 28.6)])
def test_residual_networks_have_as_many_weights_as_published_under_wespeakers_names(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = FbankResNet(SHAPES[name], 256, 80)
    assert parameters(network) / 1e6 == pytest.approx(millions, abs=0.06)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    outputs = 256 * SHAPES[name].expansion
    assert shapes["conv1.weight"] == (32, 1, 3, 3) and shapes["seg_1.weight"] == (256, 20 * outputs)
    assert shapes["layer1.0.conv2.weight"] == (32, 32, 3, 3) and shapes["layer4.0.shortcut.1.bias"] == (outputs,)
    assert shapes["layer4.0.shortcut.0.weight"] == (outputs, outputs // 2, 1, 1)
    assert ("layer1.0.shortcut.0.weight" in shapes, "layer1.0.bn3.weight" in shapes) == (outputs == 1024,) * 2


def test_campplus_has_as_many_weights_as_published_under_3d_speakers_names() -> None:
    network = CamPlusPlus()  # on the device meta drawing its weights would take ten times as long
    assert parameters(network) / 1e6 == pytest.approx(7.18, abs=0.005)  # 7.18M in WeSpeaker's table
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    layer = "xvector.block2.tdnnd24"
    expected = {
        "head.conv1.weight": (32, 1, 3, 3), "head.layer1.0.shortcut.0.weight": (32, 32, 1, 1),
        "head.layer2.1.bn2.bias": (32,), "head.conv2.weight": (32, 32, 3, 3), "head.bn2.weight": (32,),
        "xvector.tdnn.linear.weight": (128, 320, 5), "xvector.tdnn.nonlinear.batchnorm.weight": (128,),
        f"{layer}.nonlinear1.batchnorm.weight": (992,), f"{layer}.linear1.weight": (128, 992, 1),
        f"{layer}.nonlinear2.batchnorm.bias": (128,), f"{layer}.cam_layer.linear_local.weight": (32, 128, 3),
        f"{layer}.cam_layer.linear1.bias": (64,), f"{layer}.cam_layer.linear2.weight": (32, 64, 1),
        "xvector.transit2.nonlinear.batchnorm.bias": (1024,), "xvector.transit2.linear.weight": (512, 1024, 1),
        "xvector.out_nonlinear.batchnorm.weight": (512,), "xvector.dense.linear.weight": (512, 1024, 1),
        "xvector.dense.nonlinear.batchnorm.running_var": (512,),
    }  # fmt: skip
    assert {key: shapes.get(key) for key in expected} == expected
    assert "xvector.dense.nonlinear.batchnorm.weight" not in shapes


@pytest.mark.parametrize("lengths", [(250,), (250, 101, 100, 7)])
def test_means_of_segments_are_those_of_their_frames_before_the_end(lengths: tuple[int, ...]) -> None:
    x = features_of(len(lengths), 250, 3)
    mask = torch.stack([torch.arange(250) < length for length in lengths])[:, None]
    found = segment_means(x, mask).numpy()
    for item, length, means in zip(x.numpy(), lengths, found, strict=True):
        for first in range(0, length, 100):
            part = item[:, first : min(first + 100, length)]
            assert means[:, first : first + part.shape[1]] == pytest.approx(
                np.tile(part.mean(axis=1), (part.shape[1], 1)).T, abs=1e-6
            )
    assert segment_means(x[:1], None).numpy() == pytest.approx(found[:1], abs=1e-6)


def test_residual_network_pools_mean_and_deviation_of_its_last_map() -> None:
    """An eighth of frames and bins, rounded up; channels vary slower than bins, as WeSpeaker flattens them."""
    network, maps = settled(FAMILIES["resnet"]), []
    network.layer4[-1].register_forward_hook(lambda *values: maps.append(values[2][0]))
    with torch.inference_mode():
        found = network(features_of(2, 41))
    assert maps[0].shape == (2, 32, 2, 6)
    values = maps[0].numpy().astype(np.float64)
    stacked = [values.mean(axis=3).reshape(2, -1), np.sqrt(values.var(axis=3, ddof=1) + 1e-7).reshape(2, -1)]
    weight, bias = (getattr(network.seg_1, part).detach().numpy() for part in ("weight", "bias"))
    assert found.numpy() == pytest.approx(np.concatenate(stacked, axis=1) @ weight.T + bias, abs=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_embedding_of_a_recording_does_not_depend_on_what_it_is_batched_with(family: str) -> None:
    """Behind the ends are values that would spoil everything if they counted."""
    network = settled(FAMILIES[family])
    features = features_of(len(LENGTHS), max(LENGTHS) + 5)
    for item, length in zip(features, LENGTHS, strict=True):
        item[:, length:] = torch.nan if length % 2 else 1e4
    with torch.inference_mode():
        together = network(features, torch.tensor(LENGTHS))
        apart = torch.cat([network(item[None, :, :n]) for item, n in zip(features, LENGTHS, strict=True)])
    assert apart.isfinite().all() and apart.std(dim=0).max() > 0.01 * apart.abs().max()
    assert (together - apart).abs().max() <= 1e-5 * apart.abs().max()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_gradients_of_a_batch_with_masks_are_finite_and_nothing_comes_from_behind_the_ends(family: str) -> None:
    network, features = settled(FAMILIES[family]).train(), features_of(len(LENGTHS), max(LENGTHS) + 3).requires_grad_()
    network(features, torch.tensor(LENGTHS)).square().sum().backward()
    assert features.grad is not None and all(each.grad.isfinite().all() for each in network.parameters())
    for gradient, length in zip(features.grad, LENGTHS, strict=True):
        assert (gradient[:, length:] == 0).all() and gradient[:, :length].isfinite().all()
    assert features.grad[0].abs().max() > 0


CHECKPOINTS = {
    # the original's own, A-Vox2: as it is and with the name of the network before it
    "ecapa": lambda own: {**own, "weight": torch.zeros(9, 6), "torchfbank.0.flipped_filter": torch.zeros(1, 1, 2)},
    "prefixed": lambda own: {
        **{f"speaker_encoder.{name}": value for name, value in own.items()},
        "speaker_encoder.torchfbank.1.mel_scale.fb": torch.zeros(257, 80),
        "speaker_loss.weight": torch.zeros(9, 6),
    },
    "projection": lambda own: {**own, "projection.weight": torch.zeros(9, 6)},
}


@pytest.mark.parametrize(
    ("form", "family"),
    [("ecapa", "ecapa"), ("prefixed", "ecapa"), ("projection", "resnet"), ("projection", "campplus")],
)
def test_checkpoint_loads_and_what_lies_beside_the_network_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str, family: str
) -> None:
    monkeypatch.setitem(FBANK_EMBEDDERS, "tiny", lambda *given: FAMILIES[family]())
    network, features = settled(FAMILIES[family]), features_of(2, 30)
    torch.save(CHECKPOINTS[form](network.state_dict()), tmp_path / "x.pt")
    (tmp_path / "x.yaml").write_text(card_text(card_of("tiny", 6, 16)))
    loaded = load_checkpoint(load_card(tmp_path / "x.yaml"), tmp_path / "x.pt")
    with torch.inference_mode():
        assert torch.equal(loaded(features), network(features))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer5.weight": torch.zeros(3)}, 'Unexpected key.*"layer5.weight"'),
        ({"fc6.weight": torch.zeros(3, 3)}, "size mismatch for fc6.weight"),
        ({"fc6.bias": None}, 'Missing key.*"fc6.bias"'),
    ],
)
def test_weights_that_do_not_fit_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    monkeypatch.setitem(FBANK_EMBEDDERS, "tiny", lambda *given: FAMILIES["ecapa"]())
    weights = {**FAMILIES["ecapa"]().state_dict(), **change}
    torch.save({name: value for name, value in weights.items() if value is not None}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=f"x.pt: the weights do not fit tiny: .*{message}"):
        load_checkpoint(card_of("tiny", 6, 16), tmp_path / "x.pt")


def test_every_architecture_is_built_for_the_sizes_of_its_card_or_says_what_is_wrong_with_it() -> None:
    heads = {
        "ecapa_c512": "fc6",
        "resnet18_tstp": "seg_1",
        "campplus": "xvector.dense.linear",
        "redimnet_b0": "linear",
    }
    for name, head in heads.items():
        card = card_of(name, 100, 40)
        network = build_network(name, card.input, card.output)
        assert network.get_submodule(head).weight.shape[0] == 100
        with torch.inference_mode():
            assert network(torch.zeros(2, 40, 99)).shape == (2, 100)
    assert {*ECAPAS, *SHAPES, "campplus", "redimnet_b0"} <= set(FBANK_EMBEDDERS)
    for card, message in (
        (card_of("iresnet18", 100), "architecture: expected one of ecapa_c512 .*, found 'iresnet18'"),
        (card_of("ecapa_c512", 100, channels_first=False), "input.channels_first: expected true, .*, found false"),
        (card_of("resnet18_tstp", 100, 44), "input.mel_bins: expected a multiple of 8, found 44"),
        (card_of("campplus", 100, 44), "input.mel_bins: expected a multiple of 8, found 44"),
        (card_of("redimnet_b0", 100, 62), "input.mel_bins: expected a multiple of 4, found 62"),
    ):
        assert card.checkpoint
        with pytest.raises(ModelError, match=message):
            build_network(card.checkpoint.architecture, card.input, card.output)


EXPORTED = {"ecapa": lambda: Ecapa(8, 6, bins=16, pooled=12, scale=2, gate=5, attention=7), **FAMILIES}


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name == "ecapa" else pytest.mark.campaign) for name in sorted(FAMILIES)]
)
def test_onnx_file_equals_the_network_on_every_engine_for_any_number_of_recordings_and_frames(
    family: str, tmp_path: Path
) -> None:
    network, path = settled(EXPORTED[family]), tmp_path / "network.onnx"
    export_network(network, card_of("", 6, 16), path)
    for engine in ENGINES:
        ran = load_network(path, engine)
        for count, frames in ((3, 41), (1, 441), (2, 1)):
            features = features_of(count, frames)
            with torch.inference_mode():
                expected = network(features).numpy()
            assert np.abs(ran(features.numpy())[0] - expected).max() <= 1e-5 * np.abs(expected).max(), engine


@pytest.mark.campaign
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_onnx_file_with_lengths_equals_the_network_for_recordings_of_different_lengths(
    family: str, tmp_path: Path
) -> None:
    """Exported here, as the engines take one array: what a network does with its mask is what ONNX can say."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the file")
    network, free = settled(EXPORTED[family]), torch.export.Dim.DYNAMIC
    given, path = (features_of(len(LENGTHS), 240), torch.tensor(LENGTHS)), tmp_path / "network.onnx"
    shapes = ({0: free, 2: free}, {0: free})
    torch.onnx.export(network, given, path, dynamic_shapes=shapes, opset_version=18, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]
    for count, frames in ((len(LENGTHS), 240), (2, 444)):
        batch = features_of(count, frames), torch.tensor(LENGTHS[:count])
        with torch.inference_mode():
            expected = network(*batch).numpy()
        found = session.run(None, dict(zip(names, (each.numpy() for each in batch), strict=True)))[0]
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
