"""Speech: where it is and how good, what of it is embedded, and stages 2 and 3 from list to archive."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import scipy.io.wavfile
from numpy.typing import NDArray

from steps.check_precision import CheckOptions, check_precision
from steps.options import EngineOptions
from steps_speaker.extract_embeddings import SpeechEmbedOptions, extract_embeddings
from steps_speaker.find_speech import SpeechOptions, find_speech
from vidperson.corpora.data_folder import Segment, write_data_folder
from vidperson.errors import DataError, ModelError
from vidperson.io.matrices import load_matrices
from vidperson.media.audio import read
from vidperson.networks import opening
from vidperson.networks.card import ModelCard, Output, WaveformInput, load_card
from vidperson.networks.install import InstalledModel
from vidperson.report import tables
from vidperson.speaker import speech
from vidperson.speaker.cutting import CutPolicy, cut_spans, join_rows, plan_spans, read_spans, speech_of
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.speaker.fbank import network_input
from vidperson.speaker.speech import SpeechPolicy
from vidperson.types import SPEECH_COLUMNS, SPEECH_SUMMARY, speech_summary

Sound = NDArray[Any]
RATE = 16000
DVECTOR = load_card("resemblyzer_dvector")
WAVEFORM = dataclasses.replace(
    DVECTOR, input=WaveformInput(sample_rate=RATE, scale=2.0, min_s=0.5), output=Output(embedding_size=2)
)


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> Sound:
    sound = level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return sound.clip(-0.9, 0.9).astype(np.float32)


def written(path: Path, sound: Sound, rate: int = RATE) -> str:
    scipy.io.wavfile.write(path, rate, sound)
    return str(path)


def silent_film(path: Path) -> str:
    """A video without a sound track."""
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg4", rate=25)
        film.width = film.height = 64
        container.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(film.encode(None))
    return str(path)


def column(rows: Sound, name: str) -> list[float]:
    return [float(value) for value in rows[:, SPEECH_COLUMNS.index(name)]]


def mean_and_power(batch: Sound) -> list[Sound]:
    """A network of any length: (N, samples) to the mean and the mean power, (N, 2)."""
    return [np.stack([batch.mean(axis=1), (batch**2).mean(axis=1)], axis=1).astype(np.float32)]


def bare_window(crops: Sound) -> Sound:
    """A stand-in for the network of DVECTOR: (N, 160, 40) to (N, 256)."""
    return crops.reshape(len(crops), -1)[:, ::25].astype(np.float32)


# --- where speech is, and how good


def made(folder: Path, what: str) -> str:
    path = folder / f"{what}.wav"
    sounds: dict[str, Callable[[], str]] = {
        "good": lambda: written(path, noise(1.0)),
        "mute": lambda: written(path, np.zeros(RATE, np.int16)),
        "blip": lambda: written(path, noise(0.1)),
        "nan": lambda: written(path, np.where(np.arange(RATE) < 9, np.nan, noise(1.0))),
        "telephone": lambda: written(path, noise(1.0)[:8000], 8000),
        "film": lambda: silent_film(folder / "film.mp4"),
        "photo": lambda: cv2.imwrite(name := str(folder / "me.JPG"), np.zeros((64, 64, 3), np.uint8)) and name,
        "text": lambda: str(path.write_text("no sound") and path),
        "gone": lambda: str(path),
        "nothing": lambda: str(path.write_bytes(b"") or path),
    }
    return sounds[what]()


@pytest.mark.parametrize(
    ("what", "status", "rows"),
    [
        ("good", r"ok", 1),
        ("mute", r"silent: the loudest 20 ms have -150 dB", 0),
        ("blip", r"short: 0\.10 s of sound, at least 0\.3 s are needed", 0),
        ("nan", r"damaged: 9 samples are no numbers .*", 1),
        ("telephone", r"ok: sampled at 8000 Hz, so what is above 4000 Hz is missing", 1),
        ("film", r"no_audio: the file has no sound track", 0),
        ("photo", r"no_audio: this is an image", 0),
        ("text", r"unreadable: .+", 0),
        ("gone", r"unreadable: .+", 0),
        ("nothing", r"unreadable: .+", 0),
    ],
)
def test_status_of_a_file_says_what_became_of_its_sound(tmp_path: Path, what: str, status: str, rows: int) -> None:
    said, found = speech.find_speech(made(tmp_path, what))
    assert re.fullmatch(status, said), said
    assert found.shape == (rows, len(SPEECH_COLUMNS)) and found.dtype == np.float32
    assert said.partition(":")[0] in speech.STATES
    if rows:
        assert found[0, :2] == pytest.approx([0, 1], abs=1e-3)
        assert column(found, "rate_hz") == [8000 if what == "telephone" else RATE]


def test_surround_sound_and_its_mean_have_the_same_level_and_length(tmp_path: Path) -> None:
    channels = np.stack([noise(1.0, seed=seed) for seed in range(8)], axis=1)
    status, rows = speech.find_speech(written(tmp_path / "8.wav", channels))
    assert status == "ok"
    np.testing.assert_allclose(
        rows, speech.find_speech(written(tmp_path / "1.wav", channels.mean(axis=1)))[1], rtol=1e-4
    )


def test_level_and_clipped_share_are_those_of_the_samples_whatever_the_blocks(tmp_path: Path) -> None:
    sound = np.clip(noise(70.1, 0.5) * 1.3, -1, 1)
    _, rows = speech.find_speech(written(tmp_path / "loud.wav", sound))  # read in blocks of 30 s
    assert column(rows, "level_db") == pytest.approx([10 * np.log10(np.mean(sound.astype(float) ** 2))], abs=0.02)
    assert column(rows, "clipped_share") == pytest.approx([np.mean(np.abs(sound) >= 0.985)], abs=1e-4)
    whole, parts = speech.measure([sound]), speech.measure([sound[:320000], sound[320000:960000], sound[960000:]])
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_background_below_speech_is_told_from_it_and_only_speech_is_kept(tmp_path: Path) -> None:
    sound = noise(10.0, 0.001)
    for start, end in ((1.0, 3.0), (3.2, 4.0), (7.0, 8.0)):  # a pause of 0.2 s belongs to the speech around it
        sound[round(start * RATE) : round(end * RATE)] += noise(end - start, 0.1, 1)
    sound[round(5.5 * RATE) : round(5.54 * RATE)] += 0.1  # a knock
    path = written(tmp_path / "talk.wav", sound)
    status, rows = speech.find_speech(path, SpeechPolicy(detect=True))
    assert status == "ok"
    np.testing.assert_allclose(rows[:, :2], [[0.9, 4.1], [6.9, 8.1]], atol=0.021)
    assert column(rows, "snr_db") == pytest.approx([40, 40], abs=1.5)
    _, whole = speech.find_speech(path)
    assert column(whole, "speech_share") == pytest.approx([0.38], abs=0.02)
    assert speech.find_speech(path, SpeechPolicy(detect=True, shortest_s=4.5))[0].startswith("short: 4.40 s of sound")


@pytest.mark.parametrize("detect", [True, False])
def test_windows_are_equal_parts_of_the_stretches_and_none_is_longer(tmp_path: Path, detect: bool) -> None:
    sound = noise(10.0, 0.001)
    for start, end in ((1.0, 6.0), (8.0, 9.0)):
        sound[round(start * RATE) : round(end * RATE)] += noise(end - start, 0.1, 1)
    path = written(tmp_path / "talk.wav", sound)
    _, whole = speech.find_speech(path, SpeechPolicy(detect=detect))
    _, rows = speech.find_speech(path, SpeechPolicy(detect=detect, window_s=2.0))
    seconds = rows[:, 1] - rows[:, 0]
    assert len(rows) == sum(int(np.ceil((end - start) / 2.0 - 1e-6)) for start, end in whole[:, :2]) > len(whole)
    assert (seconds <= 2.0 + 1e-6).all() and set(whole[:, 0]) <= set(rows[:, 0]) and set(whole[:, 1]) <= set(rows[:, 1])
    for start, end in whole[:, :2]:
        parts = seconds[(rows[:, 0] >= start) & (rows[:, 1] <= end)]
        assert parts.sum() == pytest.approx(end - start, abs=1e-4) and np.ptp(parts) <= 0.0201
    level = 10 * np.log10(np.mean(sound[round(rows[0, 0] * RATE) : round(rows[0, 1] * RATE)].astype(float) ** 2))
    assert rows[0, 2] == pytest.approx(level, abs=0.05)


def test_estimated_ratio_follows_the_noise_that_is_added_to_real_speech(shared: Path) -> None:
    clean = read(sorted((shared / "data/speech/librispeech").rglob("*.flac"))[25])
    loud = np.repeat(speech.Loudness(speech.measure([clean])).is_loud(speech.measure([clean])), 320)[: len(clean)]
    hiss = noise(len(clean) / RATE)
    for ratio in (5, 15):
        scale = np.sqrt(np.mean(clean[loud] ** 2) / np.mean(hiss**2) / 10 ** (ratio / 10))
        found = speech.Loudness(speech.measure([0.3 * (clean + scale * hiss)])).snr_db()
        assert found == pytest.approx(ratio, abs=5)


def test_summary_of_stretches_is_their_mean_by_time_and_of_none_no_number() -> None:
    rows = np.array([[0, 1, -20, 10, 0, 1, 8000], [5, 8, -40, 30, 0.4, 0.5, 8000]], np.float32)
    assert dict(zip(SPEECH_SUMMARY, speech_summary(rows), strict=True)) == pytest.approx(
        {"duration_s": 4, "level_db": -35, "snr_db": 25, "clipped_share": 0.3, "speech_share": 0.625, "rate_hz": 8000}
    )
    nothing = speech_summary(rows[:0])
    assert nothing[0] == 0 and np.isnan(nothing[1:]).all()


# --- what of it is embedded


@pytest.mark.parametrize(
    ("samples", "crops"), [(1000, 0), (RATE, 5), (10 * RATE + 1, 5), (61 * RATE, 3), (200 * RATE, 1)]
)
@pytest.mark.parametrize("block", [RATE, 30 * RATE])
def test_spans_are_the_parts_of_the_whole_and_crops_at_equal_steps_whatever_the_blocks(
    samples: int, crops: int, block: int
) -> None:
    sound = np.arange(samples, dtype=np.float32)
    spans = plan_spans(samples, RATE, CutPolicy(crops, 60.0))
    blocks = (sound[start : start + block] for start in range(0, samples, block))
    found = list(zip(spans, cut_spans(blocks, spans), strict=True))
    whole = [piece for span, piece in sorted(found, key=lambda one: one[0].start) if span.row == 0]
    assert np.array_equal(np.concatenate(whole), sound) and len(whole) == -(-samples // (60 * RATE))
    assert max(map(len, whole)) - min(map(len, whole)) <= 1
    length = 48240  # of the ECAPA-TDNN recipe's crops, which wraps shorter sound
    padded = np.pad(sound, (0, max(0, length - samples)), "wrap")
    for row, start in enumerate(np.linspace(0, len(padded) - length, crops), 1):
        (piece,) = [piece for span, piece in found if span.row == row]
        assert np.array_equal(piece, padded[int(start) : int(start) + length])


def test_speech_is_what_lies_in_the_stretches_whatever_the_blocks() -> None:
    sound, ranges = np.arange(1000, dtype=np.float32), [(0, 10), (10, 30), (95, 105), (300, 710), (990, 1000)]
    expected = np.concatenate([sound[start:end] for start, end in ranges])
    for block in (7, 100, 1000):
        pieces = speech_of((sound[start : start + block] for start in range(0, 1000, block)), ranges)
        assert np.array_equal(np.concatenate(list(pieces)), expected)


def test_each_stretch_is_its_own_row_whatever_is_left_out_between_them(tmp_path: Path) -> None:
    sound = noise(70.0)
    path = written(tmp_path / "long.wav", sound)
    rows = np.zeros((3, len(SPEECH_COLUMNS)), np.float32)
    rows[:, :2] = [[0.5, 2.0], [2.0, 4.0], [29.5, 65.0]]
    found = list(read_spans(path, rows, RATE, CutPolicy(crops=5, longest_s=1.0, each=True)))
    assert [(span.row, span.weight) for span, _ in found] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    for (_, cut), (start, end) in zip(found, rows[:, :2].tolist(), strict=True):
        np.testing.assert_allclose(cut, sound[round(start * RATE) : round(end * RATE)], atol=1e-4)
    means = [np.array([cut.mean()], np.float32) for _, cut in found]
    assert join_rows([span for span, _ in found], means)[:, 0].tolist() == pytest.approx([m[0] for m in means])


def test_embedding_of_long_sound_is_the_mean_of_its_parts_by_their_length() -> None:
    assert [span[:2] for span in plan_spans(2, RATE, CutPolicy(longest_s=1e-9))] == [(0, 1), (1, 2)]
    spans = plan_spans(101, 1, CutPolicy(longest_s=34))
    assert [span.end - span.start for span in spans] == [33, 34, 34]
    parts = [np.array([1, 4], np.float32), np.array([2, 4], np.float32), np.array([3, 4], np.float32)]
    np.testing.assert_allclose(join_rows(spans, parts), [[(33 + 68 + 102) / 101, 4]], rtol=1e-6)


def test_file_that_lost_sound_since_stage_2_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(2.0))
    _, rows = speech.find_speech(path)
    assert [len(sound) for _, sound in read_spans(path, rows, RATE)] == [2 * RATE]
    written(tmp_path / "a.wav", noise(1.0))
    with pytest.raises(DataError, match=r"a\.wav: expected 2\.00 s of speech as in stage 2, found less"):
        list(read_spans(path, rows, RATE))
    os.unlink(path)
    with pytest.raises(DataError, match=r"a\.wav: stage 2 could read it: .*put it back, or run stage 2 again"):
        list(read_spans(path, rows, RATE))


# --- networks


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_sounds_of_different_lengths_have_the_embeddings_that_each_has_by_itself(batch: int) -> None:
    embedder = SpeakerEmbedder(mean_and_power, WAVEFORM, batch)
    sounds = [noise(seconds, seed=seed) for seed, seconds in enumerate((1.0, 0.7, 1.0, 3.0, 0.7, 0.7))]
    found = embedder.embed([embedder.items(sound) for sound in sounds])
    expected = [[2 * sound.mean(dtype=float), 4 * (sound.astype(float) ** 2).mean()] for sound in sounds]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    alone = np.concatenate([embedder.embed([embedder.items(sound)]) for sound in sounds])
    assert np.array_equal(found, alone)


def test_sound_shorter_than_the_card_says_is_repeated() -> None:
    (item,) = SpeakerEmbedder(mean_and_power, WAVEFORM).items(np.arange(3000, dtype=np.float32))
    assert np.array_equal(item, 2 * (np.arange(8000) % 3000))


def test_network_of_one_length_gives_the_mean_over_its_crops() -> None:
    embedder = SpeakerEmbedder(lambda batch: [bare_window(batch)], DVECTOR, 2)
    sounds = [noise(4.0), noise(0.2), noise(1.9)]
    found = embedder.embed([embedder.items(sound) for sound in sounds])
    expected = [bare_window(network_input(sound, DVECTOR.input)).mean(axis=0) for sound in sounds]  # type: ignore[arg-type]
    assert [len(embedder.items(sound)) for sound in sounds] == [4, 1, 1]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("seconds", "crops"), [(0.1, 1), (1.59, 1), (1.6, 1), (1.98, 1), (2.0, 2), (2.39, 2), (2.78, 2), (2.8, 3)]
)
def test_last_crop_is_taken_where_the_sound_fills_three_quarters_of_it(seconds: float, crops: int) -> None:
    """As Resemblyzer does with min_coverage 0.75; the last frame is centred at the sound's end."""
    assert len(network_input(noise(seconds), DVECTOR.input)) == crops  # type: ignore[arg-type]


