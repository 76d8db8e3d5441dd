#!/usr/bin/env python3
"""Train an identifier: a network from the vector of a track to a score for each person.

Inputs: for each set in TRAIN_DATA (a data folder), with its part in TRAIN_PARTS,
  TRAIN_DATA/utt2spk
      <segment> <person>; other segments of the set show no known person: they are strangers
  EMBED_DIRS/<part>/embed.scp
      one (N, dim) float32 matrix per segment, an item per row; 0 rows is legal. Several folders are
      several embedders of the same items; their vectors are joined side by side
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

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.parts import Part, listed_segments, read_groups, segments_digest
from steps.score import log_each, require
from vidperson import cli
from vidperson.training import command
from vidperson.training.command import IdentifierOptions, TrainingOptions

if TYPE_CHECKING:
    from vidperson.backends import EmbeddingSets
    from vidperson.io.mapped import MappedRows
    from vidperson.training.clips import Clips, Double, Float, Index
    from vidperson.training.export import Run
    from vidperson.training.identifier import Validation

TOP = 100
CURE = "run stages 2 and 3 for the set"


@dataclass(frozen=True)
class SetOptions:
    """The sets, and what is known of their segments."""

    modality: str = cli.option(help="what is compared, as in the config variable modalities")
    train_parts: list[str] = cli.option(help="part of each set of train-data")
    embed_dirs: list[Path] = cli.option(help="folders of embeddings, each named like its embedder")
    items_dir: Path | None = cli.option(None, "folder with what stage 2 found in each part")
    valid_data: str = cli.option("", "data folder of the set to choose the epoch by")
    valid_part: str = cli.option("", "part of that set")
    link_cosine: float = cli.option(0.3, "lowest cosine of successive items of a track", convert=cli.cosine)

    def part(self, name: str) -> Part:
        return Part(name, self.embed_dirs, self.items_dir, self.modality, self.link_cosine)


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
    from vidperson.training.loop import first_alone, join_world

    check_options(how)
    names = [Path(data).name for data in training.train_data]
    if len(set(names)) < len(names):
        raise TrainingError(f"train-data: expected different sets, found {' '.join(names)}")
    if len(training.train_data) != len(sets.train_parts) or bool(sets.valid_data) != bool(sets.valid_part):
        raise TrainingError("each set of --train-data, and --valid-data, is given with its part")
    if sets.valid_part in sets.train_parts:
        cure = "name another, or leave it empty, or use folds"
        raise TrainingError(f"valid_set: expected a set that is not learnt from, found '{sets.valid_part}'; {cure}")
    learnt = [
        Learnt(Path(data), sets.part(part)) for data, part in zip(training.train_data, sets.train_parts, strict=True)
    ]
    persons = tuple(sorted({person for each in learnt for person in each.persons.values()}, key=str.encode))
    if len(persons) < 2:
        raise TrainingError(f"expected 2 persons or more in utt2spk of {' '.join(names)}, found {len(persons)}")
    truth = Truth(Path(sets.valid_data), sets.part(sets.valid_part), persons) if sets.valid_data else None
    size = sum(_sizes([each.tables for each in learnt] + ([truth.tables] if truth else [])))
    embedders = [folder.name for folder in sets.embed_dirs]
    card = identifier_card(how, training, persons, size, embedders, sets.modality)
    with join_world(training.device) as world:
        with first_alone(world):
            clips = read_clips(training.folder / "clips", learnt, persons, size)
            valid = truth.validation(training.folder / "valid", size) if truth else None
        validations = valid, lambda held: held_out(clips, held)
        return train_identifier(clips, card, how, training, world, *validations, whitening, training_curves)


class Learnt:
    """A set to learn from. tables: of each embedder, by ``segments``. persons: segment -> person.

    Raises DataError or ScoringError for lists and embeddings that are missing, edited, or do not fit together.
    """

    def __init__(self, data: Path, part: Part) -> None:
        from vidperson.io.lines import read_scp
        from vidperson.io.mapped import MappedRows

        self.part, self.segments = part, listed_segments(data)
        self.persons = read_scp(data / "utt2spk")
        for what, names in ((data, self.segments), (data / "utt2spk", self.persons)):
            require(list(names), set(part.segments()), f"segments of {what} are not in {part.embed[0]}", CURE)
        self.tables = [MappedRows(folder / "embed.scp", self.segments) for folder in part.embed]


def _sizes(sets: Sequence[Sequence[MappedRows]]) -> list[int]:
    """Of the tables of each set, by embedder: numbers of an embedding, by embedder.

    Raises DataError for sets with embeddings of different sizes, or without any.
    """
    from vidperson.errors import DataError

    sizes = []
    for tables in zip(*sets, strict=True):
        filled = [table for table in tables if table.columns]
        if not filled:
            raise DataError("no segment has an embedding: there is nothing to learn from", tables[0].scp)
        for table in filled:
            if table.columns != filled[0].columns:
                what = (
                    f"expected {filled[0].columns} numbers an embedding, as in {filled[0].scp}, found {table.columns}"
                )
                raise DataError(f"{what}; extract all with the same network", table.scp)
        sizes.append(filled[0].columns)
    return sizes


def read_clips(folder: Path, learnt: Sequence[Learnt], persons: Sequence[str], size: int) -> Clips:
    """What is prepared of the sets' segments in a folder; it is made where it is not there or of other inputs.

    Raises DataError where no segment of a person has an item; warns of persons without any.
    """
    import numpy as np

    from vidperson.errors import DataError
    from vidperson.training.clips import Clips, ClipWriter, read_prepared

    files = [path for each in learnt for path in each.part.inputs]
    words = ["train_identifier", "clips", f"{learnt[0].part.link_cosine:g}"]
    words += [word for each in learnt for word in (each.part.name, segments_digest(each.segments))]
    if (prepared := read_prepared(folder, size, words, files)) is None:
        with ClipWriter(folder, words, files) as writer:
            for place, each in enumerate(learnt):
                pooled = each.part.pooled(each.segments, {})
                for number, (_, tracks, weights) in enumerate(pooled):
                    if tracks.main is not None:
                        rows = np.flatnonzero(tracks.labels == tracks.main)
                        writer.add(place, number, tracks.vectors[tracks.main], rows, weights[rows])
        prepared = read_prepared(folder, size, words, files)
        assert prepared is not None
    places = {person: i for i, person in enumerate(persons)}
    of_segment = [[places.get(each.persons.get(name, ""), -1) for name in each.segments] for each in learnt]
    where = zip(prepared.part.tolist(), prepared.number.tolist(), strict=True)
    labels = np.array([of_segment[part][number] for part, number in where], np.int64)
    if not (labels >= 0).any():
        raise DataError("no segment of a person has an item: there is nothing to learn from", learnt[0].tables[0].scp)
    empty = [persons[i] for i in sorted(set(range(len(persons))) - set(labels.tolist()))]
    log_each(empty, logging.warning, "person without a segment with any item: what is found for them means nothing")
    return Clips(prepared, [each.tables for each in learnt], tuple(persons), labels)


class Truth:
    """A set to validate on, and who is in it. tables: of each embedder, by ``segments``.

    Raises DataError or ScoringError for what is missing or not known.
    """

    def __init__(self, data: Path, part: Part, persons: Sequence[str]) -> None:
        from vidperson.io.lines import sort_key
        from vidperson.io.mapped import MappedRows
        from vidperson.io.ranks import read_relevant

        self.part, self.persons = part, persons
        self.groups, self.relevant = read_groups(data), read_relevant(data / "relevant")
        searched = {model: None for models, _ in self.groups.values() for model in models}
        for models, path in ((searched, data / "search"), (self.relevant, data / "relevant")):
            require(list(models), set(persons), f"persons of {path} are in none of the sets to train on", "correct it")
        self.segments = sorted({name for _, names in self.groups.values() for name in names}, key=sort_key)
        shown = {name for names in self.relevant.values() for name in names}
        what = f"segments of {data / 'relevant'} are not in {data / 'utt2group'}"
        require(sorted(shown), set(self.segments), what, "correct it")
        what = f"segments of {data / 'utt2group'} are not in {part.embed[0]}"
        require(self.segments, set(part.segments()), what, CURE)
        self.tables = [MappedRows(folder / "embed.scp", self.segments) for folder in part.embed]
        if len(shown) == len(self.segments):
            logging.warning("%s: no strangers in it: the epoch is chosen as if there were none", data)

    def validation(self, folder: Path, size: int) -> Validation:
        """The vectors of all tracks are prepared in a folder, where they are not there or of other inputs.

        Raises DataError where there is none.
        """
        import numpy as np

        from vidperson.backends import EmbeddingSets
        from vidperson.errors import DataError
        from vidperson.training.clips import ClipWriter, read_prepared

        words = ["train_identifier", "tracks", f"{self.part.link_cosine:g}", self.part.name]
        words.append(segments_digest(self.segments))
        if (prepared := read_prepared(folder, size, words, self.part.inputs)) is None:
            with ClipWriter(folder, words, self.part.inputs) as writer:
                for number, (_, pooled, _) in enumerate(self.part.pooled(self.segments, {})):
                    for vector in pooled.vectors:
                        writer.add(0, number, vector, np.zeros(0, np.int64), np.zeros(0))
            prepared = read_prepared(folder, size, words, self.part.inputs)
            assert prepared is not None
        if not len(prepared):
            raise DataError("no segment has an item: there is nothing to validate on", self.tables[0].scp)
        offsets = np.searchsorted(prepared.number, np.arange(len(self.segments) + 1))
        tracks = EmbeddingSets(tuple(self.segments), prepared.vectors, offsets)
        return searched(tracks, self.groups, self.relevant, self.persons, prepared.digest)


def whitening(vectors: Float, rows: Index) -> tuple[Double, Double]:
    """What the back-end class-mean-whitened does to vectors, where some of them are the enrolment segments."""
    from vidperson.backends.identification import Whitening

    made = Whitening(vectors, rows)
    return made.origin, made.matrix


def held_out(clips: Clips, held: Index) -> Validation:
    """Held-out clips, each searched for all persons that one of them shows; both are known by their numbers."""
    import numpy as np

    from vidperson.backends import EmbeddingSets

    relevant: dict[str, list[str]] = {}
    for clip, label in zip(held.tolist(), clips.labels[held].tolist(), strict=True):
        if label >= 0:
            relevant.setdefault(str(label), []).append(str(clip))
    names, persons = tuple(map(str, held.tolist())), tuple(map(str, range(len(clips.persons))))
    tracks = EmbeddingSets(names, clips.prepared.vectors[held], np.arange(len(held) + 1))
    return searched(tracks, {"": (list(relevant), list(names))}, relevant, persons, clips.prepared.digest)


def searched(
    tracks: EmbeddingSets,
    groups: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    relevant: Mapping[str, Sequence[str]],
    persons: Sequence[str],
    digest: str,
) -> Validation:
    """mAP of the best 100 segments of each person of ``relevant``, as stages 4 and 5 find it.

    groups: group -> the persons that are searched in it, its segments. persons: in the order of the network's scores.
    digest: of the tracks' vectors.
    """
    import numpy as np

    from vidperson.backends.search import search
    from vidperson.metrics.ranking import mean_average_precision
    from vidperson.training.identifier import Validation

    models = [person for person in persons if person in relevant]
    of_model, of_segment = ({name: i for i, name in enumerate(names)} for names in (models, tracks.keys))
    columns = np.array([i for i, person in enumerate(persons) if person in relevant])
    wanted = {
        group: (
            np.array([of_model[name] for name in some if name in of_model], np.int64),
            np.array([of_segment[name] for name in segments], np.int64),
        )
        for group, (some, segments) in groups.items()
    }

    def measure(run: Run) -> float:
        found, _ = search(Scored(tuple(models), run, columns), tracks, wanted, TOP, 1)
        ranked: dict[str, list[str]] = {}
        for row, column in zip(found.rows.tolist(), found.columns.tolist(), strict=True):
            ranked.setdefault(models[row], []).append(tracks.keys[column])
        return mean_average_precision(ranked, relevant, TOP)

    text = repr([digest, tracks.keys, sorted(groups.items()), sorted((name, *some) for name, some in relevant.items())])
    return Validation(measure, hashlib.sha256(text.encode()).hexdigest())


@dataclass
class Scored:
    """A network as it is trained, as a ``Searcher``. columns: of its scores, those of ``models``."""

    models: tuple[str, ...]
    run: Run
    columns: Index

    def scores(self, vectors: Float) -> Float:
        return self.run(vectors)[0][:, self.columns]


if __name__ == "__main__":
    cli.run(train_identifier, TrainIdentifierOptions, __doc__)
