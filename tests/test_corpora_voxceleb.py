"""VoxCeleb in the layout of AVCleanse: tiny folders, and lists with the official numbers of trials."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidperson.corpora import voxceleb
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import read_scp, read_spk2utt

TRAINED = {
    "id00012/21Uxsk56VDQ/00001": ("id00012", "4.16"),
    "id00012/21Uxsk56VDQ/00002": ("id00012", "8.2"),
    "id00015/-0uXsk_6VDQ/00001": ("id00015", "5"),
    "id00015/2aaaaaaaaaa/00001": ("id00015", "5.5"),
}
TESTED = ("id10270/5r0dWxy17C8/00001", "id10270/x6uYqmx31kE/00001", "id10300/ize_eiCFEg0/00003")
TRIALS = (
    "1 id10270/5r0dWxy17C8/00001.wav id10270/x6uYqmx31kE/00001.wav\n"
    "0 id10270/5r0dWxy17C8/00001.wav id10300/ize_eiCFEg0/00003.wav\n"
)
NOISY = "id00012/21Uxsk56VDQ/00002"


def train_text(cleansed: bool = False) -> str:
    def tail(utterance: str) -> str:
        return f" 0.51 0.62 {'noisy' if utterance == NOISY else 'clean'}" if cleansed else ""

    return "".join(f"{who} {path}.wav {seconds}{tail(path)}\n" for path, (who, seconds) in TRAINED.items())


def media(root: Path, utterances: tuple[str, ...], sounds: bool = True, faces: bool = True) -> None:
    for utterance in utterances:
        if sounds:
            path = root / "wav" / f"{utterance}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if faces:
            (root / "frame_align" / utterance).mkdir(parents=True)
            assert cv2.imwrite(str(root / "frame_align" / utterance / "0010.jpg"), np.zeros((112, 112, 3), np.uint8))


@pytest.fixture
def vox2(tmp_path: Path) -> Path:
    root = tmp_path / "VoxCeleb2"
    media(root, tuple(TRAINED))
    (root / "train_all.txt").write_text(train_text())
    return root


@pytest.fixture
def vox1(tmp_path: Path) -> Path:
    root = tmp_path / "VoxCeleb1"
    media(root, TESTED)
    (root / "O_trials.txt").write_text(TRIALS)
    (root / "O_list.txt").write_text("".join(f"{path}.wav 4.5\n" for path in TESTED))
    return root


def test_training_list_gives_sounds_faces_speakers_and_durations(tmp_path: Path, vox2: Path) -> None:
    (folder,) = voxceleb.prepare(tmp_path / "data", None, vox2)
    assert folder.name == "vox2_train"
    ids = {path: path.replace("/", "-") for path in TRAINED}
    assert read_scp(folder / "wav.scp") == {ids[path]: f"{vox2}/wav/{path}.wav" for path in TRAINED}
    assert read_scp(folder / "frames.scp") == {ids[path]: f"{vox2}/frame_align/{path}" for path in TRAINED}
    assert read_scp(folder / "utt2spk") == {ids[path]: speaker for path, (speaker, _) in TRAINED.items()}
    assert read_scp(folder / "utt2dur") == {ids[path]: seconds for path, (_, seconds) in TRAINED.items()}
    assert not (folder / "vid.scp").exists() and not (folder / "trials").exists()
    assert data_dir.validate(folder, check_files=True) == []


def test_cleansed_list_leaves_noisy_rows_out_and_counts_them(
    tmp_path: Path, vox2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (vox2 / "train_all_clean.txt").write_text(train_text(cleansed=True))
    with caplog.at_level(logging.INFO):
        train, clean = voxceleb.prepare(tmp_path / "data", None, vox2)
    assert (train.name, clean.name) == ("vox2_train", "vox2_train_clean")
    assert set(read_scp(train / "utt2spk")) - set(read_scp(clean / "utt2spk")) == {NOISY.replace("/", "-")}
    assert "train_all_clean.txt: 1 of 4 rows are noisy, and left out" in caplog.text


def test_trials_pair_utterances_each_of_which_is_a_model_of_its_own(tmp_path: Path, vox1: Path) -> None:
    (folder,) = voxceleb.prepare(tmp_path / "data", vox1)
    a, b, c = (path.replace("/", "-") for path in TESTED)
    assert (folder / "trials").read_text() == f"{a} {b} target\n{a} {c} nontarget\n"
    assert read_spk2utt(folder / "spk2utt") == {each: [each] for each in (a, b, c)}
    assert read_scp(folder / "utt2dur") == dict.fromkeys((a, b, c), "4.5")
    assert data_dir.validate(folder, check_files=True) == []


@pytest.mark.parametrize("sounds", [True, False])
def test_folder_with_sounds_or_faces_only_gives_one_scp(tmp_path: Path, sounds: bool) -> None:
    root = tmp_path / "VoxCeleb1"
    media(root, TESTED, sounds=sounds, faces=not sounds)
    (root / "O_trials").write_text(TRIALS)  # without extension, without O_list
    (folder,) = voxceleb.prepare(tmp_path / "data", root)
    assert [name for name in data_dir.SCPS if (folder / name).is_file()] == ["wav.scp" if sounds else "frames.scp"]
    assert not (folder / "utt2dur").exists() and data_dir.validate(folder) == []


def trials_of(count: int) -> str:
    """Different trials, as many as said, of utterances that need not be there, and one that is."""
    return TRIALS + "".join(f"{n % 2} id1/v/{n // 700:05}.wav id2/v/{n % 700:05}.wav\n" for n in range(count - 2))


def test_videos_give_what_there_is_no_folder_of(tmp_path: Path, vox1: Path) -> None:
    for utterance in TESTED[1:]:
        path = vox1 / "mp4" / f"{utterance}.mp4"
        path.parent.mkdir(parents=True)
        path.touch()
    ids = {path: path.replace("/", "-") for path in TESTED}
    videos = {ids[path]: f"{vox1}/mp4/{path}.mp4" for path in TESTED}

    def lists() -> dict[str, dict[str, str]]:
        (folder,) = voxceleb.prepare(tmp_path / "data", vox1)
        return {path.name: read_scp(path) for path in folder.glob("*.scp")}

    both = lists()
    assert set(both) == {"wav.scp", "frames.scp"} and not set(videos.values()) & set(both["wav.scp"].values())
    (vox1 / "frame_align").rename(vox1 / "faces")
    assert lists() == {"wav.scp": both["wav.scp"], "vid.scp": videos}
    (vox1 / "wav").rename(vox1 / "sounds")
    assert lists() == {"wav.scp": videos, "vid.scp": videos}
    (vox1 / "faces").rename(vox1 / "frame_align")
    assert lists() == {"wav.scp": videos, "frames.scp": both["frames.scp"]}


@pytest.mark.parametrize(
    ("count", "version"), [(37_611, "cleaned"), (37_720, "original"), (37_650, "other"), (2, "other")]
)
def test_version_of_a_trial_list_is_told_by_its_number_of_trials(
    tmp_path: Path, vox1: Path, caplog: pytest.LogCaptureFixture, count: int, version: str
) -> None:
    (vox1 / "O_trials.txt").write_text(trials_of(count))
    (folder,) = voxceleb.prepare(tmp_path / "data", vox1)
    assert folder.name == f"vox1_o_{version}"
    assert len((folder / "trials").read_text().splitlines()) == count
    message = f"O_trials.txt: {count} trials, expected 37611 (cleaned) or 37720 (original); its set is vox1_o_other;"
    assert (message in caplog.text) == (version == "other")


def test_list_that_is_there_under_both_names_is_read_once_and_the_other_is_named(
    tmp_path: Path, vox1: Path, caplog: pytest.LogCaptureFixture
) -> None:
    voxceleb.prepare(tmp_path / "data", vox1)
    assert "not read" not in caplog.text
    (vox1 / "O_trials").write_text(TRIALS.splitlines()[0])
    (folder,) = voxceleb.prepare(tmp_path / "again", vox1)
    assert f"{vox1}/O_trials.txt: read; {vox1}/O_trials: not read" in caplog.text
    assert (folder / "trials").read_bytes() == (tmp_path / "data" / folder.name / "trials").read_bytes()


def test_trial_lists_of_two_versions_are_refused_and_an_unknown_one_beside_them_is_not(
    tmp_path: Path, vox1: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(voxceleb.TRIALS, "O", {"cleaned": 2})
    monkeypatch.setitem(voxceleb.TRIALS, "H", {"original": 1})
    (vox1 / "H_trials.txt").write_text(TRIALS.splitlines()[1])
    with pytest.raises(DataError, match="of several versions: O cleaned, H original; .*: move the lists"):
        voxceleb.prepare(tmp_path / "data", vox1)
    assert not (tmp_path / "data").exists()
    monkeypatch.setitem(voxceleb.TRIALS, "H", {"original": 7})
    folders = voxceleb.prepare(tmp_path / "data", vox1)
    assert [folder.name for folder in folders] == ["vox1_o_cleaned", "vox1_h_other"]
    assert "H_trials.txt: no target trial; there will be no error rate" in caplog.text


@pytest.mark.parametrize(("folder", "suffix"), [("aac", ".m4a"), ("wav", ".flac")])
def test_sounds_of_other_formats_are_found_by_the_first_of_them(
    tmp_path: Path, vox2: Path, folder: str, suffix: str
) -> None:
    """Lists say .wav: VoxCeleb2 comes as aac/, and whoever converts it need not change the lists."""
    (vox2 / "wav").rename(vox2 / folder)
    for path in sorted((vox2 / folder).rglob("*.wav")):
        path.rename(path.with_suffix(suffix))
    (made,) = voxceleb.prepare(tmp_path / "data", None, vox2)
    sounds = {path.replace("/", "-"): f"{vox2}/{folder}/{path}{suffix}" for path in TRAINED}
    assert read_scp(made / "wav.scp") == sounds
    assert voxceleb.listed_path("x", next(iter(sounds.values()))) == f"{next(iter(TRAINED))}{suffix}"


def test_duration_that_a_list_does_not_know_is_left_to_the_file(tmp_path: Path, vox2: Path) -> None:
    rows = [voxceleb.CleansedRow(who, f"{path}.wav", None, {}, False) for path, (who, _) in TRAINED.items()]
    voxceleb.write_cleansed_list(vox2 / "train_all_clean.txt", rows)
    folders = voxceleb.prepare(tmp_path / "data", None, vox2)
    assert [(folder / "utt2dur").exists() for folder in folders] == [True, False]


def test_repeated_trials_are_counted_and_the_version_is_still_found(
    tmp_path: Path, vox1: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(voxceleb.TRIALS, "O", {"cleaned": 2})
    (vox1 / "O_trials.txt").write_text(TRIALS * 3)
    (folder,) = voxceleb.prepare(tmp_path / "data", vox1)
    assert folder.name == "vox1_o_cleaned" and len((folder / "trials").read_text().splitlines()) == 2
    assert "4 rows repeat a trial" in caplog.text


def test_utterances_without_file_are_named_and_stay_in_the_lists(
    tmp_path: Path, vox1: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = vox1 / "wav" / f"{TESTED[2]}.wav"
    gone.unlink()
    (folder,) = voxceleb.prepare(tmp_path / "data", vox1)
    assert f"1 of 3 sound files are missing: {gone}" in caplog.text
    assert len(read_scp(folder / "wav.scp")) == 3 and data_dir.validate(folder) == []


def test_list_of_durations_that_does_not_fit_the_trials_is_told(
    tmp_path: Path, vox1: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (vox1 / "O_list.txt").write_text(f"{TESTED[0]}.wav 4.5\nid9/v/00001.wav 3\n")
    (folder,) = voxceleb.prepare(tmp_path / "data", vox1)
    assert read_scp(folder / "utt2dur") == {TESTED[0].replace("/", "-"): "4.5"}
    assert "1 utterances are in no trial of this part" in caplog.text
    assert "2 of 3 utterances of the trials are not in it" in caplog.text


def test_few_speakers_and_utterances_and_repeated_rows_are_counted(
    tmp_path: Path, vox2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = train_text().splitlines()[0]
    (vox2 / "train_all.txt").write_text(f"{line}\n{line}\n")
    (folder,) = voxceleb.prepare(tmp_path / "data", None, vox2)
    assert len(read_scp(folder / "utt2spk")) == 1
    assert "1 rows repeat an utterance" in caplog.text
    assert "only one speaker, id00012" in caplog.text
    assert "1 of 1 speakers have only one utterance: id00012" in caplog.text


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_write("train_all.txt", "id1\n"), r"train_all.txt:1: expected '<speaker> <path> \[<seconds>\]', found 'id1'"),
        (_write("train_all.txt", "id1 a.wav x\n"), "train_all.txt:1: expected a duration in seconds, found 'x'"),
        (_write("train_all.txt", "id1 ../a.wav 1\n"), "train_all.txt:1: path '../a.wav' would leave"),
        (_write("train_all.txt", train_text(True)), "train_all.txt:1: .*six columns is a train_all_clean.txt"),
        (_write("train_all.txt", "a v/1.wav 1\nb v/1.wav 1\n"), "train_all.txt:2: .*speaker 'b', and of 'a'"),
        (_write("train_all.txt", "a b/c-d/1.wav\na b-c/d/1.wav\n"), "share the id 'b-c-d-1'"),
        (_write("train_all.txt", "a gone/1.wav\n"), "1 of 1 sound files are missing.*unpack them into"),
        (_write("train_all.txt", "\n"), "expected lines .*, found none"),
        (_write("train_all_clean.txt", "a v/1.wav 1 0 0 noisy\n"), "found none that is clean"),
        (_write("train_all_clean.txt", "a v/1.wav 1 0 0 maybe\n"), "train_all_clean.txt:1: expected .*clean|noisy"),
        (_write("O_trials.txt", "target a b\n"), r"O_trials.txt:1: expected '1\|0 <path> <path>'"),
        (_write("O_trials.txt", "1 a b\n0 a b\n"), "O_trials.txt:2: 'a b' is both target and non-target"),
        (_write("O_trials.txt", ""), "O_trials.txt: expected lines .*, found none"),
    ],
)
def test_bad_list_is_named_and_nothing_is_written(
    tmp_path: Path, vox2: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(vox2)
    with pytest.raises(DataError, match=message):
        voxceleb.prepare(tmp_path / "data", vox2, vox2)
    assert not (tmp_path / "data").exists()


def test_folders_without_lists_or_media_are_refused(tmp_path: Path, vox2: Path) -> None:
    (vox2 / "train_all.txt").unlink()
    with pytest.raises(DataError, match=r"VoxCeleb2: expected at least one of train_all\.txt, .*; found none"):
        voxceleb.prepare(tmp_path / "data", None, vox2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a folder 'wav' or 'aac' of sounds"):
        voxceleb.prepare(tmp_path / "data", tmp_path / "empty")
    with pytest.raises(DataError, match="no such folder"):
        voxceleb.prepare(tmp_path / "data", tmp_path / "none")
    with pytest.raises(DataError, match="found none"):
        voxceleb.prepare(tmp_path / "data")


def test_stage_prepares_sets_of_sounds_only_and_of_aligned_faces(repo: Path, tmp_path: Path, vox1: Path) -> None:
    data = tmp_path / "data"

    def stage_1(*options: str) -> subprocess.CompletedProcess[str]:
        words = ["./run_001_prepare_data.sh", "--config-file", "global_conf/config_voxceleb.sh"]
        words += ["--data-dir", str(data), "--trial-sets", "vox1_o_other:vox1_o_other", *options]
        return subprocess.run(words, cwd=repo, capture_output=True, text=True)

    refused = stage_1()
    assert refused.returncode == 1 and "set voxceleb1_dir or voxceleb2_dir in the config" in refused.stderr
    done = stage_1("--voxceleb1-dir", str(vox1))
    assert done.returncode == 0 and "vox1_o_other: 3 segments" in done.stdout, done.stderr
    assert set(read_scp(data / "vox1_o_other/vid2dur").values()) == {"1.000"}
    (vox1 / "frame_align").rename(vox1 / "faces")
    done = stage_1("--voxceleb1-dir", str(vox1))
    assert done.returncode == 0 and "vox1_o_other: 3 segments" in done.stdout, done.stderr
    assert not (data / "vox1_o_other/vid2dur").exists() and (data / "vox1_o_other/utt2dur").exists()
