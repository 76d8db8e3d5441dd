#!/usr/bin/env python3
"""Find which segments of a training set have a wrong label, and write the set without them.

Inputs:
  DATA/utt2spk, wav.scp, vid.scp or frames.scp
      a training set; utt2dur or vid2dur, where it is there, gives the durations of the list.
      Segments that are not in utt2spk have no label and are left out
  of each of VIEWS, quoted options of a modality:
    EMBED_DIR/PART/embed.scp    one (N, dim) float32 matrix per segment, an item per row; 0 rows is
                                legal: the other modalities decide
    ITEMS_DIR/PART/             what stage 2 found, where it is there: boxes that link tracks,
                                quality.scp that weighs items, crops.scp for the report
Outputs:
  OUTPUT_DIR/train_all_clean.txt
      <label> <path> <seconds> <audio similarity> <visual similarity> clean|noisy, a line a segment
  OUTPUT_DIR/decisions.tsv, relabel, results.json, results.txt, report.html
      docs/formats.md tells what they hold
  OUTPUT_DIR/vectors/<modality>/
      a vector of each segment; made again where its inputs change
  CLEAN_DATA/                   the data folder without the noisy segments

docs/metrics.md tells how it is decided. What is there, intact and of the same options and inputs is
kept. Memory is for a block of rows and a vector per label; the vectors of segments are mapped.

Example:
  view="--modality face --part vox2_train --embed-dir exp/face_embed/arcface_tiny"
  view+=" --items-dir exp/face_det/retinaface_tiny"
  steps/cleanse_list.py --data data/vox2_train --output-dir exp/cleanse/voxceleb/vox2_train \\
    --clean-data data/vox2_train_clean --views "$view"
"""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.parts import Part, listed_segments, segment_lists, segments_digest
from steps.score import RunOptions, log_each, need, require, to_make
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.backends.cleansing import Cleansed, View
    from vidperson.io.planned import Planned

SURE = 0.95
"""Probability of being of another label from which a segment gets it, with --relabel true."""
COLUMNS = ("segment", "label", "flag", "wrong", "reason", "proposed", "twin")
DURATIONS = ("utt2dur", "vid2dur")
CURE = "run stages 2 and 3 for the set"


@dataclass(frozen=True)
class ViewOptions:
    """A modality to judge by."""

    modality: str = cli.option(help="what is compared, as in the config variable modalities")
    embed_dir: Path = cli.option(help="folder with the embeddings of each part")
    part: str = cli.option(help="part of the set")
    items_dir: Path | None = cli.option(None, "folder with what stage 2 found in each part")


@dataclass(frozen=True)
class CleanseOptions:
    """The options of this step."""

    data: Path = cli.option(help="data folder of the training set")
    views: list[str] = cli.option(help="of each modality its options, quoted: --modality, --embed-dir ...")
    output_dir: Path = cli.option(help="folder of the results")
    clean_data: Path = cli.option(help="data folder to write")
    precision: float = cli.option(
        0.0, "wished share of wrong ones among the noisy; 0: what is likelier wrong", convert=cli.unit
    )
    duplicate: float = cli.option(0.98, "cosine from which two of different labels are the same", convert=cli.unit)
    relabel: bool = cli.option(False, "keep what surely is of another label, with that label")
    link_cosine: float = cli.option(0.3, "lowest cosine of successive items of a track", convert=cli.cosine)
    run: RunOptions = cli.group(RunOptions)

    @cached_property
    def viewed(self) -> list[ViewOptions]:
        return [cli.parse(ViewOptions, None, shlex.split(word)) for word in self.views]


