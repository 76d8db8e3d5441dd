"""The report on a training list that was cleansed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vidperson.report import html
from vidperson.report.plots import score_histograms
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
    """The whole file. summary: what results.json holds. shown: reason -> segments, see :func:`card`.

    noisy: the noisy segments, the likeliest to be wrong first, as many as a page can show.
    """
    share = 100 * summary["noisy"] / summary["segments"]
    subtitle = f"{summary['segments']} segments of {summary['labels']} labels; {summary['noisy']} ({share:.2f} %) noisy"
    sections = [
        html.Section(
            "Summary", [html.table(reason_table(summary)), html.table(modality_table(summary)), *_notes(summary)]
        ),
        html.Section("Similarities", _histograms(summary)),
        html.Section("Labels", _labels(summary)),
        html.Section("Segments", [*_cards(shown), html.searchable("Noisy", noisy, summary["noisy"], "decisions.tsv")]),
    ]
    return html.page(f"Cleansing of {summary['set']}", subtitle, sections)


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
    return [html.note(line) for line in lines]


def _histograms(summary: Content) -> list[str]:
    found = {name: about["histogram"] for name, about in summary["modalities"].items() if "histogram" in about}
    if not found:
        return [html.note("No modality could tell right from wrong.")]
    caption = "Similarity to the centre of the own label (target) and to those of other labels (non-target)."
    return [html.figure(caption, score_histograms(found, ()))]


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


def _labels(summary: Content) -> list[str]:
    content = label_table(summary)
    parts = [html.searchable("Labels with noisy segments", content, len(content[1]), "results.json")]
    if summary["splits"]:
        rows = [[each["label"], each["proposed"], str(each["segments"])] for each in summary["splits"]]
        parts += [html.heading("May be several persons"), html.table((["label", "proposed", "segments"], rows))]
    if summary["merges"]:
        rows = [[each["label"], each["other"], f"{100 * each['share']:.0f}"] for each in summary["merges"]]
        parts += [html.heading("May be one person"), html.table((["label", "other label", "alike, %"], rows))]
    return parts


def _cards(shown: Mapping[str, Sequence[Content]]) -> list[str]:
    parts = []
    for reason, segments in shown.items():
        parts.append(html.heading(f"{reason}: {why(reason)}"))
        parts.append('<div class="trials">\n' + "\n".join(map(card, segments)) + "\n</div>")
    return parts


def card(content: Content) -> str:
    """A noisy segment beside a good one of its label, or of the label that is proposed.

    content: segment, label, wrong, similarity (text), proposed; ``sides``, each title, segment, pictures as of
    ``html.item`` and, where there is one, ``sound``, a WAV file.
    """
    text = f"{escape(content['segment'])}, labelled {escape(content['label'])}<br>wrong <b>{content['wrong']:.3f}</b>"
    text += f" \N{MIDDLE DOT} {escape(content['similarity'])}"
    if content["proposed"]:
        text += f" \N{MIDDLE DOT} proposed: {escape(content['proposed'])}"
    sides = "".join(f"<div>{_side(side)}</div>" for side in content["sides"])
    return f'<article class="trial"><p>{text}</p><div class="pair">{sides}</div></article>'


def _side(side: Content) -> str:
    parts = [html.item(side["title"], picture) for picture in side["pictures"]]
    parts = parts or [f"<p>{escape(side['title'])}: {escape(side['segment'])}</p>"]
    return "".join([*parts, html.sound(side["sound"]) if side["sound"] else ""])
