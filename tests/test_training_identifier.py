"""Identifiers: batches of clips, heads, losses, folds, and runs of the recipe's script on made-up embeddings."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidperson import cli
from vidperson.backends.identification import ClassMean, Whitened, Whitening, class_means, pool
from vidperson.backends.identification import Identifier as Searching
from vidperson.engines import load_network
from vidperson.errors import DataError, ModelError, ScoringError, TrainingError
from vidperson.io.matrices import load_matrices, matrix_bytes
from vidperson.io.record import damaged_outputs, read_record
from vidperson.networks.card import load_card

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from steps.train_identifier import Learnt, SetOptions, TrainIdentifierOptions, read_clips, train_identifier  # noqa: E402
from vidperson.networks.architectures.identifier import Head, Identifier, IdentifierShape  # noqa: E402
from vidperson.training.clips import ClipBatches, Clips, Draw, clusters, stratified  # noqa: E402
from vidperson.training.command import IdentifierOptions  # noqa: E402
from vidperson.training.identifier import IdentifierTask, check_options, shape_of  # noqa: E402
from vidperson.training.loop import load_checkpoint, read_log  # noqa: E402

RECIPE = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
PERSONS, SIZE, OTHER_SIZE = 8, 12, 6


def write_set(root: Path, name: str, per_person: int, strangers: int, first_stranger: int, noise: float = 0.5) -> None:
    """A set whose clips have one to nine items of two made-up embedders, as stages 1 to 3 leave it.

    Person 0 has a clip without an item in each set, person 7 only one clip.
    """
    rng = np.random.default_rng([per_person, first_stranger])
    centres = np.random.default_rng(0).standard_normal((1000, SIZE + OTHER_SIZE))
    who = [(p, k) for p in range(PERSONS) for k in range(1 if p == 7 else per_person)]
    who += [(PERSONS + first_stranger + k, 0) for k in range(strangers)]
    matrices: dict[str, dict[str, np.ndarray]] = {"net": {}, "other": {}, "faces": {}, "quality": {}}
    lists: dict[str, list[str]] = {"vid.scp": [], "utt2group": [], "utt2spk": [], "relevant": []}
    for person, number in who:
        segment, count = f"{name}-{person:03d}-{number}", int(rng.integers(1, 10))
        count = 0 if (person, number) == (0, 1) else count
        quality = rng.uniform(0.2, 1, count)
        rows = centres[person] + noise * rng.standard_normal((count, SIZE + OTHER_SIZE)) / quality[:, None]
        matrices["net"][segment] = rows[:, :SIZE] * quality[:, None]
        matrices["other"][segment] = rows[:, SIZE:] * 3
        items = np.zeros((count, 17))
        items[:, 0] = items[:, 1] = np.arange(count)
        items[:, 2:7] = 10, 10, 60, 60, 0.9
        matrices["faces"][segment] = items
        matrices["quality"][segment] = np.stack([np.full(count, 25.0), 1 - quality], axis=1)
        lists["vid.scp"].append(f"{segment} {segment}.mp4")
        lists["utt2group"].append(f"{segment} all")
        if person < PERSONS:
            lists["utt2spk"].append(f"{segment} p{person}")
            lists["relevant"].append(f"p{person} {segment}")
    for archive, folder in (("embed", "face_embed/net"), ("embed", "face_embed/other"), ("faces", "face_det/det"),
                            ("quality", "face_det/det")):  # fmt: skip
        place = root / "exp" / folder / name
        place.mkdir(parents=True, exist_ok=True)
        with open(place / f"{archive}.ark", "wb") as ark, open(place / f"{archive}.scp", "w") as scp:
            for segment, matrix in sorted(matrices[place.parent.name if archive == "embed" else archive].items()):
                scp.write(f"{segment} {archive}.ark:{ark.tell() + len(segment) + 1}\n")
                ark.write(matrix_bytes(segment, matrix))
    data = root / "data" / name
    data.mkdir(parents=True)
    lists["search"] = [f"p{person} all" for person in range(PERSONS)]
    for listed, lines in lists.items():
        (data / listed).write_text("".join(f"{line}\n" for line in sorted(lines)))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/`` and ``exp/`` with the sets ``train`` and ``valid``."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root, "train", 5, 20, 0)
    write_set(root, "valid", 4, 15, 20)
    return root


def options(sets: Path, output: Path, **more: Any) -> dict[str, Any]:
    """A run of a second."""
    return {
        "modality": "face",
        "train_data": [str(sets / "data/train")],
        "train_parts": ["train"],
        "embed_dirs": [sets / "exp/face_embed/net"],
        "items_dir": sets / "exp/face_det/det",
        "valid_data": str(sets / "data/valid"),
        "valid_part": "valid",
        "output_dir": str(output),
        "batch_size": 16,
        "epochs": 3,
        "log_steps": 1,
        "save_steps": 2,
    } | more


def train(**given: Any) -> dict[str, Any]:
    return train_identifier(cli.fill(TrainIdentifierOptions, **given))


@pytest.fixture(scope="module")
def clips(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """The clips of ``train``, of both embedders."""
    embed_dirs = [sets / "exp/face_embed" / name for name in ("net", "other")]
    part = SetOptions("face", ["train"], embed_dirs, sets / "exp/face_det/det").part("train")
    persons = [f"p{person}" for person in range(PERSONS)]
    return read_clips(tmp_path_factory.mktemp("x") / "clips", [Learnt(sets / "data/train", part)], persons, 18)


@pytest.fixture(scope="module")
def trained(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an identifier of two folds that the recipe's script trained, and its log."""
    exp = tmp_path_factory.mktemp("trained") / "exp"
    shutil.copytree(sets / "exp", exp)
    call = ["./run_014_train_identifier.sh", "--exp-dir", str(exp), "--data-dir", str(sets / "data"), "--train-name"]
    call += ["who", "--face-detector", "det", "--face-embedder", "net", "--train-embedders", "net other"]
    call += ["--train-sets", "train", "--valid-set", "valid", "--train-folds", "2", "--train-hidden", "10"]
    call += ["--train-dropout", "0.2", "--train-loss", "cosface", "--train-strangers", "2"]
    call += ["--train-score", "log-probability"]
    call += ["--train-batch", "8", "--train-epochs", "3", "--train-save-steps", "2", "--train-threads", "1"]
    done = subprocess.run(call, cwd=Path(__file__).parents[1], env=RECIPE, capture_output=True, text=True, timeout=300)
    folder = exp / "face_train/who"
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip().endswith(str(folder / "who.yaml"))
    return folder, (folder / "log/train.log").read_text()


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export and curves have their own tests and take longer than the training."""
    monkeypatch.setattr("vidperson.training.identifier.export_identifier", lambda *given: {})
    monkeypatch.setattr("vidperson.training.command.draw_curves", lambda *given: None)


SAME = {"folds": 2, "hidden": [10], "dropout": 0.2, "loss": "cosface", "strangers": 2, "lr": 0.003}
SAME |= {"schedule": "cosine", "score": "log-probability"}


# -- runs ----------------------------------------------------------------------------------------------------------


def test_script_leaves_one_network_with_a_card_and_a_record(trained: tuple[Path, str]) -> None:
    folder, said = trained
    card = load_card(folder / "who.yaml")
    assert (card.kind, card.input.kind, card.output.labels) == (
        "face_classifier", "vector", tuple(f"p{person}" for person in range(PERSONS))
    )  # fmt: skip
    assert card.input.embedders == ("net", "other") and card.input.size == SIZE + OTHER_SIZE  # type: ignore[attr-defined]
    assert card.training["architecture"] == (
        "cosine hidden=10 dropout=0.2 strangers=2 heads=2 score=log-probability scale=20"
    )  # fmt: skip
    assert "in 2 folds (train)" in card.training_data and card.training["train_sets"] == ["train"]
    folds = [load_checkpoint(folder / f"fold{k}/best.pt")["best"]["map_100"] for k in (1, 2)]
    assert card.figures["held_out_folds"] == folds and card.figures["mean_of_held_out_folds"] == np.mean(folds)
    assert card.figures["map_100"] > 0.8 and f"mAP@100 {card.figures['map_100']:.4f}" in said
    record = read_record(folder)
    assert record is not None and record.stage == "./run_014_train_identifier.sh"
    assert record.outputs.keys() == {"who.onnx", "who.yaml", "fold1/best.pt", "fold2/best.pt"}
    assert damaged_outputs(folder, record, thorough=True) == []
    assert (folder / "fold1/curves.png").read_bytes()[:4] == b"\x89PNG"


def test_exported_network_is_the_mean_of_the_torch_heads_at_any_batch_size(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    vectors = np.random.default_rng(0).standard_normal((5, SIZE + OTHER_SIZE)).astype(np.float32)
    expected = []
    for k in (1, 2):
        shape = IdentifierShape("cosine", (10,), 0.2, 2, 1, "log-probability", 20)
        network = Identifier(SIZE + OTHER_SIZE, PERSONS, shape).eval()
        network.load_state_dict(load_checkpoint(folder / f"fold{k}/best.pt")["network"])
        expected.append(network(torch.from_numpy(vectors)).detach().numpy())
    for engine in ("openvino", "onnxruntime"):
        run = load_network(folder / "who.onnx", engine)
        for count in (1, 5):
            found = run(vectors[:count])[0]
            assert np.abs(found - np.mean(expected, axis=0)[:count]).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("no_export")
def test_step_killed_and_run_again_equals_an_undisturbed_run(
    sets: Path, trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second fold, behind a checkpoint in the midst of an epoch."""
    from vidperson.training.loop import _Run

    update = _Run._update

    def dying(self: _Run, batch: Any) -> Any:
        if self.folder.name == "fold2" and self.step == 5:
            raise KeyboardInterrupt
        return update(self, batch)

    embed_dirs = [sets / "exp/face_embed" / name for name in ("net", "other")]
    given = options(sets, tmp_path / "who", embed_dirs=embed_dirs, batch_size=8, **SAME)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_Run, "_update", dying)
        train(**given)
    assert load_checkpoint(tmp_path / "who/fold2/last.pt")["step"] == 4
    train(**given)
    for fold in ("fold1", "fold2"):
        for file, parts in (("last.pt", ("task", "optimiser", "best")), ("best.pt", ("network",))):
            whole, again = (load_checkpoint(root / fold / file) for root in (trained[0], tmp_path / "who"))
            for part in parts:
                assert repr(whole[part]) == repr(again[part])
                tensors = ((whole[part][n], again[part][n]) for n in whole[part] if torch.is_tensor(whole[part][n]))
                assert all(torch.equal(*pair) for pair in tensors)
        assert [e["step"] for e in read_log(tmp_path / "who" / fold) if e["kind"] == "validate"] == [0, 3, 6, 9]


