"""Own folders of talking videos: sets with sound and picture, and trials of different recordings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vidperson.corpora import talking
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import read_scp, read_spk2utt

VIDEOS = ("Ann Example/a.mp4", "Ann Example/talk 1/x.mkv", "Ann Example/talk 1/y.mkv", "José/b.mp4", "李娜/b.mp4")


def videos(root: Path, *names: str) -> Path:
    """Files of different content and size."""
    for number, name in enumerate(names, 1):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * number)
    return root


def test_videos_of_persons_are_pictures_and_sounds_of_one_set(tmp_path: Path) -> None:
    root = videos(tmp_path / "v", *VIDEOS, "José/portrait.jpg", "José/notes.txt")
    (folder,) = talking.prepare(tmp_path / "data", root)
    assert (folder / "vid.scp").read_bytes() == (folder / "wav.scp").read_bytes()
    assert set(read_scp(folder / "vid.scp").values()) == {f"{root}/{name}" for name in VIDEOS}
    assert read_spk2utt(folder / "spk2utt") == {segment: [segment] for segment in read_scp(folder / "vid.scp")}
    assert set(read_scp(folder / "names").values()) == set(VIDEOS)
    assert data_dir.validate(folder, check_files=True) == []


def test_trials_are_pairs_of_different_recordings(tmp_path: Path) -> None:
    (folder,) = talking.prepare(tmp_path / "data", videos(tmp_path / "v", *VIDEOS))
    names = read_scp(folder / "names")
    trials = [line.split() for line in (folder / "trials").read_text().splitlines()]
    targets = {frozenset((names[a], names[b])) for a, b, key in trials if key == "target"}
    assert targets == {frozenset((VIDEOS[0], VIDEOS[1])), frozenset((VIDEOS[0], VIDEOS[2]))}
    assert len(trials) == 5 * 4 // 2 - 1  # x and y are pieces of one talk


def test_copies_of_a_video_are_one_recording_with_all_that_lies_beside_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = videos(tmp_path / "v", "a/1.mp4", "a/talk/2.mp4", "b/1.mp4")
    (root / "a/talk/copy.mp4").write_bytes((root / "a/1.mp4").read_bytes())
    (folder,) = talking.prepare(tmp_path / "data", root)
    assert (folder / "trials").read_text() == "".join(
        f"a-{name} b-1 nontarget\n" for name in ("1", "talk_2", "talk_copy")
    )
    assert f"1 videos are copies of others, and give no trial with them: {root}/a/talk/copy.mp4" in caplog.text
    assert "2 of 2 persons have videos of one source only, so no target trial: a, b" in caplog.text


def test_training_videos_are_a_set_of_their_own_that_goes_when_they_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test, train = videos(tmp_path / "v", *VIDEOS), tmp_path / "t"
    videos(train, *(f"P{number}/{'x' * number}.mp4" for number in (1, 2, 3)))
    for number, path in enumerate(sorted(train.rglob("*.mp4"))):
        path.write_bytes(b"t" * (number + 50))
    (train / "José").mkdir()
    (train / "José/other.mp4").write_bytes(b"other" * 30)
    folders = talking.prepare(tmp_path / "data", test, train)
    assert [folder.name for folder in folders] == ["talking_test", "talking_train"]
    assert set(read_spk2utt(folders[1] / "spk2utt")) == {"P1", "P2", "P3", "Jose"}
    assert not (folders[1] / "trials").exists() and data_dir.validate(folders[1]) == []
    assert "1 persons are both in the training and in the test videos: José" in caplog.text
    talking.prepare(tmp_path / "data", test)
    assert data_dir.validate(folders[1]) != []


def test_video_of_two_persons_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    root = videos(tmp_path / "v", *VIDEOS)
    (root / "李娜/b.mp4").write_bytes((root / "José/b.mp4").read_bytes())
    with pytest.raises(DataError, match="李娜/b.mp4: the same video as .*José/b.mp4, of another person; remove one"):
        talking.prepare(tmp_path / "data", root)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/talk/1.mp4", "a/talk/2.mp4"), "expected two videos of different sources at least; found none"),
        (("a/1.jpg",), "no video in any person's folder"),
        (("1.mp4",), "expected one folder per person"),
    ],
)
def test_folder_that_gives_no_trial_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        talking.prepare(tmp_path / "data", videos(tmp_path / "v", *names))


def test_one_person_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    talking.prepare(tmp_path / "data", videos(tmp_path / "v", "a/1.mp4", "a/2.mp4"))
    assert "only one person, a: there will be no non-target trial" in caplog.text


def test_real_talks_are_prepared_by_stage_1(repo: Path, tmp_path: Path, shared: Path) -> None:
    talks = shared / "data/video/talks"
    for person in ("Obama", "andrew", "feifeili"):
        (tmp_path / "v" / person).mkdir(parents=True)
        for path in talks.glob(f"{person}*"):
            (tmp_path / "v" / person / path.name).symlink_to(path)
    words = [
        "./run_001_prepare_data.sh",
        "--config-file",
        "global_conf/config_talking.sh",
        "--data-dir",
        tmp_path / "d",
    ]
    refused = subprocess.run(words, cwd=repo, capture_output=True, text=True)
    assert refused.returncode == 1 and "set talking_test in the config" in refused.stderr
    words += ["--talking-test", tmp_path / "v"]
    done = subprocess.run(words, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0 and "talking_test: 8 segments" in done.stdout, done.stderr
    trials = (tmp_path / "d/talking_test/trials").read_text()
    assert (trials.count(" target"), trials.count(" nontarget")) == (3 + 1 + 3, 28 - 7)
    assert all(float(seconds) > 1 for seconds in read_scp(tmp_path / "d/talking_test/vid2dur").values())
