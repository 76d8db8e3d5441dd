"""Face networks and their training from the step's command line: a tiny run that learns, goes on, and is exported."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from vidperson.engines import load_network
from vidperson.errors import DataError, ModelError, TrainingError
from vidperson.face.embedder import FaceEmbedder
from vidperson.io.pairs import read_pairs
from vidperson.io.pictures import list_pictures
from vidperson.io.record import damaged_outputs, read_record, record_path
from vidperson.networks.card import Output, PictureInput, load_card
from vidperson.networks.install import install_model

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from steps_face.evaluate_pairs import measure_pairs  # noqa: E402
from steps_face.train_embedder import (  # noqa: E402
    TrainEmbedderOptions,
    ValidationOptions,
    _validation,
    train_embedder,
)
from vidperson import cli  # noqa: E402
from vidperson.engines.torch_graph import OnnxModule  # noqa: E402
from vidperson.networks.architectures.iresnet import BLOCKS, IResNet  # noqa: E402
from vidperson.networks.architectures.small_resnet import SmallResNet  # noqa: E402
from vidperson.networks.convert import EMBEDDERS, build_network, export_network  # noqa: E402
from vidperson.training.batches import Normalise  # noqa: E402
from vidperson.training.export import new_card  # noqa: E402
from vidperson.training.loop import load_checkpoint, read_log  # noqa: E402
from vidperson.training.losses import IdentityLoss  # noqa: E402
from vidperson.training.task import EmbedderTask, TeacherModule, Teaching  # noqa: E402

PEOPLE, TRAIN, HELD_OUT = 3, 10, 4
OTHERS = (5, 6)  # persons whom nothing is learnt or chosen by
RECIPE = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
INPUT = PictureInput("rgb", (127.5,) * 3, (127.5,) * 3, 112, 112)


def make_person(who: int, number: int) -> np.ndarray:
    """A 112 x 112 picture: blobs at places of their own for each person, in another light each time."""
    places = np.random.default_rng(who).uniform(20, 92, (5, 2))
    rng = np.random.default_rng([who, number])
    y, x = np.mgrid[0:112, 0:112]
    image = np.full((112, 112, 3), rng.uniform(60, 120, 3))
    for cx, cy in places + rng.normal(0, 2, places.shape):
        blob = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 150)
        image += blob[..., None] * rng.uniform(70, 130)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train/`` with one broken picture and one person of a single picture, ``held_out/`` and its ``pairs``;
    ``test_pairs`` are of other persons."""
    root = tmp_path_factory.mktemp("people")
    for who in range(PEOPLE):
        for number in range(TRAIN + HELD_OUT):
            folder = root / ("train" if number < TRAIN else "held_out") / f"p{who}"
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number:02d}.png"), make_person(who, number)[..., ::-1])
    (root / "train/p0/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (root / "train/single").mkdir()
    cv2.imwrite(str(root / "train/single/0.png"), make_person(9, 0))
    for who in OTHERS:
        (root / f"held_out/p{who}").mkdir()
        for number in range(TRAIN, TRAIN + HELD_OUT):
            cv2.imwrite(str(root / f"held_out/p{who}/{number:02d}.png"), make_person(who, number)[..., ::-1])
    for name, whom in (("pairs", range(PEOPLE)), ("test_pairs", OTHERS)):
        keys = [(who, f"p{who}/{number:02d}") for who in whom for number in range(TRAIN, TRAIN + HELD_OUT)]
        pairs = [
            f"{a} {b} {'target' if who == other else 'nontarget'}\n"
            for k, (who, a) in enumerate(keys)
            for other, b in keys[k + 1 :]
        ]
        (root / name).write_text("".join(pairs))
    return root


def options(people: Path, output: Path, **more: Any) -> dict[str, Any]:
    """A run of some seconds on one core."""
    return {
        "train_data": [str(people / "train")],
        "output_dir": str(output),
        "architecture": "small_resnet",
        "embedding_size": 16,
        "scale": 16.0,
        "margin": 0.2,
        "augment": "mirror=0 colour=0.5 jitter=0.3 mix=0.2",
        "batch_size": 8,
        "epochs": 4,
        "lr": 0.003,
        "ema": 0.5,
        "log_steps": 1,
        "save_steps": 3,
        "valid_pictures": str(people / "held_out"),
        "valid_pairs": str(people / "pairs"),
        "test_pairs": str(people / "test_pairs"),
    } | more


def train(**given: Any) -> dict[str, Any]:
    return train_embedder(cli.fill(TrainEmbedderOptions, **given))


@pytest.fixture(scope="module")
def trained(people: Path, repo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a network that the recipe's script trained, and its log."""
    exp = tmp_path_factory.mktemp("exp")
    call = ["./run_010_train_face_embedder.sh", "--exp-dir", str(exp), "--train-name", "tiny", "--train-threads", "1"]
    for name, value in {**options(people, exp), "workers": 0}.items():
        if name in ("output_dir", "log_steps"):
            continue
        name = {"batch_size": "batch"}.get(name, name).removeprefix("train_")
        name = name if name.startswith(("valid", "test")) else f"train_{name}"
        call += [f"--{name.replace('_', '-')}", " ".join(value) if isinstance(value, list) else str(value)]
    done = subprocess.run(call, cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=300)
    folder = exp / "face_train/tiny"
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip().endswith(str(folder / "tiny.yaml"))
    return folder, (folder / "log/train.log").read_text()


@pytest.fixture
def no_export(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The export has its own tests and takes longer than the training."""
    exported = trained[0] / "tiny.onnx"
    monkeypatch.setattr("vidperson.training.export.export_network", lambda *given: shutil.copyfile(exported, given[2]))


def test_tiny_run_learns_to_tell_held_out_pictures(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    losses = [entry["identity"] for entry in read_log(folder) if entry["kind"] == "train"]
    assert len(losses) == 4 and losses[-1] < 0.6 * losses[0]
    validated = [entry for entry in read_log(folder) if entry["kind"] == "validate"]
    assert len(validated) == 4 and min(entry["eer"] for entry in validated) < 0.1
    assert validated[-1]["ten_fold_accuracy"] > 0.9 and validated[-1]["num_targets"] == 18


def test_card_has_figures_with_intervals_of_the_pairs_that_chose_nothing(
    people: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    folder, said = trained
    card = load_card(folder / "tiny.yaml")
    figures = card.figures
    assert (figures["measured_on"], figures["epoch_chosen_on"]) == ("test_pairs", "pairs")
    assert (figures["num_targets"], figures["num_nontargets"], figures["num_persons"]) == (12, 16, 2)
    embed = FaceEmbedder(load_network(folder / "tiny.onnx"), card).embed
    pictures, test, chosen = list_pictures(people / "held_out"), people / "test_pairs", people / "pairs"
    expected = measure_pairs(embed, pictures, read_pairs(test), read_pairs(chosen), 16, True)
    for name in ("eer", "accuracy", "threshold"):
        assert figures[name] == pytest.approx(expected[name], abs=1e-6)
    low, high = figures["interval"]["accuracy"]
    assert low - 1e-9 <= figures["accuracy"] <= high + 1e-9 and "the network that is kept, on test_pairs: EER" in said


def test_step_with_persons_in_the_test_who_choose_the_epoch_says_so(people: Path, tmp_path: Path) -> None:
    (tmp_path / "test").write_text("p5/10 p5/11 target\np5/10 p1/10 nontarget\n")
    with pytest.raises(TrainingError, match="expected other persons than in .*; 1 are in both, first 'p1'"):
        train(**options(people, tmp_path / "x", test_pairs=str(tmp_path / "test")))
    assert not (tmp_path / "x").exists()


def test_pairs_of_a_flat_folder_may_choose_and_test_with_a_warning(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "faces/flat").mkdir(parents=True)
    for path in (people / "held_out").glob("*/*.png"):
        shutil.copyfile(path, tmp_path / "faces/flat" / f"{path.parent.name}_{path.name}")
    for name in ("pairs", "test_pairs"):
        lines = (people / name).read_text()
        (tmp_path / name).write_text(lines.replace("/", "_").replace("p", "flat/p"))
    given = {name: str(tmp_path / name.removeprefix("valid_")) for name in ("valid_pairs", "test_pairs")}
    validation = _validation(ValidationOptions(valid_pictures=str(tmp_path / "faces"), **given))
    assert validation is not None and "it cannot be told whether" in caplog.text
    figures = validation.describe(lambda crops: crops.mean(axis=(1, 2), dtype=np.float32))
    assert figures["num_targets"] == 12 and "interval" not in figures


def test_tiny_run_names_what_it_left_out_and_what_it_found(trained: tuple[Path, str]) -> None:
    _, said = trained
    assert said.count("train/p0/broken.jpg: the JPEG") == 1 and "1 items were left out" in said
    assert "1 of 4 identities have one item only, e.g. 'single'" in said
    assert "32 faces or utterances of 4 identities" in said and "validation: EER" in said
    assert "progress 16/16 steps" in said


def test_tiny_run_writes_a_card_that_installs_from_its_folder(trained: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = trained
    card = load_card(folder / "tiny.yaml")
    assert card.training_data == "32 faces or utterances of 4 identities (train)"
    assert card.training["loss"] == "arcface" and card.training["architecture"] == "small_resnet"
    installed = install_model(str(folder / "tiny.yaml"), tmp_path)
    assert installed.sha256 == card.file.sha256 and (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    crops = np.stack([make_person(who, 77) for who in range(2)])
    assert FaceEmbedder(load_network(installed.network), installed.card).embed(crops).shape == (2, 16)


def test_exported_file_equals_the_torch_network_of_the_best_epoch(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    network = SmallResNet(112, 112, 16)
    network.load_state_dict(load_checkpoint(folder / "best.pt")["network"])
    batch = np.random.default_rng(0).normal(size=(3, 3, 112, 112)).astype(np.float32)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(batch)).numpy()
    for engine in ("openvino", "onnxruntime"):
        found = load_network(folder / "tiny.onnx", engine)(batch)[0]
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("no_export")
def test_step_killed_and_run_again_equals_an_undisturbed_run(
    people: Path, trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the midst of the second epoch, behind a checkpoint; the second start also loads by workers."""
    from vidperson.training.loop import _Run

    update = _Run._update

    def dying(self: _Run, batch: Any) -> Any:
        if self.step == 7:
            raise KeyboardInterrupt
        return update(self, batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_Run, "_update", dying)
        train(**options(people, tmp_path / "tiny"))
    assert load_checkpoint(tmp_path / "tiny/last.pt")["step"] == 6
    train(**options(people, tmp_path / "tiny", workers=1))
    whole, again = (load_checkpoint(folder / "last.pt") for folder in (trained[0], tmp_path / "tiny"))
    for part in ("task", "average"):
        assert all(torch.equal(again[part][name], value) for name, value in whole[part].items())
    best = [load_checkpoint(folder / "best.pt") for folder in (trained[0], tmp_path / "tiny")]
    assert best[0]["best"] == best[1]["best"]


def test_run_script_keeps_its_options_and_refuses_a_teacher_that_is_not_installed(
    trained: tuple[Path, str], repo: Path, tmp_path: Path
) -> None:
    record = read_record(trained[0])
    assert record is not None and record.options["train_margin"] == "0.2"
    assert record.stage == "./run_010_train_face_embedder.sh" and "steps_face/train_embedder.py" in record.command
    assert record.outputs.keys() == {"tiny.onnx", "tiny.yaml", "best.pt"}
    assert damaged_outputs(trained[0], record, thorough=True) == []
    training = yaml.safe_load((trained[0] / "tiny.yaml").read_text())["training"]
    assert training["batch_size"] == 8 and training["decay"] == 0.97 and training["optimiser"] == "adam"
    call = ["./run_010_train_face_embedder.sh", "--exp-dir", str(tmp_path), "--train-teacher", "none_such"]
    done = subprocess.run(call, cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "the teacher is not in" in done.stderr
    assert "run_000_get_pretrained_models.sh --face-detector '' --face-embedder " in done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"architecture": "retinaface_mobilenet025"}, "architecture: expected one of mobilefacenet small_resnet"),
        ({"loss": "triplet"}, "loss: expected one of arcface"),
        ({"loss": "none"}, "nothing to learn from"),
        ({"augment": "mirror=7"}, "found 'mirror=7'"),
        ({"valid_pictures": ""}, "--valid-pictures and --valid-pairs are given together"),
        ({"precision": "fp8"}, "precision: expected one of fp32"),
        ({"cosine_weight": -1.0}, "cosine_weight: expected 0 or more, found -1.0"),
        ({"relation_weight": -1.0}, "relation_weight: expected 0 or more, found -1.0"),
    ],
)
def test_step_with_settings_that_make_no_sense_says_so(people: Path, tmp_path: Path, more: dict, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train(**options(people, tmp_path / "x", **more))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("p0/10 p0/99 target\np0/10 p1/10 nontarget\n", "1 of 3 images are missing, first 'p0/99'"),
        ("p0/10 p0/11 target\n", "pairs: expected pairs of one person and pairs of two, found one kind only"),
    ],
)
def test_step_with_a_list_of_pairs_that_cannot_be_used_says_so_before_it_trains(
    people: Path, tmp_path: Path, pairs: str, message: str
) -> None:
    (tmp_path / "pairs").write_text(pairs)
    for name in ("valid_pairs", "test_pairs"):
        with pytest.raises(DataError, match=message):
            train(**options(people, tmp_path / "x", **{name: str(tmp_path / "pairs")}))
    assert not (tmp_path / "x").exists()


