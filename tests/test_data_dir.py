"""vidperson/io/data_dir.py: checking, fixing and splitting data folders."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidperson.errors import DataError
from vidperson.io import data_dir, flawless
from vidperson.io.data_dir import balanced_ranges, consecutive_parts, fix, require_valid, split, validate, work_list
from vidperson.io.flawless import flawless_trial_lists
from vidperson.io.flawless_segments import are_flawless
from vidperson.io.lines import read_paths, read_scp, read_spk2utt
from vidperson.io.lists import read_boxes, read_trials

GOOD = {
    "vid.scp": "B-1 /videos/a b.mp4\na-1 c.mp4\na-2 d.mp4\n\u00e9-1 \u00e9.mp4\n",
    "utt2spk": "B-1 B\na-1 a\na-2 a\n\u00e9-1 \u00e9\n",
    "spk2utt": "B B-1\na a-1 a-2\n\u00e9 \u00e9-1\n",
    "face_boundingbox": "B-1 0 1 2 3 4\nB-1 10 1 2 3 4\nB-1 9.5 1 2 3 4\na-2 0 1 2 3 4\n",
    "face_boundingbox_conf": "seconds 5\n",
    "body_boundingbox": "a-1 3 10 20 30 40\na-2 3 10 20 30 40\n",
    "body_boundingbox_conf": "frames 1\n",
    "region": "a-1 10 20 30 40\na-2 -1 0 1.5 2\n",
    "trials": "m B-1 target\nm a-1 nontarget\nn a-2 nontarget\n",
    "vid2dur": "B-1 2.5\na-1 1\na-2 0.5\n\u00e9-1 4\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", GOOD)


def write(folder: Path, lists: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in lists.items():
        (folder / name).write_bytes(text.encode())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_validate_good_folder_finds_nothing(folder: Path) -> None:
    assert validate(folder) == []
    for name in ("vid.scp", "utt2spk", "spk2utt", "face_boundingbox", "trials", "vid2dur"):
        subprocess.run(["sort", "-c", folder / name], check=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize("scp", ["wav.scp", "frames.scp"])
def test_validate_other_kinds_of_scp_do(folder: Path, scp: str) -> None:
    (folder / "vid.scp").rename(folder / scp)
    assert validate(folder) == []


def test_validate_only_required_lists_finds_nothing(tmp_path: Path) -> None:
    assert validate(write(tmp_path / "set", {k: GOOD[k] for k in ("vid.scp", "utt2spk", "spk2utt")})) == []


MALFORMED = [
    (
        "vid.scp",
        GOOD["vid.scp"].replace("a-1 c.mp4", "a-1 "),
        "vid.scp:2: expected '<segment> <path>', found",
    ),
    ("vid.scp", GOOD["vid.scp"] + "\n", "vid.scp:5: expected '<segment> <path>', found ''"),
    ("vid.scp", GOOD["vid.scp"].replace("a-1 ", "B-1 "), "vid.scp:2: 'B-1' is there twice, first in line 1"),
    ("vid.scp", GOOD["vid.scp"].replace("B-1 ", "b-1 "), "vid.scp:2: not in the order of the C locale"),
    ("vid.scp", GOOD["vid.scp"].replace("B-1 ", "../x "), "vid.scp:1: id '../x' has blanks or control"),
    ("vid.scp", GOOD["vid.scp"].replace("B-1 ", "B\u00a01 "), "vid.scp:1: id 'B\\xa01' has blanks"),
    ("vid.scp", GOOD["vid.scp"].replace("\n", "\r\n"), "vid.scp:1: Windows line end (CRLF)"),
    ("vid.scp", GOOD["vid.scp"].replace("a-2 ", "a-2\t"), "vid.scp:3: expected one blank between fields"),
    ("vid.scp", "B-1 x.mp4\n", "utt2spk:2: segment 'a-1' is not in vid.scp"),
    (
        "utt2spk",
        GOOD["utt2spk"].replace("a-1 a", "a-1 a b"),
        "utt2spk:2: expected '<segment> <model>', found",
    ),
    ("utt2spk", GOOD["utt2spk"].replace("a-1 a\n", ""), "vid.scp:2: segment 'a-1' is not in utt2spk"),
    ("utt2spk", GOOD["utt2spk"].replace("a-1 a", "a-1 B"), "spk2utt:1: expected 'B B-1 a-1' by utt2spk"),
    ("spk2utt", GOOD["spk2utt"].replace("a-1 a-2", "a-2 a-1"), "spk2utt:2: expected 'a a-1 a-2' by utt2spk"),
    ("spk2utt", GOOD["spk2utt"].replace("B B-1\n", ""), "spk2utt: model 'B' of utt2spk is missing"),
    ("spk2utt", GOOD["spk2utt"] + "\u00ea x\n", "spk2utt:4: expected 'no such model' by utt2spk"),
    ("face_boundingbox", "x 0 1 2 3 4\n", "face_boundingbox:1: segment 'x' is not in utt2spk"),
    ("face_boundingbox", "B-1 0 1 2 3\n", "face_boundingbox:1: expected '<segment> <frame or seconds>"),
    ("face_boundingbox", "B-1 0 1 2 x 4\n", "face_boundingbox:1: expected '<segment>"),
    ("face_boundingbox", "B-1 0 3 2 3 4\n", "face_boundingbox:1: expected '<segment>"),
    ("face_boundingbox", "B-1 -1 1 2 3 4\n", "face_boundingbox:1: expected '<segment>"),
    ("face_boundingbox", "B-1 0 1 2 3 inf\n", "face_boundingbox:1: expected '<segment>"),
    ("face_boundingbox", "B-1 0 1 2 3 4\n" * 2, "face_boundingbox:2: 'B-1 0 1 2 3 4' is there twice"),
    ("body_boundingbox", "x 0 1 2 3 4\n", "body_boundingbox:1: segment 'x' is not in utt2spk"),
    ("body_boundingbox", "B-1 0 3 2 3 4\n", "body_boundingbox:1: expected '<segment> <frame or seconds>"),
    ("region", "x 1 2 3 4\n", "region:1: segment 'x' is not in utt2spk"),
    ("region", "B-1 3 2 3 4\n", "region:1: expected '<segment> <x1> <y1> <x2> <y2>'"),
    ("region", "B-1 1 2 3\n", "region:1: expected '<segment> <x1> <y1> <x2> <y2>'"),
    ("region", "B-1 1 2 3 4\nB-1 1 2 3 5\n", "region:2: 'B-1' is there twice"),
    ("frames.scp", "B-1 x\n", "utt2spk:2: segment 'a-1' is not in frames.scp"),
    ("trials", "m x target\n", "trials:1: segment 'x' is not in utt2spk"),
    ("trials", "m B-1 Target\n", "trials:1: expected '<model> <segment> [target|nontarget]'"),
    ("trials", "m B-1 target\nm a-1\n", "trials:2: expected 3 columns as in line 1"),
    ("trials", "m B-1 nontarget\nm B-1 target\n", "trials:2: 'm B-1' is there twice"),
    ("vid2dur", "B-1 -1\n", "vid2dur:1: expected '<segment> <seconds>'"),
    ("vid2dur", "B-1 nan\n", "vid2dur:1: expected '<segment> <seconds>'"),
    ("vid2dur", "x 1\n", "vid2dur:1: segment 'x' is not in utt2spk"),
]


@pytest.mark.parametrize(("name", "text", "message"), MALFORMED)
def test_validate_malformed_list_names_file_line_and_the_command_that_fixes_it(
    folder: Path, name: str, text: str, message: str
) -> None:
    write(folder, {name: text})
    problems = validate(folder)
    matching = [p for p in problems if p.startswith(f"{folder}/{message}")]
    assert len(matching) == 1, problems
    assert matching[0].endswith(f"; fix it: utils/fix_data_dir.sh {folder}")


@pytest.mark.parametrize(("name", "text", "message"), MALFORMED)
def test_fix_malformed_list_gives_a_valid_folder_and_keeps_the_old_list(
    folder: Path, name: str, text: str, message: str
) -> None:
    write(folder, {name: text})
    fix(folder)
    assert validate(folder) == []
    changed = contents(folder / ".backup")
    assert changed, "the malformed list was not replaced"
    for old, content in changed.items():
        assert content.decode() == {**GOOD, name: text}[old]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vid.scp", "", "vid.scp: empty; make the folder again"),
        ("trials", "", "trials: empty; make the folder again"),
        ("face_boundingbox_conf", "minutes 5\n", "face_boundingbox_conf:1: expected one line"),
        ("face_boundingbox_conf", "seconds\n", "face_boundingbox_conf:1: expected one line"),
        ("face_boundingbox_conf", "frames 0\n", "face_boundingbox_conf:1: expected one line"),
        ("face_boundingbox_conf", "seconds 5\nframes 5\n", "face_boundingbox_conf:1: expected one line"),
    ],
)
def test_validate_what_the_fixer_cannot_mend_says_what_to_do(folder: Path, name: str, text: str, message: str) -> None:
    write(folder, {name: text})
    matching = [p for p in validate(folder) if p.startswith(f"{folder}/{message}")]
    assert len(matching) == 1
    assert "fix_data_dir" not in matching[0]


def test_command_in_place_of_a_path_is_refused_and_a_file_of_such_a_name_is_not(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"wav.scp": "a sox a.sph -t wav - |\nb b|\n", "utt2spk": "a m\nb m\n"})
    write(folder, {"spk2utt": "m a b\n", "b|": "sound"})
    message = "a command, 'sox a.sph -t wav - |'; expected a path: write what it gives into a file, and list that"
    assert validate(folder) == [f"{folder}/wav.scp:1: {message}"]
    (folder / "sox a.sph -t wav - |").touch()
    assert validate(folder, check_files=True) == []


def test_list_of_parts_of_recordings_is_refused_and_fixing_does_not_drop_all_segments(repo: Path, folder: Path) -> None:
    before = contents(write(folder, {"segments": "a-1-x a-1 0 1.5\n"}))
    refused = f"{folder}/segments: parts of recordings, as Kaldi has them, are not read; write each into a sound file"
    (problem,) = validate(folder)
    assert problem.startswith(refused) and "fix_data_dir" not in problem
    done = command(repo, "fix", folder)
    assert done.returncode == 1 and done.stderr.startswith(refused) and contents(folder) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vid.scp", ": none of vid.scp, wav.scp, frames.scp is there; make the folder again"),
        ("utt2spk", "/utt2spk: no such file; fix it:"),
        ("spk2utt", "/spk2utt: no such file; fix it:"),
        ("face_boundingbox_conf", "/face_boundingbox_conf: no such file; expected one line"),
        ("face_boundingbox", "/face_boundingbox_conf: there is no face_boundingbox that it could belong to"),
    ],
)
def test_validate_missing_list_is_named(folder: Path, name: str, message: str) -> None:
    (folder / name).unlink()
    assert [p for p in validate(folder) if p.startswith(f"{folder}{message}")]


PARTITIONS = "m B-1 gender=f\nm a-1 gender=f\nn a-2 gender=m\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("trials", "m B-1 target\nm a-2 nontarget\n", "trials:2: 'm a-2' is not in trial_partitions"),
        ("trial_partitions", PARTITIONS + "n x gender=m\n", "trial_partitions:4: segment 'x' is not in utt2spk"),
        ("trial_partitions", "m B-1 x\nm a-2 x\n", "trial_partitions:2: 'm a-2' is not in trials"),
        ("trial_partitions", "m B-1\nn a-2 x\n", "trial_partitions:1: expected '<model> <segment> <partition>'"),
        ("trial_partitions", "m B-1 x\nm B-1 y\n", "trial_partitions:2: 'm B-1' is there twice"),
    ],
)
def test_partitions_that_do_not_fit_the_trials_are_named_and_mended(
    folder: Path, name: str, text: str, message: str
) -> None:
    write(folder, {"trial_partitions": PARTITIONS, name: text})
    problems = [p for p in validate(folder) if p.startswith(f"{folder}/{message}")]
    assert len(problems) == 1 and problems[0].endswith(f"; fix it: utils/fix_data_dir.sh {folder}")
    assert fix(folder)
    assert validate(folder) == []
    assert (folder / "trials").read_text() and (folder / "trial_partitions").read_text()


def test_partitions_that_fit_the_trials_are_kept_and_not_split(folder: Path) -> None:
    write(folder, {"trial_partitions": PARTITIONS})
    assert validate(folder) == [] and fix(folder) == []
    assert validate(split(folder, 1) / "1") == []


def test_validate_list_that_is_not_utf8_names_line_and_iconv(folder: Path) -> None:
    (folder / "vid.scp").write_bytes(b"B-1 a\na-1 \xe9.mp4\n")
    assert validate(folder) == [
        f"{folder}/vid.scp:2: not UTF-8 text; convert it: iconv -f <its encoding> -t UTF-8 {folder}/vid.scp"
    ]


def test_validate_missing_folder_is_named(tmp_path: Path) -> None:
    assert validate(tmp_path / "nix")[0].startswith(f"{tmp_path}/nix: no such folder")


def test_validate_check_files_names_those_that_are_not_there(folder: Path) -> None:
    (folder / "there").touch()
    write(folder, {"vid.scp": GOOD["vid.scp"].replace("c.mp4", str(folder / "there"))})
    assert [p.partition(": ")[0] for p in validate(folder, check_files=True)] == [
        f"{folder}/vid.scp:{line}" for line in (1, 3, 4)
    ]


def test_require_valid_many_problems_tells_twenty_and_how_many_more(folder: Path) -> None:
    write(folder, {"trials": "".join(f"m x{i:02d}\n" for i in range(25))})
    with pytest.raises(DataError) as error:
        require_valid(folder)
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[19].startswith(f"{folder}/trials:20: ")
    assert lines[20] == "... and 5 more"


def test_fix_good_folder_changes_nothing(folder: Path) -> None:
    before = contents(folder)
    assert fix(folder) == []
    assert contents(folder) == before


def test_fix_unsorted_lists_gives_the_good_ones_back(folder: Path) -> None:
    shuffled = {
        name: "".join(reversed(text.splitlines(keepends=True)))
        for name, text in GOOD.items()
        if not name.endswith("_conf")
    }
    write(folder, shuffled)
    assert fix(folder) == []
    found = contents(folder)
    assert {name: found[name].decode() for name in GOOD} == GOOD
    assert contents(folder / ".backup") == {name: text.encode() for name, text in sorted(shuffled.items())}
    assert fix(folder) == []
    assert contents(folder) == found


def test_fix_segment_not_in_all_lists_is_dropped_everywhere_and_told(folder: Path) -> None:
    write(folder, {"vid.scp": GOOD["vid.scp"].replace("B-1 /videos/a b.mp4\n", "")})
    notes = fix(folder)
    assert validate(folder) == []
    assert all(b"B-1" not in text for name, text in contents(folder).items() if not name.startswith("."))
    assert f"{folder}/utt2spk:1: dropped: segment not in all lists: 'B-1 B'" in notes
    assert f"{folder}/trials:1: dropped: segment not in all lists: 'm B-1 target'" in notes
    assert len(notes) == 6


def test_fix_missing_utt2spk_is_made_from_spk2utt_and_the_reverse(folder: Path) -> None:
    for name in ("utt2spk", "spk2utt"):
        (folder / name).unlink()
        assert fix(folder) == []
        assert (folder / name).read_text(encoding="utf-8") == GOOD[name]


def test_fix_missing_utt2spk_and_a_segment_of_two_models_gives_it_to_one(folder: Path) -> None:
    (folder / "utt2spk").unlink()
    write(folder, {"spk2utt": GOOD["spk2utt"].replace("a a-1", "a B-1 a-1")})
    fix(folder)
    assert validate(folder) == []


def test_fix_no_common_segment_raises_and_changes_nothing(folder: Path) -> None:
    write(folder, {"vid.scp": "x y.mp4\n"})
    before = contents(folder)
    with pytest.raises(DataError, match="no segment is in utt2spk and in every scp"):
        fix(folder)
    assert contents(folder) == before


def test_fix_boxes_of_which_none_is_left_go_with_their_conf(folder: Path) -> None:
    write(folder, {"face_boundingbox": "x 0 1 2 3 4\n"})
    fix(folder)
    assert validate(folder) == []
    assert not (folder / "face_boundingbox").exists() and not (folder / "face_boundingbox_conf").exists()


def cuts(count: int, parts: int) -> Iterator[list[range]]:
    """Every way to cut ``count`` items into ``parts`` consecutive ranges, empty ones included."""
    for inner in itertools.combinations_with_replacement(range(count + 1), parts - 1):
        yield [range(a, b) for a, b in itertools.pairwise([0, *inner, count])]


def heaviest(weights: Sequence[int], ranges: Sequence[range]) -> int:
    return max(sum(weights[i] for i in part) for part in ranges)


@given(weights=st.lists(st.integers(1, 50), max_size=7), parts=st.integers(1, 5))
def test_balanced_ranges_are_as_good_as_the_best_of_all_cuts(weights: list[int], parts: int) -> None:
    found = balanced_ranges(weights, parts)
    assert [i for part in found for i in part] == list(range(len(weights)))
    assert len(found) == parts
    assert heaviest(weights, found) == min(heaviest(weights, cut) for cut in cuts(len(weights), parts))
    assert sum(not part for part in found) == max(0, parts - len(weights))
    assert found[: len(weights)] == [part for part in found if part][: len(weights)]


def test_split_joins_to_the_whole_and_is_balanced_by_duration(folder: Path) -> None:
    top = split(folder, 2)
    assert top == folder / "split2"
    assert list(read_scp(top / "1" / "vid.scp")) == ["B-1", "a-1", "a-2"]
    assert read_scp(top / "2" / "vid.scp") == {"\u00e9-1": f"{folder}/\u00e9.mp4"}
    assert read_paths(top / "1" / "vid.scp") | read_paths(top / "2" / "vid.scp") == read_paths(folder / "vid.scp")
    for name in ("utt2spk", "face_boundingbox", "vid2dur"):
        assert "".join((top / job / name).read_text(encoding="utf-8") for job in "12") == GOOD[name]
    assert read_spk2utt(top / "1" / "spk2utt") == {"B": ["B-1"], "a": ["a-1", "a-2"]}
    assert len(read_boxes(top / "1" / "face_boundingbox")["B-1"]) == 3
    assert (top / "2" / "face_boundingbox_conf").read_text() == "seconds 5\n"
    assert not (top / "1" / "trials").exists()
    assert read_trials(folder / "trials").segments == ["B-1", "a-1", "a-2"]


def test_split_without_durations_is_balanced_by_count(folder: Path) -> None:
    (folder / "vid2dur").unlink()
    top = split(folder, 2)
    assert [len(read_scp(top / job / "vid.scp")) for job in "12"] == [2, 2]


def test_split_durations_of_zero_or_missing_are_legal(folder: Path) -> None:
    write(folder, {"vid2dur": "a-1 0\na-2 4\n"})
    assert validate(folder) == []
    top = split(folder, 3)  # the two that it lacks count as 2 s
    assert [list(read_scp(top / job / "vid.scp")) for job in "123"] == [["B-1", "a-1"], ["a-2"], ["\u00e9-1"]]


def test_consecutive_parts_of_a_list_without_durations_are_balanced_by_count(folder: Path) -> None:
    segments = ["\u00e9-1", "a-1", "new"]
    assert consecutive_parts(segments, folder / "vid2dur", 2) == [range(0, 1), range(1, 3)]
    assert consecutive_parts(segments, folder / "nothing", 3) == [range(0, 1), range(1, 2), range(2, 3)]


def test_split_part_is_itself_a_valid_folder(folder: Path) -> None:
    assert validate(split(folder, 1) / "1") == []


def test_split_fewer_segments_than_jobs_gives_empty_last_parts(folder: Path) -> None:
    top = split(folder, 6)
    assert [len(read_scp(top / str(job) / "vid.scp")) for job in range(1, 7)] == [1, 1, 1, 1, 0, 0]


def test_split_again_writes_nothing_and_after_a_change_what_is_due(folder: Path) -> None:
    top = split(folder, 2)
    before = {p: p.stat().st_mtime_ns for p in top.rglob("*")}
    split(folder, 2)
    assert {p: p.stat().st_mtime_ns for p in top.rglob("*")} == before
    (folder / "face_boundingbox").unlink()
    (folder / "face_boundingbox_conf").unlink()
    write(folder, {"vid.scp": GOOD["vid.scp"].replace("c.mp4", "e.mp4")})
    split(folder, 2)
    assert read_scp(top / "1" / "vid.scp")["a-1"] == f"{folder}/e.mp4"
    assert not list(top.rglob("face_boundingbox*"))


@pytest.mark.parametrize("link", ["split2", "split2/1"])
def test_split_into_a_link_that_leads_elsewhere_is_refused(folder: Path, tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(elsewhere)
    with pytest.raises(DataError, match=f"{link}: a link, which is not written through"):
        split(folder, 2)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("link", [".backup", ".backup/utt2spk"])
def test_fix_writes_through_no_link_that_leads_elsewhere(folder: Path, tmp_path: Path, link: str) -> None:
    victim = tmp_path / "elsewhere" / "utt2spk"
    victim.parent.mkdir()
    victim.write_text("mine")
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(victim if link.endswith("utt2spk") else victim.parent)
    utt2spk = folder / "utt2spk"
    utt2spk.write_text("".join(reversed(utt2spk.read_text().splitlines(keepends=True))))
    if link == ".backup":
        with pytest.raises(DataError, match="backup: a link, which is not written through"):
            fix(folder)
    else:
        fix(folder)
    assert victim.read_text() == "mine"


def test_split_malformed_folder_raises_and_writes_nothing(folder: Path) -> None:
    (folder / "spk2utt").unlink()
    with pytest.raises(DataError, match="spk2utt: no such file"):
        split(folder, 2)
    assert not (folder / "split2").exists()


def command(repo: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "vidperson.io.data_dir", *map(str, args)]
    return subprocess.run(call, cwd=repo, capture_output=True, text=True)


def test_command_validate_fix_validate_mends_a_folder(repo: Path, folder: Path) -> None:
    (folder / "spk2utt").unlink()
    write(folder, {"trials": "m x target\nm B-1 target\n"})
    bad = command(repo, "validate", folder)
    assert bad.returncode == 1
    assert len(bad.stderr.splitlines()) == 3 and "Traceback" not in bad.stderr
    fixed = command(repo, "fix", folder)
    assert fixed.returncode == 0
    assert fixed.stderr == f"{folder}/trials:1: dropped: segment not in all lists: 'm x target'\n"
    assert command(repo, "validate", folder).returncode == 0
    assert command(repo, "split", folder, "3").returncode == 0
    assert (folder / "split3" / "3" / "vid.scp").is_file()


def test_command_zero_jobs_is_refused(repo: Path, folder: Path) -> None:
    result = command(repo, "split", folder, "0")
    assert result.returncode == 1 and "expected at least one job" in result.stderr


def test_fix_of_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nope: no such folder"):
        fix(tmp_path / "nope")


PAIRS = {
    "trials": "m B-1 target\nm a-1 nontarget\nn a-2 nontarget\nn \u00e9-1 target\n",
    "trial_partitions": "m B-1 p\nm a-1 p\nn a-2 qq\nn \u00e9-1 p\n",
}
FLAWS = {
    "not in order": lambda text: "".join(reversed(text.splitlines(keepends=True))),
    "a model not in order": lambda text: text.replace("m ", "z "),
    "a segment not in order": lambda text: text.replace("a-1", "X").replace("B-1", "a-1").replace("X", "B-1"),
    "twice": lambda text: text.replace("\n", "\n" + text.split("\n")[0] + "\n", 1),
    "two blanks": lambda text: text.replace("a-1 ", "a-1  "),
    "a tab": lambda text: text.replace("a-1 ", "a-1\t"),
    "blank at the end": lambda text: text.replace("\n", " \n", 1),
    "blank line": lambda text: text.replace("\n", "\n\n", 1),
    "no line end": lambda text: text.rstrip("\n"),
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "unknown segment": lambda text: text.replace("a-1", "a-11"),
    "segment without a trial": lambda text: text.split("\n", 1)[1],
    "strange id": lambda text: text.replace("m ", "../m "),
    "control character": lambda text: text.replace("m ", "m\x1f "),
    "fields too many": lambda text: text.replace("\n", " x\n", 1),
    "fields too few": lambda text: text.replace("m B-1 ", "m ", 1),
    "empty": lambda text: "",
    "nothing": lambda text: text,
    "no key": lambda text: "".join(f"{' '.join(line.split()[:2])}\n" for line in text.splitlines()),
}


@pytest.mark.parametrize("listed", [["trials"], ["trials", "trial_partitions"]])
@pytest.mark.parametrize("flawed", PAIRS)
@pytest.mark.parametrize("flaw", FLAWS)
def test_validate_says_the_same_of_trials_with_and_without_the_quick_check(
    folder: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str], flawed: str, flaw: str
) -> None:
    write(folder, {name: PAIRS[name] for name in listed})
    assert flawless_trial_lists(folder) == listed
    write(folder, {flawed: FLAWS[flaw](PAIRS[flawed])})
    quickly = validate(folder)
    passed = flawless_trial_lists(folder)
    monkeypatch.setattr(flawless, "flawless_trial_lists", lambda folder: [])
    assert quickly == validate(folder)
    assert bool(passed) == (not quickly) or flaw == "no line end"


SEGMENTS = {
    "wav.scp": "B-1 /x/b 1.wav\na-1 /x/a1.wav\na-2 /x/a2.wav\n\u00e9-1 /x/e1.wav\n",
    "frames.scp": "B-1 /x/b\na-1 /x/a1\na-2 /x/a2\n\u00e9-1 /x/e1\n",
    "utt2spk": "B-1 b\na-1 m\na-2 m\n\u00e9-1 e\n",
    "spk2utt": "b B-1\ne \u00e9-1\nm a-1 a-2\n",
    "utt2dur": "B-1 1\na-2 0.5\n\u00e9-1 3\n",
}
SEGMENT_FLAWS = {
    **{name: flaw for name, flaw in FLAWS.items() if name != "no key"},
    "a line less": lambda text: text.split("\n", 1)[1],
    "another model": lambda text: text.replace(" m", " k").replace("\nm ", "\nk "),
    "one more": lambda text: text + "\u00e9-2 7\n",
    "order of segments": lambda text: text.replace("a-1 a-2", "a-2 a-1"),
    "no number": lambda text: text.replace("0.5", "nan").replace(" m", " \u00a0"),
    "no text": lambda text: text.replace("B-1", "B\x00"),
    "a command": lambda text: text.replace("\n", " |\n", 1),
}


@pytest.mark.parametrize("trials", [False, True])
@pytest.mark.parametrize("flawed", SEGMENTS)
def test_validate_says_the_same_of_segments_with_and_without_the_quick_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: bool, flawed: str
) -> None:
    folder = write(tmp_path / "set", SEGMENTS | ({"trials": "b B-1\nm a-2\n"} if trials else {}))
    for name, flaw in SEGMENT_FLAWS.items():
        write(folder, {flawed: flaw(SEGMENTS[flawed])})
        found = validate(folder, check_files=True)
        with monkeypatch.context() as patch:
            patch.setattr(data_dir, "are_flawless", lambda *given: False)
            assert found == validate(folder, check_files=True), name


@pytest.mark.parametrize("trials", [False, True])
def test_quick_check_passes_flawless_lists_and_strangers_only_without_trials(tmp_path: Path, trials: bool) -> None:
    folder = write(tmp_path / "set", SEGMENTS)
    given = folder, ["wav.scp", "frames.scp"], ["utt2dur"], not trials
    assert are_flawless(*given)
    write(folder, {"utt2spk": "B-1 b\na-1 m\na-2 m\n", "spk2utt": "b B-1\nm a-1 a-2\n"})
    assert are_flawless(*given) == (not trials)


def test_validate_many_segments_takes_little_memory(tmp_path: Path) -> None:
    names = [f"id{i:05d}-video-{k:05d}" for i in range(100) for k in range(200)]
    lists = {name: "".join(f"{segment} /x/{segment}\n" for segment in names) for name in ("wav.scp", "frames.scp")}
    lists["utt2spk"] = "".join(f"{segment} {segment[:7]}\n" for segment in names)
    lists["utt2dur"] = "".join(f"{segment} 4.5\n" for segment in names)
    lists["spk2utt"] = "".join(f"{names[i][:7]} {' '.join(names[i : i + 200])}\n" for i in range(0, len(names), 200))
    folder = write(tmp_path / "set", lists)
    tracemalloc.start()
    try:
        assert validate(folder) == []
        assert tracemalloc.get_traced_memory()[1] < 1e6  # an object per line takes over 20 MB
    finally:
        tracemalloc.stop()


def test_work_of_decoding_goes_by_pixels_and_other_work_by_duration(folder: Path) -> None:
    write(folder, {"vid2dur": "a-1 1\na-2 1\na-3 1\na-4 1\n", "vid2pixels": "a-1 90\na-2 10\na-3 10\na-4 10\n"})
    segments = ["a-1", "a-2", "a-3", "a-4"]
    for decodes, first in ((True, range(0, 1)), (False, range(0, 2))):
        assert consecutive_parts(segments, work_list(folder, decodes), 2)[0] == first
    (folder / "vid2pixels").unlink()
    assert consecutive_parts(segments, work_list(folder, decodes=True), 2)[0] == range(0, 2)


def test_validate_many_trials_takes_little_memory(tmp_path: Path) -> None:
    names = [f"person_with_a_name_{i:04d}" for i in range(400)]
    lists = {
        "vid.scp": "".join(f"{name} {name}.mp4\n" for name in names),
        "utt2spk": "".join(f"{name} {name}\n" for name in names),
        "spk2utt": "".join(f"{name} {name}\n" for name in names),
    }
    folder = write(tmp_path / "set", lists)
    with open(folder / "trials", "w") as stream:
        stream.writelines(f"{model} {name} nontarget\n" for model in names for name in names)
    tracemalloc.start()
    try:
        assert validate(folder) == []
        assert tracemalloc.get_traced_memory()[1] < 30e6  # a Python object per line takes over 100 MB
    finally:
        tracemalloc.stop()


LEARNT = {  # a-2 is a known stranger
    "vid.scp": GOOD["vid.scp"],
    "utt2spk": "B-1 B\na-1 a\n\u00e9-1 \u00e9\n",
    "spk2utt": "B B-1\na a-1\n\u00e9 \u00e9-1\n",
    "vid2dur": GOOD["vid2dur"],
}
SEARCHED = {
    "vid.scp": GOOD["vid.scp"],
    "search": "m film\nm news\nn film\n",
    "utt2group": "B-1 film\na-1 film\na-2 news\n\u00e9-1 film\n",
    "relevant": "m a-2\nn B-1\nn a-1\n",
}


@pytest.mark.parametrize("lists", [LEARNT, SEARCHED, SEARCHED | LEARNT, {**SEARCHED, "relevant": "m a-1\n"}])
def test_set_with_strangers_is_valid_and_fixing_and_splitting_keep_each_of_them(
    tmp_path: Path, lists: dict[str, str]
) -> None:
    folder = write(tmp_path / "set", lists)
    assert validate(folder) == []
    before = contents(folder)
    assert fix(folder) == [] and contents(folder) == before
    parts = [split(folder, 3) / str(number) for number in (1, 2, 3)]
    for name in lists.keys() & {"vid.scp", "utt2spk", "vid2dur"}:
        found = [segment for part in parts for segment in read_scp(part / name)]
        assert found == list(read_scp(folder / name)), name
    assert not any((part / name).exists() for part in parts for name in ("search", "utt2group", "relevant"))
    (folder / "vid.scp").write_text("".join(reversed(GOOD["vid.scp"].splitlines(keepends=True))))
    assert fix(folder) == [] and validate(folder) == []
    assert (folder / "vid.scp").read_text() == GOOD["vid.scp"]


SEARCHES = [
    ("search", SEARCHED["search"] + "n nowhere\n", "search:4: group 'nowhere' has no segment in utt2group"),
    ("search", "m film x\nn film\nm news\n", "search:1: expected '<model> <group>'"),
    ("search", "m film\nm film\nm news\nn film\n", "search:2: 'm film' is there twice"),
    ("utt2group", SEARCHED["utt2group"] + "\u00ea film\n", "utt2group:5: segment '\u00ea' is not in vid.scp"),
    ("utt2group", SEARCHED["utt2group"] + "\u00e9-1 news\n", "utt2group:5: '\u00e9-1' is there twice"),
    ("relevant", SEARCHED["relevant"] + "o a-1\n", "relevant:4: model 'o' is not in search"),
    ("relevant", "m a-1\nm x\n", "relevant:2: segment 'x' is not in vid.scp"),
    ("relevant", "m a-1\nn a-2\n", "relevant:2: segment 'a-2' is in no group that search names for model 'n'"),
    ("relevant", "m a-1 target\nm a-2\n", "relevant:1: expected '<model> <segment>'"),
    ("utt2spk", "B-1 B\n", "spk2utt: no such file"),
    ("utt2spk", "x B\ny B\n", "utt2spk:1: segment 'x' is not in vid.scp"),
]


@pytest.mark.parametrize(("name", "text", "message"), SEARCHES)
def test_searched_set_malformed_names_file_line_and_the_command_and_fixing_keeps_all_segments(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    folder = write(tmp_path / "set", {**SEARCHED, name: text})
    matching = [p for p in validate(folder) if p.startswith(f"{folder}/{message}")]
    assert len(matching) == 1, validate(folder)
    assert matching[0].endswith(f"; fix it: utils/fix_data_dir.sh {folder}")
    fix(folder)
    assert (folder / "vid.scp").read_text() == GOOD["vid.scp"]
    assert not (folder / "utt2spk").exists() or (folder / "utt2spk").read_text() == "B-1 B\n"
    assert validate(folder) == []


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"utt2group": None}, "utt2group: no such file, but search is there; make the folder again"),
        ({"utt2group": "B-1 film\na-2 news\n"}, "vid.scp:2: segment 'a-1' is not in utt2group; add its group there"),
        ({"search": None}, "utt2group: there is no search that it could belong to; remove it"),
        ({"search": None}, "relevant: there is no search that it could belong to; remove it"),
        ({"relevant": ""}, "relevant: empty; make the folder again"),
        (GOOD, "search: a set has trials or search; remove one of them"),
    ],
)
def test_searched_set_that_the_fixer_cannot_mend_says_what_to_do(
    tmp_path: Path, lists: dict[str, str | None], message: str
) -> None:
    given = {name: text for name, text in {**SEARCHED, **lists}.items() if text is not None}
    folder = write(tmp_path / "set", given)
    matching = [p for p in validate(folder) if p.startswith(f"{folder}/{message}")]
    assert len(matching) == 1 and "fix_data_dir" not in matching[0], validate(folder)


def test_segment_whose_person_cannot_be_read_does_not_become_a_stranger(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {**LEARNT, "utt2spk": LEARNT["utt2spk"].replace("a-1 a", "a-1 a b")})
    notes = fix(folder)
    assert f"{folder}/vid.scp:2: dropped: segment not in all lists: 'a-1 c.mp4'" in notes
    assert list(read_scp(folder / "vid.scp")) == ["B-1", "a-2", "\u00e9-1"] and validate(folder) == []


def test_set_without_trials_and_without_any_person_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"vid.scp": GOOD["vid.scp"]})
    assert any(problem.startswith(f"{folder}/utt2spk: no such file") for problem in validate(folder))
    with pytest.raises(DataError, match="neither utt2spk nor spk2utt is there"):
        fix(folder)


def test_ids_are_refused_as_by_a_check_of_each_character() -> None:
    def naive(name: str) -> bool:
        leads_out = any(part in ("", ".", "..") for part in name.split("/"))
        return leads_out or any(c.isspace() or ord(c) < 32 or ord(c) == 127 for c in name)

    names = ["".join(letters) for size in range(6) for letters in itertools.product("a./ \u3000\x1f", repeat=size)]
    names += [f"a{chr(code)}b" for code in range(0x3100)]
    assert [name for name in names if data_dir._bad_id(name) != naive(name)] == []
    assert 0 < sum(map(naive, names)) < len(names)
