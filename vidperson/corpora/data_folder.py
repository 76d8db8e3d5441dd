"""Write a Kaldi data folder, and turn any name into a legal id."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidperson.errors import DataError
from vidperson.io.lines import sort_key, write_lines
from vidperson.io.lists import LabelledBox

log = logging.getLogger(__name__)

SHOWN = 5
WRITTEN = (
    *("vid.scp", "frames.scp", "wav.scp", "utt2spk", "spk2utt", "face_boundingbox", "face_boundingbox_conf"),
    *("trials", "trial_partitions", "search", "utt2group", "relevant", "region", "names", "utt2dur"),
    *("vid2dur", "vid2pixels", "vid2taken"),
)
EVERY_SEGMENT = "all"  # the group of a searched set that has only one
_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Segment:
    """One video, image or utterance: its id, its files, and the model it belongs to.

    path: what is seen; "" in a set of sounds only.
    model: of a set with trials the segment's own id; "" for none that is known, as of a stranger.
    group: of a searched set: the segments that are searched together, such as those of one film.
    region: x1 y1 x2 y2 in pixels, what counts of the picture; None: all of it.
    sound: a sound file, or a video of which the sound track is meant; "" in a set without sound.
    seconds: how long the sound is, where that is known.
    """

    id: str
    path: str | Path
    model: str = ""
    group: str = EVERY_SEGMENT
    region: tuple[float, float, float, float] | None = None
    sound: str | Path = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Search:
    """What is searched for in a set.

    models: searched for.
    relevant: model -> the segments that show it, strangers in none; None where the truth is not known.
    groups: model -> the groups of segments that it is searched in; for a model that is not there, EVERY_SEGMENT.
    """

    models: Collection[str]
    relevant: Mapping[str, Collection[str]] | None = None
    groups: Mapping[str, Collection[str]] = field(default_factory=dict)

    def groups_of(self, model: str) -> Collection[str]:
        """The groups that a model is searched in."""
        return self.groups.get(model, (EVERY_SEGMENT,))

    def check(self, segments: Iterable[Segment], folder: Path) -> None:
        """Raises DataError for a group without segments, and for a relevant segment that is not searched."""
        group_of = {segment.id: segment.group for segment in segments}
        groups, models = set(group_of.values()), set(self.models)
        for model in self.groups:
            if model not in models:
                raise DataError(f"model '{model}' has groups, but is not searched for", folder)
        for model in self.models:
            for group in self.groups_of(model):
                if group not in groups:
                    raise DataError(f"group '{group}', which model '{model}' is searched in, has no segment", folder)
        for model, own in (self.relevant or {}).items():
            if model not in models:
                raise DataError(f"model '{model}' has relevant segments, but is not searched for", folder)
            for segment in own:
                if group_of.get(segment, "") not in self.groups_of(model):
                    raise DataError(f"segment '{segment}' is in no group that model '{model}' is searched in", folder)

    def lists(self, segments: Iterable[Segment]) -> dict[str, Iterable[str]]:
        """Lines of `search`, `utt2group` and `relevant`."""
        lists: dict[str, Iterable[str]] = {
            "search": (f"{model} {group}" for model in self.models for group in self.groups_of(model)),
            "utt2group": (f"{segment.id} {segment.group}" for segment in segments),
        }
        if self.relevant is not None:
            lists["relevant"] = (f"{model} {segment}" for model, own in self.relevant.items() for segment in own)
        return lists


@dataclass(frozen=True)
class AllPairs:
    """A trial for each pair of a model and a segment, without an object for each.

    targets: model -> its target segments; None where there is no key.
    """

    models: Sequence[str]
    segments: Sequence[str]
    targets: Mapping[str, Collection[str]] | None = None

    def __len__(self) -> int:
        return len(self.models) * len(self.segments)

    def lines(self) -> Iterator[str]:
        """Lines of `trials` in the order of the C locale."""
        segments = sorted(self.segments, key=sort_key)
        for model in sorted(self.models, key=sort_key):
            if self.targets is None:
                yield from (f"{model} {segment}" for segment in segments)
            else:
                own = self.targets.get(model, ())
                yield from (f"{model} {s} {'target' if s in own else 'nontarget'}" for s in segments)


@dataclass(frozen=True)
class PairsOfSources:
    """A trial for each two segments of different sources, the first in the order of the C locale being the model.

    segments: segment -> its person and its source, such as the recording that it was cut from. Two segments of a
        person are a target trial.
    """

    segments: Mapping[str, tuple[str, str]]

    def __len__(self) -> int:
        def pairs(count: int) -> int:
            return count * (count - 1) // 2

        return pairs(len(self.segments)) - sum(map(pairs, Counter(self.segments.values()).values()))

    def lines(self) -> Iterator[str]:
        """Lines of `trials` in the order of the C locale."""
        ids = sorted(self.segments, key=sort_key)
        for place, model in enumerate(ids, 1):
            own = self.segments[model]
            for segment in ids[place:]:
                other = self.segments[segment]
                if other != own:
                    yield f"{model} {segment} {'target' if other[0] == own[0] else 'nontarget'}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A pair to score.

    is_target: None where there is no key.
    partition: the part of the trial list to which it belongs, where metrics weigh the parts equally; "" for none.
    """

    model: str
    segment: str
    is_target: bool | None = None
    partition: str = ""


