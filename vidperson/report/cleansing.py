"""The report on a training list that was cleansed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidperson.report import page
from vidperson.report.plots import Plot, histogram_plot
from vidperson.report.tables import Table, cell

Content = Mapping[str, Any]

WHY = {
    "not_like_class": "not like the others of its label, nor surely like another label",
    "like_other": "like the segments of another label",
    "duplicate": "the same as a segment with another label, and less like its own",
    "split": "alike among themselves, but not like the others: the label may be several persons",
    "no_items": "nothing was found in it: there is nothing to judge or to learn from",
}


def why(reason: str) -> str:
    """A reason in words."""
    modality, _, differs = reason.rpartition("_")
    return WHY.get(reason, f"only its {modality} is not that of its label" if differs == "differs" else reason)


def cleansing_page(summary: Content, shown: Mapping[str, Sequence[Content]], noisy: Table) -> str:
    """The whole file. summary: what results.json holds. noisy: the noisy segments, as many as a page can show, the
    likeliest to be wrong first.

    shown: reason -> noisy segments, each beside a good one of its label, or of the label that is proposed: segment,
    label, wrong, similarity (text), proposed; ``sides``, each title, segment, pictures (items of steps/pick_trials.py)
    and ``sound``, a WAV file or None.
    """
    share = 100 * summary["noisy"] / summary["segments"]
    labels, counts = label_table(summary), f"{summary['segments']} segments of {summary['labels']} labels"
    splits = [[each["label"], each["proposed"], str(each["segments"])] for each in summary["splits"]]
    merges = [[each["label"], each["other"], f"{100 * each['share']:.0f}"] for each in summary["merges"]]
    return page.render(
        "cleansing.html.j2",
        title=f"Cleansing of {summary['set']}",
        subtitle=f"{counts}; {summary['noisy']} ({share:.2f} %) noisy",
        reasons=reason_table(summary),
        modalities=modality_table(summary),
        notes=_notes(summary),
        histograms=_histograms(summary),
        labels=labels,
        splits=(["label", "proposed", "segments"], splits),
        merges=(["label", "other label", "alike, %"], merges),
        shown=[(f"{reason}: {why(reason)}", segments) for reason, segments in shown.items()],
        noisy=noisy,
        num_noisy=summary["noisy"],
    )


def reason_table(summary: Content) -> Table:
    """How many segments are noisy, and why."""
    rows = [[reason, str(count), why(reason)] for reason, count in summary["reasons"].items()]
    clean = summary["segments"] - summary["noisy"]
    return ["reason", "segments", "meaning"], [["clean", str(clean), "kept"], *rows]


def modality_table(summary: Content) -> Table:
    """What each modality knows."""
    head = ["modality", "embedder", "segments with it", "median similarity", "speaks for the label from", "wrong, %"]
    rows = []
    for modality, about in summary["modalities"].items():
        share = about.get("share_wrong")
        figures = [cell(about.get("median_similarity"), 3), cell(about.get("threshold"), 3)]
        rows.append(
            [
                modality,
                about["embedder"],
                str(about["known"]),
                *figures,
                cell(None if share is None else 100 * share, 2),
            ]
        )
    return head, rows


def _notes(summary: Content) -> list[str]:
    lines = ["The similarity is the cosine with the robust centre of the label, the segment itself left out."]
    if summary["not_judged"]:
        lines.append(f"{summary['not_judged']} segments are the only ones of their label: kept, not judged.")
    if summary["relabelled"]:
        lines.append(f"{summary['relabelled']} noisy segments are in the clean set, with another label.")
    if summary["labels_without_clean"]:
        lines.append(f"{len(summary['labels_without_clean'])} labels have no clean segment left.")
    return lines


def _histograms(summary: Content) -> list[Plot]:
    found = {name: about["histogram"] for name, about in summary["modalities"].items() if "histogram" in about}
    return [histogram_plot(histogram, (), f"Similarities of {name}") for name, histogram in found.items()]


def label_table(summary: Content) -> Table:
    """The labels with noisy segments, those with the largest share first."""
    reasons = list(summary["reasons"])
    rows = []
    for label, counts in summary["per_label"].items():
        total = sum(counts.values())
        if noisy := total - counts.get("clean", 0):
            figures = [str(counts.get(reason, 0)) for reason in reasons]
            rows.append((noisy / total, [label, str(total), str(noisy), f"{100 * noisy / total:.1f}", *figures]))
    rows.sort(key=lambda row: -row[0])
    return ["label", "segments", "noisy", "noisy, %", *reasons], [row for _, row in rows]
