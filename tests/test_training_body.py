"""Body networks from the step's command line: data in all layouts, a tiny run that learns, goes on and is exported."""

from __future__ import annotations

import math
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from engines_here import ENGINES

from vidperson.body.crops import cut_out
from vidperson.body.embedder import BodyEmbedder
from vidperson.engines import load_network
from vidperson.errors import DataError, ModelError, TrainingError
from vidperson.media.limits import USUAL_LIMITS
from vidperson.networks.card import load_card
from vidperson.networks.install import install_model

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from steps_body.train_embedder import TrainEmbedderOptions, measure, train_embedder  # noqa: E402
from vidperson import cli  # noqa: E402
from vidperson.body.training_bodies import (  # noqa: E402
    BodySet,
    fitted_body,
    read_bodies,
    read_unlabelled,
    split_persons,
    training_set,
)
from vidperson.networks import convert  # noqa: E402
from vidperson.networks.architectures.features import Features  # noqa: E402
from vidperson.networks.architectures.reid_resnet import MGN, PARTS, ResNetShape  # noqa: E402
from vidperson.training import command  # noqa: E402
from vidperson.training.augment import Augmentation  # noqa: E402
from vidperson.training.batches import Normalise  # noqa: E402
from vidperson.training.loop import load_checkpoint, read_log  # noqa: E402
from vidperson.training.losses import IdentityLoss, TripletLoss  # noqa: E402
from vidperson.training.pictures import IdentityPictureBatches, JoinedBatches, PictureBatches, PictureLoader  # noqa: E402
from vidperson.training.task import EmbedderTask, Teaching, Triplets  # noqa: E402

PERSONS, KNOWN, CAMERAS, SHOTS = 12, 8, 3, 2
SIZE = 128  # values of the tiny network


