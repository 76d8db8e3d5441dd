"""Ranked lists: figures against plain loops and the published lists, files, and what is refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from vidperson.errors import DataError, ScoringError
from vidperson.io.ranks import read_ranks, read_relevant
from vidperson.metrics.ranking import average_precision, first_hits, match_rate, mean_average_precision

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("VIDPERSON_SHARED", ROOT / "../shared"))


def naive_map(ranked, relevant):
    """By hand: each place of each list in turn, in exact fractions."""
    total = Fraction(0)
    for model in relevant:
        seen, correct, precisions = [], 0, Fraction(0)
        for segment in ranked.get(model, []):
            if segment in seen:
                continue
            seen.append(segment)
            if segment in relevant[model]:
                correct += 1
                precisions += Fraction(correct, len(seen))
        total += precisions / len(relevant[model])
    return float(total / len(relevant))


def random_lists(seed):
    """Models with and without lists, lists of strangers, repeats, and more relevant segments than ranks."""
    rng = random.Random(seed)
    segments = [f"s{i}" for i in range(rng.randint(1, 150))]
    models = [f"m{i}" for i in range(rng.randint(1, 9))]
    relevant = {model: rng.sample(segments, rng.randint(1, len(segments))) for model in models}
    ranked = {model: rng.choices(segments, k=rng.randint(0, 100)) for model in [*models, "other"] if rng.random() < 0.8}
    return ranked, relevant


@pytest.mark.parametrize("seed", range(40))
def test_random_lists_with_repeats_and_missing_models_give_the_mean_of_a_plain_loop(seed):
    ranked, relevant = random_lists(seed)
    assert mean_average_precision(ranked, relevant, 100) == pytest.approx(naive_map(ranked, relevant), abs=1e-12)


def challenge_map(ranked, relevant):
    """Independently, as facts of the challenge say: AP_i = sum of (right up to r) / r over right ranks r, over m_i."""
    scores = []
    for model, segments in relevant.items():
        unique = list(dict.fromkeys(ranked.get(model, [])))
        right = [int(segment in segments) for segment in unique]
        terms = [sum(right[: r + 1]) / (r + 1) for r in range(len(right)) if right[r]]
        scores.append(sum(terms) / len(segments))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(100, 130))
def test_random_lists_give_the_mean_of_trec_eval_and_of_the_challenge(seed):
    import ir_measures

    ranked, relevant = random_lists(seed)
    ours = mean_average_precision(ranked, relevant, 100)
    assert ours == pytest.approx(challenge_map(ranked, relevant), abs=1e-12)
    right = [ir_measures.Qrel(model, segment, 1) for model, segments in relevant.items() for segment in segments]
    run = [
        ir_measures.ScoredDoc(model, segment, -float(place))
        for model, segments in ranked.items()
        for place, segment in enumerate(dict.fromkeys(segments))  # trec_eval takes each segment once
    ]
    measure = ir_measures.AP
    theirs = ir_measures.calc_aggregate([measure], right, run)[measure] if run else 0.0
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_more_relevant_segments_than_ranks_cannot_reach_one_unless_capped():
    relevant = [f"s{i}" for i in range(200)]
    assert average_precision(relevant[:100], relevant) == 0.5
    assert average_precision(relevant[:100], relevant, 100) == 1.0


def test_a_list_longer_than_allowed_is_refused_with_its_model():
    with pytest.raises(ScoringError, match="model 'b': expected at most 2 ranks, found 3"):
        mean_average_precision({"a": ["x"], "b": ["x", "y", "x"]}, {"a": ["x"]}, 2)


def test_first_hits_and_match_rates_follow_the_definition():
    ranked = {"a": ["x", "y"], "b": ["x", "x", "y"], "c": ["x"]}
    hits = first_hits(ranked, {"a": ["x"], "b": ["y"], "c": ["y"], "d": ["y"]})
    assert hits == {"a": 1, "b": 2, "c": None, "d": None}
    assert [match_rate(hits, rank) for rank in (1, 2, 5)] == [0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m 1 s\n", "1: expected '<model> <rank> <segment> <score>'"),
        ("m 1 s 0.5 extra\n", "1: expected '<model> <rank> <segment> <score>'"),
        ("m one s 0.5\n", "1: expected '<model> <rank> <segment> <score>'"),
        ("m 1 s nan\n", "1: expected '<model> <rank> <segment> <score>'"),
        ("m 1 s 0.5\nm 3 t 0.4\n", "2: model 'm': expected rank 2, found 3"),
        ("m 1 s 0.5\nm 2 t 0.6\n", "2: model 'm': rank 2 has a higher score"),
        ("", "no ranks"),
    ],
)
def test_malformed_ranks_are_refused_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "ranks"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ranks(path)


@pytest.mark.parametrize(
    ("text", "message"), [("m\n", "1: expected"), ("m s\nm s\n", "2: 'm s' appears twice"), ("", "found none")]
)
def test_malformed_relevant_lists_are_refused_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "relevant"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_relevant(path)


def evaluate(*arguments):
    return subprocess.run(
        [sys.executable, "steps/evaluate_ranks.py", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_a_model_without_a_group_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "ranks").write_text("m 1 s 0.5\n")
    (tmp_path / "relevant").write_text("m s\n")
    (tmp_path / "search").write_text("other films\n")
    lists = ["--ranks", tmp_path / "ranks", "--relevant", tmp_path / "relevant", "--search", tmp_path / "search"]
    done = evaluate(*lists, "--json", tmp_path / "out.json")
    assert done.returncode == 1
    assert "model 'm' has no group" in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_lists_of_other_models_than_the_key_are_evaluated_with_a_warning(tmp_path):
    (tmp_path / "ranks").write_text("m 1 s 0.5\n")
    (tmp_path / "relevant").write_text("s m\n")
    done = evaluate("--ranks", tmp_path / "ranks", "--relevant", tmp_path / "relevant")
    assert done.returncode == 0 and done.stdout.startswith("mAP 0.000000\n")
    assert f"no model of {tmp_path}/relevant has a list in {tmp_path}/ranks; are these lists" in done.stderr


@pytest.fixture
def with_strangers(tmp_path):
    """Two models; v and w show nobody, u nobody that is found; t has no list. Of five segments four have a list."""
    (tmp_path / "ranks").write_text("m 1 s 0.9\nm 2 v 0.8\nn 1 u 0.7\nn 2 s 0.3\n")
    (tmp_path / "relevant").write_text("m s\nm t\nn u\n")
    (tmp_path / "persons").write_text("s 1 m 0.9\ns 2 n 0.3\nu 1 m 0.75\nu 2 n 0.7\nv 1 m 0.8\nw 1 n 0.1\n")
    (tmp_path / "segments").write_text("".join(f"{segment} all\n" for segment in "stuvw"))
    (tmp_path / "nobody").write_text("s 0.25\nu 0.5\nv 0.5\nw 1\n")
    names = ("ranks", "relevant", "persons", "segments", "nobody")
    return [word for name in names for word in (f"--{name}", tmp_path / name)]


def test_lists_per_segment_give_cmc_open_set_figures_and_the_quality_of_nobody(with_strangers, tmp_path):
    lists = [*with_strangers, "--max-rank", "100", "--fpirs", "0.5 0.001", "--threshold", "0.8"]
    done = evaluate(*lists, "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "mAP 0.750000"  # m 1/2, n 1
    note = " (fewer strangers than that share needs: at no false positive)"
    assert set(lines) >= {
        "mAP capped 0.750000",
        "segment rank-1 0.333333",
        "segment rank-5 0.666667",
        "segment strangers 2",
        "segment without a list 1",
        "FNIR at FPIR 0.5 0.333333",  # above w: s and u
        "DIR at FPIR 0.5 0.333333",
        f"FNIR at FPIR 0.001 0.666667{note}",  # above v: s alone
        "decided false alarms 0.500000",  # v, whose score is the threshold
        "decided misses 0.666667",
        "nobody cross-entropy 0.603759",  # (1 + 0 + log2(4 / 3) + 1) / 4
        "nobody constant cross-entropy 1.000000",
        "nobody Brier score 0.140625",
    }
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["segments"]["cmc"] == [1 / 3, 2 / 3]
    assert written["models"]["m"] == {"average precision": 0.5, "first relevant rank": 1, "relevant segments": 2}
    low, high = written["mAP interval"]
    assert 0.5 <= low <= 0.75 <= high <= 1


def test_lists_without_strangers_give_no_open_set_figures(with_strangers, tmp_path):
    (tmp_path / "segments").write_text("s all\nt all\nu all\n")
    for name in ("persons", "nobody", "ranks"):
        kept = [line for line in (tmp_path / name).read_text().splitlines() if not {"v", "w"} & set(line.split())]
        (tmp_path / name).write_text("\n".join(kept) + "\n")
    done = evaluate(*with_strangers)
    assert done.returncode == 0, done.stderr
    assert "segment rank-1 0.333333" in done.stdout and "segment strangers 0" in done.stdout
    assert "FNIR" not in done.stdout and "entropy" not in done.stdout


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("persons", "z 1 m 0.5\n", "segment 'z' is not in"),
        ("ranks", "m 1 z 0.5\n", "segment 'z' is not in"),
        ("persons", "s 1 m 0.5\ns 2 m 0.4\n", "segment 's': expected each model once"),
        ("persons", "s 1 m 0.5\ns 2 n 0.6\n", "persons:2: segment 's': rank 2 has a higher score"),
        ("nobody", "s 1.5\n", "nobody:1: expected '<segment> <probability, 0 to 1>', found 's 1.5'"),
        ("nobody", "s 1\ns 1\n", "nobody:2: segment 's' appears twice"),
    ],
)
def test_lists_of_another_set_or_malformed_are_refused_by_name(with_strangers, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    done = evaluate(*with_strangers, "--json", tmp_path / "out.json")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--fpirs", "0.01 1%"], 1, "expected shares above 0 and below 1"),
        (["--threshold", "nan"], 2, "expected a finite number, found nan"),
    ],
)
def test_shares_and_thresholds_that_are_none_are_refused(with_strangers, options, status, message):
    done = evaluate(*with_strangers, *options)
    assert done.returncode == status and message in done.stderr


def test_lines_of_the_key_in_another_order_give_the_same_file(with_strangers, tmp_path):
    found = []
    for _ in range(2):
        assert evaluate(*with_strangers, "--json", tmp_path / "out.json").returncode == 0
        found.append((tmp_path / "out.json").read_bytes())
        for name in ("relevant", "segments", "nobody"):
            lines = (tmp_path / name).read_text().splitlines(True)
            (tmp_path / name).write_text("".join(lines[::-1]))
    assert found[0] == found[1]


def test_threshold_without_the_lists_that_it_is_of_is_refused(with_strangers):
    done = evaluate(*with_strangers[:4], "--threshold", "0.5")
    assert done.returncode == 1 and "--threshold: expected --persons beside it" in done.stderr


def test_lists_of_the_wider_challenge_give_their_published_figure(tmp_path):
    folder = SHARED / "data/cast/wider2018_val_lists"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    relevant = json.loads((folder / "val_label.json").read_text())
    with open(tmp_path / "ranks", "w") as ranks:
        for line in (folder / "val_rank.txt").read_text().splitlines():
            model, segments = line.split()
            ranks.writelines(f"{model} {i} {s} {-i}\n" for i, s in enumerate(segments.split(","), 1))
    (tmp_path / "relevant").write_text("".join(f"{m} {s}\n" for m, found in relevant.items() for s in found))
    (tmp_path / "search").write_text("".join(f"{m} {m.split('_')[0]}\n" for m in relevant))
    lists = ["--ranks", tmp_path / "ranks", "--relevant", tmp_path / "relevant", "--search", tmp_path / "search"]
    done = evaluate(*lists, "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("mAP 0.71286")
    assert lines[1].startswith("mAP per group 0.69718")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["number of models"] == 147
    assert written["mAP"] == pytest.approx(sum(m["average precision"] for m in written["models"].values()) / 147)
