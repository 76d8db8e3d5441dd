"""WIDER Person Search (CSM): a tiny release in the layout of the challenge, its answer, and lists of others."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidperson.corpora import csm
from vidperson.errors import DataError
from vidperson.io import data_dir
from vidperson.io.lines import read_lines, read_scp
from vidperson.io.ranks import read_relevant, read_search

WIDTH, HEIGHT = 64, 48
A, B = "tt0000001", "tt00000002"  # numbers of seven and of eight digits
Release = dict[str, Any]


def film(name: str, persons: list[str], labelled: bool = True) -> dict[str, Any]:
    """Twelve candidates, two a frame; the persons in turns, and others. Names of frames hold '_' and are alike."""
    labels = [*persons, "others"]
    candidates = [
        {
            "id": f"{name}_{n:04}",
            "img": f"{name}/candidates/shot_{n // 2}_img.jpg",
            "bbox": [2 * n, n, 20, 30 if n != 11 else 30.5],
            **({"label": labels[n % len(labels)]} if labelled else {}),
        }
        for n in range(12)
    ]
    cast = [{"id": f"{name}_{p}", "img": f"{name}/cast/{p}.jpg", "label": p} for p in persons]
    return {"cast": cast, "candidates": candidates}


def shown(content: Release) -> dict[str, list[str]]:
    """Cast id -> its candidates by their labels, by a plain loop."""
    return {
        cast["id"]: [c["id"] for c in part["candidates"] if c.get("label") == cast["label"]]
        for part in content.values()
        for cast in part["cast"]
    }


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(path)


def write(root: Path, part: str, content: Release) -> None:
    (root / f"{part}.json").write_text(json.dumps(content))
    for entries in content.values():
        for entry in (*entries["cast"], *entries["candidates"]):
            picture(root / part / entry["img"])


@pytest.fixture
def val() -> Release:
    return {A: film(A, ["nm1", "nm2"]), B: film(B, ["nm2", "nm3"])}


@pytest.fixture
def root(tmp_path: Path, val: Release) -> Path:
    """train, val and test."""
    root = tmp_path / "corpus"
    root.mkdir()
    write(root, "train", {"tt0000009": film("tt0000009", ["nm9"])})
    write(root, "val", val)
    write(root, "test", {"tt0000005": film("tt0000005", ["nm5"], labelled=False)})
    (root / "val_label.json").write_text(json.dumps(shown(val)))
    return root


def test_a_release_gives_portraits_and_candidates_of_each_part(tmp_path: Path, root: Path, val: Release) -> None:
    folders = csm.prepare(tmp_path / "data", root)
    kinds = ("cast", "candidates")
    assert [folder.name for folder in folders] == [f"csm_{p}_{k}" for p in ("train", "val", "test") for k in kinds]
    assert [data_dir.validate(folder, check_files=True) for folder in folders] == [[]] * 6
    cast, candidates = folders[2:4]
    assert read_scp(cast / "utt2spk") == {f"{c}-portrait": c for c in shown(val)}
    assert read_scp(cast / "vid.scp")[f"{B}_nm2-portrait"] == f"{root}/val/{B}/cast/nm2.jpg"
    assert not (cast / "search").exists() and not (cast / "region").exists()
    assert read_search(candidates / "search") == {c: [c.split("_")[0]] for c in shown(val)}
    assert read_scp(candidates / "utt2group") == {f"{f}_{n:04}": f for f in (A, B) for n in range(12)}
    assert read_relevant(candidates / "relevant") == shown(val)
    assert read_scp(candidates / "utt2spk") == {c: cast for cast, ids in shown(val).items() for c in ids}
    regions = read_scp(candidates / "region")
    assert len(regions) == 24 and regions[f"{A}_0003"] == "6 3 26 33" and regions[f"{A}_0011"] == "22 11 42 41.5"
    assert read_scp(candidates / "vid.scp")[f"{A}_0003"] == f"{root}/val/{A}/candidates/shot_1_img.jpg"
    assert len(set(read_scp(candidates / "vid.scp").values())) == 12  # frames keep all of their names
    test = folders[5]
    assert not any((test / name).exists() for name in ("relevant", "utt2spk", "spk2utt"))
    assert read_search(test / "search") == {"tt0000005_nm5": ["tt0000005"]}


def test_a_part_that_is_not_there_any_more_loses_its_sets_and_the_same_release_gives_the_same_bytes(
    tmp_path: Path, root: Path
) -> None:
    def lists() -> dict[str, bytes]:
        return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in (tmp_path / "data").glob("*/*")}

    csm.prepare(tmp_path / "data", root)
    before = lists()
    csm.prepare(tmp_path / "data", root)
    assert lists() == before
    (root / "train.json").unlink()
    assert next(f.name for f in csm.prepare(tmp_path / "data", root)) == "csm_val_cast"
    assert lists() == {name: text for name, text in before.items() if "train" not in name}


def test_the_key_tells_who_is_shown_where_candidates_have_no_labels(tmp_path: Path, root: Path, val: Release) -> None:
    for part in val.values():
        for candidate in part["candidates"]:
            del candidate["label"]
    key = {f"{A}_nm1": [f"{A}_0004"]}
    write(root, "val", val)
    (root / "val_label.json").write_text(json.dumps(key))
    folders = csm.prepare(tmp_path / "data", root)
    assert read_relevant(folders[3] / "relevant") == key
    assert read_scp(folders[3] / "utt2spk") == {f"{A}_0004": f"{A}_nm1"}


Change = Callable[[Release], object]


def changed(part: str, **entry: Any) -> Change:
    """Sets fields of the second entry of a list of the first film."""
    return lambda val: val[A][part][1].update(entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("candidates", bbox=[64, 0, 9, 9]), r"tt0000001.candidates\[1\].bbox: outside of its frame, 64 x 48"),
        (changed("candidates", bbox=[-9, 0, 9, 9]), r"candidates\[1\].bbox: outside of its frame, .* x -9 to 0"),
        (changed("candidates", bbox=[1, 2, 0, 9]), r"candidates\[1\].bbox: expected \[x, y, width, height\]"),
        (changed("candidates", bbox=[1, 2, 9]), r"candidates\[1\].bbox: expected .*, found \[1, 2, 9\]"),
        (changed("candidates", bbox=[1, 2, "9", 9]), r"candidates\[1\].bbox: expected"),
        (changed("candidates", bbox=[1, 2, 10**400, 9]), r"candidates\[1\].bbox: expected"),
        (changed("candidates", bbox=[1, 2, float("nan"), 9]), r"candidates\[1\].bbox: expected"),
        (changed("candidates", label="nm3"), r"candidates\[1\].label: expected 'others' or the label .* found 'nm3'"),
        (changed("candidates", label=None), r"candidates\[1\]: expected a label, as 23 of 24 candidates have one"),
        (changed("candidates", label=7), r"candidates\[1\].label: expected a text, found 7"),
        (changed("candidates", id=f"{A}_0000"), rf"candidates\[1\]: id '{A}_0000' is there twice, first at {A}.cand"),
        (changed("candidates", id="a,b"), r"candidates\[1\].id: expected an id without blanks, commas .* 'a,b'"),
        (changed("candidates", id="../x"), r"candidates\[1\].id: expected an id without .* found '../x'"),
        (changed("candidates", id="\ud800"), r"candidates\[1\].id: expected an id"),
        (changed("candidates", img="../val/x.jpg"), r"candidates\[1\].img: expected a path below"),
        (changed("candidates", img="/x.jpg"), r"candidates\[1\].img: expected a path below"),
        (changed("candidates", img="x\n.jpg"), r"candidates\[1\].img: file name 'x\\n.jpg': a list cannot hold"),
        (changed("cast", label="nm1"), r"cast\[0\].label: expected a label that no other cast member .* 'nm1'"),
        (changed("cast", label="others"), r"cast\[1\].label: expected a label .* found 'others'"),
        (lambda val: val[A].update(cast=[]), rf"{A}: expected 'cast', a list with at least one entry"),
        (lambda val: val[A].pop("candidates"), rf"{A}: expected 'candidates', a list"),
        (lambda val: val[A]["cast"].append(3), r"cast\[2\]: expected an object, found 3"),
        (lambda val: val.update({"tt 3": val.pop(B)}), "film 'tt 3': expected an id without blanks"),
        (lambda val: val.clear(), "expected a JSON object with an entry per film"),
    ],
)
def test_malformed_lists_are_refused_with_file_and_key_and_nothing_is_written(
    tmp_path: Path, root: Path, val: Release, change: Change, message: str
) -> None:
    change(val)
    (root / "val.json").write_text(json.dumps(val))
    with pytest.raises(DataError, match=f"^{re.escape(str(root))}/val.json: .*{message}"):
        csm.prepare(tmp_path / "data", root)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("val.json", b'{\n"a": [1,\n', "val.json:3: not JSON: Expecting value, column 1; is the file whole"),
        ("val.json", b'{"a": 1, "b": 2, "a": 3}', "val.json: key 'a' is there twice in one object"),
        ("val.json", b"\xff", "val.json: not UTF-8 text: invalid start byte at byte 0"),
        ("val.json", b"[" * 200_000, "val.json: not JSON of this kind: maximum recursion"),
        ("val.json", b'{"a": ' + b"1" * 5000 + b"}", "val.json: not JSON of this kind: Exceeds the limit"),
        ("val_label.json", b'{"nm7": ["x"]}', "val_label.json: 'nm7' is in the cast of no film of .*val.json"),
        ("val_label.json", b'{"tt0000001_nm1": ["tt00000002_0001"]}', "tt0000001_nm1: 'tt00000002_0001' is no cand"),
        ("val_label.json", b'{"tt0000001_nm1": []}', "tt0000001_nm1: expected a list with at least one candidate"),
        ("val_label.json", b'{"tt0000001_nm1": [4]}', r"tt0000001_nm1\[0\]: expected a text, found 4"),
        ("val_label.json", b'{"tt0000001_nm1": ["a", "a"]}', "tt0000001_nm1: candidate 'a' is there twice"),
        (
            "val_label.json",
            b'{"tt0000001_nm1": ["tt0000001_0001"], "tt0000001_nm2": ["tt0000001_0001"]}',
            "tt0000001_nm2: 'tt0000001_0001' is given to tt0000001_nm1, too",
        ),
    ],
)
def test_files_of_another_form_are_refused_with_their_place_and_nothing_is_written(
    tmp_path: Path, root: Path, name: str, text: bytes, message: str
) -> None:
    (root / name).write_bytes(text)
    with pytest.raises(DataError, match=message):
        csm.prepare(tmp_path / "data", root)
    assert not (tmp_path / "data").exists()


def test_a_film_without_frames_a_part_without_folder_and_a_folder_without_lists_are_refused(
    tmp_path: Path, root: Path
) -> None:
    (root / "val" / B / "candidates").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"val.json: {B}: none of the frames of its 12 candidates can be read"):
        csm.prepare(tmp_path / "data", root)
    (root / "val").rename(tmp_path / "val")
    with pytest.raises(DataError, match="val.json: the list is there, but not the folder .*/val of its images"):
        csm.prepare(tmp_path / "data", root)
    with pytest.raises(DataError, match="none of train.json, val.json, test.json is in it"):
        csm.prepare(tmp_path / "data", tmp_path / "elsewhere")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        csm.prepare(tmp_path / "data", tmp_path / "nowhere")
    assert not (tmp_path / "data").exists()


def test_what_can_be_worked_with_is_named_in_warnings(
    tmp_path: Path, root: Path, val: Release, caplog: pytest.LogCaptureFixture
) -> None:
    val[A]["candidates"] = val[A]["candidates"][:9]
    val[B]["candidates"][2]["bbox"] = [-5, 0, 20, 49]
    val[B]["candidates"][3]["label"] = "nm2"
    (root / "val.json").write_text(json.dumps(val))
    (root / "val_label.json").write_text(json.dumps({k: v for k, v in shown(val).items() if not k.startswith(A)}))
    (root / "val" / B / "cast/nm3.jpg").unlink()
    (root / "val" / B / "candidates/shot_5_img.jpg").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        folders = csm.prepare(tmp_path / "data", root)
    said = [record.getMessage().removeprefix(f"{root}/") for record in caplog.records]
    assert said == [
        f"val.json: 1 films have fewer than 10 candidates: {A}",
        f"val_label.json: 6 pairs differ from the labels of {root}/val.json, the first is '{A}_nm1 {A}_0000'; "
        "this file counts",
        f"val.json: images of 3 entries are missing or cannot be read, and will be unreadable in stage 2: "
        f"{B}.cast[1] {root}/val/{B}/cast/nm3.jpg, {B}.candidates[10] {root}/val/{B}/candidates/shot_5_img.jpg, "
        f"{B}.candidates[11] {root}/val/{B}/candidates/shot_5_img.jpg",
        f"val.json: 1 boxes exceed their frames, and are kept so: {B}.candidates[2]",
    ]
    assert read_scp(folders[3] / "region")[f"{B}_0002"] == "-5 0 15 49"
    assert len(read_scp(folders[3] / "vid.scp")) == 21


def test_stage_1_prepares_the_corpus(repo: Path, tmp_path: Path, root: Path) -> None:
    command = ["./run_001_prepare_data.sh", "--corpora", "csm", "--data-dir", tmp_path / "data"]
    options = ["--csm-dir", root, "--trial-sets", "csm_val_cast:csm_val_candidates"]
    done = subprocess.run([*command, *options], cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "csm_val_cast: 4 segments" in done.stdout and "csm_val_candidates: 24 segments" in done.stdout
    refused = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "set csm_dir in the config" in refused.stderr


# -- the answer


def run(repo: Path, program: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, program, *options]
    return subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=60)


def ranks(path: Path, lists: dict[str, list[str]]) -> Path:
    lines = [f"{m} {r} {c} {1 / r}\n" for m, found in lists.items() for r, c in enumerate(found, 1)]
    path.write_text("".join(lines))
    return path


def test_what_the_ranks_lack_of_a_set_comes_last_in_the_answer(repo: Path, tmp_path: Path, root: Path) -> None:
    candidates = csm.prepare(tmp_path / "data", root)[3]
    every = {f: [f"{f}_{n:04}" for n in range(12)] for f in (A, B)}
    listed = ranks(tmp_path / "r", {f"{B}_nm3": every[B][::-1], f"{A}_nm1": every[A][7:9]})
    answer = tmp_path / "out/val_result.txt"
    script = "local/csm/format_submission.py"
    done = run(repo, script, "--ranks", listed, "--data-dir", candidates, "--output", answer)
    assert (done.returncode, done.stdout) == (0, f"{answer}: 4 cast members, 48 candidates; 34 were not in the ranks\n")
    expected = [
        (f"{B}_nm3", every[B][::-1]),
        (f"{A}_nm1", [*every[A][7:9], *every[A][:7], *every[A][9:]]),
        (f"{B}_nm2", every[B]),
        (f"{A}_nm2", every[A]),
    ]
    assert answer.read_text() == "".join(f"{cast} {','.join(found)}\n" for cast, found in expected)
    assert run(repo, script, "--ranks", listed, "--output", answer).returncode == 0
    assert answer.read_text() == "".join(
        f"{cast} {','.join(found)}\n" for cast, found in [expected[0], (f"{A}_nm1", every[A][7:9])]
    )


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({f"{A}_nm1": [f"{A}_0001", f"{A}_0001"]}, "cast member 'tt0000001_nm1' has a candidate twice"),
        ({f"{A}_nm1": ["a,b"]}, "candidate 'a,b' of 'tt0000001_nm1'"),
        ({f"{A}_nm1": [f"{B}_0001"]}, "candidate 'tt00000002_0001' of 'tt0000001_nm1' is not searched for it in"),
        ({"nobody": [f"{B}_0001"]}, "candidate 'tt00000002_0001' of 'nobody' is not searched for it in"),
    ],
)
def test_ranks_that_cannot_be_an_answer_are_refused_and_nothing_is_written(
    tmp_path: Path, root: Path, lists: dict[str, list[str]], message: str
) -> None:
    candidates = csm.prepare(tmp_path / "data", root)[3]
    with pytest.raises(DataError, match=message):
        csm.format_submission(ranks(tmp_path / "r", lists), tmp_path / "answer", candidates)
    assert not (tmp_path / "answer").exists()


def test_a_candidate_with_a_comma_is_refused_without_a_set_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="candidate 'a,b' of 'm' has a comma"):
        csm.format_submission(ranks(tmp_path / "r", {"m": ["a,b"]}), tmp_path / "answer")


@pytest.mark.parametrize(
    ("answer", "key", "message"),
    [
        ("f_a x,y\nf_b\n", '{"f_a": ["x"]}', "answer:2: expected '<cast id> <candidate>,<candidate>,...', found 'f_b'"),
        ("f_a x, y\n", '{"f_a": ["x"]}', "answer:1: expected"),
        ("f_a  x\n", '{"f_a": ["x"]}', "answer:1: expected"),
        ("f_a x,,y\n", '{"f_a": ["x"]}', "answer:1: expected"),
        ("f_a x,\n", '{"f_a": ["x"]}', "answer:1: expected"),
        ("f_a\tx\n", '{"f_a": ["x"]}', "answer:1: expected"),
        ("f_a x\r\n", '{"f_a": ["x"]}', "answer:1: Windows line end"),
        ("f_a x\nf_a y\n", '{"f_a": ["x"]}', "answer:2: cast member 'f_a' has a second line"),
        ("\n", '{"f_a": ["x"]}', "answer: expected lines"),
        ("f_a x\n", '{"f_a": "x"}', "key: f_a: expected a list"),
        ("f_a x\n", '{"fa": ["x"]}', "key: 'fa': expected the id of a cast member"),
        ("f_a x\n", "[1]", "key: expected a JSON object"),
        ("f_a x\n", '{"f_a": ["x"]', "key:1: not JSON"),
    ],
)
def test_malformed_answers_and_keys_are_refused_with_their_place_and_nothing_is_written(
    tmp_path: Path, answer: str, key: str, message: str
) -> None:
    (tmp_path / "answer").write_bytes(answer.encode())
    (tmp_path / "key").write_text(key)
    outputs = [tmp_path / "ranks", tmp_path / "relevant", tmp_path / "search"]
    with pytest.raises(DataError, match=message):
        csm.read_submission(tmp_path / "answer", tmp_path / "key", *outputs)
    assert not any(path.exists() for path in outputs)


def test_an_answer_of_others_is_read_written_byte_for_byte_and_evaluated(
    repo: Path, tmp_path: Path, shared: Path
) -> None:
    golden = shared / "data/cast/wider2018_val_lists"
    listed, relevant, search, answer = (tmp_path / name for name in ("ranks", "relevant", "search", "answer"))
    inputs = ["--result", golden / "val_rank.txt", "--labels", golden / "val_label.json"]
    outputs = ["--ranks", listed, "--relevant", relevant, "--search", search]
    done = run(repo, "local/csm/read_submission.py", *inputs, *outputs)
    assert (done.returncode, done.stdout) == (0, f"{listed}: 147 cast members; {relevant}: 147\n")
    assert sum(1 for _ in read_lines(relevant)) == 8123
    assert run(repo, "local/csm/format_submission.py", "--ranks", listed, "--output", answer).returncode == 0
    assert answer.read_bytes() == (golden / "val_rank.txt").read_bytes()
    lists = ["--ranks", listed, "--relevant", relevant, "--search", search]
    done = run(repo, "steps/evaluate_ranks.py", *lists)
    assert done.returncode == 0, done.stderr
    # What a plain loop over the two files gives: 0.7128620 and 0.6971826.
    assert {"mAP 0.712862", "mAP per group 0.697183"} <= set(done.stdout.splitlines())
