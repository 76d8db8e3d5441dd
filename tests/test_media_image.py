"""Still pictures as one-frame videos."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from naive_decoder import numbered, write_video
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.media.image import decode_image
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling, probe

FORMATS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
}


def picture(height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    """A smooth picture without symmetries."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) * 255 // (width + 2 * height)], -1).astype(
        np.uint8
    )


def saved(kind: str, image: NDArray[np.uint8], orientation: int | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    if orientation is not None:
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    PIL.Image.fromarray(image).save(out, kind, **{**FORMATS.get(kind, {}), **options})
    return out.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_reader_still_picture_of_any_name_is_a_video_of_one_frame(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "portrait.mp4"
    path.write_bytes(saved(kind, picture()))
    for sampling in (UniformSampling(0.1), UniformSampling(30), WindowSampling((0,), "frames", 61)):
        with FrameReader(path, sampling) as reader:
            (frame,) = reader
        assert (frame.index, frame.time_s, reader.damage, reader.frames_decoded) == (0, 0.0, None, 1)
        assert frame.label == (0 if isinstance(sampling, WindowSampling) else -1)
        assert np.abs(frame.image.astype(int) - picture()).max() <= (6 if kind == "JPEG" else 0)
    assert probe(path).duration_s == 0.04


def test_reader_label_past_a_still_picture_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(saved("PNG", picture()))
    with FrameReader(path, WindowSampling((0.0, 7.0), "seconds", 5)) as reader:
        assert [f.label for f in reader] == [0]
    assert reader.labels_past_end == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    data = saved(kind, picture(), orientation)
    with PIL.Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(PIL.ImageOps.exif_transpose(image))
    shown, damage = decode_image(data)
    assert damage is None
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_image_any_png_mode_gives_rgb(mode: str) -> None:
    out = io.BytesIO()
    if mode == "I;16":
        PIL.Image.fromarray(picture()[..., 0].astype(np.uint16) * 257).save(out, "PNG")
    else:
        PIL.Image.fromarray(picture()).convert(mode).save(out, "PNG")
    shown, _ = decode_image(out.getvalue())
    assert (shown.shape, shown.dtype) == (picture().shape, np.uint8)
    assert shown.std() > 20


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_image_cut_short_gives_what_is_there(kind: str, mode: str) -> None:
    image = picture(400, 300)
    noisy = (image.astype(int) + np.random.default_rng(0).integers(-9, 9, image.shape)).clip(0, 255).astype(np.uint8)
    source = PIL.Image.fromarray(noisy)
    out = io.BytesIO()
    source.convert("L" if kind == "JPEG" and mode == "P" else mode).save(out, kind)
    data = out.getvalue()
    whole, _ = decode_image(data)
    part, damage = decode_image(data[: len(data) * 6 // 10])
    assert damage is not None
    assert "cut short" in damage
    assert part.shape == whole.shape
    assert np.array_equal(part[:180], whole[:180])
    assert not np.array_equal(part[-100:], whole[-100:])


def test_image_cut_short_behind_an_exif_thumbnail_is_damaged() -> None:
    thumbnail = saved("JPEG", picture(30, 40))
    segment = b"Exif\0\0" + thumbnail
    data = saved("JPEG", picture(400, 300))
    data = data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]
    assert decode_image(data)[1] is None
    assert decode_image(data[: len(data) - len(data) // 3])[1] is not None


@pytest.mark.parametrize("kind", FORMATS)
def test_image_cut_anywhere_never_fails_otherwise(kind: str) -> None:
    data = saved(kind, picture())
    for length in [*range(1, 60), *range(60, len(data), len(data) // 25)]:
        try:
            image, damage = decode_image(data[:length])
        except MediaError:
            continue
        assert image.shape == picture().shape
        assert damage is not None or length > len(data) // 2


def test_image_that_promises_too_many_pixels_is_refused() -> None:
    data = bytearray(saved("BMP", picture()))
    data[18:26] = (2**30).to_bytes(4, "little") * 2
    with pytest.raises(MediaError, match="1073741824 x 1073741824 pixels are more than max_pixels 100000000"):
        decode_image(bytes(data))


def test_image_gray_written_by_opencv_gives_equal_channels() -> None:
    data = cv2.imencode(".png", picture()[..., 0])[1].tobytes()
    shown, _ = decode_image(data)
    assert np.array_equal(shown, np.repeat(picture()[..., :1], 3, axis=2))


def detailed(height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    """The smooth picture with noise on it, so that its code has no idle stretches."""
    noise = np.random.default_rng(0).integers(-20, 20, (height, width, 3))
    return (picture(height, width).astype(int) + noise).clip(0, 255).astype(np.uint8)


def begin_of_scan(data: bytes) -> int:
    return data.index(b"\xff\xda") + 14


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_image_jpeg_whose_code_ends_inside_is_damaged(options: dict[str, object], share: float) -> None:
    """Its end marker is there, but the data before it are not: libjpeg shows grey and says nothing."""
    data = saved("JPEG", detailed(), **({"subsampling": 2} | options))
    begin = begin_of_scan(data)
    at = begin + int((len(data) - 2 - begin) * share)
    assert decode_image(data)[1] is None
    shown, damage = decode_image(data[:at] + b"\xff\xd9")
    assert damage == "a part of the JPEG image is lost"
    assert shown.shape == (240, 320, 3)


def test_image_jpeg_with_a_stretch_of_noise_inside_is_mostly_damaged() -> None:
    """Codes that stay valid cannot be told from healthy ones."""
    data, rng = saved("JPEG", detailed(), subsampling=2), np.random.default_rng(0)
    begin = begin_of_scan(data)
    found = 0
    for _ in range(40):
        at = int(rng.integers(begin, len(data) - 600))
        found += decode_image(data[:at] + rng.bytes(500) + data[at + 500 :])[1] is not None
    assert found >= 36


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"quality": 1}, {"quality": 100}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_image_healthy_jpeg_of_any_kind_and_size_is_not_damaged(mode: str, options: dict[str, object]) -> None:
    for width, height in ((1, 1), (7, 2), (8, 16), (17, 9), (33, 70)):
        out = io.BytesIO()
        PIL.Image.fromarray(detailed(height, width)).convert(mode).save(out, "JPEG", **options)
        assert decode_image(out.getvalue())[1] is None


@pytest.mark.parametrize("note", [b"Exif\0\0MM\0*\xff\xff", b"AVI1\1", b"Exif\0\0" + b"\xff\xd8\xff\xd9" * 9, b""])
def test_image_jpeg_with_odd_notes_in_its_header_is_not_damaged(note: bytes) -> None:
    data = saved("JPEG", picture())
    for marker in (b"\xff\xe0", b"\xff\xe1", b"\xff\xfe"):
        noted = data[:2] + marker + (len(note) + 2).to_bytes(2, "big") + note + data[2:]
        assert decode_image(noted)[1] is None


def test_image_all_jpegs_of_a_corpus_of_photos_are_whole(shared: Path) -> None:
    paths = sorted((shared / "data" / "photos" / "deepface_pairs").glob("*.jpg"))
    assert len(paths) > 50
    assert [path.name for path in paths if decode_image(path.read_bytes())[1]] == []


def test_reader_motion_photo_is_read_as_its_still(tmp_path: Path) -> None:
    """Phones append a film to a JPEG. A still that is cut short is damaged all the same."""
    still = saved("JPEG", detailed())
    film = write_video(tmp_path / "film.mp4", (numbered(i) for i in range(5))).read_bytes()
    for name, data in (("MVIMG_1.jpg", still + film), ("x.MP.jpg", still + bytes(99) + film + b"MotionPhoto_Data")):
        (tmp_path / name).write_bytes(data)
        with FrameReader(tmp_path / name, UniformSampling(25)) as reader:
            (frame,) = reader
        assert reader.damage is None
        assert np.array_equal(frame.image, decode_image(still)[0])
    shortened = still[: len(still) // 2] + b"\xff\xd9" + film
    assert decode_image(shortened)[1] == "a part of the JPEG image is lost"