@pytest.mark.usefixtures("no_export")
def test_network_begins_as_the_back_end_class_mean_whitened(sets: Path, clips: Clips, tmp_path: Path) -> None:
    """Kept as it begins, since the learning rate is next to nothing: it ranks as the back-end does."""
    embed_dirs = [sets / "exp/face_embed" / name for name in ("net", "other")]
    train(**options(sets, tmp_path / "who", embed_dirs=embed_dirs, hidden=[7], lr=1e-30, epochs=1))
    network = Identifier(18, PERSONS, IdentifierShape("cosine", (7,), scale=20)).eval()
    network.load_state_dict(load_checkpoint(tmp_path / "who/best.pt")["network"])
    vectors, labels = np.array(clips.prepared.vectors), clips.labels
    whitening = Whitening(vectors)
    known = [f"p{label}" for label in labels[labels >= 0]]
    names, means = class_means(whitening.apply(vectors[labels >= 0]), known)
    expected = Whitened(ClassMean(names, means), whitening).scores(vectors)
    found = network(torch.from_numpy(vectors)).detach().numpy()
    assert names == clips.persons and np.abs(found - expected).max() < 2e-5


@pytest.mark.usefixtures("no_export")
def test_original_learns_from_random_weights(sets: Path, tmp_path: Path) -> None:
    more = {"architecture": "original", "hidden": [32, 32], "loss": "softmax", "score": "log-probability"}
    more |= {"items": "all=1", "epochs": 12}
    more |= {"optimiser": "sgd", "lr": 0.1, "weight_decay": 5e-4, "decay": 0.1, "decay_epochs": [9, 11]}
    train(**options(sets, tmp_path / "who", **more))
    measured = [line["map_100"] for line in read_log(tmp_path / "who") if line["kind"] == "validate"]
    assert len(measured) == 13 and measured[0] < 0.4 and max(measured) > 0.7
    rates = [line["lr"] for line in read_log(tmp_path / "who") if line["kind"] == "train"]
    assert sorted(set(rates), reverse=True) == pytest.approx([0.1, 0.01, 0.001]) and rates[27] == pytest.approx(0.01)


