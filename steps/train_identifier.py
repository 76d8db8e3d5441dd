#!/usr/bin/env python3
"""Train an identifier: a network from the vector of a track to a score for each person.

Inputs, for each set in TRAIN_DATA (a data folder), with its part in TRAIN_PARTS:
  TRAIN_DATA/utt2spk
      <segment> <person>; other segments of the set show no known person: they are strangers
  EMBED_DIRS/<part>/embed.scp
      one (N, dim) float32 matrix per segment, an item per row; 0 rows is legal. Several folders are
      several embedders of the same items; their vectors stand side by side
  ITEMS_DIR/<part>/
      what stage 2 found: frames and boxes of the items, which link tracks; quality.scp or
      weights.scp, which weigh them, where they are there
VALID_DATA, VALID_PART are optional: a set that is searched, with `relevant` (<person> <segment>).
After every epoch the mean average precision of the best 100 segments per person is measured on it.
Outputs, in OUTPUT_DIR, which is named like the network:
  <name>.onnx, <name>.yaml  the network of the best epoch and its card; with FOLDS the mean of all
  last.pt, best.pt, log.jsonl, curves.png    of the training; with FOLDS in fold1/, fold2/, ...
  clips/, valid/            vectors of the segments; made again where their inputs change
Killed and run again, it resumes from last.pt and gives the same weights. docs/networks.md tells
what the options do.

Example:
  python steps/train_identifier.py --modality face --train-data data/demo_train \\
      --train-parts demo_train --embed-dirs exp/face_embed/arcface_tiny \\
      --items-dir exp/face_det/retinaface_tiny --output-dir exp/face_train/who \\
      --valid-data data/demo_val --valid-part demo_val
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson import cli
from vidperson.training import command
from vidperson.training.command import IdentifierOptions, TrainingOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidperson.backends.identification import Pooled
    from vidperson.io.mapped import MappedRows
    from vidperson.training.clips import Clips, Float, Prepared
    from vidperson.training.identifier import Searched

TOP = 100
_TRACKS_AT_ONCE = 1024


@dataclass(frozen=True)
class SetOptions:
    """The sets, and what is known of their segments."""

    modality: str = cli.option(help="what is compared, as in the config variable modalities")
    train_parts: list[str] = cli.option(help="part of each set of train-data")
    embed_dirs: list[Path] = cli.option(help="folders of embeddings, each named like its embedder")
    items_dir: Path | None = cli.option(None, "folder with what stage 2 found in each part")
    valid_data: str = cli.option("", "data folder of the set to choose the epoch by")
    valid_part: str = cli.option("", "part of that set")


@dataclass(frozen=True)
class TrainIdentifierOptions:
    """The options of this step."""

    training: TrainingOptions = cli.group(TrainingOptions)
    sets: SetOptions = cli.group(SetOptions)
    identifier: IdentifierOptions = cli.group(IdentifierOptions)


def train_identifier(options: TrainIdentifierOptions) -> dict[str, Any]:
    """See the top of this file. Returns the figures of the card ({} without anything to validate on).

    Raises VidPersonError for data, settings and networks that are wrong, and for a loss that is not finite.
    """
    training, sets, how = options.training, options.sets, options.identifier
    command.begin(training.threads)

    from vidperson.errors import TrainingError
    from vidperson.report.plots import training_curves
    from vidperson.training.identifier import check_options, identifier_card, train_identifier
    from vidperson.training.loop import join_world

    check_options(how)
    if len(training.train_data) != len(sets.train_parts) or bool(sets.valid_data) != bool(sets.valid_part):
        raise TrainingError("each set of --train-data, and --valid-data, is given with its part")
    parts = [Part(sets, name) for name in sets.train_parts]
    valid_part = Part(sets, sets.valid_part) if sets.valid_data else None
    size = _one_size([*parts, valid_part] if valid_part else parts)
    known = [_persons(Path(data), part) for data, part in zip(training.train_data, parts, strict=True)]
    persons = tuple(sorted({person for each in known for person in each.values()}, key=str.encode))
    relevant = _relevant(Path(sets.valid_data), valid_part, persons) if valid_part else {}
    embedders = [folder.name for folder in sets.embed_dirs]
    card = identifier_card(how, training, persons, size, embedders, sets.modality)
    with join_world(training.device) as world:
        clips = _clips(parts, known, persons, prepared_clips(training.folder / "clips", parts, size, True))
        valid = None
        if valid_part:
            valid = _searched(valid_part, relevant, prepared_clips(training.folder / "valid", [valid_part], size, False))
        return train_identifier(clips, card, how, training, world, mean_average_precision, valid, training_curves)


class Part:
    """What stages 2 and 3 know of the segments of a part.

    tables: of each embedder its embeddings, all of the same segments in the same order.
    items, quality, weights: of stage 2, where they are there.
    Raises DataError for what was edited, cut or swapped, or is missing; ScoringError for embeddings of other items.
    """

    def __init__(self, sets: SetOptions, name: str) -> None:
        from steps.score import refuse_other_items
        from vidperson.errors import DataError
        from vidperson.types import ITEMS

        self.name, self.files = name, list[Path]()
        self.tables = [self._open(folder / name, "embed") for folder in sets.embed_dirs]
        for folder, table in zip(sets.embed_dirs, self.tables, strict=True):
            if table.keys != self.tables[0].keys:
                other = sets.embed_dirs[0] / name
                raise DataError(f"expected the segments of {other}, in their order; run stage 3 again", folder / name)
        self.items = self.quality = self.weights = None
        if sets.items_dir is not None:
            folder = sets.items_dir / name
            for embeddings in sets.embed_dirs:
                refuse_other_items(embeddings / name, folder)
            self.items, self.quality, self.weights = (
                self._open(folder, each) if (folder / f"{each}.scp").is_file() else None
                for each in (ITEMS[sets.modality], "quality", "weights")
            )

    def _open(self, folder: Path, name: str) -> MappedRows:
        from vidperson.io.mapped import MappedRows
        from vidperson.io.record import checked

        self.files.append(checked(folder / f"{name}.scp"))
        if (folder / f"{name}.ark").is_file():  # a user's own list may name others
            self.files.append(checked(folder / f"{name}.ark"))
        return MappedRows(folder / f"{name}.scp")

    @property
    def segments(self) -> tuple[str, ...]:
        return self.tables[0].keys

    def pooled(self) -> Iterator[tuple[int, Pooled, NDArray[np.float64]]]:
        """Of each segment its number, its tracks, and the weight of each item, without the length of its embedding.

        Raises DataError, naming the segment, for matrices that do not fit together or are not finite.
        """
        from vidperson.backends.identification import item_weights, pool
        from vidperson.errors import DataError, ScoringError

        tables = (self.items, self.quality, self.weights)
        places = [None if table is None else {key: i for i, key in enumerate(table.keys)} for table in tables]
        for number, segment in enumerate(self.segments):
            rows = [table.matrix(number) for table in self.tables]
            found: list[Float | None] = []
            for table, place in zip(tables, places, strict=True):
                if table is not None and place is not None and segment not in place:
                    raise DataError(f"segment '{segment}' is not there; run stage 2 for the set", table.scp)
                found.append(None if table is None or place is None else table.matrix(place[segment]))
            try:
                weights = item_weights(len(rows[0]), *found)
                yield number, pool(rows, found[0], weights), weights
            except ScoringError as error:
                raise DataError(f"segment '{segment}': {error}", self.tables[0].scp) from None


def _one_size(parts: Sequence[Part]) -> int:
    """Numbers of a vector. Raises DataError for parts with embeddings of different sizes."""
    from vidperson.errors import DataError

    sizes: list[int] = []
    for embedder, first in enumerate(parts[0].tables):
        filled = [part.tables[embedder] for part in parts if part.tables[embedder].columns]
        for table in filled:
            if table.columns != filled[0].columns:
                found = (
                    f"expected {filled[0].columns} numbers an embedding, as in {filled[0].scp}, found {table.columns}"
                )
                raise DataError(f"{found}; extract all with the same network", table.scp)
        if not filled:
            raise DataError("no segment has an embedding; there is nothing to learn from", first.scp)
        sizes.append(filled[0].columns)
    return sum(sizes)


def _persons(data: Path, part: Part) -> dict[str, str]:
    """Segment -> person. Raises DataError for a segment that the part does not have."""
    from vidperson.errors import DataError
    from vidperson.io.lines import read_scp

    persons = read_scp(data / "utt2spk")
    known = set(part.segments)
    for segment in persons:
        if segment not in known:
            raise DataError(f"segment '{segment}' is not in {part.tables[0].scp}; run stages 2 and 3", data / "utt2spk")
    return persons


def _relevant(data: Path, part: Part, persons: Sequence[str]) -> dict[str, list[str]]:
    """Person -> segments of the set to validate on.

    Raises DataError without that list, and for a person or a segment in it that is not known.
    """
    from vidperson.errors import DataError
    from vidperson.io.ranks import read_relevant

    path = data / "relevant"
    if not path.is_file():
        raise DataError("no such file; the set to validate on is a searched one, with the truth: data/README", path)
    relevant = read_relevant(path)
    segments, known = set(part.segments), set(persons)
    for person, listed in relevant.items():
        if person not in known:
            raise DataError(f"person '{person}' is in none of the sets to train on", path)
        for segment in listed:
            if segment not in segments:
                raise DataError(f"segment '{segment}' is not in {part.tables[0].scp}; run stages 2 and 3", path)
    if len({segment for listed in relevant.values() for segment in listed}) == len(segments):
        logging.warning("%s: no strangers among the segments: the epoch is chosen for a search without any", data)
    return relevant


def prepared_clips(folder: Path, parts: Sequence[Part], size: int, main: bool) -> Prepared:
    """The vectors of the segments, read where they are there and of these inputs; else they are made.

    main: only of each segment's main track, with its items; else of all tracks.
    """
    from vidperson.training.clips import ClipWriter, read_prepared

    files = [path for part in parts for path in part.files]
    words = ["train_identifier", "main" if main else "all", *(part.name for part in parts)]
    prepared = read_prepared(folder, size, words, files)
    if prepared is not None:
        return prepared
    with ClipWriter(folder, words, files) as writer:
        for place, part in enumerate(parts):
            for number, pooled, weights in part.pooled():
                for track in range(len(pooled)) if not main else [] if pooled.main is None else [pooled.main]:
                    rows = (pooled.labels == track).nonzero()[0]
                    writer.add(place, number, pooled.vectors[track], rows, weights[rows])
    prepared = read_prepared(folder, size, words, files)
    assert prepared is not None
    return prepared


def _clips(
    parts: Sequence[Part], known: Sequence[Mapping[str, str]], persons: Sequence[str], prepared: Prepared
) -> Clips:
    """Raises DataError where no segment has an item; warns of persons without any."""
    import numpy as np

    from vidperson.errors import DataError
    from vidperson.training.clips import Clips

    place = {person: i for i, person in enumerate(persons)}
    labels = np.array(
        [
            place.get(known[part].get(parts[part].segments[number], ""), -1)
            for part, number in zip(prepared.part.tolist(), prepared.number.tolist(), strict=True)
        ],
        np.int64,
    )
    if not (labels >= 0).any():
        raise DataError("no segment of a person has an item; there is nothing to learn from", parts[0].tables[0].scp)
    missing = sorted(set(range(len(persons))) - set(labels.tolist()))
    if missing:
        text = "%d of %d persons have no segment with an item, first '%s': what is found for them means nothing"
        logging.warning(text, len(missing), len(persons), persons[missing[0]])
    return Clips(prepared, [part.tables for part in parts], tuple(persons), labels)


def _searched(part: Part, relevant: Mapping[str, Sequence[str]], prepared: Prepared) -> Searched:
    from vidperson.training.identifier import Searched

    return Searched(prepared.vectors, prepared.number, part.segments, relevant)


def mean_average_precision(scores: Callable[[Float], Float], persons: Sequence[str], searched: Searched) -> float:
    """mAP of the best 100 segments per person, see ``metrics.ranking``; a segment's score is that of its best track.

    scores: (T, D) vectors to (T, P) float32 of the persons. Memory is that of the lists and of some tracks.
    """
    import numpy as np

    from vidperson.metrics.ranking import mean_average_precision

    wanted = np.array([i for i, person in enumerate(persons) if person in searched.relevant])
    best = np.zeros((0, len(wanted)), np.float32)
    clips = np.zeros((0, len(wanted)), np.int64)
    bounds = np.flatnonzero(np.diff(searched.clips, prepend=-1))
    for begin in range(0, len(bounds), _TRACKS_AT_ONCE):
        starts = bounds[begin : begin + _TRACKS_AT_ONCE]
        end = bounds[begin + _TRACKS_AT_ONCE] if begin + _TRACKS_AT_ONCE < len(bounds) else len(searched.clips)
        found = scores(searched.vectors[starts[0] : end])[:, wanted]
        found = np.maximum.reduceat(found, starts - starts[0])
        best = np.concatenate([best, found])
        clips = np.concatenate([clips, np.repeat(searched.clips[starts][:, None], len(wanted), axis=1)])
        order = np.argsort(-best, axis=0, kind="stable")[:TOP]
        best, clips = np.take_along_axis(best, order, axis=0), np.take_along_axis(clips, order, axis=0)
    ranked = {persons[person]: [searched.names[clip] for clip in clips[:, i]] for i, person in enumerate(wanted)}
    return mean_average_precision(ranked, searched.relevant, TOP)


if __name__ == "__main__":
    cli.run(train_identifier, TrainIdentifierOptions, __doc__)
