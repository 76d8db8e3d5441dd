"""What there is to train on, in all its layouts; batches; what is done to the pictures."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vidperson.errors import DataError, TrainingError
from vidperson.io.record import write_record
from vidperson.media.image import decode_intact_image
from vidperson.training import command

pytest.importorskip("torch", reason="training needs the torch extra")

from vidperson.face.training_faces import face_batches, read_faces
from vidperson.training.augment import CHANGES, Augmentation, mix_pairs
from vidperson.training.loop import LOG
from vidperson.training.pictures import PictureBatches, PictureSet

PLAIN = Augmentation(mirror=0.0)
CHANGES_BEFORE_GAUSS = list(CHANGES).index("gauss")
EVERY = {**dict.fromkeys(CHANGES, 1.0), "erase": 1.0}


def write_face(path: Path, number: int, size: tuple[int, int] = (112, 112)) -> None:
    """A grey picture that tells its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), number, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three persons with 4, 3 and 1 pictures, numbered through."""
    number = 0
    for who, count in (("ann", 4), ("bob", 3), ("cy", 1)):
        for k in range(count):
            write_face(tmp_path / "faces" / who / f"{k}.png", number := number + 10)
    return tmp_path / "faces"


def batches(source: Path | str, size: int = 4, augmentation: Augmentation = PLAIN, **options: int) -> PictureBatches:
    return face_batches(read_faces([str(source)]), decode_intact_image, size, augmentation, **options)


def numbers(made: PictureBatches, epoch: int) -> list[int]:
    return [int(crop[0, 0, 0]) for batch in made(epoch) for crop in batch["crops"].numpy()]


def test_folder_and_its_tar_give_the_same_identities_and_labels(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for who in ("cy", "ann", "bob"):
            archive.add(folder / who, who)
    for source in (folder, tmp_path / "faces.tar"):
        faces = read_faces([str(source)])
        assert faces.identities == ["ann", "bob", "cy"]
        assert faces.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
        seen = {}
        for batch in face_batches(faces, decode_intact_image, 8, PLAIN)(0):
            seen |= {int(c[0, 0, 0]): int(y) for c, y in zip(batch["crops"], batch["labels"], strict=True)}
        assert seen == {10: 0, 20: 0, 30: 0, 40: 0, 50: 1, 60: 1, 70: 1, 80: 2}


def test_class_with_one_picture_is_reported_and_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        faces = read_faces([str(folder)])
    assert "1 of 3 identities have one item only, e.g. 'cy'" in caplog.text
    assert 2 in faces.labels


def test_same_identity_in_two_sources_is_one_and_is_reported(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_face(tmp_path / "more/bob/9.png", 1)
    write_face(tmp_path / "more/dan/9.png", 2)
    with caplog.at_level(logging.INFO):
        faces = read_faces([str(folder), str(tmp_path / "more")])
    assert faces.identities == ["ann", "bob", "cy", "dan"] and len(faces) == 10
    assert "1 identities are in several sources and are taken as one, e.g. 'bob'" in caplog.text


def test_tar_of_the_folder_itself_has_the_same_identities(folder: Path, tmp_path: Path) -> None:
    write_face(folder / "ann/new.png", 3)
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        archive.add(folder, ".")  # members ./ann/0.png, as `tar -C faces -cf faces.tar .` writes them
    assert read_faces([str(folder), str(tmp_path / "faces.tar")]).identities == ["ann", "bob", "cy"]


def test_reading_from_many_archives_leaves_no_file_open(tmp_path: Path) -> None:
    write_face(tmp_path / "ann/0.png", 1)
    for number in range(40):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            archive.add(tmp_path / "ann/0.png", "ann/0.png")
    faces = read_faces([str(tmp_path / f"{number}.tar") for number in range(40)])
    before = len(os.listdir("/proc/self/fd"))
    expected = (tmp_path / "ann/0.png").read_bytes()
    assert all(faces.read(item, np.random.default_rng(0))[0] == expected for item in range(40))
    assert len(os.listdir("/proc/self/fd")) == before


def test_digest_is_that_of_names_and_persons_wherever_the_pictures_are(folder: Path, tmp_path: Path) -> None:
    digest = read_faces([str(folder)]).digest()
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        archive.add(folder, ".")
    assert read_faces([str(tmp_path / "faces.tar")]).digest() == digest
    (folder / "bob").rename(folder / "zoe")
    assert read_faces([str(folder)]).digest() != digest
    (folder / "zoe").rename(folder / "bob")
    assert read_faces([str(folder)]).digest() == digest
    (folder / "bob/0.png").rename(folder / "bob/7.png")
    assert read_faces([str(folder)]).digest() != digest


def test_crops_archive_with_utt2spk_takes_identities_of_the_segments(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "crops.tar", "w") as archive:
        for segment in ("ann", "bob", "cy"):
            archive.add(folder / segment, f"seg/{segment}")
    (tmp_path / "utt2spk").write_text("seg/ann p1\nseg/bob p2\nseg/cy p1\n")
    faces = read_faces([f"{tmp_path}/crops.tar:{tmp_path}/utt2spk"])
    assert faces.identities == ["p1", "p2"] and np.bincount(faces.labels).tolist() == [5, 3]
    (tmp_path / "utt2spk").write_text("seg/ann p1\nseg/cy p3\n")  # as a cleansed list is
    faces = read_faces([f"{tmp_path}/crops.tar:{tmp_path}/utt2spk"])
    assert faces.identities == ["p1", "p3"]
    assert {os.path.dirname(name) for name in faces.sources[0].names} == {"seg/ann", "seg/cy"}
    (tmp_path / "utt2spk").write_text("other/ann p1\n")
    with pytest.raises(DataError, match="utt2spk: expected segments of .*crops.tar, found none of them"):
        read_faces([f"{tmp_path}/crops.tar:{tmp_path}/utt2spk"])


def make_data_folder(root: Path) -> str:
    """Two utterances of id1, one in a tar, one of id2, one of nobody; as stage 1 lists them."""
    segments = (("id1-v-1", "id1", 3), ("id1-v-2", "id1", 2), ("id2-w-1", "id2", 3), ("x-1", "", 1))
    for segment, who, frames in segments:
        for k in range(frames):
            write_face(root / "faces" / segment / f"{k:04d}0.jpg", 40 * int(who[2:] or 5) + k)
    with tarfile.open(root / "faces/id1-v-2.tar", "w") as archive:
        archive.add(root / "faces/id1-v-2", ".")
    folder = root / "data"
    folder.mkdir()
    paths = {segment: "../faces/" + segment + (".tar" if segment == "id1-v-2" else "") for segment, *_ in segments}
    (folder / "frames.scp").write_text("".join(f"{segment} {path}\n" for segment, path in paths.items()))
    (folder / "utt2spk").write_text("".join(f"{segment} {who}\n" for segment, who, _ in segments if who))
    return str(folder)


def check_random_faces(faces: PictureSet) -> None:
    """Of the utterances of :func:`make_data_folder`: one face of each, another one from epoch to epoch."""
    assert faces.identities == ["id1", "id2"] and faces.labels.tolist() == [0, 0, 1]
    made = face_batches(faces, decode_intact_image, 3, PLAIN)
    epochs = [sorted(numbers(made, epoch)) for epoch in range(20)]
    assert all(len(seen) == 3 and seen[2] >= 78 > seen[1] for seen in epochs)
    assert len(set(map(tuple, epochs))) > 3
    assert epochs == [sorted(numbers(made, epoch)) for epoch in range(20)]


def test_data_folder_with_aligned_faces_gives_a_random_one_of_each_known_segment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    check_random_faces(read_faces([make_data_folder(tmp_path)]))
    assert "frames.scp: 1 segments show nobody who is known: left out" in caplog.text


def test_data_folder_of_videos_gives_a_random_face_that_stage_2_cut_of_each_segment(tmp_path: Path) -> None:
    folder = Path(make_data_folder(tmp_path))
    (folder / "frames.scp").rename(folder / "vid.scp")
    with pytest.raises(DataError, match="crops.tar: no faces of .*data are there; run ./run_002_detect_faces.sh"):
        read_faces([str(folder)], tmp_path / "items")
    (tmp_path / "items/data").mkdir(parents=True)
    with tarfile.open(tmp_path / "items/data/crops.tar", "w") as archive:
        for segment in ("id1-v-1", "id1-v-2", "id2-w-1"):
            archive.add(tmp_path / "faces" / segment, segment)
    write_record(tmp_path / "items/data", ["x"], [], [tmp_path / "items/data/crops.tar"])
    check_random_faces(read_faces([str(folder)], tmp_path / "items"))
    with open(tmp_path / "items/data/crops.tar", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match="crops.tar"):
        read_faces([str(folder)], tmp_path / "items")


def test_utterance_without_faces_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_data_folder(tmp_path)
    shutil.rmtree(tmp_path / "faces/id1-v-1")
    (tmp_path / "faces/id1-v-2.tar").write_bytes(b"no tar")
    made = face_batches(read_faces([folder]), decode_intact_image, 3, PLAIN)
    assert all(len(numbers(made, epoch)) == 3 for epoch in range(5))
    for name in ("id1-v-1", "id1-v-2.tar"):
        assert caplog.text.count(f"faces/{name}") == 1


def test_data_folder_of_strangers_and_one_that_was_not_prepared_are_refused(tmp_path: Path) -> None:
    folder = Path(make_data_folder(tmp_path))
    (folder / "utt2spk").write_text("other id1\n")
    with pytest.raises(DataError, match="frames.scp: none of its segments is in utt2spk"):
        read_faces([str(folder)])
    (tmp_path / "train_all.txt").touch()
    with pytest.raises(DataError, match="VoxCeleb: prepare it by ./run_001_prepare_data.sh"):
        read_faces([str(tmp_path)])


def test_empty_identity_folder_and_stray_picture_and_no_source_are_errors(folder: Path) -> None:
    (folder / "nobody").mkdir()
    with pytest.raises(DataError, match="nobody: no image .* remove the folder or fill it"):
        read_faces([str(folder)])
    (folder / "nobody").rmdir()
    write_face(folder / "stray.png", 1)
    with pytest.raises(DataError, match="expected <identity>/<image>, found 'stray.png' in no folder"):
        read_faces([str(folder)])
    with pytest.raises(DataError, match="no training data"):
        read_faces([])
    with pytest.raises(DataError, match="no such folder or tar"):
        read_faces([str(folder / "none")])


def test_links_in_a_circle_are_not_followed(folder: Path) -> None:
    expected = len(read_faces([str(folder)]))
    for identity in [path for path in folder.iterdir() if path.is_dir()]:
        (identity / "one").symlink_to(folder)
        (identity / "two").symlink_to(folder)
    assert len(read_faces([str(folder)])) == expected


def test_epoch_gives_every_picture_once_and_another_order_each_time(folder: Path) -> None:
    made = batches(folder, 4)
    assert made.steps_per_epoch == 2
    assert sorted(numbers(made, 0)) == sorted(numbers(made, 1)) == [10, 20, 30, 40, 50, 60, 70, 80]
    assert numbers(made, 0) != numbers(made, 1)
    assert numbers(batches(folder, 4, seed=1), 0) != numbers(made, 0)


def test_batches_do_not_depend_on_workers_or_on_where_the_epoch_is_taken_up(folder: Path) -> None:
    every = Augmentation(**{**EVERY, "mix": 0.5})
    whole = list(batches(folder, 2, every)(3))
    for made in (batches(folder, 2, every, workers=2)(3, 1), batches(folder, 2, every)(3, 1)):
        for expected, found in zip(whole[1:], made, strict=True):
            assert all((expected[name] == found[name]).all() for name in expected)


def test_ranks_share_out_the_batches_of_one_process(folder: Path) -> None:
    whole = [sorted(batch["crops"][:, 0, 0, 0].tolist()) for batch in batches(folder, 4)(0)]
    parts = [list(batches(folder, 4, rank=rank, ranks=2)(0)) for rank in (0, 1)]
    together = [sorted(c for part in parts for c in part[k]["crops"][:, 0, 0, 0].tolist()) for k in range(2)]
    assert together == whole
    with pytest.raises(DataError, match="at least 4 items in a batch, found 3"):
        batches(folder, 3, ranks=2)


def test_picture_that_is_broken_is_named_once_and_replaced(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "ann/1.png").write_bytes(b"this is no picture")
    data = (folder / "bob/0.png").read_bytes()
    (folder / "bob/0.png").write_bytes(data[: len(data) // 2])
    write_face(folder / "bob/1.png", 7, (112, 96))
    made = batches(folder, 4)
    for epoch in range(4):
        seen = numbers(made, epoch)
        assert len(seen) == 8 and set(seen) <= {10, 30, 40, 70, 80}
    for text in (
        "left out: {}/ann/1.png: the image file cannot be decoded",
        "left out: {}/bob/0.png: the PNG",
        "left out: {}/bob/1.png: expected an aligned, square face, found 96 x 112 pixels",
    ):
        assert caplog.text.count(text.format(folder)) == 1
    assert len(made.broken) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_all_pictures_broken_is_an_error_that_names_one(folder: Path, workers: int) -> None:
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"20 items in turn cannot be used, the last one: .*\.png"):
        list(batches(folder, 4, workers=workers)(0))


def test_square_picture_of_another_size_is_brought_to_112(tmp_path: Path) -> None:
    for k, size in enumerate((80, 112, 224)):
        write_face(tmp_path / f"p{k}/x.png", 50 * (k + 1), (size, size))
    crops = next(iter(batches(tmp_path, 3)(0)))["crops"].numpy()
    assert crops.shape == (3, 112, 112, 3) and sorted(crops[:, 5, 5, 0].tolist()) == [50, 100, 150]


# -- what is done to the pictures ----------------------------------------------------------------------------------


@pytest.fixture
def face() -> np.ndarray:
    """A picture with structure: a colour gradient with a bright square right of the middle."""
    y, x = np.mgrid[0:112, 0:112]
    image = np.stack([x * 2, y * 2, 200 - x], axis=-1).astype(np.uint8)
    image[40:60, 70:90] = 255
    return image


@pytest.mark.parametrize("name", sorted(EVERY))
def test_each_change_alters_the_picture_and_keeps_its_shape_and_input(face: np.ndarray, name: str) -> None:
    before = face.copy()
    changed = Augmentation.parse(f"{name}=1")(face, np.random.default_rng(0))
    assert changed.shape == face.shape and changed.dtype == np.uint8
    assert (changed != face).any() and (face == before).all()
    again = Augmentation.parse(f"{name}=1")(face, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, again)


def test_changes_do_what_their_names_say(face: np.ndarray) -> None:
    def done(name: str) -> np.ndarray:
        return Augmentation.parse(f"{name}=1")(face, np.random.default_rng(3)).astype(int)

    np.testing.assert_array_equal(done("mirror"), face[:, ::-1])
    grey = done("grey")
    assert (grey == grey[..., :1]).all()
    assert grey[10, 20, 0] == round(0.299 * 40 + 0.587 * 20 + 0.114 * 180)
    edges = np.abs(np.diff(face.astype(int), axis=1)).max()
    for name in ("blur", "scale"):
        assert np.abs(np.diff(done(name), axis=1)).max() < edges
        assert abs(done(name).mean() - face.mean()) < 2
    assert 0 < np.abs(done("jpeg") - face).mean() < 10
    share = (done("cutout") != face).any(axis=-1).mean()
    assert 0.15**2 * 0.9 < share < 0.45**2 * 1.1


def test_colour_equals_the_formulas_of_brightness_contrast_and_saturation(face: np.ndarray) -> None:
    for seed in range(5):
        brightness, contrast, saturation = np.random.default_rng(seed).uniform(0.6, 1.4, size=3)
        wanted = face * brightness
        wanted = (wanted - wanted.mean()) * contrast + wanted.mean()
        luma = (wanted * [0.299, 0.587, 0.114]).sum(axis=2, keepdims=True)
        wanted = np.clip((wanted - luma) * saturation + luma, 0, 255)
        found = CHANGES["colour"](face, np.random.default_rng(seed))
        assert np.abs(found - wanted).max() < 1  # OpenCV computes in fixed point


def test_motion_smears_a_dot_along_a_straight_line_of_bounded_length() -> None:
    dot = np.zeros((101, 81, 3), np.uint8)
    dot[50, 40] = 255
    lengths, angles = [], []
    for seed in range(60):
        y, x = np.nonzero(CHANGES["motion"](dot, np.random.default_rng(seed))[..., 0])
        assert abs(y.mean() - 50) < 0.3 and abs(x.mean() - 40) < 0.3  # to both sides alike
        lengths.append(np.hypot(np.ptp(y), np.ptp(x)))
        if lengths[-1] > 5:
            spread = np.linalg.svd(np.stack([y - 50, x - 40]))[1]
            assert spread[1] / np.sqrt(len(y)) < 0.5  # pixels off the line
            angles.append(np.arctan2(y[0] - 50, x[0] - 40) % np.pi)
    assert 8 < max(lengths) <= 101 / 10 + np.sqrt(2)
    assert min(angles) < 0.3 and max(angles) > np.pi - 0.5
    flat = np.full_like(dot, 200)
    np.testing.assert_array_equal(CHANGES["motion"](flat, np.random.default_rng(0)), flat)


def test_dark_raises_to_a_power(face: np.ndarray) -> None:
    for seed in range(5):
        power = np.random.default_rng(seed).uniform(1, 3)
        found = CHANGES["dark"](face, np.random.default_rng(seed))
        assert np.abs(found - 255 * (face / 255) ** power).max() <= 0.5 + 1e-9


def test_recolour_gives_either_half_other_colours_and_keeps_the_top() -> None:
    image = np.full((256, 128, 3), (150, 90, 60), np.uint8)
    image[::7, ::5] = 20  # folds
    changes = set()
    for seed in range(60):
        found = CHANGES["recolour"](image, np.random.default_rng(seed))
        np.testing.assert_array_equal(found[:13], image[:13])
        upper, lower = (np.abs(found[rows, 64].astype(int) - image[rows, 64]).max() > 8 for rows in (70, 230))
        changes.add((bool(upper), bool(lower)))
    assert changes == {(one, other) for one in (False, True) for other in (False, True)}


def test_pad_moves_a_picture_of_any_shape_by_up_to_ten_of_256_pixels_and_fills_with_black() -> None:
    image = np.full((256, 128, 3), 9, np.uint8)
    moved = set()
    for seed in range(200):
        found = CHANGES["pad"](image, np.random.default_rng(seed))
        rows, columns = (np.flatnonzero((found[..., 0] == 9).any(axis=axis)) for axis in (1, 0))
        assert found.shape == image.shape and set(np.unique(found)) <= {0, 9}
        down, right = (int(at[0]) or int(at[-1]) + 1 - side for at, side in ((rows, 256), (columns, 128)))
        assert (found == 9).all(axis=2).sum() == (256 - abs(down)) * (128 - abs(right))
        moved |= {("y", down), ("x", right)}
    assert moved == {(axis, by) for axis in "xy" for by in range(-10, 11)}


def test_erase_fills_one_rectangle_of_the_published_sizes_with_the_pixel_that_is_zero_to_the_network() -> None:
    import torch

    from vidperson.training.batches import Normalise

    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    erase = Augmentation.parse("erase=1", mean)
    image = np.full((256, 128, 3), 250, np.uint8)
    areas, ratios = [], []
    for seed in range(200):
        found = erase(image, np.random.default_rng(seed))
        rows, columns = (np.flatnonzero((found[..., 0] != 250).any(axis=axis)) for axis in (1, 0))
        assert (found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == [124, 116, 104]).all()
        assert (found != 250).all(axis=2).sum() == len(rows) * len(columns)
        areas.append(len(rows) * len(columns) / (256 * 128))
        ratios.append(len(rows) / len(columns))
    assert 0.019 < min(areas) < 0.05 and 0.35 < max(areas) < 0.41
    assert 0.28 < min(ratios) < 0.6 and 2.8 < max(ratios) < 3.5
    seen = Normalise(mean, std)(torch.from_numpy(found[None]))
    assert (seen[0, :, rows[0], columns[0]].abs() < 0.5 / min(std)).all() and (image == 250).all()


def test_jitter_moves_the_picture_by_few_pixels(face: np.ndarray) -> None:
    for seed in range(20):
        moved = Augmentation.parse("jitter=1")(face, np.random.default_rng(seed))
        y, x = np.argwhere((moved[20:90, 40:112] > 230).all(axis=-1)).mean(axis=0) + (20, 40)
        assert abs(y - 49.5) < 12 and abs(x - 79.5) < 12


def test_changes_are_made_as_often_as_asked(face: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    rare = Augmentation.parse("mirror=0.25")
    count = sum((rare(face, rng) != face).any() for _ in range(400))
    assert 70 < count < 130
    assert all((PLAIN(face, rng) == face).all() for _ in range(20))


def test_mixed_batch_is_the_weighted_sum_of_partners(folder: Path) -> None:
    order, share = mix_pairs(8, np.random.default_rng(1))
    assert sorted(order) == list(range(8)) and 0.5 <= share <= 1
    well_mixed = 0
    for epoch in range(12):
        plain = next(iter(batches(folder, 8)(epoch)))
        mixed = next(iter(batches(folder, 8, Augmentation.parse("mix=1"))(epoch)))
        share = float(mixed["share"][0])
        assert 0.5 <= share <= 1 and (mixed["share"] == share).all()
        assert (mixed["labels"] == plain["labels"]).all()
        values = plain["crops"][:, 0, 0, 0].double()
        for k in range(8 if share < 0.9 else 0):
            possible = share * values[k] + (1 - share) * values
            nearest = int((possible - mixed["crops"][k, 0, 0, 0]).abs().argmin())
            assert abs(possible[nearest] - mixed["crops"][k, 0, 0, 0]) <= 0.5
            assert mixed["other_labels"][k] == plain["labels"][nearest]
            well_mixed += nearest != k
    assert well_mixed > 8


@pytest.mark.parametrize("text", ["mirror", "mirror=2", "mirror=x", "sharpen=0.5"])
def test_augmentation_unknown_or_out_of_range_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(TrainingError, match=f"found '{text}'; names: mirror jitter"):
        Augmentation.parse(text)


@pytest.mark.parametrize(("ranks", "words"), [(1, "1 items were left out; "), (2, "left out by process 1 of 2; ")])
def test_items_left_out_are_counted_as_those_of_one_process_where_there_are_several(
    folder: Path, caplog: pytest.LogCaptureFixture, ranks: int, words: str
) -> None:
    made = batches(folder, ranks=ranks)
    command.warn_of_left_out(made)
    assert not caplog.text
    made.broken.add("a.jpg: damaged")
    command.warn_of_left_out(made)
    assert words in caplog.text


def test_curves_are_drawn_after_an_epoch_unless_they_were_drawn_just_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LOG).touch()
    drawn: list[float] = []
    clock = [0.0]
    monkeypatch.setattr("vidperson.training.command.time", SimpleNamespace(monotonic=lambda: clock[0]))
    report = command.reporter(tmp_path, 2, lambda _: drawn.append(clock[0]) or b"PNG")
    for step in range(1, 9):  # an epoch takes 40 s
        clock[0] += 20
        report(step, 8)
    assert drawn == [80, 160] and (tmp_path / "curves.png").read_bytes() == b"PNG"


def test_gauss_blurs_by_a_gaussian_of_which_5_x_9_pixels_count_and_mirrors_the_edges() -> None:
    """As GaussianBlur(kernel_size=(5, 9), sigma=(0.1, 5)) of torchvision, which rounds as well."""
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for seed in range(3):
        draws = np.random.default_rng(seed)
        draws.random(CHANGES_BEFORE_GAUSS + 1)  # whether each is made, up to this one
        sigma = draws.uniform(0.1, 5)
        rows, columns = (np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2) for reach in (4, 2))
        expected = np.pad(image.astype(float), ((4, 4), (2, 2), (0, 0)), mode="reflect")
        expected = sum(weight * expected[at : at + 20] for at, weight in enumerate(rows / rows.sum()))
        expected = sum(weight * expected[:, at : at + 30] for at, weight in enumerate(columns / columns.sum()))
        found = Augmentation(mirror=0, gauss=1)(image, np.random.default_rng(seed))
        apart = np.abs(found - expected)
        assert apart.max() <= 1.5 and apart.mean() < 0.35  # whole numbers, and weights of OpenCV in 8 bits


def test_gauss_draws_nothing_where_it_is_not_asked_for() -> None:
    """So that other trainings stay what they were."""
    without, rng = np.random.default_rng(5), np.random.default_rng(5)
    Augmentation(mirror=0)(np.zeros((8, 8, 3), np.uint8), rng)
    without.random(len(CHANGES))  # all but gauss, and erase
    assert rng.random() == without.random()