def safe_id(name: str) -> str:
    """A legal id close to ``name``; may be empty, and two names may share it (see :func:`unique_ids`).

    Accents are dropped, everything but ASCII letters, digits, ``.``, ``_`` and ``-`` becomes ``_``, runs of
    ``_`` become one, and ``.``, ``_``, ``-`` at the ends go.
    """
    decomposed = unicodedata.normalize("NFKD", name)
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9._-]", "_", bare)).strip("._-")


def unique_ids(wished: Mapping[str, str], taken: Collection[str] = ()) -> dict[str, str]:
    """Original name -> id, from original name -> wished id.

    A wished id that is empty, ``taken``, or wished for by several names gets ``-`` and the first 8
    hexadecimal digits of the SHA-256 of the name, so an id depends on what it clashes with but
    never on the order.

    Raises DataError if ids still clash.
    """
    count = Counter([*wished.values(), *taken])
    ids: dict[str, str] = {}
    owner = dict.fromkeys(taken, "")
    for name, wish in wished.items():
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        unique = wish if wish and count[wish] == 1 else f"{wish}-{digest}".lstrip("-")
        if unique in owner:
            raise DataError(f"'{name}' and '{owner[unique]}' both get the id '{unique}'; rename one")
        owner[unique] = name
        ids[name] = unique
    return ids


def report_missing(segments: Sequence[Segment], source: str | os.PathLike[str]) -> None:
    """Warn of segments without a file; they stay in the list and end as `unreadable` in stage 2.

    source: the list that names the segments. Raises DataError when no segment at all has its file.
    """
    missing = [s.path for s in segments if not os.path.isfile(s.path)]
    hint = "is the data folder of the release beside its docs folder?"
    report_missing_paths(missing, len(segments), "media files", source, hint)


def report_missing_paths(
    missing: Sequence[str | Path], total: int, what: str, source: str | os.PathLike[str], hint: str
) -> None:
    """Warn of those of ``total`` files, called ``what``, that are missing.

    source: the list that names them. hint: for the message of the DataError that is raised when all are missing.
    """
    if not missing:
        return
    message = f"{len(missing)} of {total} {what} are missing: {shortened(missing)}"
    if len(missing) == total:
        raise DataError(f"{message}; {hint}", source)
    log.warning("%s: %s", os.fspath(source), message)


def check_path(path: str | Path) -> None:
    """Refuse a path that a line of a list cannot hold; DataError names it in escaped form."""
    text = str(path)
    if text != text.strip() or _NOT_IN_A_LINE.search(text):
        raise DataError(
            f"file name {text!r}: a list cannot hold line breaks, control characters, bytes that are "
            "not UTF-8, or blanks at an end; rename the file or folder"
        )


def has_area(box: tuple[float, float, float, float]) -> bool:
    """Whether x1 y1 x2 y2 are finite numbers, and those of a box."""
    x1, y1, x2, y2 = box
    return all(map(math.isfinite, box)) and x1 < x2 and y1 < y2


def shortened(items: Sequence[object]) -> str:
    """The first few items for a message."""
    return ", ".join(str(item) for item in items[:SHOWN]) + (", ..." if len(items) > SHOWN else "")


