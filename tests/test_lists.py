"""Readers of trials, scores and partitions against a plain line by line reading, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidperson.errors import DataError, ScoringError
from vidperson.io import columns
from vidperson.io.lines import read_paths
from vidperson.io.lists import (
    read_key,
    read_partitions,
    read_scores,
    read_scores_of,
    read_trials,
    rows_in_order,
    write_scores,
)

quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
ids = st.text("ab01-_/.é漢", min_size=1, max_size=20)
gaps = st.sampled_from([" ", "\t", "  ", " \t "])
number_texts = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-50, 50, width=32).map(lambda x: str(np.float32(x))),
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(-1000, 1000, places=9).map(str),
    st.from_regex(r"[+-]?[0-9]{0,18}\.?[0-9]{0,18}(e-?[0-9])?", fullmatch=True),
)


def test_paths_of_an_scp_are_those_of_its_folder_unless_absolute(tmp_path: Path) -> None:
    (tmp_path / "x.scp").write_text("a a b.mp4\nb ../b.ark:7\nc /v/c.mp4\n")
    expected = {"a": f"{tmp_path}/a b.mp4", "b": f"{tmp_path}/../b.ark:7", "c": "/v/c.mp4"}
    assert read_paths(tmp_path / "x.scp") == expected


def finite(text):
    try:
        return abs(float(text)) <= float(np.finfo(np.float32).max)
    except ValueError:
        return False


@quick
@given(st.lists(number_texts.filter(finite), min_size=1, max_size=40), st.integers(6, 300))
def test_read_scores_any_decimal_equals_float_to_the_last_bit(tmp_path, monkeypatch, texts, block_bytes):
    monkeypatch.setattr(columns, "_BLOCK_BYTES", block_bytes)
    (tmp_path / "scores").write_text("".join(f"m{i % 3} s{i} {text}\n" for i, text in enumerate(texts)))
    scores = read_scores(tmp_path / "scores")
    expected = np.array([float(text) for text in texts])
    assert scores.values.tobytes() == expected.tobytes()
    assert scores.models == [f"m{i % 3}" for i in range(len(texts))]
    assert scores.segment_ids == [f"s{i}" for i in range(len(texts))]


@quick
@given(st.data(), st.integers(6, 300))
def test_read_trials_any_spacing_and_blocks_equals_line_by_line(tmp_path, monkeypatch, data, block_bytes):
    monkeypatch.setattr(columns, "_BLOCK_BYTES", block_bytes)
    pairs = data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=40, unique=True))
    labels = data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    with_key = data.draw(st.booleans())
    text = ""
    for (model, segment), label in zip(pairs, labels, strict=True):
        key = data.draw(gaps) + ("target" if label else "nontarget") if with_key else ""
        blank = data.draw(st.sampled_from(["", "", "\n", " \n"]))
        text += f"{blank}{data.draw(st.sampled_from(['', ' ']))}{model}{data.draw(gaps)}{segment}{key}\n"
    (tmp_path / "trials").write_bytes(text[: data.draw(st.sampled_from([None, -1]))].encode())
    trials = read_trials(tmp_path / "trials")
    assert list(zip(trials.models, trials.segments, strict=True)) == pairs
    assert trials.is_target == (labels if with_key else None)
    assert trials.model_ids == list(dict.fromkeys(model for model, _ in pairs))
    assert [trials.name(row) for row in range(len(pairs))] == [" ".join(pair) for pair in pairs]


def test_read_scores_many_ids_over_many_blocks_keeps_every_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 4096)
    lines = [(f"m{i * 7919 % 600}", f"video/{i}", i / 8) for i in range(6000)]
    (tmp_path / "scores").write_text("".join(f"{m} {s} {v}\n" for m, s, v in lines))
    scores = read_scores(tmp_path / "scores")
    assert list(zip(scores.models, scores.segments, scores.values.tolist(), strict=True)) == lines
    assert scores["m119", "video/1"] == 1 / 8


def test_ids_that_share_their_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_hashes", lambda words: np.zeros(len(words[0]), np.uint64))
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 12)
    (tmp_path / "trials").write_text("a x\nb x\na y\nb y\nc z\na z\n")
    trials = read_trials(tmp_path / "trials")
    assert (trials.models, trials.segments) == (list("ababca"), list("xxyyzz"))


BAD = {
    "a 1 target\nb 1\n": ":2: expected '<model> <segment> target|nontarget', found 'b 1'",
    "\na 1\nb 1 target\n": ":3: expected '<model> <segment>', found 'b 1 target'",
    "a\n": ":1: expected '<model> <segment>', found 'a'",
    "a b c d\n": ":1: expected '<model> <segment>', found 'a b c d'",
    "a 1 target\na 2 maybe\n": ":2: expected 'target' or 'nontarget', found 'maybe'",
    "a 1 target\n\na 1 nontarget\n": ":3: trial 'a 1' appears twice",
    "a 1\r\nb 1\r\n": r":1: Windows line end \(CRLF\); run: sed",
    "a 1\nb\x00 1\n": r":2: control character '\\x00'",
    "a 1\nb\r 1\n": r":2: control character '\\r'",
    "a 1\nb\u3000c 1\n": r":2: model 'b\\u3000c' has white space",
    "": ": no trials",
    "\n \n": ": no trials",
}


@pytest.mark.parametrize("block_bytes", [4, 1 << 20])
@pytest.mark.parametrize("text", BAD)
def test_read_trials_bad_line_raises_naming_file_and_line(tmp_path, monkeypatch, text, block_bytes):
    monkeypatch.setattr(columns, "_BLOCK_BYTES", block_bytes)
    (tmp_path / "trials").write_bytes(text.encode())
    with pytest.raises(DataError, match="trials" + BAD[text]):
        read_trials(tmp_path / "trials")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b 1 nan", ":2: expected '<model> <segment> <finite score>', found 'b 1 nan'"),
        ("b 1 -inf", ":2: expected"),
        ("b 1 1e999", ":2: expected"),
        ("b 1 1e39", ":2: expected"),  # more than float32 holds
        ("b 1 1_0", ":2: expected"),
        ("b 1 0x1f", ":2: expected"),
        ("b 1 .", ":2: expected"),
        ("b 1 -", ":2: expected"),
        ("b 1 1:2", ":2: expected"),
        ("b 1 12/4", ":2: expected"),
        ("b 1 1.2.3", ":2: expected"),
        ("b 1", ":2: expected"),
        ("b 1 2 3", ":2: expected"),
        ("a 1 0.5", ":2: score of 'a 1' appears twice"),
        ("b 1 1\r", ":2: Windows line end"),
    ],
)
def test_read_scores_bad_line_raises_naming_file_and_line(tmp_path, line, message):
    (tmp_path / "scores").write_bytes(f"a 1 0.25\n{line}\nc 1 3\n".encode())
    with pytest.raises(DataError, match="scores" + message):
        read_scores(tmp_path / "scores")


def test_read_lists_missing_empty_or_not_utf8_raise(tmp_path):
    for read in (read_trials, read_scores, read_partitions):
        with pytest.raises(DataError, match="absent: no such file"):
            read(tmp_path / "absent")
        (tmp_path / "list").write_text("")
        with pytest.raises(DataError, match="list: no "):
            read(tmp_path / "list")
        (tmp_path / "list").write_bytes(b"a 1 3\n\nb\xff 1 3\n" if read is not read_trials else b"a 1\n\nb\xff 1\n")
        with pytest.raises(DataError, match="list:3: not UTF-8"):
            read(tmp_path / "list")


def test_read_key_list_without_key_raises(tmp_path):
    (tmp_path / "trials").write_text("a 1\n")
    with pytest.raises(ScoringError, match="trials has no key"):
        read_key(tmp_path / "trials")


@pytest.mark.parametrize(("kind", "found"), [("target", "2 and 0"), ("nontarget", "0 and 2")])
def test_read_key_of_a_single_kind_of_trial_raises_naming_the_file(tmp_path, kind, found):
    (tmp_path / "trials").write_text(f"a 1 {kind}\na 2 {kind}\n")
    with pytest.raises(ScoringError, match=f"trials: expected target and nontarget trials, found {found}"):
        read_key(tmp_path / "trials")


def test_read_partitions_gives_the_label_of_each_line(tmp_path):
    (tmp_path / "partitions").write_text("a 1 male\na 2 female\nb 1 male\n")
    pairs, labels = read_partitions(tmp_path / "partitions")
    assert pairs.models == ["a", "a", "b"]
    assert (labels.names, labels.index.tolist()) == (["male", "female"], [0, 1, 0])


@quick
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_read_scores_of_another_order_gives_that_of_the_pairs(tmp_path, pairs, random):
    values = {pair: float(i) for i, pair in enumerate(pairs)}
    (tmp_path / "trials").write_text("".join(f"{m} {s}\n" for m, s in pairs))
    random.shuffle(pairs)
    (tmp_path / "scores").write_text("".join(f"{m} {s} {values[m, s]}\n" for m, s in pairs))
    trials = read_trials(tmp_path / "trials")
    found = read_scores_of(tmp_path / "scores", trials)
    assert found.tolist() == list(range(len(pairs)))


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("a 1\n", "wanted:3: 2 of 3 pairs, this one first, are not in .*/listed: a 2, b 1$"),
        ("a 1\na 2\nz 1\n", "wanted:4: 1 of 3 pairs, .*: b 1$"),
        (
            "a 1\n\na 2\nb 1\nz 1\na 9\nz 2\nz 3\n",
            "listed:5: 4 of 7 pairs, this one first, are not in .*/wanted: z 1, a 9, z 2, ...$",
        ),
    ],
)
def test_rows_in_order_other_pairs_raise_naming_file_and_line_of_the_first(tmp_path, listed, message):
    (tmp_path / "listed").write_text(listed)
    (tmp_path / "wanted").write_text("a 1\n\na 2\nb 1\n")
    with pytest.raises(ScoringError, match=message):
        rows_in_order(read_trials(tmp_path / "listed"), read_trials(tmp_path / "wanted"))


def test_write_scores_gives_float32_back_and_refuses_what_is_not_finite(tmp_path):
    (tmp_path / "trials").write_text("b 1\na 1\na 2\n")
    trials = read_trials(tmp_path / "trials")
    values = np.array([1 / 3, -1e-20, 12345678.9])
    write_scores(tmp_path / "scores", trials, values)
    back = read_scores(tmp_path / "scores")
    assert back.models == trials.models and (back.values.astype(np.float32) == values.astype(np.float32)).all()
    for bad in (np.nan, 1e39):
        with pytest.raises(ScoringError, match="trials:2: 1 of 3 scores would be NaN or infinite, first that of 'a 1'"):
            write_scores(tmp_path / "other", trials, [1, bad, 2])
    assert not (tmp_path / "other").exists()


def test_read_trials_of_a_file_without_line_ends_is_refused_early(tmp_path):
    with open(tmp_path / "trials", "wb") as stream:
        stream.write(b"a 1\n" + b"x" * (1 << 20))
        stream.seek(1 << 40)  # a hole: nobody could read it all
        stream.write(b"\n")
    with pytest.raises(DataError, match="trials:2: a line of more than 16777216 bytes"):
        read_trials(tmp_path / "trials")
