"""Images with the faces that a detector is to find in them: marked ones, or those of another detector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from vidperson.errors import MediaError
from vidperson.face.annotations import MIN_HEIGHT, SCORE, FaceMarks
from vidperson.face.photos import PhotoSet, read_photos
from vidperson.io.lines import read_paths
from vidperson.io.pictures import held_out
from vidperson.media.image import decode_intact_image
from vidperson.media.sampling import UniformSampling
from vidperson.media.video import FrameReader
from vidperson.types import Detections, Image

Find = Callable[[Image], Detections]
Marked = Iterator[tuple[Image, FaceMarks]]


def reference_of(find: Find, image: Image, score: float = SCORE) -> FaceMarks:
    """What a detector finds in an image with a score from ``score`` on, as reference faces."""
    found = find(image)
    good = found.scores >= score
    return FaceMarks(found.boxes[good], found.landmarks[good])


def has_tall_face(marks: FaceMarks) -> bool:
    """Whether an image has a reference face of at least ``MIN_HEIGHT``."""
    return bool((marks.boxes[:, 3] - marks.boxes[:, 1] >= MIN_HEIGHT).any())


def readable_photos(photos: PhotoSet) -> Iterator[tuple[int, Image]]:
    """The photos, each with its number; one that cannot be read is named in the log and left out."""
    for item in range(len(photos)):
        try:
            image = photos.read(item, decode_intact_image)
        except (MediaError, OSError) as error:
            logging.warning("left out: %s", error)
            continue
        yield item, image


def photos_to_measure_on(sources: Sequence[str], wanted: int, marks: Mapping[str, FaceMarks] | None = None) -> PhotoSet:
    """The photos of folders and tars; ``wanted`` above 0: only so many, those that a training held out."""
    photos = read_photos(sources, marks)
    return photos.pick(held_out(len(photos), wanted, "photos")[1]) if wanted else photos


def marked_photos(photos: PhotoSet) -> Marked:
    """The photos with what is marked in them."""
    assert photos.marks is not None
    for item, image in readable_photos(photos):
        yield image, photos.marks[item]


def video_frames(scp: str, fps: float, threads: int) -> Iterator[Image]:
    """Frames of the videos of a list ``<segment> <path>``; one that cannot be read is named in the log, left out."""
    for segment, path in read_paths(scp).items():
        try:
            with FrameReader(path, UniformSampling(fps), threads) as reader:
                for frame in reader:
                    yield frame.image
        except MediaError as error:
            logging.warning("%s: left out: %s", segment, error)
