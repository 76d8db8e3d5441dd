"""Networks for re-identification: their weights' names and numbers, a published OSNet, ONNX, one picture at a time."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from engines_here import ENGINES

from vidperson.engines import load_network
from vidperson.errors import ModelError
from vidperson.networks.card import Checkpoint, ModelCard, NetworkFile, Output, PictureInput

torch = pytest.importorskip("torch", reason="networks are defined in PyTorch")

from vidperson.networks.architectures import densenet  # noqa: E402
from vidperson.networks.architectures.backbones import load_backbone  # noqa: E402
from vidperson.networks.architectures.densenet import DenseNetShape, ReidDenseNet  # noqa: E402
from vidperson.networks.architectures.features import Halved  # noqa: E402
from vidperson.networks.architectures.osnet import WIDTHS, OSNet  # noqa: E402
from vidperson.networks.architectures.reid_resnet import (  # noqa: E402
    MGN,
    SHAPES,
    ReidResNet,
    ResNetShape,
    TwoBranchMGN,
)
from vidperson.networks.convert import REID_SIZES, build_network, export_network, load_checkpoint  # noqa: E402

TINY = ResNetShape((1, 1, 2, 1), groups=2, group_width=32, width=8)
TINIEST = dataclasses.replace(TINY, blocks=(1, 1, 1, 1))
TINY_DENSE = DenseNetShape((2, 1, 1, 2), growth=4, width=8)
FAMILIES = {
    "osnet": lambda height: OSNet((16, 64, 64, 64), 32, (1, 1, 1)),
    "half_osnet": lambda height: Halved(OSNet((16, 64, 64, 64), 32, (1, 1, 1))),
    "resnet": lambda height: ReidResNet(TINIEST),
    "densenet": lambda height: ReidDenseNet(TINY_DENSE),
    "mgn": lambda height: MGN(TINIEST, height, 8),
    "mgn2": lambda height: TwoBranchMGN(TINIEST, height),
}
# Parameters in millions of torchvision's documentation, its classifier of 1,000 classes included.
TORCHVISION = {
    "resnet50": 25.557032,
    "resnet101": 44.549160,
    "resnet152": 60.192808,
    "resnext50_32x4d": 25.028904,
    "resnext101_32x8d": 88.791336,
}


def card_of(architecture: str, size: int, width: int = 128, height: int = 256, mirror: str = "none") -> ModelCard:
    pictures = PictureInput("rgb", (0.0,) * 3, (1.0,) * 3, width, height)
    output = Output(embedding_size=size, mirror=mirror)
    made = Checkpoint(architecture, "state_dict")
    return ModelCard("x", "body_embedder", "d", "l", "h", "t", NetworkFile("x.pth"), pictures, output, made)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights do not depend on which tests ran before."""
    torch.manual_seed(4)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are whatever is in the memory: only their shapes are of interest, and drawing values takes long."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "uniform_", "zeros_", "ones_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *given, **named: tensor)


def parameters(network: torch.nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def settle(network: torch.nn.Module) -> torch.nn.Module:
    """In evaluation mode, with statistics of batch norms that are not those of the beginning."""
    draw = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            with torch.no_grad():
                module.running_mean.normal_(0, 0.1, generator=draw)
                module.running_var.uniform_(0.5, 1.5, generator=draw)
                module.weight.uniform_(0.5, 1.5, generator=draw)
                module.bias.normal_(0, 0.1, generator=draw)
    return network.eval()


def pictures_of(count: int, height: int = 64, width: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(5))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_residual_networks_have_as_many_weights_as_torchvisions_less_the_classifier(name: str) -> None:
    with torch.device("meta"):
        network = ReidResNet(SHAPES[name])
    assert parameters(network) == round(TORCHVISION[name] * 1e6) - (2048 * 1000 + 1000) + 2 * 2048
    names = set(network.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv2.weight", "layer3.5.bn3.bias"} <= names
    assert {"layer1.0.downsample.0.weight", "layer4.2.conv3.weight", "layer4.0.downsample.1.bias"} <= names


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "millions", "width"),
    [
        ("densenet121", 7.978856, 1024),
        ("densenet161", 28.681000, 2208),
        ("densenet169", 14.149480, 1664),
        ("densenet201", 20.013928, 1920),
    ],
)
def test_dense_networks_have_as_many_weights_as_torchvisions_less_the_classifier(
    name: str, millions: float, width: int
) -> None:
    with torch.device("meta"):
        network = ReidDenseNet(densenet.SHAPES[name])
    assert parameters(network) == round(millions * 1e6) - (width * 1000 + 1000) + 2 * width
    assert densenet.SHAPES[name].outputs == width == REID_SIZES[f"{name}_reid"]
    names = set(network.state_dict())
    assert {"layers.conv0.weight", "layers.denseblock4.denselayer16.conv2.weight", "layers.norm5.bias"} <= names
    assert {"layers.transition3.norm.running_mean", "layers.transition1.conv.weight"} <= names


