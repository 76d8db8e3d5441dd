"""The frame reader on videos made here."""

from __future__ import annotations

import gc
import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Disposition
from naive_decoder import decode_all, numbered, pick_constant, pick_windows, read_number, write_video
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling, probe
from vidperson.types import Frame

EVERY = UniformSampling(1000)
Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def read(path: Path | str, sampling: UniformSampling | WindowSampling = EVERY, threads: int = 1) -> list[Frame]:
    with FrameReader(path, sampling, threads) as reader:
        return list(reader)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 numbered frames, H.264 with B-frames, a key frame every 12, index in front."""
    path = tmp_path_factory.mktemp("video") / "talk.mp4"
    return write_video(
        path,
        (numbered(i) for i in range(100)),
        options={"bf": "2"},
        container_options={"movflags": "faststart"},
    )


@pytest.mark.parametrize("fps", [0.3, 1, 2, 7, 10, 12.5, 24, 25, 26])
def test_reader_sampling_b_frames_gives_the_frames_of_the_formula(talk: Path, fps: float) -> None:
    frames = read(talk, UniformSampling(fps))
    assert [f.index for f in frames] == pick_constant(100, Fraction(25), fps)
    assert [read_number(f.image) for f in frames] == [f.index for f in frames]
    assert [f.time_s for f in frames] == pytest.approx([f.index / 25 for f in frames])
    assert {f.label for f in frames} == {-1}


def test_reader_windows_give_labelled_frames_and_count_labels_past_the_end(talk: Path) -> None:
    with FrameReader(talk, WindowSampling((3.0, 0.2, 4.01, 0.4), "seconds", 9)) as reader:
        frames = list(reader)
    assert [(f.index, f.label) for f in frames] == pick_windows(100, [75, 5, 100, 10], 9)
    assert [read_number(f.image) for f in frames] == [f.index for f in frames]
    assert (reader.labels_past_end, reader.damage) == (1, None)


def test_reader_windows_in_the_beginning_stop_decoding_there(talk: Path) -> None:
    with FrameReader(talk, WindowSampling((10,), "frames", 5)) as reader:
        assert [f.index for f in reader] == [8, 9, 10, 11, 12]
    assert reader.frames_decoded < 30
    assert reader.damage is None


def test_reader_two_threads_give_the_same_frames(talk: Path) -> None:
    one, two = read(talk), read(talk, threads=2)
    assert len(one) == len(two) == 100
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "container_format"),
    [
        ("a.avi", "libx264", "yuv420p", None),
        ("a.avi", "mpeg4", "yuv420p", None),
        ("a.mkv", "libx264", "yuv444p", None),
        ("a.flv", "libx264", "yuv420p", None),
        ("a.ts", "libx264", "yuv420p", "mpegts"),
        ("a.h264", "libx264", "yuv420p", "h264"),
        ("a.m2v", "mpeg2video", "yuv420p", "mpeg2video"),
        ("a.mpg", "mpeg1video", "yuv420p", None),
        ("a.mov", "mjpeg", "yuvj420p", None),
        ("a.webm", "libvpx-vp9", "yuv420p", None),
    ],
)
def test_reader_any_container_gives_all_frames_in_order(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, container_format: str | None
) -> None:
    path = write_video(
        tmp_path / name,
        (numbered(i) for i in range(30)),
        codec=codec,
        pix_fmt=pix_fmt,
        options={} if codec in ("mjpeg", "libvpx-vp9") else {"bf": "2"},
        container_format=container_format,
    )
    with FrameReader(path, UniformSampling(5)) as reader:
        assert [read_number(f.image) for f in reader] == [0, 5, 10, 15, 20, 25]
    assert reader.damage is None
    no_times = name.endswith((".avi", ".h264"))  # of packets: every frame has to be decoded
    assert reader.frames_decoded == 30 if no_times else 6 <= reader.frames_decoded < 30


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mkv", "mjpeg", "yuvj422p"),
        ("a.mov", "prores_ks", "yuv422p10le"),
        ("a.avi", "huffyuv", "yuv422p"),
        ("a.nut", "rawvideo", "yuv420p"),
    ],
)
def test_reader_frames_that_need_no_others_decodes_the_wanted_ones_only_and_gives_those_of_the_naive_decoder(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, threads: int
) -> None:
    path = write_video(tmp_path / name, (numbered(i) for i in range(60)), codec, pix_fmt)
    times, frames, rate = decode_all(path)
    assert len(frames) == 60
    wanted = pick_constant(60, rate, 3)
    for sampling, indices in (
        (UniformSampling(3), wanted),
        (WindowSampling((0.4, 1.6), "seconds", 5), [8, 9, 10, 11, 12, 38, 39, 40, 41, 42]),
    ):
        with FrameReader(path, sampling, threads) as reader:
            found = list(reader)
        assert [frame.index for frame in found] == indices == [read_number(frame.image) for frame in found]
        assert [frame.time_s for frame in found] == pytest.approx([float(times[index]) for index in indices])
        assert reader.damage is None and reader.frames_decoded <= len(indices) + 1  # and the first, that there is one
    every = read(path, EVERY, threads)
    assert all(np.array_equal(frame.image, every[frame.index].image) for frame in found) and len(every) == 60


def test_reader_broken_frames_that_no_other_needs_cost_only_themselves(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", (numbered(i) for i in range(60)), "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    for number in (0, 10, 33):
        hit = packets(path)[number]
        begin = data.index(b"\xff\xd8", hit.pos)  # of the JPEG, behind the chunk's header
        data[begin : begin + hit.size] = bytes(hit.size)
    broken = tmp_path / "broken.avi"
    broken.write_bytes(data)
    sound = {frame.index: frame.image for frame in read(path)}
    for fps, lost in ((25, {0, 10, 33}), (2.5, {0, 10}), (5, {0, 10})):
        with FrameReader(broken, UniformSampling(fps)) as reader:
            found = list(reader)
        assert [frame.index for frame in found] == sorted(set(pick_constant(60, Fraction(25), fps)) - lost)
        assert all(np.array_equal(frame.image, sound[frame.index]) for frame in found)
        assert reader.damage == f"{60 - len(lost)} of 60 frames decoded, the first loss is at 0.00 s"


def test_reader_variable_rate_gives_the_frames_nearest_in_time(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 120, 160, 600, 1040, 1480, 1920, 1960, 2000, 2040, 3000]
    path = write_video(tmp_path / "v.mp4", (numbered(i) for i in range(len(stamps))), stamps=stamps)
    frames = read(path, UniformSampling(2))
    assert [read_number(f.image) for f in frames] == [0, 5, 6, 7, 10, 11, 12]
    windows = read(path, WindowSampling((1.1, 2.9), "seconds", 3))
    assert [(f.index, f.label) for f in windows] == [(5, 0), (6, 0), (7, 0), (11, 1), (12, 1)]


def test_reader_variable_rate_hidden_by_the_header_takes_the_frames_own_times(tmp_path: Path) -> None:
    stamps = [40 * i for i in range(50)] + [2000 + 200 * i for i in range(30)]
    path = write_video(tmp_path / "v.mkv", (numbered(i) for i in range(80)), stamps=stamps)
    frames = read(path, UniformSampling(1))
    assert [read_number(f.image) for f in frames] == [0, 25, 50, 55, 60, 65, 70, 75]


def test_reader_times_that_start_anew_go_on(tmp_path: Path) -> None:
    parts = [
        write_video(
            tmp_path / f"{k}.ts",
            (numbered(50 * k + i) for i in range(50)),
            "mpeg2video",
            container_format="mpegts",
        )
        for k in range(2)
    ]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    numbers = [read_number(f.image) for f in read(both, UniformSampling(5))]
    assert len([n for n in numbers if n >= 50]) == pytest.approx(10, abs=1)


def test_reader_frame_size_that_changes_gives_every_frame_its_own_size(tmp_path: Path) -> None:
    sizes = [(48, 320), (96, 352)]
    parts = []
    for k, (height, width) in enumerate(sizes):
        images = (numbered(i, width, height) for i in range(5))
        parts.append(write_video(tmp_path / f"{k}.h264", images, container_format="h264"))
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [f.image.shape[:2] for f in read(both)] == [sizes[0]] * 5 + [sizes[1]] * 5


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
        ((0, 0, 0, 0), lambda x: x),
    ],
)
def test_reader_display_matrix_turns_and_mirrors(tmp_path: Path, matrix: tuple[int, ...], turn: Turn) -> None:
    image = np.full((64, 96, 3), 60, np.uint8)
    image[:16, :32] = (250, 40, 40)
    image[-16:, :32] = (40, 250, 40)
    one = 1 << 16
    a, b, c, d = (value * one for value in matrix)
    plain = write_video(tmp_path / "plain.mov", [image])
    turned = write_video(tmp_path / "turned.mov", [image], matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    assert np.array_equal(read(turned)[0].image, turn(read(plain)[0].image))


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [
        (Fraction(2), (48, 640)),
        (Fraction(1, 2), (96, 320)),
        (Fraction(16, 11), (48, 465)),
        (Fraction(100), (48, 320)),
    ],
)
def test_reader_pixels_that_are_not_square_are_stretched(
    tmp_path: Path, aspect: Fraction, shape: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(5)], aspect=aspect)
    assert read(path)[0].image.shape[:2] == shape


def test_reader_pixels_are_stretched_before_the_turn(tmp_path: Path) -> None:
    one = 1 << 16
    path = write_video(
        tmp_path / "a.mov", [numbered(5)], aspect=Fraction(2), matrix=(0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    )
    assert read(path)[0].image.shape == (640, 48, 3)


def combing(image: NDArray[np.uint8]) -> float:
    """Mean step to the next line over the mean step to the one after: above 1 where two fields are woven."""
    lines = image.astype(float)
    near = np.abs(lines[1:-1] - lines[:-2]).mean()
    return float(near / (np.abs(lines[2:] - lines[:-2]).mean() + 1e-6))


def test_reader_interlaced_video_shows_no_combing(tmp_path: Path) -> None:
    images = []
    for i in range(8):
        image = np.full((96, 160, 3), 40, np.uint8)
        for field in range(2):
            at = 10 + 12 * i + 6 * field
            image[20 + field : 76 : 2, at : at + 30] = (220, 60, 60)
        images.append(image)
    path = write_video(
        tmp_path / "i.mpg", images, "mpeg2video", options={"flags": "+ilme+ildct", "qmin": "2", "qmax": "2"}
    )
    with av.open(str(path)) as container:
        woven = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for frame, raw in zip(read(path), woven, strict=True):
        assert combing(raw) > 2
        assert combing(frame.image) < 1
        assert frame.image.shape == raw.shape


@pytest.mark.parametrize("colour", [(1, 1), (1, 2), (5, 1), (5, 2), (6, 1)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_reader_flagged_colour_comes_back(tmp_path: Path, colour: tuple[int, int], pix_fmt: str) -> None:
    patches = [(200, 30, 40), (20, 180, 60), (40, 50, 210), (230, 200, 20), (235, 235, 235), (16, 16, 16)]
    image = np.concatenate([np.full((64, 64, 3), patch, np.uint8) for patch in patches], axis=1)
    path = write_video(tmp_path / "c.mp4", [image], pix_fmt=pix_fmt, options={"crf": "1"}, colour=colour)
    shown = read(path)[0].image[32, 32::64]
    assert np.abs(shown.astype(int) - patches).max() <= 4


@pytest.mark.parametrize(("height", "matrix"), [(576, "ITU601"), (720, "ITU709")])
def test_reader_colour_that_is_not_flagged_depends_on_the_height(tmp_path: Path, height: int, matrix: str) -> None:
    colour = (20, 180, 60)
    frame = av.VideoFrame.from_ndarray(np.full((height, 64, 3), colour, np.uint8), format="rgb24")
    path = tmp_path / "u.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        yuv = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=1)
        yuv.colorspace, yuv.color_range = 2, 0
        container.mux(stream.encode(yuv))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == 2
    assert np.abs(read(path)[0].image[height // 2, 32].astype(int) - colour).max() <= 4


@pytest.mark.parametrize("size", [(33, 321), (35, 323), (1, 320), (2, 2)])
def test_reader_odd_frame_sizes_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    path = write_video(tmp_path / "o.mkv", [image], pix_fmt="yuv444p")
    (frame,) = read(path)
    assert frame.image.shape == image.shape
    assert np.abs(frame.image.astype(int) - 90).max() <= 4


@pytest.mark.parametrize(
    "name",
    [
        "two words.mp4",
        'it\'s "quoted".mp4',
        "é名.mp4",
        "line\nbreak.mp4",
        "http:a|b?c#d%d.mp4",
        b"\xff\xfe.mp4",
    ],
)
def test_reader_any_file_name_is_read(talk: Path, tmp_path: Path, name: str | bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(talk.read_bytes())
    assert len(read(path, UniformSampling(1))) == 4
    assert probe(path).duration_s == pytest.approx(4)


def packets(path: Path) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def test_reader_broken_packet_loses_the_frames_up_to_the_next_key_frame(talk: Path, tmp_path: Path) -> None:
    data = bytearray(talk.read_bytes())
    hit = packets(talk)[39]
    assert hit.pos is not None
    data[hit.pos : hit.pos + hit.size] = b"\xff" * hit.size
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    with FrameReader(broken, EVERY) as reader:
        frames = list(reader)
    kept = [f.index for f in frames]
    assert [read_number(f.image) for f in frames] == kept
    assert set(range(36)) <= set(kept)
    assert set(range(48, 100)) <= set(kept)
    assert 0 < 100 - len(kept) <= 12
    assert reader.damage is not None
    assert reader.damage.startswith(f"{len(kept)} of 100 frames decoded, the first loss is at 1.")
    assert reader.frames_decoded == len(kept)


def test_reader_broken_packet_keeps_sampling_on_the_formula(talk: Path, tmp_path: Path) -> None:
    data = bytearray(talk.read_bytes())
    hit = packets(talk)[25]
    assert hit.pos is not None
    data[hit.pos : hit.pos + hit.size] = b"\xff" * hit.size
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    got = [read_number(f.image) for f in read(broken, UniformSampling(5))]
    assert set(got) < set(pick_constant(100, Fraction(25), 5))
    assert got[-5:] == [75, 80, 85, 90, 95]


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.webm", "cut.avi", "cut.flv"])
def test_reader_file_that_ends_early_is_damaged(talk: Path, tmp_path: Path, name: str) -> None:
    whole = talk
    if name != "cut.mp4":
        whole = write_video(
            tmp_path / f"whole{Path(name).suffix}",
            (numbered(i) for i in range(100)),
            codec="libvpx" if name.endswith("webm") else "libx264",
            options={"cluster_time_limit": "500"} if name.endswith("mkv") else {},
            container_options={"cluster_time_limit": "400"} if name.endswith(("mkv", "webm")) else {},
        )
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with FrameReader(path, UniformSampling(5)) as reader:
        frames = list(reader)
    assert [read_number(f.image) for f in frames] == [f.index for f in frames]
    assert 3 <= len(frames) < 20
    assert reader.damage is not None
    assert "ends early" in reader.damage or "loss" in reader.damage


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\0", "not a media file"),
        (b"\0" * 5000, "not a media file"),
        (b"hello world\n", "this is a text file, not a video or image"),
        (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
            "this is an HLS list of other files, not a video or image",
        ),
        (bytes(range(256)) * 80, "not a media file"),
        (b"BM not a bitmap", "BMP"),
    ],
)
def test_reader_file_that_is_no_video_gives_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=reason) as error:
        FrameReader(path, EVERY)
    assert str(tmp_path) not in str(error.value)


def test_reader_path_that_is_no_file_gives_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [
        (tmp_path / "none", "no such file"),
        (tmp_path, "a folder without an image"),
        (tmp_path / "pipe", "regular"),
    ]:
        with pytest.raises(MediaError, match=reason):
            FrameReader(path, EVERY)
        with pytest.raises(MediaError, match=reason):
            probe(path)
    with pytest.raises(MediaError, match="name"):
        FrameReader("a\0b", EVERY)


def test_reader_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for function in (probe, lambda path: FrameReader(path, EVERY)):
        with pytest.raises(MediaError, match="no video stream"):
            function(path)


def test_reader_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(1), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
        container.mux(cover.encode())
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(MediaError, match="no video stream"):
        FrameReader(path, EVERY)


def test_reader_file_cut_or_scrambled_anywhere_never_fails_otherwise(talk: Path, tmp_path: Path) -> None:
    whole = talk.read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "x.mp4"
    outcomes = set()
    for trial in range(60):
        data = bytearray(whole)
        if trial % 2:
            data = data[: rng.integers(1, len(data))]
        else:
            begin = 0 if trial % 4 else 5000
            for at in rng.integers(begin, len(data), 20):
                data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            with FrameReader(path, UniformSampling(2)) as reader:
                for _ in reader:
                    pass
            outcomes.add("sound" if reader.damage is None else "damaged")
        except MediaError:
            outcomes.add("unreadable")
    assert {"damaged", "unreadable"} <= outcomes


MEMORY = """
import resource, sys
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling
for sampling in (UniformSampling(1000), WindowSampling((1.0, 30.0, 90.0), "seconds", 61)):
    with FrameReader(sys.argv[1], sampling) as reader:
        n = sum(1 for _ in reader)
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def read_without_collection(path: Path) -> tuple[int, int]:
    """How many frames a reader gives, and how many pictures live when it has given them all."""
    gc.collect()
    gc.disable()
    try:
        with FrameReader(path, EVERY) as reader:
            frames = sum(1 for _ in reader)
            return frames, sum(isinstance(item, av.VideoFrame) for item in gc.get_objects())
    finally:
        gc.enable()


