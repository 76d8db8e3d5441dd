"""Boxes of all videos as one COCO file (https://cocodataset.org/#format-data), with the keys that TAO gives videos.

``images`` are the frames with a box, ``annotations`` the boxes, ``categories`` the persons. It is written one video at
a time; what has to come behind all images waits in a temporary file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from vidperson.answers import Appearance
    from vidperson.io.answers import Listed

_IN_MEMORY = 1 << 20  # bytes that need no file


class _Array:
    """The items of an array of JSON, one a line."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.count = stream, 0

    def add(self, item: dict[str, Any]) -> int:
        """Returns its number, from 1, which is its id."""
        self.count += 1
        self.stream.write((b",\n" if self.count > 1 else b"\n") + orjson.dumps({"id": self.count, **item}))
        return self.count


class Coco:
    """Writes coco.json. stream: of bytes. Its end is written when the block of ``with`` ends without an error."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._images = _Array(stream)
        self._later = {
            name: _Array(tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
            for name in ("annotations", "videos")
        }
        self._categories: dict[tuple[bool, str], int] = {}  # nobody of the gallery, name -> id
        self._tracks = 0  # of the videos before
        stream.write(b'{"info": {"description": "who is in which video, and when"},\n"images": [')

    def __enter__(self) -> Coco:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._end(self._images.stream)
        for array in self._later.values():
            array.stream.close()

    def add(self, listed: Listed) -> None:
        answer = listed.answer
        size = {"width": answer.width, "height": answer.height}
        video = self._later["videos"].add({"name": listed.stem, "file_name": listed.video, **size})
        boxes = list(_boxes(listed))
        images: dict[int, int] = {}
        for frame, time_s in sorted({frame: box[0] for _, _, frame, box in boxes}.items()):
            name = listed.video if listed.is_still else f"{listed.stem}/{frame:07d}.jpg"
            of_video = {"video_id": video, "frame_id": frame, "time_s": round(time_s, 3)}
            images[frame] = self._images.add({"file_name": name, **size, **of_video})
        for found, track, frame, (_, x1, y1, x2, y2) in boxes:
            width, height = round(x2 - x1, 1), round(y2 - y1, 1)
            self._later["annotations"].add({
                "image_id": images[frame],
                "video_id": video,
                "track_id": self._tracks + track,
                "category_id": self._category(found, listed),
                "bbox": [round(x1, 1), round(y1, 1), width, height],
                "area": round(width * height, 1),
                "iscrowd": 0,
                "score": round(found.probability, 4),
                "decision": found.decision,
            })  # fmt: skip
        self._tracks += sum(len(found.tracks) for found in answer.appearances)

    def _category(self, found: Appearance, listed: Listed) -> int:
        key = found.decision == "unknown", listed.names.person(found.person)
        return self._categories.setdefault(key, len(self._categories) + 1)

    def _end(self, stream: IO[bytes]) -> None:
        for name, array in self._later.items():
            stream.write(b'\n],\n"' + name.encode() + b'": [')
            array.stream.seek(0)
            shutil.copyfileobj(array.stream, stream)
        persons = [
            {"id": number, "name": name, "supercategory": "person"} for (_, name), number in self._categories.items()
        ]
        stream.write(b'\n],\n"categories": ' + orjson.dumps(persons) + b"}\n")


def _boxes(listed: Listed) -> Iterator[tuple[Appearance, int, int, tuple[float, ...]]]:
    """The boxes of a video: appearance, number of the track in the video from 1, frame and box."""
    track_number = 0
    for found, frames in zip(listed.answer.appearances, listed.frames, strict=True):
        for track, of_boxes in zip(found.tracks, frames, strict=True):
            track_number += 1
            for frame, box in zip(of_boxes, track.boxes, strict=True):
                yield found, track_number, frame, box
