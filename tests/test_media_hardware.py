"""Videos that a GPU decodes: with stand-ins for the GPU, and on one where it is there."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from naive_decoder import numbered, read_number, write_video
from numpy.typing import NDArray

from vidperson.errors import EngineError, MediaError
from vidperson.gpu import ONE_AT_A_TIME
from vidperson.media.hardware import GpuDecoder, NotOnGpu, in_memory
from vidperson.media.picture import to_rgb
from vidperson.media.sampling import UniformSampling
from vidperson.media.video import FrameReader
from vidperson.types import Frame

EVERY = UniformSampling(1000)
Decode = Callable[[Any], list[av.VideoFrame]]


class StandIn(GpuDecoder):
    """No GPU: the CPU decodes, through ``decode``, what the GPU is asked for."""

    def __init__(self, decode: Callable[[Any], Decode] | None = None) -> None:
        self.gpu, self.least_pixels = 0, 0
        self.opened, self.left, self._reasons = set(), set(), set()
        self._decode = decode

    def settings(self) -> None:  # type: ignore[override]
        return None

    def decode_of(self, stream: Any, frames: float | None) -> Decode:
        return self._decode(stream) if self._decode else super().decode_of(stream, frames)


def read(path: Path, gpu: GpuDecoder | None, sampling: UniformSampling = EVERY) -> list[Frame]:
    with FrameReader(path, sampling, gpu=gpu) as reader:
        return list(reader)


def assert_same(found: list[Frame], expected: list[Frame]) -> None:
    assert [(f.index, f.time_s, f.label) for f in found] == [(f.index, f.time_s, f.label) for f in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 numbered frames, H.264 with B-frames, a key frame every 12."""
    images = (numbered(i) for i in range(60))
    return write_video(tmp_path_factory.mktemp("video") / "talk.mp4", images, options={"bf": "2"})


# --- formats of frames


def filled(name: str, planes: list[NDArray[Any]], colour: tuple[int, int]) -> av.VideoFrame:
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], name)
    for plane, values in zip(frame.planes, planes, strict=True):
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
        lines = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * len(raw)]
        lines.reshape(len(raw), plane.line_size)[:, : raw.shape[1]] = raw
    frame.colorspace, frame.color_range = colour
    return frame


@pytest.mark.parametrize("size", [(48, 64), (47, 65)])
@pytest.mark.parametrize("colour", [(1, 1), (5, 2), (9, 1), (2, 0)])
@pytest.mark.parametrize(("planar", "of_gpu", "depth"), [("yuv420p", "nv12", 8), ("yuv420p10le", "p010le", 10)])
def test_formats_of_gpus_give_the_colours_of_software(
    planar: str, of_gpu: str, depth: int, colour: tuple[int, int], size: tuple[int, int]
) -> None:
    random = np.random.default_rng(0)
    kind = np.uint8 if depth == 8 else np.uint16
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    y, u, v = (random.integers(0, 1 << depth, shape).astype(kind) for shape in (size, half, half))
    shift = 16 - depth if depth > 8 else 0  # P010 has its bits at the top
    mixed = [y << shift, np.stack([u, v], axis=-1).reshape(len(u), -1) << shift]
    expected, found = (
        to_rgb(frame, Fraction(1), VideoReformatter())
        for frame in (filled(planar, [y, u, v], colour), filled(of_gpu, mixed, colour))
    )
    np.testing.assert_array_equal(found, expected)


def test_frame_in_memory_is_not_copied() -> None:
    frame = av.VideoFrame(64, 48, "nv12")
    assert in_memory(frame) is frame


# --- what goes to the GPU


def stream(
    name: str = "h264", decode: Decode | None = None, size: tuple[int, int] = (1280, 720), accelerated: bool = True
) -> Any:
    codec = SimpleNamespace(
        codec=av.Codec(name, "r"), name=name, is_hwaccel=accelerated, width=size[0], height=size[1], decode=decode
    )
    return SimpleNamespace(codec_context=codec)


