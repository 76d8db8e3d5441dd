"""Decoding on an NVIDIA GPU. What it cannot decode, or only slower, is decoded in software, counted and logged.

Frames stay in the GPU's memory until their image is asked for, so those that are not wanted are never copied.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.stream import VideoStream

from vidperson.errors import EngineError
from vidperson.gpu import ONE_AT_A_TIME

LEAST_PIXELS = 200_000_000  # of all frames: 9 s of 720p; opening a GPU takes longer than less, see benchmarks/README.md
_ON_GPU = "cuda"  # FFmpeg's name for the format of a frame in the memory of an NVIDIA GPU
_WAIT_WITHOUT_SPINNING = 4  # CU_CTX_SCHED_BLOCKING_SYNC
_INSTEAD = "or use the decoder 'software'"


class NotOnGpu(Exception):
    """The GPU does not decode this file, or cannot go on: it has to be decoded in software. The message says why."""


class GpuDecoder:
    """The decoders of one GPU, and how many videos they were used for.

    gpu: its number among those that CUDA_VISIBLE_DEVICES leaves.
    least_pixels: videos with fewer, all frames together, are decoded in software.
    opened, left: paths of the videos so far, and of those of them that went to software.

    Make it before an engine uses the GPU, in the process that decodes: all of them share one CUDA context.
    Raises EngineError where the GPU, its driver or the driver's video library is not there.
    """

    def __init__(self, gpu: int, least_pixels: int = LEAST_PIXELS) -> None:
        self.gpu, self.least_pixels = gpu, least_pixels
        self.opened, self.left = set[str](), set[str]()
        self._reasons = set[str]()
        self._cuda, self._context = _open_gpu(gpu)

    def settings(self) -> HWAccel:
        """For ``av.open`` in this thread: the context of the GPU is made the thread's own."""
        _call(self._cuda, "cuCtxSetCurrent", self._context)
        # Not "primary_ctx": FFmpeg refuses the primary context where an engine has set its flags
        options: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}
        return HWAccel("cuda", device=str(self.gpu), options=options, is_hw_owned=True)

    def decode_of(
        self, stream: VideoStream, frames: float | None
    ) -> Callable[[av.Packet[VideoStream] | None], list[av.VideoFrame]]:
        """The ``decode`` of a stream that was opened with :meth:`settings`; it raises NotOnGpu, too.

        frames: how many there are by the headers, None where they do not tell.

        Raises NotOnGpu where the stream is for software.
        """
        codec, name = stream.codec_context, stream.codec_context.codec.canonical_name
        if codec.codec.intra_only:
            raise NotOnGpu(f"{name}: only the wanted frames are decoded, as each stands alone")
        if not codec.is_hwaccel:
            raise NotOnGpu(f"{name}: the decoder {codec.name} uses no GPU")
        if frames is not None and codec.width * codec.height * frames < self.least_pixels:
            raise NotOnGpu(f"fewer than {self.least_pixels} pixels in all frames take no longer in software")
        size = codec.width, codec.height
        begun = False

        def decode(packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
            nonlocal begun
            try:
                with ONE_AT_A_TIME:
                    pictures = codec.decode(packet)
            except av.InvalidDataError as error:
                if begun:
                    raise
                raise NotOnGpu(f"{name}: the GPU does not begin with it") from error
            except av.FFmpegError as error:
                raise NotOnGpu(f"{name}: the GPU fails: {error.strerror}") from error
            if pictures and not begun:
                first = pictures[0]
                if first.format.name != _ON_GPU:
                    raise NotOnGpu(f"{name}: the GPU does not decode {first.format.name}")
                if (first.width, first.height) != size:  # FFmpeg leaves it to the caller to cut the left and upper side
                    raise NotOnGpu(f"{name}: the GPU does not cut frames as the file says")
                begun = True
            return pictures

        return decode

    def log_left(self, path: str | os.PathLike[str], why: str) -> None:
        """Count a video that goes to software; the first of each kind is logged."""
        self.left.add(os.fspath(path))
        if why not in self._reasons:
            self._reasons.add(why)
            logging.info("%s: decoded in software, as are others like it: %s", os.fspath(path), why)

    def summary(self) -> str:
        """For the end of a log."""
        return f"decoded on the GPU: {len(self.opened - self.left)} of {len(self.opened)} videos"


def in_memory(picture: av.VideoFrame) -> av.VideoFrame:
    """The frame itself or, where it is in the memory of a GPU, a copy. Raises NotOnGpu where copying fails."""
    if picture.format.name != _ON_GPU:
        return picture
    try:
        with ONE_AT_A_TIME:
            return picture.reformat(format=picture.sw_format.name)  # type: ignore[union-attr]
    except av.FFmpegError as error:
        raise NotOnGpu(f"the GPU fails: {error.strerror}") from error


def _open_gpu(gpu: int) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    """The CUDA driver and the primary context of the GPU, as PyTorch uses it. Raises EngineError."""
    if "cuda" not in hwdevices_available():
        raise EngineError(f"decoder 'cuda': PyAV {av.__version__} here has no CUDA; install av from PyPI, {_INSTEAD}")
    cuda = _library("libcuda.so.1", "there is no NVIDIA driver here; run on a machine with a GPU")
    _library(
        "libnvcuvid.so.1",
        "the driver's library for video is not there; in a container, set NVIDIA_DRIVER_CAPABILITIES to "
        "compute,utility,video",
    )
    count, device, context = ctypes.c_int(0), ctypes.c_int(), ctypes.c_void_p()
    if cuda.cuInit(0) == 0:
        _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if gpu >= count.value:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise EngineError(
            f"decoder 'cuda': GPU {gpu} was asked for, GPUs found: {count.value} "
            f"(CUDA_VISIBLE_DEVICES={'not set' if visible is None else repr(visible)}); "
            f"give another --device, {_INSTEAD}"
        )
    _call(cuda, "cuDeviceGet", ctypes.byref(device), gpu)
    # No effect where an engine was first: then threads that wait for the GPU take CPU time
    cuda.cuDevicePrimaryCtxSetFlags_v2(device, _WAIT_WITHOUT_SPINNING)
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    return cuda, context


def _library(name: str, advice: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise EngineError(f"decoder 'cuda': {name} cannot be loaded: {advice}, {_INSTEAD}") from error


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    """Call a function of the driver. Raises EngineError where it fails."""
    error = getattr(cuda, name)(*arguments)
    if error:
        raise EngineError(f"decoder 'cuda': {name} gives CUDA error {error}; look at nvidia-smi, {_INSTEAD}")