@pytest.mark.usefixtures("undrawn")
def test_parameters_of_osnet_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        millions = {name: round(parameters(OSNet(widths)) / 1e6, 1) for name, widths in WIDTHS.items()}
    assert millions == {"osnet_x1_0": 2.2, "osnet_x0_75": 1.3, "osnet_x0_5": 0.6, "osnet_x0_25": 0.2}


def test_small_network_for_persons_takes_less_than_two_megabytes_in_16_bits() -> None:
    card = card_of("small_person", 256)
    with torch.device("meta"):
        assert 2 * parameters(build_network("small_person", card.input, card.output)) < 2e6


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "size", "mirror", "values"),
    [
        ("osnet_x0_5", 512, "none", 512),
        ("resnext50_32x4d_reid", 2048, "none", 2048),
        ("small_person", 256, "none", 256),
        ("mgn_resnet50", 4096, "concatenate", 2048),
        ("mgn2_resnet50", 8192, "sum", 8192),
    ],
)
def test_card_names_a_network_that_gives_its_number_of_values(name: str, size: int, mirror: str, values: int) -> None:
    card = card_of(name, size, 32, 64, mirror)
    network = build_network(name, card.input, card.output).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 32)).shape == (1, values)


@pytest.mark.parametrize(
    ("name", "size", "height", "message"),
    [
        ("resnet50_reid", 512, 256, "embedding_size: resnet50_reid gives 2048 values a pass, found 512"),
        ("densenet121_reid", 512, 256, "embedding_size: densenet121_reid gives 1024 values a pass, found 512"),
        ("mgn2_resnet50", 2048, 256, "embedding_size: mgn2_resnet50 gives 8192 values a pass, found 2048"),
        ("mgn_resnet50", 300, 256, "embedding_size: mgn_resnet50 gives 8 equal parts a pass, found 300"),
        ("mgn_resnet50", 2048, 32, "input.height: expected at least 33 pixels, found 32"),
    ],
)
def test_card_with_sizes_that_a_network_cannot_have_is_refused(name: str, size: int, height: int, message: str) -> None:
    card = card_of(name, size, height=height)
    with pytest.raises(ModelError, match=message):
        build_network(name, card.input, card.output)