def test_biases_of_the_original_learn_at_twice_the_rate_without_decay() -> None:
    given = IdentifierOptions("original", [8, 8], loss="softmax")
    task = IdentifierTask(Identifier(6, 4, shape_of(given)), 4, given)
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    weights, biases = task.parameter_groups()
    assert [names[id(each)] for each in biases.pop("params")] == [
        f"network.heads.0.{name}bias" for name in ("", "layers.0.full.", "layers.1.full.")
    ]
    assert biases == {"rate": 2.0, "weight_decay": 0.0}
    assert weights.keys() == {"params"} and len(weights["params"]) == len(names) - 3


def test_scores_of_the_search_are_those_of_the_trained_network(trained: tuple[Path, str], clips: Clips) -> None:
    """Of some of the persons, in another order, and in batches that are filled up."""
    card, vectors = load_card(trained[0] / "who.yaml"), np.array(clips.prepared.vectors)
    network = load_network(trained[0] / "who.onnx")
    searcher = Searching(card.output.labels, ("p5", "p1"), lambda some: network(some)[0], 16)
    assert np.abs(searcher.scores(vectors) - network(vectors)[0][:, [5, 1]]).max() < 1e-5


# -- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["voice", "../x", "face voice"])
def test_script_for_a_modality_that_is_not_there_names_those_that_are(name: str) -> None:
    call = ["./run_014_train_identifier.sh", "--train-modality", name]
    done = subprocess.run(call, cwd=Path(__file__).parents[1], env=RECIPE, capture_output=True, text=True, timeout=30)
    said = f": train_modality: expected one of body face speaker, found '{name}'\n"
    assert done.returncode == 1 and done.stderr.endswith(said)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"loss": "triplet"}, TrainingError, "loss: expected one of sigmoid softmax .*, found 'triplet'"),
        ({"loss": "arcface", "architecture": "original"}, TrainingError, "arcface needs the architecture cosine"),
        ({"architecture": "resnet", "loss": "softmax"}, ModelError, "expected one of original cosine"),
        ({"score": "log-probability"}, TrainingError, "with the loss sigmoid expected logit, found 'log-probability'"),
        ({"focal": 1.0}, TrainingError, "focal: .* not of sigmoid"),
        ({"dropout": 1.0}, ModelError, "expected 0 <= dropout < 1"),
        ({"folds": 1}, TrainingError, "folds: expected 0, or 2 or more, found 1"),
        ({"items": "3=x"}, TrainingError, "items: expected <number or all>=<probability> .*, found '3=x'"),
        ({"items": "0=1"}, TrainingError, "items: .* found '0=1'"),
        ({"items": ""}, TrainingError, "items: expected such as"),
        ({"margin": -0.1}, TrainingError, "margin: expected 0 to 1.5, found -0.1"),
        ({"strangers": 21, "loss": "softmax"}, TrainingError, "as many strangers as their 21 classes, found 20"),
        ({"batch_size": 1}, TrainingError, "expected 2 clips a step or more"),
        ({"train_parts": ["train", "train"]}, TrainingError, "is given with its part"),
        ({"valid_part": "train"}, TrainingError, "valid_set: expected a set that is not learnt from, found 'train'"),
        ({"train_parts": ["none"]}, ScoringError, "none"),
        ({"folds": 20}, TrainingError, "folds: expected persons with clips to hold out in each of 20, found none"),
    ],
)
def test_step_with_settings_that_make_no_sense_says_so_and_leaves_no_network(
    sets: Path, tmp_path: Path, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(**options(sets, tmp_path / "x", **more))
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.yaml"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: edit(data / "valid/relevant", "p2 ", "p99 "), "relevant are in none of the sets to train.*p99"),
        (lambda data: edit(data / "valid/search", "p2 ", "p99 "), "search are in none of the sets to train.*p99"),
        (lambda data: (data / "valid/relevant").unlink(), "valid/relevant: no such file"),
        (lambda data: edit(data / "valid/relevant", "valid-002-1", "valid-2"), "valid-2"),
        (lambda data: edit(data / "train/utt2spk", "train-002-1", "train-2"), "train-2"),
        (lambda data: edit(data / "train/vid.scp", "train-002-1 ", "train-2 "), "train-2"),
        (lambda data: (data / "train/utt2spk").write_text("train-000-1 p0\ntrain-009-0 p1\n"), "p2"),
        (lambda data: (data / "train/utt2spk").write_text("train-002-1 p2\n"), "2 persons or more .* train, found 1"),
    ],
)
def test_step_with_lists_that_do_not_fit_names_the_list_and_leaves_nothing(
    sets: Path, tmp_path: Path, change: Any, message: str
) -> None:
    shutil.copytree(sets / "data", tmp_path / "data")
    change(tmp_path / "data")
    given = options(sets, tmp_path / "x", train_data=[str(tmp_path / "data/train")])
    with pytest.raises((DataError, ScoringError, TrainingError), match=message):
        train(**given | {"valid_data": str(tmp_path / "data/valid")})
    assert not (tmp_path / "x").exists()