@pytest.mark.parametrize(("card", "filled"), [(DVECTOR, 16), (WAVEFORM, 1)])
def test_batches_of_sounds_are_filled_up_only_where_all_have_one_length(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: ModelCard, filled: int
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(opening, "load_network", lambda *arguments: asked.extend(arguments))
    opening.open_network(InstalledModel(card, tmp_path / "network.onnx", ""), "onnxruntime", batch=16)
    assert asked[5] == filled


def wrong_cards() -> Iterator[tuple[ModelCard, str]]:
    yield dataclasses.replace(DVECTOR, kind="face_embedder"), "is a face_embedder, not a speaker_embedder"
    yield (
        dataclasses.replace(DVECTOR, input=load_card("arcface_tiny").input),
        "expected fbank or waveform, found picture",
    )
    yield dataclasses.replace(WAVEFORM, output=Output(embedding_size=3)), r"expected embeddings of shape \(1, 3\)"


@pytest.mark.parametrize(("card", "message"), list(wrong_cards()))
def test_card_that_does_not_fit_is_refused(card: ModelCard, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        embedder = SpeakerEmbedder(mean_and_power, card)
        embedder.embed([embedder.items(noise(1.0))])


# --- stages 2 and 3


@pytest.fixture(scope="module")
def spoken(shared: Path, repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with sounds of all kinds, stages 0, 2 and 3 done: data/set and exp below this folder."""
    work = tmp_path_factory.mktemp("spoken")
    good = sorted((shared / "data/speech/ucla").rglob("*.flac"))[:4]
    talk = shared / "data/video/talks/Obama_clip1.mp4"
    bad = [made(work, what) for what in ("mute", "blip", "nan", "telephone", "film", "text", "gone")]
    paths = [*map(str, good), str(talk), *bad]
    segments = [Segment(f"s{number:02d}", "", "x", sound=path) for number, path in enumerate(paths)]
    write_data_folder(work / "data" / "set", segments)
    stage(repo, work, "000_get_pretrained_models", "--model-dir", str(shared / "models/speaker"))
    done = stage(repo, work, "002_detect_faces", "--stop-stage", "3", "--nj", "2", "--speaker-crops", "2")
    (work / "said").write_text(done.stdout)
    return work


def stage(repo: Path, work: Path, name: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    words = [f"./run_{name}.sh", "--modalities", "speaker", "--trial-sets", "set:set"]
    words += ["--speaker-embedder", DVECTOR.name, "--data-dir", f"{work}/data", "--exp-dir", f"{work}/exp", *options]
    environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
    done = subprocess.run(words, cwd=repo, env=environment, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def test_stages_count_every_segment_and_name_what_is_wrong(spoken: Path) -> None:
    said = (spoken / "said").read_text()
    counts = "12 segments: 6 ok, 1 silent, 1 short, 1 no_audio, 1 damaged, 2 unreadable"
    assert said.count(counts) == 2 and said.count("s11 unreadable: no such file or directory") == 2, said


def test_results_do_not_depend_on_jobs_and_are_those_of_single_files(spoken: Path, tmp_path: Path) -> None:
    items, embed = spoken / "exp/speaker_det/given/set", spoken / f"exp/speaker_embed/{DVECTOR.name}/set"
    scp, model = spoken / "data/set/wav.scp", spoken / f"exp/speaker_models/{DVECTOR.name}"
    find_speech(SpeechOptions(str(scp), str(tmp_path / "2")))
    extract_embeddings(SpeechEmbedOptions(items, scp, model, tmp_path / "3", crops=2, embed_batch=3))
    for one, other in (
        (items / "speech.ark", tmp_path / "2/speech.ark"),
        (embed / "embed.ark", tmp_path / "3/embed.ark"),
    ):
        assert one.read_bytes() == other.read_bytes()
    rows, speech_rows = load_matrices(embed / "embed.scp"), load_matrices(items / "speech.scp")
    assert all(len(rows[name]) == (3 if len(speech_rows[name]) else 0) for name in rows) and len(rows) == 12


def test_precision_of_a_network_is_checked_on_the_speech_of_a_set(spoken: Path) -> None:
    how = EngineOptions(precision="bf16", engine="openvino")
    model, items = spoken / f"exp/speaker_models/{DVECTOR.name}", spoken / "exp/speaker_det/given/set"
    figures = check_precision(CheckOptions(model, items, items_scp=spoken / "data/set/wav.scp", network=how))
    assert figures["items"] == 7 and 0.999 <= figures["lowest"] < 1


def test_states_are_those_that_stages_and_report_know(repo: Path) -> None:
    assert f'speech_states="{" ".join(speech.STATES)}"' in (repo / "steps_speaker/modality.sh").read_text()
    assert tables.states_of("speech") == speech.STATES


def test_compare_prints_the_cosine_of_what_stage_3_stored_and_takes_two_files_only(spoken: Path, repo: Path) -> None:
    rows = load_matrices(spoken / f"exp/speaker_embed/{DVECTOR.name}/set/embed.scp")
    one, other = (rows[name][0].astype(float) for name in ("s00", "s04"))
    paths = [line.split(" ", 1)[1] for line in (spoken / "data/set/wav.scp").read_text().splitlines()]
    model = str(spoken / "exp/speaker_models" / DVECTOR.name)
    words = [sys.executable, "steps_speaker/compare.py", "--model", model, paths[0]]
    done = subprocess.run([*words, paths[4]], cwd=repo, capture_output=True, text=True)
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert done.stdout == f"cosine {expected:.4f}\n" and done.returncode == 0, done.stderr
    done = subprocess.run([*words, "b c.wav", "d.wav"], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 2 and f"expected two files, found 3: {paths[0]} b c.wav d.wav\n" in done.stderr
    done = subprocess.run([*words, paths[5]], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == f"ERROR: {paths[5]}: silent: the loudest 20 ms have -150 dB\n"


def test_set_without_sounds_is_refused_and_the_list_and_its_stage_are_named(repo: Path, tmp_path: Path) -> None:
    write_data_folder(tmp_path / "data/set", [Segment("a", str(tmp_path / "a.mp4"), "x")])
    done = stage(repo, tmp_path, "002_detect_faces", check=False)
    assert done.returncode and "data/set/wav.scp, which is not there" in done.stderr
    assert "run ./run_001_prepare_data.sh" in done.stderr and not (tmp_path / "exp").exists()
