"""Pictures in folders and archives, lists of pairs, verification figures, and the step that joins them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from steps_face.evaluate_pairs import PairsOptions, evaluate_pairs, measure_pairs
from vidperson import cli, metrics
from vidperson.errors import DataError, ScoringError
from vidperson.face.pairs import aligned_face, cross_scores, pair_scores
from vidperson.io.pairs import find_pictures, picture_key, read_pairs
from vidperson.io.pictures import list_pictures
from vidperson.networks.card import card_path, load_card


def make_faces(folder: Path, names: list[str]) -> Path:
    """Pictures whose mean colour tells the person: the folder's number among its siblings."""
    people = sorted({name.split("/")[0] for name in names})
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        base = np.zeros(3)
        base[people.index(name.split("/")[0]) % 3] = 200
        cv2.imwrite(str(path), (base + rng.integers(0, 40, (112, 112, 3))).astype(np.uint8))
    return folder


def mean_colour(crops: np.ndarray) -> np.ndarray:
    return crops.mean(axis=(1, 2), dtype=np.float32)


def test_pictures_of_a_folder_and_of_its_tar_are_the_same(tmp_path: Path) -> None:
    folder = make_faces(tmp_path / "faces", ["b/1.png", "a/2.png", "a/1.png", "ä ö/x.JPG"])
    (folder / "notes.txt").write_text("no picture")
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        archive.add(folder, ".")
    loose, packed = list_pictures(folder), list_pictures(tmp_path / "faces.tar")
    assert loose.names == ["a/1.png", "a/2.png", "b/1.png", "ä ö/x.JPG"]
    assert packed.names == loose.names  # not ./a/1.png, another name than the folder's
    for index in range(4):
        assert loose.read(index) == packed.read(index) == (folder / loose.names[index]).read_bytes()


def test_hard_link_in_a_tar_is_the_picture_that_it_names(tmp_path: Path) -> None:
    folder = make_faces(tmp_path / "faces", ["a/1.png"])
    for name in ("a/2.png", "b.png"):
        (folder / name).hardlink_to(folder / "a/1.png")
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for name in ("a/1.png", "a/2.png", "b.png"):
            archive.add(folder / name, f"./{name}")
        assert [member.islnk() for member in archive.getmembers()] == [False, True, True]
    pictures = list_pictures(tmp_path / "faces.tar")
    assert pictures.names == ["a/1.png", "a/2.png", "b.png"]
    assert {pictures.read(index) for index in range(3)} == {(folder / "a/1.png").read_bytes()}


@pytest.mark.parametrize("file", ["gone.png", "../faces/1.png", "/etc/hostname"])
def test_hard_link_to_what_is_not_in_the_tar_is_named(tmp_path: Path, file: str) -> None:
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        member = tarfile.TarInfo("2.png")
        member.type, member.linkname = tarfile.LNKTYPE, file
        archive.addfile(member)
    with pytest.raises(DataError, match=f"faces.tar: '2.png' is a hard link to '{file}', which is not before it"):
        list_pictures(tmp_path / "faces.tar")


def test_picture_appended_to_a_tar_again_counts_once_with_its_last_bytes(tmp_path: Path) -> None:
    folder = make_faces(tmp_path / "faces", ["a/1.png", "a/2.png"])
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        archive.add(folder, ".")
    (folder / "a/1.png").write_bytes((folder / "a/2.png").read_bytes())
    with tarfile.open(tmp_path / "faces.tar", "a") as archive:
        archive.add(folder / "a/1.png", "a/1.png")
    pictures = list_pictures(tmp_path / "faces.tar")
    assert pictures.names == ["a/1.png", "a/2.png"] and pictures.read(0) == pictures.read(1)


def test_pictures_missing_or_none_or_not_a_tar_names_the_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 100)
    for name, message in (("none", "no such folder"), ("empty", "no image"), ("x.tar", "not an uncompressed tar")):
        with pytest.raises(DataError, match=f"{name}: {message}"):
            list_pictures(tmp_path / name)


