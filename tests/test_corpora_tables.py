"""Tables with header lines, and the ids and lists made from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidperson.corpora.data_folder import Search, Segment, Trial, safe_id, unique_ids, write_data_folder
from vidperson.corpora.tables import NUMBER, Column, read_table
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import check_id, read_scp, read_spk2utt
from vidperson.io.lists import LabelledBox, read_boxes, read_trials

COLUMNS = {"model": Column(("modelid", "model")), "segment": Column(("segmentid",))}


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "list.tsv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "modelid\tsegmentid\nm 1\ts1\n",
        "segmentid\tside\tmodelid\ns1\ta\tm 1\n",
        "Segment_ID\tMODEL\r\ns1\tm 1\r\n",
        "\ufeffmodelid\tsegmentid\n\nm 1\ts1\n\n",
        'modelid,segmentid\n"m 1",s1\n',
    ],
)
def test_read_table_any_column_order_and_spelling_gives_values_by_name(tmp_path: Path, text: str) -> None:
    (row,) = read_table(_table(tmp_path, text), COLUMNS)
    assert (row["model"], row["segment"]) == ("m 1", "s1")


def test_read_table_separated_by_blanks_is_read(tmp_path: Path) -> None:
    rows = read_table(_table(tmp_path, "modelid  segmentid\nm1 s1\nm2   s2\n"), COLUMNS)
    assert [(r.line, r["model"], r["segment"]) for r in rows] == [(2, "m1", "s1"), (3, "m2", "s2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modelid\tside\nm\ta\n", r"no column 'segmentid'.*the header has: modelid side"),
        ("modelid\tsegmentid\tmodel_id\n", "column 'modelid' is there 2 times"),
        ("modelid\tsegmentid\nm\ts\tx\n", r"list.tsv:2: expected 2 columns as in the header, found 3"),
        ("", "expected a header line"),
        ("\n \n", "expected a header line"),
    ],
)
def test_read_table_broken_is_refused_with_what_was_found(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(_table(tmp_path, text), COLUMNS)


def test_read_table_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent.tsv: no such file"):
        read_table(tmp_path / "absent.tsv", COLUMNS)
    path = tmp_path / "binary.tsv"
    path.write_bytes(b"modelid\tsegmentid\n\xff\xfe\n")
    with pytest.raises(DataError, match="binary.tsv: not UTF-8"):
        read_table(path, COLUMNS)


def test_read_table_empty_value_is_refused_only_when_it_is_asked_for(tmp_path: Path) -> None:
    (row,) = read_table(_table(tmp_path, "modelid\tsegmentid\nm\n"), COLUMNS)
    assert row.get("segment") == ""
    with pytest.raises(DataError, match=r"list.tsv:2: column 'segment' is empty"):
        row["segment"]


def test_read_table_unknown_name_falls_back_to_the_position_if_values_fit(tmp_path: Path) -> None:
    columns = {"t": Column(("time",), fallback=2, matches=NUMBER)}
    (row,) = read_table(_table(tmp_path, "a\tb\nx\t1.5\n"), columns)
    assert row.number("t") == 1.5
    with pytest.raises(DataError, match="no column 'time'"):
        read_table(_table(tmp_path, "a\tb\nx\t00:01\n"), columns)


@pytest.mark.parametrize("value", ["nan", "inf", "1,5", "0x1", "1e", "-"])
def test_row_number_not_a_finite_number_is_refused_with_line(tmp_path: Path, value: str) -> None:
    (row,) = read_table(_table(tmp_path, f"modelid\tsegmentid\nm\t{value}\n"), COLUMNS)
    with pytest.raises(DataError, match=r"list.tsv:2: column 'segment': expected a number"):
        row.number("segment")


@pytest.mark.parametrize("value", ["a b", "../x", "/x", "x/../../y"])
def test_row_id_that_breaks_lists_or_leaves_the_folder_is_refused(tmp_path: Path, value: str) -> None:
    (row,) = read_table(_table(tmp_path, f"modelid\tsegmentid\nm\t{value}\n"), COLUMNS)
    with pytest.raises(DataError, match="list.tsv:2"):
        row.id("segment")


@given(st.dictionaries(st.text(min_size=1).filter(lambda s: s.isprintable()), st.none(), max_size=20))
def test_unique_ids_any_names_give_distinct_legal_ids(names: dict[str, None]) -> None:
    ids = unique_ids({name: safe_id(name) for name in names})
    assert list(ids) == list(names)
    assert len(set(ids.values())) == len(names)
    for unique in ids.values():
        assert unique and unique.isascii() and " " not in unique
        check_id(unique, "id", "list", 1)


def test_unique_ids_clash_gives_each_a_suffix_that_order_does_not_change() -> None:
    names = ["a b", "a_b", "c"]
    ids = unique_ids({name: safe_id(name) for name in names})
    assert ids["c"] == "c"
    assert ids["a b"].startswith("a_b-") and ids["a_b"].startswith("a_b-")
    assert unique_ids({name: safe_id(name) for name in reversed(names)}) == ids
    assert unique_ids({"c": "c"}, taken={"c"})["c"] != "c"


def test_safe_id_accents_are_dropped() -> None:
    assert safe_id("José Ñandú/été 1") == "Jose_Nandu_ete_1"


def test_write_data_folder_full_is_sorted_and_read_back(tmp_path: Path) -> None:
    segments = [Segment("b-2", Path("/v/x y.mp4"), "b"), Segment("B-1", Path("/v/1.mp4"), "B")]
    boxes = {"b-2": [LabelledBox(1.04, (1.5, 2.0, 30.0, 40.25))]}
    trials = [Trial("b", "t2", False), Trial("B", "t1", True)]
    folder = write_data_folder(tmp_path / "s", segments, boxes=boxes, box_unit="seconds 5", trials=trials)
    assert read_scp(folder / "vid.scp") == {"B-1": "/v/1.mp4", "b-2": "/v/x y.mp4"}
    assert (folder / "vid.scp").read_text().startswith("B-1")
    assert read_spk2utt(folder / "spk2utt") == {"B": ["B-1"], "b": ["b-2"]}
    assert read_boxes(folder / "face_boundingbox") == boxes
    assert read_trials(folder / "trials").is_target == [True, False]
    assert (folder / "face_boundingbox_conf").read_text() == "seconds 5\n"


def test_write_data_folder_of_several_groups_and_regions_is_valid_and_is_split_with_its_regions(tmp_path: Path) -> None:
    segments = [
        Segment("a1", "/v/1.jpg", "m", "film1", (0, 1.5, 20, 30)),
        Segment("a2", "/v/1.jpg", group="film1", region=(-3, 0, 20.25, 30)),
        Segment("b1", "/v/2.jpg", group="film2"),
    ]
    search = Search(["n", "m"], {"m": ["a1"], "n": ["b1"]}, {"m": ["film1"], "n": ["film1", "film2"]})
    folder = write_data_folder(tmp_path / "s", segments, search=search)
    assert data_dir.validate(folder) == []
    assert (folder / "search").read_text() == "m film1\nn film1\nn film2\n"
    assert (folder / "utt2group").read_text() == "a1 film1\na2 film1\nb1 film2\n"
    assert (folder / "region").read_text() == "a1 0 1.5 20 30\na2 -3 0 20.25 30\n"
    assert (folder / "relevant").read_text() == "m a1\nn b1\n"
    assert (data_dir.split(folder, 3) / "2" / "region").read_text() == "a2 -3 0 20.25 30\n"
    write_data_folder(folder, [segments[2]], search=Search(["n"], groups={"n": ["film2"]}))
    assert not (folder / "region").exists() and data_dir.validate(folder) == []


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (Search(["m"], groups={"m": ["film2"]}), "group 'film2', which model 'm' is searched in, has no segment"),
        (Search(["m"]), "group 'all', which model 'm' is searched in, has no segment"),
        (Search(["m"], groups={"m": ["film1"], "n": ["film1"]}), "model 'n' has groups, but is not searched for"),
        (Search(["m"], {"n": ["a"]}, {"m": ["film1"]}), "model 'n' has relevant segments, but is not searched for"),
        (Search(["m"], {"m": ["b"]}, {"m": ["film1"]}), "segment 'b' is in no group that model 'm' is searched in"),
    ],
)
def test_write_data_folder_search_that_does_not_fit_the_segments_is_refused_and_the_old_set_is_kept(
    tmp_path: Path, search: Search, message: str
) -> None:
    segments = [Segment("a", "/v/1.jpg", group="film1"), Segment("b", "/v/1.jpg", group="film3")]
    write_data_folder(tmp_path, segments, search=Search(["m"], groups={"m": ["film1"]}))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=message):
        write_data_folder(tmp_path, segments, search=search)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_write_data_folder_again_with_less_removes_the_old_lists(tmp_path: Path) -> None:
    segment = Segment("t", Path("/v"), "t")
    folder = write_data_folder(tmp_path, [segment], boxes={}, box_unit="frames 61", trials=[Trial("m", "t")], names={})
    write_data_folder(tmp_path, [segment])
    assert sorted(path.name for path in folder.iterdir()) == ["spk2utt", "utt2spk", "vid.scp"]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "no segments"),
        ([Segment("a", Path("/v"), "a")] * 2, "'a' appears twice"),
        ([Segment("a", Path("/v\n1"), "a")], r"'/v\\n1'.*rename"),
        ([Segment("a", Path("/v "), "a")], "blanks at an end"),
        ([Segment("a", Path("/v"))], "no segment has a model"),
        ([Segment("a", Path("/v"), "a", region=(5, 0, 5, 9))], "segment 'a': expected x1 < x2 and y1 < y2, found"),
        ([Segment("a", Path("/v"), "a", region=(0, 0, 5, float("inf")))], "segment 'a': expected x1 < x2 and y1 < y2"),
    ],
)
def test_write_data_folder_bad_segments_are_refused(tmp_path: Path, segments: list[Segment], message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_data_folder(tmp_path / "s", segments)
    assert not (tmp_path / "s" / "vid.scp").exists()


def test_table_with_a_field_beyond_all_sense_or_an_infinite_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("model id,x\na,1\n" + "b" * 200_000 + ",1\n")
    with pytest.raises(DataError, match="t.csv:3: not a line of a table: field larger"):
        read_table(path, {"id": Column(("model id",))})
    path.write_text("model id,x\na,1e999\n")
    (row,) = read_table(path, {"x": Column(("x",))})
    with pytest.raises(DataError, match="t.csv:2: column 'x': expected a number, found '1e999'"):
        row.number("x")


class Killed(BaseException):
    """As by kill -9, of which no code is told."""


def test_write_data_folder_killed_at_any_moment_leaves_the_old_the_new_or_an_invalid_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, number: int) -> dict[str, bytes]:
        write_data_folder(
            folder,
            [Segment(f"s{i}", tmp_path / f"{number}.mp4", f"m{i + number}") for i in range(2)],
            boxes={"s0": [LabelledBox(number, (0, 0, 9, 9))]},
            box_unit="frames 61",
            trials=[Trial(f"m{i + number}", f"s{i}", True, "p") for i in range(2)],
        )
        return content(folder)

    def content(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def counted(change: Callable[..., None]) -> Callable[..., None]:
        def may_be_killed(*args: object, **options: object) -> None:
            moments.append(None)
            if len(moments) == kill_at:
                raise Killed
            change(*args, **options)

        return may_be_killed

    old, new = write(tmp_path / "old", 0), write(tmp_path / "new", 1)
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(os, "replace", counted(os.replace))
    kill_at, states = 0, set()
    while "whole" not in states:
        kill_at += 1
        moments: list[None] = []
        folder = tmp_path / str(kill_at)
        shutil.copytree(tmp_path / "old", folder)
        try:
            assert write(folder, 1) == new
            states.add("whole")
        except Killed:
            assert bool(data_dir.validate(folder)) == (content(folder) != old), content(folder)
            states.add("invalid" if content(folder) != old else "old")
    assert states == {"old", "invalid", "whole"} and kill_at > 10