def light_mgn() -> MGN:
    """MGN with few layers, as an exporter takes its time for each: (N, 3, 256, 128) to (N, SIZE)."""

    def layer(inputs: int, outputs: int, kernel: int, stride: int) -> torch.nn.Sequential:
        convolution = torch.nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU())

    network = MGN(ResNetShape((1, 1, 1, 1), width=1), 256, SIZE // PARTS)
    network.trunk = torch.nn.Sequential(torch.nn.AvgPool2d(4), layer(3, 16, 5, 2), layer(16, 16, 3, 2))
    network.branches = torch.nn.ModuleList(layer(16, 32, 3, stride) for stride in (2, 1, 1))
    return network


def draw_person(who: int, camera: int, shot: int) -> np.ndarray:
    """A 64 x 32 picture: clothes in colours of their own, before a wall and in the light of a camera."""
    clothes = np.random.default_rng(who).integers(30, 226, (2, 3))
    rng = np.random.default_rng([who, camera, shot])
    image = np.full((64, 32, 3), 70 + 40 * camera, np.float32) + rng.normal(0, 8, (64, 32, 3))
    left, top = rng.integers(6, 11), rng.integers(2, 7)
    image[top : top + 9, left + 3 : left + 11] = (210, 170, 140)
    image[top + 9 : top + 32, left : left + 14] = clothes[0]
    image[top + 32 : top + 56, left + 1 : left + 13] = clothes[1]
    light = np.random.default_rng([99, camera]).uniform(0.8, 1.2, 3)
    return np.clip(image * light + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def write_person(path: Path, who: int, camera: int = 1, shot: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), draw_person(who, camera, shot)[..., ::-1])


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train``, ``valid`` and ``test`` named as in Market-1501, the first two with junk; ``anyone`` without names."""
    root = tmp_path_factory.mktemp("people")
    for who in range(PERSONS):
        part = "train" if who < KNOWN else "valid" if who < KNOWN + 2 else "test"
        for camera in range(1, CAMERAS + 1):
            for shot in range(SHOTS):
                write_person(root / part / f"{who + 1:04d}_c{camera}s1_{shot:06d}_00.png", who, camera, shot)
    for part in ("train", "valid"):
        write_person(root / part / "-1_c1s1_000000_00.png", 50)
        write_person(root / part / "0000_c2s1_000000_00.png", 51)
    for who in range(20, 30):
        write_person(root / f"anyone/{who}.png", who, who % 3 + 1)
    return root


@pytest.fixture(autouse=True, scope="module")
def tiny_network() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(convert.ARCHITECTURES, "tiny", lambda *given: light_mgn())
        patch.setitem(convert.REID_SIZES, "tiny", SIZE)
        yield


def options(people: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {
        "train_data": [str(people / "train")],
        "output_dir": str(output),
        "architecture": "tiny",
        "batch_size": 16,
        "epochs": 12,
        "lr": 0.003,
        "schedule": "cosine",
        "augment": "mirror=0.5 pad=0.5 erase=0.3",
        "valid_data": [str(people / "valid")],
        "test_data": [str(people / "test")],
        "valid_epochs": 6,
        "save_steps": 3,
        "log_steps": 1,
    } | more


def train(**given: Any) -> dict[str, Any]:
    return train_embedder(cli.fill(TrainEmbedderOptions, **given))


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "tiny"
    train(**options(people, folder, lr=0.03))
    return folder


@pytest.fixture
def no_export(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export and the curves have their own test and take longer than the training."""
    monkeypatch.setattr(command, "draw_curves", lambda *given: None)
    monkeypatch.setattr(
        "vidperson.training.export.export_network", lambda *given: shutil.copyfile(trained / "tiny.onnx", given[2])
    )


# -- runs -----------------------------------------------------------------------------------------------------------


def test_tiny_run_learns_persons_and_finds_others_across_cameras(trained: Path) -> None:
    log = read_log(trained)
    lines = [entry for entry in log if entry["kind"] == "train"]
    assert len(lines) == 24 and lines[-1]["identity"] < 0.85 * lines[0]["identity"]
    assert lines[-1]["triplets"] < 0.5 * lines[0]["triplets"] and lines[-1]["train_nearest"] > 0.2
    validated = [entry for entry in log if entry["kind"] == "validate"]
    assert [entry["epoch"] for entry in validated] == [5, 11] and validated[0]["queries"] == 2 * CAMERAS * SHOTS
    assert max(entry["map"] for entry in validated) > 0.8


def test_card_has_figures_of_the_file_on_persons_who_chose_nothing(people: Path, trained: Path, tmp_path: Path) -> None:
    card = load_card(trained / "tiny.yaml")
    assert (card.kind, card.output.mirror, card.output.embedding_size) == ("body_embedder", "sum", SIZE)
    assert (card.figures["measured_on"], card.figures["epoch_chosen_on"]) == ("test", "valid")
    assert card.training_data == f"{KNOWN * CAMERAS * SHOTS} pictures of {KNOWN} persons (train)"
    installed = install_model(str(trained / "tiny.yaml"), tmp_path)
    embedder = BodyEmbedder(load_network(installed.network), installed.card)
    bodies = read_bodies(str(people / "test"), "")
    crops = np.stack([fitted_body(cv2.imread(f"{people}/test/{name}")[..., ::-1]) for name in bodies.source.names])
    expected = measure(embedder.embed(crops), bodies.persons, bodies.cameras)
    assert expected["queries"] == 2 * CAMERAS * SHOTS
    assert {name: card.figures[name] for name in expected} == pytest.approx(expected)
    assert (trained / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_exported_file_equals_the_torch_network_on_every_engine_and_in_any_batch(
    trained: Path,
) -> None:
    card = load_card(trained / "tiny.yaml")
    network = convert.build_network("tiny", card.input, card.output)
    network.load_state_dict(load_checkpoint(trained / "best.pt")["network"])
    batch = np.random.default_rng(0).normal(size=(3, 3, 256, 128)).astype(np.float32)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(batch)).numpy()
    for engine in ENGINES:
        ran = load_network(trained / "tiny.onnx", engine)
        found = ran(batch)[0]
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), engine
        assert (ran(batch[[1]])[0] == found[[1]]).all(), engine


