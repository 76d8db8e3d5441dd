"""Plots of the report, and the picture of a training.

Those of the report are laid out here in pixels and drawn as SVG by ``templates/macros.html.j2``: their colours are
those of the page, light or dark, and their text is text. All of them are the same for equal input.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T", bound=Hashable)

MOST_CURVES = 20
"""Systems beyond these are left out of a plot with a curve per system."""

NUM_COLOURS, NUM_DASHES = 8, 4
"""Curves are told apart by the colours and dashes of ``evaluation.css``."""

_RATES = (1e-5, 1e-4, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_DPI = 144


@dataclass(frozen=True)
class Curve:
    """A line of a plot. ``path`` and ``area``: SVG path data, what is below it filled; kind: classes of its style."""

    name: str
    path: str
    kind: str
    area: str = ""


@dataclass(frozen=True)
class Mark:
    """A vertical line over the whole height of a plot, ``at`` pixels from its left border."""

    at: float
    name: str


@dataclass(frozen=True)
class Band:
    """A part of a plot from its left border to ``to`` pixels."""

    to: float
    name: str


@dataclass(frozen=True)
class Note:
    """Words at the top of a plot; anchor: ``start`` at its left border, ``end`` at its right one."""

    anchor: str
    text: str


@dataclass(frozen=True)
class Side:
    """The side of a plot, ``size`` pixels long. ticks: pixels from the left or the top, and words."""

    label: str
    size: int
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Plot:
    """A plot with its lower side ``x`` and its left side ``y``.

    title: what it shows, for those who do not see it. guides: path data of thin lines that help to read.
    chosen: each curve can be shown and hidden.
    """

    title: str
    x: Side
    y: Side
    curves: list[Curve]
    marks: list[Mark] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    guides: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class _Axis:
    """Turns values from ``low`` to ``high`` into pixels, up to ``size``; one of y begins at the bottom."""

    low: float
    high: float
    size: int
    upward: bool = False
    scale: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high = self.scale(self.low), self.scale(self.high)
        share = (self.scale(value) - low) / (high - low)
        return round(self.size * (1 - share if self.upward else share), 2)

    def side(self, label: str, values: Iterable[float], text: Callable[[float], str] = "{:g}".format) -> Side:
        """The side of a plot, with those of the values that it has, not so close that their words touch."""
        room = 14 if self.upward else 30
        found: list[tuple[float, str]] = []
        for value in values:
            if self.low <= value <= self.high and (not found or abs(self(value) - found[-1][0]) >= room):
                found.append((self(value), text(value)))
        return Side(label, self.size, found)


def round_values(low: float, high: float, most: int = 6) -> list[float]:
    """At most so many round numbers from ``low`` to ``high``, equally far apart: by 1, 2 or 5 times a power of 10."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while math.floor(high / step) - math.ceil(low / step) + 1 > most:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _path(points: Iterable[tuple[float, float]]) -> str:
    """Path data of a line through points in pixels; points that fall together are left out."""
    kept = [point for point, _ in groupby((f"{x:.1f}", f"{y:.1f}") for x, y in points)]
    return "M" + "L".join(f"{x} {y}" for x, y in kept) + ("h0" if len(kept) == 1 else "")  # one point is a dot


