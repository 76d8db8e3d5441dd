#!/usr/bin/env python3
"""Rank the segments of a test set for every person that is searched, and the persons per segment.

Inputs:
  DATA_DIR/<test set>/search, utt2group
      <model> <group>: the group of segments that a person is searched in; <segment> <group>
  DATA_DIR/<enrolment set>/utt2spk
      <segment> <person>, of each of ENROLL_SETS. The other segments of such a set show strangers
  EMBED_DIR/<set>/embed.scp, ITEMS_DIR/<set>/
      one (N, dim) float32 matrix per segment, an item per row; 0 rows is legal. Frames and boxes of
      the items link tracks; quality.scp or weights.scp weigh items, where they are there
  TRAIN_ROOT/<identifier>/<identifier>.onnx, .yaml
      of each of IDENTIFIERS: a network that ./run_014_train_identifier.sh made. Where it takes
      embeddings of other embedders, too, they are in EMBED_ROOT/<embedder>/<set>
Outputs, for each system: SCORES_DIR/<embedder>/<back-end or identifier>/, SCORES_DIR/fusion/<experiment>/
  <test set>_ranks     <model> <rank> <segment> <score>, the best SEARCH_TOP segments of each person
  <test set>_persons   <segment> <rank> <model> <score>, the best SEARCH_PERSONS of each segment
Beside each is the record of how it was made. What is there, intact and of the same options and
inputs is kept.

docs/metrics.md says what the systems do. The score of a segment is that of its best track; a person
is enrolled by the main track of each segment. Segments without an item are in no list, and neither
are persons without a usable segment, unless an identifier knows them. Of equal scores the name that
comes first in the C locale is the better one.

Example:
  steps/search.py --modality face --embed-dir exp/face_embed/arcface_tiny \\
    --items-dir exp/face_det/retinaface_tiny --embed-root exp/face_embed --data-dir data \\
    --train-root exp/face_train --enroll-sets "clips_train clips_valid" --test-set clips_test \\
    --search-backends "class-mean class-mean-shift" --scores-dir exp/scores
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.parts import Part, listed_segments, read_groups, segment_lists
from steps.score import RunOptions, log_each, need, require, to_make
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidperson.backends import EmbeddingSets
    from vidperson.backends.identification import Searcher
    from vidperson.backends.search import Ranks
    from vidperson.backends.systems import System
    from vidperson.io.planned import Planned
    from vidperson.networks.card import ModelCard
    from vidperson.networks.install import InstalledModel

    Vectors = NDArray[np.float32]

BACKENDS = ("class-mean", "class-mean-shift", "class-mean-whitened", "class-mean-whitened-shift")
OF_STRANGERS = BACKENDS[1:]
"""Those that use the segments of which nobody is known."""
BATCH = 256
LINES_AT_ONCE = 1 << 16
CURE = "run stages 2 and 3 for the set"
LEARNT = "%s learnt from %s: its figures there are too good"


@dataclass(frozen=True)
class SearchPairOptions:
    """Enrolment sets and a test set that is searched, of one modality."""

    modality: str = cli.option(help="what is compared, as in the config variable modalities")
    embed_dir: Path = cli.option(help="folder with the embeddings of each set; its name is that of the embedder")
    data_dir: Path = cli.option(help="folder of the data sets")
    enroll_sets: str = cli.option(help="sets with the persons, and with known strangers")
    test_set: str = cli.option(help="set to search")
    embed_root: Path | None = cli.option(None, "folder of all embedders, for identifiers that need several")
    train_root: Path | None = cli.option(None, "folder of the trained identifiers")
    items_dir: Path | None = cli.option(None, "folder with what stage 2 found in each set")
    link_cosine: float = cli.option(0.3, "lowest cosine of successive items of a track", convert=cli.cosine)

    @property
    def embedder(self) -> str:
        return self.embed_dir.name

    @property
    def test_data(self) -> Path:
        return self.data_dir / self.test_set

    def enrolment(self) -> list[Path]:
        """The data folders of the enrolment sets."""
        return [self.data_dir / name for name in self.enroll_sets.split()]

    def part(self, name: str, embedders: Sequence[str]) -> Part:
        """A set as these embedders see it. Raises as :class:`Part`."""
        folders = [self.embed_dir if name == self.embedder else self._of(name) for name in embedders]
        return Part(name, folders, self.items_dir, self.modality, self.link_cosine)

    def _of(self, embedder: str) -> Path:
        return (self.embed_root or self.embed_dir.parent) / embedder


class SystemLists:
    """Where the lists of a system that searches are, for options with ``scores_dir``."""

    scores_dir: Path

    def folder(self, system: System) -> Path:
        return self.scores_dir / system.folder

    def ranks(self, system: System, test_set: str) -> Path:
        return self.folder(system) / f"{test_set}_ranks"

    def persons(self, system: System, test_set: str) -> Path:
        return self.folder(system) / f"{test_set}_persons"


@dataclass(frozen=True)
class SearchSystemOptions(SystemLists):
    """Which systems search. Lists are words with spaces between."""

    search_backends: str = cli.option(
        "class-mean class-mean-whitened", f"ways to search without training: {' '.join(BACKENDS)}"
    )
    identifiers: str = cli.option("", "trained identifiers to search with; empty: none")
    search_fusion: str = cli.option("", "back-ends and identifiers to fuse; empty: none")
    search_top: int = cli.option(100, "segments listed per person", convert=cli.whole(1))
    search_persons: int = cli.option(5, "persons listed per segment", convert=cli.whole(1))
    calibration_set: str = cli.option("", "searched set that calibrates who is nobody; empty: none")
    false_alarm_rate: float = cli.option(0.01, "wished share of strangers named as somebody", convert=cli.share)
    scores_dir: Path = cli.option(Path("exp/scores"), "folder with the scores of all systems")
    embedders: str = cli.option("", "embedders of all modalities")
    test_sets: str = cli.option("", "all searched test sets")
    experiment: str = cli.option("", "name of the experiment, which is that of its fusion")

    def words(self) -> list[str]:
        """The back-ends and identifiers."""
        return [*dict.fromkeys(self.search_backends.split()), *dict.fromkeys(self.identifiers.split())]

    def systems(self, embedder: str) -> list[System]:
        """The systems of an embedder, the fusion last, in the order of the tables."""
        from vidperson.backends.systems import FUSION, System

        found = [System(embedder, word) for word in self.words()]
        return [*found, System(FUSION, FUSION, experiment=self.experiment)] if self.search_fusion.split() else found

    def all_systems(self) -> list[System]:
        """The systems of all embedders."""
        return list(dict.fromkeys(system for name in self.embedders.split() for system in self.systems(name)))

    def members(self, system: System) -> list[str]:
        """The back-ends and identifiers that a system searches with."""
        from vidperson.backends.systems import FUSION

        return self.search_fusion.split() if system.backend == FUSION else [system.backend]

    def nobody(self, system: System, test_set: str) -> Path:
        return self.folder(system) / f"{test_set}_nobody"


@dataclass(frozen=True)
class SearchOptions:
    pair: SearchPairOptions = cli.group(SearchPairOptions)
    systems: SearchSystemOptions = cli.group(SearchSystemOptions)
    run: RunOptions = cli.group(RunOptions)


def search(options: SearchOptions) -> None:
    """See the top of this file.

    Raises ScoringError for systems that cannot be, for persons and segments of the lists that the other inputs lack,
    and for embeddings that are missing or of other items than stage 2's; DataError for malformed, edited or swapped
    files and for embeddings that are not finite or of different sizes; ModelError for what is no identifier.
    """
    check_search(options.systems)
    planned = plan_searches(options.pair, options.systems)
    wanted = to_make([one for ours in planned.values() for one in ours], options.run)
    systems = [system for system, ours in planned.items() if any(one in wanted for one in ours)]
    if not systems:
        return
    for word in dict.fromkeys(word for system in systems for word in options.systems.members(system)):
        if learnt_from(options.pair, word, [options.pair.test_set]):
            logging.warning(LEARNT, word, options.pair.test_set)
    for system in systems:
        for one in planned[system]:
            one.remove()
    words = list(dict.fromkeys(word for system in systems for word in options.systems.members(system)))
    inputs = read_inputs(options.pair, words, fused=any(len(options.systems.members(one)) > 1 for one in systems))
    for system in systems:
        _search_with(system, planned[system], inputs, options.systems)


def check_search(options: SearchSystemOptions) -> None:
    """Refuse what would stop the search, its calibration or its evaluation after part of the work.

    Raises ScoringError for unknown back-ends, systems named twice, a fusion of what is not searched with, no systems at
    all, and a calibration set that is no searched set.
    """
    from vidperson.backends.systems import FUSION
    from vidperson.errors import ScoringError

    backends, words, fused = options.search_backends.split(), options.words(), options.search_fusion.split()
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown:
        raise ScoringError(f"search_backends: no back-end '{unknown[0]}'; valid: {' '.join(BACKENDS)}")
    if not words:
        raise ScoringError("search_backends and identifiers: expected one of them or several, found none")
    twice = [word for i, word in enumerate(words) if word in words[:i]]
    if twice:
        raise ScoringError(f"identifiers: '{twice[0]}' is the name of a back-end; give the identifier another one")
    bad = [name for name in options.identifiers.split() if "/" in name or name.startswith(".") or name == FUSION]
    if bad:
        expected = f"names of folders below exp/<modality>_train, other than {FUSION}"
        raise ScoringError(f"identifiers: expected {expected}, found '{bad[0]}'")
    if fused:
        lacking = [word for word in fused if word not in words]
        if lacking or len(set(fused)) < max(2, len(fused)):
            expected = f"two or more different ones of {' '.join(words)}"
            cure = f"; name '{lacking[0]}' in identifiers or search_backends, too" if lacking else ""
            raise ScoringError(f"search_fusion: expected {expected}, found '{options.search_fusion}'{cure}")
        if len(options.embedders.split()) > 1:
            raise ScoringError("search_fusion: expected one modality to fuse systems of, found several")
        if not options.experiment or "/" in options.experiment or options.experiment in (".", ".."):
            raise ScoringError(
                f"experiment: expected the name of a folder for the fusion, found '{options.experiment}'"
            )
    if options.calibration_set and options.calibration_set not in options.test_sets.split():
        raise ScoringError(
            f"calibration_set: expected one of the searched test sets ({options.test_sets}), "
            f"found '{options.calibration_set}'"
        )


def plan_searches(pair: SearchPairOptions, options: SearchSystemOptions) -> dict[System, list[Planned]]:
    """Each system's ranks and persons of a test set, with only the options and inputs that matter to them.

    Raises ScoringError for embeddings and lists that are not there, and for embeddings of other items than stage 2's;
    DataError for embeddings that were edited; ModelError for what is no identifier.
    """
    from vidperson.io.planned import Planned

    cure = "run ./run_001_prepare_data.sh, or write it, or correct trial_sets"
    lists = [need(pair.test_data / name, cure) for name in ("search", "utt2group")]
    planned = {}
    for system in options.systems(pair.embedder):
        words = options.members(system)
        embedders, inputs = [pair.embedder], list(lists)
        for word in words:
            if word not in BACKENDS:
                identifier = Trained(pair, word)
                inputs += identifier.files
                embedders += [name for name in identifier.embedders if name not in embedders]
        command = ["python", "steps/search.py", "--search-with", *words, "--embed-dir", str(pair.embed_dir)]
        command += ["--link-cosine", f"{pair.link_cosine:g}"]
        enrolled = len(words) > 1 or words[0] in BACKENDS
        if enrolled:
            command += ["--enroll-sets", *pair.enroll_sets.split()]
            for data in pair.enrolment():
                inputs.append(need(data / "utt2spk", cure))
                inputs += segment_lists(data) if any(word in OF_STRANGERS for word in words) else []
        names = [*(pair.enroll_sets.split() if enrolled else []), pair.test_set]
        inputs += [path for name in names for path in pair.part(name, embedders).inputs]
        inputs = list(dict.fromkeys(inputs))
        ranks = [*command, "--test-set", pair.test_set, "--search-top", str(options.search_top)]
        persons = [*command, "--test-set", pair.test_set, "--search-persons", str(options.search_persons)]
        planned[system] = [
            Planned(options.ranks(system, pair.test_set), ranks, inputs),
            Planned(options.persons(system, pair.test_set), persons, inputs),
        ]
    return planned


class Trained:
    """A trained identifier. Raises ModelError for a card that is none of an identifier, DataError for edited files."""

    def __init__(self, pair: SearchPairOptions, name: str) -> None:
        from vidperson.errors import ModelError
        from vidperson.io.record import checked
        from vidperson.networks.card import VectorInput, load_card

        folder = (pair.train_root or Path("exp") / f"{pair.modality}_train") / name
        self.name = name
        self.files = [folder / f"{name}.onnx", folder / f"{name}.yaml"]
        for path in self.files:
            need(path, f"run ./run_014_train_identifier.sh --train-name {name}, or correct identifiers")
            checked(path)
        card = load_card(self.files[1])
        kind = f"{pair.modality}_classifier"
        if card.kind != kind or not isinstance(card.input, VectorInput) or not card.output.labels:
            found = f"kind {card.kind}, input {card.input.kind}, {len(card.output.labels)} labels"
            raise ModelError(
                f"{self.files[1]}: expected an identifier, kind {kind}, input vector, labels; found {found}"
            )
        self.card, self.size = card, card.input.size
        self.learnt_from = learnt_sets(card)
        self.embedders = card.input.embedders or (pair.embedder,)
        self.labels = card.output.labels

    def installed(self) -> InstalledModel:
        """Raises ModelError for a network file that is not the one of its card."""
        from vidperson.errors import ModelError
        from vidperson.io.record import sha256
        from vidperson.networks.install import InstalledModel

        found = sha256(self.files[0])
        if found != self.card.file.sha256:
            raise ModelError(
                f"{self.files[0]}: expected SHA-256 {self.card.file.sha256}, found {found}; train it again"
            )
        return InstalledModel(self.card, self.files[0], found)


def learnt_sets(card: ModelCard) -> list[str]:
    """The data sets that an identifier learnt from; none where its card does not tell."""
    sets = card.training.get("train_sets")
    return sets if isinstance(sets, list) else []


def learnt_from(pair: SearchPairOptions, word: str, sets: Sequence[str]) -> list[str]:
    """Those of some data sets that an identifier learnt from; a back-end learns from none."""
    known = [] if word in BACKENDS else Trained(pair, word).learnt_from
    return [name for name in sets if name in known]


@dataclass
class Known:
    """What the systems of a pair know before they see a test segment.

    models: the persons that are searched, in C-locale order. embedders: those joined side by side in vectors.
    sizes: embedder -> numbers of its embeddings, of those that were read so far.
    enrolled: (C, D) the main track of each usable enrolment segment of a known person; persons: whom each shows.
    strangers: (S, D) the same of segments that show nobody known; both only where a system needs them.
    """

    pair: SearchPairOptions
    models: list[str]
    embedders: list[str]
    sizes: dict[str, int]
    enrolled: Vectors
    persons: list[str]
    strangers: Vectors


@dataclass
class Inputs:
    """What all systems of a pair compare.

    groups: group -> its models and its segments. tracks: of the test segments, in C-locale order.
    """

    known: Known
    groups: Mapping[str, tuple[list[str], list[str]]]
    tracks: EmbeddingSets


def read_known(
    pair: SearchPairOptions, words: Sequence[str], fused: bool, log: Callable[..., None] = logging.warning
) -> Known:
    """Read what these back-ends and identifiers need of the enrolment sets; see :func:`search` for what is refused.

    log: takes what is said of segments without an item.
    """
    import numpy as np

    from vidperson.io.lines import sort_key

    models = sorted({model for some, _ in read_groups(pair.test_data).values() for model in some}, key=sort_key)
    others = [name for word in words if word not in BACKENDS for name in Trained(pair, word).embedders]
    embedders = list(dict.fromkeys([pair.embedder, *others]))
    none = np.zeros((0, 0), np.float32)
    known = Known(pair, models, embedders, {}, none, [], none)
    if fused or any(word in BACKENDS for word in words):
        known.enrolled, known.persons = _read_enrolment(known, log)
        if any(word in OF_STRANGERS for word in words):
            known.strangers = _read_strangers(known, log)
    return known


def read_inputs(pair: SearchPairOptions, words: Sequence[str], fused: bool) -> Inputs:
    """Read what these back-ends and identifiers need; see :func:`search` for what is refused."""
    from vidperson.backends import EmbeddingSets
    from vidperson.errors import ScoringError
    from vidperson.io.lines import sort_key

    known, groups = read_known(pair, words, fused), read_groups(pair.test_data)
    sizes, part = known.sizes, pair.part(pair.test_set, known.embedders)
    segments = sorted({segment for _, some in groups.values() for segment in some}, key=sort_key)
    require(
        segments, set(part.segments()), f"segments of {pair.test_data / 'utt2group'} are not in {part.embed[0]}", CURE
    )
    tracks = EmbeddingSets.from_items((segment, pooled.vectors) for segment, pooled, _ in part.pooled(segments, sizes))
    what = f"test segment without any {pair.modality}: it is in no ranked list"
    log_each(tracks.empty_keys(), logging.warning, what, part.embed[0])
    if not len(tracks.embeddings):
        raise ScoringError(f"{part.embed[0]}: no segment of {pair.test_set} has any {pair.modality}: nothing to rank")
    return Inputs(known, groups, tracks)


def _read_enrolment(known: Known, log: Callable[..., None]) -> tuple[Vectors, list[str]]:
    """The main tracks of the usable segments of all known persons, and whom each shows.

    Raises ScoringError for one that no enrolment set has, and where none of them has a usable segment.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.lines import read_scp

    pair, models = known.pair, known.models
    person_of = {data: read_scp(data / "utt2spk") for data in pair.enrolment()}
    enrolled = {person for found in person_of.values() for person in found.values()}
    lists = " and ".join(str(data / "utt2spk") for data in person_of)
    require(models, enrolled, f"persons of {pair.test_data / 'search'} are not in {lists}", "correct one of the lists")
    keys, vectors = _main_tracks(known, person_of, "enrolment segment", log)
    persons = [person_of[data][segment] for data, segment in keys]
    unusable = sorted(set(models) - set(persons), key=str.encode)
    what = f"person without any usable enrolment segment, whom back-ends cannot search: no {pair.modality} in them"
    log_each(unusable, log, what)
    if len(unusable) == len(models):
        raise ScoringError(f"{lists}: no person that is searched has a segment with any {pair.modality}")
    return vectors, persons


