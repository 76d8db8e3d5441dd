"""A user's own clips of persons, strangers and videos to search."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest

from vidperson.corpora import clips
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import read_scp, read_spk2utt
from vidperson.io.ranks import read_relevant, read_search

PERSONS = (
    *("José Pérez/a.mp4", "José Pérez/b.mp4", "José Pérez/c.jpg"),
    *("Ann/talk/1.mp4", "Ann/talk/2.mp4", "Ann/talk/3.mp4", "Ann/x.mp4", "Ann/film/x.mp4", "Ann/film/y.mp4"),
    "once/one.mp4",
)
STRANGERS = ("s 1.mp4", "s2.mp4", "show/1.mp4", "show/2.mp4")
VIDEOS = ("x/one.mp4", "two 2.mkv", "three.mp4")


def touch(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        "persons_dir": touch(tmp_path / "p", PERSONS),
        "search_dir": touch(tmp_path / "v", VIDEOS),
        "strangers_dir": touch(tmp_path / "s", STRANGERS),
    }


def originals(folder: Path) -> set[str]:
    """The files of a set, by its own list of names."""
    names = read_scp(folder / "names")
    return {names[segment] for segment in read_scp(folder / "vid.scp")}


def test_clips_give_a_set_to_learn_with_strangers_and_a_set_to_search(tmp_path: Path, folders: dict[str, Path]) -> None:
    train, test = clips.prepare(tmp_path / "data", **folders)
    assert [path.name for path in (train, test)] == ["clips_train", "clips_test"]
    assert data_dir.validate(train, check_files=True) == [] == data_dir.validate(test, check_files=True)
    assert originals(train) == {*PERSONS, *STRANGERS} and originals(test) == set(VIDEOS)
    paths, owners, names = (read_scp(train / name) for name in ("vid.scp", "utt2spk", "names"))
    for segment, path in paths.items():
        if segment in owners:
            assert path == f"{folders['persons_dir']}/{names[segment]}"
            assert names[segment].startswith(f"{names[owners[segment]]}/")
        else:
            assert path == f"{folders['strangers_dir']}/{names[segment]}"
    assert len(owners) == len(PERSONS)
    assert read_search(test / "search") == {model: ["all"] for model in read_spk2utt(train / "spk2utt")}
    assert not (test / "relevant").exists() and not (test / "utt2spk").exists()


def test_key_says_who_is_relevant_and_a_video_in_no_line_shows_strangers(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    key = tmp_path / "key"
    key.write_text("Ann\tx/one.mp4\nJosé Pérez\tx/one.mp4\nJosé Pérez\ttwo 2.mkv\n")
    test = clips.prepare(tmp_path / "data", **folders, key=key)[-1]
    assert read_relevant(test / "relevant") == {"Ann": ["x_one"], "Jose_Perez": ["two_2", "x_one"]}
    assert data_dir.validate(test) == []
    key.write_text("Bob\tx/one.mp4\n")
    with pytest.raises(DataError, match=r"key:1: no media of a person 'Bob'; the persons are: Ann"):
        clips.prepare(tmp_path / "other", **folders, key=key)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("share", "of_ann", "of_jose"), [(0.34, 1, 1), (0.6, 2, 2), (1.0, 2, 2)])
def test_share_holds_out_whole_sources_of_each_person_and_half_of_the_strangers(
    tmp_path: Path, folders: dict[str, Path], share: float, of_ann: int, of_jose: int
) -> None:
    train, valid, _ = clips.prepare(tmp_path / "data", **folders, valid_share=share)
    assert data_dir.validate(train) == [] == data_dir.validate(valid)
    held, kept = originals(valid), originals(train)
    assert held | kept == {*PERSONS, *STRANGERS} and not held & kept
    pieces = ({f"Ann/talk/{i}.mp4" for i in (1, 2, 3)}, {"Ann/film/x.mp4", "Ann/film/y.mp4"}, {"Ann/x.mp4"})
    assert [some <= held for some in pieces].count(True) == of_ann
    assert all(some <= held or some <= kept for some in (*pieces, {"show/1.mp4", "show/2.mp4"}))
    assert len([name for name in held if name.startswith("José")]) == of_jose
    assert "once/one.mp4" in kept
    assert len({name.split("/")[0] for name in held & set(STRANGERS)}) == 2  # of three sources
    owners = read_scp(valid / "utt2spk")
    assert {segment: model for model, own in read_relevant(valid / "relevant").items() for segment in own} == owners
    assert list(read_search(valid / "search")) == ["Ann", "Jose_Perez", "once"]
    again = clips.prepare(tmp_path / "again", **folders, valid_share=share)[1]
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in valid.iterdir()}


def test_set_of_an_earlier_share_is_not_left_behind(tmp_path: Path, folders: dict[str, Path]) -> None:
    clips.prepare(tmp_path / "data", **folders, valid_share=0.5)
    train, _ = clips.prepare(tmp_path / "data", **folders)
    assert originals(train) == {*PERSONS, *STRANGERS}
    assert not (tmp_path / "data/clips_valid/vid.scp").exists()


def test_share_that_holds_nothing_out_or_no_stranger_is_named(
    tmp_path: Path, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match=r"clips_valid: expected a share in 0..1, found 1.5"):
        clips.prepare(tmp_path / "data", **folders, valid_share=1.5)
    for name in [name for name in PERSONS if name.startswith(("José", "Ann"))]:
        (folders["persons_dir"] / name).unlink()
    with pytest.raises(DataError, match=r"clips_valid=0.5 holds nothing out: no person has enough videos"):
        clips.prepare(tmp_path / "data", **folders, valid_share=0.5)
    assert not (tmp_path / "data").exists()
    touch(folders["persons_dir"], PERSONS)
    with caplog.at_level(logging.WARNING):
        clips.prepare(tmp_path / "data", **{**folders, "strangers_dir": ""}, valid_share=0.5)
    assert "no strangers are held out" in caplog.text


def test_folder_without_videos_to_search_or_of_strangers_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("search_dir", "strangers_dir"):
        with pytest.raises(DataError, match="empty: no video or image in it"):
            clips.prepare(tmp_path / "data", **{**folders, name: tmp_path / "empty"})


def test_file_of_two_persons_or_also_of_the_strangers_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    within = {**folders, "strangers_dir": folders["persons_dir"] / "Ann"}
    with pytest.raises(
        DataError, match=r"p/Ann/film/x.mp4: of the strangers and of person 'Ann', as .*/Ann/film/x.mp4"
    ):
        clips.prepare(tmp_path / "data", **within)
    (folders["persons_dir"] / "once/two.mp4").symlink_to("../Ann/x.mp4")
    with pytest.raises(DataError, match=r"once/two.mp4: of person 'once' and of person 'Ann', as .*/Ann/x.mp4; remove"):
        clips.prepare(tmp_path / "data", **folders)
    assert not (tmp_path / "data").exists()


def test_searched_videos_that_are_learnt_from_are_counted(
    tmp_path: Path, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    (folders["search_dir"] / "copy.mp4").hardlink_to(folders["persons_dir"] / "Ann/x.mp4")
    with caplog.at_level(logging.WARNING):
        clips.prepare(tmp_path / "data", **folders)
    assert "1 searched videos are learnt from, too" in caplog.text and "copy.mp4" in caplog.text


def test_ids_of_files_with_one_name_do_not_depend_on_where_the_folders_are(tmp_path: Path) -> None:
    found = []
    for place in ("one", "other/deep"):
        roots = (tmp_path / place / name for name in ("p", "v", "s"))
        files = (("stranger/1.mp4", "a/x y.mp4", "a/x_y.mp4"), VIDEOS, ("1.mp4",))
        persons, search, strangers = (touch(root, names) for root, names in zip(roots, files, strict=True))
        train = clips.prepare(tmp_path / place / "data", persons, search, strangers)[0]
        found.append((train / "names").read_bytes())
    assert found[0] == found[1] and found[0].count(b"-") == 8


def test_stage_1_prepares_and_validates_clips(repo: Path, tmp_path: Path, folders: dict[str, Path]) -> None:
    options = ["--clips-persons", folders["persons_dir"], "--clips-search", folders["search_dir"]]
    options += ["--clips-strangers", folders["strangers_dir"], "--clips-valid", "0.5", "--data-dir", tmp_path / "data"]
    sets = "clips_train:clips_valid clips_train+clips_valid:clips_test"
    command = ["./run_001_prepare_data.sh", "--config-file", "global_conf/config_clips.sh", "--trial-sets", sets]
    done = subprocess.run([*command, *options], cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "clips_test: 3 segments" in done.stdout
    for name in ("clips_train", "clips_valid", "clips_test"):
        assert (tmp_path / "data" / name / "vid2dur").is_file()
    refused = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "local/clips: set clips_persons in the config" in refused.stderr