def test_step_with_a_picture_to_validate_on_that_is_cut_short_says_so_before_it_trains(
    people: Path, tmp_path: Path
) -> None:
    shutil.copytree(people / "held_out", tmp_path / "held_out")
    path = tmp_path / "held_out/p1/11.png"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="held_out/p1/11.png: "):
        train(**options(people, tmp_path / "x", valid_pictures=str(tmp_path / "held_out")))
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("no_export")
def test_step_whose_list_of_pairs_has_one_fold_validates_on_it(people: Path, tmp_path: Path) -> None:
    for who in range(2):
        (tmp_path / f"faces/p{who}").mkdir(parents=True)
        for number in (1, 2):
            picture = people / f"held_out/p{who}/{TRAIN + number:02d}.png"
            shutil.copyfile(picture, tmp_path / f"faces/p{who}/p{who}_{number:04d}.png")
    (tmp_path / "pairs").write_text("1 2\np0 1 2\np1 1 2\np0 1 p1 1\np0 2 p1 2\n")
    more = {"valid_pictures": str(tmp_path / "faces"), "valid_pairs": str(tmp_path / "pairs"), "epochs": 1}
    figures = train(**options(people, tmp_path / "x", **more, test_pairs=""))
    assert figures["num_targets"] == 2 and "ten_fold_accuracy" not in figures


