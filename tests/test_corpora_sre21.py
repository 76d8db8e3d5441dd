"""The reader of SRE21 and the stages behind it, on tiny releases with real pictures and videos."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from naive_decoder import numbered, write_video
from recipe import published

from vidperson.corpora import sre21
from vidperson.errors import DataError
from vidperson.io.data_dir import validate
from vidperson.io.lines import read_scp, read_spk2utt
from vidperson.io.lists import read_trials
from vidperson.media.video import FrameReader, UniformSampling

Lists = dict[str, str]
TRIALS = "imageid\tsegmentid\nface_b.jpg\tt1.mp4\nface_a.jpg\tt2.mp4\nface_a.jpg\tt1.mp4\n"


@pytest.fixture
def lists() -> Lists:
    """The dev lists of a tiny SRE21 release: name -> text."""
    return {
        "trials": TRIALS,
        "trial_key": "imageid\tsegmentid\ttargettype\tgender\tsource_type\n"
        "face_a.jpg\tt1.mp4\ttarget\tfemale\tafv\n"
        "face_a.jpg\tt2.mp4\tnontarget\tfemale\tcts\n"
        "face_b.jpg\tt1.mp4\tnontarget\tmale\tafv\n",
    }


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A picture and a video of a second; extension -> content."""
    folder = tmp_path_factory.mktemp("media")
    cv2.imwrite(str(folder / "a.jpg"), numbered(7)[..., ::-1])
    write_video(folder / "a.mp4", (numbered(i) for i in range(25)))
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def release(root: Path, lists: Lists, media: dict[str, bytes], part: str = "dev") -> Path:
    (root / "docs").mkdir(parents=True)
    for name, text in lists.items():
        track, _, name = name.rpartition(" ")
        (root / "docs" / f"sre21_{track or 'visual'}_{part}_{name}.tsv").write_bytes(text.encode())
    sounds = (
        ["audio/enrollment/" + name for name in ("x.flac", "y.sph", "z.flac")] if "audio enrollment" in lists else []
    )
    for name in (
        *sounds,
        "image/enrollment/face_a.jpg",
        "image/enrollment/face_b.jpg",
        "video/test/t1.mp4",
        "video/test/t2.mp4",
    ):
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(media.get(path.suffix, b""))
    return root


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_sre21_release_gives_a_model_per_image_and_partitions_beside_the_trials(
    tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    root = release(tmp_path / "LDC 2021E09", lists, media)
    enroll, test = sre21.prepare(tmp_path / "data", root, "")
    assert (enroll.name, test.name) == ("sre21_av_v_dev_enroll", "sre21_av_v_dev_test")
    assert contents(enroll) == {
        "vid.scp": f"face_a-face_a {root}/data/image/enrollment/face_a.jpg\n"
        f"face_b-face_b {root}/data/image/enrollment/face_b.jpg\n",
        "utt2spk": "face_a-face_a face_a\nface_b-face_b face_b\n",
        "spk2utt": "face_a face_a-face_a\nface_b face_b-face_b\n",
    }
    assert contents(test) == {
        "vid.scp": f"t1 {root}/data/video/test/t1.mp4\nt2 {root}/data/video/test/t2.mp4\n",
        "wav.scp": f"t1 {root}/data/video/test/t1.mp4\nt2 {root}/data/video/test/t2.mp4\n",
        "utt2spk": "t1 t1\nt2 t2\n",
        "spk2utt": "t1 t1\nt2 t2\n",
        "trials": "face_a t1 target\nface_a t2 nontarget\nface_b t1 nontarget\n",
        "trial_partitions": "face_a t1 gender=female\nface_a t2 gender=female\nface_b t1 gender=male\n",
    }
    assert validate(enroll) == [] and validate(test) == []


def test_sre21_windows_line_ends_other_columns_and_ids_without_extension_give_the_same_sets(
    tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    root = release(tmp_path / "r", lists, media)
    plain = [contents(folder) for folder in sre21.prepare(tmp_path / "plain", root, None)]
    for name, text in lists.items():
        rows = [line.split("\t") for line in re.sub(r"\.(jpg|mp4)", "", text).splitlines()]
        moved = "".join("\t".join(["x", *reversed(row)]) + "\r\n" for row in rows)
        (root / "docs" / f"sre21_visual_dev_{name}.tsv").write_bytes(("\ufeff" + moved).encode())
    assert [contents(folder) for folder in sre21.prepare(tmp_path / "other", root, None)] == plain


def test_sre21_enrolment_list_gives_models_of_several_images_and_videos(
    tmp_path: Path, lists: Lists, media: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    lists = {
        name: text.replace("imageid", "modelid").replace("face_", "").replace(".jpg", "")
        for name, text in lists.items()
    }
    lists["enrollment"] = "modelid\tsegmentid\na\tface_a.jpg\na\tface_b.jpg\nb\ttalk.mp4\nb\ttalk.mp4\n"
    root = release(tmp_path / "r", lists, media)
    (root / "data/enrollment").mkdir()
    (root / "data/enrollment/talk.mp4").write_bytes(media[".mp4"])
    enroll, test = sre21.prepare(tmp_path / "data", root, None)
    assert read_spk2utt(enroll / "spk2utt") == {"a": ["a-face_a", "a-face_b"], "b": ["b-talk"]}
    assert read_scp(enroll / "vid.scp")["b-talk"] == f"{root}/data/enrollment/talk.mp4"
    assert (test / "trials").read_text().startswith("a t1 target\n")
    assert "1 repeated rows left out" in caplog.text


def test_sre21_key_missing_gives_trials_of_two_columns_and_removes_old_partitions(
    tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    root = release(tmp_path / "r", lists, media)
    sre21.prepare(tmp_path / "data", root, None)
    (root / "docs/sre21_visual_dev_trial_key.tsv").unlink()
    _, test = sre21.prepare(tmp_path / "data", root, None)
    assert read_trials(test / "trials").is_target is None
    assert not (test / "trial_partitions").exists()


def with_sounds(lists: Lists) -> Lists:
    """The lists and those of the audio-visual track: a model of two sounds, and one of a sound."""
    return lists | {
        "audio-visual trials": "modelid\timageid\tsegmentid\nm2\tface_b.jpg\tt1.mp4\nm1\tface_a.jpg\tt1.mp4\n",
        "audio-visual trial_key": "modelid\timageid\tsegmentid\ttargettype\tgender\n"
        "m1\tface_a.jpg\tt1.mp4\ttarget\tfemale\nm2\tface_b.jpg\tt1.mp4\tnontarget\tmale\n",
        "audio enrollment": "modelid\tsegmentid\tside\nm1\tx.flac\ta\nm1\ty.sph\ta\nm2\tz\ta\nm3\tx.flac\ta\n",
    }


def test_sre21_audio_visual_lists_give_models_with_an_image_and_each_sound(
    tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    root = release(tmp_path / "r", with_sounds(lists), media)
    *_, enroll, test = sre21.prepare(tmp_path / "data", root, None)
    assert (enroll.name, test.name) == ("sre21_av_dev_enroll", "sre21_av_dev_test")
    image, sound = f"{root}/data/image/enrollment", f"{root}/data/audio/enrollment"
    assert contents(enroll) == {
        "vid.scp": f"m1-x {image}/face_a.jpg\nm1-y {image}/face_a.jpg\nm2-z {image}/face_b.jpg\n",
        "wav.scp": f"m1-x {sound}/x.flac\nm1-y {sound}/y.sph\nm2-z {sound}/z.flac\n",
        "utt2spk": "m1-x m1\nm1-y m1\nm2-z m2\n",
        "spk2utt": "m1 m1-x m1-y\nm2 m2-z\n",
    }
    assert contents(test) == {
        "vid.scp": f"t1 {root}/data/video/test/t1.mp4\n",
        "wav.scp": f"t1 {root}/data/video/test/t1.mp4\n",
        "utt2spk": "t1 t1\n",
        "spk2utt": "t1 t1\n",
        "trials": "m1 t1 target\nm2 t1 nontarget\n",
        "trial_partitions": "m1 t1 gender=female\nm2 t1 gender=male\n",
    }
    assert validate(enroll, check_files=True) == [] and validate(test, check_files=True) == []


def test_sre21_audio_visual_lists_without_images_are_left_out_with_a_word(
    tmp_path: Path, lists: Lists, media: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    lists = with_sounds(lists)
    lists["audio-visual trials"] = lists["audio-visual trials"].replace("imageid", "other")
    written = sre21.prepare(tmp_path / "data", release(tmp_path / "r", lists, media), None)
    assert [folder.name for folder in written] == ["sre21_av_v_dev_enroll", "sre21_av_v_dev_test"]
    assert "no image of a model, such as a column 'imageid'; the track is left out" in caplog.text


def test_sre21_model_with_two_images_is_refused_and_nothing_is_written(
    tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    lists = with_sounds(lists)
    lists["audio-visual trials"] += "m1\tface_b.jpg\tt2.mp4\n"
    with pytest.raises(DataError, match=r"trials.tsv:4: model 'm1' has two images, 'face_a.jpg' and 'face_b.jpg'"):
        sre21.prepare(tmp_path / "data", release(tmp_path / "r", lists, media), None)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("partitions", "first"),
    [(["gender", "Source_Type"], "face_a t1 gender=female,Source_Type=afv\n"), ([], None)],
)
def test_sre21_partitions_are_the_columns_asked_for(
    tmp_path: Path, lists: Lists, media: dict[str, bytes], partitions: list[str], first: str | None
) -> None:
    _, test = sre21.prepare(tmp_path / "data", release(tmp_path / "r", lists, media), None, partitions=partitions)
    path = test / "trial_partitions"
    assert (path.read_text().splitlines(keepends=True)[0] if path.exists() else None) == first


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("trials", "imageid\tsegmentid\n", "", r"trials.tsv: no column 'imageid' .*header has: face_b.jpg t1.mp4"),
        ("trials", "segmentid", "answer", r"trials.tsv: no column 'segmentid' .*header has: imageid answer"),
        ("trials", "imageid\tsegmentid", "imageid\timageid", r"trials.tsv: column 'imageid' is there 2 times"),
        ("trials", TRIALS, "", r"trials.tsv: empty file: expected a header line"),
        ("trials", TRIALS, "imageid\tsegmentid\n", r"trials.tsv: no trials"),
        ("trials", "face_b.jpg", "face b.jpg", r"trials.tsv:2: column 'model': an id has no blanks"),
        ("trials", "face_b.jpg", "../face_b.jpg", r"trials.tsv:2: .*would leave the output folder"),
        ("trials", "face_b.jpg", "face_a.png", r"trials.tsv:3: 'face_a.png' and 'face_a.jpg' would both be 'face_a'"),
        ("trials", "t2.mp4", "t3.mp4", r"trials.tsv:3: 1 trials, this one first, are not in the key"),
        (
            "trial_key",
            "targettype",
            "answer",
            r"key.tsv: no column 'targettype' .*header has: imageid segmentid answer",
        ),
        ("trial_key", "gender", "sex", r"key.tsv: no column 'gender' .*header has: imageid segmentid targettype sex"),
        ("trial_key", "target\tfemale", "target\t", r"key.tsv:2: column 'partition gender' is empty"),
        ("trial_key", "t2.mp4\tnontarget\tfemale", "t1.mp4\ttarget\tmale", r"key.tsv:3: .*in two partitions, gender=f"),
        ("trial_key", "t2.mp4", "t1.mp4", r"key.tsv:3: trial 'face_a t1' is both target and nontarget"),
        ("enrollment", "", "modelid\nface_a\n", r"enrollment.tsv: no column 'imageid'.*header has: modelid"),
        (
            "enrollment",
            "",
            "modelid\timageid\nb\tface_b.jpg\n",
            r"trials.tsv:2: model 'face_b' is not in the enrolment",
        ),
        ("enrollment", "", "modelid\timageid\n", r"enrollment.tsv: no enrolment segments"),
    ],
)
def test_sre21_broken_list_is_refused_with_file_and_line_and_nothing_is_written(
    tmp_path: Path, lists: Lists, media: dict[str, bytes], name: str, old: str, new: str, message: str
) -> None:
    text = lists.get(name, "")
    assert old in text
    lists[name] = text.replace(old, new, 1)
    with pytest.raises(DataError, match=message):
        sre21.prepare(tmp_path / "data", release(tmp_path / "r", lists, media), None)
    assert not (tmp_path / "data").exists()


def test_sre21_trial_list_missing_is_named(tmp_path: Path, lists: Lists, media: dict[str, bytes]) -> None:
    del lists["trials"]
    with pytest.raises(DataError, match=r"docs/sre21_visual_eval_trials.tsv: no such file"):
        sre21.prepare(tmp_path / "data", None, release(tmp_path / "r", lists, media, "eval"))


def test_sre21_image_missing_is_warned_of_and_all_missing_is_refused(
    tmp_path: Path, lists: Lists, media: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    root = release(tmp_path / "r", lists, media)
    (root / "data/image/enrollment/face_b.jpg").unlink()
    caplog.set_level(logging.WARNING)
    enroll, _ = sre21.prepare(tmp_path / "data", root, None)
    assert f"1 of 2 media files are missing: {root}/data/image/enrollment/face_b.jpg" in caplog.text
    assert list(read_scp(enroll / "vid.scp")) == ["face_a-face_a", "face_b-face_b"]
    (root / "data/image/enrollment/face_a.jpg").unlink()
    with pytest.raises(DataError, match="2 of 2 media files are missing"):
        sre21.prepare(tmp_path / "data", root, None)


def stage_1(repo: Path, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        "./run_001_prepare_data.sh",
        "--config-file",
        "global_conf/config_sre21.sh",
        "--data-dir",
        f"{work}/data",
    ]
    environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
    return subprocess.run([*command, *options], cwd=repo, env=environment, capture_output=True, text=True)


def test_stage_1_sre21_both_parts_are_prepared_and_pictures_are_videos_of_one_frame(
    repo: Path, tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    dev = release(tmp_path / "dev set", lists, media)
    evaluation = release(tmp_path / "eval", {"trials": TRIALS}, media, "eval")
    done = stage_1(repo, tmp_path, "--sre21-dev-dir", str(dev), "--sre21-eval-dir", str(evaluation))
    assert done.returncode == 0, done.stderr
    data = tmp_path / "data"
    for part in ("dev", "eval"):
        assert read_scp(data / f"sre21_av_v_{part}_enroll/vid2dur")["face_a-face_a"] == "0.040"
        assert read_scp(data / f"sre21_av_v_{part}_test/vid2dur")["t1"] == "1.000"
        assert validate(data / f"sre21_av_v_{part}_test", check_files=True) == []
    assert (data / "sre21_av_v_dev_test/trial_partitions").is_file()
    assert read_trials(data / "sre21_av_v_eval_test/trials").is_target is None
    with FrameReader(read_scp(data / "sre21_av_v_dev_enroll/vid.scp")["face_a-face_a"], UniformSampling(1)) as reader:
        assert [frame.image.shape for frame in reader] == [numbered(7).shape]


def test_stage_1_sre21_without_folder_or_with_a_broken_list_fails_with_one_line(
    repo: Path, tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    done = stage_1(repo, tmp_path)
    assert done.returncode == 1
    for word in ("sre21_dev_dir", "--sre21-dev-dir", "sre21_eval_dir", "--sre21-eval-dir"):
        assert word in done.stderr
    lists["trial_key"] = lists["trial_key"].replace("gender", "sex")
    root = release(tmp_path / "r", lists, media)
    done = stage_1(repo, tmp_path, "--sre21-dev-dir", str(root))
    assert done.returncode != 0 and "no column 'gender'" in done.stderr and "Traceback" not in done.stderr
    done = stage_1(repo, tmp_path, "--sre21-dev-dir", str(root), "--sre21-partitions=", "--stop-stage", "1")
    assert done.returncode == 0, done.stderr


def test_stages_sre21_selfies_against_videos_end_in_an_answer_in_the_order_of_the_list(
    repo: Path, models: Path, shared: Path, tmp_path: Path, lists: Lists, media: dict[str, bytes]
) -> None:
    recipe = published(repo, models, tmp_path, "sre21")
    root = release(tmp_path / "r", lists, media)
    hamilton = shared / "data/video/hamilton"
    picture = cv2.imread(str(hamilton / "lin-manuel-miranda.png"))
    cv2.imwrite(str(root / "data/image/enrollment/face_a.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    (root / "data/image/enrollment/face_b.jpg").write_bytes((hamilton / "biden.jpg").read_bytes())
    (root / "data/video/test/t1.mp4").write_bytes((hamilton / "short_hamilton_clip.mp4").read_bytes())
    trial_sets = "sre21_av_v_dev_enroll:sre21_av_v_dev_test"
    options = ["--sre21-dev-dir", str(root), "--trial-sets", trial_sets, "--nj", "2"]
    for stage in ("001_prepare_data", "002_detect_faces", "003_extract_embeddings", "004_score"):
        recipe.run(stage, *options)
    scores = recipe.scores("sre21_av_v_dev_test")
    assert scores["face_a", "t1"] > 0.6 > 0.25 > scores["face_b", "t1"]
    command = [sys.executable, "local/sre21_av_v/format_submission.py"]
    command += ["--trials", f"{root}/docs/sre21_visual_dev_trials.tsv", "--output", f"{tmp_path}/answer.tsv"]
    command += ["--scores", f"{tmp_path}/exp/scores/{recipe.embedder}/max/sre21_av_v_dev_test_scores"]
    subprocess.run(command, cwd=repo, env={**os.environ, "PYTHONPATH": str(repo)}, check=True)
    rows = [line.split("\t") for line in (tmp_path / "answer.tsv").read_text().splitlines()]
    assert ["\t".join(row[:2]) for row in rows] == TRIALS.splitlines()
    assert rows[0][2] == "LLR" and float(rows[3][2]) == scores["face_a", "t1"]