def write_again(folder: Path, change: Any) -> None:
    """Change the embeddings of each segment that has some."""
    table = {key: np.array(rows) for key, rows in load_matrices(folder / "embed.scp").items()}
    with open(folder / "embed.ark", "wb") as ark, open(folder / "embed.scp", "w") as scp:
        for key, rows in table.items():
            scp.write(f"{key} embed.ark:{ark.tell() + len(key) + 1}\n")
            ark.write(matrix_bytes(key, change(rows) if len(rows) else rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:, :-1], "train/embed.scp: expected 11 numbers an embedding, as in .*valid/embed.scp"),
        (lambda rows: rows * np.nan, "valid/embed.scp: segment 'valid-000-0': NaN or infinite embedding"),
        (lambda rows: rows[:-1], "valid/embed.scp: segment 'valid-000-0'.*expected . rows"),
    ],
)
def test_step_with_embeddings_that_do_not_fit_names_the_segment_and_leaves_nothing(
    sets: Path, tmp_path: Path, change: Any, message: str
) -> None:
    shutil.copytree(sets / "exp/face_embed/net", tmp_path / "net")
    write_again(tmp_path / "net/valid", change)
    swapped = {"train_data": [str(sets / "data/valid")], "train_parts": ["valid"], "valid_part": "train"}
    swapped |= {"valid_data": str(sets / "data/train"), "embed_dirs": [tmp_path / "net"]}
    with pytest.raises(DataError, match=message):
        train(**options(sets, tmp_path / "x", **swapped))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("name", "message"), [("train", "nothing to learn from"), ("valid", "nothing to validate on")])
