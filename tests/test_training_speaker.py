"""Voice networks from the step's command line: data in all layouts, a tiny run that learns, goes on and is exported."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import wave
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines_here import ENGINES

from vidperson.engines import load_network
from vidperson.errors import DataError, TrainingError
from vidperson.io.lines import write_lines
from vidperson.media.excerpts import SoundPlace, excerpt
from vidperson.networks.card import load_card
from vidperson.networks.install import install_model, installed_model
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.speaker.fbank import fbank

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from steps_speaker.train_embedder import TrainEmbedderOptions, measure, train_embedder  # noqa: E402
from vidperson import cli  # noqa: E402
from vidperson.networks import convert  # noqa: E402
from vidperson.speaker.augment import Ranges, SoundAugmentation, SoundShares, at_speed  # noqa: E402
from vidperson.speaker.training_embedder import FRONT_ENDS, read_data  # noqa: E402
from vidperson.speaker.training_sounds import (  # noqa: E402
    OtherSpeakers,
    SoundLoader,
    read_speakers,
    split_speakers,
    training_set,
)
from vidperson.speaker.training_teachers import teacher_answers  # noqa: E402
from vidperson.speaker.training_valid import valid_pairs  # noqa: E402
from vidperson.training import command  # noqa: E402
from vidperson.training.loop import load_checkpoint, read_log, start_centres  # noqa: E402
from vidperson.training.pictures import IdentityPictureBatches, PictureBatches  # noqa: E402

RATE, SPEAKERS, EACH, SIZE = 16000, 8, 4, 16


class Tiny(torch.nn.Module):
    """(N, 80, frames) to (N, SIZE): means and root mean squares of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv1d(80, 24, 3, padding=1), torch.nn.BatchNorm1d(48)
        self.last = torch.nn.Linear(48, SIZE)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.conv(features).relu()
        found: torch.Tensor = self.last(self.norm(torch.cat([x.mean(2), x.square().mean(2).sqrt()], dim=1)))
        return found


def voice(who: int, take: int, seconds: float = 0.6) -> np.ndarray:
    """Pulses of the speaker's pitch through resonances of its own, with pauses, in a room's hiss."""
    own, rng = np.random.default_rng(who), np.random.default_rng([who, take])
    count = int(seconds * RATE)
    pitch = own.uniform(90, 240) * (1 + 0.1 * np.sin(np.cumsum(rng.uniform(0, 0.002, count))))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) + 0.02 * rng.standard_normal(count)
    spectrum, hertz = np.fft.rfft(pulses), np.fft.rfftfreq(count, 1 / RATE)
    for place in own.uniform(300, 4000, 4):
        spectrum = spectrum * (0.2 + 1 / (1 + ((hertz - place) / 150) ** 2))
    sound = np.fft.irfft(spectrum, count) * (0.3 + (np.sin(np.arange(count) / RATE * rng.uniform(15, 25)) > -0.5))
    return np.asarray(0.2 * sound / np.abs(sound).max() * rng.uniform(0.5, 1.5), np.float32)


