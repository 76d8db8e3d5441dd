"""Shots of films: cuts that were made are found and nothing else; key frames are those in the middle of parts."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from naive_decoder import write_video

from vidperson.errors import VidPersonError
from vidperson.media.cuts import HEIGHT, WIDTH, SampledShots, shot_starts, small_image, small_version
from vidperson.media.key_frames import ShotSampling
from vidperson.media.sampling import Clock, Shot
from vidperson.media.video import FrameReader, UniformSampling

Array = np.ndarray[Any, Any]


def scene(seed: int, size: tuple[int, int]) -> Array:
    """(height, width, 3) uint8: a wide set in its own colours, different everywhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(rng.uniform(60, 190, 3), rng.uniform(20, 50), (6, 24, 3)).clip(0, 255).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def filmed(seed: int, frames: int, step: float = 0.0, height: int = 108, width: int = 192) -> Iterator[Array]:
    """A camera that pans by ``step`` pixels a frame, back and forth, with grain."""
    rng, wide = np.random.default_rng(seed + 1000), scene(seed, (height, 3 * width))
    reach = wide.shape[1] - width
    for number in range(frames):
        at = int(number * step) % (2 * reach)
        at = min(at, 2 * reach - at)
        view = wide[:, at : at + width].astype(np.int16) + rng.integers(-6, 7, (height, width, 1))
        yield view.clip(0, 255).astype(np.uint8)


def flash(frames: list[Array], at: int, length: int, light: int) -> list[Array]:
    lit = {n: np.clip(frames[n].astype(np.int16) + light, 0, 255).astype(np.uint8) for n in range(at, at + length)}
    return [lit.get(number, frame) for number, frame in enumerate(frames)]


def cuts_of(frames: list[Array]) -> list[int]:
    smalls = (
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2YUV), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for f in frames
    )
    starts = list(shot_starts(smalls))
    assert len(starts) == len(frames)
    return [number for number, first in enumerate(starts) if first]


def test_cuts_of_a_composed_film_are_found_to_the_frame_between_still_slow_and_fast_pans() -> None:
    steps = [0, 1, 0, 6, 12, 0.5, 0, 3, 9, 2]
    lengths = [30, 9, 45, 26, 40, 8, 60, 33, 25, 20]
    parts = [list(filmed(seed, length, step)) for seed, (length, step) in enumerate(zip(lengths, steps, strict=True))]
    assert cuts_of([frame for part in parts for frame in part]) == [0, *np.cumsum(lengths)[:-1].tolist()]


@pytest.mark.parametrize("step", [0, 2, 5, 15, 30])
def test_pan_of_any_speed_is_one_shot(step: int) -> None:
    assert cuts_of(list(filmed(7, 60, step))) == [0]


@pytest.mark.parametrize(("length", "light"), [(1, 60), (1, 255), (2, 120), (3, 255), (3, -200)])
@pytest.mark.parametrize("step", [0, 2])
def test_flash_or_dark_frames_are_no_cut(length: int, light: int, step: int) -> None:
    frames = list(filmed(3, 60, step))
    for at in (12, 30, 34, 50):
        frames = flash(frames, at, length, light)
    assert cuts_of(frames) == [0]


def test_flash_right_beside_a_cut_hides_it_not() -> None:
    frames = [*filmed(1, 30), *filmed(2, 30)]
    assert cuts_of(flash(frames, 26, 2, 150)) == [0, 30] == cuts_of(flash(frames, 33, 2, 150))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8])
def test_film_of_few_frames_is_one_shot(count: int) -> None:
    assert cuts_of(list(filmed(0, count))) == [0][:count]