def test_sets_without_any_item_are_named(sets: Path, tmp_path: Path, name: str, message: str) -> None:
    shutil.copytree(sets / "exp/face_embed/net", tmp_path / "net")
    write_again(tmp_path / "net" / name, lambda rows: rows[:0])
    with pytest.raises(DataError, match=f"{name}/embed.scp: no segment .*has an item: there is {message}"):
        train(**options(sets, tmp_path / "x", embed_dirs=[tmp_path / "net"], items_dir=None))


@pytest.mark.usefixtures("no_export")
def test_set_that_is_learnt_twice_is_refused(sets: Path, tmp_path: Path) -> None:
    given = options(sets, tmp_path / "x", epochs=1)
    with pytest.raises(TrainingError, match="train-data: expected different sets, found train train"):
        train(**given | {"train_data": given["train_data"] * 2, "train_parts": ["train"] * 2})


@pytest.mark.usefixtures("no_export")
def test_clips_are_prepared_again_only_where_tracks_are_linked_in_another_way(sets: Path, tmp_path: Path) -> None:
    """Kept, the first ones are known by the time of their file; then items of cosine 1 alone stay in one track."""
    vectors = [tmp_path / "x" / name / "vectors" for name in ("clips", "valid")]
    written = []
    for cosine in (0.3, 0.3, 1.0):
        (tmp_path / "x/last.pt").unlink(missing_ok=True)
        train(**options(sets, tmp_path / "x", epochs=1, link_cosine=cosine))
        written.append([(path.stat().st_mtime_ns, path.read_bytes()) for path in vectors])
    assert written[0] == written[1]
    assert all(first[1] != second[1] for first, second in zip(written[1], written[2], strict=True))


@pytest.mark.usefixtures("no_export")
def test_clips_are_prepared_again_where_a_list_has_lost_a_segment_and_the_embeddings_are_the_same(
    sets: Path, tmp_path: Path
) -> None:
    """Clips know their segment by its number: all behind the lost one would be taken for others."""
    shutil.copytree(sets / "data", tmp_path / "data")
    given = options(sets, tmp_path / "x", epochs=1, train_data=[str(tmp_path / "data/train")])
    given["valid_data"] = str(tmp_path / "data/valid")
    train(**given)
    for path in tmp_path.glob("data/*/*"):
        path.write_text("".join(line for line in path.read_text().splitlines(True) if "-000-0" not in line))
    (tmp_path / "x/last.pt").unlink()
    train(**given)
    train(**given | {"output_dir": str(tmp_path / "fresh/x")})
    for name in ("last.pt", "clips/part", "clips/number", "clips/vectors", "valid/number", "valid/vectors"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "fresh/x" / name).read_bytes()