def test_published_osnet_read_by_its_names_equals_its_own_onnx_file(shared: Path, tmp_path: Path) -> None:
    """The file's batch norms are folded into convolutions, which a batch norm that only shifts undoes."""
    onnx = pytest.importorskip("onnx", reason="reads the published weights")
    path = shared / "models/osnet_x025_msmt17_onnx/osnet_x0_25_msmt17.onnx"
    graph = onnx.load(str(path)).graph
    values = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}
    weights = {name: value for name, value in values.items() if not name.startswith("onnx::")}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1].startswith("onnx::"):
            steps: list[str] = []  # such as conv2, conv2.0, conv2b, conv2b.0, conv2
            for step in node.name.strip("/").split("/")[:-1]:
                steps = [*steps[:-1], step] if steps and step.startswith(steps[-1] + ".") else [*steps, step]
            name = ".".join(steps)
            norm = f"{name.rpartition('.')[0]}.bn"
            weights |= {f"{name}.weight": values[node.input[1]], f"{norm}.bias": values[node.input[2]]}
            nothing = torch.zeros_like(values[node.input[2]])
            weights |= {f"{norm}.running_mean": nothing, f"{norm}.running_var": nothing + (1 - 1e-5)}
            weights |= {f"{norm}.weight": nothing + 1}
    whole = {f"module.{name}": value for name, value in weights.items()}
    classes = {"module.classifier.weight": torch.zeros(9, 512), "module.classifier.bias": torch.zeros(9)}
    torch.save({"state_dict": whole | classes, "epoch": 9}, tmp_path / "x.pth")
    network = load_checkpoint(card_of("osnet_x0_25", 512), tmp_path / "x.pth")
    files = sorted((shared / "data/person/market100/gallery").glob("*.jpg"))[::400]
    images = [cv2.resize(cv2.imread(str(file)), (128, 256), interpolation=cv2.INTER_CUBIC) for file in files]
    batch = ((np.stack(images)[..., ::-1] / 255 - 0.45) / 0.225).astype(np.float32).transpose(0, 3, 1, 2).copy()
    with torch.inference_mode():
        found = network(torch.from_numpy(batch)).numpy()
    expected = load_network(path, "onnxruntime")(batch)[0]
    assert found.shape == (3, 512) and np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.campaign
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_onnx_file_equals_the_network_on_every_engine_and_whatever_is_in_the_batch(family: str, tmp_path: Path) -> None:
    """A test of training has this check in CI, of a light MGN: the exporter takes its time for the number of layers."""
    network, images, path = settle(FAMILIES[family](80)), pictures_of(5, 80, 32), tmp_path / "network.onnx"
    with torch.inference_mode():
        expected = network(images).numpy()
    assert expected.std(axis=0).max() > 0.01 * np.abs(expected).max()
    export_network(network, card_of("", expected.shape[1], 32, 80), path)
    for engine in ENGINES:
        ran = load_network(path, engine)
        found = ran(images.numpy())[0]
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), engine
        assert (ran(images.numpy()[[3]])[0] == found[[3]]).all(), engine


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_embedding_of_a_picture_does_not_depend_on_its_batch(family: str) -> None:
    network, images = settle(FAMILIES[family](64)), pictures_of(4)
    images[1:] *= 100  # a norm over the batch would shrink the first
    with torch.inference_mode():
        together, alone = network(images)[0], network(images[:1])[0]
    assert (together - alone).abs().max() <= 1e-5 * alone.abs().max() and alone.abs().max() > 0


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_features_of_every_family_fit_the_classifiers_that_are_made_for_them(family: str) -> None:
    network, images = settle(FAMILIES[family](64)), pictures_of(2)
    with torch.inference_mode():
        found = network.features(images)
        assert (found.embedding == network(images)).all()
    assert tuple(part.shape[1] for part in found.identity) == network.identity_sizes and found.metric


def test_last_map_of_the_residual_network_is_a_sixteenth_and_the_neck_is_behind_the_distances() -> None:
    network = settle(ReidResNet(TINY))
    images = pictures_of(2)
    seen = []
    network.layer4.register_forward_hook(lambda *values: seen.append(values[2]))
    with torch.inference_mode():
        embedding, (metric,), (identity,) = network.features(images)
    assert seen[0].shape == (2, 256, 4, 2) and network.identity_sizes == (256,)
    neck = network.neck
    mean = seen[0].mean(dim=(2, 3))
    expected = (mean - neck.running_mean) / (neck.running_var + 1e-5).sqrt() * neck.weight + neck.bias
    assert torch.allclose(metric, mean, atol=1e-5) and torch.allclose(embedding, expected, atol=1e-4)
    assert (identity == embedding).all() and not neck.bias.requires_grad and neck.weight.requires_grad


def test_parts_of_mgn_are_the_maxima_of_its_stripes_reduced_and_of_length_one() -> None:
    """Written out from the maps of the branches: 5 rows, so that the stripes of a half and of a third overlap."""
    network = settle(MGN(TINY, 80, 8))
    maps: list[torch.Tensor] = []
    for branch in network.branches:
        branch.register_forward_hook(lambda *values: maps.append(values[2]))
    with torch.inference_mode():
        found = network.features(pictures_of(3, 80))
        assert [one.shape for one in maps] == [(3, 256, 3, 1), (3, 256, 5, 2), (3, 256, 5, 2)]
        wanted = [one.flatten(2).amax(2) for one in maps]
        for one, rows in ((maps[1], ((0, 3), (2, 5))), (maps[2], ((0, 2), (1, 4), (3, 5)))):
            wanted += [one[:, :, first:last].flatten(2).amax(2) for first, last in rows]
        parts = [reduce(pooled) for reduce, pooled in zip(network.reductions, wanted, strict=True)]
    assert len(parts) == 8 and tuple(one.shape[1] for one in found.identity) == network.identity_sizes
    assert network.identity_sizes == (256,) * 3 + (8,) * 5
    for number, part in enumerate(parts):
        unit = part / part.norm(dim=1, keepdim=True)
        assert torch.allclose(found.embedding[:, 8 * number : 8 * number + 8], unit, atol=1e-6)
        given = found.metric[number] if number < 3 else found.identity[number]
        assert torch.allclose(given, part, atol=1e-6)
        if number < 3:
            assert torch.allclose(found.identity[number], wanted[number], atol=1e-6)


