"""Frames that no wanted one needs are not decoded; what is given is what decoding everything gives."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from naive_decoder import decode_all, numbered, pick_constant, pick_windows, read_number, write_video

from vidperson.media import plan, video
from vidperson.media.decoder import Decoder
from vidperson.media.packets import Kind, kind_reader
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling
from vidperson.types import Frame

COUNT = 90
X264 = {"bf": "3", "x264-params": "scenecut=0"}
HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}
FILES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    # name: codec, file, arguments of write_video, of 90 frames those that 1 frame a second takes to decode
    "h264": ("libx264", "a.mp4", {"options": X264, "gop": 250}, 41),
    "h264 with short groups": ("libx264", "a.mkv", {"options": X264, "gop": 20}, 24),
    "h264 with open groups": ("libx264", "a.mp4", {"options": {"bf": "3", "x264-params": "open-gop=1"}, "gop": 20}, 24),
    "h264 without B-frames": ("libx264", "a.mov", {"options": {"bf": "0"}, "gop": 20}, 34),
    "h264 in a stream": ("libx264", "a.ts", {"options": X264, "gop": 20, "container_format": "mpegts"}, 24),
    "h264 with slices": ("libx264", "a.mp4", {"options": {"bf": "3", "x264-params": "slices=4"}, "gop": 20}, 24),
    "hevc": ("libx265", "a.mp4", {"options": {"x265-params": "log-level=none"}, "gop": 20}, 13),
    "hevc with sub-layers": (
        "libx265", "a.mp4", {"options": {"x265-params": "log-level=none:temporal-layers=3"}, "gop": 20}, 24,
    ),
    "hevc in a stream": (
        "libx265", "a.ts", {"options": {"x265-params": "log-level=none"}, "gop": 20, "container_format": "mpegts"}, 13,
    ),
    "mpeg4": ("mpeg4", "a.mp4", {"options": {"bf": "2"}, "gop": 20}, 12),
    "mpeg2": ("mpeg2video", "a.ts", {"options": {"bf": "2"}, "gop": 15, "container_format": "mpegts"}, 12),
    "mpeg1": ("mpeg1video", "a.mpg", {"options": {"bf": "2"}, "gop": 15}, 12),
    "vp8 with hidden frames": (
        "libvpx", "a.webm", {"options": HIDDEN, "gop": 20}, 34,
    ),
    "vp9 with hidden frames": (
        "libvpx-vp9", "a.webm", {"options": HIDDEN, "gop": 20}, 34,
    ),
    "av1": ("libsvtav1", "a.mkv", {"options": {"preset": "12", "svtav1-params": "keyint=20"}}, 34),
}  # fmt: skip


@pytest.fixture(scope="module", params=FILES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    codec, name, arguments, most = FILES[request.param]
    path = tmp_path_factory.mktemp("plan") / name
    return write_video(path, (numbered(i) for i in range(COUNT)), codec, **arguments), most


@pytest.fixture
def planned_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not go as its packets tell is not decoded in full, the test fails."""
    monkeypatch.setattr(video, "Surprise", ())


def read(path: Path, sampling: UniformSampling | WindowSampling, threads: int = 1) -> tuple[list[Frame], FrameReader]:
    with FrameReader(path, sampling, threads) as reader:
        return list(reader), reader


def in_full(path: Path, sampling: UniformSampling | WindowSampling) -> tuple[list[Frame], FrameReader]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "PlannedDecoder", Decoder)
        return read(path, sampling)


def same(found: list[Frame], expected: list[Frame]) -> bool:
    keys = [[(frame.index, frame.time_s, frame.label) for frame in frames] for frames in (found, expected)]
    return keys[0] == keys[1] and all(np.array_equal(a.image, b.image) for a, b in zip(found, expected, strict=True))


