"""The demo corpus of talking people: its voices, its lists, what is seen and heard in it; and run_demo.sh on it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from recipe import Recipe

from vidperson.corpora import demo_av, film, voices
from vidperson.errors import DataError
from vidperson.media import audio
from vidperson.networks.card import load_card

PERSONS, SECONDS = 3, 3.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of few persons."""
    out = tmp_path_factory.mktemp("demo") / "av"
    made: list[None] = []
    assert demo_av.build(out, PERSONS, SECONDS, lambda: made.append(None))
    assert len(made) == demo_av.num_utterances(PERSONS) == PERSONS * 5 * 6
    return out


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


# --- voices


def _pitch(sound: np.ndarray) -> float:
    """The median pitch in Hz of the loud parts, by their autocorrelation."""
    found = []
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::512]
    powers = (frames**2).mean(axis=1)
    for frame in frames[powers > np.median(powers)]:
        likeness = np.correlate(frame, frame, "full")[1023:]
        found.append(voices.RATE / (40 + int(likeness[40:320].argmax())))
    return float(np.median(found))


@pytest.mark.parametrize("hertz", [95.0, 130.0, 210.0])
def test_voice_has_the_pitch_that_is_asked_for(hertz: float) -> None:
    voice = voices.draw_voice(np.random.default_rng(3))
    voice = voices.Voice(**{**voice.__dict__, "pitch_hz": hertz, "breath": 0.01})
    assert _pitch(voices.speak(voice, 2.0, np.random.default_rng(1))) == pytest.approx(hertz, rel=0.12)


def test_voice_of_a_shorter_tract_has_the_same_spectrum_at_higher_frequencies() -> None:
    """By how much one must be stretched to be most like the other."""
    voice, steps = voices.draw_voice(np.random.default_rng(3)), np.geomspace(400, 6000, 121)

    def envelope(tract: float) -> np.ndarray:
        made = voices.Voice(**{**voice.__dict__, "tract": tract})
        power = np.abs(np.fft.rfft(voices.speak(made, 4.0, np.random.default_rng(1)))) ** 2
        hertz = np.arange(len(power)) * voices.RATE / 2 / len(power)
        return np.log([power[abs(hertz - step) < 0.1 * step + 40].mean() for step in steps])

    def likeness(one: np.ndarray, two: np.ndarray) -> float:
        """The correlation of two pieces of spectra without their slopes."""
        places = np.arange(len(one))
        level = [each - np.polyval(np.polyfit(places, each, 1), places) for each in (one, two)]
        return float(np.corrcoef(*level)[0, 1])

    average = envelope(1.0)
    for tract in (0.8, 1.25):
        low, high = (average, envelope(tract)) if tract < 1 else (envelope(tract), average)
        best = max(range(1, 25), key=lambda shift: likeness(low[:-shift], high[shift:]))
        assert (steps[1] / steps[0]) ** best == pytest.approx(1.25, rel=0.06)


def test_recording_has_the_noise_that_its_place_has() -> None:
    """What two recordings of the same speech share, and what not."""
    rng = np.random.default_rng(2)
    speech = voices.speak(voices.draw_voice(rng), 3.0, rng)
    drawn = voices.draw_place(rng)
    for wanted in (5.0, 20.0):
        place = voices.Place(drawn.equaliser, drawn.echo, wanted, drawn.hum)
        one, two = (voices.record(speech, place, np.random.default_rng(seed)).astype(float) for seed in (1, 2))
        share = np.corrcoef(one, two)[0, 1]  # signal / (signal + noise)
        assert 10 * np.log10(share / (1 - share)) == pytest.approx(wanted, abs=0.5)


# --- the corpus


def test_build_again_elsewhere_gives_the_same_bytes_and_a_finished_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_av, "SESSIONS", 1)  # it takes long
    for name in ("one", "two"):
        demo_av.build(tmp_path / name, 2, demo_av.SHORTEST_S)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert not demo_av.build(tmp_path / "one", 2, demo_av.SHORTEST_S)


def test_too_short_utterances_and_too_many_persons_are_refused(tmp_path: Path) -> None:
    for seconds in (0.5, float("nan"), float("inf")):
        with pytest.raises(DataError, match=rf"at least 1 seconds per utterance, found {seconds}"):
            demo_av.build(tmp_path / "av", 4, seconds)
    with pytest.raises(DataError, match="2 to 10 persons per trial list, found 11"):
        demo_av.build(tmp_path / "av", 11)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", demo_av.TRIALS)
def test_trials_are_of_different_videos_half_of_them_of_one_person(corpus: Path, part: str) -> None:
    rows = _rows(corpus / f"voxceleb1/{part}_trials.txt")
    assert Counter(row[0] for row in rows) == {"1": PERSONS * 12, "0": PERSONS * 12}
    for label, *pair in rows:
        (speaker, video, _), (other, other_video, _) = (path.split("/") for path in pair)
        assert (speaker == other) == (label == "1") and (label == "0" or video != other_video)
    listed = {path for path, _ in _rows(corpus / f"voxceleb1/{part}_list.txt")}
    assert {path for row in rows for path in row[1:]} <= listed
    assert all((corpus / "voxceleb1/mp4" / path).with_suffix(".mp4").is_file() for path in listed)