def test_parts_of_the_two_branches_are_means_behind_their_necks_and_of_length_one() -> None:
    """Written out from the maps of the branches: 5 rows, so that the halves overlap."""
    network = settle(TwoBranchMGN(TINY, 80))
    maps: list[torch.Tensor] = []
    for branch in network.branches:
        branch.register_forward_hook(lambda *values: maps.append(values[2]))
    with torch.inference_mode():
        found = network.features(pictures_of(3, 80))
    small, large = maps
    assert (small.shape, large.shape) == ((3, 256, 3, 1), (3, 256, 5, 2))
    for number, pooled in enumerate((small, large, large[:, :, :3], large[:, :, 2:])):
        mean, neck = pooled.mean(dim=(2, 3)), network.necks[number]
        behind = (mean - neck.running_mean) / (neck.running_var + 1e-5).sqrt() * neck.weight + neck.bias
        assert torch.allclose(found.metric[number], mean, atol=1e-5)
        assert torch.allclose(found.identity[number], behind, atol=1e-4)
        unit = behind / behind.norm(dim=1, keepdim=True)
        assert torch.allclose(found.embedding[:, 256 * number : 256 * number + 256], unit, atol=1e-5)


def test_last_map_of_the_dense_network_is_a_sixteenth_and_the_neck_is_behind_the_distances() -> None:
    network = settle(ReidDenseNet(TINY_DENSE))
    seen = []
    network.layers.register_forward_hook(lambda *values: seen.append(values[2]))
    with torch.inference_mode():
        embedding, (metric,), (identity,) = network.features(pictures_of(2))
        assert seen[0].shape == (2, TINY_DENSE.outputs, 4, 2)
        assert torch.allclose(metric, seen[0].clamp_min(0).mean(dim=(2, 3)), atol=1e-6)
        assert (network.neck(metric) == embedding).all() and (identity == embedding).all()


def published(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a network under torchvision's names, all other ones than it has."""
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("neck.")}
    return {re.sub(r"^layers\.", "features.", name): torch.randn(value.shape) for name, value in own.items()}


@pytest.mark.parametrize(
    ("family", "source"),
    [("resnet", "resnet"), ("mgn", "resnet"), ("mgn2", "resnet"), ("densenet", "densenet")],
)
def test_weights_of_torchvisions_names_start_every_branch_and_leave_the_head(family: str, source: str) -> None:
    torch.manual_seed(1)
    network, given = FAMILIES[family](64), published(FAMILIES[source](64))
    old = {name: value for name, value in given.items() if "num_batches" not in name}  # as before PyTorch 0.4
    # The published DenseNets are older than the names of their layers.
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value for name, value in old.items()}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    classifier = "fc" if source == "resnet" else "classifier"
    load_backbone(network, {**old, f"{classifier}.weight": torch.zeros(9, 2), f"{classifier}.bias": torch.zeros(9)})
    after, used = network.state_dict(), set()
    for name, value in after.items():
        plain = re.sub(r"^layers\.", "features.", re.sub(r"^(trunk|branches\.\d+)\.", "", name))
        if plain in given:
            used.add(plain)
            assert "num_batches" in plain or (value == given[plain]).all()
        else:
            assert name.startswith(("neck", "reductions.")) and (value == before[name]).all()
    assert used == set(given)


def test_imagenet_weights_of_osnet_start_its_maps_and_not_its_values() -> None:
    network, given = FAMILIES["half_osnet"](64), FAMILIES["osnet"](64).state_dict()
    before = network.network.fc[0].weight.clone()
    load_backbone(network, {f"module.{name}": value for name, value in given.items()})
    assert (network.network.conv5.conv.weight == given["conv5.conv.weight"]).all()
    assert (network.network.fc[0].weight == before).all()


def test_weights_that_do_not_fit_the_backbone_are_named() -> None:
    network = ReidResNet(TINY)
    given = {name: value for name, value in network.state_dict().items() if not name.startswith("neck.")}
    for change, message in (
        ({"layer5.0.conv1.weight": given["conv1.weight"]}, "'layer5.0.conv1.weight' is of no part of it; 1 do not fit"),
        ({"bn1.bias": torch.zeros(9)}, r"'bn1.bias' has the shape \(9,\), not \(8,\); 1 do not fit"),
    ):
        with pytest.raises(ModelError, match=message):
            load_backbone(network, {**given, **change})
    with pytest.raises(ModelError, match="no 'bn1.bias'; 1 do not fit"):
        load_backbone(network, {name: value for name, value in given.items() if name != "bn1.bias"})
