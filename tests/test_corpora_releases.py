"""Readers of the LDC releases, on tiny folders laid out like them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidperson.corpora import janus_core, sre19_av
from vidperson.errors import DataError
from vidperson.io.lines import read_scp, read_spk2utt
from vidperson.io.lists import LabelledBox, read_boxes, read_trials

Sre19 = dict[str, str]


@pytest.fixture
def lists() -> Sre19:
    """The dev lists of a tiny SRE19 AV release: name -> text."""
    return {
        "enrollment": "modelid\tsegmentid\n1001\taaa\n1002\tbbb\n1002\tccc.mp4\n",
        "enrollment_boundingbox": "segmentid\ttype\tframe_sec\tbounding_box\n"
        "bbb\tface\t2.5\t10,20,30,40\naaa\tface\t0.5\t1.5, 2, 3, 4\n"
        "aaa\tface\t0.1\t5,6,7,8\nccc\tface\t1\t1,1,2,2\n",
        "trials": "modelid\tsegmentid\tside\n1001\tt1\ta\n1001\tt2.mp4\ta\n1002\tt1\ta\n",
        "trial_key": "modelid\tsegmentid\tside\ttargettype\n"
        "1002\tt1\ta\tnontarget\n1001\tt1\ta\ttarget\n1001\tt2\ta\tnontarget\n",
    }


def _release(root: Path, lists: Sre19, part: str = "dev", inside: str = "") -> Path:
    docs, data = root / "docs" / inside, root / "data" / inside
    for folder in (docs, data / "enrollment", data / "test"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (docs / f"sre19_av_{part}_{name}.tsv").write_bytes(text.encode())
    for name in ("enrollment/aaa", "enrollment/bbb", "enrollment/ccc", "test/t1", "test/t2"):
        (data / f"{name}.mp4").touch()
    return root


def test_sre19_release_gives_both_sets(tmp_path: Path, lists: Sre19) -> None:
    root = _release(tmp_path / "LDC 2019E56", lists)
    enroll, test = sre19_av.prepare(tmp_path / "data", root, "")
    assert (enroll.name, test.name) == ("sre19_av_v_dev_enroll", "sre19_av_v_dev_test")
    videos = read_scp(enroll / "vid.scp")
    assert videos == {
        "1001-aaa": f"{root}/data/enrollment/aaa.mp4",
        "1002-bbb": f"{root}/data/enrollment/bbb.mp4",
        "1002-ccc": f"{root}/data/enrollment/ccc.mp4",
    }
    for folder in (enroll, test):  # the sound of each video
        assert (folder / "wav.scp").read_text() == (folder / "vid.scp").read_text()
    assert read_spk2utt(enroll / "spk2utt") == {"1001": ["1001-aaa"], "1002": ["1002-bbb", "1002-ccc"]}
    boxes = read_boxes(enroll / "face_boundingbox")
    assert boxes["1001-aaa"] == [LabelledBox(0.1, (5, 6, 7, 8)), LabelledBox(0.5, (1.5, 2, 3, 4))]
    assert set(boxes) == set(videos)
    assert (enroll / "face_boundingbox_conf").read_text() == "seconds 5\n"
    assert (test / "trials").read_text() == "1001 t1 target\n1001 t2 nontarget\n1002 t1 nontarget\n"
    assert list(read_scp(test / "vid.scp")) == ["t1", "t2"]
    assert read_scp(test / "utt2spk") == {"t1": "t1", "t2": "t2"}


def test_sre19_columns_moved_windows_line_ends_and_repeated_rows_give_the_same_sets(
    tmp_path: Path, lists: Sre19, caplog: pytest.LogCaptureFixture
) -> None:
    expected = sre19_av.prepare(tmp_path / "plain", _release(tmp_path / "r", lists), None)
    moved = {}
    for name, text in lists.items():
        rows = [line.split("\t") for line in text.splitlines()]
        rows.append(rows[-1])
        moved[name] = "".join("\t".join(reversed(row)) + "\r\n" for row in rows)
    caplog.set_level(logging.WARNING)
    found = sre19_av.prepare(tmp_path / "moved", _release(tmp_path / "r", moved), None)
    for a, b in zip(expected, found, strict=True):
        assert {p.name: p.read_text() for p in a.iterdir()} == {p.name: p.read_text() for p in b.iterdir()}
    assert "1 repeated rows" in caplog.text


def test_sre19_box_list_with_unknown_names_is_read_at_the_published_positions(tmp_path: Path, lists: Sre19) -> None:
    text = lists["enrollment_boundingbox"].replace("type\tframe_sec\tbounding_box", "a\tb\tc")
    root = _release(tmp_path / "r", lists | {"enrollment_boundingbox": text})
    enroll, _ = sre19_av.prepare(tmp_path / "data", root, None)
    assert read_boxes(enroll / "face_boundingbox")["1002-bbb"] == [LabelledBox(2.5, (10, 20, 30, 40))]


def test_sre19_segment_of_two_models_gets_the_boxes_of_the_model_column(tmp_path: Path, lists: Sre19) -> None:
    lists["enrollment"] = "modelid\tsegmentid\n1001\taaa\n1002\taaa\n"
    lists["enrollment_boundingbox"] = (
        "segmentid\tmodelid\tframe_sec\tbounding_box\naaa\t1001\t0\t1,1,2,2\naaa\t1002\t0\t5,5,6,6\n"
    )
    enroll, _ = sre19_av.prepare(tmp_path / "data", _release(tmp_path / "r", lists), None)
    boxes = read_boxes(enroll / "face_boundingbox")
    assert {k: v[0].box for k, v in boxes.items()} == {"1001-aaa": (1, 1, 2, 2), "1002-aaa": (5, 5, 6, 6)}


def test_sre19_joint_release_with_part_folders_is_read(tmp_path: Path, lists: Sre19) -> None:
    root = _release(tmp_path / "LDC2023V01", lists, inside="dev")
    _release(root, lists, part="eval", inside="eval")
    sets = sre19_av.prepare(tmp_path / "data", root, root, "x")
    assert [s.name for s in sets] == ["x_dev_enroll", "x_dev_test", "x_eval_enroll", "x_eval_test"]
    assert read_scp(sets[3] / "vid.scp")["t1"] == f"{root}/data/eval/test/t1.mp4"


def test_sre19_without_key_writes_trials_of_two_columns(tmp_path: Path, lists: Sre19) -> None:
    del lists["trial_key"]
    _, test = sre19_av.prepare(tmp_path / "data", "", _release(tmp_path / "r", lists, part="eval"))
    assert read_trials(test / "trials").is_target is None
    assert test.name == "sre19_av_v_eval_test"


def test_sre19_some_media_missing_is_warned_of_and_kept(
    tmp_path: Path, lists: Sre19, caplog: pytest.LogCaptureFixture
) -> None:
    root = _release(tmp_path / "r", lists)
    (root / "data/test/t2.mp4").unlink()
    _, test = sre19_av.prepare(tmp_path / "data", root, None)
    assert "1 of 2 media files are missing" in caplog.text and "t2.mp4" in caplog.text
    assert "t2" in read_scp(test / "vid.scp")


def test_sre19_all_media_missing_is_refused(tmp_path: Path, lists: Sre19) -> None:
    root = _release(tmp_path / "r", lists)
    for path in (root / "data/test").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="2 of 2 media files are missing"):
        sre19_av.prepare(tmp_path / "data", root, None)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["enrollment", "enrollment_boundingbox", "trials"])
def test_sre19_list_missing_is_named(tmp_path: Path, lists: Sre19, name: str) -> None:
    del lists[name]
    with pytest.raises(DataError, match=f"docs/sre19_av_dev_{name}.tsv: no such file"):
        sre19_av.prepare(tmp_path / "data", _release(tmp_path / "r", lists), None)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("enrollment", "modelid", "x", r"enrollment.tsv: no column 'modelid'.*header has: x segmentid"),
        ("enrollment", "1001\taaa", "10 01\taaa", r"enrollment.tsv:2: .*no blanks"),
        ("enrollment", "1001\taaa", "1001\t../aaa", r"enrollment.tsv:2: .*leave the output folder"),
        ("enrollment_boundingbox", "10,20,30,40", "30,20,10,40", r"boundingbox.tsv:2: .*x1 < x2"),
        ("enrollment_boundingbox", "10,20,30,40", "10,20,30", r"boundingbox.tsv:2: expected a box"),
        ("enrollment_boundingbox", "2.5", "-2.5", r"boundingbox.tsv:2: expected a time >= 0"),
        ("enrollment_boundingbox", "2.5", "0:02", r"boundingbox.tsv:2: .*expected a number"),
        (
            "enrollment_boundingbox",
            "segmentid\ttype\tframe_sec",
            "segmentid\tframe_sec\ttype",
            r":2: .*number, found 'face'",
        ),
        ("trials", "1001\tt2.mp4", "9999\tt2.mp4", r"trials.tsv:3: model '9999' is not in the enrolment"),
        ("trials", "1001\tt2.mp4", "1001\tt3", r"trials.tsv:3: 1 trials, this one first, are not in the key"),
        (
            "trial_key",
            "nontarget",
            "impostor",
            r"trial_key.tsv:2: expected target or nontarget, found 'impostor'",
        ),
        ("trial_key", "1001\tt2\ta", "1001\tt1\ta", r"trial_key.tsv:4: .*both target and nontarget"),
        ("trial_key", "targettype", "answer", r"no column 'targettype'"),
    ],
)
def test_sre19_broken_list_is_refused_with_file_and_line(
    tmp_path: Path, lists: Sre19, name: str, old: str, new: str, message: str
) -> None:
    assert old in lists[name]
    lists[name] = lists[name].replace(old, new, 1)
    with pytest.raises(DataError, match=message):
        sre19_av.prepare(tmp_path / "data", _release(tmp_path / "r", lists), None)


def test_sre19_boxes_of_other_segments_are_refused(tmp_path: Path, lists: Sre19) -> None:
    for name in ("aaa", "bbb", "ccc"):
        lists["enrollment_boundingbox"] = lists["enrollment_boundingbox"].replace(name, f"other_{name}")
    with pytest.raises(DataError, match="no box for any enrolment segment, e.g. '1001-aaa'"):
        sre19_av.prepare(tmp_path / "data", _release(tmp_path / "r", lists), None)


def test_sre19_no_folder_or_wrong_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a dev nor an eval folder"):
        sre19_av.prepare(tmp_path, "", None)
    with pytest.raises(DataError, match="expected the folder of the release"):
        sre19_av.prepare(tmp_path, tmp_path / "nowhere", None)


JANUS_HEADER = (
    "VIDEO\tSUBJECT_ID\tDEV.ENROLL\tDEV.CORE.TEST\tDEV.FULL.TEST\tEVAL.ENROLL\tEVAL.CORE.TEST\tEVAL.FULL.TEST\t"
    "VOICE_START\tVOICE_END\tFACE_FRAME\tFACE_X\tFACE_Y\tFACE_H\tFACE_W\n"
)
JANUS_ROWS = (
    "video/1.mp4\t7\tY\tN\tN\tN\tN\tN\t0\t1\t100\t10\t20\t50\t40\n"
    "video/1.mp4\t7\tY\tN\tN\tN\tN\tN\t2\t3\t200\t11\t21\t50\t40\n"
    "video/2.mp4\t7\tN\tY\tY\tN\tN\tN\t\t\t\t\t\t\t\n"
    "video/2.mp4\t8\tN\tY\tY\tN\tN\tN\t\t\t\t\t\t\t\n"
    "video/3.mp4\t9\tN\tN\tN\tY\tN\tN\t0\t1\t5\t1\t2\t3.5\t4\n"
    "video/1041.mp4\t9\tN\tN\tN\tN\tY\tY\t\t\t\t\t\t\t\n"
    "video/11041.mp4\t9\tN\tN\tN\tN\tY\tY\t\t\t\t\t\t\t\n"
)
JANUS_TRIALS = (
    "ENROLL_FILE\tTEST_FILE\tLABEL\tCONDITION\n"
    "video/1.mp4\tvideo/2.mp4\tY\tDEV.CORE\n"
    "video/1.mp4\tvideo/9.mp4\tN\tDEV.FULL\n"
    "video/3.mp4\tvideo/1041.mp4\tY\tEVAL.CORE\n"
    "video/3.mp4\tvideo/11041.mp4\tN\tEVAL.CORE\n"
)


def _janus(root: Path, rows: str = JANUS_HEADER + JANUS_ROWS, trials: str = JANUS_TRIALS) -> Path:
    (root / "docs").mkdir(parents=True)
    (root / "videos").mkdir()
    (root / "docs/janus_multimedia.tsv").write_text(rows)
    (root / "docs/janus_multimedia_trials.tsv").write_text(trials)
    for number in (1, 2, 3, 1041, 11041):
        (root / f"videos/{number}.mp4").touch()
    return root


def test_janus_release_gives_four_sets_without_the_unreadable_video(tmp_path: Path) -> None:
    root = _janus(tmp_path / "j")
    sets = janus_core.prepare(tmp_path / "data", root)
    names = ["janus_dev_enroll", "janus_dev_test_core", "janus_eval_enroll", "janus_eval_test_core"]
    assert [s.name for s in sets] == names
    assert read_scp(sets[0] / "vid.scp") == {"video_1-video_1": f"{root}/videos/1.mp4"}
    assert read_scp(sets[0] / "utt2spk") == {"video_1-video_1": "video_1"}
    assert read_boxes(sets[0] / "face_boundingbox") == {
        "video_1-video_1": [LabelledBox(100, (10, 20, 50, 70)), LabelledBox(200, (11, 21, 51, 71))]
    }
    assert (sets[0] / "face_boundingbox_conf").read_text() == "frames 61\n"
    assert (sets[1] / "trials").read_text() == "video_1 video_2 target\n"
    assert read_scp(sets[3] / "vid.scp") == {"video_11041": f"{root}/videos/11041.mp4"}
    assert (sets[3] / "trials").read_text() == "video_3 video_11041 nontarget\n"


def test_janus_ids_that_clash_are_kept_apart_in_lists_and_trials(tmp_path: Path) -> None:
    rows = (JANUS_HEADER + JANUS_ROWS).replace("video/1.mp4", "video/a 1.mp4").replace("video/2.mp4", "video/a_1.mp4")
    trials = JANUS_TRIALS.replace("video/1.mp4", "video/a 1.mp4").replace("video/2.mp4", "video/a_1.mp4")
    root = _janus(tmp_path / "j", rows, trials)
    (root / "videos/a 1.mp4").touch()
    (root / "videos/a_1.mp4").touch()
    enroll, test, *_ = janus_core.prepare(tmp_path / "data", root)
    (model,), (segment,) = read_spk2utt(enroll / "spk2utt"), read_scp(test / "vid.scp")
    assert model != segment
    assert (test / "trials").read_text() == f"{model} {segment} target\n"
    assert list(read_scp(enroll / "vid.scp").values()) == [f"{root}/videos/a 1.mp4"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("FACE_W", "FACE_D", r"no column 'FACE_W'.*header has: VIDEO SUBJECT_ID"),
        ("\t200\t11\t21\t50\t40", "\t200\t11\t21\t50\t0", r"multimedia.tsv:3: .*a box with a size"),
        (
            "video/1.mp4\t7\tY\tN\tN\tN\tN\tN\t2",
            "video/1.mp4\t8\tY\tN\tN\tN\tN\tN\t2",
            r"multimedia.tsv:3: .*two subjects, 7 and 8",
        ),
        ("7\tN\tY", "7\tmaybe\tY", r"multimedia.tsv:4: column 'dev enroll': expected Y or N"),
        ("video/3.mp4", "../3.mp4", "leaves the release"),
    ],
)
def test_janus_broken_media_list_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    rows = JANUS_HEADER + JANUS_ROWS
    assert old in rows
    with pytest.raises(DataError, match=message):
        janus_core.prepare(
            tmp_path / "data", _janus(tmp_path / "j", rows.replace(old, new), JANUS_TRIALS.replace(old, new))
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("video/2.mp4\tY", "video/5.mp4\tY", r"trials.tsv:2: segment 'video/5.mp4' is not in the dev part"),
        (
            "video/1.mp4\tvideo/2.mp4",
            "video/2.mp4\tvideo/2.mp4",
            r"trials.tsv:2: model 'video/2.mp4' is not in",
        ),
        ("\tY\tDEV.CORE", "\t?\tDEV.CORE", r"trials.tsv:2: expected Y or N"),
        ("DEV.CORE", "DEV.OTHER", r"no DEV.CORE trials"),
        (
            "N\tDEV.FULL\nvideo/3",
            "N\tDEV.FULL\nvideo/1.mp4\tvideo/2.mp4\tN\tDEV.CORE\nvideo/3",
            r":4: .*both Y and N",
        ),
    ],
)
def test_janus_broken_trials_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in JANUS_TRIALS
    with pytest.raises(DataError, match=message):
        janus_core.prepare(tmp_path / "data", _janus(tmp_path / "j", trials=JANUS_TRIALS.replace(old, new, 1)))


def _prepare_sh(repo: Path, corpus: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(repo), "HOME": os.environ.get("HOME", "/")} | variables
    environment |= {"VIDPERSON_PYTHON": sys.executable}
    command = ["bash", f"local/{corpus}/prepare.sh"]
    return subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("corpus", "variables", "expected"),
    [
        ("sre19_av_v", {}, ("sre19_dev_dir", "--sre19-dev-dir", "sre19_eval_dir", "--sre19-eval-dir")),
        ("janus_core", {}, ("janus_dir", "--janus-dir")),
        ("folder", {"folder_videos": "/"}, ("folder_persons", "--folder-persons")),
        ("folder", {"folder_persons": "/"}, ("folder_videos", "--folder-videos")),
    ],
)
def test_prepare_sh_variable_missing_names_it_and_its_option(
    repo: Path, tmp_path: Path, corpus: str, variables: dict[str, str], expected: tuple[str, ...]
) -> None:
    result = _prepare_sh(repo, corpus, data_dir=str(tmp_path), **variables)
    assert result.returncode == 1
    for word in expected:
        assert word in result.stderr


def test_prepare_sh_release_is_written_and_validated(repo: Path, tmp_path: Path, lists: Sre19) -> None:
    root = _release(tmp_path / "LDC 2019E56", lists)
    result = _prepare_sh(repo, "sre19_av_v", data_dir=str(tmp_path / "my data"), sre19_dev_dir=str(root))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "my data/sre19_av_v_dev_test/trials").is_file()
    assert "eval: no folder given, skipped" in result.stderr


def test_prepare_sh_broken_list_fails_with_one_line(repo: Path, tmp_path: Path, lists: Sre19) -> None:
    del lists["trials"]
    root = _release(tmp_path / "r", lists)
    result = _prepare_sh(repo, "sre19_av_v", data_dir=str(tmp_path / "d"), sre19_dev_dir=str(root))
    assert result.returncode != 0
    assert "trials.tsv: no such file" in result.stderr
    assert "Traceback" not in result.stderr
