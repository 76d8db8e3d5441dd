"""Stage 2 for boxes that are given: the persons of a segment, one in each of its frames."""

from __future__ import annotations

from vidperson.body.gathering import Bodies
from vidperson.errors import MediaError
from vidperson.media.limits import USUAL_LIMITS, Limits
from vidperson.media.sampling import Sampling
from vidperson.media.video import FrameReader
from vidperson.types import Box


def cut_bodies(
    path: str, box: Box | None, sampling: Sampling, limits: Limits = USUAL_LIMITS, threads: int = 1
) -> tuple[str, Bodies]:
    """The status and the person of a video, an image or a folder of images; a bad file only gives a status.

    box: x1 y1 x2 y2 in pixels of every frame; None: the whole frame. Boxes are stored as given, with a score of 1.
    sampling: the frames to take. threads: of the decoder.
    """
    bodies = Bodies(limits)
    try:
        with FrameReader(path, sampling, threads, limits) as reader:
            for frame in reader:
                height, width = frame.image.shape[:2]
                bodies.add(frame, [box or (0.0, 0.0, float(width), float(height))], [1.0])
    except MediaError as error:
        return f"unreadable: {error}", Bodies(limits)
    if reader.damage:
        return f"damaged: {reader.damage}", bodies
    if not len(bodies):
        why = f"its box lies outside the frame of {bodies.size} pixels" if bodies.frames else "no frame was taken"
        return f"no_body: {why}", bodies
    return "ok", bodies