def _read_strangers(known: Known, log: Callable[..., None]) -> Vectors:
    """The main tracks of the usable segments that show nobody known."""
    from vidperson.io.lines import read_scp

    segments = {}
    for data in known.pair.enrolment():
        person_of = read_scp(data / "utt2spk")
        segments[data] = [segment for segment in listed_segments(data) if segment not in person_of]
    return _main_tracks(known, segments, "known stranger", log)[1]


def _main_tracks(
    known: Known, segments: Mapping[Path, Iterable[str]], what: str, log: Callable[..., None]
) -> tuple[list[tuple[Path, str]], Vectors]:
    """Data folder and segment of those that have an item, in a canonical order, and the vectors of their main tracks.

    Raises ScoringError for segments without embeddings.
    """
    from vidperson.backends import EmbeddingSets
    from vidperson.io.lines import sort_key

    keys: list[tuple[Path, str]] = []

    def mains() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for data in sorted(segments, key=lambda data: sort_key(data.name)):
            part = known.pair.part(data.name, known.embedders)
            names = sorted(segments[data], key=sort_key)
            require(names, set(part.segments()), f"segments of {data} are not in {part.embed[0]}", CURE)
            empty = []
            for segment, pooled, _ in part.pooled(names, known.sizes):
                if pooled.main is None:
                    empty.append(segment)
                    continue
                keys.append((data, segment))
                yield f"{data.name} {segment}", pooled.vectors[pooled.main : pooled.main + 1]
            log_each(empty, log, f"{what} without any {known.pair.modality}", part.embed[0])

    return keys, EmbeddingSets.from_items(mains()).embeddings