def test_folds_whose_person_got_another_name_are_exported_with_it_and_their_figures(sets: Path, tmp_path: Path) -> None:
    shutil.copytree(sets / "data/train", tmp_path / "train")
    given = options(sets, tmp_path / "x", epochs=1, folds=2, train_data=[str(tmp_path / "train")])
    given |= {"valid_data": "", "valid_part": ""}
    figures = train(**given)
    edit(tmp_path / "train/utt2spk", " p3", " p3-again")
    assert train(**given) == figures
    assert load_card(tmp_path / "x/x.yaml").output.labels[3] == "p3-again"


@pytest.mark.usefixtures("no_export")
def test_persons_without_an_item_and_a_search_without_strangers_are_warned_of(
    sets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(sets / "data", tmp_path / "data")
    for name in ("train/utt2spk", "valid/relevant", "valid/utt2group"):
        lines = (tmp_path / "data" / name).read_text().splitlines()
        kept = [line for line in lines if "p0" not in line.split() or "train-000-1" in line]
        if name == "valid/utt2group":
            kept = [line for line in lines if int(line.split("-")[1]) in range(1, PERSONS)]
        (tmp_path / "data" / name).write_text("".join(f"{line}\n" for line in kept))
    given = {"train_data": [str(tmp_path / "data/train")], "valid_data": str(tmp_path / "data/valid"), "epochs": 1}
    train(**options(sets, tmp_path / "x", **given))
    assert "p0: person without a segment with any item" in caplog.text
    assert "no strangers in it: the epoch is chosen as if there were none" in caplog.text
    assert len(load_checkpoint(tmp_path / "x/best.pt")["network"]["heads.0.weight"]) == PERSONS


# -- batches -------------------------------------------------------------------------------------------------------


def test_drawn_items_differ_and_are_as_many_as_probable_and_each_as_often() -> None:
    draw = Draw.parse("1=1 3=2 all=1")
    counts = np.repeat([1, 2, 3, 4, 9], 4000)
    chosen = draw(counts, np.random.default_rng(0))
    assert chosen.shape == (20000, 3) and (chosen < counts[:, None]).all()
    for row in chosen[::50].tolist():
        assert len({each for each in row if each >= 0}) == sum(each >= 0 for each in row)
    taken = (chosen >= 0).sum(axis=1)
    for count, shares in ((9, {0: 0.25, 1: 0.25, 3: 0.5}), (4, {0: 0.25, 1: 0.25, 3: 0.5}), (2, {0: 0.75, 1: 0.25})):
        found = taken[counts == count]
        assert {number: np.mean(found == number) for number in shares} == pytest.approx(shares, abs=0.03)
    nine = chosen[counts == 9]
    assert np.bincount(nine[nine >= 0], minlength=9) == pytest.approx([(1000 + 3 * 2000) / 9] * 9, rel=0.12)


def test_batch_holds_what_pool_makes_of_the_drawn_items(sets: Path, clips: Clips) -> None:
    every = np.arange(len(clips.labels))
    batches = ClipBatches(clips, every, every, Draw.parse("1=1 3=1 all=1"), 24, 5)
    loaded, broken = batches.load(0, 1)
    assert not broken and loaded["vectors"].shape == (24, 18) and loaded["vectors"].dtype == np.float32
    order = batches.order(0)[24:48]
    assert loaded["labels"].tolist() == order.tolist()
    chosen = batches.draw(clips.counts(order), np.random.default_rng([5, 0, 2]))
    for clip, picked, vector in zip(order, chosen, loaded["vectors"], strict=True):
        end, count = clips.prepared.ends[clip], clips.counts(np.array([clip]))[0]
        picked = picked[picked >= 0] if picked.max() >= 0 else np.arange(count)
        rows, weights = (table[end - count + picked] for table in (clips.prepared.rows, clips.prepared.weights))
        tables = [table.take(np.full(len(rows), clips.prepared.number[clip]), rows) for table in clips.tables[0]]
        expected = pool(tables, None, weights.astype(np.float64)).vectors[0]
        assert np.abs(expected - vector).max() < 1e-6


def test_items_without_weight_count_alike(clips: Clips) -> None:
    nothing = dict(zip(clips.prepared.__dataclass_fields__, vars(clips.prepared).values(), strict=True))
    nothing["weights"] = np.zeros_like(clips.prepared.weights)
    weightless = Clips(type(clips.prepared)(**nothing), clips.tables, clips.persons, clips.labels)
    clip = int(np.flatnonzero(clips.counts(np.arange(len(clips.labels))) > 2)[0])
    found = weightless.pool(np.array([clip]), np.array([[0, 2]]))[0]
    rows = clips.prepared.rows[clips.prepared.ends[clip] - clips.counts(np.array([clip]))[0] + np.array([0, 2])]
    tables = [table.take(np.full(2, clips.prepared.number[clip]), rows) for table in clips.tables[0]]
    assert np.abs(pool(tables, None, np.zeros(2)).vectors[0] - found).max() < 1e-6


def test_batches_of_two_processes_are_those_of_one_and_go_on_anywhere(clips: Clips) -> None:
    every = np.arange(len(clips.labels))
    draw = Draw.parse("1=0.25 3=0.65 5=0.1")
    one, *two = (ClipBatches(clips, every, every, draw, 16, 1, rank, ranks) for rank, ranks in ((0, 1), (0, 2), (1, 2)))
    whole, parts = one.load(3, 1), [batches.load(3, 1)[0] for batches in two]
    for name, values in whole[0].items():
        assert np.array_equal(values[0::2], parts[0][name]) and np.array_equal(values[1::2], parts[1][name])
    resumed = next(iter(one(3, 1)))
    assert np.array_equal(resumed["vectors"].numpy(), whole[0]["vectors"])
    in_worker = pickle.loads(pickle.dumps(one)).load(3, 1)
    assert np.array_equal(in_worker[0]["vectors"], whole[0]["vectors"])
    assert not np.array_equal(one.load(4, 1)[0]["vectors"], whole[0]["vectors"])


def test_memory_of_batches_does_not_grow_with_the_items(clips: Clips) -> None:
    """Each clip's items a thousand times over: the maps are larger, nothing else is."""
    every, peaks = np.arange(len(clips.labels)), []
    for times in (10, 1000):
        prepared = dict(zip(clips.prepared.__dataclass_fields__, vars(clips.prepared).values(), strict=True))
        counts = clips.counts(every)
        prepared["ends"] = np.cumsum(counts * times)
        own = [np.arange(end - count, end) for end, count in zip(clips.prepared.ends, counts, strict=True)]
        repeated = np.concatenate([np.tile(each, times) for each in own])
        prepared["rows"], prepared["weights"] = clips.prepared.rows[repeated], clips.prepared.weights[repeated]
        larger = Clips(type(clips.prepared)(**prepared), clips.tables, clips.persons, clips.labels)
        batches = ClipBatches(larger, every, every, Draw.parse("5=1"), 32, 0)
        batches.load(0, 0)
        tracemalloc.start()
        batches.load(0, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_folds_are_even_and_keep_a_person_of_one_clip_in_training() -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.concatenate([np.repeat(np.arange(30), rng.integers(1, 9, 30)), np.full(41, -1)]))
    fold = stratified(labels, 4, 0)
    for label in range(-1, 30):
        mine = fold[labels == label]
        if len(mine) == 1:
            assert mine.tolist() == [-1]
        else:
            sizes = np.bincount(mine, minlength=4)
            assert mine.min() >= 0 and sizes.max() - sizes.min() <= 1
    sizes = np.bincount(fold[fold >= 0])
    assert sizes.max() - sizes.min() <= 8
    assert not np.array_equal(fold, stratified(labels, 4, 1)) and np.array_equal(fold, stratified(labels, 4, 0))


def test_clusters_are_those_that_the_vectors_form_and_are_not_more_than_them() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6)[:4]
    truth = np.arange(40) // 10
    vectors = (centres[truth] + 0.1 * rng.standard_normal((40, 6))).astype(np.float32) * rng.uniform(1, 9, (40, 1))
    found = clusters(vectors.astype(np.float32), 4)
    assert len({(a, b) for a, b in zip(truth.tolist(), found.tolist(), strict=True)}) == 4
    with pytest.raises(TrainingError, match="their 41 classes, found 40"):
        clusters(vectors.astype(np.float32), 41)