def test_small_version_is_the_mean_of_areas_whatever_the_format_and_the_shape() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 200, (HEIGHT // 3, WIDTH // 3, 3), np.uint8)
    image = np.kron(blocks, np.ones((30, 60, 1), np.uint8))
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    expected = None
    for kind in ("yuv444p", "yuv420p", "rgb24", "yuv420p10le", "nv12"):
        small = small_version(frame.reformat(format=kind), VideoReformatter())
        assert small.shape == (HEIGHT, WIDTH, 3) and small.dtype == np.uint8
        middle = small[1::3, 1::3].astype(int)
        expected = middle if expected is None else expected
        assert np.abs(middle - expected).max() <= 6
    grey = small_version(frame.reformat(format="gray"), VideoReformatter())
    assert np.abs(grey[1::3, 1::3, 0].astype(int) - expected[..., 0]).max() <= 40 and (grey[..., 1:] == 128).all()


# ---------------------------------------------------------------------------------------------------- sampled frames


def sampled_starts(frames: list[Array], fps: float = 5.0) -> list[float]:
    shots = SampledShots()
    for number, frame in enumerate(frames):
        shots.add(frame, number / fps)
    rows = shots.rows()
    assert rows.dtype == np.float32 and rows.shape == (len(rows), 3)
    assert (rows[:, 1:] == frames[0].shape[1::-1]).all()
    return rows[:, 0].tolist()


@pytest.mark.parametrize("size", [(108, 192), (192, 108), (40, 31)])
def test_small_image_is_that_of_the_decoded_frame_whatever_the_shape(size: tuple[int, int]) -> None:
    image = next(filmed(5, 1, height=size[0], width=size[1]))
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuvj444p")
    found, expected = small_image(image).astype(int), small_version(frame, VideoReformatter()).astype(int)
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 4


def test_sampled_cuts_of_a_composed_film_with_shots_of_two_frames_are_found_to_the_frame() -> None:
    lengths = [5, 2, 12, 3, 20, 4]
    parts = [list(filmed(seed, 25 * length, 1))[::5] for seed, length in enumerate(lengths)]
    frames = [frame for part, length in zip(parts, lengths, strict=True) for frame in part[:length]]
    expected = np.cumsum([0, *lengths[:-1]]) / 5
    assert sampled_starts(frames) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("step", [0, 2, 5, 15])
def test_sampled_pan_and_a_flash_of_one_frame_are_no_cut(step: int) -> None:
    frames = list(filmed(7, 150, step / 5))[::5]
    assert sampled_starts(frames) == [0]
    if step < 15:
        assert sampled_starts(flash(frames, 12, 1, 150)) == [0]


def test_sampled_frames_of_a_further_look_do_not_count_and_none_give_no_shot() -> None:
    shots = SampledShots()
    one, other = list(filmed(1, 8)), list(filmed(2, 8))
    for number, frame in enumerate(one):
        shots.add(frame, number / 5)
        shots.add(other[number], number / 5 - 0.1)
    assert shots.rows()[:, 0].tolist() == [0.0]
    assert SampledShots().rows().shape == (0, 3)


def test_sampled_cuts_of_a_real_clip_are_where_they_are_seen(shared: Path) -> None:
    """Seen on a contact sheet of the clip, frame by frame."""
    found = SampledShots()
    with FrameReader(shared / "data/video/hamilton/short_hamilton_clip.mp4", UniformSampling(5)) as reader:
        for frame in reader:
            found.add(frame.image, frame.time_s)
    assert found.rows()[:, 0].tolist() == pytest.approx([0, 0.8, 2.8, 7.21], abs=0.01)


# -------------------------------------------------------------------------------------------------------- key frames


def middles(begin: int, end: int, parts: int) -> list[float]:
    return [begin + (part + 0.5) / parts * (end - begin) for part in range(parts)]


def key_frames(path: Path, sampling: ShotSampling) -> list[tuple[int, int]]:
    with FrameReader(path, sampling) as reader:
        found = [(frame.index, frame.label) for frame in reader]
    assert reader.damage is None
    return found


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"), [("libx264", "yuv420p", "a.mp4"), ("mjpeg", "yuvj420p", "a.avi")]
)
def test_key_frames_are_in_the_middle_of_equal_parts_of_each_shot(
    tmp_path: Path, codec: str, pix_fmt: str, name: str
) -> None:
    lengths = [30, 12, 75]
    frames = [frame for seed, n in enumerate(lengths) for frame in filmed(seed, n, 2, height=72, width=128)]
    path = write_video(tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt, rate=25)
    sampling = ShotSampling(3, 20.0)
    found = key_frames(path, sampling)
    assert sampling.starts == pytest.approx([0, 30 / 25, 42 / 25])
    assert [label for _, label in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    wanted = [*middles(0, 30, 3), *middles(30, 42, 3), *middles(42, 117, 3)]
    allowed = [30 / 12] * 3 + [12 / 12 + 0.5] * 3 + [75 / 12] * 3  # a quarter of a part, or the next frame
    for (index, _), middle, most in zip(found, wanted, allowed, strict=True):
        assert abs(index + 0.5 - middle) <= most + 0.5
    with FrameReader(path, UniformSampling(1000)) as every, FrameReader(path, ShotSampling(3, 20.0)) as reader:
        images = {frame.index: frame.image for frame in every}
        assert len(images) == 117 and all((frame.image == images[frame.index]).all() for frame in reader)


def test_long_shot_counts_as_several_and_a_short_one_gives_the_frames_that_it_has(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", filmed(0, 55, height=72, width=128), rate=10)
    sampling = ShotSampling(2, 2.0)
    assert [label for _, label in key_frames(path, sampling)] == [0, 0, 1, 1, 2, 2]
    assert sampling.starts == [0, 2, 4]
    path = write_video(tmp_path / "b.mp4", filmed(0, 2, height=72, width=128), rate=10)
    assert key_frames(path, ShotSampling(5, 2.0)) == [(0, 0), (1, 0)]


def test_frames_in_memory_do_not_grow_with_the_shot() -> None:
    alive: weakref.WeakSet[Shot] = weakref.WeakSet()
    most = 0
    picture = av.VideoFrame.from_ndarray(np.full((36, 64, 3), 90, np.uint8), format="rgb24")

    def shots() -> Iterator[Shot]:
        nonlocal most
        for index in range(400):
            shot = Shot(index, Fraction(index, 25), picture)
            alive.add(shot)
            most = max(most, len(alive))
            yield shot

    taken = [shot.index for shot, _ in ShotSampling(3, 1000.0).mark(shots(), Clock(Fraction(25), True))]
    assert len(taken) == 3 and 12 <= most <= 3 * 4 + 12  # those kept of the shot, and those read ahead


def test_lost_frames_are_passed_over(tmp_path: Path) -> None:
    pictures = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in filmed(0, 20, height=36, width=64)]
    shots = (Shot(i, Fraction(i, 25), None if i % 2 else picture) for i, picture in enumerate(pictures))
    taken = [shot.index for shot, _ in ShotSampling(4).mark(shots, Clock(Fraction(25), True))]
    assert len(taken) == 4 and all(index % 2 == 0 for index in taken)


@pytest.mark.parametrize("values", [(0, 5.0), (3, 0.0), (3, float("nan"))])
def test_sampling_of_nothing_is_refused(values: tuple[int, float]) -> None:
    with pytest.raises(VidPersonError, match="expected frames and longest_s above 0"):
        ShotSampling(*values)


@pytest.mark.parametrize(
    ("name", "cuts"),
    [("titanic/test.mp4", [58, 211]), ("hamilton/short_hamilton_clip.mp4", [20, 82, 211])],
)
def test_cuts_of_real_films_are_those_seen_by_eye(shared: Path, name: str, cuts: list[int]) -> None:
    path = shared / "data/video" / name
    sampling = ShotSampling(1)
    with FrameReader(path, sampling) as reader:
        assert [frame.label for frame in reader] == list(range(len(cuts) + 1))
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
    assert sampling.starts == pytest.approx([0, *(float(cut / rate) for cut in cuts)], abs=1e-3)
