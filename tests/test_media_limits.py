"""Pictures and videos that say they are larger or longer than anything sensible, and files that name other files."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from naive_decoder import numbered, write_video

from vidperson.errors import MediaError
from vidperson.face.candidates import Candidates, SelectionPolicy
from vidperson.face.detector import DetectorPass, FaceDetector
from vidperson.face.pipeline import Task, find_faces
from vidperson.media.image import decode_image, image_size
from vidperson.media.limits import Limits
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling, probe
from vidperson.networks.card import load_card
from vidperson.types import Detections, Float, Frame

EVERY = UniformSampling(1000)


def saved(kind: str, width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    PIL.Image.new(mode, (width, height)).save(out, kind, **options)
    return out.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is so large."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    parts = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("JPEG", {"quality": 30}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"comment": b"\xff\xd8\xff\xc0 not a size"}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 50}),
        ("WEBP", {"quality": 50, "mode": "RGBA"}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_tiff": False, "mode": "I;16B"}),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (257, 130), (130, 257)])
def test_image_size_of_any_format_is_that_of_the_decoded_picture(
    kind: str, options: dict[str, object], width: int, height: int
) -> None:
    data = saved(kind, width, height, **options)
    assert image_size(data) == (width, height)
    assert decode_image(data)[0].shape[:2] == (height, width)


def test_image_size_behind_an_exif_thumbnail_is_that_of_the_picture() -> None:
    data = saved("JPEG", 300, 200)
    segment = b"Exif\0\0" + saved("JPEG", 30, 20)
    data = data[:2] + b"\xff\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]
    assert image_size(data) == (300, 200)
    upper = struct.pack("<IHHHH", 12, 40, 30, 1, 24)
    assert image_size(b"BM" + bytes(12) + upper) == (40, 30)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP", "TIFF"])
def test_image_size_of_a_header_cut_anywhere_is_none_or_right(kind: str) -> None:
    data = saved(kind, 257, 130)
    found = {image_size(data[:length]) for length in range(12, min(len(data), 800))}
    assert found <= {None, (257, 130)} and None in found


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (200_000, 501)])
def test_picture_that_says_it_is_huge_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(*size))
    with pytest.raises(MediaError, match=f"{size[0]} x {size[1]} pixels are more than max_pixels 100000000"):
        FrameReader(path, EVERY)
    path.write_bytes(png_of(*size)[:-30])
    with pytest.raises(MediaError, match="more than max_pixels"):
        FrameReader(path, EVERY)


def test_limit_counts_square_pixels_and_long_sides() -> None:
    limits = Limits(max_pixels=1000)
    limits.check_size(100, 10)
    limits.check_size(50, 10, Fraction(2))
    for size in ((101, 10), (51, 10, Fraction(2)), (51, 10, Fraction(1, 2))):
        with pytest.raises(MediaError, match="are more than max_pixels 1000"):
            limits.check_size(*size)
    Limits().check_size(32_766, 1)
    for size in ((32_767, 1), (1, 32_767), (16_384, 1, Fraction(2)), (1, 16_384, Fraction(1, 2))):
        with pytest.raises(MediaError, match="a side is longer than 32766"):
            Limits().check_size(*size)


def test_video_that_says_its_frames_are_huge_is_refused_without_taking_the_memory(repo: Path, tmp_path: Path) -> None:
    """16000 x 16000 is what libav itself still takes: 384 MB a frame, and more to convert it."""
    (tmp_path / "bomb.y4m").write_bytes(b"YUV4MPEG2 W16000 H16000 F25:1 C420jpeg\nFRAME\n" + bytes(10_000))
    code = (
        "import sys, resource\nfrom vidperson.media.video import FrameReader, UniformSampling\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    FrameReader(sys.argv[1], UniformSampling(1))\nexcept Exception as error:\n    print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb.y4m")], cwd=repo, capture_output=True, text=True, timeout=60
    )
    message, grown_mb = run.stdout.splitlines()
    assert message == "16000 x 16000 pixels are more than max_pixels 100000000"
    assert int(grown_mb) < 150


def test_video_whose_frames_grow_beyond_the_limit_keeps_those_before(tmp_path: Path) -> None:
    parts = []
    for k, (width, height) in enumerate([(320, 48), (640, 480)]):
        images = (numbered(i, width, height) for i in range(5))
        parts.append(write_video(tmp_path / f"{k}.h264", images, container_format="h264").read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    with FrameReader(tmp_path / "both.h264", EVERY, limits=Limits(max_pixels=100_000)) as reader:
        frames = list(reader)
    assert frames and {frame.image.shape[:2] for frame in frames} == {(48, 320)}
    assert reader.damage is not None and f"{len(frames)} of" in reader.damage


def test_video_that_says_it_lasts_for_weeks_is_refused(tmp_path: Path) -> None:
    stamps = [4 * 10**6 * number for number in range(26)]
    path = write_video(tmp_path / "v.mkv", (numbered(i) for i in range(26)), stamps=stamps)
    with pytest.raises(MediaError, match=r"1000\d\d s, as its header says, are more than max_duration_s 86400"):
        FrameReader(path, EVERY)
    with FrameReader(path, EVERY, limits=Limits(max_duration_s=2e6)) as reader:
        assert len(list(reader)) == 26


@pytest.mark.parametrize("sampling", [EVERY, UniformSampling(2), WindowSampling((0.5, 3.0), "seconds", 3)])
def test_video_that_goes_on_beyond_the_limit_ends_there_as_damaged(
    tmp_path: Path, sampling: UniformSampling | WindowSampling
) -> None:
    path = write_video(tmp_path / "v.h264", (numbered(i) for i in range(100)), container_format="h264")
    with FrameReader(path, sampling, limits=Limits(max_duration_s=1)) as reader:
        frames = list(reader)
    assert frames and max(frame.time_s for frame in frames) <= 1
    assert reader.damage is not None and reader.damage.endswith("it goes on beyond max_duration_s 1")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\n{0}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {0}\n",
        "\n#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\n{0}\n#EXT-X-ENDLIST\n",
    ],
)
def test_playlist_that_names_another_file_is_refused(tmp_path: Path, text: str) -> None:
    write_video(tmp_path / "secret.ts", (numbered(i) for i in range(30)), container_format="mpegts")
    path = tmp_path / "list.mp4"
    path.write_text(text.format("secret.ts"))
    for read in (lambda: FrameReader(path, EVERY), lambda: probe(path)):
        with pytest.raises(MediaError, match="this is an (HLS|ffconcat) list of other files, not a video or image"):
            read()


def test_picture_one_pixel_wide_and_very_high_takes_a_small_thumbnail() -> None:
    candidates = Candidates(SelectionPolicy())
    candidates.add(Frame(np.zeros((30_000, 1, 3), np.uint8), 0, 0.0), Detections.empty())
    thumbnail = candidates.select().thumbnail
    assert thumbnail is not None and thumbnail.shape == (1280, 1, 3)
    candidates.add(Frame(np.zeros((480, 640, 3), np.uint8), 0, 0.0), Detections.empty())
    candidates = Candidates(SelectionPolicy())
    candidates.add(Frame(np.zeros((480, 640, 3), np.uint8), 0, 0.0), Detections.empty())
    thumbnail = candidates.select().thumbnail
    assert thumbnail is not None and thumbnail.shape == (240, 320, 3)


class Everywhere(FaceDetector):
    """A detector that finds a face in the middle of every picture."""

    def __init__(self) -> None:
        super().__init__(lambda batch: [batch], load_card("retinaface_tiny"))

    def detections(self, seen: Sequence[tuple[DetectorPass, Sequence[Float]]], min_score: float) -> list[Detections]:
        results = []
        for height, width in seen[0][0].sizes:
            points = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]]) * (width, height)
            box = np.array([[0, 0, width, height]], np.float32)
            results.append(Detections(box, np.ones(1, np.float32), points[None].astype(np.float32)))
        return results

    def arrange(self, *arguments: object) -> Any:
        raise NotImplementedError

    boxes = landmarks = arrange


@pytest.mark.parametrize("size", [(32_766, 3), (3, 32_766), (1, 1), (5000, 5000)])
def test_faces_of_the_largest_pictures_are_cut_out_and_larger_ones_get_a_status(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    width, height = size
    path = tmp_path / "picture.png"
    picture = cv2.imencode(".png", np.full((height, width), 99, np.uint8))[1].tobytes()
    for data, expected in (
        (picture, "ok"),
        (png_of(width + 40_000, height), f"unreadable: {width + 40_000} x {height} pixels"),
    ):
        path.write_bytes(data)
        task = Task("s", str(path), UniformSampling(1))
        for _, status, faces in find_faces([task], Everywhere(), SelectionPolicy()):
            assert status.startswith(expected)
            assert len(faces.rows) == len(list(faces.crops)) == (expected == "ok")


def test_picture_file_beyond_all_sense_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bmp"
    path.write_bytes(b"BM" + bytes(100))
    with open(path, "r+b") as stream:
        stream.truncate(1 << 42)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MediaError, match="an image of more than 1 GiB"):
        FrameReader(path, EVERY)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