def test_lfw_view_1_list_is_read_as_its_readme_says(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("2\nAl_Gore\t1\t12\nBo\t3\t4\nAl_Gore\t1\tBo\t2\nCy\t10\tBo\t4\n")
    pairs = read_pairs(path)
    assert pairs.first == ["Al_Gore/Al_Gore_0001", "Bo/Bo_0003", "Al_Gore/Al_Gore_0001", "Cy/Cy_0010"]
    assert pairs.second == ["Al_Gore/Al_Gore_0012", "Bo/Bo_0004", "Bo/Bo_0002", "Bo/Bo_0004"]
    assert pairs.is_target.tolist() == [True, True, False, False] and pairs.folds is None


def test_lfw_view_2_list_brings_its_folds(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("2\t1\nA 1 2\nA 1 B 1\nC 1 2\nC 1 D 1\n")
    pairs = read_pairs(path)
    assert pairs.folds is not None and pairs.folds.tolist() == [0, 0, 1, 1]
    assert pairs.is_target.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pairs"),
        ("2\nA 1 2\n", "expected 4 pairs as the first line says, found 1"),
        ("1\nA 1 B 2\nA 1 B 2\n", "txt:2: expected '<name> <i> <j>'"),
        ("1\nA 1 2\nA 1 2\n", "txt:3: expected '<name> <i> <other name> <j>'"),
        ("1\nA 1 x\nA 1 B 2\n", "txt:2: expected '<name> <i> <j>'"),
        ("a b target\na b same\n", "txt:2: expected '<image> <image> target|nontarget'"),
        ("hello\n", "txt:1: expected '<n>'"),
    ],
)
def test_pair_list_broken_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message.replace("|", r"\|")):
        read_pairs(path)