def picture(width: int = 1280, height: int = 720, name: str = "cuda") -> Any:
    return SimpleNamespace(format=SimpleNamespace(name=name), width=width, height=height)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (stream("mjpeg"), "mjpeg: only the wanted frames are decoded"),
        (stream("libdav1d", accelerated=False), "av1: the decoder libdav1d uses no GPU"),
    ],
)
def test_stream_for_software_is_refused_with_the_reason(found: Any, reason: str) -> None:
    with pytest.raises(NotOnGpu, match=reason):
        StandIn().decode_of(found, 1000)


def test_stream_of_few_pixels_in_all_is_for_software() -> None:
    gpu = StandIn()
    gpu.least_pixels = 1280 * 720 * 250
    with pytest.raises(NotOnGpu, match="fewer than 230400000 pixels in all frames take no longer in software"):
        gpu.decode_of(stream(), 249)
    for frames in (250, None):  # the length is unknown: it may be a long one
        gpu.decode_of(stream(), frames)


def test_frames_of_a_video_are_told_by_its_headers(talk: Path) -> None:
    gpu, told = StandIn(), list[float | None]()

    def decode_of(stream: Any, frames: float | None) -> Decode:
        told.append(frames)
        raise NotOnGpu("short")

    gpu.decode_of = decode_of  # type: ignore[method-assign]
    read(talk, gpu)
    assert told == [pytest.approx(60)] and gpu.summary() == "decoded on the GPU: 0 of 1 videos"


def test_gpu_is_not_called_while_a_graph_is_recorded() -> None:
    called, begun = threading.Event(), threading.Event()

    def decode(packet: Any) -> list[Any]:
        called.set()
        return [picture()]

    def use() -> None:
        begun.set()
        StandIn().decode_of(stream(decode=decode), None)(None)

    thread = threading.Thread(target=use)
    with ONE_AT_A_TIME:
        thread.start()
        assert begun.wait(10) and not called.wait(0.1)
    thread.join(10)
    assert called.is_set() and not ONE_AT_A_TIME.locked()


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (picture(name="yuv444p"), "h264: the GPU does not decode yuv444p"),
        (picture(width=1288), "h264: the GPU does not cut frames as the file says"),
        (av.InvalidDataError(1, "no frame!"), "h264: the GPU does not begin with it"),
        (av.error.ExternalError(1, "CUDA"), "h264: the GPU fails: CUDA"),
    ],
)
def test_first_frame_that_is_not_the_gpus_goes_to_software(first: Any, reason: str) -> None:
    def decode(packet: Any) -> list[av.VideoFrame]:
        if isinstance(first, Exception):
            raise first
        return [first]

    with pytest.raises(NotOnGpu, match=reason):
        StandIn().decode_of(stream(decode=decode), None)(None)


@pytest.mark.parametrize(
    ("later", "raised"),
    [(av.InvalidDataError(1, "damage"), av.InvalidDataError), (av.error.ExternalError(1, "CUDA"), NotOnGpu)],
)
def test_later_error_is_damage_only_where_it_is_the_files(later: Exception, raised: type[Exception]) -> None:
    answers = [[picture()], later, [picture(name="yuv444p")]]

    def decode(packet: Any) -> list[av.VideoFrame]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    on_gpu = StandIn().decode_of(stream(decode=decode), None)
    assert len(on_gpu(None)) == 1
    with pytest.raises(raised):
        on_gpu(None)
    assert len(on_gpu(None)) == 1  # FFmpeg itself goes on in software where the format changes


# --- going on in software


def test_video_that_the_gpu_decodes_is_counted(talk: Path) -> None:
    gpu = StandIn(lambda stream: stream.codec_context.decode)
    assert_same(read(talk, gpu), read(talk, None))
    assert gpu.summary() == "decoded on the GPU: 1 of 1 videos"


