"""Folders of images as videos: order, sampling, statuses, and what makes such a segment new."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from steps.get_durations import DurationOptions, get_durations
from steps_face.detect_faces import DetectOptions, detect_faces
from vidperson import cli
from vidperson.errors import MediaError
from vidperson.io.data_dir import validate
from vidperson.io.items import archives_of
from vidperson.io.lines import read_scp
from vidperson.io.matrices import load_matrices, matrix_bytes
from vidperson.io.merging import merge_jobs
from vidperson.io.segment_inputs import has_gone, is_missing, segment_inputs
from vidperson.media.folder import natural_key
from vidperson.media.limits import Limits
from vidperson.media.sampling import FrameSampling, KeyFrameSampling, Sampling
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling, probe
from vidperson.networks.install import install_model
from vidperson.types import Image


def picture(number: int, height: int = 20, width: int = 30) -> Image:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def write(folder: Path, *names: str, **size: int) -> None:
    """PNG files whose content tells which of the names it is."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        coded = cv2.imencode(".png", picture(number, **size)[..., ::-1])[1].tobytes()
        (folder / name).write_bytes(coded)


def frames_of(folder: Path, sampling: Sampling) -> tuple[list[int], FrameReader]:
    """Numbers of the frames, which are the pictures of these numbers, and the reader."""
    with FrameReader(folder, sampling) as reader:
        frames = list(reader)
    for frame in frames:
        assert frame.time_s == frame.index and np.array_equal(frame.image, picture(frame.index))
    return [frame.index for frame in frames], reader


def test_natural_key_orders_as_people_count() -> None:
    names = [
        "1.jpg",
        "2.jpg",
        "02.jpg",
        "10.jpg",
        "a1b2.png",
        "a1b10.png",
        "a2.png",
        "b.png",
        "b" + "9" * 5000,
        "\udcff1",
    ]
    expected = ["1.jpg", "02.jpg", "2.jpg", "10.jpg", "a1b2.png", "a1b10.png", "a2.png", "b" + "9" * 5000, "b.png"]
    for seed in range(5):
        shuffled = random.Random(seed).sample(names, len(names))
        assert sorted(shuffled, key=natural_key) == [*expected, "\udcff1"]


def test_reader_takes_images_in_natural_order_and_passes_over_the_rest(tmp_path: Path) -> None:
    write(tmp_path, *(f"frame_{n}.png" for n in range(12)))
    for other in (".hidden.png", "notes.txt", "film.mp4", "Thumbs.db"):
        (tmp_path / other).write_bytes(b"no image")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "itself.png").symlink_to("itself.png")
    indices, reader = frames_of(tmp_path, UniformSampling(1))
    assert indices == list(range(12)) and reader.damage is None
    assert (reader.total, reader.last_s, reader.frames_decoded) == (12, 11, 12)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (UniformSampling(30), range(9)),
        (UniformSampling(0.5), [0, 2, 4, 6, 8]),
        (KeyFrameSampling(0.25), [0, 4, 8]),
        (FrameSampling(frozenset({1, 7})), [1, 7]),
        (WindowSampling((3.0,), "seconds", 3), [2, 3, 4]),
        (WindowSampling((0.0, 8.0), "frames", 3), [0, 1, 7, 8]),
    ],
)
def test_reader_takes_the_images_that_a_sampling_asks_for(
    tmp_path: Path, sampling: Sampling, expected: list[int]
) -> None:
    write(tmp_path, *(f"{n}.png" for n in range(9)))
    assert frames_of(tmp_path, sampling)[0] == list(expected)


def test_reader_images_of_different_sizes_keep_theirs(tmp_path: Path) -> None:
    write(tmp_path, "1.png", height=10, width=50)
    write(tmp_path, "0.png", height=40, width=20)
    with FrameReader(tmp_path, UniformSampling()) as reader:
        assert [frame.image.shape for frame in reader] == [(40, 20, 3), (10, 50, 3)]


def test_reader_holds_one_image_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *(f"{n}.png" for n in range(5)))
    read: list[int] = []
    from vidperson.media import video

    decode = video.decode_image
    monkeypatch.setattr(video, "decode_image", lambda *arguments: (read.append(1), decode(*arguments))[1])
    with FrameReader(tmp_path, UniformSampling()) as reader:
        for count, _ in enumerate(reader, 1):
            assert len(read) == count