@pytest.mark.usefixtures("no_export")
def test_step_killed_and_run_again_equals_an_undisturbed_run(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With images of unknown persons in each batch; killed in the midst of the second epoch, behind a checkpoint."""
    from vidperson.training.loop import _Run

    more = {"epochs": 3, "train_data": [str(people / "train")], "valid_data": [], "test_data": []}
    # Known and unknown persons are drawn each in an order of their own: 2 steps an epoch of the known, 3 of the others.
    more |= {"unlabelled": [str(people / "anyone")], "unlabelled_batch": 3, "init": "", "save_steps": 1}
    update = _Run._update

    def dying(self: _Run, batch: Any) -> Any:
        if self.step == 3:
            raise KeyboardInterrupt
        return update(self, batch)

    train(**options(people, tmp_path / "whole/tiny", **more))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_Run, "_update", dying)
        train(**options(people, tmp_path / "tiny", **more))
    assert load_checkpoint(tmp_path / "tiny/last.pt")["step"] == 3
    train(**options(people, tmp_path / "tiny", **more))
    whole, again = (load_checkpoint(folder / "last.pt") for folder in (tmp_path / "whole/tiny", tmp_path / "tiny"))
    assert whole["step"] == 6 and all(torch.equal(again["task"][name], value) for name, value in whole["task"].items())


@pytest.mark.usefixtures("no_export")
def test_student_of_two_teachers_comes_near_them_on_persons_without_names(
    people: Path, trained: Path, tmp_path: Path
) -> None:
    install_model(str(trained / "tiny.yaml"), tmp_path)
    more = {"teacher": [str(tmp_path / "tiny")] * 2, "teacher_weights": [1.0, 0.5], "seed": 7, "mirror": "none"}
    more |= {"train_data": [], "unlabelled": [str(people / "anyone"), str(people / "train")], "valid_data": []}
    train(**options(people, tmp_path / "student", **more, unlabelled_batch=20, epochs=16))
    log = read_log(tmp_path / "student")
    for term in ("cosine", "relation"):
        assert log[-1][term] < 0.75 * log[0][term]
    assert "identity" not in log[0] and "triplets" not in log[0]
    card = load_card(tmp_path / "student/student.yaml")
    assert card.training["teacher"].split()[::2] == ["tiny", "tiny"] and card.training["teacher_weights"] == [1.0, 0.5]
    count = 10 + KNOWN * CAMERAS * SHOTS + 2
    assert f"{count} without a name" in card.training_data and card.figures["queries"] == 2 * CAMERAS * SHOTS


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (
            {"architecture": "iresnet18"},
            TrainingError,
            "expected one of osnet_x0_25 .*, found 'iresnet18'",
        ),
        ({"augment": "mix=0.1"}, TrainingError, "mix needs a triplet weight of 0"),
        ({"batch_size": 15}, TrainingError, "expected a multiple of the 4 images of a person, found 15"),
        ({"loss": "none", "triplet_weight": 0.0}, TrainingError, "nothing to learn from"),
        ({"held_out": 2}, DataError, "persons are held out, or others are named to validate on, not both"),
        ({"valid_data": [], "held_out": 8}, DataError, "8 persons cannot be held out of 8"),
        ({"test_data": ["{train}"]}, DataError, "the same is learnt from and measured on"),
        ({"train_data": ["{anyone}"]}, DataError, "'20.png': expected names like 0012_c1s1_004.jpg"),
        ({"train_data": []}, DataError, "expected pictures to train on, found none"),
        ({"pretrained": "{valid}/weights.pth"}, TrainingError, "weights.pth: not a checkpoint"),
        ({"teacher_weights": [1.0]}, TrainingError, "teacher_weights: expected 0, one a teacher, found 1"),
    ],
)
def test_step_with_settings_that_make_no_sense_says_so(
    people: Path, tmp_path: Path, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    places = {name: people / name for name in ("train", "valid", "anyone")}
    given = {
        name: [each.format(**places) if isinstance(each, str) else each for each in value]
        if isinstance(value, list)
        else value.format(**places)
        if isinstance(value, str)
        else value
        for name, value in more.items()
    }
    with pytest.raises(error, match=message):
        train(**options(people, tmp_path / "x", **given))
    assert not (tmp_path / "x").exists()


def test_weights_of_another_backbone_are_refused_with_file_and_name(people: Path, tmp_path: Path) -> None:
    torch.save({"conv9.weight": torch.zeros(3)}, tmp_path / "w.pth")
    message = r"w.pth: the weights are not those of this backbone: no '.*'; \d+ do not fit"
    with pytest.raises(ModelError, match=message):
        train(**options(people, tmp_path / "x", pretrained=str(tmp_path / "w.pth")))


def test_run_script_gives_the_step_every_option(repo: Path, tmp_path: Path) -> None:
    launcher = tmp_path / "launcher"
    launcher.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "${@:2}" > "${0%/*}/words"\n')
    launcher.chmod(0o755)
    given = {"train_sets": "a b", "train_data": "m.tar x", "valid_set": "v", "train_unlabelled": "u w"}
    given |= {"train_teacher_weights": "1 0.25", "train_triplets": "weighted", "train_triplets_behind_neck": "true"}
    given |= {"train_held_out": "3", "train_images": "2", "train_mirror": "none", "train_decay_epochs": "3 5"}
    call = ["./run_013_train_body_embedder.sh", "--exp-dir", "exp", "--cmd", str(launcher)]
    data = tmp_path / "d d"
    for name in "abv":
        (data / name).mkdir(parents=True)
    call += ["--data-dir", str(data)]
    for name, value in given.items():
        call += [f"--{name.replace('_', '-')}", value]
    done = subprocess.run(call, cwd=repo, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "exp/body_train/body_osnet/body_osnet.yaml\n", done.stderr
    python, step, *words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert (python, step) == ("python", "steps_body/train_embedder.py")
    found = cli.parse(TrainEmbedderOptions, "doc", words)
    assert found.training.train_data == [f"{data}/a", f"{data}/b", "m.tar", "x"]
    assert found.validation.valid_data == [f"{data}/v"]
    assert found.training.unlabelled == ["u", "w"] and found.training.items_dir.startswith("exp/body_det/")
    assert (found.reid.triplets, found.reid.triplets_behind_neck, found.reid.images) == ("weighted", True, 2)
    assert found.reid.teacher_weights == [1.0, 0.25] and found.training.settings.decay_epochs == [3, 5]
    assert found.validation.held_out == 3 and found.mirror == "none" and found.augment == "mirror=0.5 pad=1 erase=0.5"


# -- data -----------------------------------------------------------------------------------------------------------


def test_names_of_market_tell_persons_and_cameras_and_a_tar_is_its_folder(people: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as archive:
        archive.add(people / "train", ".")
    digests = []
    for source in (people / "train", tmp_path / "train.tar"):
        bodies = read_bodies(str(source), "")
        assert bodies.persons.count("") == 2 and sorted(set(bodies.persons) - {""}) == [f"000{k + 1}" for k in range(8)]
        assert sorted(set(bodies.cameras)) == ["1", "2", "3"]
        made = training_set([bodies], [])
        assert len(made) == KNOWN * CAMERAS * SHOTS and (np.bincount(made.labels) == CAMERAS * SHOTS).all()
        digests.append(made.digest())
    assert digests[0] == digests[1]


def test_folder_of_a_person_tells_who_and_the_name_which_camera(tmp_path: Path) -> None:
    for name in ("ann/c3_1.png", "ann/c12.png", "bob/x/car_c3_1.png", "bob/x/2.png"):
        write_person(tmp_path / "people" / name, 1)
    bodies = read_bodies(str(tmp_path / "people"), "")
    found = dict(zip(bodies.source.names, zip(bodies.persons, bodies.cameras, strict=True), strict=True))
    assert found == {
        "ann/c12.png": ("ann", "12"),
        "ann/c3_1.png": ("ann", "3"),
        "bob/x/2.png": ("bob/x", ""),
        "bob/x/car_c3_1.png": ("bob/x", ""),
    }


def data_folder(root: Path) -> str:
    """A set of the recipe with three segments, and its persons as stage 2 leaves them; one is nobody's."""
    for segment, who in (("f1-a", 1), ("f1-b", 2), ("f2-c", 3)):
        write_person(root / f"items/films/{segment}/00000_0000000.png", who)
    with tarfile.open(root / "items/films/crops.tar", "w") as archive:
        for segment in ("f1-a", "f1-b", "f2-c"):
            archive.add(root / "items/films" / segment, segment)
            shutil.rmtree(root / "items/films" / segment)
    (root / "data/films").mkdir(parents=True)
    (root / "data/films/vid.scp").write_text("f1-a x.jpg\nf1-b x.jpg\nf2-c y.jpg\n")
    (root / "data/films/utt2spk").write_text("f1-a f1_kate\nf2-c f2_leo\n")
    return str(root / "data/films")


def test_data_folder_has_the_persons_of_stage_2_without_those_of_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = data_folder(tmp_path)
    bodies = read_bodies(folder, tmp_path / "items")
    assert bodies.persons == ["f1_kate", "", "f2_leo"] and bodies.cameras == [""] * 3
    with caplog.at_level("INFO"):
        made = training_set([bodies], [read_unlabelled(folder, tmp_path / "items")])
    assert "1 pictures show nobody who is known: left out" in caplog.text
    assert made.identities == ["0:f1_kate", "0:f2_leo"] and made.labels.tolist() == [0, 1, -1, -1, -1]
    with pytest.raises(DataError, match=r"nowhere/films/crops.tar: no persons of .*; run ./run_002_detect_faces.sh"):
        read_bodies(folder, tmp_path / "nowhere")


def test_same_name_in_two_sources_is_two_persons(people: Path) -> None:
    bodies = read_bodies(str(people / "train"), "")
    assert len(training_set([bodies, bodies], []).identities) == 2 * KNOWN


def test_persons_who_are_held_out_are_not_trained_on_and_have_pictures_to_be_found(people: Path) -> None:
    bodies = read_bodies(str(people / "train"), "")
    one = BodySet(bodies.source, ["9999", *bodies.persons[1:]], bodies.cameras)  # the first picture is a person's only
    taught, kept = split_persons([one], 3)
    persons = [set(part[0].persons) - {""} for part in (taught, kept)]
    assert persons[1] == {"0001", "0003", "0006"} and not persons[0] & persons[1] and "9999" in persons[0]
    assert len(taught[0].persons) + len(kept[0].persons) == len(bodies.persons)
    name = kept[0].source.names[0]
    assert name.startswith(kept[0].persons[0])


def test_picture_to_train_on_is_resized_as_stage_2_resizes_what_it_cuts_out() -> None:
    image = draw_person(3, 1, 0)
    expected, outside = cut_out(image, (0, 0, 32, 64), USUAL_LIMITS)
    assert outside == 0 and (fitted_body(image) == expected).all()
    assert fitted_body(expected) is expected


def test_batches_have_the_known_first_and_the_unknown_behind_wherever_a_run_is_taken_up(people: Path) -> None:
    pictures = training_set([read_bodies(str(people / "train"), "")], [read_unlabelled(str(people / "anyone"), "")])
    known = pictures.labels >= 0

    def decode(data: bytes) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)

    def joined() -> JoinedBatches:
        loaders = [
            PictureLoader(pictures.pick(each), decode, lambda image: image, Augmentation()) for each in (known, ~known)
        ]
        return JoinedBatches(IdentityPictureBatches(loaders[0], 4, 2), PictureBatches(loaders[1], 3))

    made = joined()
    batches = [batch for epoch in range(3) for batch in made(epoch)]
    assert len(batches) == 6 and all(batch["labels"][8:].tolist() == [-1] * 3 for batch in batches)
    assert all((batch["labels"][:8] >= 0).all() for batch in batches)
    unknown = [crop.numpy().tobytes() for batch in batches[:3] for crop in batch["crops"][8:]]
    assert len({cv2.mean(np.frombuffer(each, np.uint8))[0] for each in unknown}) == 9  # an epoch of them: none twice
    again = list(joined()(2, 1))
    assert len(again) == 1 and all(torch.equal(again[0][name], value) for name, value in batches[5].items())