def test_videos_that_the_gpu_does_not_decode_are_the_same_and_logged_once(
    talk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = StandIn()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert_same(read(talk, gpu), read(talk, None))
    assert gpu.summary() == "decoded on the GPU: 0 of 1 videos"  # one file, read twice
    assert [record.getMessage() for record in caplog.records] == [
        f"{talk}: decoded in software, as are others like it: h264: the decoder h264 uses no GPU"
    ]


def test_gpu_that_gives_nothing_is_replaced_by_software(talk: Path) -> None:
    gpu = StandIn(lambda stream: lambda packet: [])
    assert_same(read(talk, gpu), read(talk, None))
    assert gpu.summary() == "decoded on the GPU: 0 of 1 videos"


@pytest.mark.parametrize("fps", [1000, 5])
@pytest.mark.parametrize("calls", [1, 7, 40])
def test_gpu_that_fails_on_the_way_gives_no_frame_twice(
    talk: Path, calls: int, fps: int, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(stream: Any) -> Decode:
        left = calls

        def decode(packet: Any) -> list[av.VideoFrame]:
            nonlocal left
            left -= 1
            if left < 0:
                raise NotOnGpu("the GPU fails: it fell off the bus")
            return list(stream.codec_context.decode(packet))

        return decode

    gpu = StandIn(failing)
    caplog.set_level(logging.INFO)
    frames = read(talk, gpu, UniformSampling(fps))
    assert_same(frames, read(talk, None, UniformSampling(fps)))
    assert [read_number(f.image) for f in frames] == [f.index for f in frames]
    assert gpu.summary() == "decoded on the GPU: 0 of 1 videos" and "it fell off the bus" in caplog.text


def test_bad_file_has_the_reason_of_software_and_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(bytes(range(256)) * 10)
    gpu = StandIn()
    with pytest.raises(MediaError, match="not a media file"):
        read(tmp_path / "bad.mp4", gpu)
    assert gpu.summary() == "decoded on the GPU: 0 of 0 videos"


# --- without a GPU


@pytest.fixture
def no_driver() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    pytest.skip("needs a machine without an NVIDIA driver")


def test_decoder_without_a_driver_is_refused_with_what_to_do(no_driver: None) -> None:
    with pytest.raises(EngineError, match=r"libcuda\.so\.1 cannot be loaded: .* or use the decoder 'software'"):
        GpuDecoder(0)


def test_step_without_a_driver_fails_before_its_first_segment(
    no_driver: None, repo: Path, talk: Path, tmp_path: Path
) -> None:
    from vidperson.networks.install import install_model

    install_model("retinaface_tiny", tmp_path)
    (tmp_path / "vid.scp").write_text(f"talk {talk}\n")
    arguments = ["--scp", tmp_path / "vid.scp", "--model", tmp_path / "retinaface_tiny", "--output-dir", tmp_path / "o"]
    step = [sys.executable, "steps_face/detect_faces.py", *map(str, arguments), "--decoder", "cuda"]
    done = subprocess.run(step, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ERROR: decoder 'cuda': libcuda.so.1 cannot be loaded")
    assert not (tmp_path / "o" / "journal.jsonl").exists()


# --- on a GPU


@pytest.fixture
def gpu() -> GpuDecoder:
    try:
        return GpuDecoder(0, least_pixels=0)
    except EngineError as error:
        pytest.skip(f"needs an NVIDIA GPU that decodes: {error}")


@pytest.mark.parametrize(("pix_fmt", "on_gpu"), [("yuv420p", True), ("yuv444p", False)])
def test_gpu_gives_the_frames_of_software(gpu: GpuDecoder, pix_fmt: str, on_gpu: bool, tmp_path: Path) -> None:
    images = (numbered(i, 854, 480) for i in range(40))
    path = write_video(tmp_path / "video.mp4", images, pix_fmt=pix_fmt, options={"bf": "2"}, colour=(1, 1))
    assert_same(read(path, gpu), read(path, None))
    assert gpu.opened == {str(path)} and gpu.left == (set() if on_gpu else gpu.opened)


def test_gpu_that_is_not_there_is_refused(gpu: GpuDecoder) -> None:
    with pytest.raises(EngineError, match="GPU 999 was asked for, GPUs found: "):
        GpuDecoder(999)
