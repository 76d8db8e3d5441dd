"""Data folders with sounds: wav.scp and utt2dur in the writer, the validator, the splitter and stage 1."""

from __future__ import annotations

import wave
from itertools import combinations
from pathlib import Path

import pytest

from steps.get_durations import DurationOptions, get_durations
from vidperson.corpora.data_folder import PairsOfSources, Segment, Trial, write_data_folder
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import read_scp

SPOKEN = (Segment("b-1", "", "b", sound="/x/b 1.flac", seconds=2.5), Segment("a-1", "", "a", sound="/x/a1.mp4"))
SEEN = (Segment("b-1", "/x/b1.mp4", "b", sound="/x/b1.mp4"), Segment("a-1", "/x/a1.mp4", "a", sound="/x/a1.mp4"))


def test_segments_with_sounds_give_wav_scp_and_the_durations_that_are_known(tmp_path: Path) -> None:
    folder = write_data_folder(tmp_path / "set", SPOKEN)
    assert (folder / "wav.scp").read_text() == "a-1 /x/a1.mp4\nb-1 /x/b 1.flac\n"
    assert (folder / "utt2dur").read_text() == "b-1 2.5\n"
    assert sorted(path.name for path in folder.iterdir()) == ["spk2utt", "utt2dur", "utt2spk", "wav.scp"]
    assert data_dir.validate(folder) == []


def test_set_that_loses_its_sounds_keeps_no_list_of_them(tmp_path: Path) -> None:
    write_data_folder(tmp_path / "set", SPOKEN)
    folder = write_data_folder(tmp_path / "set", [Segment("a-1", "/x/a1.mp4", "a")])
    assert sorted(path.name for path in folder.iterdir()) == ["spk2utt", "utt2spk", "vid.scp"]


def test_video_with_its_sound_track_is_in_both_scps(tmp_path: Path) -> None:
    folder = write_data_folder(tmp_path / "set", SEEN)
    assert (folder / "wav.scp").read_bytes() == (folder / "vid.scp").read_bytes() == b"a-1 /x/a1.mp4\nb-1 /x/b1.mp4\n"
    assert data_dir.validate(folder) == []


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([SEEN[0], SPOKEN[1]], "segment 'a-1' has no path, but 'b-1' has one"),
        ([SEEN[0], Segment("a-1", "/x/a1.mp4", "a")], "segment 'a-1' has no sound, but 'b-1' has one"),
        ([Segment("a-1", "", "a")], "segment 'a-1' has neither a path nor a sound"),
        ([Segment("a-1", "", "a", sound="a\nb.wav")], "a list cannot hold line breaks"),
        ([SPOKEN[0], SPOKEN[0]], "segment 'b-1' appears twice"),
    ],
)
def test_segments_that_no_folder_can_hold_are_refused_and_nothing_is_written(
    tmp_path: Path, segments: list[Segment], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_data_folder(tmp_path / "set", segments)
    assert not (tmp_path / "set").exists()


def test_pairs_of_sources_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    owners = {"z": ("p", "1"), "a-2": ("p", "1"), "a": ("p", "2"), "b": ("q", "1"), "c": ("q", "1"), "a.x": ("q", "2")}
    pairs = PairsOfSources(owners)
    naive = [
        Trial(x, y, owners[x][0] == owners[y][0])
        for x, y in combinations(sorted(owners, key=str.encode), 2)
        if owners[x] != owners[y]
    ]
    segments = [Segment(name, "", name, sound="x.wav") for name in owners]
    streamed = write_data_folder(tmp_path / "streamed", segments, trials=pairs)
    plain = write_data_folder(tmp_path / "plain", segments, trials=naive)
    assert len(pairs) == len(naive) == 13
    assert (streamed / "trials").read_bytes() == (plain / "trials").read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("utt2dur", "a-1 x\n", "utt2dur:1: expected '<segment> <seconds>'"),
        ("utt2dur", "c-1 1\n", "utt2dur:1: segment 'c-1' is not in wav.scp"),
        ("wav.scp", "a-1 /x/a1.mp4\n", "segment 'b-1' of|'b-1' is not in wav.scp"),
        ("vid.scp", "a-1 /x/a1.mp4\n", "wav.scp:2: segment 'b-1' is not in vid.scp|'b-1' is not in vid.scp"),
    ],
)
def test_lists_of_sounds_that_do_not_fit_are_told_and_fixed(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = write_data_folder(tmp_path / "set", SPOKEN)
    (folder / name).write_text(text)
    found = data_dir.validate(folder)
    assert any(part in line for line in found for part in message.split("|")), found
    data_dir.fix(folder)
    assert data_dir.validate(folder) == []


def test_split_of_a_set_of_sounds_is_balanced_by_their_durations(tmp_path: Path) -> None:
    segments = [
        Segment(f"s{n}", "", "p", sound=f"{n}.wav", seconds=seconds) for n, seconds in enumerate((1, 1, 1, 1, 9))
    ]
    top = data_dir.split(write_data_folder(tmp_path / "set", segments), 2)
    first, second = (read_scp(top / part / "wav.scp") for part in "12")
    assert list(first) == ["s0", "s1", "s2", "s3"] and second == {"s4": f"{tmp_path}/set/4.wav"}
    assert read_scp(top / "2/utt2dur") == {"s4": "9"}


def write_wav(path: Path, seconds: float) -> Segment:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2 * round(16000 * seconds)))
    return Segment(path.stem, "", "p", sound=str(path))


def test_durations_that_utt2dur_has_stay_and_those_that_it_lacks_are_read_from_the_files(tmp_path: Path) -> None:
    sounds = [write_wav(tmp_path / f"{name}.wav", seconds) for name, seconds in (("a", 1.5), ("a-b", 0.25), ("c", 2))]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    lost = [Segment(name, "", "p", sound=f"{tmp_path}/{name}.wav") for name in ("broken", "missing")]
    told = Segment("told", "", "p", sound=f"{tmp_path}/none.wav", seconds=7.5)
    folder = write_data_folder(tmp_path / "set", [*sounds, *lost, told])
    get_durations(DurationOptions(folder))
    assert (folder / "utt2dur").read_text() == "a 1.500\na-b 0.250\nc 2.000\ntold 7.5\n"
    assert data_dir.validate(folder) == [] and not (folder / "vid2dur").exists()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    get_durations(DurationOptions(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_wav(tmp_path / "c.wav", 3)
    write_data_folder(folder, [*sounds, *lost, told])  # as stage 1 does
    get_durations(DurationOptions(folder))
    assert read_scp(folder / "utt2dur") == {"a": "1.500", "a-b": "0.250", "c": "3.000", "told": "7.5"}


def test_durations_of_a_set_without_any_list_of_media_are_refused(tmp_path: Path) -> None:
    folder = write_data_folder(tmp_path / "set", SPOKEN)
    (folder / "wav.scp").unlink()
    with pytest.raises(DataError, match=r"vid\.scp: no such file"):
        get_durations(DurationOptions(folder))