# -- losses of several parts ----------------------------------------------------------------------------------------


class Parts(torch.nn.Module):
    """Three parts of a linear map, in double precision; the necks double them."""

    identity_sizes = (2, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.map = torch.nn.Linear(3, 6, bias=False)

    def features(self, images: torch.Tensor) -> Features:
        parts = list(self.map(images.mean(dim=(2, 3))).split(2, dim=1))
        return Features(torch.cat(parts, dim=1), parts[:2], [2 * part for part in parts])


def parts_task(behind: bool) -> tuple[EmbedderTask, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    heads = [IdentityLoss(2, 3, "softmax", smoothing=0.1) for _ in range(3)]
    triplets = Triplets(TripletLoss("hard", None), 0.5, behind)
    task = EmbedderTask(Parts(), 6, Normalise((127.5,) * 3, (64.0,) * 3), heads, Teaching(), triplets)
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 4, 2, 3), dtype=np.uint8))
    labels = torch.tensor([0, 0, 1, 1, 2, 2, -1])
    return task, (crops, labels, labels, torch.ones(7))


def softmax_loss(rows: np.ndarray, weight: np.ndarray, bias: np.ndarray, labels: np.ndarray) -> float:
    logits = rows @ weight.T + bias
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-((np.full(logits.shape, 0.1 / 3) + 0.9 * np.eye(3)[labels]) * shares).sum(axis=1).mean())


