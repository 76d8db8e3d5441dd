"""iQIYI-VID: tiny releases of both editions in the exact layout, and the answer to the challenge."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidperson.corpora import iqiyi_vid
from vidperson.corpora.iqiyi_features import clip_names
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import read_scp, read_spk2utt
from vidperson.io.ranks import read_relevant, read_search

T, V, E = "IQIYI_VID_TRAIN_", "IQIYI_VID_VAL_", "IQIYI_VID_TEST_"
OWNERS = {f"{T}0000001": "1", f"{T}0000002": "12", f"{T}0000003": "2", f"{T}0000004": "1"}
SHOWN = {"1": [f"{V}0000002"], "12": [f"{V}0000001", f"{V}0000003"]}
STRANGERS = [f"{V}0000005", f"{V}0000006"]
TESTED = [f"{E}0000001", f"{E}0000002", f"{E}0000003"]


def train_text(end: str = "\n") -> str:
    return "".join(f"{clip}.mp4 {person}{end}" for clip, person in OWNERS.items())


def val_text(end: str = "\n") -> str:
    return "".join(f"{person} {' '.join(f'{clip}.mp4' for clip in clips)}{end}" for person, clips in SHOWN.items())


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def frames(folder: Path, size: int = 112) -> None:
    folder.mkdir(parents=True)
    for number in (1, 2):
        assert cv2.imwrite(str(folder / f"{number}.png"), np.full((size, size, 3), 9 * number, np.uint8))


def release_2018(root: Path) -> Path:
    for number, clip in enumerate(OWNERS):
        touch(root / f"IQIYI_VID_DATA_Part{1 + number % 3}/IQIYI_VID_TRAIN/{clip}.mp4")
    shown = [clip for clips in SHOWN.values() for clip in clips]
    for number, clip in enumerate([*shown, *STRANGERS, f"{V}0000009"]):
        touch(root / f"IQIYI_VID_DATA_Part{1 + number % 3}/IQIYI_VID_VAL/{clip}.mp4")
    touch(*(root / f"IQIYI_VID_TEST/{clip}.mp4" for clip in TESTED))
    touch(root / "gt_v2/x")
    (root / "gt_v2/train_v2.txt").write_text(train_text())
    (root / "gt_v2/val_v2.txt").write_text(val_text())
    valid = [*OWNERS, *shown, *STRANGERS]  # the release removed ...VAL_0000009
    (root / "gt_v2/IQIYI_VID.txt").write_text("".join(f"{clip}.mp4\n" for clip in valid))
    return root


def release_2019(root: Path) -> Path:
    """Frames as images, a folder per clip, and Windows line ends."""
    for clip in [*OWNERS, *(clip for clips in SHOWN.values() for clip in clips), *STRANGERS, *TESTED]:
        frames(root / "img" / clip, 64)
    (root / "train_gt.txt").write_bytes(train_text("\r\n").encode())
    (root / "val_gt.txt").write_bytes(b"\xef\xbb\xbf" + val_text("\r\n").encode())
    return root


@pytest.mark.parametrize("release", [release_2018, release_2019])
def test_both_editions_give_three_sets_with_strangers_of_val_and_test_without_a_person(
    tmp_path: Path, release: Callable[[Path], Path]
) -> None:
    root = release(tmp_path / "corpus")
    folders = iqiyi_vid.prepare(tmp_path / "data", root)
    assert [folder.name for folder in folders] == [f"iqiyi_vid_{part}" for part in ("train", "val", "test")]
    assert [data_dir.validate(folder, check_files=True) for folder in folders] == [[], [], []]
    train, val, test = folders
    assert read_scp(train / "utt2spk") == OWNERS and set(read_scp(train / "vid.scp")) == set(OWNERS)
    of_val = {clip: person for person, clips in SHOWN.items() for clip in clips}
    assert read_scp(val / "utt2spk") == of_val and set(read_scp(val / "vid.scp")) == {*of_val, *STRANGERS}
    assert read_relevant(val / "relevant") == SHOWN
    assert set(read_scp(test / "vid.scp")) == set(TESTED)
    assert not any((test / name).exists() for name in ("relevant", "utt2spk", "spk2utt"))
    for searched in (val, test):
        assert read_search(searched / "search") == {person: ["all"] for person in ("1", "12", "2")}
        assert read_scp(searched / "utt2group") == dict.fromkeys(read_scp(searched / "vid.scp"), "all")


def test_key_of_the_test_clips_makes_them_relevant_but_gives_them_to_nobody(tmp_path: Path) -> None:
    key = tmp_path / "key.txt"
    key.write_text(f"2 {E}0000002.mp4 {E}0000008.mp4\n")
    test = iqiyi_vid.prepare(tmp_path / "data", release_2018(tmp_path / "corpus"), key)[-1]
    assert read_relevant(test / "relevant") == {"2": [f"{E}0000002", f"{E}0000008"]}
    assert not (test / "utt2spk").exists() and data_dir.validate(test) == []
    assert read_scp(test / "vid.scp")[f"{E}0000008"] == f"{tmp_path}/corpus/{E}0000008.mp4"  # it has no file


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train_v2.txt", f"{T}0000001.mp4 1\n{T}0000002.mp4\n", r"train_v2.txt:2: expected '<clip> <person>' or"),
        ("train_v2.txt", f"{T}0000001.mp4 one\n", r"train_v2.txt:1: expected '<clip> <person>' or .* found 'IQIYI"),
        ("train_v2.txt", f"\n{T}0000001.mp4 0\n", r"train_v2.txt:2: expected .*numbers from 1 on"),
        ("train_v2.txt", "../x.mp4 1\n", r"train_v2.txt:1: expected '<clip> <person>'"),
        ("train_v2.txt", "12 13\n", r"train_v2.txt:1: expected '<clip> <person>'"),
        ("train_v2.txt", f"{T}0000001.mp4 {'9' * 5000}\n", r"train_v2.txt:1: expected .*numbers from 1 on"),
        ("train_v2.txt", "\n", r"train_v2.txt: expected lines '<clip> <person>' .*, found none"),
        (
            "train_v2.txt",
            train_text() + f"{T}0000001.mp4 2\n",
            rf"train_v2.txt:5: clip {T}0000001 is given to person 2, and before to 1",
        ),
        ("val_v2.txt", "1\n", r"val_v2.txt:1: expected '<clip> <person>' or '<person> <clip> ...'.* found '1'"),
        ("val_v2.txt", f"1 {V}0000001.mp4\n7 {V}0000002.mp4\n", r"val_v2.txt:2: person 7 has no training clip"),
        ("val_v2.txt", f"1 {V}0000001.mp4\n2 {V}0000001.mp4\n", r"val_v2.txt:2: clip .* before to 1"),
        ("val_v2.txt", f"1 {T}0000001.mp4\n", rf"val_v2.txt:1: clip {T}0000001 is in .*/train_v2.txt, too"),
        ("IQIYI_VID.txt", "a b c\n/\n", r"IQIYI_VID.txt:2: expected the name of a clip, found '/'"),
        ("key", f"1 {V}0000001.mp4\n", rf"key:1: clip {V}0000001 is in .*/val_v2.txt, too"),
        ("key", f"3 {E}0000001.mp4\n", r"key:1: person 3 has no training clip"),
    ],
)
def test_list_that_is_wrong_is_named_with_its_line_and_nothing_is_written(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    root = release_2018(tmp_path / "corpus")
    (root / "gt_v2" / name).write_text(text)
    with pytest.raises(DataError, match=message):
        iqiyi_vid.prepare(tmp_path / "data", root, root / "gt_v2/key" if name == "key" else None)
    assert not (tmp_path / "data").exists()


def test_folder_whose_name_no_list_can_hold_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    root = release_2018(tmp_path / "corpus")
    touch(root / "two\nlines" / f"{E}0000007.mp4")
    with pytest.raises(DataError, match=r"two\\nlines'.*rename"):
        iqiyi_vid.prepare(tmp_path / "data", root)
    assert not (tmp_path / "data").exists()


def test_clips_with_names_that_are_numbers_are_told_from_persons_by_their_extension(tmp_path: Path) -> None:
    path = tmp_path / "train_gt.txt"
    path.write_text("0001.mp4 5\n7 0002.mp4 0003.mp4\n")
    assert iqiyi_vid.read_persons(path) == {"0001": "5", "0002": "7", "0003": "7"}


def test_repeated_pair_counts_once_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "val_gt.txt"
    path.write_text(val_text() + f"1 {V}0000002.mp4\n")
    with caplog.at_level(logging.WARNING):
        owners = iqiyi_vid.read_persons(path)
    assert owners == {clip: person for person, clips in SHOWN.items() for clip in clips}
    assert "val_gt.txt: 1 clips are there again, with the same person" in caplog.text


def test_clips_that_belong_nowhere_or_have_no_file_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = release_2018(tmp_path / "corpus")
    touch(root / "extra/unknown.mp4", root / f"extra/{T}0000077.mp4", root / "Test/strange.mp4")
    touch(root / "Test/my clip.mp4", root / "Test/0001.mp4")
    for clip in (f"{T}0000002", STRANGERS[0]):
        next(root.rglob(f"{clip}.mp4")).unlink()
    with caplog.at_level(logging.WARNING):
        train, val, test = iqiyi_vid.prepare(tmp_path / "data", root)
    assert "1 clips are left out: neither their names nor their folders say train, val or test" in caplog.text
    assert "2 clips are left out: they are not in IQIYI_VID.txt" in caplog.text
    assert "2 of 14 clips have no file below it" in caplog.text and len(read_scp(test / "vid.scp")) == 5
    assert "1 clips are left out: their names have other characters than letters, digits" in caplog.text
    assert "1 persons have no training clip with a file" in caplog.text
    assert read_scp(train / "vid.scp")[f"{T}0000002"] == f"{root}/{T}0000002.mp4"
    assert STRANGERS[0] in read_scp(val / "vid.scp")  # its name is in IQIYI_VID.txt


def test_lists_alone_are_enough_where_the_official_features_are_used(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/train_gt.txt").write_text(train_text())
    (tmp_path / "corpus/val_gt.txt").write_text(val_text())
    (tmp_path / "corpus/IQIYI_VID.txt").write_text("".join(f"{clip}\n" for clip in [*STRANGERS, *TESTED]))
    folders = iqiyi_vid.prepare(tmp_path / "data", tmp_path / "corpus")
    assert [len(read_scp(folder / "vid.scp")) for folder in folders] == [4, 5, 3]
    assert [data_dir.validate(folder) for folder in folders] == [[], [], []]


def test_clips_of_the_official_features_are_listed_where_there_are_no_files(repo: Path, tmp_path: Path) -> None:
    pickles = [tmp_path / "face_val_v2.pickle", tmp_path / "face_test.pickle"]
    for path, clips in zip(pickles, ([f"{V}0000001", *STRANGERS], TESTED), strict=True):
        path.write_bytes(pickle.dumps({clip.encode(): [] for clip in clips[::-1]}, protocol=2))
    command = [sys.executable, "local/iqiyi_vid/list_clips.py", "--output", tmp_path / "IQIYI_VID.txt", "--pickle"]
    done = subprocess.run([*command, *pickles], cwd=repo, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/IQIYI_VID.txt: 6 clips\n")
    assert (tmp_path / "IQIYI_VID.txt").read_text() == "".join(
        f"{clip}.mp4\n" for clip in [*TESTED, f"{V}0000001", *STRANGERS]
    )


@pytest.mark.parametrize("name", [b"a\nb", "\udcff", "a b", "../a"])
def test_names_in_features_that_no_list_can_hold_are_refused(tmp_path: Path, name: str | bytes) -> None:
    content = pickle.dumps({"good": [], "x": []}, protocol=2)
    wrong = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name
    (tmp_path / "a.pickle").write_bytes(content.replace(b"\x01\0\0\0x", len(wrong).to_bytes(4, "little") + wrong))
    with pytest.raises(DataError, match=r"a.pickle: expected names of letters, digits, '\.', '_' and '-', found "):
        list(clip_names([tmp_path / "a.pickle"]))


def test_validation_without_strangers_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = release_2018(tmp_path / "corpus")
    for clip in STRANGERS:
        next(root.rglob(f"{clip}.mp4")).unlink()
    (root / "gt_v2/IQIYI_VID.txt").unlink()
    next(root.rglob(f"{V}0000009.mp4")).unlink()
    with caplog.at_level(logging.WARNING):
        iqiyi_vid.prepare(tmp_path / "data", root)
    assert "iqiyi_vid_val has no strangers" in caplog.text


@pytest.mark.parametrize("with_lists", [True, False])
def test_aligned_frames_are_listed_in_frames_scp(tmp_path: Path, with_lists: bool) -> None:
    root = tmp_path / "iQIYI-VID-FACE"
    clips = [*OWNERS, *STRANGERS]
    for clip in clips:
        frames(root / "part" / clip)
        (root / "part" / clip / "._1.png").write_bytes(b"of a Mac")
    (root / "part" / min(clips) / "0.png").write_bytes(b"damaged")
    (root / "filelist.txt").write_text("".join(f"part/{clip} 2\n" for clip in clips))
    if with_lists:
        (root / "train_gt.txt").write_text(train_text())
        (root / "val_gt.txt").write_text(f"1 {STRANGERS[0]}\n")
    folders = iqiyi_vid.prepare(tmp_path / "data", root)
    names = ["iqiyi_vid_train", "iqiyi_vid_val"] if with_lists else ["iqiyi_vid_face"]
    assert [folder.name for folder in folders] == names
    found: dict[str, str] = {}
    for folder in folders:
        assert data_dir.validate(folder, check_files=True) == [] and not (folder / "vid.scp").exists()
        found |= read_scp(folder / "frames.scp")
    assert found == {clip: f"{root}/part/{clip}" for clip in clips}
    if not with_lists:
        assert read_spk2utt(folders[0] / "spk2utt") == {clip: [clip] for clip in clips}


def test_video_counts_rather_than_a_folder_of_its_frames_and_two_videos_are_refused(tmp_path: Path) -> None:
    root = release_2018(tmp_path / "corpus")
    frames(root / "img" / f"{T}0000001", 112)
    train = iqiyi_vid.prepare(tmp_path / "data", root)[0]
    assert read_scp(train / "vid.scp")[f"{T}0000001"].endswith(f"IQIYI_VID_TRAIN/{T}0000001.mp4")
    touch(root / f"more/{T}0000001.mp4")
    with pytest.raises(DataError, match=rf"Part1/.*{T}0000001.mp4: two clips of one name, this and .*/more/"):
        iqiyi_vid.prepare(tmp_path / "other", root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "train_gt.txt").write_text("x"), "lists of two editions, .*train_v2.txt and .*train_gt"),
        (lambda root: (root / "train_v2.txt").write_text("x"), "train_v2.txt: there is another train_v2.txt, "),
        (lambda root: (root / "gt_v2/train_v2.txt").unlink(), "neither train_v2.txt nor train_gt.txt nor filelist.txt"),
    ],
)
def test_folder_with_lists_of_two_editions_or_none_is_refused(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    root = release_2018(tmp_path / "corpus")
    change(root)
    with pytest.raises(DataError, match=message):
        iqiyi_vid.prepare(tmp_path / "data", root)


def test_circle_of_links_is_looked_at_once(tmp_path: Path) -> None:
    root = release_2018(tmp_path / "corpus")
    (root / "gt_v2/back").symlink_to(root)
    (root / "gt_v2/itself").symlink_to("itself")
    assert len(iqiyi_vid.prepare(tmp_path / "data", root)) == 3


def test_folder_under_two_names_has_the_first_whatever_the_order_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = release_2018(tmp_path / "corpus")
    (root / "IQIYI_VID_TEST").rename(tmp_path / "elsewhere")
    for name in ("b", "a", "c"):
        (root / name).symlink_to(tmp_path / "elsewhere")
    look_into = iqiyi_vid._look_into
    for turn in (1, -1):

        def in_order(folder: str, lists: dict[str, Path], turn: int = turn) -> tuple[list[str], list[str], bool]:
            inner, *others = look_into(folder, lists)
            return sorted(inner)[::turn], *others

        monkeypatch.setattr(iqiyi_vid, "_look_into", in_order)
        test = iqiyi_vid.prepare(tmp_path / f"data{turn}", root)[-1]
        assert read_scp(test / "vid.scp") == {clip: f"{root}/a/{clip}.mp4" for clip in TESTED}


def test_list_of_faces_without_a_clip_is_named(tmp_path: Path) -> None:
    (tmp_path / "filelist.txt").write_text("\n")
    with pytest.raises(DataError, match=r"filelist.txt: expected a clip per line, found none"):
        iqiyi_vid.prepare(tmp_path / "data", tmp_path)


def test_stage_1_prepares_the_corpus(repo: Path, tmp_path: Path) -> None:
    root = release_2018(tmp_path / "corpus")
    command = ["./run_001_prepare_data.sh", "--config-file", "global_conf/config_iqiyi_vid.sh"]
    options = ["--iqiyi-vid-dir", root, "--data-dir", tmp_path / "data"]
    done = subprocess.run([*command, *options], cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "iqiyi_vid_val: 5 segments" in done.stdout and "iqiyi_vid_test: 3 segments" in done.stdout
    refused = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "set iqiyi_vid_dir in the config" in refused.stderr


def ranks(path: Path, lists: dict[str, list[str]]) -> Path:
    lines = [f"{m} {r} {clip} {1 / r}\n" for m, clips in lists.items() for r, clip in enumerate(clips, 1)]
    path.write_text("".join(lines))
    return path


def submit(repo: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "local/iqiyi_vid/format_submission.py", *options]
    return subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=60)


def test_submission_has_a_line_per_person_in_order_of_numbers_and_of_rank(repo: Path, tmp_path: Path) -> None:
    test = iqiyi_vid.prepare(tmp_path / "data", release_2019(tmp_path / "corpus"))[-1]
    lists = {"1": TESTED[::-1], "12": TESTED[:1], "2": TESTED[1:]}
    done = submit(repo, "--ranks", ranks(tmp_path / "r", lists), "--data-dir", test, "--output", tmp_path / "out/a.txt")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/out/a.txt: 3 persons\n")
    assert (tmp_path / "out/a.txt").read_bytes() == (
        f"1 {E}0000003.mp4 {E}0000002.mp4 {E}0000001.mp4\n2 {E}0000002.mp4 {E}0000003.mp4\n12 {E}0000001.mp4\n"
    ).encode()


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"1": [f"{E}{i:07d}" for i in range(101)]}, "person 1 has 101 clips, more than 100; use --search-top 100"),
        ({"1": [TESTED[0], TESTED[0]]}, "person 1 has a clip twice"),
        ({"1": ["elsewhere"]}, "clip 'elsewhere' of person 1 is not in "),
        ({"Ann": TESTED}, "expected models that are numbers of persons, found 'Ann'"),
        ({"1": TESTED, "77": TESTED}, "person 77 is not in .*iqiyi_vid_test/search; expected the ranks of this set"),
    ],
)
def test_submission_that_the_challenge_would_refuse_is_not_written(
    tmp_path: Path, lists: dict[str, list[str]], message: str
) -> None:
    test = iqiyi_vid.prepare(tmp_path / "data", release_2018(tmp_path / "corpus"))[-1]
    with pytest.raises(DataError, match=message):
        iqiyi_vid.format_submission(ranks(tmp_path / "r", lists), test, tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()


def test_submission_without_some_of_the_persons_is_written_and_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = iqiyi_vid.prepare(tmp_path / "data", release_2018(tmp_path / "corpus"))[-1]
    searched = (test / "search").read_text().splitlines()
    assert iqiyi_vid.format_submission(ranks(tmp_path / "r", {"1": TESTED}), test, tmp_path / "a.txt") == 1
    assert f"{len(searched) - 1} of {len(searched)} persons have no list, which counts as 0" in caplog.text


def test_submission_of_a_set_with_two_segments_of_one_clip_is_refused_without_a_stack_trace(
    repo: Path, tmp_path: Path
) -> None:
    (tmp_path / "frames.scp").write_text("a /x/a/\nb /y/a\n")
    found = ranks(tmp_path / "r", {"1": ["a", "b"]})
    done = submit(repo, "--ranks", found, "--data-dir", tmp_path, "--output", tmp_path / "a.txt")
    assert done.returncode == 1 and not (tmp_path / "a.txt").exists()
    assert done.stderr == f"ERROR: {tmp_path}/frames.scp: 'a' and 'b' are the same clip, a; remove one\n"


def test_submission_of_a_list_with_exactly_100_clips_is_written(tmp_path: Path) -> None:
    scp = tmp_path / "vid.scp"
    clips = [f"{E}{i:07d}" for i in range(100)]
    scp.write_text("".join(f"{clip} /x/{clip}.mp4\n" for clip in clips))
    assert iqiyi_vid.format_submission(ranks(tmp_path / "r", {"5": clips}), tmp_path, tmp_path / "out") == 1
    assert (tmp_path / "out").read_text().split() == ["5", *(f"{clip}.mp4" for clip in clips)]