@pytest.mark.usefixtures("planned_only")
def test_frames_given_are_those_of_a_decoder_that_leaves_none_out(made: tuple[Path, int]) -> None:
    path, most = made
    times, frames, rate = decode_all(path)
    assert len(frames) == COUNT
    windows = WindowSampling((0.3, 2.6), "seconds", 5)
    wanted = {fps: pick_constant(COUNT, rate, fps) for fps in (0.3, 1, 4)}
    for sampling, indices in [
        *((UniformSampling(fps), indices) for fps, indices in wanted.items()),
        (windows, [i for i, _ in pick_windows(COUNT, [round(rate * 3 / 10), round(rate * 26 / 10)], 5)]),
    ]:
        found, reader = read(path, sampling)
        assert [frame.index for frame in found] == indices == [read_number(frame.image) for frame in found]
        assert [frame.time_s for frame in found] == pytest.approx([float(times[i]) for i in indices], abs=1e-3)
        assert reader.damage is None
        assert same(found, in_full(path, sampling)[0])
    found, reader = read(path, UniformSampling(1), threads=3)
    assert same(found, read(path, UniformSampling(1))[0])
    assert reader.frames_decoded <= most + COUNT - 1 - wanted[1][-1]  # and the end
    assert read(path, UniformSampling(1000))[1].frames_decoded == COUNT


@pytest.mark.usefixtures("planned_only")
def test_real_videos_give_the_frames_of_a_decoder_that_leaves_none_out(shared: Path) -> None:
    names = ["talks/feifeili_clip3.mp4", "robustness/hevc10.mp4", "robustness/interlaced_mpeg2.mpg"]
    names += ["robustness/vfr.mp4", "robustness/vp9_opus.webm", "robustness/av1.mkv", "titanic/test.mp4"]
    fewer = 0
    for name in names:
        path = shared / "data" / "video" / name
        for sampling in (UniformSampling(1), UniformSampling(0.3), WindowSampling((1.0, 40.0), "seconds", 5)):
            (found, reader), (expected, all_read) = read(path, sampling), in_full(path, sampling)
            assert same(found, expected) and found
            assert reader.labels_past_end == all_read.labels_past_end
            assert reader.frames_decoded <= all_read.frames_decoded
            fewer += all_read.frames_decoded - reader.frames_decoded
    assert fewer > 0


@pytest.mark.usefixtures("planned_only")
def test_frames_far_apart_are_the_same_where_few_packets_may_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", (numbered(i) for i in range(COUNT)), options=X264, gop=250)
    monkeypatch.setattr(plan, "_LONGEST_QUEUE", 20)
    longest = []
    decide = plan.PlannedDecoder._decide

    def measured(self: Any, *arguments: Any) -> Iterator[Any]:
        longest.append(len(self._queue))
        return decide(self, *arguments)

    monkeypatch.setattr(plan.PlannedDecoder, "_decide", measured)
    for sampling in (UniformSampling(0.01), UniformSampling(0.4), WindowSampling((3.0,), "seconds", 3)):
        assert same(read(path, sampling)[0], in_full(path, sampling)[0])
    assert max(longest) <= 20 + 16 + 2


@pytest.mark.parametrize("hit", ["a frame that none needs", "a frame that others need"])
def test_damage_costs_what_it_costs_a_decoder_of_everything_or_goes_unseen_where_nothing_is_made_from_it(
    tmp_path: Path, hit: str
) -> None:
    path = write_video(tmp_path / "a.mp4", (numbered(i) for i in range(COUNT)), options=X264, gop=30)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        kind_of = kind_reader("h264", stream.codec_context.extradata)
        packets = [(packet.pts * stream.time_base * 25, packet) for packet in container.demux(stream) if packet.size]
        assert kind_of
        spare = hit == "a frame that none needs"
        packet = next(
            packet
            for number, packet in packets
            if number > 40 and number % 25 and kind_of(bytes(packet), False) == Kind(True, spare, False)
        )
        at, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    assert at is not None
    data[at + 5 : at + size] = b"\xff" * (size - 5)  # its header stays
    path.write_bytes(data)
    sampling = UniformSampling(1)
    (found, reader), (expected, all_read) = read(path, sampling), in_full(path, sampling)
    assert all_read.damage is not None
    assert [read_number(frame.image) for frame in found] == [frame.index for frame in found]
    if spare:
        assert reader.damage is None and [frame.index for frame in found] == pick_constant(COUNT, Fraction(25), 1)
    else:
        assert reader.damage == all_read.damage and same(found, expected)


