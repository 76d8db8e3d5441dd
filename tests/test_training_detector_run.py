"""A tiny detector trained on drawn faces by the recipe's script: it learns, goes on, teaches and is exported."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from drawn_faces import draw_photo, write_photos  # noqa: E402
from engines_here import ENGINES  # noqa: E402

from steps_face.evaluate_detector import DetectorFiguresOptions, evaluate_detector  # noqa: E402
from steps_face.train_detector import TrainDetectorOptions, train_detector  # noqa: E402
from vidperson import cli  # noqa: E402
from vidperson.engines import load_network  # noqa: E402
from vidperson.face.annotations import write_annotations  # noqa: E402
from vidperson.face.detector import make_detector  # noqa: E402
from vidperson.io.record import read_record, sha256  # noqa: E402
from vidperson.metrics import overlap  # noqa: E402
from vidperson.networks.card import load_card  # noqa: E402
from vidperson.networks.convert import DETECTORS, build_network, export_network  # noqa: E402
from vidperson.networks.install import install_model, installed_model  # noqa: E402
from vidperson.training.loop import _Run, load_checkpoint, read_log  # noqa: E402

RECIPE = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
PHOTOS, HELD_OUT, BATCH, EPOCHS = 210, 10, 8, 4


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photos/`` and their ``marks``; one photo to train on and one of those held out are broken."""
    root = tmp_path_factory.mktemp("drawn")
    write_annotations(root / "marks", write_photos(root / "photos", PHOTOS))
    for number in (1, 21):
        (root / f"photos/{number:03d}.png").write_bytes(b"this is no picture")
    return root


def options(drawn: Path, output: Path, **more: Any) -> dict[str, Any]:
    """A run of some seconds on one core."""
    return {
        "train_data": [str(drawn / "photos")],
        "train_annotations": str(drawn / "marks"),
        "output_dir": str(output),
        "architecture": "retinaface_tiny",
        "augment": "mosaic=0.2 mirror=0.5 zoom=0.3",
        "sizes": "64 96",
        "batch_size": BATCH,
        "held_out": HELD_OUT,
        "epochs": EPOCHS,
        "lr": 0.003,
        "schedule": "cosine",
        "clip": 10.0,
        "ema": 0.8,
        "save_steps": 10,
    } | more


def train(**given: Any) -> dict[str, Any]:
    return train_detector(cli.fill(TrainDetectorOptions, **given))