def test_persons_of_the_lists_are_others_each(corpus: Path) -> None:
    names = [{path.split("/")[0] for path, _ in _rows(corpus / f"voxceleb1/{part}_list.txt")} for part in "OE"]
    names.append({row[0] for row in _rows(corpus / "voxceleb2/train_all.txt")})
    assert [len(found) for found in names] == [PERSONS, PERSONS, 3 * PERSONS]
    assert len(set.union(*names)) == 5 * PERSONS


def test_a_twentieth_of_the_training_rows_has_somebody_else_in_sound_image_or_both(corpus: Path) -> None:
    rows, key = _rows(corpus / "voxceleb2/train_all.txt"), _rows(corpus / "train_key.txt")
    assert [row[:2] for row in rows] == [row[:2] for row in key]
    wrong = [row for row in key if set(row[2:]) != {row[0]}]
    assert len(wrong) == round(0.05 * len(rows)) == 3
    assert {(row[2] != row[0], row[3] != row[0]) for row in wrong} == {(True, True), (True, False), (False, True)}


def test_videos_have_picture_and_sound_but_for_those_that_are_mute_or_show_nobody(corpus: Path, shared: Path) -> None:
    model = shared / "models/yunet_onnx/yunet_n_dynamic.onnx"
    detector = cv2.FaceDetectorYN.create(str(model), "", (film.WIDTH, film.HEIGHT), 0.6)
    mute, unseen, seen = [], [], 0
    for path in sorted((corpus / "voxceleb1/mp4").rglob("*.mp4")):
        with av.open(str(path)) as container:
            assert container.streams.video[0].average_rate == demo_av.FPS
            frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        found = detector.detect(frames[4])[1]
        assert len(frames) == SECONDS * demo_av.FPS
        seen += found is not None
        if found is None:
            unseen.append(path)
        try:
            assert len(audio.read(path)) == pytest.approx(SECONDS * 16000, abs=1024)
        except audio.NoSound:
            mute.append(path)
    assert len(mute) == len(demo_av.TRIALS) * (PERSONS - demo_av.UNSEEN)
    assert len(unseen) >= len(demo_av.TRIALS) * demo_av.UNSEEN and seen > 0.85 * PERSONS * 12
    assert not set(mute) & set(unseen)


def test_training_data_have_sound_and_an_aligned_face_a_second(corpus: Path) -> None:
    for _, path, seconds in _rows(corpus / "voxceleb2/train_all.txt"):
        assert len(audio.read(corpus / "voxceleb2/wav" / path)) == float(seconds) * 16000
        faces = sorted((corpus / "voxceleb2/frame_align" / path).with_suffix("").iterdir())
        assert [face.name for face in faces] == ["0025.jpg", "0050.jpg", "0075.jpg"]
        for face in faces:
            assert cv2.imread(str(face)).shape == (112, 112, 3)


# --- run_demo.sh


def test_run_demo_cleanses_and_trains_and_face_and_voice_together_are_better_than_either(
    corpus: Path, repo: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="training needs the torch extra")
    shutil.copytree(corpus, tmp_path / "data/demo_av_corpus")
    stamp = f"recipe {demo_av.RECIPE}, {demo_av.MOST_PERSONS} persons, 3 s\n"
    (tmp_path / "data/demo_av_corpus/.done").write_text(stamp)  # else made again
    recipe = Recipe(repo, tmp_path, "demo_av")
    said = subprocess.run(
        ["./run_demo.sh", *recipe.command("demo", "--nj", "1")[1:]],
        cwd=repo, env=recipe.environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    assert said.stdout.splitlines()[-1] == f"report: {recipe.results}/report.html"
    assert "All voices are artificial" in (recipe.results / "report.html").read_text()

    rows = [
        re.split(r"  +", line)
        for line in said.stdout.splitlines()
        if line.startswith("vox1_o_other ") and len(line.split()) > 9
    ]
    rates = dict[tuple[str, str], float]()
    for row in rows:  # of the first table
        if row[5] == "no":
            rates.setdefault((row[1], row[3]), float(row[6]))
    face, voice = rates["face", "mean-cosine"], rates["speaker", "mean-cosine"]
    assert 2 < face < 35 and 2 < voice < 40, "neither is perfect, neither knows nothing"
    assert rates["face + speaker", "fusion-mean"] < min(face, voice)

    shown = {row[1][:-4].replace("/", "-"): row[2:] for row in _rows(tmp_path / "data/demo_av_corpus/train_key.txt")}
    wrong = {name for name, who in shown.items() if set(who) != {name.split("-")[0]}}
    noisy = shown.keys() - {row[0] for row in _rows(tmp_path / "data/vox2_train_clean/utt2spk")}
    assert len(wrong & noisy) >= 2, "of three; nine speakers are few to tell"
    assert len(noisy) < 0.25 * len(shown)
    assert load_card(tmp_path / "exp/speaker_train/demo_av/demo_av.yaml").kind == "speaker_embedder"
