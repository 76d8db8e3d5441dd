"""Make a 720p video of any length from a short real clip, for the benchmarks.

Inputs:  a clip with faces, of any size and rate.
Outputs: an MP4 of 1280 x 720, 25 frames a second, H.264. One minute is encoded, the clip repeated as often as it
         takes; longer videos repeat the packets of that minute.

Example:
  python benchmarks/make_video.py --clip talk.mp4 --minutes 60 --mbit-per-s 0.5 --output talk_720p_60.mp4
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from typing import IO, TYPE_CHECKING

from vidperson import cli
from vidperson.errors import MediaError

if TYPE_CHECKING:
    import av

WIDTH, HEIGHT, RATE = 1280, 720, 25


def make_video(clip: str, minutes: int, output: str, mbit_per_s: float = 2.0) -> None:
    """Write ``minutes`` of ``clip`` to ``output``."""
    minute = io.BytesIO()
    encode(clip, minute, 0, 60, (WIDTH, HEIGHT), mbit_per_s)
    repeat(minute, minutes, output)


def encode(
    clip: str, output: str | IO[bytes], start_s: float, seconds: float, size: tuple[int, int], mbit_per_s: float
) -> None:
    """Write an MP4 of ``seconds`` of the endlessly repeated ``clip`` from ``start_s`` on; size: width, height."""
    import av

    first = round(start_s * RATE)
    with av.open(output, "w", "mp4") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.bit_rate = round(mbit_per_s * 1e6)
        stream.codec_context.time_base = Fraction(1, RATE)
        for number, frame in enumerate(islice(endless(clip, *size), first, first + round(seconds * RATE))):
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            frame.pict_type = av.video.frame.PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def endless(clip: str, width: int, height: int) -> Iterator[av.VideoFrame]:
    """The frames of the clip at this size and the wanted rate, over and over. Raises MediaError when it has none."""
    import av

    from vidperson.media.decoder import open_container, video_stream

    while True:
        count = 0
        with open_container(clip) as container:
            stream = video_stream(container, clip)
            graph = av.filter.Graph()
            graph.link_nodes(
                graph.add_buffer(template=stream),
                graph.add("fps", str(RATE)),
                graph.add("scale", f"{width}:{height}:force_original_aspect_ratio=increase"),
                graph.add("crop", f"{width}:{height}"),
                graph.add("setsar", "1"),
                graph.add("format", "yuv420p"),
                graph.add("buffersink"),
            ).configure()
            for source in chain(container.decode(stream), [None]):
                graph.vpush(source)
                while True:
                    try:
                        yield graph.vpull()
                        count += 1
                    except (av.BlockingIOError, av.EOFError):
                        break
        if not count:
            raise MediaError(f"{clip}: no frame of the video can be decoded")


def repeat(minute: IO[bytes], times: int, output: str, seconds: float = 60) -> None:
    """Write the packets of a video of ``seconds`` so many times."""
    import av

    with av.open(output, "w", "mp4") as target:
        stream = None
        for number in range(times):
            minute.seek(0)
            with av.open(minute, "r") as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.dts is None or packet.pts is None or not packet.time_base:
                        continue
                    shift = round(seconds * number / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    target.mux(packet)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--clip", required=True, help="a video with faces")
    parser.add_argument("--minutes", type=int, required=True, help="length of the result")
    parser.add_argument("--mbit-per-s", type=float, default=2.0, help="bit rate of the result in Mbit/s")
    parser.add_argument("--output", required=True, help="MP4 to write")
    cli.main(make_video, parser.parse_args())
