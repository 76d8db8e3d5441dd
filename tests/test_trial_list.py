"""Trial lists of any length: the same pairs and the same refusals as the reader of short ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidperson.errors import DataError
from vidperson.io import trial_list
from vidperson.io.lists import read_scores, read_trials, score_texts, write_scores
from vidperson.io.trial_list import TrialList


def pairs_of(path: Path, most: int) -> list[tuple[str, str]]:
    with TrialList(path, path.parent) as trials:
        numbers = np.concatenate(list(trials.parts(most)))
        assert len(trials) == len(numbers)
        return [(trials.model_ids[m], trials.segment_ids[s]) for m, s in numbers]


@pytest.fixture
def in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from the first pair on, and few keys at a time."""
    monkeypatch.setattr(trial_list, "_IN_MEMORY", 1)
    monkeypatch.setattr(trial_list, "_KEYS_AT_ONCE", 3)
    monkeypatch.setattr(trial_list, "_AT_ONCE", 4)


ids = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("rstuvwxyz"))


@pytest.mark.usefixtures("in_turns")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ids, min_size=1, max_size=25), st.integers(1, 30), st.booleans())
def test_any_list_gives_the_pairs_or_the_refusal_of_the_reader_of_short_lists(
    tmp_path: Path, pairs: list[tuple[str, str]], most: int, has_key: bool
) -> None:
    path = tmp_path / "trials"
    path.write_text("".join(f"{m} {s}{' target' if has_key else ''}\n\n" for m, s in pairs))
    try:
        expected = read_trials(path)
    except DataError as error:
        with pytest.raises(DataError) as found:
            pairs_of(path, most)
        assert str(found.value) == str(error)
    else:
        assert pairs_of(path, most) == pairs == list(zip(expected.models, expected.segments, strict=True))
        with TrialList(path, tmp_path) as trials:
            models = [m for m, _ in pairs]
            assert trials.by_model == (len(set(models)) == len(list(itertools.groupby(models))))
            assert trials.first_with(0, trials.model_ids.index(models[-1])) == models.index(models[-1])
            assert trials.where(len(pairs) - 1) == f"{path}:{2 * len(pairs) - 1}"
    assert [file.name for file in tmp_path.iterdir()] == ["trials"]


@pytest.mark.parametrize("text", ["", "\n", "a\n", "a b c\n", "a b target\nc d\n", "a b \r\n"])
def test_malformed_list_is_refused_as_by_the_reader_of_short_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trials"
    path.write_bytes(text.encode())
    with pytest.raises(DataError) as expected:
        read_trials(path)
    with pytest.raises(DataError) as found:
        TrialList(path, tmp_path)
    assert str(found.value) == str(expected.value)


def test_score_texts_of_all_kinds_of_numbers_are_those_of_str() -> None:
    rng = np.random.default_rng(0)
    any_bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    usual = np.exp(rng.uniform(-12, 17, 20_000)).astype(np.float32) * rng.choice([-1, 1], 20_000)
    edges = np.array([1e-4, 1e-5, 1e6, 1e7, 1e15, 1e16, 1e17, 16777216, 1e-45, 3.4e38, 0.0, -0.0], np.float32)
    around = [np.nextafter(edges, np.float32(side)) for side in (-np.inf, np.inf)]
    whole = np.arange(-300, 300, dtype=np.float32)
    scores = np.concatenate([any_bits[np.isfinite(any_bits)], usual.astype(np.float32), edges, *around, whole])
    scores = scores[np.isfinite(scores)]
    assert score_texts(scores) == [str(score).encode() for score in scores]
    assert score_texts(scores[::2]) == score_texts(scores)[::2] and score_texts(scores[:0]) == []


def test_written_scores_in_any_order_of_models_are_read_again(tmp_path: Path) -> None:
    pairs = [("m", "a"), ("ü", "a"), ("m", "b"), ("ü", "b"), ("ü", "c")]
    by_model = [*(("m", f"{i}") for i in range(200_000)), *(("n", f"{i}") for i in range(7))]
    (tmp_path / "long").write_text("".join(f"{m} {s}\n" for m, s in by_model))
    write_scores(tmp_path / "scores", read_trials(tmp_path / "long"), np.arange(200_007) / 1e6)
    expected = [f"{m} {s} {np.float32(i / 1e6)!s}\n" for i, (m, s) in enumerate(by_model)]
    assert (tmp_path / "scores").read_text() == "".join(expected)
    (tmp_path / "trials").write_text("".join(f"{m} {s}\n" for m, s in pairs))
    values = [0.1, -1e-7, 2, 3e20, 0]
    write_scores(tmp_path / "scores", read_trials(tmp_path / "trials"), values)
    assert (tmp_path / "scores").read_text() == "m a 0.1\nü a -1e-07\nm b 2.0\nü b 3e+20\nü c 0.0\n"
    np.testing.assert_array_equal(read_scores(tmp_path / "scores").values, np.float32(values).astype(str).astype(float))
