"""Pictures of the report, as PNG files without date or program name: equal input gives equal bytes."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T", bound=Hashable)

MOST_PANELS = 18
"""Systems beyond these are left out of the figures with a panel per system."""

_TARGET, _NONTARGET, _LIMIT = "#2c6fb2", "#b2452c", "#444444"
_COLOURS = (
    "#2c6fb2",
    "#c8622c",
    "#3a8f4d",
    "#8a4fa3",
    "#b0963a",
    "#3aa0a8",
    "#c0487c",
    "#6b6b6b",
    "#7a5a3c",
    "#1f3d7a",
)
_RATES = (1e-5, 1e-4, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_DPI = 144


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    """The figure as a PNG file without an alpha channel, packed as tightly as may be."""
    from PIL import Image as Picture

    drawn, stream = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    with Picture.open(drawn) as picture:
        picture.convert("RGB").save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _panels(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with a panel per title, in rows of three at most."""
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    figure = _new_figure(6.0 if columns == 1 else 3.3 * columns, 2.8 if columns == 1 else 2.3 * rows)
    panels = []
    for place, title in enumerate(titles, 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.set_title(_plain(title), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        panels.append(axes)
    return figure, panels


def _plain(text: str) -> str:
    """Dollar signs in a name begin no formula."""
    return text.replace("$", r"\$")


def det_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """PNG with the DET curves of systems on axes of normal deviates; equal curves are drawn once.

    curves: name of the system -> ``p_miss`` and ``p_fa``, M rates of 0..1 each.
    """
    merged = _merged({name: (tuple(rates["p_miss"]), tuple(rates["p_fa"])) for name, rates in curves.items()})
    # Up to where the axes go: past 40 % only where a curve goes there, down to where the rates are resolved.
    smallest = min([rate for pair in merged for rates in pair for rate in rates if rate > 0], default=0.01)
    low = max(1e-6, min(0.004, smallest / 2))
    worst = max(min(max(pair) for pair in zip(*rates, strict=True)) for rates in merged)
    high = 0.95 if worst > 0.3 else 0.6
    deviate = NormalDist().inv_cdf

    figure = _new_figure(7.6, 4.7)
    axes = figure.add_subplot()
    shown = [rate for rate in _RATES if low <= rate <= high]
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks([deviate(rate) for rate in shown], [f"{100 * rate:g}" for rate in shown])
    axes.plot([deviate(low), deviate(high)], [deviate(low), deviate(high)], color="#bbbbbb", linewidth=0.8, zorder=0)
    for number, ((p_miss, p_fa), names) in enumerate(merged.items()):
        x, y = ([deviate(min(max(rate, low / 100), 1 - 1e-9)) for rate in rates] for rates in (p_fa, p_miss))
        axes.plot(x, y, **_line(number, names), clip_on=True)
    axes.set_xlim(deviate(low), deviate(high))
    axes.set_ylim(deviate(low), deviate(high))
    axes.set_aspect("equal")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("false alarms, %")
    axes.set_ylabel("misses, %")
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    return _png(figure)


def score_histograms(histograms: Mapping[str, Mapping[str, Sequence[float]]], thresholds: Sequence[float]) -> bytes:
    """PNG with a panel per system: the shares of target and non-target scores per bin.

    histograms: name of the system -> ``edges``, B + 1 ascending borders, ``targets`` and ``nontargets``, B counts each.
    thresholds: where scores that are log-likelihood ratios are decided; an arrow says that one is beyond the axis.
    """
    figure, panels = _panels(list(histograms))
    for axes, histogram in zip(panels, histograms.values(), strict=True):
        edges, highest = histogram["edges"], 1.0
        for name, key, colour in (("non-target", "nontargets", _NONTARGET), ("target", "targets", _TARGET)):
            counts = np.asarray(histogram[key], dtype=np.float64)
            share = 100 * counts / max(1.0, counts.sum())
            highest = max(highest, share.max())
            axes.stairs(share, edges, fill=True, alpha=0.35, color=colour)
            axes.stairs(share, edges, color=colour, linewidth=1, label=name)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.2 * highest)  # with room for a note on the threshold
        for threshold in thresholds:
            if edges[0] <= threshold <= edges[-1]:
                axes.axvline(threshold, color=_LIMIT, linewidth=1, linestyle="--", label="Bayes threshold")
            else:
                beyond = threshold > edges[-1]
                axes.annotate(
                    f"threshold {threshold:.2f} \N{RIGHTWARDS ARROW}"
                    if beyond
                    else f"\N{LEFTWARDS ARROW} {threshold:.2f}",
                    (1.0 if beyond else 0.0, 0.97),
                    xycoords="axes fraction",
                    ha="right" if beyond else "left",
                    va="top",
                    fontsize=7,
                    color=_LIMIT,
                )
        axes.set_xlabel("score", fontsize=8)
        axes.set_ylabel("% of its kind", fontsize=8)
    _legend(figure, panels)
    return _png(figure)


def open_set_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], fpirs: Sequence[float]) -> bytes:
    """PNG with the misses of systems over false positives, whose axis is logarithmic.

    curves: name of the system -> ``fpir`` and ``fnir``, M rates of 0..1 each, false positives ascending.
    fpirs: where the tables tell the misses, which is marked.
    """
    figure = _new_figure(5.4, 3.8)
    axes = _plain_axes(figure, "FPIR, % of the strangers", "FNIR, %")
    smallest = min([rate for rates in curves.values() for rate in rates["fpir"] if rate > 0], default=1.0)
    lowest = min(smallest, *fpirs) / 2
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:g}")
    merged = _merged({name: (tuple(rates["fpir"]), tuple(rates["fnir"])) for name, rates in curves.items()})
    for number, ((fpir, fnir), names) in enumerate(merged.items()):
        x = [max(rate, lowest) for rate in fpir]
        axes.step(x, [100 * rate for rate in fnir], where="post", clip_on=False, **_line(number, names))
    axes.axvspan(lowest, smallest, color="#f0f0f0", linewidth=0, label="less than one stranger")
    for place in fpirs:
        axes.axvline(place, color=_LIMIT, linewidth=0.8, linestyle=":", label="FPIR of the tables")
    axes.set_ylim(bottom=0)
    _legend(figure, [axes], 2)
    return _png(figure)


