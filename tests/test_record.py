"""vidperson/io/record.py: what a record holds, and which changes it finds."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
from pathlib import Path

import pytest

from vidperson.errors import DataError
from vidperson.io.record import (
    RECORD,
    UNFINISHED,
    checked,
    damaged_outputs,
    differences,
    new_record,
    read_record,
    read_unfinished,
    record_path,
    save_unfinished,
    sha256,
    write_record,
)

COMMAND = ["python", "steps/x.py", "--fps", "1", "--labels", "a b"]
OPTIONS = "fps='1'\nname='it'\\''s\ntwo lines'\nexp_dir='exp'\ndata_dir='data'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of three outputs with a record, below a repository root that is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDPERSON_STAGE", "./run_003_extract_embeddings.sh")
    monkeypatch.setenv("VIDPERSON_OPTIONS", OPTIONS)
    out = tmp_path / "exp" / "set"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vid.scp").write_text("a /v/a.mp4\nb /v/b.mp4\n")
    make(out)
    return out


def make(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "embed.ark").write_bytes(bytes(range(200)))
    (out / "embed.scp").write_text("a embed.ark:2\nb embed.ark:102\n")
    (out / "status").write_text("a ok\nb ok\n")
    files = [out / name for name in ("embed.ark", "embed.scp", "status")]
    write_record(out, COMMAND, [Path("data/vid.scp")], files, {"openvino": "2025.1"})


def record_of(target: Path):  # type: ignore[no-untyped-def]
    record = read_record(target)
    assert record is not None
    return record


def test_record_written_is_read_back_with_command_options_versions_and_hashes(folder: Path) -> None:
    record = record_of(folder)
    assert record.command == COMMAND and record.stage == "./run_003_extract_embeddings.sh"
    assert record.options == {"fps": "1", "name": "it's\ntwo lines", "exp_dir": "exp", "data_dir": "data"}
    assert record.versions["python"] == platform.python_version() and record.versions["openvino"] == "2025.1"
    assert {"vidperson", "numpy"} < record.versions.keys()
    assert record.inputs == {"data/vid.scp": sha256(Path("data/vid.scp"))}
    assert {name: output.bytes for name, output in record.outputs.items()} == {
        "embed.ark": 200, "embed.scp": 30, "status": 10
    }  # fmt: skip
    assert record.outputs["status"].sha256 == sha256(folder / "status")


def test_options_that_only_say_what_is_run_are_not_noted_as_what_is_kept_was_made_without_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDPERSON_OPTIONS", f"{OPTIONS}stage='1'\nstop_stage='2'\nannotate='true'\n")
    before = (folder / "record.json").read_bytes()
    write_record(folder, COMMAND, [Path("data/vid.scp")], [folder / "embed.ark"])
    assert record_of(folder).options == json.loads(before)["options"]


def test_record_of_a_file_lies_beside_it_and_inputs_elsewhere_are_absolute(folder: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores" / "dev_scores"
    scores.parent.mkdir()
    assert record_path(scores) == tmp_path / "scores" / "dev_scores.record.json"
    scores.write_text("m s 0.5\n")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.write_text("x")
    write_record(scores, COMMAND, [elsewhere], [scores])
    assert list(record_of(scores).inputs) == [str(elsewhere)] and list(record_of(scores).outputs) == ["dev_scores"]
    assert checked(scores) == scores
    scores.write_text("m s 0.6\n")
    with pytest.raises(DataError, match="dev_scores: expected SHA-256"):
        checked(scores)


def test_record_without_a_stage_in_the_environment_has_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIDPERSON_STAGE", "VIDPERSON_OPTIONS"):
        monkeypatch.delenv(name)
    record = new_record(COMMAND, [])
    assert record.stage == "" and record.options == {}
    assert record.cure == "put it back, or run the stage that made it again"


def test_record_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None and read_record(tmp_path / "nothing") is None
    assert read_unfinished(tmp_path) is None


def swap_lines(path: Path) -> None:
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 128
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_text(path.read_text().splitlines(keepends=True)[0])


DAMAGE = [
    ("embed.scp", swap_lines), ("embed.ark", flip_byte), ("status", cut), ("status", Path.unlink),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_output_swapped_flipped_cut_or_gone_is_found_and_refused_with_what_to_run(
    folder: Path, name: str, damage: object
) -> None:
    damage(folder / name)  # type: ignore[operator]
    record = record_of(folder)
    assert damaged_outputs(folder, record, thorough=True) == [name]
    assert damaged_outputs(folder, record, thorough=False) == [name]
    found = sha256(folder / name) if (folder / name).exists() else "no such file"
    with pytest.raises(DataError) as error:
        checked(folder / name)
    assert str(error.value) == (
        f"{folder / name}: expected SHA-256 {record.outputs[name].sha256}, found {found}; "
        "put it back, or run ./run_003_extract_embeddings.sh again"
    )
    others = [other for other in record.outputs if other != name]
    assert [checked(folder / other) for other in others] == [folder / other for other in others]


def test_output_of_another_set_put_in_its_place_is_found_though_it_is_older(folder: Path) -> None:
    stranger = folder / "other"
    stranger.write_text("a ok\nb ok\nc ok\n")
    os.utime(stranger, ns=(0, 0))
    stranger.rename(folder / "status")
    assert damaged_outputs(folder, record_of(folder), thorough=False) == ["status"]


def test_output_whose_time_is_new_but_whose_bytes_are_not_is_whole(folder: Path) -> None:
    after = (folder / RECORD).stat().st_mtime_ns + 10**9
    os.utime(folder / "embed.ark", ns=(after, after))
    assert damaged_outputs(folder, record_of(folder), thorough=False) == []


def test_output_edited_behind_the_clocks_back_is_found_when_it_is_thorough(folder: Path) -> None:
    times = (folder / "embed.ark").stat()
    flip_byte(folder / "embed.ark")
    os.utime(folder / "embed.ark", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert damaged_outputs(folder, record_of(folder), thorough=False) == []
    assert damaged_outputs(folder, record_of(folder), thorough=True) == ["embed.ark"]


def test_file_that_its_folders_record_does_not_list_is_refused(folder: Path) -> None:
    (folder / "faces.ark").write_bytes(b"x")
    with pytest.raises(DataError, match="faces.ark: expected a file that .*record.json lists"):
        checked(folder / "faces.ark")


def test_file_in_a_folder_without_a_record_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("x")
    assert checked(tmp_path / "list") == tmp_path / "list"
    with pytest.raises(DataError, match="nothing: no such file"):
        checked(tmp_path / "nothing")


def test_file_in_a_folder_whose_stage_has_not_ended_is_refused_until_it_has(folder: Path) -> None:
    record = record_of(folder)
    (folder / RECORD).unlink()
    save_unfinished(folder, record)
    with pytest.raises(DataError, match=r"status: its folder is unfinished; run ./run_003_extract_embeddings.sh"):
        checked(folder / "status")
    assert read_unfinished(folder) == record
    write_record(folder, COMMAND, [], [folder / "status"])
    assert checked(folder / "status") and not (folder / UNFINISHED).exists()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '"x"', "\udc80", '{"outputs": {}}', "[" * 100_000,
        '{"stage": "", "command": "x", "options": {}, "versions": {}, "inputs": {}, "outputs": {}}',
        '{"stage": "", "command": [1], "options": {}, "versions": {}, "inputs": {}, "outputs": {}}',
        '{"stage": "", "command": [], "options": {}, "versions": {}, "inputs": {}, "outputs": {"a": {}}}',
        '{"stage": "", "command": [], "options": {}, "versions": {}, "inputs": {}, '
        '"outputs": {"../a": {"sha256": "' + "0" * 64 + '", "bytes": 1}}}',
        '{"stage": "", "command": [], "options": {}, "versions": {}, "inputs": {}, '
        '"outputs": {"a": {"sha256": "0", "bytes": 1}}}',
    ],
)  # fmt: skip
def test_damaged_record_is_named(folder: Path, text: str) -> None:
    (folder / RECORD).write_bytes(text.encode(errors="surrogateescape"))
    for read in (read_record, lambda target: checked(target / "status")):
        with pytest.raises(DataError, match=r"record\.json: expected a record .* found a damaged one"):
            read(folder)


def test_same_command_and_inputs_have_no_difference(folder: Path) -> None:
    assert differences(record_of(folder), COMMAND, [Path("data/vid.scp")]) == []


def test_other_command_and_inputs_are_told_then_and_now(folder: Path) -> None:
    record = record_of(folder)
    command = [*COMMAND[:3], "2", *COMMAND[4:], "--mirror", "true"]
    assert differences(record, command, [Path("data/vid.scp")]) == ["< --fps 1", "> --fps 2", "> --mirror true"]
    then = sha256(Path("data/vid.scp"))
    Path("data/vid.scp").write_text("a /v/a.mp4\n")
    now = sha256(Path("data/vid.scp"))
    labels = Path("data/labels")
    assert differences(record, COMMAND, [Path("data/vid.scp"), labels]) == [
        "> data/labels missing", f"< data/vid.scp {then}", f"> data/vid.scp {now}"
    ]  # fmt: skip
    assert differences(record, COMMAND, []) == [f"< data/vid.scp {then}"]
    assert differences(record, COMMAND, [], except_for=[Path("data/vid.scp")]) == []


def test_words_in_another_order_are_a_difference(folder: Path) -> None:
    command = [*COMMAND[:2], *COMMAND[4:], *COMMAND[2:4]]
    lines = differences(record_of(folder), command, [Path("data/vid.scp")])
    assert lines == ["< python steps/x.py --fps 1 --labels 'a b'", "> python steps/x.py --labels 'a b' --fps 1"]


def test_moved_folder_is_whole_and_no_difference(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "exp" / "models" / "card"
    card.parent.mkdir()
    card.write_text("x")
    command = [*COMMAND, "--model", "exp/models/card", "--expert", "exp-x"]
    write_record(folder, command, [card], [folder / "status"])
    (tmp_path / "exp").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("VIDPERSON_OPTIONS", OPTIONS.replace("'exp'", "'elsewhere'"))
    moved = tmp_path / "elsewhere" / "set"
    now = [word.replace("exp/", "elsewhere/") for word in command]
    assert differences(record_of(moved), now, [tmp_path / "elsewhere" / "models" / "card"]) == []
    assert checked(moved / "status") == moved / "status"


def test_folder_that_is_a_link_has_the_same_record(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "exp" / "link"
    link.symlink_to(tmp_path / "disk")
    (link / "status").write_text("a ok\n")
    write_record(link, COMMAND, [Path("data/vid.scp")], [tmp_path / "disk" / "status"])
    assert list(record_of(link).outputs) == ["status"]
    assert checked(link / "status") == link / "status" and checked(tmp_path / "disk" / "status")


def test_output_outside_of_the_folder_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="subpath"):
        write_record(folder, COMMAND, [], [Path("data/vid.scp")])


def test_copy_of_a_folder_is_whole_though_all_its_files_are_new(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert damaged_outputs(tmp_path / "copy", record_of(tmp_path / "copy"), thorough=False) == []


def test_folder_that_cannot_be_written_is_read_and_checked(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    try:
        assert checked(folder / "embed.ark") and damaged_outputs(folder, record_of(folder), thorough=True) == []
        if os.geteuid():
            with pytest.raises(OSError, match="record.json"):
                write_record(folder, COMMAND, [], [])
    finally:
        folder.chmod(0o755)


def test_record_holds_what_a_person_needs(folder: Path) -> None:
    text = (folder / RECORD).read_text()
    assert list(json.loads(text)) == ["stage", "command", "options", "versions", "inputs", "outputs"]
    assert text.count("\n") > 20  # one thing a line


def test_input_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_record(folder, COMMAND, [Path("nowhere")], [])