def _search_with(system: System, planned: Sequence[Planned], inputs: Inputs, options: SearchSystemOptions) -> None:
    """Search with a system and write its lists."""
    import numpy as np

    from vidperson.backends.search import search as ranked

    words = options.members(system)
    searcher = make_searcher(words, inputs.known)
    models = searcher.models
    of_model = {model: i for i, model in enumerate(models)}
    of_segment = {segment: i for i, segment in enumerate(inputs.tracks.keys)}
    groups = {
        group: (
            np.array([of_model[model] for model in some if model in of_model], dtype=np.int64),
            np.array([of_segment[segment] for segment in segments], dtype=np.int64),
        )
        for group, (some, segments) in inputs.groups.items()
    }
    found = ranked(searcher, inputs.tracks, groups, options.search_top, options.search_persons)
    for one, ranks, rows, columns in zip(
        planned, found, (models, inputs.tracks.keys), (inputs.tracks.keys, models), strict=True
    ):
        _write(one, ranks, rows, columns)
    segments, empty = len(inputs.tracks), len(inputs.tracks.empty_keys())
    of, modality = len(inputs.known.models), inputs.known.pair.modality
    logging.info(
        "%s: %d segments searched for %d of %d persons by '%s'; %d segments without a %s",
        *(planned[0].target, segments, len(models), of, " ".join(words), empty, modality),
    )


