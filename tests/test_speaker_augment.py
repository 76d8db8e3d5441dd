"""Changes to speech: levels of what is added as drawn, rooms that do not delay, speeds, channels and masks."""

from __future__ import annotations

import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vidperson.errors import DataError, TrainingError
from vidperson.media.excerpts import SoundPlace
from vidperson.speaker.augment import (
    KINDS,
    Ranges,
    SoundAugmentation,
    SoundPool,
    SoundShares,
    at_speed,
    levelled,
    made_noise,
    made_room,
    mixed,
    power,
    reverberated,
    through_channel,
)

RATE, COUNT = 16000, 8000


def voice(seed: int = 0, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tones = np.sin(2 * np.pi * rng.uniform(100, 250) * np.outer(np.arange(1, 12), np.arange(COUNT)) / RATE)
    return (level * (tones.sum(axis=0) * np.linspace(0.1, 1, COUNT) + rng.standard_normal(COUNT))).astype(np.float32)


def write_wav(path: Path, sound: np.ndarray) -> SoundPlace:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return SoundPlace(str(path))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> SoundPool:
    folder = tmp_path_factory.mktemp("pool")
    places = [write_wav(folder / f"{n}.wav", voice(n, 0.02 * (n + 1))) for n in range(3)]
    places.append(write_wav(folder / "short.wav", voice(7)[:700]))
    return SoundPool(places, RATE)


def ratio_db(speech: np.ndarray, noisy: np.ndarray) -> float:
    """Written out here: of mean powers, in double precision."""
    clean, added = speech.astype(float), noisy.astype(float) - speech.astype(float)
    return float(10 * np.log10((clean**2).mean() / (added**2).mean()))


@pytest.mark.parametrize("kind", ["noise", "music", "babble"])
@pytest.mark.parametrize("level", [0.3, 0.0003])
def test_added_sound_has_the_ratio_that_was_drawn_for_loud_and_quiet_speech(
    pool: SoundPool, kind: str, level: float
) -> None:
    speech, found = voice(9, level), []
    for wanted in (-5.0, 0.0, 7.5, 20.0):
        ratios = Ranges(noise=(wanted, wanted), music=(wanted, wanted), babble=(wanted, wanted))
        change = SoundAugmentation(SoundShares(**{kind: 1.0}), ratios, RATE, pool, pool, None, pool)
        noisy = change(speech, 0, np.random.default_rng(3), [])
        assert noisy.dtype == np.float32 and noisy.shape == speech.shape
        found.append(ratio_db(speech, noisy) - wanted)
    assert np.abs(found).max() < 0.01  # 0.2 is what is asked for


def test_ratios_are_spread_over_the_whole_range(pool: SoundPool) -> None:
    change, speech = SoundAugmentation(SoundShares(noise=1), Ranges(), RATE), voice()
    found = [ratio_db(speech, change(speech, 0, np.random.default_rng(seed), [])) for seed in range(80)]
    assert 0 <= min(found) < 1.5 and 13.5 < max(found) <= 15 and 6 < np.mean(found) < 9


def test_television_is_talkers_and_music_each_at_its_own_ratio(pool: SoundPool, tmp_path: Path) -> None:
    speech, hiss = voice(9), np.random.default_rng(5).standard_normal(COUNT).astype(np.float32)
    music = SoundPool([write_wav(tmp_path / "music.wav", 0.1 * hiss)], RATE)
    change = SoundAugmentation(
        SoundShares(television=1), Ranges(music=(5, 5), babble=(15, 15)), RATE, None, music, None, pool
    )
    for seed in range(5):
        added = change(speech, 0, np.random.default_rng(seed), []) - speech
        share = float(added @ hiss) / float(hiss @ hiss)  # least squares: talkers hardly look like hiss
        assert ratio_db(speech, speech + share * hiss) == pytest.approx(5, abs=0.2)
        assert ratio_db(speech, speech + added - share * hiss) == pytest.approx(15, abs=0.5)


def test_silence_on_either_side_adds_nothing() -> None:
    speech, silence = voice(), np.zeros(COUNT, np.float32)
    assert np.array_equal(mixed(speech, silence, 3.0), speech)
    assert not mixed(silence, speech, 3.0).any()
    assert not levelled(silence, -20.0).any()
    assert np.array_equal(reverberated(speech, silence), speech)


def test_room_does_not_delay_speech_nor_change_its_length() -> None:
    speech = voice()
    for delay in (0, 333, 2000):
        response = np.zeros(4000, np.float32)
        response[delay] = -0.5
        assert np.abs(reverberated(speech, response) + speech).max() < 1e-5  # scaled to an energy of 1
        response[delay + 40 :] = 0.01 * np.random.default_rng(delay).standard_normal(4000 - delay - 40)
        wet = reverberated(speech, response)
        assert wet.shape == speech.shape
        lags = np.correlate(wet.astype(float), speech.astype(float)[2000:-2000], "valid")
        assert int(np.abs(lags).argmax()) == 2000


def test_room_equals_the_convolution_written_out() -> None:
    speech, rng = voice()[:500], np.random.default_rng(1)
    response = np.array([0.1, -0.2, 0.9, 0.3, *rng.normal(0, 0.1, 50)], np.float32)
    scaled = response.astype(float) / np.sqrt((response.astype(float) ** 2).sum())
    expected = [sum(scaled[k] * speech[n + 2 - k] for k in range(54) if 0 <= n + 2 - k < 500) for n in range(500)]
    assert np.abs(reverberated(speech, response) - expected).max() < 1e-5


def test_made_room_decays_by_60_db_behind_the_direct_sound() -> None:
    for seed in range(20):
        room = made_room(RATE, np.random.default_rng(seed))
        assert int(np.abs(room).argmax()) == 0
        tail = room[1:].astype(float)
        tail = tail[np.flatnonzero(tail)[0] :]
        ratio = 10 * np.log10(1 / (tail**2).sum())
        assert -3.01 <= ratio <= 12.01
        ends = [10 * np.log10((part**2).mean()) for part in (tail[: len(tail) // 20], tail[-(len(tail) // 20) :])]
        assert ends[0] - ends[1] == pytest.approx(57, abs=4)  # between the middles of the first and last twentieth


def test_speed_changes_pitch_and_length() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    for speed in (0.9, 1.1):
        found = at_speed(tone, speed)
        assert len(found) == int(np.ceil(RATE / speed))
        place = np.abs(np.fft.rfft(found * np.hanning(len(found)))).argmax() * RATE / len(found)
        assert place == pytest.approx(440 * speed, abs=1)
        assert power(found) == pytest.approx(power(tone), rel=0.01)
    assert at_speed(tone, 1.0) is tone


def test_channel_tilts_by_9_db_at_most_and_cuts_off() -> None:
    impulse = np.zeros(COUNT, np.float32)
    impulse[COUNT // 2] = 1
    cuts = 0
    for seed in range(30):
        gains = 20 * np.log10(np.abs(np.fft.rfft(through_channel(impulse, RATE, np.random.default_rng(seed)))) + 1e-9)
        hertz = np.fft.rfftfreq(COUNT, 1 / RATE)
        middle = gains[(hertz > 500) & (hertz < 2700)]
        assert middle.min() > -9.1 and middle.max() < 9.1
        cuts += gains[hertz > 7600].max() < -35
    assert 5 < cuts < 25


def test_noise_that_is_made_has_the_asked_length_and_other_colours() -> None:
    tilts = []
    for seed in range(12):
        noise = made_noise(COUNT, np.random.default_rng(seed))
        assert noise.shape == (COUNT,) and np.isfinite(noise).all()
        spectrum = np.abs(np.fft.rfft(noise)) ** 2
        tilts.append(np.log10(spectrum[100:200].mean() / spectrum[1000:2000].mean()))
    assert max(tilts) - min(tilts) > 1


def test_masks_are_one_stretch_and_one_band_up_to_their_widths() -> None:
    change = SoundAugmentation(SoundShares(mask=1), Ranges(frames=(0, 9), bins=(0, 5)), RATE)
    frames, bins = set(), set()
    for seed in range(200):
        features = np.ones((20, 50), np.float32)
        change.mask(features, np.random.default_rng(seed))
        frames.add(int((features == 0).all(axis=0).sum()))
        bins.add(int((features == 0).all(axis=1).sum()))
    assert frames == set(range(10)) and bins == set(range(6))


def test_at_most_one_kind_is_drawn_as_often_as_asked() -> None:
    shares = SoundShares.parse("noise=0.1 music=0.2 babble=0.3 television=0.1 reverb=0.2")
    rng = np.random.default_rng(0)
    counts = Counter(shares.draw(rng) for _ in range(4000))
    for kind in KINDS:
        assert counts[kind] / 4000 == pytest.approx(getattr(shares, kind), abs=0.025)
    assert counts[""] / 4000 == pytest.approx(0.1, abs=0.025)


def test_same_generator_gives_the_same_sound_and_others_differ(pool: SoundPool) -> None:
    shares = SoundShares.parse("noise=0.2 babble=0.2 television=0.2 reverb=0.2 channel=0.5 level=0.5")
    change, speech = SoundAugmentation(shares, Ranges(), RATE, None, pool, None, pool), voice()
    once, twice = ([change(speech, 0, np.random.default_rng(n), []) for n in range(12)] for _ in range(2))
    assert all(map(np.array_equal, once, twice))
    assert len({sound.tobytes() for sound in once}) > 9


def test_short_sound_of_a_pool_is_repeated(tmp_path: Path) -> None:
    short = voice(3)[:700]
    found = SoundPool([write_wav(tmp_path / "a.wav", short)], RATE).draw(2000, np.random.default_rng(0), [])
    assert np.abs(found - np.resize(short, 2000)).max() < 1e-4


def test_unreadable_sound_of_a_pool_is_told_and_another_is_taken(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    good = write_wav(tmp_path / "good.wav", voice())
    mixed_pool, broken = SoundPool([SoundPlace(str(tmp_path / "bad.wav")), good], RATE), list[str]()
    for seed in range(8):
        assert mixed_pool.draw(500, np.random.default_rng(seed), broken).any()
    assert broken and all("bad.wav" in text for text in broken)
    with pytest.raises(DataError, match="20 sounds in turn cannot be read, the last one: .*bad.wav"):
        SoundPool([SoundPlace(str(tmp_path / "bad.wav"))], RATE).draw(500, np.random.default_rng(0), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise=0.6 reverb=0.6", "of at most 1, found 1.2"),
        ("echo=1", "expected <name>=<share 0..1>, found 'echo=1'; names: noise music"),
        ("noise=2", "found 'noise=2'"),
        ("music=0.1", "music needs a folder of music"),
        ("television=0.1", "television needs a folder of music"),
        ("babble=0.1", "babble needs a folder of talkers"),
    ],
)
def test_changes_that_are_not_possible_are_refused(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        SoundAugmentation(SoundShares.parse(text), Ranges(), RATE)


def test_ranges_are_read_and_what_is_not_named_stays() -> None:
    assert Ranges.parse(" noise=-5:2.5 talkers=2:2 ") == Ranges(noise=(-5, 2.5), talkers=(2, 2))
    assert Ranges.parse("noise=0:15 music=5:15 babble=13:20 talkers=3:8 frames=0:19 bins=0:7") == Ranges()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("music=9:3", "music: expected <lowest>:<highest>, found 9:3"),
        ("talkers=0:3", "talkers: expected whole numbers from 1 on, found 0:3"),
        ("frames=0:1.5", "frames: expected whole numbers from 0 on, found 0:1.5"),
        ("noise=3", "expected <name>=<lowest>:<highest>, found 'noise=3'; names: noise music"),
        ("hum=1:2", "found 'hum=1:2'"),
        ("noise=1.2.3:4", "found 'noise=1.2.3:4'"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Ranges.parse(text)