def cleanse_list(options: CleanseOptions) -> None:
    """See the top of this file.

    Raises ScoringError for embeddings that are missing or of other items than stage 2's, for segments without them,
    and where nothing could be judged or nothing is clean; DataError for lists that are malformed or edited.
    """
    from steps.cleanse_report import write_report
    from vidperson.errors import ScoringError
    from vidperson.io.lines import write_lines

    need(options.data / "utt2spk", "run ./run_001_prepare_data.sh")
    if options.clean_data.resolve() == options.data.resolve():
        raise ScoringError(f"clean_data: expected another folder than {options.data}, which would be overwritten")
    modalities = [view.modality for view in options.viewed]
    if len(set(modalities)) < len(modalities):
        raise ScoringError(f"modalities: expected different ones, found {' '.join(modalities)}")
    parts = [
        Part(view.part, [view.embed_dir], view.items_dir, view.modality, options.link_cosine) for view in options.viewed
    ]
    planned = plan(options, parts)
    if not to_make(list(planned.values()), options.run):
        return
    for one in planned.values():
        one.remove()
    listed = Listed.read(options.data)
    views = [
        read_view(options.output_dir / "vectors" / modality, modality, part, listed.segments)
        for modality, part in zip(modalities, parts, strict=True)
    ]
    decisions = decide(listed, views, options)
    decisions.write(planned["decisions.tsv"].target, planned["relabel"].target)
    write_list(planned["train_all_clean.txt"].target, decisions)
    write_clean_data(options, decisions)
    summary = decisions.summary(options)
    write_report(options.output_dir, summary, decisions, options)
    lines = said(summary, options.relabel)
    write_lines(planned["results.txt"].target, lines)
    for one in planned.values():
        one.note()
    print("\n".join(lines))


def plan(options: CleanseOptions, parts: Sequence[Part]) -> dict[str, Planned]:
    """Each output with what decides its content."""
    from vidperson.io.data_dir import lists_for_subset
    from vidperson.io.planned import Planned

    command = ["python", "steps/cleanse_list.py", "--data", str(options.data)]
    for view in options.viewed:
        command += ["--modality", view.modality, "--embed-dir", str(view.embed_dir), "--part", view.part]
    command += ["--precision", f"{options.precision:g}", "--duplicate", f"{options.duplicate:g}"]
    command += ["--relabel", str(options.relabel).lower(), "--link-cosine", f"{options.link_cosine:g}"]
    lists = [options.data / "utt2spk", *lists_for_subset(options.data)]
    inputs = list(dict.fromkeys([*lists, *(path for part in parts for path in part.inputs)]))
    names = ("decisions.tsv", "relabel", "train_all_clean.txt", "results.json", "results.txt", "report.html")
    targets = {name: options.output_dir / name for name in names} | {"utt2spk": options.clean_data / "utt2spk"}
    return {name: Planned(target, command, inputs) for name, target in targets.items()}