def _kind(number: int) -> str:
    """The classes of the curve of a system: colour and dashes change from one to the next, and no pair comes twice."""
    dashes = (number + number // NUM_COLOURS) % NUM_DASHES
    return f"colour-{number % NUM_COLOURS} dash-{dashes}{' best' if number == 0 else ''}"


def _merged(curves: Mapping[str, T]) -> dict[T, str]:
    """Each curve once, with the names of all systems that have it."""
    merged: dict[T, list[str]] = {}
    for name, curve in curves.items():
        merged.setdefault(curve, []).append(name)
    return {curve: " = ".join(names) for curve, names in merged.items()}


def det_plot(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Plot:
    """The DET curves of systems on axes of normal deviates; equal curves are drawn once.

    curves: name of the system -> ``p_miss`` and ``p_fa``, M rates of 0..1 each.
    """
    merged = _merged({name: (tuple(rates["p_miss"]), tuple(rates["p_fa"])) for name, rates in curves.items()})
    # Up to where the axes go: past 40 % only where a curve goes there, down to where the rates are resolved.
    smallest = min([rate for pair in merged for rates in pair for rate in rates if rate > 0], default=0.01)
    low = max(1e-6, min(0.004, smallest / 2))
    worst = max(min(max(pair) for pair in zip(*rates, strict=True)) for rates in merged)
    high = 0.95 if worst > 0.3 else 0.6
    deviate = NormalDist().inv_cdf
    x, y = (_Axis(low, high, 330, upward, deviate) for upward in (False, True))

    def within(rate: float) -> float:
        return min(max(rate, low / 100), 1 - 1e-9)

    drawn = [
        Curve(names, _path((x(within(fa)), y(within(miss))) for miss, fa in zip(p_miss, p_fa, strict=True)), _kind(i))
        for i, ((p_miss, p_fa), names) in enumerate(merged.items())
    ]
    sides = x.side("false alarms, %", _RATES, _percent), y.side("misses, %", _RATES, _percent)
    beyond = all(any(max(pair) < low for pair in zip(*rates, strict=True)) for rates in merged)
    notes = [Note("end", "fewer errors than the axes show")] if beyond else []
    return Plot(title, *sides, drawn, notes=notes, guides=f"M0 {y.size}L{x.size} 0", chosen=True)


def _percent(rate: float) -> str:
    return f"{100 * rate:g}"


def histogram_plot(histogram: Mapping[str, Sequence[float]], thresholds: Sequence[float], title: str) -> Plot:
    """The shares of target and non-target scores per bin.

    histogram: ``edges``, B + 1 ascending borders, ``targets`` and ``nontargets``, B counts each.
    thresholds: where scores that are log-likelihood ratios are decided; an arrow says that one is beyond the axis.
    """
    edges = histogram["edges"]
    shares = {key: _shares(histogram[key]) for key in ("nontargets", "targets")}
    highest = max(1.0, *(share for each in shares.values() for share in each))
    x = _Axis(edges[0], edges[-1], 300)
    y = _Axis(0, 1.2 * highest, 180, True)  # with room for a note on the threshold
    curves = []
    for key, name in (("nontargets", "non-target"), ("targets", "target")):
        points = [(x(at), y(share)) for pair, share in zip(pairwise(edges), shares[key], strict=True) for at in pair]
        area = _path([(0, y.size), *points, (x.size, y.size)]) + "Z"
        curves.append(Curve(name, _path([(0.0, y(0)), *points, (float(x.size), y(0))]), name, area))
    marks = [Mark(x(t), "Bayes threshold") for t in thresholds if edges[0] <= t <= edges[-1]]
    notes = [Note("start", f"\N{LEFTWARDS ARROW} threshold {t:.2f}") for t in thresholds if t < edges[0]]
    notes += [Note("end", f"threshold {t:.2f} \N{RIGHTWARDS ARROW}") for t in thresholds if t > edges[-1]]
    sides = x.side("score", round_values(x.low, x.high)), y.side("% of its kind", round_values(y.low, y.high, 5))
    return Plot(title, *sides, curves, marks, notes=notes)


def _shares(counts: Sequence[float]) -> list[float]:
    """Counts as shares of their sum, in per cent."""
    total = max(1.0, sum(counts))
    return [100 * count / total for count in counts]


def calibration_plot(curve: Mapping[str, Sequence[float]], log_odds: Sequence[float], title: str) -> Plot:
    """min and act DCF over the prior's log-odds.

    curve: ``log_odds``, ``min`` and ``act``, M numbers each. log_odds: of the priors of the evaluation, which are
    marked.
    """
    odds = curve["log_odds"]
    x, y = _Axis(odds[0], odds[-1], 300), _Axis(-0.04, 1.5, 180, True)  # a curve at 0 is seen
    curves = [
        Curve(name, _path((x(at), y(min(cost, 9.0))) for at, cost in zip(odds, curve[key], strict=True)), name)
        for key, name in (("act", "actual"), ("min", "minimum"))
    ]
    marks = [Mark(x(place), "evaluation's prior") for place in log_odds if odds[0] <= place <= odds[-1]]
    sides = x.side("log-odds of the prior", round_values(x.low, x.high)), y.side("DCF", (0, 0.5, 1, 1.5))
    return Plot(title, *sides, curves, marks, guides=f"M0 {y(1)}H{x.size}")


def open_set_plot(curves: Mapping[str, Mapping[str, Sequence[float]]], fpirs: Sequence[float], title: str) -> Plot:
    """The misses of systems over false positives, on an axis that is logarithmic.

    curves: name of the system -> ``fpir`` and ``fnir``, M rates of 0..1 each, false positives ascending.
    fpirs: where the tables tell the misses, which is marked.
    """
    smallest = min([rate for rates in curves.values() for rate in rates["fpir"] if rate > 0], default=1.0)
    x = _Axis(min([smallest, *fpirs]) / 2, 1, 330, scale=math.log10)
    merged = _merged({name: (tuple(rates["fpir"]), tuple(rates["fnir"])) for name, rates in curves.items()})
    highest = max(0.01, *(rate for _, fnir in merged for rate in fnir))
    y = _Axis(0, 105 * highest, 240, True)
    drawn = []
    for number, ((fpir, fnir), names) in enumerate(merged.items()):
        points = [(x(max(rate, x.low)), y(100 * miss)) for rate, miss in zip(fpir, fnir, strict=True)]
        corners = [corner for one, other in pairwise(points) for corner in ((one), (other[0], one[1]))]
        drawn.append(Curve(names, _path([*corners, points[-1]]), _kind(number)))
    decades = [10.0**power for power in range(-6, 1)]
    sides = (
        x.side("FPIR, % of the strangers", decades, _percent),
        y.side("FNIR, %", round_values(y.low, y.high)),
    )
    marks = [Mark(x(place), "FPIR of the tables") for place in fpirs]
    bands = [Band(x(smallest), "less than one stranger")] if x.low < smallest < 1 else []
    return Plot(title, *sides, drawn, marks, bands, chosen=True)


def match_plot(curves: Mapping[str, Sequence[float]], title: str) -> Plot:
    """The CMC of systems: name of the system -> share of 0..1 that is found so far up, from rank 1 on.

    Empty where nobody is listed for any segment: then none is found.
    """
    merged = _merged({name: tuple(shares) or (0.0,) for name, shares in curves.items()})
    last = max(2, *map(len, merged))
    lowest = min(min(shares) for shares in merged)
    x = _Axis(1, last, 330)
    y = _Axis(max(0.0, math.floor(20 * lowest - 0.2) * 5), 100, 240, True)
    drawn = [
        Curve(names, _path((x(rank), y(100 * share)) for rank, share in enumerate(shares, 1)), _kind(number))
        for number, (shares, names) in enumerate(merged.items())
    ]
    ranks = [value for value in round_values(1, last, 8) if value >= 1 and value == int(value)]
    sides = (
        x.side("rank", dict.fromkeys((1, *ranks))),
        y.side("% with the right person so far up", round_values(y.low, y.high)),
    )
    return Plot(title, *sides, drawn, chosen=True)


def training_curves(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG with a panel per figure of a training log, over the steps; shares of 0..1 and losses alike.

    entries: lines of the log, each with ``kind`` (train or validate), ``step``, ``epoch`` and figures. There is no date
    and no name of a program in it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name not in ("kind", "step", "epoch"):
                curves.setdefault((entry["kind"], name), []).append((entry["step"], value))
    columns = min(3, max(1, len(curves)))
    rows = max(1, -(-len(curves) // columns))
    figure = Figure(figsize=(3.6 * columns, 2.4 * rows), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for place, ((kind, name), points) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 60 else None, color="#2c6fb2", linewidth=1)
        axes.set_title(f"{kind}: {name}", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    """The figure as a PNG file without an alpha channel, packed as tightly as may be."""
    from PIL import Image as Picture

    drawn, stream = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    with Picture.open(drawn) as picture:
        picture.convert("RGB").save(stream, "PNG", optimize=True)
    return stream.getvalue()