def test_lfw_list_of_one_fold_has_no_folds(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("1 2\nAl 1 2\nBo 3 4\nAl 1 Bo 2\nCy 1 Bo 4\n")
    pairs = read_pairs(tmp_path / "pairs.txt")
    assert len(pairs) == 4 and pairs.folds is None


def test_digest_of_pairs_changes_with_their_names_and_labels(tmp_path: Path) -> None:
    lists = ("a/1 b/1 target\na/1 c/1 nontarget\n", "a/1 b/1 target\na/1 c/2 nontarget\n")
    lists += ("a/1 b/1 nontarget\na/1 c/1 target\n", "a/1 b/1 target\n")
    for number, text in enumerate(lists):
        (tmp_path / str(number)).write_text(text)
    assert len({read_pairs(tmp_path / str(number)).digest() for number in range(4)}) == 4
    (tmp_path / "copy").write_text(lists[0].replace("1 ", "1.png "))
    assert read_pairs(tmp_path / "copy").digest() == read_pairs(tmp_path / "0").digest()


def test_picture_name_with_a_dot_keeps_what_is_behind_it(tmp_path: Path) -> None:
    folder = make_faces(tmp_path / "faces", ["A/f_0.png", "A/f_0.25.png", "A/f_0.50.JPG"])
    (tmp_path / "pairs").write_text("A/f_0.25 A/f_0.50 target\nA/f_0.png A/f_0.25 nontarget\n")
    pairs = read_pairs(tmp_path / "pairs")
    pictures = list_pictures(folder)
    found = [pictures.names[index] for index in find_pictures(pictures, pairs.first + pairs.second)]
    assert found == ["A/f_0.25.png", "A/f_0.png", "A/f_0.50.JPG", "A/f_0.25.png"]


def test_picture_of_a_pair_missing_or_there_twice_is_named(tmp_path: Path) -> None:
    folder = make_faces(tmp_path, ["one/A/1.png", "two/A/1.png", "two/B/1.png"])
    pictures = list_pictures(folder)
    assert picture_key("two/B/1.png") == "B/1"
    with pytest.raises(DataError, match="1 of 2 images are missing, first 'C/1'"):
        find_pictures(pictures, ["B/1", "C/1"])
    with pytest.raises(DataError, match="'A/1' may be one/A/1.png or two/A/1.png"):
        find_pictures(pictures, ["A/1"])


def test_best_threshold_and_accuracy_equal_a_search_over_all_scores() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        targets = rng.integers(0, 12, rng.integers(1, 20)) / 10 + 0.2
        nontargets = rng.integers(0, 12, rng.integers(1, 20)) / 10
        found = metrics.best_threshold(metrics.roc(targets, nontargets))

        def right(t: float, tar: np.ndarray = targets, non: np.ndarray = nontargets) -> float:
            return ((tar >= t).sum() + (non < t).sum()) / (len(tar) + len(non))

        best = max(right(t) for t in [*targets, *nontargets, np.inf])
        assert right(found) == pytest.approx(best)
        assert metrics.accuracy(targets, nontargets, found) == pytest.approx(best)
        assert metrics.accuracy(targets, nontargets, 0.55) == pytest.approx(right(0.55))


def test_best_threshold_lies_in_the_middle_of_the_gap() -> None:
    assert metrics.best_threshold(metrics.roc([0.8, 0.9], [0.1, 0.4])) == pytest.approx(0.6)


def test_fold_accuracies_take_the_threshold_of_the_other_folds() -> None:
    # The threshold of fold 1 and 2 (0.5) rejects the targets of fold 0; theirs is learnt with those.
    scores = [0.3, 0.2, 0.9, 0.1, 0.8, 0.2]
    target = [True, False, True, False, True, False]
    found = metrics.fold_accuracies(scores, target, [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(found, [0.5, 1.0, 1.0])
    with pytest.raises(ScoringError, match="at least two folds"):
        metrics.fold_accuracies(scores, target, [0] * 6)


def test_split_folds_are_even_and_hold_both_kinds() -> None:
    folds = metrics.split_folds([True] * 30 + [False] * 20, 10)
    assert np.bincount(folds[:30]).tolist() == [3] * 10 and np.bincount(folds[30:]).tolist() == [2] * 10


def test_tar_at_far_allows_so_many_false_accepts_and_no_more() -> None:
    targets, nontargets = np.arange(1, 11) / 10, [0.05, 0.15, 0.35, 0.55]
    curve = metrics.roc(targets, nontargets)
    assert metrics.tar_at_far(curve, 0.5) == pytest.approx(0.9)  # 0.35 and 0.55 are let in: 0.2 and above
    assert metrics.tar_at_far(curve, 0.25) == pytest.approx(0.7)
    assert metrics.tar_at_far(curve, 0.001) == pytest.approx(0.5)


def test_pair_figures_of_faces_told_by_colour_are_perfect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_faces(tmp_path / "faces", [f"{who}/{who}_000{k}.png" for who in "ABC" for k in (1, 2)])
    (tmp_path / "pairs").write_text("3\nA 1 2\nB 1 2\nC 1 2\nA 1 B 1\nB 2 C 1\nC 2 A 2\n")
    pairs = read_pairs(tmp_path / "pairs")
    monkeypatch.setattr("vidperson.face.pairs.AT_ONCE", 4)  # two pairs are left for another round
    figures = measure_pairs(mean_colour, list_pictures(folder), pairs, pairs, batch=4)
    assert figures["eer"] == 0 and figures["accuracy"] == 1 and figures["tar_at_far"] == {"0.01": 1.0, "0.001": 1.0}
    assert "ten_fold_accuracy" not in figures  # three pairs of a kind make no ten folds
    np.testing.assert_allclose(
        pair_scores(mean_colour, list_pictures(folder), pairs, batch=1),
        pair_scores(mean_colour, list_pictures(folder), pairs, batch=64),
    )


@pytest.mark.parametrize(
    ("lines", "persons"),
    [
        ("A/1 A/2 target\nA/1 B/1 nontarget\n", ["A", "A", "A", "B"]),
        ("all/a1 all/a2 target\nall/a1 all/b1 nontarget\n", None),  # a flat folder
        ("a1 a2 target\na1 b1 nontarget\n", None),  # no folder
        ("s1/1 s2/2 target\ns1/1 s3/1 nontarget\n", None),  # a folder per session
    ],
)
def test_folders_are_persons_only_where_all_pairs_agree(tmp_path: Path, lines: str, persons: list[str] | None) -> None:
    (tmp_path / "pairs").write_text(lines)
    assert read_pairs(tmp_path / "pairs").persons() == persons


def test_pairs_of_a_flat_folder_have_no_intervals_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_faces(tmp_path / "faces", [f"{who}/{who}{k}.png" for who in "AB" for k in (1, 2)])
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in folder.glob("*/*.png"):
        path.rename(flat / path.name)
    (tmp_path / "pairs").write_text("A1 A2 target\nB1 B2 target\nA1 B1 nontarget\n")
    figures = measure_pairs(mean_colour, list_pictures(flat), read_pairs(tmp_path / "pairs"), None, 4, True)
    assert figures["eer"] == 0 and not {"interval", "num_persons"} & figures.keys()
    assert "are not persons" in caplog.text


def test_pair_picture_cut_short_or_of_another_size_is_named(tmp_path: Path) -> None:
    folder = make_faces(tmp_path / "faces", ["A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg"])
    (tmp_path / "pairs").write_text("1\nA 1 2\nA 1 B 1\n")
    pairs = read_pairs(tmp_path / "pairs")
    data = (folder / "A/A_0002.jpg").read_bytes()
    (folder / "A/A_0002.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"A_0002.jpg: the JPEG image is cut short"):
        pair_scores(mean_colour, list_pictures(folder), pairs, 64)
    cv2.imwrite(str(folder / "A/A_0002.jpg"), np.zeros((112, 96, 3), np.uint8))
    with pytest.raises(DataError, match=r"A_0002.jpg: expected an aligned face of 112 x 112, found \(112, 96\)"):
        pair_scores(mean_colour, list_pictures(folder), pairs, 64)


def test_cross_scores_are_of_every_two_images_once(tmp_path: Path) -> None:
    folder = make_faces(tmp_path / "faces", ["A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg", "C/C_0001.jpg"])
    (tmp_path / "pairs").write_text("1\nA 1 2\nA 1 B 1\n")
    scores, same = cross_scores(mean_colour, list_pictures(folder), read_pairs(tmp_path / "pairs"), 2)
    units = np.stack([mean_colour(aligned_face(list_pictures(folder), i)[None])[0] for i in range(3)]).astype(float)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert same.tolist() == [True, False, False]
    assert scores == pytest.approx([units[0] @ units[1], units[0] @ units[2], units[1] @ units[2]])
    (tmp_path / "flat").write_text("A/A_0001.jpg A/A_0002.jpg target\nA/A_0001.jpg A/A_0002.jpg nontarget\n")
    with pytest.raises(DataError, match="expected folders that are persons"):
        cross_scores(mean_colour, list_pictures(folder), read_pairs(tmp_path / "flat"), 2)


def test_step_measures_an_installed_network_on_real_pairs(models: Path, shared: Path, tmp_path: Path) -> None:
    """Sixty pairs of LFW View 1, which MobileFaceNet tells nearly all."""
    faces = shared / "data/faces"
    lines = (faces / "lfw_pairsDevTest.txt").read_text().splitlines()
    (tmp_path / "pairs").write_text("\n".join(["30", *lines[1:31], *lines[501:531]]) + "\n")
    options = cli.fill(
        PairsOptions,
        model=str(models / "mobilefacenet_casia_pytorch"),
        pictures=str(faces / "lfw_view1_aligned.tar"),
        pairs=str(tmp_path / "pairs"),
        threshold_pairs=str(tmp_path / "pairs"),
        card=str(tmp_path / "mobilefacenet_casia_pytorch.yaml"),
        output=str(tmp_path / "out/figures.json"),
    )
    Path(options.card).write_text(card_path("mobilefacenet_casia_pytorch").read_text())
    figures = evaluate_pairs(options)
    learnt = load_card(options.card).calibration
    assert learnt is not None and learnt.measured_on == "every two images of pairs"
    assert learnt.num_targets >= 30 and learnt.num_nontargets > 5000 and 0.2 < learnt.cosine(0.0) < 0.5
    assert figures["eer"] < 0.05 and figures["accuracy"] > 0.95 and figures["ten_fold_accuracy"] > 0.9
    written = json.loads((tmp_path / "out/figures.json").read_text())
    assert written == {"network": "mobilefacenet_casia_pytorch", **figures}