def write_wav(path: Path, sound: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train``, ``valid`` and ``test`` of <speaker>/<video>/<take>.wav; ``music``; ``empty``; ``anyone`` is flat."""
    root = tmp_path_factory.mktemp("voices")
    for who in range(SPEAKERS + 6):
        part = "train" if who < SPEAKERS else "valid" if who < SPEAKERS + 3 else "test"
        for take in range(EACH):
            write_wav(root / part / f"id{who:02d}/v{take // 2}/{take:05d}.wav", voice(who, take))
    for number in range(4):
        write_wav(root / f"anyone/{number}.wav", voice(50 + number, 0))
    write_wav(root / "music/a.wav", voice(70, 0, 1.5))
    (root / "empty/deeper").mkdir(parents=True)
    return root


@pytest.fixture(autouse=True, scope="module")
def tiny_network() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(convert.FBANK_EMBEDDERS, "tiny", lambda *given: Tiny())
        yield


def options(voices: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {
        "train_data": [str(voices / "train")],
        "output_dir": str(output),
        "architecture": "tiny",
        "embedding_size": SIZE,
        "crop_s": 0.4,
        "batch_size": 16,
        "epochs": 16,
        "lr": 0.01,
        "augment": "noise=0.1 babble=0.1 reverb=0.1 mask=0.5 channel=0.2 level=0.2",
        "valid_data": [str(voices / "valid")],
        "test_data": [str(voices / "test")],
        "valid_epochs": 8,
        "save_steps": 3,
        "log_steps": 1,
    } | more


def train(**given: Any) -> dict[str, Any]:
    return train_embedder(cli.fill(TrainEmbedderOptions, **given))


@pytest.fixture(scope="module")
def trained(voices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_curves", lambda *given: None)  # it takes longer than the training
        train(**options(voices, folder, margin=0.1, scale=20.0))
    return folder


@pytest.fixture(scope="module")
def teacher(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    install_model(str(trained / "tiny.yaml"), folder)
    return folder / "tiny"


@pytest.fixture
def no_export(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export and the curves have their own test and take longer than the training."""
    monkeypatch.setattr(command, "draw_curves", lambda *given: None)
    monkeypatch.setattr(
        "vidperson.training.export.export_network", lambda *given: shutil.copyfile(trained / "tiny.onnx", given[2])
    )


# -- runs -----------------------------------------------------------------------------------------------------------


def test_tiny_run_learns_speakers_and_tells_others_apart(trained: Path) -> None:
    log = read_log(trained)
    lines = [entry for entry in log if entry["kind"] == "train"]
    assert len(lines) == 32 and lines[-1]["identity"] < 0.5 * lines[0]["identity"]
    validated = [entry for entry in log if entry["kind"] == "validate"]
    assert [entry["epoch"] for entry in validated] == [7, 15]
    assert validated[0]["num_targets"] == 3 * 6 and validated[0]["num_nontargets"] == 3 * 16
    assert min(entry["eer"] for entry in validated) < 0.3


def test_card_has_figures_of_the_file_on_speakers_who_chose_nothing(voices: Path, trained: Path, teacher: Path) -> None:
    card = load_card(trained / "tiny.yaml")
    assert (card.kind, card.output.embedding_size) == ("speaker_embedder", SIZE) and card.input == FRONT_ENDS["logmel"]
    assert (card.figures["measured_on"], card.figures["epoch_chosen_on"]) == ("test", "valid")
    assert card.training_data == f"{SPEAKERS * EACH} utterances of {SPEAKERS} speakers (train)"
    installed = installed_model(teacher)
    embedder = SpeakerEmbedder(load_network(installed.network), installed.card)
    paths = sorted((voices / "test").rglob("*.wav"))
    whole = [embedder.items(excerpt(SoundPlace(str(path)), 0, RATE)) for path in paths]
    found = embedder.embed(whole).astype(float)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    same = np.array([[one.parts[-3] == other.parts[-3] for other in paths] for one in paths])
    upper = np.triu_indices(len(paths), 1)
    expected = measure((found @ found.T)[upper], same[upper])
    assert {name: card.figures[name] for name in expected} == pytest.approx(expected)


def test_exported_file_equals_the_torch_network_for_any_number_of_items_and_frames(trained: Path) -> None:
    card = load_card(trained / "tiny.yaml")
    network = convert.build_network("tiny", card.input, card.output)
    network.load_state_dict(load_checkpoint(trained / "best.pt")["network"])
    for engine in ENGINES:
        ran = load_network(trained / "tiny.onnx", engine)
        for items, frames in ((3, 202), (1, 41), (2, 333)):
            batch = np.random.default_rng(frames).normal(size=(items, 80, frames)).astype(np.float32)
            with torch.inference_mode():
                expected = network.eval()(torch.from_numpy(batch)).numpy()
            assert np.abs(ran(batch)[0] - expected).max() <= 1e-5 * np.abs(expected).max(), engine


@pytest.mark.usefixtures("no_export")
def test_step_killed_and_run_again_equals_an_undisturbed_run(
    voices: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything on: other speeds, a teacher, unknown speakers, a margin that rises, a mean of the last epochs.

    Killed before the first step, with what the teacher says on the disk and no checkpoint, and in the second epoch.
    """
    from vidperson.training.loop import _Run

    more: dict[str, Any] = {"epochs": 3, "average": 2, "valid_data": [], "test_data": [], "save_steps": 1, "top_k": 2}
    more |= {"teacher": [str(teacher)], "speeds": [0.9, 1.1], "unlabelled": [str(voices / "anyone")]}
    more |= {"unlabelled_batch": 3, "margin_epochs": [1, 3], "music": str(voices / "music"), "sub_centres": 2}
    more |= {"augment": "noise=0.2 music=0.2 babble=0.2 television=0.1 reverb=0.2 mask=1 channel=0.3 level=0.3"}
    update, dies_at = _Run._update, 0

    def dying(self: _Run, batch: Any) -> Any:
        if self.step == dies_at:
            raise KeyboardInterrupt
        return update(self, batch)

    train(**options(voices, tmp_path / "whole/tiny", **more))
    for dies_at in (0, 5):  # noqa: B007
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(_Run, "_update", dying)
            train(**options(voices, tmp_path / "tiny", **more))
    assert load_checkpoint(tmp_path / "tiny/last.pt")["step"] == 5
    train(**options(voices, tmp_path / "tiny", **more))
    for name in ("last.pt", "best.pt"):
        whole, again = (load_checkpoint(folder / name) for folder in (tmp_path / "whole/tiny", tmp_path / "tiny"))
        parts = ("task", "average") if name == "last.pt" else ("network",)
        for part in parts:
            assert whole[part] and all(torch.equal(again[part][key], value) for key, value in whole[part].items())
    ends = [load_checkpoint(tmp_path / "tiny/last.pt")[part] for part in ("task", "average")]
    assert not torch.equal(ends[0]["network.last.weight"], ends[1]["last.weight"])
    assert torch.equal(load_checkpoint(tmp_path / "tiny/best.pt")["network"]["last.weight"], ends[1]["last.weight"])


@pytest.mark.usefixtures("no_export")
def test_fine_tuning_starts_from_network_and_centres_of_the_same_speakers(
    voices: Path, trained: Path, tmp_path: Path
) -> None:
    kept = load_checkpoint(trained / "best.pt")
    assert kept["classes"] == [f"0:id{who:02d}@1" for who in range(SPEAKERS)]
    weight = torch.zeros(4, 1, SIZE)
    names = ["0:id05@1", "0:id05@1.1", "0:id00@1", "1:id00@1"]
    assert start_centres(weight, names, str(trained / "best.pt")) == 2
    assert torch.equal(weight[0], kept["centres"][0][5]) and torch.equal(weight[2], kept["centres"][0][0])
    assert not weight[[1, 3]].any()
    more = {"init": str(trained / "best.pt"), "epochs": 1, "crop_s": 0.6, "margin": 0.3, "lr": 1e-5, "scale": 20.0}
    train(**options(voices, tmp_path / "tuned", **more, augment=""))
    first, last = read_log(tmp_path / "tuned")[0], [e for e in read_log(trained) if e["kind"] == "train"][-1]
    assert first["identity"] < 1.5 * last["identity"] + 2  # a classifier at random has 20 and more at this margin
    head = load_checkpoint(tmp_path / "tuned/last.pt")["task"]["identity.0.weight"]
    assert torch.allclose(head, kept["centres"][0], atol=1e-3)


@pytest.mark.usefixtures("no_export")
def test_student_without_names_comes_near_its_teachers(voices: Path, teacher: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"teacher": [str(teacher)] * 2, "teacher_weights": [1.0, 0.5], "seed": 7, "train_data": []}
    more |= {"unlabelled": [str(voices / "train")], "unlabelled_batch": 16, "augment": "noise=0.2", "valid_data": []}
    train(**options(voices, tmp_path / "student", **more))
    log = read_log(tmp_path / "student")
    for term in ("cosine", "relation"):
        assert log[-1][term] < 0.75 * log[0][term]
    assert "identity" not in log[0]
    card = load_card(tmp_path / "student/student.yaml")
    assert card.training["teacher"].split()[::2] == ["tiny", "tiny"] and card.figures["measured_on"] == "test"
    assert card.training_data.startswith(f"0 utterances of 0 speakers and {SPEAKERS * EACH} of unknown ones")


@pytest.mark.usefixtures("no_export")
def test_sounds_that_cannot_be_used_are_named_and_the_rest_is_learnt(
    voices: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(voices / "train", tmp_path / "train")
    (tmp_path / "train/id00/v0/00000.wav").write_bytes(b"broken")
    write_wav(tmp_path / "train/id01/v0/00000.wav", voice(1, 0)[:1000])
    write_wav(tmp_path / "train/id02/v0/00000.wav", voice(2, 0)[:3000])  # shorter than a crop: it is repeated
    write_wav(tmp_path / "train/id99/only/one.wav", voice(99, 0))
    more = {"train_data": [str(tmp_path / "train")], "epochs": 2, "valid_data": [], "test_data": [], "batch_size": 11}
    with caplog.at_level("INFO"):
        train(**options(voices, tmp_path / "x", **more))
    said = caplog.text
    assert "train/id00/v0/00000.wav: " in said and "0.062 s are too short to learn from" in said
    assert "id02/v0" not in said and "2 items were left out; they are named above" in said
    assert "1 of 9 speakers have one utterance only, e.g. '0:id99'" in said


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"architecture": "iresnet18"}, TrainingError, "expected one of ecapa_.*, found 'iresnet18'"),
        ({"features": "mfcc"}, TrainingError, "expected one of logmel logmel60 kaldi, found 'mfcc'"),
        ({"crop_s": 0.0}, TrainingError, "crop: expected 0.2 to 60 seconds, found 0"),
        ({"speeds": [1.0]}, TrainingError, "speeds: expected numbers from 0.5 to 2 beside 1, found 1"),
        ({"speeds": [1.001]}, TrainingError, "speeds: expected numbers from 0.5 to 2 beside 1, found 1.001"),
        ({"speeds": [0.9, 0.9]}, TrainingError, "speeds: expected each once, found 0.9 0.9"),
        ({"utterances": 3}, TrainingError, "expected a multiple of the 3 utterances of a speaker, found 16"),
        ({"augment": "music=0.1"}, TrainingError, "music needs a folder of music"),
        ({"noise": "{empty}"}, DataError, r"empty: no sound \(.wav .*\) in it"),
        ({"rooms": "{empty}/none"}, DataError, "none: no such folder or tar archive of sounds"),
        ({"ranges": "babble=20:13"}, TrainingError, "babble: expected <lowest>:<highest>, found 20:13"),
        ({"margin_epochs": [4, 2]}, TrainingError, r"expected two epochs between which it rises, found \(4, 2\)"),
        ({"average": 17}, TrainingError, "average: expected at most the 16 epochs"),
        ({"loss": "none"}, TrainingError, "nothing to learn from"),
        ({"train_data": []}, DataError, "expected utterances to train on, found none"),
        ({"train_data": ["{one}"], "augment": ""}, TrainingError, "expected at least 2 identities .*, found 1"),
        ({"train_data": ["{one}"]}, TrainingError, "babble needs a folder of talkers, or two speakers or more"),
        ({"train_data": ["{anyone}"]}, DataError, "'0.wav': expected <speaker>/.../<sound>"),
        ({"held_out": 2}, DataError, "speakers are held out, or others are named to validate on, not both"),
        (
            {"valid_data": [], "held_out": 8},
            DataError,
            "8 speakers cannot be held out of 8 that have two items or more; one",
        ),
        ({"valid_data": ["{one}"]}, DataError, "expected pairs of one speaker, and of two, .* found 6 and 0"),
        ({"test_data": ["{train}"]}, DataError, "the same is learnt from and measured on"),
    ],
)
def test_step_with_settings_that_make_no_sense_says_so_before_it_starts(
    voices: Path, tmp_path: Path, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    places = {name: str(voices / name) for name in ("train", "valid", "anyone", "empty")}
    places["one"] = str(tmp_path / "one")
    shutil.copytree(voices / "train/id00", tmp_path / "one/id00")
    given = {
        name: [each.format(**places) if isinstance(each, str) else each for each in value]
        if isinstance(value, list)
        else value.format(**places)
        if isinstance(value, str)
        else value
        for name, value in more.items()
    }
    with pytest.raises(error, match=message):
        train(**options(voices, tmp_path / "x", **given))
    assert not (tmp_path / "x").exists()


def test_run_script_gives_the_step_every_option(repo: Path, tmp_path: Path) -> None:
    launcher = tmp_path / "launcher"
    launcher.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "${@:2}" > "${0%/*}/words"\n')
    launcher.chmod(0o755)
    given = {"train_sets": "a b", "train_data": "m.tar x", "valid_set": "v", "train_unlabelled": "u w"}
    given |= {"train_noise": "n n", "train_music": "m", "train_babble": "b", "train_rirs": "r", "train_cache": "c"}
    given |= {"train_speeds": "0.9 1.1", "train_margin_epochs": "20 40", "train_ranges": "noise=1:2 bins=0:9"}
    given |= {"train_top_k": "5", "train_average": "10", "train_margin": "0.3", "train_scale": "32"}
    given |= {"train_features": "kaldi", "train_crop_s": "6", "train_utterances": "2", "train_held_out": "3"}
    call = ["./run_012_train_speaker_embedder.sh", "--exp-dir", "exp", "--cmd", str(launcher)]
    data = tmp_path / "d d"
    for name in "abv":
        (data / name).mkdir(parents=True)
    call += ["--data-dir", str(data)]
    for name, value in given.items():
        call += [f"--{name.replace('_', '-')}", value]
    done = subprocess.run(call, cwd=repo, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "exp/speaker_train/speaker_ecapa/speaker_ecapa.yaml\n", done.stderr
    python, step, *words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert (python, step) == ("python", "steps_speaker/train_embedder.py")
    found = cli.parse(TrainEmbedderOptions, "doc", words)
    changes, margin = found.changes, found.margin
    assert found.training.train_data == [f"{data}/a", f"{data}/b", "m.tar", "x"]
    assert found.validation.valid_data == [f"{data}/v"]
    assert found.training.unlabelled == ["u", "w"] and (found.training.cache, found.validation.held_out) == ("c", 3)
    assert (changes.noise, changes.music, changes.babble, changes.rooms) == ("n n", "m", "b", "r")
    assert (changes.speeds, changes.ranges, margin.margin_epochs) == ([0.9, 1.1], "noise=1:2 bins=0:9", [20, 40])
    assert (margin.top_k, margin.top_k_angle, margin.margin, margin.scale) == (5, 0.06, 0.3, 32)
    assert (found.features, found.crop_s, found.utterances, found.training.settings.average) == ("kaldi", 6, 2, 10)
    (tmp_path / "words").unlink()
    spaced = str(data)  # one path, though it has a space
    more = [f"--{name}={spaced}" for name in ("train-data", "train-unlabelled", "valid-data", "test-data")]
    subprocess.run([*call, *more], cwd=repo, check=True, capture_output=True, timeout=60)
    found = cli.parse(TrainEmbedderOptions, "doc", (tmp_path / "words").read_text().split("\0")[2:-1])
    assert found.training.train_data == [f"{data}/a", f"{data}/b", spaced] and found.training.unlabelled == [spaced]
    assert found.validation.valid_data == [f"{data}/v", spaced] and found.validation.test_data == [spaced]
    (tmp_path / "words").unlink()
    (data / "v").rmdir()
    done = subprocess.run(call, cwd=repo, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"{data}/v is not there: make it with ./run_001_prepare_data.sh" in done.stderr
    assert not (tmp_path / "words").exists()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("run_010_train_face_embedder", "--train-data or --train-sets; see"),
        ("run_011_train_face_detector", "--train-data; see"),
        ("run_012_train_speaker_embedder", "--train-data or --train-sets, or --train-unlabelled with a teacher; see"),
        ("run_013_train_body_embedder", "--train-data or --train-sets, or --train-unlabelled with a teacher; see"),
    ],
)
def test_run_script_without_anything_to_train_on_names_the_options_for_it(
    repo: Path, tmp_path: Path, script: str, expected: str
) -> None:
    call = [f"./{script}.sh", f"--exp-dir={tmp_path}/exp"]
    done = subprocess.run(call, cwd=repo, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"expected something to train on: {expected} docs/networks.md" in done.stderr
    assert not (tmp_path / "exp").exists()


# -- data -----------------------------------------------------------------------------------------------------------


def data_folder(voices: Path, folder: Path) -> Path:
    """Two speakers of two utterances each, and one utterance of nobody, with trials."""
    lines = [
        f"u{who}-{take} {voices}/valid/id{SPEAKERS + who:02d}/v0/{take:05d}.wav" for who in (0, 1) for take in (0, 1)
    ]
    folder.mkdir(parents=True)
    write_lines(folder / "wav.scp", [*lines, f"x {voices}/valid/id10/v0/00000.wav"])
    write_lines(folder / "utt2spk", [f"{line.split()[0]} s{line[1]}" for line in lines])
    write_lines(folder / "trials", ["s0 u0-1 target", "s0 u1-0 nontarget", "s1 x nontarget"])
    return folder


def test_folder_and_its_tar_are_the_same_speakers_and_utterances(voices: Path, tmp_path: Path) -> None:
    archived = tmp_path / "train.tar"
    with tarfile.open(archived, "w") as archive:
        archive.add(voices / "train", ".")
    made = [training_set([read_speakers(str(source))], []) for source in (voices / "train", archived)]
    assert made[0].digest() == made[1].digest() and made[0].identities[0] == "0:id00"
    assert np.bincount(made[0].labels).tolist() == [EACH] * SPEAKERS
    parts = [excerpt(read_speakers(str(source)).place(5), 0.5, 4000) for source in (voices / "train", archived)]
    assert np.array_equal(*parts)


def test_data_folder_gives_its_speakers_and_leaves_out_who_is_nobody(voices: Path, tmp_path: Path) -> None:
    found = read_speakers(str(data_folder(voices, tmp_path / "set")))
    assert found.speakers == ["s0", "s0", "s1", "s1", ""]
    assert found.place(2).path == f"{voices}/valid/id{SPEAKERS + 1:02d}/v0/00000.wav"
    made = training_set([found], [])
    assert (len(made), made.identities) == (4, ["0:s0", "0:s1"])


def test_data_folder_with_what_only_kaldi_reads_is_refused(voices: Path, tmp_path: Path) -> None:
    folder = data_folder(voices, tmp_path / "set")
    (folder / "segments").write_text("u0-0-a u0-0 0 1\n")
    with pytest.raises(DataError, match="set/segments: parts of recordings, as Kaldi has them, are not read"):
        read_speakers(str(folder))
    (folder / "segments").unlink()
    write_lines(folder / "wav.scp", ["a x.wav", "b sox y.sph -t wav - |"])
    with pytest.raises(DataError, match=r"set/wav.scp:2: a command, 'sox y.sph -t wav - \|'; expected a path"):
        read_speakers(str(folder))


def test_same_name_in_two_sources_is_two_speakers(voices: Path) -> None:
    source = read_speakers(str(voices / "train"))
    made = training_set([source, source], [])
    assert len(made.identities) == 2 * SPEAKERS


def test_speakers_that_are_held_out_are_spread_and_not_learnt(voices: Path) -> None:
    kept, out = split_speakers([read_speakers(str(voices / "train"))], 2)
    assert sorted(set(out[0].speakers)) == ["id00", "id04"] and len(out[0].speakers) == 2 * EACH
    assert not set(kept[0].speakers) & set(out[0].speakers) and len(kept[0].speakers) == (SPEAKERS - 2) * EACH


def test_trials_of_a_set_are_what_it_is_validated_on(voices: Path, tmp_path: Path) -> None:
    pairs = valid_pairs([read_speakers(str(data_folder(voices, tmp_path / "set")))])
    assert pairs.is_target.tolist() == [True, False, False] and pairs.models == [[0, 1], [2, 3]]
    rows = np.random.default_rng(0).normal(size=(5, 7))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    models = [unit[:2].mean(axis=0), unit[2:4].mean(axis=0)]
    expected = [models[m] @ unit[u] / np.linalg.norm(models[m]) for m, u in ((0, 1), (0, 2), (1, 4))]
    assert np.allclose(pairs.scores(rows), expected)
    write_lines(tmp_path / "set/trials", ["s0 u0-1 target", "s7 u1-0 nontarget"])
    with pytest.raises(DataError, match="trials: model 's7': not in this folder"):
        valid_pairs([read_speakers(str(tmp_path / "set"))])


def test_speakers_held_out_of_a_set_with_trials_are_validated_on_all_their_pairs(voices: Path, tmp_path: Path) -> None:
    names = [f"id{who:02d}-{take}" for who in range(4) for take in (0, 1)]
    paths = [f"{voices}/train/{name[:4]}/v0/0000{name[-1]}.wav" for name in names]
    write_lines(tmp_path / "wav.scp", [f"{name} {path}" for name, path in zip(names, paths, strict=True)])
    write_lines(tmp_path / "utt2spk", [f"{name} {name[:4]}" for name in names])
    write_lines(tmp_path / "trials", ["id00 id00-1 target", "id00 id01-0 nontarget"])
    found = read_data([str(tmp_path)], [], [], [], 2)
    assert found.valid and found.utterances.identities == ["0:id01", "0:id03"]
    held = [path for path in paths if "/id00/" in path or "/id02/" in path]
    assert [place.path for place in found.valid.places] == held
    assert found.valid.is_target.tolist() == [True, False, False, False, False, True]
    assert found.valid.words == f"2 speakers held out of {tmp_path.name}"


def test_one_speaker_held_out_is_refused_since_it_has_pairs_of_one_only(voices: Path) -> None:
    with pytest.raises(DataError, match=r"found \d+ and 0; take two speakers or more, with two utterances or more"):
        read_data([str(voices / "train")], [], [], [], 1)


class Levels:
    """Stands in for an embedder: the levels of the parts of the sound."""

    sample_rate, embedding_size = RATE, 4

    def items(self, sound: np.ndarray) -> np.ndarray:
        return np.stack([[np.square(part).mean() for part in np.array_split(sound, 4)]])

    def embed(self, items: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(items)


def test_utterances_that_cannot_be_read_are_left_out_of_the_figures(
    voices: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shutil.copytree(voices / "valid", tmp_path / "broken")
    shutil.copytree(voices / "valid", tmp_path / "without")
    for name in ("id08/v0/00000.wav", "id09/v1/00003.wav"):
        (tmp_path / "broken" / name).write_bytes(b"broken")
        (tmp_path / "without" / name).unlink()
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def keep(scores: np.ndarray, is_target: np.ndarray) -> dict[str, Any]:
        seen.append((scores, is_target))
        return {"eer": 0.25, "num_targets": int(is_target.sum())}

    for name in ("broken", "without"):
        figures = valid_pairs([read_speakers(str(tmp_path / name))]).figures(Levels(), keep, "")  # type: ignore[arg-type]
        assert figures == {"eer": 0.25, "eer_centred": 0.25, "num_targets": 3 + 3 + 6}
    for one, other in zip(seen[:2], seen[2:], strict=True):  # cosines, and those less the mean
        assert np.allclose(one[0], other[0]) and np.array_equal(one[1], other[1])
    assert "2 of 12 utterances to validate on are left out, e.g. " in caplog.text and "id08/v0/00000.wav" in caplog.text
    assert "12 pairs of one speaker, 33 of two: EER 25.00 %; after the mean is subtracted 25.00 %" in caplog.text
    for path in (tmp_path / "broken").glob("id0[89]/*/*.wav"):
        path.unlink()
    write_wav(tmp_path / "broken/id11/a.wav", voice(3, 0))
    for path in (tmp_path / "broken/id10").rglob("*.wav"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="nothing to validate on: 4 utterances cannot be used, the first one: .*id10"):
        valid_pairs([read_speakers(str(tmp_path / "broken"))]).figures(Levels(), keep, "")  # type: ignore[arg-type]


def loader(voices: Path, speeds: tuple[float, ...] = (1.0,), shares: str = "", **more: Any) -> SoundLoader:
    made = training_set([read_speakers(str(voices / "train"))], [])
    changes = SoundAugmentation(SoundShares.parse(shares), Ranges(), RATE, talkers=OtherSpeakers(made, RATE))
    return SoundLoader(made, FRONT_ENDS["logmel"], 6400, speeds, changes, **more)


def test_crops_without_changes_are_the_features_of_the_speech(voices: Path) -> None:
    batches = PictureBatches(loader(voices), 8)
    arrays, broken = batches.load(0, 0)
    assert arrays["crops"].shape == (8, 80, 41) and arrays["crops"].dtype == np.float32 and not broken
    made = batches.loader.utterances  # type: ignore[attr-defined]
    for row, (item, rng) in enumerate(batches.draws(0, 0)):
        whole = read_speakers(str(voices / "train")).place(item)
        sound = excerpt(whole, _begin(rng), 6400)
        assert np.array_equal(arrays["crops"][row], fbank(sound, FRONT_ENDS["logmel"]).T)
        assert arrays["labels"][row] == made.labels[item]


def _begin(rng: np.random.Generator) -> float:
    """The loader draws the speed, of which there is one, and then where the excerpt begins."""
    rng.integers(1)
    return rng.random()


def test_other_speeds_are_other_speakers_as_often_as_the_own_one(voices: Path) -> None:
    batches = PictureBatches(loader(voices, (1.0, 0.9, 1.1)), 32)
    labels = np.concatenate([batches.load(epoch, 0)[0]["labels"] for epoch in range(12)])
    assert set(labels) == set(range(3 * SPEAKERS))
    assert np.abs(np.bincount(labels // SPEAKERS) / len(labels) - 1 / 3).max() < 0.08


def test_batches_of_speakers_have_their_utterances_next_to_each_other(voices: Path) -> None:
    arrays, _ = IdentityPictureBatches(loader(voices), 4, 2).load(0, 0)
    labels = arrays["labels"].reshape(4, 2)
    assert (labels[:, 0] == labels[:, 1]).all() and len(set(labels[:, 0])) == 4


def test_babble_is_of_other_speakers(voices: Path) -> None:
    pool = loader(voices).augmentation.talkers
    assert pool
    rng = np.random.default_rng(0)
    spoken = {pool.pick(rng, speaker=3).path.split("/")[-3] for _ in range(200)}
    assert spoken == {f"id{who:02d}" for who in range(SPEAKERS)} - {"id03"}


def test_loader_with_answers_goes_to_a_worker_without_them(voices: Path, teacher: Path, tmp_path: Path) -> None:
    made = training_set([read_speakers(str(voices / "train"))], [])
    answers = teacher_answers(made, (1.0,), [installed_model(teacher)], "auto", 0, "", tmp_path)
    batches = PictureBatches(loader(voices, answer=answers), 8)
    assert batches.load(0, 0)[0]["teacher"].shape == (8, SIZE)
    answers._rows = np.zeros((10**6, SIZE), np.float32)
    assert len(ForkingPickler.dumps(batches)) < 100_000


def test_teachers_answers_are_of_whole_utterances_at_each_speed_less_their_mean(
    voices: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, installed = training_set([read_speakers(str(voices / "train"))], []), installed_model(teacher)
    monkeypatch.setattr("vidperson.speaker.training_teachers._CHUNK", 5)
    answers = teacher_answers(made, (1.0, 0.9), [installed], "auto", 0, "", tmp_path / "a")
    embedder = SpeakerEmbedder(load_network(installed.network), installed.card)
    source = read_speakers(str(voices / "train"))
    sounds = [at_speed(excerpt(source.place(k), 0, 10**6), speed) for k in range(len(made)) for speed in (1.0, 0.9)]
    expected = np.stack([embedder.embed([embedder.items(sound)])[0] for sound in sounds])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    expected -= expected.mean(axis=0)
    found = answers([k for k in range(len(made)) for _ in range(2)], [0, 1] * len(made))
    assert np.abs(found - expected).max() < 1e-5
    # Some parts are there from a run that was stopped; those of others are made again, to the same bytes.
    (whole,) = (tmp_path / "a").glob("teachers_*.npy")
    part = tmp_path / "b" / whole.stem / "1.npy"
    part.parent.mkdir(parents=True)
    np.save(part, np.full((10, SIZE), 0.5, np.float32), allow_pickle=False)
    capsys.readouterr()
    again = teacher_answers(made, (1.0, 0.9), [installed], "auto", 0, "", tmp_path / "b")
    told = [line.split(",")[0] for line in capsys.readouterr().err.splitlines() if line.startswith("progress")]
    assert told[0] == f"progress 5/{len(made)} utterances"
    assert told[-1] == f"progress {len(made)}/{len(made)} utterances"
    assert again.path.name == whole.name and not part.parent.exists()
    rows = np.load(again.path)
    assert np.ptp(rows[10:20], axis=0).max() < 1e-6 and np.ptp(rows[:10], axis=0).max() > 0.1


def test_answers_by_another_engine_or_to_sound_in_16_bits_are_not_taken_for_those_that_are_asked(
    voices: Path, teacher: Path, tmp_path: Path
) -> None:
    made, installed = training_set([read_speakers(str(voices / "train"))], []), installed_model(teacher)
    given = [("onnxruntime", ""), ("torch", ""), ("onnxruntime", str(tmp_path / "cache"))]
    found = [teacher_answers(made, (1.0,), [installed], engine, 0, cache, tmp_path) for engine, cache in given]
    assert len({each.path for each in found}) == 3