def test_reader_lets_go_of_each_picture_without_the_garbage_collector(talk: Path) -> None:
    """A cycle through PyAV's side data would keep every sampled picture until a collection."""
    frames, kept = read_without_collection(talk)
    assert frames == 100
    assert kept <= 5


def test_reader_long_video_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.mov", [numbered(i, 320, 240) for i in range(50)], "mjpeg", "yuvj420p")
    peaks = []
    for repeats in (3, 60):
        path = tmp_path / f"{repeats}.mkv"
        with av.open(str(source)) as container, av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(container.streams.video[0])
            data = [bytes(packet) for packet in container.demux(video=0) if packet.size]
            for i in range(repeats * len(data)):
                packet = av.Packet(data[i % len(data)])
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = i
                packet.duration, packet.is_keyframe = 1, True
                target.mux(packet)
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True, timeout=120
        )
        peaks.append(int(run.stdout.split()[1]) / 1024)
    assert peaks[1] - peaks[0] < 25  # MB; the long video holds 350 MB of pictures


def test_probe_header_without_duration_is_guessed_from_the_size(talk: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.h264", (numbered(i) for i in range(20)), container_format="h264")
    assert 0 < probe(path).duration_s < 60


def test_media_modules_print_nothing_about_damage(talk: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(talk.read_bytes()[: talk.stat().st_size * 2 // 3])
    code = (
        "import sys\nfrom vidperson.media.video import FrameReader, UniformSampling\n"
        "r = FrameReader(sys.argv[1], UniformSampling(5))\nlist(r)\nassert r.damage"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def with_exif(path: Path, orientation: int) -> Path:
    """An MJPEG film of 5 frames as old cameras made them: each is a JPEG file with its own EXIF."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 48, "yuvj420p"
        for i in range(5):
            out, exif = io.BytesIO(), PIL.Image.Exif()
            exif[0x010F], exif[0x0112] = "Camera", orientation
            PIL.Image.fromarray(numbered(i)).save(out, "JPEG", exif=exif)
            packet = av.Packet(out.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = i
            container.mux(packet)
    return path


def kinds_of_side_data(path: Path) -> set[int]:
    with av.open(str(path)) as container:
        return {item.type.value for frame in container.decode(video=0) for item in SideDataContainer(frame)}  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [28, 29, 30, 31, 1000])  # in FFmpeg 8: LCEVC, two of spatial video (MV-HEVC), EXIF
def test_side_data_without_a_name_in_pyav_have_their_number(kind: int) -> None:
    assert Type(kind).value == kind
    assert Type(6) is Type.DISPLAYMATRIX


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reader_exif_in_the_frames_of_a_film_turns_them(tmp_path: Path, orientation: int) -> None:
    path = with_exif(tmp_path / "camera.avi", orientation)
    assert max(kinds_of_side_data(path)) > 27
    with FrameReader(path, EVERY) as reader:
        frames = list(reader)
    assert reader.damage is None and len(frames) == 5
    for i, frame in enumerate(frames):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        out = io.BytesIO()
        PIL.Image.fromarray(numbered(i)).save(out, "JPEG", exif=exif)
        with PIL.Image.open(out) as image:
            expected = np.asarray(PIL.ImageOps.exif_transpose(image))
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 3


def test_reader_lets_go_of_pictures_with_side_data_of_new_kinds(tmp_path: Path) -> None:
    path = with_exif(tmp_path / "camera.avi", 6)
    frames, kept = read_without_collection(path)
    assert frames == 5
    assert kept <= 2


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "yuv420p"])
def test_reader_grey_of_limited_range_is_stretched_as_that_of_colour_is(tmp_path: Path, pix_fmt: str) -> None:
    levels = [0, 40, 128, 200, 255]
    image = np.repeat(np.repeat(np.array(levels, np.uint8), 64)[None, :, None], 64, axis=0).repeat(3, axis=2)
    path = write_video(tmp_path / "g.mkv", [image], pix_fmt="yuv420p", options={"crf": "1"}, colour=(6, 1))
    limited = read(path)[0].image[32, 32::64]
    with av.open(str(path)) as container, av.open(str(tmp_path / "grey.mkv"), "w") as target:
        stream = target.add_stream("ffv1" if pix_fmt != "gray10le" else "libx265", rate=25)
        stream.options = {"x265-params": "lossless=1:log-level=none:bframes=0"}
        stream.width, stream.height, stream.pix_fmt = 320, 64, pix_fmt
        stream.codec_context.color_range = 1
        for frame in container.decode(video=0):
            luma = frame.to_ndarray()[:64]
            grey = av.VideoFrame.from_ndarray(luma, format="gray")
            if pix_fmt == "gray10le":
                grey = av.VideoFrame.from_ndarray(luma.astype(np.uint16) * 4, format="gray10le")
            if pix_fmt == "yuv420p":
                grey = frame
            grey.pts, grey.color_range = 0, 1
            target.mux(stream.encode(grey))
        target.mux(stream.encode())
    shown = read(tmp_path / "grey.mkv")[0].image[32, 32::64]
    assert np.abs(limited.astype(int)[:, 0] - levels).max() <= 3
    assert np.abs(shown.astype(int) - limited).max() <= 2


def written_late(path: Path, codec: str, start_s: int, container_format: str | None = None) -> Path:
    """100 numbered frames, the first one at start_s."""
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 48, "yuv420p"
        stream.codec_context.gop_size = 12
        for i in range(100):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i + 25 * start_s, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.flv", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.asf", "msmpeg4"),
        ("a.nut", "libx264"),
        ("a.mp4", "libx264"),
        ("a.ts", "libx264"),
        ("a.wtv", "mpeg2video"),
    ],
)
def test_reader_whole_file_whose_times_start_late_is_not_damaged(tmp_path: Path, name: str, codec: str) -> None:
    path = written_late(tmp_path / name, codec, 100)
    with FrameReader(path, UniformSampling(5)) as reader:
        frames = list(reader)
    assert [read_number(f.image) for f in frames] == list(range(0, 100, 5))
    assert [f.time_s for f in frames] == pytest.approx([i / 5 for i in range(20)], abs=0.005)
    assert reader.damage is None


@pytest.mark.parametrize("from_zero", [True, False])
def test_reader_flv_that_starts_late_is_damaged_only_if_cut_short(tmp_path: Path, from_zero: bool) -> None:
    """Some programs count its duration from zero (live recordings), others from its first frame."""
    path = written_late(tmp_path / "a.flv", "libx264", 2)
    data = bytearray(path.read_bytes())
    at = data.index(b"duration\0") + 9
    (duration,) = struct.unpack_from(">d", data, at)
    assert duration == pytest.approx(4.08, abs=0.1)
    struct.pack_into(">d", data, at, duration + 2 * from_zero)
    for length, whole in ((len(data), True), (len(data) // 3, False)):
        path.write_bytes(data[:length])
        with FrameReader(path, UniformSampling(5)) as reader:
            frames = list(reader)
        assert [read_number(f.image) for f in frames] == list(range(0, 100, 5))[: len(frames)]
        assert (len(frames) == 20 and reader.damage is None) is whole
        assert whole or "ends early" in str(reader.damage)


def with_edits(source: Path, path: Path, edits: list[tuple[int, int]]) -> Path:
    """A copy of an MP4 file with another edit list: (milliseconds, first time in units of the track, -1: nothing)."""
    data = bytearray(source.read_bytes())
    at = data.index(b"elst") - 4
    entries = b"".join(struct.pack(">Iihh", length, begin, 1, 0) for length, begin in edits)
    box = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    grown = len(box) - int.from_bytes(data[at : at + 4], "big")
    data[at : at + int.from_bytes(data[at : at + 4], "big")] = box
    for kind in (b"moov", b"trak", b"edts"):  # the header stands behind the frames, so none of these moves
        place = data.index(kind) - 4
        data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + grown).to_bytes(4, "big")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("libx264", "yuv420p", {"bf": "2"}),
        ("libx264", "yuv420p", {"bf": "2", "x264-params": "open-gop=1"}),
        ("libx265", "yuv420p", {"x265-params": "log-level=none"}),
        ("mpeg4", "yuv420p", {}),
        ("mjpeg", "yuvj420p", {}),
        ("prores_ks", "yuv422p10le", {}),
    ],
)
def test_reader_edit_list_that_cuts_or_delays_gives_what_is_shown(
    tmp_path: Path, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    source = write_video(tmp_path / "s.mov", map(numbered, range(50)), codec, pix_fmt, options=options)
    data = source.read_bytes()
    (first,) = struct.unpack_from(">i", data, data.index(b"elst") + 16)
    step = 512  # units of a frame
    for edits, shown in (
        ([(1320, first + 17 * step)], range(17, 50)),  # the start is cut, amid a group of pictures
        ([(1000, first)], range(25)),
        ([(40, first + 5 * step)], [5]),
        ([(500, -1), (2000, first)], range(50)),
    ):
        path = with_edits(source, tmp_path / "e.mov", edits)
        with FrameReader(path, EVERY) as reader:
            frames = list(reader)
        assert [read_number(f.image) for f in frames] == list(shown)
        assert [f.time_s for f in frames] == pytest.approx([i / 25 for i in range(len(shown))])
        assert reader.damage is None


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "2"}),
        ("libx264", {"bf": "2", "x264-params": "open-gop=1"}),
        ("libx265", {"x265-params": "log-level=none:open-gop=1"}),
        ("mpeg4", {"bf": "2"}),
        ("libvpx-vp9", {}),
    ],
)
@pytest.mark.parametrize("behind", [0, 3])
def test_reader_film_cut_before_a_key_frame_begins_with_it(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], behind: int
) -> None:
    """Tools that cut without coding anew leave frames in front. These need others that are gone."""
    source = write_video(tmp_path / "s.mkv", map(numbered, range(60)), codec, options=options)
    with av.open(str(source)) as container, av.open(str(tmp_path / name), "w") as target:
        stream = target.add_stream_from_template(container.streams.video[0])
        found = [packet for packet in container.demux(video=0) if packet.size]
        begin = [i for i, packet in enumerate(found) if packet.is_keyframe][1] + behind
        zero = min(packet.pts or 0 for packet in found[begin:])
        for packet in found[begin:]:
            packet.stream, packet.pts, packet.dts = stream, (packet.pts or 0) - zero, (packet.dts or 0) - zero
            target.mux(packet)
    with FrameReader(tmp_path / name, EVERY) as reader:
        frames = list(reader)
    assert [read_number(f.image) for f in frames] == list(range(24 if behind else 12, 60))
    assert [f.time_s for f in frames] == pytest.approx([i / 25 for i in range(len(frames))], abs=0.002)
    assert reader.damage is None