# -- networks and losses -------------------------------------------------------------------------------------------


def test_text_of_a_shape_gives_the_shape_again() -> None:
    for shape in (IdentifierShape(), IdentifierShape("original", (1024, 512), 0.5, 7, 3, "log-probability", 48.5)):
        assert IdentifierShape.parse(str(shape)) == shape
    for text in ("cosine", "cosine hidden=x dropout=0 strangers=0 heads=1 score=logit scale=1", "iresnet18", " "):
        with pytest.raises(ModelError, match="architecture: expected"):
            IdentifierShape.parse(text)


def test_original_is_the_challenges_network_with_its_weights() -> None:
    torch.manual_seed(0)
    head = Head(256, 300, IdentifierShape("original", (512, 512), 0, 1)).eval()
    weights = *(layer.full.weight for layer in head.layers), head.weight
    deviations = [float(weight.detach().std()) for weight in weights]
    assert deviations == pytest.approx([(2 / 512) ** 0.5, (2 / 512) ** 0.5, (2 / 301) ** 0.5], rel=0.02)
    x = np.random.default_rng(0).standard_normal((4, 256))
    state = {name: value.detach().double().numpy() for name, value in head.state_dict().items()}

    def layer(k: int, x: np.ndarray) -> np.ndarray:
        of = {name.removeprefix(f"layers.{k}."): value for name, value in state.items() if f"layers.{k}." in name}
        y = x @ of["full.weight"].T + of["full.bias"]
        y = (y - of["norm.running_mean"]) / np.sqrt(of["norm.running_var"] + 1e-5) * of["norm.weight"] + of["norm.bias"]
        return np.where(y > 0, y, 0.25 * y)

    first = layer(0, x)  # 256 in, 512 out: no shortcut
    expected = (first + layer(1, first)) @ state["weight"].T + state["bias"]
    found = head(torch.from_numpy(x).float()).detach().numpy()
    assert found.shape == (4, 301) and np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["original", "cosine"])
