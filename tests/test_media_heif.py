"""HEIC and AVIF portraits."""

from __future__ import annotations

import io
import itertools
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from heif_writer import Property, heic
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.media.image import decode_image
from vidperson.media.limits import Limits
from vidperson.media.video import FrameReader, UniformSampling, probe

Picture = NDArray[np.uint8]


def scene(height: int, width: int) -> Picture:
    """A picture without symmetries."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x // 9 + y // 7) % 2 * 200], -1).astype(np.uint8)


def avif(image: Picture, orientation: int = 1, **options: object) -> bytes:
    out = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(image).save(
        out, "AVIF", **({"quality": 95, "speed": 10, "subsampling": "4:4:4", "exif": exif} | options)
    )
    return out.getvalue()


def shown_by_pillow(data: bytes) -> Picture:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))


GRID = scene(96, 128 * 2 + 64)
TILES = [np.ascontiguousarray(GRID[y : y + 48, x : x + 160]) for y in (0, 48) for x in (0, 160)]


@pytest.fixture(scope="module")
def grid() -> bytes:
    """2 x 2 tiles, the last ones stick out of the picture by 7 rows and 21 columns."""
    return heic(TILES, 2, (89, 299))


def test_heic_of_tiles_is_joined_to_the_bit(grid: bytes) -> None:
    image, damage = decode_image(grid)
    assert damage is None
    assert np.array_equal(image, GRID[:89, :299])


TURNS: list[tuple[list[Property], Callable[[Picture], Picture]]] = [
    ([], lambda x: x),
    ([(b"irot", b"\1")], lambda x: x.transpose(1, 0, 2)[::-1]),  # anticlockwise
    ([(b"irot", b"\2")], lambda x: x[::-1, ::-1]),
    ([(b"irot", b"\3")], lambda x: x.transpose(1, 0, 2)[:, ::-1]),
    ([(b"imir", b"\0")], lambda x: x[::-1]),
    ([(b"imir", b"\1")], lambda x: x[:, ::-1]),
    ([(b"irot", b"\1"), (b"imir", b"\0")], lambda x: x.transpose(1, 0, 2)),
    ([(b"imir", b"\0"), (b"irot", b"\1")], lambda x: x[::-1].transpose(1, 0, 2)[::-1]),
    ([(b"clap", struct.pack(">IIIIiIiI", 40, 1, 30, 1, -10, 2, 3, 1))], lambda x: x[12:42, 55:95]),
]


@pytest.mark.parametrize(("turns", "turned"), TURNS)
@pytest.mark.parametrize("tiled", [False, True])
def test_heic_is_cropped_turned_and_mirrored_in_the_order_of_its_properties(
    tiled: bool, turns: list[Property], turned: Callable[[Picture], Picture]
) -> None:
    whole = scene(48, 160)
    tiles = [np.ascontiguousarray(whole[:, :80]), np.ascontiguousarray(whole[:, 80:])] if tiled else [whole]
    image, damage = decode_image(heic(tiles, 1, (48, 160) if tiled else None, turns, in_idat=False))
    assert damage is None
    assert np.array_equal(image, turned(whole))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_pillow_does(orientation: int) -> None:
    data = avif(scene(60, 100), orientation)
    image, damage = decode_image(data)
    expected = shown_by_pillow(data)
    assert damage is None
    assert image.shape == expected.shape == ((100, 60, 3) if orientation > 4 else (60, 100, 3))
    assert np.abs(image.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("subsampling", ["4:0:0", "4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("value_range", ["full", "limited"])
@pytest.mark.parametrize("height", [64, 720])
def test_avif_of_any_kind_has_the_colours_of_pillow(subsampling: str, value_range: str, height: int) -> None:
    data = avif(scene(height, 64), subsampling=subsampling, range=value_range)
    image, _ = decode_image(data)
    assert np.abs(image.astype(int) - shown_by_pillow(data)).mean() < 2


@pytest.mark.parametrize("make", [lambda: avif(scene(60, 100)), lambda: heic([scene(60, 100)])])
def test_reader_heif_of_any_name_is_a_video_of_one_frame(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = tmp_path / "portrait.mp4"
    path.write_bytes(make())
    with FrameReader(path, UniformSampling(30)) as reader:
        (frame,) = reader
    assert (frame.index, frame.time_s, reader.damage, reader.frames_decoded) == (0, 0.0, None, 1)
    assert np.abs(frame.image.astype(int) - scene(60, 100)).mean() < 2
    assert probe(path).duration_s == 0.04


def test_reader_animated_avif_is_a_video(tmp_path: Path) -> None:
    images = [PIL.Image.fromarray(np.full((48, 64, 3), 30 * i, np.uint8)) for i in range(8)]
    path = tmp_path / "a.avif"
    images[0].save(path, "AVIF", save_all=True, append_images=images[1:], duration=100)
    with FrameReader(path, UniformSampling(1000)) as reader:
        frames = list(reader)
    assert [round(frame.image.mean() / 30) for frame in frames] == list(range(8))
    assert [frame.time_s for frame in frames] == pytest.approx([0.1 * i for i in range(8)])
    assert reader.damage is None


def test_heic_with_a_lost_tile_shows_the_others_and_is_damaged(grid: bytes) -> None:
    at = grid.index(b"mdat") + 4
    broken = bytearray(grid)
    broken[at : at + 200] = bytes(200)
    image, damage = decode_image(bytes(broken))
    assert damage == "3 of 4 tiles of the image are whole"
    assert np.array_equal(image[48:], GRID[48:89, :299])


def test_heic_cut_short_is_damaged_or_unreadable(grid: bytes) -> None:
    image, damage = decode_image(grid[:-200])
    assert damage == "3 of 4 tiles of the image are whole"
    assert np.array_equal(image[:48], GRID[:48, :299])
    with pytest.raises(MediaError, match="the HEIF image cannot be decoded"):
        decode_image(heic([scene(60, 100)])[:-2000])


def test_heif_cut_or_scrambled_anywhere_never_fails_otherwise(grid: bytes) -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for whole, trial in itertools.product((grid, avif(scene(60, 100))), range(100)):
        data = bytearray(whole)
        if trial % 2:
            data = data[: rng.integers(12, len(data))]
        else:
            for at in rng.integers(12, data.index(b"mdat") if trial % 4 else len(data), 6):
                data[at] = rng.integers(256)
        try:
            outcomes.add(decode_image(bytes(data), Limits(max_pixels=200_000))[1] is None)
        except MediaError:
            outcomes.add("unreadable")
    assert outcomes == {True, False, "unreadable"}


def test_heic_that_promises_too_many_pixels_is_refused(grid: bytes) -> None:
    with pytest.raises(MediaError, match="299 x 89 pixels are more than max_pixels 20000"):
        decode_image(grid, Limits(max_pixels=20_000))
    small = grid.replace(struct.pack(">III", 0, 299, 89), struct.pack(">III", 0, 1, 1))
    with pytest.raises(MediaError, match="299 x 89 pixels are more than max_pixels 20000"):
        decode_image(small, Limits(max_pixels=20_000))


def test_heic_of_a_kind_that_is_not_known_is_refused_with_its_name() -> None:
    with pytest.raises(MediaError, match="an image of the kind 'iovl' inside a HEIF file is not supported"):
        decode_image(heic([scene(60, 100)], 1, (60, 100), kind=b"iovl"))


def test_heic_with_a_crop_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(MediaError, match="the HEIF image cannot be decoded"):
        decode_image(heic([scene(60, 100)], turns=[(b"clap", struct.pack(">IIIIiIiI", 9, 0, 30, 1, 0, 2, 3, 1))]))


def test_heic_whose_items_name_the_same_data_again_and_again_is_refused_before_memory_is_taken() -> None:
    data = heic([scene(600, 1000)], repeats=20_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MediaError, match="the HEIF image cannot be decoded"):
        decode_image(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_heic_that_is_made_of_itself_is_refused() -> None:
    data = heic([scene(60, 100)], 1, (60, 100))
    itself = struct.pack(">HHH", 2, 1, 2)
    with pytest.raises(MediaError):
        decode_image(data.replace(b"dimg" + struct.pack(">HHH", 2, 1, 1), b"dimg" + itself))