def make_searcher(words: Sequence[str], known: Known) -> Searcher:
    """The back-end or identifier, or the fusion of several; its ``models`` are those that it can search.

    Raises ScoringError naming what cannot be searched.
    """
    from vidperson.backends.identification import Fusion, measure

    usable = set(known.persons) if any(word in BACKENDS for word in words) else set(known.models)
    models = [model for model in known.models if model in usable]
    searchers = [_searcher(word, models, known) for word in words]
    if len(searchers) == 1:
        return searchers[0]
    standards = [measure(each, known.enrolled, known.persons) for each in searchers]
    for word, standard in zip(words, standards, strict=True):
        logging.info("%s: scores for other persons: mean %.4f, deviation %.4f", word, *vars(standard).values())
    return Fusion(list(zip(searchers, standards, strict=True)))


def _searcher(word: str, models: Sequence[str], known: Known) -> Searcher:
    """A back-end or an identifier for these persons. Raises ScoringError naming what cannot be searched."""
    from vidperson.backends.identification import SomeColumns, columns_of
    from vidperson.errors import ScoringError

    trained = None if word in BACKENDS else Trained(known.pair, word)
    columns = columns_of(known.sizes, trained.embedders if trained else [known.pair.embedder])
    try:
        made = _identifier(trained, models, len(columns)) if trained else _class_means(word, models, known, columns)
    except ScoringError as error:
        raise ScoringError(f"{word}: {error}") from None
    return SomeColumns(made, columns)


