"""Faces that are aligned already: folders and tars of them as outputs of stage 2, with no detector."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from recipe import Recipe, outputs

from steps.get_durations import DurationOptions, get_durations
from steps_face.take_aligned_faces import TakeOptions, take_aligned_faces
from vidperson.face.align import TEMPLATE
from vidperson.face.aligned import take_faces
from vidperson.face.crops import FaceCrops
from vidperson.face.detection import ARCHIVES, STATES
from vidperson.io.lines import read_scp
from vidperson.io.matrices import load_matrices
from vidperson.io.merging import merge_jobs
from vidperson.io.pictures import list_pictures
from vidperson.networks.install import install_model
from vidperson.types import Image


def face(number: int, side: int = 112) -> Image:
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def png(image: Image) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def take(folder: Path, sources: dict[str, Path]) -> Path:
    """The set that is made of these sources."""
    folder.mkdir(exist_ok=True)
    (folder / "frames.scp").write_text("".join(f"{segment} {path}\n" for segment, path in sources.items()))
    take_aligned_faces(TakeOptions(str(folder / "frames.scp"), str(folder / "job")))
    merge_jobs([folder / "job"], folder / "set", ARCHIVES, STATES, sources)
    return folder / "set"


def status_of(source: Path) -> str:
    result = take_faces("s", str(source))
    assert len(result.faces.rows) == len(result.faces.quality) == len(list(result.faces.crops))
    return result.status


FILES = {"10.png": png(face(3)), "9.png": png(face(2)), "1.png": png(face(1, 56)), "2.png": png(face(0, 224))}


def test_faces_are_taken_in_natural_order_and_those_of_112_pixels_as_they_are(tmp_path: Path) -> None:
    made = take(tmp_path / "w", {"a": write(tmp_path / "a", FILES)})
    crops = list(FaceCrops(made).read("a"))
    assert np.array_equal(crops[2], face(2)) and np.array_equal(crops[3], face(3))
    small, large = (
        cv2.resize(face(1, 56), (112, 112)),
        cv2.resize(face(0, 224), (112, 112), interpolation=cv2.INTER_AREA),
    )
    assert np.array_equal(crops[0], small) and np.array_equal(crops[1], large)  # as the training of embedders does
    rows, quality = (load_matrices(made / f"{name}.scp")["a"] for name in ("faces", "quality"))
    assert rows[:, :7].tolist() == [[n, n, 0, 0, side, side, 1] for n, side in enumerate((56, 224, 112, 112))]
    assert np.allclose(rows[2:, 7:], TEMPLATE.ravel(), atol=1e-4)
    scaled = (rows[1, 7:].reshape(5, 2) + 0.5) / 2 - 0.5  # a pixel covers its square
    assert np.allclose(scaled, TEMPLATE, atol=1e-4)
    assert (
        np.allclose(quality[:, 0], 35.2378 * np.array([0.5, 2, 1, 1]), rtol=1e-3) and not quality[:, 1].round(2).any()
    )
    assert list(read_scp(made / "thumbs.scp")) == ["a"] and read_scp(made / "status") == {"a": "ok"}


def test_a_tar_gives_the_bytes_of_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", FILES)
    below = {f"./clip/{name}": content for name, content in FILES.items()}
    tiff = cv2.imencode(".tiff", face(5))[1].tobytes()
    (folder / "20.TIFF").write_bytes(tiff)
    below["clip/20.TIFF"] = tiff
    others = {"clip/._1.png": b"x", "clip/list.txt": b"x", ".cache/1.png": b"x"}
    archive = pack(tmp_path / "a.tar", {**below, **others})
    made = [outputs(take(tmp_path / name, {"a": source})) for name, source in (("f", folder), ("t", archive))]
    assert made[0] == made[1] and len(made[0]) == 7
    assert len(load_matrices(tmp_path / "t" / "set" / "faces.scp")["a"]) == 5


def test_faces_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path) -> None:
    cut = png(face(4))[:20_000]
    bad = {"3.png": b"text", "4.png": png(face(1)[:50]), "5.png": cut}
    folder = write(tmp_path / "a", FILES | bad)
    assert status_of(folder) == "damaged: 3 of 7 images are damaged, first 3.png: the file is no image"
    rows = load_matrices(take(tmp_path / "w", {"a": folder}) / "faces.scp")["a"]
    assert rows[:, 0].tolist() == [0, 1, 5, 6]
    one = write(tmp_path / "b", {"4.png": png(face(1)[:50])})
    why = "1 of 1 images are damaged, first 4.png: expected an aligned, square face, found 112 x 50 pixels"
    assert status_of(one) == f"unreadable: {why}"


def test_sources_that_cannot_be_used_are_unreadable_with_the_reason(tmp_path: Path) -> None:
    assert status_of(tmp_path / "none") == "unreadable: no such file or directory"
    assert status_of(write(tmp_path / "empty", {})).startswith("unreadable: a folder without an image")
    (tmp_path / "no.tar").write_bytes(b"no archive at all" * 100)
    assert status_of(tmp_path / "no.tar").startswith("unreadable: not an uncompressed tar archive")
    assert status_of(pack(tmp_path / "a.tar", {"x.txt": b"x"})).startswith("unreadable: no image")
    assert status_of(pack(tmp_path / "b.tar", {".x.png": b"x"})) == "unreadable: an archive without an image"
    os.mkfifo(tmp_path / "fifo")
    assert status_of(tmp_path / "fifo").startswith("unreadable: no such folder or tar archive")


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "a/../../1.png"])
def test_a_tar_with_a_path_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "a.tar", {"1.png": png(face(1)), name: png(face(2))})
    shown = os.path.normpath(name)
    assert status_of(archive) == f"unreadable: '{shown}' in the archive would leave its folder"


def test_a_tar_with_links_gives_only_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(face(9)))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind, target in (
            ("1.png", tarfile.REGTYPE, ""),
            ("2.png", tarfile.LNKTYPE, "1.png"),
            ("3.png", tarfile.SYMTYPE, "../secret.png"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, len(png(face(1))) if not target else 0
            archive.addfile(member, io.BytesIO(png(face(1))))
    crops = list(FaceCrops(take(tmp_path / "w", {"a": tmp_path / "a.tar"})).read("a"))
    assert len(crops) == 2 and all(np.array_equal(crop, face(1)) for crop in crops)


def test_durations_of_frames_are_their_images(tmp_path: Path) -> None:
    sources = {"a": write(tmp_path / "a", FILES), "b": pack(tmp_path / "b.tar", FILES), "c": tmp_path / "none"}
    (tmp_path / "frames.scp").write_text("".join(f"{segment} {path}\n" for segment, path in sources.items()))
    (tmp_path / "vid.scp").write_text("another file.mp4\n")
    get_durations(DurationOptions(tmp_path))
    assert read_scp(tmp_path / "vid2dur") == {"a": "4.000", "b": "4.000", "c": "0.000"}
    assert float(read_scp(tmp_path / "vid2pixels")["b"]) > 0.1


def data_set(folder: Path, sources: dict[str, Path]) -> None:
    folder.mkdir(parents=True)
    (folder / "frames.scp").write_text("".join(f"{segment} {path}\n" for segment, path in sources.items()))
    for name in ("utt2spk", "spk2utt"):
        (folder / name).write_text("".join(f"{segment} {segment}\n" for segment in sources))


@pytest.mark.parametrize(("wanted", "frames"), [(5, [0, 2, 5, 8, 11]), (1, [0]), (0, range(12)), (20, range(12))])
def test_so_many_faces_as_asked_are_taken_at_equal_steps_of_the_sorted_list(
    tmp_path: Path, wanted: int, frames: list[int]
) -> None:
    """As the original: whole parts of numpy.linspace(0, images - 1, 5)."""
    source = write(tmp_path / "a", {f"{n}.png": png(face(n)) for n in range(12)})
    _, status, found = take_faces("a", str(source), wanted=wanted)
    assert status == "ok" and found.rows[:, 0].tolist() == list(frames)
    seen = [cv2.imdecode(np.frombuffer(crop, np.uint8), cv2.IMREAD_COLOR_RGB) for crop in found.crops]
    assert all((image == face(n)).all() for image, n in zip(seen, frames, strict=True))


def test_stages_1_to_3_of_aligned_faces_need_no_detector_and_resume_with_new_images(tmp_path: Path, repo: Path) -> None:
    sources = {f"s{n}": write(tmp_path / f"s{n}", FILES) for n in range(5)} | {"t": pack(tmp_path / "t.tar", FILES)}
    data_set(tmp_path / "data" / "set", sources)
    (tmp_path / "data" / "set" / "trials").write_text("s0 t nontarget\ns1 t target\n")
    recipe = Recipe(repo, tmp_path, "demo", "aligned", "arcface_tiny")
    only = ("--trial-sets", "set:set")
    install_model(recipe.embedder, tmp_path / "exp" / "face_models")
    recipe.run("001_prepare_data", *only, "--stage", "2")
    recipe.run("002_detect_faces", *only, "--nj", "2", "--stop-stage", "3")
    assert read_scp(recipe.faces("set") / "status") == dict.fromkeys(sources, "ok")
    assert (recipe.faces("set") / "contact_sheet.jpg").is_file()
    assert load_matrices(recipe.embeddings("set") / "embed.scp")["t"].shape == (4, 128)
    (sources["s3"] / "11.png").write_bytes(png(face(7)))
    done = recipe.run("002_detect_faces", *only, "--nj", "3")
    assert "1 of 6 segments are new or changed" in done.stdout
    made = outputs(take(tmp_path / "in one job", sources))
    assert len(made) == 7 and outputs(recipe.faces("set")) == made


def test_real_faces_in_folders_are_the_crops_that_training_reads(tmp_path: Path, shared: Path) -> None:
    pictures = list_pictures(shared / "data" / "faces" / "train_pins105.tar")
    folder = write(tmp_path / "a", {f"{n}.jpg": pictures.read(n) for n in range(6)})
    crops = list(FaceCrops(take(tmp_path / "w", {"a": folder})).read("a"))
    for number, crop in enumerate(crops):
        decoded = cv2.imdecode(np.frombuffer(pictures.read(number), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert decoded is not None and np.array_equal(crop, decoded)
    assert len(crops) == 6