def match_curves(curves: Mapping[str, Sequence[float]]) -> bytes:
    """PNG with the CMC of systems: name of the system -> share of 0..1 that is found so far up, from rank 1 on."""
    figure = _new_figure(5.4, 3.8)
    axes = _plain_axes(figure, "rank", "% with the right person so far up")
    merged = _merged({name: tuple(shares) for name, shares in curves.items()})
    for number, (shares, names) in enumerate(merged.items()):
        ranks = range(1, len(shares) + 1)
        axes.plot(ranks, [100 * s for s in shares], marker="o", markersize=3, clip_on=False, **_line(number, names))
    axes.locator_params(axis="x", integer=True)
    low, high = axes.get_ylim()
    if high > 100:  # no share is larger; at 100 the line is drawn on the frame
        axes.set_ylim(min(low, 95), 100)
    _legend(figure, [axes], 2)
    return _png(figure)


def _plain_axes(figure: Figure, x_label: str, y_label: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _merged(curves: Mapping[str, T]) -> dict[T, list[str]]:
    """Each curve once, with the names of all systems that have it."""
    merged: dict[T, list[str]] = {}
    for name, curve in curves.items():
        merged.setdefault(curve, []).append(name)
    return merged


def _line(number: int, names: Sequence[str]) -> dict[str, Any]:
    """How a curve looks, and what it is called: all systems that have it."""
    style = ("-", "--", ":", "-.")[number // len(_COLOURS) % 4]
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": style,
        "linewidth": 1.4,
        "label": _plain("\n= ".join(names)),
    }


def calibration_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], log_odds: Sequence[float]) -> bytes:
    """PNG with a panel per system: min and act DCF over the prior's log-odds.

    curves: name of the system -> ``log_odds``, ``min`` and ``act``, M numbers each.
    log_odds: of the priors of the evaluation, which are marked.
    """
    figure, panels = _panels(list(curves))
    for axes, curve in zip(panels, curves.values(), strict=True):
        axes.axhline(1, color="#bbbbbb", linewidth=0.8)
        for place in log_odds:
            axes.axvline(place, color=_LIMIT, linewidth=0.8, linestyle=":", label="evaluation's prior")
        axes.plot(curve["log_odds"], curve["act"], color=_NONTARGET, linewidth=1.4, label="actual")
        axes.plot(curve["log_odds"], curve["min"], color=_TARGET, linewidth=1.4, linestyle="--", label="minimum")
        axes.set_xlim(curve["log_odds"][0], curve["log_odds"][-1])
        axes.set_ylim(-0.04, 1.5)  # a curve at 0 is seen
        axes.set_xlabel("log-odds of the prior", fontsize=8)
        axes.set_ylabel("DCF", fontsize=8)
    _legend(figure, panels)
    return _png(figure)


def _legend(figure: Figure, panels: Sequence[Axes], columns: int | None = None) -> None:
    """One legend above all panels, in one row or in rows of so many."""
    handles: dict[str, Artist] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(str(name), handle)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=columns or len(handles),
        frameon=False,
        fontsize=8,
    )


def training_curves(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG with a panel per figure of a training log, over the steps; shares of 0..1 and losses alike.

    entries: lines of the log, each with ``kind`` (train or validate), ``step``, ``epoch`` and figures.
    """
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name not in ("kind", "step", "epoch"):
                curves.setdefault((entry["kind"], name), []).append((entry["step"], value))
    columns = min(3, max(1, len(curves)))
    rows = max(1, -(-len(curves) // columns))
    figure = _new_figure(3.6 * columns, 2.4 * rows)
    for place, ((kind, name), points) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 60 else None, color="#2c6fb2", linewidth=1)
        axes.set_title(f"{kind}: {name}", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)