def write_data_folder(
    folder: str | os.PathLike[str],
    segments: Sequence[Segment],
    *,
    boxes: Mapping[str, Sequence[LabelledBox]] | None = None,
    box_unit: str = "",
    trials: Sequence[Trial] | AllPairs | PairsOfSources = (),
    search: Search | None = None,
    names: Mapping[str, str] | None = None,
    scp: str = "vid.scp",
) -> Path:
    """Write scps, utt2spk, spk2utt and what else is given, C-locale sorted; lists of an earlier run go.

    The scps are removed first and written last: a folder of which only a part was written is not valid.

    segments: at least one, ids unique and legal. Those without a model are not in utt2spk. All have a path or none,
        all have a sound (then written as `wav.scp`) or none. What is known of their seconds goes to `utt2dur`.
    boxes: segment id -> labels, written as `face_boundingbox`.
    box_unit: the line of `face_boundingbox_conf`, `seconds <frames>` or `frames <frames>`: the unit of the
        labels' positions and the default window in frames.
    trials: unique pairs, all with a key or all without, and all with a partition (then written as
        `trial_partitions`) or all without.
    search: what is searched for, of a set without trials; written as `search`, `utt2group` and `relevant`.
    names: id -> original name, written as `names`.
    scp: name of the list of what is seen: `vid.scp`, or `frames.scp` where they are folders of aligned faces.

    Regions of segments are written as `region`. Returns the folder. Raises DataError, before anything is written,
    for no segments, an id that is there twice, a path that a list cannot hold, paths or sounds that only some
    segments have, a region without area, a search that does not fit the segments, or a set without search in which no
    segment has a model.
    """
    folder = Path(folder)
    segments = sorted(segments, key=lambda s: s.id.encode())
    _check_segments(folder, segments)
    if search is not None:
        search.check(segments, folder)
    by_model: dict[str, list[str]] = {}
    for segment in segments:
        if segment.model:
            by_model.setdefault(segment.model, []).append(segment.id)
    if not by_model and search is None:
        raise DataError("no segment has a model", folder)

    lists: dict[str, Iterable[str]] = {}
    if by_model:
        lists["spk2utt"] = (" ".join([model, *ids]) for model, ids in by_model.items())
    if boxes is not None:
        lists["face_boundingbox"] = (
            f"{segment} {' '.join(f'{v:.10g}' for v in (label.position, *label.box))}"
            for segment, labels in boxes.items()
            for label in labels
        )
        lists["face_boundingbox_conf"] = [box_unit]
    if isinstance(trials, AllPairs | PairsOfSources):
        lists["trials"] = trials.lines()
    elif trials:
        key = {None: "", True: " target", False: " nontarget"}
        lists["trials"] = (f"{t.model} {t.segment}{key[t.is_target]}" for t in trials)
        if trials[0].partition:
            lists["trial_partitions"] = (f"{t.model} {t.segment} {t.partition}" for t in trials)
    if search is not None:
        lists |= search.lists(segments)
    if names is not None:
        lists["names"] = (f"{unique} {original}" for unique, original in names.items())
    of_segments = _lists_of_segments(segments, scp)
    in_order = {*of_segments, *(() if isinstance(trials, Sequence) else ("trials",))}

    remove_lists(folder)
    for name, lines in (lists | of_segments).items():
        write_lines(folder / name, lines if name in in_order else sorted(set(lines), key=sort_key))
    of_models = sum(map(len, by_model.values()))
    message = "%s: %d models, %d segments, %d of them of no known model; %d trials, %d models to search for"
    searched = () if search is None else search.models
    log.info(message, folder, len(by_model), len(segments), len(segments) - of_models, len(trials), len(searched))
    return folder


def write_empty_folder(folder: str | os.PathLike[str]) -> Path:
    """Write lists without any line: the enrolment set where there is no portrait. Returns the folder."""
    remove_lists(folder)
    for name in ("names", "spk2utt", "utt2spk", "vid.scp"):
        write_lines(Path(folder, name), ())
    return Path(folder)


def _check_segments(folder: Path, segments: Sequence[Segment]) -> None:
    """Raises DataError for segments, in the order of their ids, that no data folder can hold."""
    if not segments:
        raise DataError("no segments", folder)
    first = segments[0]
    for before, segment in zip((None, *segments), segments, strict=False):
        if before is not None and before.id == segment.id:
            raise DataError(f"segment '{segment.id}' appears twice", folder)
        for what, path, other in (("path", segment.path, first.path), ("sound", segment.sound, first.sound)):
            if bool(path) != bool(other):
                with_it, without = (segment.id, first.id) if path else (first.id, segment.id)
                raise DataError(f"segment '{without}' has no {what}, but '{with_it}' has one", folder)
            if path:
                check_path(path)
        if not segment.path and not segment.sound:
            raise DataError(f"segment '{segment.id}' has neither a path nor a sound", folder)
        if segment.region is not None and not has_area(segment.region):
            raise DataError(f"segment '{segment.id}': expected x1 < x2 and y1 < y2, found {segment.region}", folder)


def _lists_of_segments(segments: Sequence[Segment], scp: str) -> dict[str, Iterable[str]]:
    """Lists with at most a line per segment, in order as the segments are; the scps last."""
    lists: dict[str, Iterable[str]] = {}
    if any(segment.model for segment in segments):
        lists["utt2spk"] = (f"{s.id} {s.model}" for s in segments if s.model)
    if any(segment.region for segment in segments):
        lists["region"] = (f"{s.id} {' '.join(f'{v:.10g}' for v in s.region)}" for s in segments if s.region)
    if any(segment.seconds is not None for segment in segments):
        lists["utt2dur"] = (f"{s.id} {s.seconds:.10g}" for s in segments if s.seconds is not None)
    if segments[0].sound:
        lists["wav.scp"] = (f"{s.id} {s.sound}" for s in segments)
    if segments[0].path:
        lists[scp] = (f"{s.id} {s.path}" for s in segments)
    return lists


def remove_lists(folder: str | os.PathLike[str]) -> None:
    """Remove all that :func:`write_data_folder` writes: of a set that is not made any more, nothing must be used."""
    for name in WRITTEN:
        Path(folder, name).unlink(missing_ok=True)
