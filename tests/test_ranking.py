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
    ranked = {
        model: rng.choices(segments, k=rng.randint(0, 100)) for model in [*models, "other"] if rng.random() < 0.8
    }
    return ranked, relevant


@pytest.mark.parametrize("seed", range(40))
def test_random_lists_with_repeats_and_missing_models_give_the_mean_of_a_plain_loop(seed):
    ranked, relevant = random_lists(seed)
    assert mean_average_precision(ranked, relevant, 100) == pytest.approx(naive_map(ranked, relevant), abs=1e-12)


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
