"""Pictures of the report, as PNG files without date or program name: equal input gives equal bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def score_histogram(edges: Sequence[float], targets: Sequence[int], nontargets: Sequence[int]) -> bytes:
    """PNG with the shares of target and non-target scores per bin.

    edges: B + 1 ascending bin borders. targets, nontargets: B counts each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, counts, colour in (("non-target", nontargets, "#b2452c"), ("target", targets, "#2c6fb2")):
        share = 100 * np.asarray(counts, dtype=np.float64) / max(1, sum(counts))
        axes.stairs(share, edges, fill=True, alpha=0.45, color=colour)
        axes.stairs(share, edges, color=colour, label=f"{name} ({sum(counts)})")
    axes.set_xlabel("score")
    axes.set_ylabel("% of the trials of its kind")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def training_curves(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG with a panel per figure of a training log, over the steps; shares of 0..1 and losses alike.

    entries: lines of the log, each with ``kind`` (train or validate), ``step``, ``epoch`` and figures.
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
    figure = Figure(figsize=(3.6 * columns, 2.4 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for place, ((kind, name), points) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 60 else None, color="#2c6fb2", linewidth=1)
        axes.set_title(f"{kind}: {name}", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