@pytest.mark.parametrize("name", ["two words", "r18+", ".hidden"])
def test_step_whose_network_would_have_a_name_that_no_card_can_have_says_so_before_it_trains(
    people: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ModelError, match=r"name: expected letters, digits, '\.', '_' and '-', found"):
        train(**options(people, tmp_path / name))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "two words"])
def test_run_script_refuses_a_name_that_is_another_folder_or_that_no_card_can_have(
    repo: Path, tmp_path: Path, name: str
) -> None:
    call = ["./run_010_train_face_embedder.sh", f"--exp-dir={tmp_path}/exp", f"--train-name={name}"]
    done = subprocess.run(call, cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=60)
    assert (
        done.returncode == 1
        and f"first a letter or digit, found '{name}'" in done.stderr
        and not (tmp_path / "exp").exists()
    )


@pytest.mark.usefixtures("no_export")
def test_step_on_another_list_of_pairs_chooses_among_the_epochs_to_come(
    people: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(trained[0], tmp_path / "tiny")
    assert load_checkpoint(tmp_path / "tiny/last.pt")["best"]["eer"] < 0.1
    lines = (people / "pairs").read_text().splitlines()  # none of these pairs is easy to tell
    swapped = [
        line.replace(" target", " x").replace(" nontarget", " target").replace(" x", " nontarget") for line in lines
    ]
    (tmp_path / "pairs").write_text("\n".join(swapped) + "\n")
    train(**options(people, tmp_path / "tiny", epochs=5, valid_pairs=str(tmp_path / "pairs")))
    best = load_checkpoint(tmp_path / "tiny/last.pt")["best"]
    assert best["epoch"] == 4 and best["eer"] > 0.4


def test_run_script_keeps_the_record_of_a_network_whose_next_run_is_refused(
    people: Path, trained: tuple[Path, str], repo: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained[0], tmp_path / "exp/face_train/tiny")
    place = record_path(tmp_path / "exp/face_train/tiny")
    before = place.read_text()
    options = json.loads(before)["options"]
    (tmp_path / "same.sh").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in options.items()))
    same = ["--config-file", f"{tmp_path}/same.sh", f"--exp-dir={tmp_path}/exp"]
    call = ["./run_010_train_face_embedder.sh", *same]
    done = subprocess.run(
        [*call, "--train-lr", "0.5"], cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1 and "last.pt: was made with other settings: lr 0.003 -> 0.5" in done.stderr
    assert place.read_text() == before


def test_step_that_goes_on_with_other_pictures_is_refused(
    trained: tuple[Path, str], people: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained[0], tmp_path / "tiny")
    shutil.copytree(people / "train", tmp_path / "train")
    (tmp_path / "train/p0").rename(tmp_path / "train/z0")
    with pytest.raises(TrainingError, match="last.pt: was made with other settings: items_sha256 [0-9a-f]{64} -> "):
        train(**options(people, tmp_path / "tiny", train_data=[str(tmp_path / "train")]))


def test_step_with_a_loss_that_is_not_finite_stops_with_the_step(people: Path, tmp_path: Path) -> None:
    """What the command line makes of such an error is tested with the detector's."""
    with pytest.raises(TrainingError, match=r"step 1 \(epoch 0\): loss is nan; lower the learning rate"):
        train(**options(people, tmp_path / "x", optimiser="sgd", lr=1e30, momentum=0.0))


# -- the task and the networks -------------------------------------------------------------------------------------


def test_task_normalises_mixes_and_weighs_its_terms() -> None:
    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    rng = np.random.default_rng(0)
    crops = torch.from_numpy(rng.integers(0, 256, (4, 112, 112, 3), dtype=np.uint8))
    labels, others = torch.tensor([0, 1, 2, 1]), torch.tensor([2, 2, 0, 1])
    teacher = torch.from_numpy(rng.normal(size=(4, 3))).float()
    identity = IdentityLoss(3, 3)
    task = EmbedderTask(Mean(), 3, Normalise((127.5,) * 3, (64.0,) * 3), [identity], Teaching((3,), (), 2.0, 5.0))
    terms = task(crops, labels, others, torch.full((4,), 0.75), teacher)
    embeddings = (crops.double().mean(dim=(1, 2)) - 127.5).float() / 64
    expected = 0.75 * identity(embeddings, labels)[0].mean() + 0.25 * identity(embeddings, others)[0].mean()
    torch.testing.assert_close(terms["identity"], expected, rtol=1e-3, atol=1e-3)
    total = terms["identity"] + 2 * terms["cosine"] + 5 * terms["relation"]
    torch.testing.assert_close(terms["loss"], total)
    assert isinstance(task.projections[0], torch.nn.Identity)


@pytest.mark.parametrize(
    ("name", "parameters"), [("iresnet18", 24.03), ("iresnet34", 34.14), ("iresnet50", 43.59), ("iresnet100", 65.16)]
)
def test_iresnet_has_the_parameters_that_its_layers_add_up_to(name: str, parameters: float) -> None:
    """Counted from the layers' shapes; 43.59 and 65.16 million are also the published sizes of R50 and R100."""
    expected = 3 * 64 * 9 + 2 * 64 + 64
    inputs = 64
    for outputs, repeats in zip((64, 128, 256, 512), BLOCKS[name], strict=True):
        for block in range(repeats):
            expected += 2 * inputs + 9 * inputs * outputs + 2 * outputs + outputs + 9 * outputs**2 + 2 * outputs
            expected += inputs * outputs + 2 * outputs if block == 0 else 0
            inputs = outputs
    expected += 2 * 512 + 512 * 49 * 512 + 512 + 2 * 512
    with torch.device("meta"):
        found = sum(p.numel() for p in IResNet(BLOCKS[name]).parameters())
    assert found == expected and found / 1e6 == pytest.approx(parameters, abs=0.005)


def test_iresnet_names_its_weights_as_arcface_torch_does() -> None:
    with torch.device("meta"):
        names = set(IResNet(BLOCKS["iresnet18"]).state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "prelu.weight", "fc.weight", "fc.bias"}
    expected |= {f"{layer}.{part}" for layer in ("bn1", "bn2", "features") for part in norm}
    for stage in range(1, 5):
        for block in range(2):
            at = f"layer{stage}.{block}"
            expected |= {f"{at}.conv1.weight", f"{at}.conv2.weight", f"{at}.prelu.weight"}
            expected |= {f"{at}.{layer}.{part}" for layer in ("bn1", "bn2", "bn3") for part in norm}
        expected |= {f"layer{stage}.0.downsample.0.weight"}
        expected |= {f"layer{stage}.0.downsample.1.{part}" for part in norm}
    assert names == expected


def test_small_resnet_is_small() -> None:
    assert 2.0e6 < sum(p.numel() for p in SmallResNet().parameters()) < 2.2e6


def test_network_exported_from_memory_equals_the_torch_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network("iresnet18", INPUT, Output(embedding_size=32)).eval()
    card = new_card("x", "face_embedder", "", "none", "", INPUT, Output(embedding_size=32))
    export_network(network, card, tmp_path / "network.onnx")
    batch = np.random.default_rng(0).normal(size=(2, 3, 112, 112)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
    found = load_network(tmp_path / "network.onnx")(batch)[0]
    assert expected.shape == (2, 32) and np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", sorted(EMBEDDERS))
def test_every_architecture_is_built_for_the_sizes_of_its_card(name: str) -> None:
    card_input = PictureInput("rgb", (0.0,) * 3, (1.0,) * 3, 96, 112)
    with torch.device("meta"):
        network = build_network(name, card_input, Output(embedding_size=64, mirror="concatenate")).eval()
        assert network(torch.zeros(2, 3, 112, 96)).shape == (2, 32)


def test_step_with_a_teacher_brings_the_students_cosines_near_the_teachers(
    people: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    install_model(str(trained[0] / "tiny.yaml"), tmp_path)
    more = {"loss": "none", "teacher": [str(tmp_path / "tiny")], "embedding_size": 8, "epochs": 3, "ema": 0.0}
    train(**options(people, tmp_path / "student", **more))
    log = [entry for entry in read_log(tmp_path / "student") if entry["kind"] == "train"]
    for term in ("cosine", "relation"):  # the teacher has 16 values, the student 8: the cosine goes through a map
        assert log[-1][term] < 0.7 * log[0][term]
    assert "identity" not in log[0]
    validated = [entry["eer"] for entry in read_log(tmp_path / "student") if entry["kind"] == "validate"]
    assert min(validated) < 0.2
    card = load_card(tmp_path / "student/student.yaml")
    assert card.training["teacher"].startswith("tiny ") and "teacher tiny, trained on 32 faces" in card.training_data


@pytest.mark.parametrize("mirror", ["none", "sum", "concatenate"])
def test_teacher_as_a_module_says_what_it_says_behind_its_card(trained: tuple[Path, str], mirror: str) -> None:
    """Pictures in blue, green and red, with a mean and a scale per channel, as the card has it."""
    card = load_card(trained[0] / "tiny.yaml")
    pictures = PictureInput("bgr", (120.0, 127.5, 130.0), (64.0, 100.0, 128.0), 112, 112)
    card = dataclasses.replace(card, input=pictures, output=dataclasses.replace(card.output, mirror=mirror))
    if mirror == "concatenate":
        card = dataclasses.replace(card, output=dataclasses.replace(card.output, embedding_size=32))
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    path = trained[0] / "tiny.onnx"
    expected = FaceEmbedder(load_network(path, "onnxruntime"), card).embed(crops)
    teacher = TeacherModule(OnnxModule(str(path)).eval(), pictures, mirror)
    found = teacher(torch.from_numpy(crops)).numpy()
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