@pytest.fixture(scope="module")
def trained(drawn: Path, repo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a network that the recipe's script trained as a config says, and its log."""
    exp = tmp_path_factory.mktemp("exp")
    lines = ["train_name=tiny", "train_threads=1", "train_workers=0", "train_half_weights=true"]
    for name, value in options(drawn, exp).items():
        if name != "output_dir":
            name = {"batch_size": "batch"}.get(name, name).removeprefix("train_")
            lines.append(f"train_{name}='{' '.join(value) if isinstance(value, list) else value}'")
    (exp / "config.sh").write_text("\n".join(lines) + "\n")
    call = ["./run_011_train_face_detector.sh", "--config-file", str(exp / "config.sh"), "--exp-dir", str(exp)]
    done = subprocess.run(call, cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=1800)
    folder = exp / "face_train/tiny"
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip().endswith(str(folder / "tiny.yaml"))
    return folder, (folder / "log/train.log").read_text()


@pytest.fixture
def no_export(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The export has its own tests and takes longer than the training."""
    exported = trained[0] / "tiny.onnx"
    monkeypatch.setattr("vidperson.training.export.export_network", lambda *given: shutil.copyfile(exported, given[2]))


def test_tiny_run_learns_to_find_faces_in_held_out_photos(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    log = [entry for entry in read_log(folder) if entry["kind"] == "train"]
    for term in ("loss", "class", "box", "landmark"):
        assert log[-1][term] < 0.6 * log[0][term]
    validated = [entry for entry in read_log(folder) if entry["kind"] == "validate"]
    assert len(validated) == EPOCHS and validated[-1]["average_precision"] > 0.9
    assert validated[-1]["landmark_error"] < 0.35 < validated[0]["landmark_error"]
    # Where no face reaches the score that counts, the landmarks count as misplaced.
    misplaced = [min(1.0, entry.get("landmark_median", 1.0)) for entry in validated]
    quality = [entry["average_precision"] - error for entry, error in zip(validated, misplaced, strict=True)]
    assert [entry["quality"] for entry in validated] == pytest.approx(quality)
    card = load_card(folder / "tiny.yaml")
    assert len(card.training["items_sha256"]) == 64  # other photos are refused when it goes on
    figures = card.figures
    best = max(entry["average_precision"] for entry in validated)
    assert figures["average_precision"] == pytest.approx(best, abs=0.05)
    assert figures["num_pictures"] == figures["num_faces"] == HELD_OUT - 1


def test_tiny_run_names_the_photos_that_it_left_out_and_what_it_found(trained: tuple[Path, str]) -> None:
    folder, said = trained
    assert said.count("photos/001.png: the image file cannot be decoded") == 1 and "1 items were left out" in said
    assert "photos/021.png: the image file cannot be decoded" in said
    assert f"training data: {PHOTOS - HELD_OUT} marked photos; {HELD_OUT} photos to validate on" in said
    assert f"progress {EPOCHS * 25}/{EPOCHS * 25} steps" in said and "faces found" in said
    record = read_record(folder)
    assert record is not None and record.options["train_held_out"] == "10"


def test_tiny_runs_card_installs_and_its_network_finds_a_face(trained: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = trained
    card = load_card(folder / "tiny.yaml")
    assert card.training_data == "200 marked photos (photos)" and card.training["architecture"] == "retinaface_tiny"
    assert card.training["sizes"] == "64 96" and card.training["ema"] == 0.8
    installed = install_model(str(folder / "tiny.yaml"), tmp_path)
    assert installed.sha256 == card.file.sha256 and (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    image, marks = draw_photo(np.random.default_rng(5000), 96, (50, 60))
    found = make_detector(load_network(installed.network), installed.card).detect([image])[0]
    assert overlap(found.boxes[:1], marks.boxes)[0, 0] > 0.5


def test_exported_files_equal_the_torch_network_and_half_weights_halve_the_file(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = trained
    card = load_card(folder / "tiny.yaml")
    network = build_network("retinaface_tiny", card.input, card.output)
    network.load_state_dict(load_checkpoint(folder / "best.pt")["network"])
    export_network(network.eval(), card, tmp_path / "full.onnx")
    full, half = (path.stat().st_size for path in (tmp_path / "full.onnx", folder / "tiny.onnx"))
    assert 0.45 * full < half < 0.6 * full
    images = np.stack([draw_photo(np.random.default_rng(k), 128, (40, 90))[0] for k in (6000, 6001)])
    batch = ((images.transpose(0, 3, 1, 2) - 127.5) / 127.5).astype(np.float32)[:, :, :96]
    with torch.inference_mode():
        expected = [out.numpy() for out in network(torch.from_numpy(batch))]
    for engine in ENGINES:
        for path, rounding in ((tmp_path / "full.onnx", 1e-4), (folder / "tiny.onnx", 1e-2)):
            for out, reference in zip(load_network(path, engine)(batch), expected, strict=True):
                assert out.dtype == np.float32 and out.shape == reference.shape
                assert np.abs(out - reference).max() <= rounding * np.abs(reference).max()


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_detector_is_built_for_pictures_of_any_size(name: str, trained: tuple[Path, str]) -> None:
    card = load_card(trained[0] / "tiny.yaml")
    with torch.device("meta"):
        network = build_network(name, card.input, card.output).eval()
        images = torch.zeros(2, 3, 64, 96)
        shapes = [tuple(out.shape) for out in network(images)]
        assert network.logits(images)[1].shape == (2, 252, 2)
    assert shapes == [(2, 252, 4), (2, 252), (2, 252, 10)]  # 2 anchors at each of 96 + 24 + 6 places


@pytest.mark.usefixtures("no_export")
def test_step_killed_and_run_again_equals_an_undisturbed_run(
    drawn: Path, trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = _Run._update

    def dying(self: _Run, batch: Any) -> Any:
        if self.step == 37:
            raise KeyboardInterrupt
        return update(self, batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_Run, "_update", dying)
        train(**options(drawn, tmp_path / "tiny"))
    assert load_checkpoint(tmp_path / "tiny/last.pt")["step"] == 30
    train(**options(drawn, tmp_path / "tiny"))
    whole, again = (load_checkpoint(folder / "last.pt") for folder in (trained[0], tmp_path / "tiny"))
    for part in ("task", "average"):
        assert all(torch.equal(again[part][name], value) for name, value in whole[part].items())
    assert whole["best"] == again["best"] and whole["step"] == again["step"] == EPOCHS * 25


@pytest.mark.usefixtures("no_export")
def test_run_that_starts_from_the_weights_of_another_begins_near_its_last_loss(
    drawn: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    before = trained[0] / "best.pt"
    train(**options(drawn, tmp_path / "more", init=str(before), epochs=1, log_steps=5, lr=0.0005))
    first, begun = (read_log(folder)[0] for folder in (trained[0], tmp_path / "more"))
    assert begun["step"] == 5 and begun["loss"] < 0.5 * first["loss"]
    assert load_card(tmp_path / "more/more.yaml").training["init"] == f"best.pt {sha256(before)}"


@pytest.mark.usefixtures("no_export")
def test_student_of_a_teacher_learns_to_answer_like_it_on_photos_without_marks(
    drawn: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    install_model(str(trained[0] / "tiny.yaml"), tmp_path)
    more = {"teacher": [str(tmp_path / "tiny")], "train_annotations": "", "seed": 1, "epochs": 2, "log_steps": 5}
    train(**options(drawn, tmp_path / "student", **more))
    log = [entry for entry in read_log(tmp_path / "student") if entry["kind"] == "train"]
    for term in ("teacher_class", "teacher_box", "teacher_landmark"):
        assert log[-1][term] < 0.6 * log[0][term]
    assert "class" not in log[0]
    card = load_card(tmp_path / "student/student.yaml")
    assert card.training_data == "200 photos (photos); teacher tiny, trained on 200 marked photos (photos)"
    assert card.training["teacher"].startswith("tiny ") and card.training["marked"] is False
    # Nearer to the teacher than an untrained network, anchor by anchor, on a photo that neither knows.
    installed = installed_model(tmp_path / "tiny")
    teacher = make_detector(load_network(installed.network), installed.card)
    batch = teacher.prepare([draw_photo(np.random.default_rng(7000), 96, (50, 60))[0]], 96, 96)
    student, other = (build_network("retinaface_tiny", card.input, card.output).eval() for _ in range(2))
    # Of the last epoch: it is nearest, but finds no face at 0.9 yet, and so is not the one that is kept.
    last = load_checkpoint(tmp_path / "student/last.pt")
    student.load_state_dict(last["average"])
    assert last["best"]["epoch"] == 0 and last["best"]["recall"] > 0.5
    wanted = teacher.network(batch)[1]
    with torch.inference_mode():
        gaps = [np.abs(network(torch.from_numpy(batch))[1].numpy() - wanted).max() for network in (student, other)]
    assert gaps[0] < 0.5 * gaps[1]


def test_evaluation_of_the_held_out_photos_repeats_the_cards_figures(
    drawn: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    install_model(str(trained[0] / "tiny.yaml"), tmp_path)
    given = {"model": str(tmp_path / "tiny"), "pictures": [str(drawn / "photos")], "held_out": HELD_OUT}
    figures = evaluate_detector(cli.fill(DetectorFiguresOptions, **given, annotations=str(drawn / "marks")))
    said = load_card(trained[0] / "tiny.yaml").figures
    assert said.pop("measured_on") == said.pop("epoch_chosen_on") == f"{HELD_OUT - 1} photos (photos)"
    assert figures.pop("interval")["recall"] == pytest.approx(said.pop("interval")["recall"])
    assert figures == pytest.approx(said)


@pytest.mark.usefixtures("no_export")
def test_card_has_figures_of_the_photos_that_chose_nothing(
    drawn: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    write_annotations(tmp_path / "marks", write_photos(tmp_path / "other", 14, 128))
    given = options(drawn, tmp_path / "tiny", held_out=HELD_OUT, epochs=1, init=str(trained[0] / "best.pt"), lr=1e-9)
    found = train(**given, test_data=[str(tmp_path / "other")], test_annotations=str(tmp_path / "marks"))
    figures = load_card(tmp_path / "tiny/tiny.yaml").figures
    assert figures == found and figures["num_pictures"] == 14
    assert figures["measured_on"] == "14 photos (other)" and figures["epoch_chosen_on"] == "9 photos (photos)"
    install_model(str(tmp_path / "tiny/tiny.yaml"), tmp_path / "installed")
    given = {"model": str(tmp_path / "installed/tiny"), "pictures": [str(tmp_path / "other")]}
    again = evaluate_detector(cli.fill(DetectorFiguresOptions, **given, annotations=str(tmp_path / "marks")))
    for name in ("recall", "extra", "landmark_median", "average_precision", "num_faces"):
        assert again[name] == pytest.approx(figures[name])


def test_step_on_other_photos_to_validate_on_tells_the_loop_so(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def stop(*arguments: Any) -> None:
        given.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("vidperson.training.loop.train", stop)
    lines = (drawn / "marks").read_text().splitlines(keepends=True)
    starts = [at for at, line in enumerate(lines) if line.startswith("# ")] + [len(lines)]
    for first, last in ((2, 6), (6, 10), (2, 6)):
        (tmp_path / "valid").write_text("".join(lines[starts[first] : starts[last]]))
        more = {"held_out": 0, "valid_data": [str(drawn / "photos")], "valid_annotations": str(tmp_path / "valid")}
        with pytest.raises(KeyboardInterrupt):
            train(**options(drawn, tmp_path / "x", **more))
    digests = [arguments[7] for arguments in given]
    assert digests[0] == digests[2] != digests[1] and all(len(digest) == 64 for digest in digests)


# -- what is refused -----------------------------------------------------------------------------------------------


def refusal(repo: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> str:
    """What the step's command line says before it leaves with exit status 1; anything else fails."""
    words = ["train_detector.py"]
    for name, value in arguments.items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(repo / "steps_face/train_detector.py"), run_name="__main__")
    assert isinstance(stop.value.code, str) and stop.value.code.startswith("ERROR: ")  # printed, and exit status 1
    return stop.value.code


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train_annotations": ""}, "nothing to learn from: give --train-annotations, or a --teacher, or both"),
        ({"architecture": "small_resnet"}, "expected one of retinaface_mobilenet025 retinaface_tiny, found"),
        (
            {"augment": "mosaic=0.5 cutout=0.5"},
            "found 'cutout=0.5'; names: mosaic mirror aim cut zoom colour grey blur motion dark jpeg",
        ),
        ({"sizes": "100"}, "multiples of 32 from 64 on, found 100"),
        ({"sizes": "big"}, "expected whole numbers, found 'big'"),
        ({"held_out": 210}, "210 photos cannot be held out of 210"),
        ({"valid_data": ["x"]}, "--valid-data and --valid-annotations are given together"),
        ({"valid_data": ["x"], "valid_annotations": "y"}, "instead of --held-out"),
        ({"test_annotations": "y"}, "--test-annotations are of the photos of --test-data: give both"),
        ({"test_data": ["x"]}, "--test-data needs --test-annotations, or a --teacher that marks its faces"),
        ({"batch_size": 0}, "expected at least 1 photos in a batch, found 0"),
        ({"precision": "fp8"}, "precision: expected one of fp32"),
        ({"train_annotations": "none.txt"}, "none.txt: no such file"),
        ({"teacher": "none"}, "none: no installed network; run"),
    ],
)
def test_step_with_settings_that_make_no_sense_says_so_and_leaves_nothing(
    drawn: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], message: str
) -> None:
    assert message in refusal(repo, monkeypatch, options(drawn, tmp_path / "x", **more))
    assert not (tmp_path / "x").exists()