def test_scores_are_logits_or_logarithms_of_probabilities(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6)
    logits = Head(6, 4, IdentifierShape(kind, (), 0, 2))(x).detach().double().numpy()
    torch.manual_seed(0)
    torch.randn(3, 6)
    expected = {"logit": logits[:, :4]}
    z = logits * (32 if kind == "cosine" else 1)
    expected["log-probability"] = np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))[:, :4]
    for score, wanted in expected.items():
        torch.manual_seed(0)
        torch.randn(3, 6)
        found = Identifier(6, 4, IdentifierShape(kind, (), 0, 2, 1, score))(x).detach().numpy()
        assert np.abs(found - wanted).max() < 1e-4


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"loss": "cosface", "margin": 0.3},
        {"loss": "arcface", "margin": 0.3},
        {"focal": 2.0, "stranger_weight": 0.25},
        {"loss": "sigmoid", "stranger_weight": 0.5},
        {"architecture": "original", "hidden": [3], "stranger_weight": 0.5},
    ],
)
def test_loss_is_that_of_the_formula(how: dict[str, Any]) -> None:
    given = IdentifierOptions(scale=8.0, strangers=1, **{"loss": "softmax", **how})
    check_options(given)
    network = Identifier(6, 4, shape_of(given))
    x, labels = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), np.array([0, 1, 4, 2, 4])
    cosines = network.heads[0](x).detach().double().numpy()
    z = cosines if given.architecture == "original" else 8 * cosines
    for i, label in enumerate(labels):
        if label < 4 and given.loss in ("cosface", "arcface"):
            own = cosines[i, label]
            z[i, label] = 8 * (own - 0.3 if given.loss == "cosface" else np.cos(np.arccos(own) + 0.3))
    if given.loss == "sigmoid":
        z = z - 0.4 * 8
        truth = labels[:, None] == np.arange(4)
        losses = -np.log(np.where(truth, 1 / (1 + np.exp(-z)), 1 - 1 / (1 + np.exp(-z)))).sum(axis=1)
    else:
        losses = -(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[np.arange(5), labels]
    losses *= (1 - np.exp(-losses)) ** given.focal
    expected = losses[labels < 4].mean() + given.stranger_weight * losses[labels == 4].mean()
    if given.architecture == "original":
        expected = np.where(labels == 4, given.stranger_weight * losses, losses).mean()
    task = IdentifierTask(network, 4, given)
    found = task(x.requires_grad_(), torch.from_numpy(labels))
    assert found["loss"].item() == pytest.approx(expected, rel=1e-4)
    slope = torch.autograd.grad(found["loss"], x)[0]
    step = 3e-3 * slope / slope.norm()
    ahead, behind = (task(x.detach() + moved, torch.from_numpy(labels))["loss"].item() for moved in (step, -step))
    assert (ahead - behind) / 6e-3 == pytest.approx(float(slope.norm()), rel=0.02)
    assert found["train_accuracy"].item() == pytest.approx(np.mean((z.argmax(axis=1) == labels)[labels < 4]))


def test_log_of_a_run_is_json_with_the_epochs(trained: tuple[Path, str]) -> None:
    lines = [json.loads(line) for line in (trained[0] / "fold1/log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "validate"] == [-1, 0, 1, 2]