def test_cut_of_a_file_without_a_length_is_seen_though_no_searched_frame_is_lost(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mpg", (numbered(i) for i in range(40)), "mpeg1video", gop=15)
    data, damages = path.read_bytes(), []
    for share in (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95):
        path.write_bytes(data[: int(share * len(data))])
        (found, reader), (expected, all_read) = read(path, UniformSampling(1)), in_full(path, UniformSampling(1))
        assert same(found, expected) and reader.damage == all_read.damage
        damages.append(reader.damage)
    assert any(damages)


def test_interlaced_h264_whose_frames_may_be_two_packets_is_decoded_in_full(tmp_path: Path) -> None:
    options = {"bf": "2", "x264-params": "tff=1"}
    path = write_video(tmp_path / "a.ts", (numbered(i) for i in range(50)), options=options, container_format="mpegts")
    found, reader = read(path, UniformSampling(2))
    assert same(found, in_full(path, UniformSampling(2))[0]) and reader.frames_decoded == 50


def test_mpeg2_whose_size_changes_has_the_frames_that_the_decoder_gives_there(tmp_path: Path) -> None:
    parts = [
        write_video(
            tmp_path / f"{width}.m2v", (numbered(i, width) for i in range(40)), "mpeg2video",
            container_format="mpeg2video",
        )
        for width in (320, 352, 320)
    ]  # fmt: skip
    both = tmp_path / "changes.m2v"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    for sampling in (UniformSampling(1), WindowSampling((2.0,), "seconds", 1)):
        found, reader = read(both, sampling)
        assert same(found, in_full(both, sampling)[0]) and reader.frames_decoded > 40


def test_packets_called_key_frames_by_the_container_alone_are_no_place_to_begin(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", (numbered(i) for i in range(COUNT)), options={"bf": "0"}, gop=30)
    path = tmp_path / "keys.mkv"
    with av.open(str(source)) as container, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream, packet.is_keyframe = stream, True
                target.mux(packet)
    found, _ = read(path, UniformSampling(1))
    assert [read_number(frame.image) for frame in found] == pick_constant(COUNT, Fraction(25), 1)


@pytest.mark.parametrize(("codec", "extradata", "data", "kind"), [
    ("h264", b"", b"\0\0\0\1\x09\x10\0\0\1\x01\x88", (True, True, False)),  # delimiter, slice
    ("h264", b"", b"\0\0\1\x41\x88", (True, False, False)),  # a slice that others need
    ("h264", b"", b"\0\0\1\x65\x88", (True, False, True)),
    ("h264", b"", b"\0\0\1\x06\x06\x01\x84\0\0\1\x61\x88", (True, False, True)),  # recovers at once
    ("h264", b"", b"\0\0\1\x06\x06\x01\x24\0\0\1\x61\x88", (True, False, False)),  # after some frames
    ("h264", b"", b"\0\0\1\x68\xce\0\0\1\x01\x88", (True, False, False)),  # with parameters
    ("h264", b"\1ddd\xff", b"\0\0\0\2\x01\x88\0\0\0\2\x41\x88", (True, False, False)),  # slices that differ
    ("h264", b"\1ddd\xff", b"\0\0\0\2\x01\x88\xff\xff\xff\xff\x01", (True, True, False)),
    ("hevc", b"", b"\0\0\1\x00\x01\x88", (True, False, False)),  # sub-layers unknown
    ("hevc", b"\0\0\1\x40\1\x0c\x01\xff", b"\0\0\1\x00\x01\x88", (True, True, False)),
    ("hevc", b"\0\0\1\x40\1\x0c\x05\xff", b"\0\0\1\x00\x01\x88", (True, False, False)),  # the lowest of three
    ("hevc", b"", b"\0\0\1\x2a\x01\x88", (True, False, True)),  # CRA
    ("mpeg2video", b"", b"\0\0\1\0\0\x18\0", (True, True, False)),
    ("mpeg2video", b"", b"\0\0\1\xb8\0\0\0\1\0\0\x08\0", (True, False, True)),
    ("mpeg4", b"", b"\0\0\1\xb6\x80", (True, True, False)),
    ("mpeg4", b"", b"\0\0\1\xb6\x40\0\0\1\xb6\x80", (True, False, False)),  # packed
    ("vp8", b"", b"\x11", (True, False, False)),
    ("vp8", b"", b"\x00", (False, False, True)),
    ("vp9", b"", b"\x84", (False, False, False)),
    ("vp9", b"", b"\x80\x86\xc0\1\xc0", (False, False, True)),
    ("vp9", b"", b"\x86\x86\xc1\1\1\xc1", (True, False, False)),
    ("vp9", b"", b"\xb1\0", (True, False, True)),
])  # fmt: skip
def test_packets_tell_what_they_are(codec: str, extradata: bytes, data: bytes, kind: tuple[bool, ...]) -> None:
    kind_of = kind_reader(codec, extradata)
    assert kind_of is not None and kind_of(data, True)[:3] == kind


@pytest.mark.parametrize(("codec", "data", "heads"), [
    ("h264", b"\0\0\1\x67\x42\0\0\1\x68\xce\0\0\1\x65\x88", 1 << 7 | 1 << 8),
    ("h264", b"\0\0\1\x65\x88", 0),
    ("hevc", b"\0\0\1\x42\1\0\0\1\x44\1\0\0\1\x26\1\x88", 1 << 33 | 1 << 34),
    ("mpeg2video", b"\0\0\1\xb3\0\0\1\xb8\0\0\0\1\0\0\x08\0", 1),
    ("mpeg4", b"\0\0\1\x20\0\0\0\1\xb6\x10", 1),
])  # fmt: skip
def test_packets_tell_which_headers_they_hold(codec: str, data: bytes, heads: int) -> None:
    kind_of = kind_reader(codec, b"")
    assert kind_of is not None and kind_of(data, True).heads == heads


def encoded(codec: str, options: dict[str, str], count: int, spread: int) -> list[bytes]:
    """The packets of an encoder with a key frame every 12 frames."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = 128, 128, "yuv420p"
    context.time_base, context.framerate, context.options = Fraction(1, 25), Fraction(25), options
    pixels = np.random.default_rng(spread).integers(0, 255, (128, 128, 3)).astype(np.uint8)
    packets = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.roll(pixels, 3 * number, 1), format="rgb24")
        frame.pts = number
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets + [bytes(packet) for packet in context.encode(None)]


def without_headers(data: bytes) -> bytes:
    return b"".join(b"\0\0\1" + unit for unit in data.split(b"\0\0\1")[1:] if unit[0] & 31 not in (6, 7, 8))


def test_headers_that_a_later_key_frame_does_not_repeat_are_not_left_out(tmp_path: Path) -> None:
    x264 = "keyint=12:min-keyint=12:scenecut=0:bframes=0:annexb=1:repeat-headers=1"
    parts = [
        encoded("libx264", {"x264-params": f"{x264}:qp=24:chroma-qp-offset={offset}", "preset": "fast"}, count, offset)
        for offset, count in ((0, 24), (12, 72))
    ]
    packets = [data if not i else without_headers(data) for part in parts for i, data in enumerate(part)]
    with av.open(tmp_path / "joined.ts", "w", format="mpegts") as output:
        stream = output.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 128, 128, "yuv420p", Fraction(1, 90000)
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.pts = stream, Fraction(1, 90000), number * 3600
            packet.dts, packet.is_keyframe = packet.pts, number % 12 == 0
            output.mux(packet)
    for sampling in (UniformSampling(0.7), UniformSampling(2)):
        (found, _), (expected, _) = (how(tmp_path / "joined.ts", sampling) for how in (read, in_full))
        assert same(found, expected) and len(found) > 2


def test_packets_of_any_bytes_are_told_apart_without_fail() -> None:
    rng = np.random.default_rng(0)
    heads = [b"", b"\1ddd\xff", b"\0\0\1\x40\1\x0c\x01\xff", bytes([1]) * 23]
    starts = [b"", b"\0\0\1", b"\0\0\1\0", b"\0\0\1\xb6", b"\0\0\1\x06"]
    for codec in ("h264", "hevc", "mpeg2video", "mpeg4", "vp8", "vp9", "av1"):
        for trial in range(300):
            kind_of = kind_reader(codec, heads[trial % 4])
            assert kind_of is not None
            data = starts[trial % 5] + rng.integers(0, 256, trial % 12, dtype=np.uint8).tobytes()
            assert isinstance(kind_of(data, True), Kind)
    assert kind_reader("prores", b"") is None