def test_reader_broken_images_are_damage_with_their_number(tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}.png" for n in range(6)))
    (tmp_path / "2.png").write_bytes(b"%PDF-1.4")
    (tmp_path / "4.png").write_bytes(b"")
    indices, reader = frames_of(tmp_path, UniformSampling())
    assert indices == [0, 1, 3, 5]
    assert reader.damage == "2 of 6 images are damaged, first 2.png: the file is no image"
    indices, reader = frames_of(tmp_path, FrameSampling(frozenset({2})))
    assert indices == [] and reader.damage == "1 of 1 images are damaged, first 2.png: the file is no image"


def test_reader_half_an_image_is_shown_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "0.png", "1.png", height=300, width=300)
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with FrameReader(tmp_path, UniformSampling()) as reader:
        assert len(list(reader)) == 2
    assert reader.damage == "1 of 2 images are damaged, first 1.png: the PNG image is cut short"


def test_reader_without_any_image_that_can_be_read_raises_with_the_reason(tmp_path: Path) -> None:
    empty, broken, mixed = (tmp_path / name for name in ("empty", "broken", "mixed"))
    for folder in (empty, broken, mixed):
        folder.mkdir()
    with pytest.raises(MediaError, match=r"^a folder without an image \(\.jpg .*\)$"):
        FrameReader(empty, UniformSampling())
    (mixed / "notes.txt").touch()
    with pytest.raises(MediaError, match=r"; 1 other files$"):
        FrameReader(mixed, UniformSampling())
    (broken / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (broken / "b.jpg").write_bytes(b"text")
    with pytest.raises(MediaError, match="2 of 2 images are damaged, first a.jpg: the JPEG file cannot be decoded"):
        list(FrameReader(broken, UniformSampling()))


def test_reader_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "0.png", "1.png", "2.png")
    with pytest.raises(MediaError, match="3 s, a second per image, are more than max_duration_s 2"):
        FrameReader(tmp_path, UniformSampling(), limits=Limits(max_duration_s=2))
    write(tmp_path, "1.png", height=200)
    with FrameReader(tmp_path, UniformSampling(), limits=Limits(max_pixels=1000)) as reader:
        assert [frame.index for frame in reader] == [0, 2]
    assert reader.damage and "1.png: 30 x 200 pixels are more than max_pixels 1000" in reader.damage


def test_durations_of_folders_are_their_images_and_pixels(tmp_path: Path) -> None:
    write(tmp_path / "clip", *(f"{n}.png" for n in range(9)), height=100, width=200)
    assert probe(tmp_path / "clip") == (9.0, pytest.approx(9 * 0.02))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "vid.scp").write_text("a ../clip\nb ../none\n")
    get_durations(DurationOptions(tmp_path / "set"))
    assert read_scp(tmp_path / "set" / "vid2dur") == {"a": "9.000", "b": "0.000"}
    assert read_scp(tmp_path / "set" / "vid2pixels") == {"a": "0.180", "b": "0.000"}


def test_segment_inputs_of_a_folder_change_with_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    write(folder, "0.png", "1.png")

    def now() -> str:
        return dict(segment_inputs({"s": "clip"}, [], tmp_path))["s"]

    def changes() -> Iterator[str]:
        yield now()
        os.utime(folder / "0.png", ns=(5, 5))
        yield now()
        (folder / "1.png").write_bytes((folder / "1.png").read_bytes() + b"\0")
        yield now()
        write(folder, "2.png")
        yield now()
        (folder / "2.png").rename(folder / "3.png")
        yield now()
        (folder / "0.png").unlink()
        yield now()
        (folder / "gone.png").symlink_to("nowhere")
        yield now()

    seen = list(changes())
    assert len(set(seen)) == len(seen) and not any(map(is_missing, seen))
    (folder / ".hidden").touch()
    assert now() == seen[-1]
    copy = shutil.copytree(folder, tmp_path / "copy", symlinks=True)
    shutil.rmtree(folder)
    assert is_missing(now()) and has_gone(seen[-1], now())
    copy.rename(folder)
    assert now() == seen[-1]


