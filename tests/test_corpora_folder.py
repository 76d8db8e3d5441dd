"""A user's own folders with all the names that people give to files."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from vidperson.corpora import folder
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import read_scp, read_spk2utt
from vidperson.io.lists import read_trials

PORTRAITS = (
    "José Pérez/my face (1).JPG",
    "José Pérez/sub/clip.mp4",
    "Ann 'O\"Neil/a.png",
    "王伟/1.jpg",
    "李娜/1.jpg",
)
VIDEOS = ("a b.mp4", "a_b.mp4", "x/été.MKV", "x/été.jpg")


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    return _touch(tmp_path / "p", *PORTRAITS), _touch(tmp_path / "v", *VIDEOS)


def _names(path: Path) -> dict[str, str]:
    return {original: unique for unique, original in read_scp(path / "names").items()}


def test_folder_odd_names_give_valid_sets_with_every_pair(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    enroll, test = folder.prepare(tmp_path / "data", *roots)
    assert set(read_scp(enroll / "vid.scp").values()) == {f"{roots[0]}/{name}" for name in PORTRAITS}
    assert set(read_scp(test / "vid.scp").values()) == {f"{roots[1]}/{name}" for name in VIDEOS}
    models = read_spk2utt(enroll / "spk2utt")
    assert len(models) == 4
    assert models["Jose_Perez"] == ["Jose_Perez-my_face_1", "Jose_Perez-sub_clip"]
    trials = read_trials(test / "trials")
    assert len(trials) == 4 * 4 and trials.is_target is None
    assert set(trials.models) == set(models) and set(trials.segments) == set(read_scp(test / "vid.scp"))
    for path in (enroll, test):
        assert data_dir.validate(path) == []


def test_folder_pictures_and_films_of_phones_and_cameras_are_taken_lists_and_sounds_are_not(tmp_path: Path) -> None:
    taken = ("Ann/IMG_1.HEIC", "Ann/IMG_1.MOV", "Ann/a.avif", "Ann/b.heif", "Ann/c.HIF", "Ann/d.jfif", "Ann/e.mxf")
    persons = _touch(tmp_path / "p", *taken, "Ann/f.m3u8", "Ann/g.mpd", "Ann/h.m4a", "Ann/i.mp3")
    enroll, _ = folder.prepare(tmp_path / "data", persons, _touch(tmp_path / "v", "x.heic"))
    assert set(read_scp(enroll / "vid.scp").values()) == {f"{persons}/{name}" for name in taken}


def test_folder_names_list_leads_back_to_every_original(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    enroll, test = folder.prepare(tmp_path / "data", *roots)
    names = _names(enroll)
    assert set(names) == {*PORTRAITS, "José Pérez", "Ann 'O\"Neil", "王伟", "李娜"}
    assert read_scp(enroll / "vid.scp")[names["王伟/1.jpg"]] == f"{roots[0]}/王伟/1.jpg"
    assert read_scp(enroll / "utt2spk")[names["王伟/1.jpg"]] == names["王伟"]
    assert set(_names(test)) == set(VIDEOS)


def test_folder_another_video_leaves_the_other_ids_as_they_are(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    before = _names(folder.prepare(tmp_path / "data", *roots)[1])
    _touch(roots[1], "0.mp4")
    after = _names(folder.prepare(tmp_path / "data", *roots)[1])
    assert before.items() < after.items()


def test_folder_key_makes_the_listed_pairs_targets(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    key = tmp_path / "key.tsv"
    key.write_bytes("José Pérez\ta b.mp4\r\n\r\n王伟\tx/été.MKV\r\n".encode())
    enroll, test = folder.prepare(tmp_path / "data", *roots, key)
    models, videos, trials = _names(enroll), _names(test), read_trials(test / "trials")
    assert trials.is_target is not None
    pairs = zip(trials.models, trials.segments, strict=True)
    targets = {pair for pair, target in zip(pairs, trials.is_target, strict=True) if target}
    assert targets == {(models["José Pérez"], videos["a b.mp4"]), (models["王伟"], videos["x/été.MKV"])}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("José Pérez a b.mp4\n", r"key.tsv:1: expected '<person><tab><video>'"),
        ("\nNobody\ta b.mp4\n", r"key.tsv:2: no media of a person 'Nobody'; the persons are: Ann"),
        ("José Pérez\tc.mp4\n", r"key.tsv:1: no video 'c.mp4'; the videos are: a b.mp4"),
        ("\n", "no target pair"),
    ],
)
def test_folder_key_broken_is_refused(tmp_path: Path, roots: tuple[Path, Path], text: str, message: str) -> None:
    (tmp_path / "key.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        folder.prepare(tmp_path / "data", *roots, tmp_path / "key.tsv")


@pytest.mark.parametrize(
    "name", ["two\nlines.mp4", "tab\there.mp4", "sub\nfolder/a.mp4", os.fsdecode(b"latin\xe9.mp4")]
)
def test_folder_name_that_no_list_can_hold_is_refused(tmp_path: Path, roots: tuple[Path, Path], name: str) -> None:
    _touch(roots[1], name)
    with pytest.raises(DataError, match="rename"):
        folder.prepare(tmp_path / "data", *roots)
    assert not (tmp_path / "data").exists()


def test_folder_hidden_and_other_files_are_left_out_and_counted(
    tmp_path: Path, roots: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    _touch(roots[1], ".hidden.mp4", ".cache/c.mp4", "notes.txt", "x/list.csv")
    _touch(roots[0], "loose.jpg", "Nobody/readme.md")
    enroll, test = folder.prepare(tmp_path / "data", *roots)
    assert len(read_scp(test / "vid.scp")) == len(VIDEOS)
    assert len(read_spk2utt(enroll / "spk2utt")) == 4
    assert "left out, since no photo or video by their names: notes.txt, x/list.csv" in caplog.text
    assert "Nobody: no image or video in it" in caplog.text
    assert "1 files beside the persons' folders left out: loose.jpg" in caplog.text


def test_folder_links_are_followed_but_not_in_circles(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    outside = _touch(tmp_path / "outside", "far.mp4")
    (roots[1] / "linked").symlink_to(outside)
    (roots[1] / "link.mp4").symlink_to(outside / "far.mp4")
    (outside / "back").symlink_to(roots[1])
    (roots[1] / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    _, test = folder.prepare(tmp_path / "data", *roots)
    assert set(_names(test)) == {*VIDEOS, "linked/far.mp4", "link.mp4"}


def test_folder_segment_named_like_a_person_gets_its_own_id(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    persons = _touch(tmp_path / "persons", "a/b.jpg", "a-b/c.jpg", "a/b-c.jpg")
    enroll, _ = folder.prepare(tmp_path / "data", persons, roots[1])
    names = _names(enroll)
    assert len(set(names.values())) == len(names) == 5
    assert names["a"] == "a" and names["a-b"] == "a-b"


@pytest.mark.parametrize(
    ("persons", "videos", "message"),
    [
        ((), ("a.mp4",), "p: no such folder"),
        (("x.jpg",), ("a.mp4",), "one folder per person"),
        (("x/a.txt",), ("a.mp4",), "no image or video in any person's folder"),
        (("x/a.jpg",), (), "v: no such folder"),
        (("x/a.jpg",), ("a.txt",), "v: no video or image"),
    ],
)
def test_folder_nothing_to_read_is_refused(
    tmp_path: Path, persons: tuple[str, ...], videos: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        folder.prepare(tmp_path / "data", _touch(tmp_path / "p", *persons), _touch(tmp_path / "v", *videos))


def test_key_that_writes_accents_in_another_unicode_form_than_the_files_means_those(tmp_path: Path) -> None:
    composed, decomposed = "Ren\u00e9e", "Rene\u0301e"
    persons = _touch(tmp_path / "persons", f"{decomposed}/a.jpg")
    videos = _touch(tmp_path / "videos", f"{composed}.mp4")
    (tmp_path / "key.tsv").write_text(f"{composed}\t{decomposed}.mp4\n")
    _, test = folder.prepare(tmp_path / "data", persons, videos, tmp_path / "key.tsv")
    assert read_trials(test / "trials").is_target == [True]


def test_key_whose_accents_fit_two_files_and_are_those_of_neither_is_refused(tmp_path: Path) -> None:
    forms = ["\u01d8", "\u00fc\u0301", "u\u0308\u0301"]  # u with diaeresis and acute
    persons = _touch(tmp_path / "persons", *(f"{form}/a.jpg" for form in forms[:2]))
    videos = _touch(tmp_path / "videos", "v.mp4")
    (tmp_path / "key.tsv").write_text(f"{forms[1]}\tv.mp4\n")
    folder.prepare(tmp_path / "data", persons, videos, tmp_path / "key.tsv")
    (tmp_path / "key.tsv").write_text(f"{forms[2]}\tv.mp4\n")
    with pytest.raises(DataError, match=r"key.tsv:1: .* differs from 2 names only in how accents are written"):
        folder.prepare(tmp_path / "data", persons, videos, tmp_path / "key.tsv")


@pytest.mark.parametrize("key", [False, True])
def test_folder_trials_are_all_pairs_in_the_order_of_the_c_locale(
    tmp_path: Path, roots: tuple[Path, Path], key: bool
) -> None:
    (tmp_path / "key").write_text("Jos\u00e9 P\u00e9rez\ta b.mp4\n\u674e\u5a1c\tx/\u00e9t\u00e9.jpg\n")
    enroll, test = folder.prepare(tmp_path / "data", *roots, tmp_path / "key" if key else None)
    names = _names(enroll) | _names(test)
    targets = {(names["Jos\u00e9 P\u00e9rez"], names["a b.mp4"]), (names["\u674e\u5a1c"], names["x/\u00e9t\u00e9.jpg"])}
    expected = [
        f"{model} {video}" + (f" {'target' if (model, video) in targets else 'nontarget'}" if key else "")
        for model in read_spk2utt(enroll / "spk2utt")
        for video in read_scp(test / "vid.scp")
    ]
    assert (test / "trials").read_text().splitlines() == sorted(expected, key=str.encode) and len(expected) == 16


def test_folder_many_pairs_are_written_with_little_memory(tmp_path: Path) -> None:
    _touch(tmp_path / "p", *(f"person {i}/a.png" for i in range(300)))
    _touch(tmp_path / "v", *(f"{i}.png" for i in range(300)))
    tracemalloc.start()
    try:
        _, test = folder.prepare(tmp_path / "data", tmp_path / "p", tmp_path / "v")
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    assert len(read_trials(test / "trials")) == 90_000


def test_stage_that_prepares_data_waits_for_another_one_at_the_same_folder(
    repo: Path, tmp_path: Path, roots: tuple[Path, Path]
) -> None:
    (tmp_path / "data").mkdir()
    stage = [
        "./run_001_prepare_data.sh", "--corpora", "folder", "--trial-sets", "folder_enroll:folder_test", "--data-dir",
        f"{tmp_path}/data", "--folder-persons", str(roots[0]), "--folder-videos", str(roots[1]),
    ]  # fmt: skip
    environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
    with open(tmp_path / "data" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = [subprocess.Popen(stage, cwd=repo, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for run in runs:
            assert run.stdout is not None and "another run prepares data" in run.stdout.readline()
        assert not (tmp_path / "data" / "folder_test").exists()
    assert [run.communicate(timeout=60)[0].count("segments") for run in runs] == [2, 2]
    assert [run.returncode for run in runs] == [0, 0]
    assert data_dir.validate(tmp_path / "data" / "folder_test") == []


def test_folder_to_find_persons_in_has_trials_only_with_a_key(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    (tmp_path / "key").write_text("Ann 'O\"Neil\ta b.mp4\n")
    _, test = folder.prepare(tmp_path / "data", *roots, tmp_path / "key", find_persons=True)
    assert sum(read_trials(test / "trials").is_target or []) == 1
    enroll, test = folder.prepare(tmp_path / "data", *roots, find_persons=True)
    assert not (test / "trials").exists() and len(read_spk2utt(enroll / "spk2utt")) == 4
    assert data_dir.validate(enroll) == data_dir.validate(test) == []


@pytest.mark.parametrize("persons", ["p", ""])
def test_folder_without_any_portrait_gives_empty_lists_and_says_that_all_are_unknown(
    tmp_path: Path, roots: tuple[Path, Path], persons: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder.prepare(tmp_path / "data", *roots, find_persons=True)  # portraits of an earlier run do not stay
    _touch(tmp_path / "nobody", "Ann/readme.txt", "notes.txt")
    portraits = tmp_path / "nobody" if persons else ""
    enroll, test = folder.prepare(tmp_path / "data", portraits, roots[1], find_persons=True)
    assert {path.name: path.read_bytes() for path in enroll.iterdir()} == dict.fromkeys(
        ("names", "spk2utt", "utt2spk", "vid.scp"), b""
    )
    assert len(read_scp(test / "vid.scp")) == len(VIDEOS)
    assert "no portrait of anybody, so everybody is unknown" in caplog.text


def test_folder_portrait_beside_the_persons_folders_is_of_the_person_it_is_named_after(tmp_path: Path) -> None:
    persons = _touch(
        tmp_path / "p", "Zo\u00eb.JPG", "Ann.jpg", "Ann/b.jpg", "\u738b\u4f1f.png", ".hidden.jpg", "notes.txt"
    )
    enroll, _ = folder.prepare(tmp_path / "data", persons, _touch(tmp_path / "v", "x.mp4"), find_persons=True)
    names, paths = read_scp(enroll / "names"), read_scp(enroll / "vid.scp")
    persons_of = {names[model]: {paths[one] for one in own} for model, own in read_spk2utt(enroll / "spk2utt").items()}
    assert persons_of == {
        "Zo\u00eb": {f"{persons}/Zo\u00eb.JPG"},
        "Ann": {f"{persons}/Ann.jpg", f"{persons}/Ann/b.jpg"},
        "\u738b\u4f1f": {f"{persons}/\u738b\u4f1f.png"},
    }


def test_folder_of_videos_may_be_one_file(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    _, test = folder.prepare(tmp_path / "data", roots[0], roots[1] / "a b.mp4", find_persons=True)
    assert read_scp(test / "vid.scp") == {"a_b": f"{roots[1]}/a b.mp4"} and read_scp(test / "names") == {
        "a_b": "a b.mp4"
    }


@pytest.mark.parametrize(
    ("persons", "videos", "message"),
    [
        ("typo", "v", "typo: no such folder; check its name, or make it"),
        ("v/a b.mp4", "v", "a b.mp4: expected a folder, found a file"),
        ("p", "typo", "typo: no such folder"),
        ("p", "p/empty", "put some"),
        ("p", "p/notes.txt", "notes.txt: no photo or video by its name"),
    ],
)
def test_folder_that_is_not_there_is_refused_though_there_may_be_no_portrait(
    tmp_path: Path, roots: tuple[Path, Path], persons: str, videos: str, message: str
) -> None:
    (roots[0] / "empty").mkdir()
    (roots[0] / "notes.txt").write_text("")
    with pytest.raises(DataError, match=message):
        folder.prepare(tmp_path / "data", tmp_path / persons, tmp_path / videos, find_persons=True)
    assert not (tmp_path / "data").exists()


def test_folder_with_voices_lists_the_sound_of_the_same_files(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    silent = folder.prepare(tmp_path / "silent", *roots)
    for heard, plain in zip(folder.prepare(tmp_path / "data", *roots, sound=True), silent, strict=True):
        assert read_scp(heard / "wav.scp") == read_scp(heard / "vid.scp") == read_scp(plain / "vid.scp")
        assert not (plain / "wav.scp").exists()
        assert data_dir.validate(heard) == []