def hardest(rows: np.ndarray, labels: np.ndarray) -> float:
    apart = np.linalg.norm(rows[:, None] - rows, axis=2)
    same = labels[:, None] == labels
    gaps = [apart[a][same[a]].max() - apart[a][~same[a]].min() for a in range(len(rows))]
    return float(np.mean([math.log(1 + math.exp(gap)) for gap in gaps]))


@pytest.mark.parametrize("behind", [False, True])
def test_loss_of_several_parts_is_the_sum_over_them_without_those_of_nobody(behind: bool) -> None:
    task, batch = parts_task(behind)
    terms = task(*batch)
    rows = (batch[0].double().numpy().mean(axis=(1, 2)) - 127.5) / 64 @ task.network.map.weight.detach().numpy().T
    parts, labels = np.split(rows[:6], 3, axis=1), batch[1].numpy()[:6]
    weights = [(head.weight.detach().numpy()[:, 0], head.bias.detach().numpy()) for head in task.identity]
    identity = sum(softmax_loss(2 * part, *weight, labels) for part, weight in zip(parts, weights, strict=True))
    triplets = (
        sum(hardest(2 * part, labels) for part in parts) if behind else sum(hardest(p, labels) for p in parts[:2])
    )
    assert terms["identity"].item() == pytest.approx(identity, rel=1e-4)
    assert terms["triplets"].item() == pytest.approx(triplets, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(identity + 0.5 * triplets, rel=1e-4)


def test_gradient_of_the_sum_equals_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    task, batch = parts_task(False)
    weight = task.double().network.map.weight
    task(*batch)["loss"].backward()
    found = weight.grad.clone()
    assert found.abs().max() > 1e-2
    for index in np.ndindex(*weight.shape):
        values = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                weight[index] += step
            values.append(task(*batch)["loss"].item())
        with torch.no_grad():
            weight[index] += 1e-5
        assert found[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-6)