@dataclass(frozen=True)
class Listed:
    """The segments of a training set that have a label, in C-locale order. labels: in C-locale order."""

    data: Path
    segments: list[str]
    labels: list[str]
    label_of: dict[str, str]

    @classmethod
    def read(cls, data: Path) -> Listed:
        """Raises DataError for malformed lists, ScoringError for a set without labels."""
        from vidperson.errors import ScoringError
        from vidperson.io.lines import read_scp, sort_key

        label_of = read_scp(data / "utt2spk")
        segments = listed_segments(data)
        unlabelled = [segment for segment in segments if segment not in label_of]
        log_each(unlabelled, logging.info, "segment without a label: left out")
        segments = [segment for segment in segments if segment in label_of]
        if not segments:
            raise ScoringError(f"{data / 'utt2spk'}: expected labels of the segments of {data}, found none")
        return cls(data, segments, sorted({label_of[name] for name in segments}, key=sort_key), label_of)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Of the first list of durations that there is. Raises DataError for a malformed one."""
        from vidperson.io.data_dir import read_durations

        path = next((self.data / name for name in DURATIONS if (self.data / name).is_file()), None)
        return {} if path is None else read_durations(path)

    @cached_property
    def paths(self) -> dict[str, str]:
        """Of the first scp that there is, sounds first."""
        from vidperson.io.lines import read_scp

        lists = segment_lists(self.data)
        return read_scp(next((path for path in lists if path.name == "wav.scp"), lists[0]))


def read_view(folder: Path, modality: str, part: Part, segments: Sequence[str]) -> View:
    """A vector of the main track of each segment that has items; prepared in a folder, where it is not there yet.

    Raises ScoringError for segments without embeddings, DataError for damaged ones.
    """
    import numpy as np

    from vidperson.backends.cleansing import View
    from vidperson.io.mapped import MappedRows
    from vidperson.io.record import checked
    from vidperson.training.clips import ClipWriter, read_prepared

    require(segments, set(part.segments()), f"segments of the set are not in {part.embed[0]}", CURE)
    size = MappedRows(checked(part.embed[0] / "embed.scp"), segments).columns
    if not size:
        return View(modality, np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
    words = ["cleanse_list", "vectors", f"{part.link_cosine:g}", part.name, segments_digest(segments)]
    if (prepared := read_prepared(folder, size, words, part.inputs)) is None:
        nothing, weightless = np.zeros(0, np.int64), np.zeros(0)
        with ClipWriter(folder, words, part.inputs) as writer:
            for number, (_, pooled, _) in enumerate(part.pooled(segments, {})):
                if pooled.main is not None:
                    writer.add(0, number, pooled.vectors[pooled.main], nothing, weightless)
        prepared = read_prepared(folder, size, words, part.inputs)
        assert prepared is not None
    without = len(segments) - len(prepared)
    logging.info("%s: %d of %d segments have no item", modality, without, len(segments))
    return View(modality, prepared.number, prepared.vectors)


@dataclass(frozen=True)
class Decisions:
    """What was found of each listed segment. reasons: of each, "" for what is clean and could be judged."""

    listed: Listed
    modalities: list[str]
    found: Cleansed
    reasons: list[str]
    relabelled: dict[str, str]

    def proposal(self, row: int) -> str:
        """The label that a noisy segment may have; "" where nothing is proposed."""
        from vidperson.backends import cleansing

        listed, found = self.listed, self.found
        label = listed.label_of[listed.segments[row]]
        if self.reasons[row] == cleansing.LIKE_OTHER:
            return listed.labels[found.nearest[row]]
        if self.reasons[row] == cleansing.DUPLICATE:
            return listed.label_of[listed.segments[found.twin[row]]]
        return f"{label}-{found.group[row] + 1}" if self.reasons[row] == cleansing.SPLIT else ""

    def kept(self) -> dict[str, str]:
        """Segment -> label, of the clean data folder."""
        rows = zip(self.listed.segments, self.found.noisy.tolist(), strict=True)
        return {name: self.listed.label_of[name] for name, noisy in rows if not noisy} | self.relabelled

    def write(self, table: Path, relabel: Path) -> None:
        """A line per segment; and the segments for which another label is proposed."""
        from vidperson.io.lines import write_lines

        write_lines(table, self._lines())
        rows = zip(self.listed.segments, map(self.proposal, range(len(self.reasons))), self.reasons, strict=True)
        labels = self.listed.label_of
        write_lines(relabel, (f"{name} {labels[name]} {other} {reason}" for name, other, reason in rows if other))

    def _lines(self) -> Iterator[str]:
        found = self.found
        yield "\t".join([*COLUMNS, *(f"{modality}_similarity" for modality in self.modalities)])
        for row, segment in enumerate(self.listed.segments):
            similarity = ["-" if value != value else f"{value:.4f}" for value in found.similarity[row].tolist()]
            twin = self.listed.segments[found.twin[row]] if found.twin[row] >= 0 else "-"
            flag = "noisy" if found.noisy[row] else "clean"
            known = [segment, self.listed.label_of[segment], flag, f"{1 - found.judged.right[row]:.4f}"]
            yield "\t".join([*known, self.reasons[row] or "-", self.proposal(row) or "-", twin, *similarity])

    def summary(self, options: CleanseOptions) -> dict[str, Any]:
        """What results.json holds."""
        listed, found = self.listed, self.found
        counts = Counter(reason for reason, noisy in zip(self.reasons, found.noisy, strict=True) if noisy)
        of_label: dict[str, Counter[str]] = {label: Counter() for label in listed.labels}
        for segment, reason, noisy in zip(listed.segments, self.reasons, found.noisy, strict=True):
            of_label[listed.label_of[segment]][reason if noisy else "clean"] += 1
        return {
            "set": options.data.name,
            "segments": len(listed.segments),
            "labels": len(listed.labels),
            "noisy": int(found.noisy.sum()),
            "relabelled": len(self.relabelled),
            "limit": round(min(found.limit, 1.0), 6),
            "reasons": dict(sorted(counts.items())),
            "not_judged": sum(reason == "not_judged" for reason in self.reasons),
            "modalities": {view.modality: self._about(view) for view in options.viewed},
            "labels_without_clean": [label for label, each in of_label.items() if not each["clean"]],
            "splits": self._splits(),
            "merges": [
                {"label": listed.labels[a], "other": listed.labels[b], "share": round(share, 4)}
                for a, b, share in found.merges
            ],
            "per_label": {label: dict(sorted(each.items())) for label, each in of_label.items()},
        }

    def _about(self, options: ViewOptions) -> dict[str, Any]:
        import numpy as np

        about: dict[str, Any] = {"embedder": options.embed_dir.name, "known": 0}
        if options.modality not in self.modalities:
            return about
        view = self.modalities.index(options.modality)
        calibration = self.found.calibrations[view]
        similarity = self.found.similarity[:, view]
        there = similarity[np.isfinite(similarity)]
        about |= {
            "known": int(self.found.known[:, view].sum()),
            "median_similarity": round(float(np.median(there)), 4) if len(there) else None,
            "share_wrong": None,
            "threshold": None,
        }
        if calibration is not None:
            about |= {"share_wrong": round(calibration.share, 4), "threshold": calibration.threshold()}
            about["histogram"] = calibration.histogram()
        return about

    def _splits(self) -> list[dict[str, Any]]:
        counts = Counter(
            (self.listed.label_of[self.listed.segments[row]], int(self.found.group[row]))
            for row in range(len(self.reasons))
            if self.found.group[row]
        )
        return [
            {"label": label, "proposed": f"{label}-{group + 1}", "segments": n}
            for (label, group), n in sorted(counts.items())
        ]


def decide(listed: Listed, views: Sequence[View], options: CleanseOptions) -> Decisions:
    """Raises ScoringError where no segment has an item, or none is clean."""
    import numpy as np

    from vidperson.backends import cleansing
    from vidperson.errors import ScoringError

    views = [view for view in views if len(view.rows)]
    modalities = [view.modality for view in options.viewed]
    for modality in [name for name in modalities if name not in {view.name for view in views}]:
        logging.warning("%s: no segment has any item: it tells nothing", modality)
    if not views:
        raise ScoringError(f"no segment of {options.data} has an item: there is nothing to judge by")
    place = {label: i for i, label in enumerate(listed.labels)}
    classes = np.array([place[listed.label_of[name]] for name in listed.segments], np.int64)
    precision = options.precision or None
    found = cleansing.cleanse(classes, len(listed.labels), views, precision, options.duplicate)
    names = [view.name for view in views]
    reasons = [found.reason(row, names) for row in range(len(classes))]
    relabelled = {}
    if options.relabel:
        sure = np.flatnonzero(found.noisy & (found.judged.other >= SURE) & (found.twin < 0))
        relabelled = {listed.segments[row]: listed.labels[found.nearest[row]] for row in sure.tolist()}
    if found.noisy.all() and not relabelled:
        raise ScoringError(f"{options.data}: all segments are noisy; are the embeddings of another set?")
    return Decisions(listed, names, found, reasons, relabelled)


def write_list(path: Path, decisions: Decisions) -> None:
    """The list with six columns, in the order of the segments."""
    from vidperson.corpora.voxceleb import CleansedRow, listed_path, write_cleansed_list

    listed, found = decisions.listed, decisions.found

    def row(number: int, segment: str) -> CleansedRow:
        values = zip(decisions.modalities, found.similarity[number].tolist(), strict=True)
        similarity = {modality: value for modality, value in values if value == value}
        where = listed_path(segment, listed.paths[segment])
        noisy = bool(found.noisy[number])
        return CleansedRow(listed.label_of[segment], where, listed.seconds.get(segment), similarity, noisy)

    write_cleansed_list(path, (row(number, segment) for number, segment in enumerate(listed.segments)))


def write_clean_data(options: CleanseOptions, decisions: Decisions) -> None:
    """The data folder without the noisy segments."""
    from vidperson.io.data_dir import write_subset

    write_subset(options.data, options.clean_data, decisions.kept())


def said(summary: dict[str, Any], relabel: bool) -> list[str]:
    """What results.txt and the log say in the end. relabel: segments may get another label."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items())
    lines = [f"{summary['set']}: {summary['noisy']} of {summary['segments']} segments are noisy"]
    lines[0] += f" ({reasons})" if reasons else ""
    if relabel:
        lines.append(f"{summary['relabelled']} of these are kept, under a label that is theirs with {SURE} or more")
    if summary["not_judged"]:
        lines.append(f"{summary['not_judged']} segments are the only ones of their labels: they are kept, not judged")
    if summary["labels_without_clean"]:
        lines.append(f"{len(summary['labels_without_clean'])} of {summary['labels']} labels have no clean segment left")
    if summary["splits"] or summary["merges"]:
        groups = f"{len(summary['splits'])} groups may be persons of their own"
        lines.append(f"{groups}, {len(summary['merges'])} pairs of labels one person")
    return lines


if __name__ == "__main__":
    cli.run(cleanse_list, CleanseOptions, __doc__)