def test_validator_with_files_checked_names_empty_folders_and_folders_of_sound(tmp_path: Path) -> None:
    write(tmp_path / "clip", "0.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "vid.scp").write_text("a clip\nb empty\n")
    (tmp_path / "wav.scp").write_text("a clip\nb clip/0.png\n")
    (tmp_path / "utt2spk").write_text("a a\nb b\n")
    (tmp_path / "spk2utt").write_text("a a\nb b\n")
    assert validate(tmp_path) == []
    assert validate(tmp_path, check_files=True) == [
        f"{tmp_path}/vid.scp:2: an empty folder: 'empty'",
        f"{tmp_path}/wav.scp:1: a folder, expected a file: 'clip'",
    ]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("face_models")
    install_model("retinaface_tiny", folder)
    return folder / "retinaface_tiny"


def test_detection_in_folders_of_photos_gives_faces_statuses_and_thumbnails(tmp_path: Path, detector: Path) -> None:
    """Photos of different sizes: two of a portrait, one of nobody; some are broken."""
    portrait, grey = data.astronaut(), np.full((90, 120, 3), 128, np.uint8)
    photos = {"2.png": portrait[:300, 50:350], "10.png": cv2.resize(portrait, None, fx=0.6, fy=0.6), "1.png": grey}
    clips: dict[str, list[str]] = {
        "good": ["1.png", "2.png", "10.png"],
        "grey": ["1.png"],
        "broken": ["2.png"],
        "bad": [],
    }
    for clip, names in clips.items():
        (tmp_path / clip).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / clip / name), photos[name][..., ::-1])
    for clip in ("broken", "bad"):
        (tmp_path / clip / "3.jpg").write_bytes(b"broken")
    (tmp_path / "empty").mkdir()
    paths = {clip: tmp_path / clip for clip in (*clips, "empty")}
    (tmp_path / "vid.scp").write_text("".join(f"{clip} {path}\n" for clip, path in paths.items()))
    job = tmp_path / "job"
    options = cli.fill(DetectOptions, scp=str(tmp_path / "vid.scp"), model=str(detector), output_dir=str(job))
    statuses = detect_faces(options)
    assert statuses["good"] == "ok" and statuses["grey"] == "no_face"
    assert statuses["broken"] == "damaged: 1 of 2 images are damaged, first 3.jpg: the file is no image"
    assert statuses["bad"] == "unreadable: 1 of 1 images are damaged, first 3.jpg: the file is no image"
    assert statuses["empty"].startswith("unreadable: a folder without an image")
    archives = archives_of("faces")
    states = ["ok", "unsure", "no_face", "damaged", "unreadable"]
    merge_jobs([job], tmp_path / "set", archives, states, statuses)
    faces = load_matrices(tmp_path / "set" / "faces.scp", 17)
    assert faces["good"][:, :2].tolist() == [[1, 1], [2, 2]] and faces["broken"][:, 0].tolist() == [0]
    single = detect_alone(tmp_path, photos["10.png"], detector)
    assert matrix_bytes("x", faces["good"][1:, 2:]) == matrix_bytes("x", single[:, 2:])
    assert list(read_scp(tmp_path / "set" / "thumbs.scp")) == ["good", "grey", "broken"]


def test_detection_looks_a_second_time_at_images_that_fps_left_out(tmp_path: Path, detector: Path) -> None:
    portrait, grey = data.astronaut()[:300, 50:350], np.full((90, 120, 3), 128, np.uint8)
    for clip, face, broken in (("late", 5, []), ("broken", None, range(1, 9))):
        (tmp_path / clip).mkdir()
        for n in range(9):
            coded = cv2.imencode(".png", portrait[..., ::-1] if n == face else grey)[1].tobytes()
            (tmp_path / clip / f"{n}.png").write_bytes(b"broken" if n in broken else coded)
    (tmp_path / "vid.scp").write_text("".join(f"{clip} {tmp_path}/{clip}\n" for clip in ("late", "broken")))
    for second_look, expected in ((0, "no_face"), (8, "ok")):
        options = cli.fill(
            DetectOptions, scp=str(tmp_path / "vid.scp"), model=str(detector), output_dir=str(tmp_path / expected),
            fps=0.1, second_look=second_look,
        )  # fmt: skip
        statuses = detect_faces(options)
        assert statuses["late"] == expected
        assert statuses["broken"].partition(":")[0] == ("damaged" if second_look else "no_face")


def detect_alone(folder: Path, photo: Image, detector: Path) -> np.ndarray:
    """The faces of a photo that is a segment of its own."""
    cv2.imwrite(str(folder / "alone.png"), photo[..., ::-1])
    (folder / "alone.scp").write_text(f"alone {folder}/alone.png\n")
    job = folder / "alone_job"
    options = cli.fill(DetectOptions, scp=str(folder / "alone.scp"), model=str(detector), output_dir=str(job))
    merge_jobs([job], folder / "alone", archives_of("faces"), ["ok"], detect_faces(options))
    return load_matrices(folder / "alone" / "faces.scp", 17)["alone"]
