"""Frame choice on numbers alone, against the plain formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_decoder import nearest, pick_constant, pick_nearest, pick_windows

from vidperson.errors import VidPersonError
from vidperson.media.sampling import (
    Clock,
    FrameSampling,
    KeyFrameSampling,
    Shot,
    StretchSampling,
    UniformSampling,
    WindowSampling,
)

RATES = st.sampled_from(
    [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(24), Fraction(1), Fraction(15, 2)]
)
FPS = st.sampled_from([0.1, 0.3, 0.4, 1.0, 2.0, 3.0, 7.5, 10.0, 12.5, 23.976, 25.0, 29.97, 100.0])
GAPS = st.lists(st.integers(1, 400), min_size=0, max_size=60)


def shots(times: Iterable[Fraction]) -> Iterator[Shot]:
    return (Shot(i, time, object()) for i, time in enumerate(times))


def run(sampling: Any, times: Iterable[Fraction], clock: Clock) -> tuple[list[tuple[int, int]], int]:
    picked, marked = [], []
    steps = sampling.mark(shots(times), clock)
    while True:
        try:
            shot, label = next(steps)
        except StopIteration as end:
            assert marked == list(range(len(marked)))  # every frame up to the last, once and in order
            return picked, end.value
        marked.append(shot.index)
        if label is not None:
            picked.append((shot.index, label))


@settings(deadline=None)
@given(n=st.integers(1, 300), rate=RATES, fps=FPS, rounding=st.sampled_from([None, 1000, 90000]))
def test_uniform_constant_rate_equals_the_rounding_formula(
    n: int, rate: Fraction, fps: float, rounding: int | None
) -> None:
    times = [i / rate for i in range(n)]
    if rounding:
        times = [Fraction(round(t * rounding), rounding) for t in times]
    clock = Clock(rate, constant=True)
    picked, _ = run(UniformSampling(fps), times, clock)
    assert [i for i, _ in picked] == pick_constant(n, rate, fps)


@settings(deadline=None)
@given(gaps=GAPS, fps=FPS)
def test_uniform_variable_rate_equals_the_nearest_frames(gaps: list[int], fps: float) -> None:
    times = [Fraction(sum(gaps[:i]), 100) for i in range(len(gaps) + 1)]
    rate = Fraction(len(times)) / (times[-1] or 1)
    picked, _ = run(UniformSampling(fps), times, Clock(rate, constant=False))
    assert [i for i, _ in picked] == pick_nearest(times, rate, fps)


def test_uniform_rate_declared_but_not_kept_takes_the_frames_own_times() -> None:
    times = [Fraction(i * i, 100) for i in range(40)]
    picked, _ = run(UniformSampling(2), times, Clock(Fraction(25), constant=True))
    assert [i for i, _ in picked] == pick_nearest(times, Fraction(25), 2)


def test_uniform_rate_above_the_videos_gives_every_frame_once() -> None:
    times = [Fraction(i, 25) for i in range(10)]
    picked, _ = run(UniformSampling(1000), times, Clock(Fraction(25), constant=True))
    assert picked == [(i, -1) for i in range(10)]


def test_uniform_absurd_gap_between_frames_ends_at_once() -> None:
    times = [Fraction(0), Fraction(2**62)]
    assert run(UniformSampling(25), times, Clock(Fraction(25), constant=False))[0] == [(0, -1), (1, -1)]


def test_frames_by_their_numbers_are_taken_and_nothing_behind_the_last_is_read() -> None:
    times = iter([Fraction(i, 25) for i in range(100)])
    assert run(FrameSampling(frozenset({3, 7})), times, Clock(Fraction(25), constant=True)) == ([(3, -1), (7, -1)], 0)
    assert next(times) == Fraction(8, 25)
    assert run(FrameSampling(frozenset({3, 700})), [Fraction(0)] * 9, Clock(Fraction(25), True)) == ([(3, -1)], 0)


def keys(times: list[Fraction], clock: Clock, fps: float, every: int) -> list[int]:
    shots = (Shot(i, time, object(), i % every == 0) for i, time in enumerate(times))
    return [shot.index for shot, label in KeyFrameSampling(fps).mark(shots, clock) if label is not None]


def test_key_frames_are_taken_at_most_so_many_per_second_and_others_not() -> None:
    clock, times = Clock(Fraction(25), constant=True), [Fraction(i, 25) for i in range(100)]
    assert keys(times, clock, 1, 60) == [0, 60]
    assert keys(times, clock, 1, 10) == [0, 30, 60, 90]
    assert keys(times, clock, 5, 10) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert keys(times, clock, 1, 1) == [0, 25, 50, 75]
    late = [time + Fraction(i, 30_000) for i, time in enumerate(times)]
    assert keys(late, Clock(Fraction(25), constant=False), 1, 25) == [0, 25, 50, 75]


def test_ends_of_stretches_that_no_float_holds_are_excluded() -> None:
    rate = Fraction(30000, 1001)
    times = [index / rate for index in range(361)]
    ends = [float(times[index]) for index in range(0, 361, 60)]
    picked, _ = run(StretchSampling(1, tuple(pairwise(ends))), times, Clock(rate, constant=True))
    assert picked and not {index for index, _ in picked} & set(range(0, 361, 60))


@settings(deadline=None)
@given(gaps=GAPS, ends=st.lists(st.integers(0, 9000), max_size=6, unique=True), fps=FPS)
def test_stretches_give_the_uniform_frames_within(gaps: list[int], ends: list[int], fps: float) -> None:
    times = [Fraction(sum(gaps[:i]), 100) for i in range(len(gaps) + 1)]
    clock = Clock(Fraction(len(times)) / (times[-1] or 1), constant=False)
    bounds = [end / 100 for end in sorted(ends)]
    stretches = tuple(zip(bounds[::2], bounds[1::2], strict=False))
    picked, _ = run(StretchSampling(fps, stretches), times, clock)
    all_picked, _ = run(UniformSampling(fps), times, clock)
    assert picked == [(i, -1) for i, _ in all_picked if any(begin < times[i] < end for begin, end in stretches)]


@settings(deadline=None)
@given(
    n=st.integers(1, 80),
    positions=st.lists(st.integers(0, 100), max_size=6),
    window=st.sampled_from([1, 3, 5, 21, 61]),
)
def test_windows_in_frames_equal_the_plain_rule(n: int, positions: list[int], window: int) -> None:
    sampling = WindowSampling(tuple(positions), "frames", window)
    picked, past_end = run(sampling, [Fraction(i, 25) for i in range(n)], Clock(Fraction(25), constant=True))
    assert picked == pick_windows(n, positions, window)
    assert past_end == sum(p >= n for p in positions)


@settings(deadline=None)
@given(
    gaps=GAPS,
    positions=st.lists(st.integers(0, 12000), max_size=5),
    window=st.sampled_from([1, 3, 9, 21]),
)
def test_windows_in_seconds_at_variable_rate_equal_the_plain_rule(
    gaps: list[int], positions: list[int], window: int
) -> None:
    times = [Fraction(sum(gaps[:i]), 100) for i in range(len(gaps) + 1)]
    rate = Fraction(len(times)) / (times[-1] or 1)
    end = times[-1] + 1 / (2 * rate)
    centres = [nearest(times, Fraction(p, 100)) if Fraction(p, 100) <= end else len(times) for p in positions]
    sampling = WindowSampling(tuple(p / 100 for p in positions), "seconds", window)
    picked, past_end = run(sampling, times, Clock(rate, constant=False))
    assert picked == pick_windows(len(times), centres, window, positions)
    assert past_end == centres.count(len(times))


@settings(deadline=None)
@given(rate=RATES, positions=st.lists(st.integers(0, 300), max_size=5))
def test_windows_in_seconds_at_constant_rate_round_to_frames(rate: Fraction, positions: list[int]) -> None:
    n = 100
    centres = [min(round(Fraction(p, 20) * rate), n) for p in positions]
    sampling = WindowSampling(tuple(p / 20 for p in positions), "seconds", 5)
    picked, past_end = run(sampling, [i / rate for i in range(n)], Clock(rate, constant=True))
    assert picked == pick_windows(n, centres, 5, positions)
    assert past_end == centres.count(n)


def test_windows_after_the_last_one_read_no_further() -> None:
    read = []

    def counted() -> Iterator[Shot]:
        for shot in shots([Fraction(i, 25) for i in range(1000)]):
            read.append(shot.index)
            yield shot

    list(WindowSampling((10.0,), "frames", 5).mark(counted(), Clock(Fraction(25), constant=True)))
    assert read[-1] <= 14


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_uniform_rate_that_is_not_positive_is_refused(fps: float) -> None:
    with pytest.raises(VidPersonError, match="fps"):
        UniformSampling(fps)


@pytest.mark.parametrize(
    ("positions", "unit", "window"),
    [((1.0,), "minutes", 5), ((1.0,), "frames", 4), ((1.0,), "frames", 0), ((-1.0,), "seconds", 5)],
)
def test_windows_with_impossible_values_are_refused(positions: tuple[float, ...], unit: str, window: int) -> None:
    with pytest.raises(VidPersonError):
        WindowSampling(positions, unit, window)