def test_step_without_photos_or_with_marks_of_absent_ones_says_so(
    drawn: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    given = options(drawn, tmp_path / "x", train_data=[str(tmp_path / "empty")])
    assert f"{tmp_path}/empty: no image" in refusal(repo, monkeypatch, given)
    (tmp_path / "marks").write_text("# 000.png\n# gone away.png\n1 2 30 40\n")
    given = options(drawn, tmp_path / "x", train_annotations=str(tmp_path / "marks"))
    assert "1 of 2 marked photos are not in exactly one of" in (said := refusal(repo, monkeypatch, given))
    assert "first: gone away.png" in said


def test_step_whose_held_out_photos_show_no_face_says_so_before_it_trains(
    drawn: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marks").write_text("".join(f"# {k:03d}.png\n1 2 30 39\n" for k in range(2, 20)))
    given = options(drawn, tmp_path / "x", train_annotations=str(tmp_path / "marks"), held_out=2)
    said = refusal(repo, monkeypatch, given)
    assert "none of the 2 photos to validate on shows a reference face of at least 40 pixels" in said
    assert not (tmp_path / "x/last.pt").exists()


def test_step_with_a_loss_that_is_not_finite_stops_and_names_the_step(
    drawn: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(drawn, tmp_path / "x", optimiser="sgd", lr=1e30, momentum=0.0, clip=0.0, schedule="step")
    said = refusal(repo, monkeypatch, given)
    assert re.search(r"step \d+ \(epoch 0\): \w+ is (nan|inf); lower the learning rate", said)


def test_run_script_refuses_a_teacher_that_is_not_installed(repo: Path, tmp_path: Path) -> None:
    call = ["./run_011_train_face_detector.sh", "--exp-dir", str(tmp_path), "--train-teacher", "none_such"]
    done = subprocess.run(call, cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "the teacher is not in" in done.stderr
    assert "run_000_get_pretrained_models.sh --face-embedder '' --face-detector none_such" in done.stderr


@pytest.mark.parametrize(
    ("settings", "started"),
    [
        ("--train-processes 1", "python"),
        ("--train-processes 2", "python -m torch.distributed.run --standalone --nproc-per-node 2"),
        ("--train-processes 2 --train-gpus 1", "python"),
        ("--train-gpus 4", "python -m torch.distributed.run --standalone --nproc-per-node 4"),
    ],
)
def test_options_of_training_start_a_process_per_gpu_or_as_many_as_asked_for_on_the_cpu(
    repo: Path, tmp_path: Path, settings: str, started: str
) -> None:
    script = tmp_path / "run_012_train_x.sh"
    lines = ["set -euo pipefail", ". ./cmd.sh"]
    lines += ["train_name=x", "train_architecture=y", "train_augment=", "train_batch=1"]
    lines += [". ./utils/parse_options.sh", ". ./utils/training.sh face --face-detector", 'echo "${python[*]}"']
    script.write_text("\n".join(lines) + "\n")
    call = ["bash", str(script), *settings.split()]
    done = subprocess.run(call, cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == started, done.stderr
    refused = [*call, "--train-processes", "0"]
    done = subprocess.run(refused, cwd=repo, env=RECIPE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and not done.stdout
    assert "expected a whole number from 1 on for train_processes, found '0'" in done.stderr