def _class_means(word: str, models: Sequence[str], known: Known, columns: NDArray[np.int64]) -> Searcher:
    import numpy as np

    from vidperson.backends import identification as kinds

    vectors, strangers = (
        rows[:, columns] if len(rows) else np.zeros((0, len(columns)), np.float32)
        for rows in (known.enrolled, known.strangers)
    )
    whitening = None
    if "whitened" in word:
        whitening = kinds.Whitening(np.concatenate([vectors, strangers]))
        vectors, strangers = (whitening.apply(rows) for rows in (vectors, strangers))
    names, means = kinds.class_means(vectors, known.persons)
    places = {name: i for i, name in enumerate(names)}
    means = means[[places[model] for model in models]]
    shifted = word.endswith("shift")
    made = kinds.ShiftedClassMean(models, means, strangers) if shifted else kinds.ClassMean(models, means)
    return kinds.Whitened(made, whitening) if whitening else made


def _identifier(trained: Trained, models: Sequence[str], size: int) -> Searcher:
    from vidperson.backends.identification import Identifier
    from vidperson.errors import ScoringError
    from vidperson.networks.opening import open_network

    if size != trained.size:
        names = " ".join(trained.embedders)
        raise ScoringError(f"it takes vectors of {trained.size} numbers, the embeddings of {names} have {size}")
    network = open_network(trained.installed(), batch=BATCH)
    return Identifier(trained.labels, models, lambda vectors: network(vectors)[0], BATCH)


def _write(planned: Planned, ranks: Ranks, rows: Sequence[str], columns: Sequence[str]) -> None:
    """``<row> <rank> <column> <score>``, whole or not at all."""
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import score_texts

    planned.target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(planned.target, "wb") as stream:
        for begin in range(0, len(ranks.rows), LINES_AT_ONCE):
            some = slice(begin, begin + LINES_AT_ONCE)
            lines = zip(
                *(ranks.rows[some].tolist(), ranks.ranks[some].tolist(), ranks.columns[some].tolist()),
                score_texts(ranks.scores[some]),
                strict=True,
            )
            stream.write(
                b"".join(
                    b"%b %d %b %b\n" % (rows[row].encode(), rank, columns[column].encode(), score)
                    for row, rank, column, score in lines
                )
            )
    planned.note()


if __name__ == "__main__":
    cli.run(search, SearchOptions, __doc__)
