"""When photos and videos were taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from vidperson.corpora.folder import prepare
from vidperson.io.lines import read_scp
from vidperson.media.taken import taken_at

GREY = PIL.Image.fromarray(np.full((48, 64, 3), 90, np.uint8))


def photo(path: Path, **fields: str) -> Path:
    """fields: names of EXIF tags."""
    exif = PIL.Image.Exif()
    tags = {"taken": 0x9003, "zone": 0x9011, "fraction": 0x9291}
    exif.get_ifd(0x8769).update({tags[name]: text for name, text in fields.items()})
    GREY.save(path, exif=exif.tobytes())
    return path


def video(path: Path, **metadata: str) -> Path:
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height = GREY.size
        container.mux(stream.encode(av.VideoFrame.from_image(GREY)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif"])
def test_photo_of_any_kind_tells_when_it_was_taken_in_its_time_zone(tmp_path: Path, suffix: str) -> None:
    path = photo(tmp_path / f"a.{suffix}", taken="2024:05:01 10:20:30", zone="+02:00", fraction="25")
    assert taken_at(path) == "2024-05-01T10:20:30.250+02:00"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"taken": "2024:05:01 10:20:30"}, "2024-05-01T10:20:30.000"),
        ({"taken": "2024:05:01 10:20:30", "zone": "home", "fraction": "x"}, "2024-05-01T10:20:30.000"),
        ({"taken": "2024:05:01 10:20:30", "fraction": "123456789"}, "2024-05-01T10:20:30.123"),
        ({"taken": "0000:00:00 00:00:00"}, ""),
        ({"taken": "    :  :     :  :  "}, ""),
        ({"taken": "1970:01:01 00:00:00"}, ""),
        ({}, ""),
    ],
)
def test_photo_with_odd_or_no_time(tmp_path: Path, fields: dict[str, str], expected: str) -> None:
    assert taken_at(photo(tmp_path / "a.jpg", **fields)) == expected


def test_photo_of_very_many_pixels_tells_its_time_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    path = photo(tmp_path / "a.jpg", taken="2024:05:01 10:20:30")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 2000)  # it has more
    assert taken_at(path) == "2024-05-01T10:20:30.000"
    assert not list(recwarn)


def test_video_tells_the_time_of_its_maker_before_that_of_its_header(tmp_path: Path) -> None:
    utc = "2024-05-01T08:20:30.000000Z"
    local = {"com.apple.quicktime.creationdate": "2024-05-01T10:20:30+0200"}
    assert taken_at(video(tmp_path / "a.mp4", creation_time=utc)) == "2024-05-01T08:20:30.000+00:00"
    assert taken_at(video(tmp_path / "b.mov", creation_time=utc, **local)) == "2024-05-01T10:20:30.000+02:00"
    assert taken_at(video(tmp_path / "c.mp4")) == ""


def test_file_that_is_missing_broken_or_a_folder_has_no_time(tmp_path: Path) -> None:
    whole = photo(tmp_path / "a.avif", taken="2024:05:01 10:20:30").read_bytes()
    told = set()
    for end in range(0, len(whole), 7):
        (tmp_path / "cut.avif").write_bytes(whole[:end])
        told.add(taken_at(tmp_path / "cut.avif"))
    assert told <= {"", "2024-05-01T10:20:30.000"} and "" in told
    assert taken_at(tmp_path / "none.jpg") == taken_at(tmp_path) == ""


def test_set_lists_the_times_that_are_told_and_lacks_the_films_of_live_photos(tmp_path: Path) -> None:
    for person in ("Ann", "Bob"):
        (tmp_path / "persons" / person).mkdir(parents=True)
        GREY.save(tmp_path / "persons" / person / "one.png")
    videos = tmp_path / "videos"
    videos.mkdir()
    photo(videos / "IMG_1.jpg", taken="2024:05:01 10:20:30")
    live = {"com.apple.quicktime.still-image-time": "-1"}
    video(videos / "IMG_1.MOV", **live)  # of the photo
    video(videos / "IMG_2.MOV", creation_time="2024-05-01T08:20:30.000000Z", **live)  # has lost its photo
    photo(videos / "IMG_3.jpg")
    video(videos / "IMG_3.mov")  # another film of that name
    _, test = prepare(tmp_path / "data", tmp_path / "persons", videos)
    assert sorted(path.rpartition("/")[2] for path in read_scp(test / "vid.scp").values()) == [
        *("IMG_1.jpg", "IMG_2.MOV", "IMG_3.jpg", "IMG_3.mov")
    ]
    for _ in range(2):  # the second time from its notes
        subprocess.run([sys.executable, "steps/get_durations.py", "--data-dir", test], check=True)
        assert set(read_scp(test / "vid2taken").values()) == {
            "2024-05-01T10:20:30.000",
            "2024-05-01T08:20:30.000+00:00",
        }
