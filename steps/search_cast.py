#!/usr/bin/env python3
"""Rank the candidates of each film for every member of its cast, by portraits and by what candidates share.

Inputs:
  DATA_DIR/<test set>/search, utt2group, vid.scp
      <model> <group>: the film that a cast member is searched in; <segment> <group>: the candidates
      of a film; <segment> <frame>: two candidates with the same path are seen together
  DATA_DIR/<enrolment set>/utt2spk
      <segment> <cast member>: the portraits, of each of ENROLL_SETS
  DATA_DIR/<calibration set>/
      optional: the same lists, and relevant, the key: <model> <segment>; its portraits are those of
      CALIBRATION_ENROLL_SETS. It makes the scores of `calibrated` log-likelihood ratios
  Per word of CUES, which holds options of its own:
  <each of embed_dirs>/<set>/embed.scp, <items_dir>/<set>/
      one (N, dim) float32 matrix per segment; 0 rows is legal. With `--cue identity` the embeddings
      of portraits and candidates are compared, with `--cue appearance` those of candidates
Outputs, for each of CAST_BACKENDS: SCORES_DIR/<back-end>/<experiment>/
  <test set>_ranks     <model> <rank> <segment> <score>, the best SEARCH_TOP candidates of each
  <test set>_persons   <segment> <rank> <model> <score>, the best SEARCH_PERSONS of each candidate
  <test set>_reasons   <model> <segment> <reason> <evidence>, of the lines of _ranks: identity,
                       expansion, appearance, excluded or none, and the portrait or candidate that
                       decided, or -
Beside each is the record of how it was made. What is there, intact and of the same options and
inputs is kept.

docs/metrics.md says what the back-ends do. Films are read and ranked one by one. Every candidate
has a rank for every cast member of its film, also without any embedding. Several embed_dirs, or
several words of the same cue, are an ensemble: their cosines are averaged. Of equal scores the name
that comes first in the C locale is the better one.

Example:
  identity="--cue identity --modality face --embed-dirs exp/face_embed/arcface_tiny"
  identity+=" --items-dir exp/face_det/retinaface_tiny"
  appearance="--cue appearance --modality body --embed-dirs exp/body_embed/osnet_x025_msmt17_onnx"
  steps/search_cast.py --cues "$identity" "$appearance" --data-dir data --enroll-sets csm_val_cast \\
    --test-set csm_val_candidates --cast-backends original --experiment csm --scores-dir exp/scores
"""

from __future__ import annotations

import itertools
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from steps.parts import Part, read_groups
from steps.score import RunOptions, items_of, log_each, need, require, to_make
from steps.search import SystemLists
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidperson.backends.calibration import LinearModel
    from vidperson.backends.cast import Cue, Film, Ranking
    from vidperson.backends.systems import System
    from vidperson.io.planned import Planned

    Vectors = NDArray[np.float32]

CUES = ("identity", "appearance")
RERANKING = ("original",)
"""The back-ends for which cast_rerank counts."""
CURE_OF_ITEMS = "run stages 2 and 3 for the set"
CURE = "run ./run_001_prepare_data.sh, or write it, or correct trial_sets"


@dataclass(frozen=True)
class CueOptions:
    """The embeddings of a modality, by one or several embedders."""

    cue: str = cli.option(help="identity: portraits and candidates are compared; appearance: candidates", choices=CUES)
    modality: str = cli.option(help="what is compared, as in the config variable modalities")
    embed_dirs: list[Path] = cli.option(help="folders with the embeddings of each set, one per embedder")
    items_dir: Path | None = cli.option(None, "folder with what stage 2 found in each set")
    link_cosine: float = cli.option(0.3, "lowest cosine of successive items of a track", convert=cli.cosine)

    def part(self, name: str) -> Part:
        """A set as these embedders see it. Raises as :class:`Part`."""
        return Part(name, self.embed_dirs, self.items_dir, self.modality, self.link_cosine)


@dataclass(frozen=True)
class CastPairOptions:
    """Portraits, the candidates of films, and what is compared."""

    data_dir: Path = cli.option(help="folder of the data sets")
    enroll_sets: str = cli.option(help="sets with the portraits")
    test_set: str = cli.option(help="set with the candidates")
    cues: list[str] = cli.option(help="a word per modality: its options, see below")

    @property
    def test_data(self) -> Path:
        return self.data_dir / self.test_set

    def enrolment(self) -> list[Path]:
        """The data folders of the enrolment sets."""
        return [self.data_dir / name for name in self.enroll_sets.split()]

    def of(self, cue: str) -> list[tuple[str, CueOptions]]:
        """The words of a cue and their options. Leaves the process with status 2 for options that are wrong."""
        found = [(word, cli.parse(CueOptions, None, shlex.split(word))) for word in self.cues]
        return [(word, one) for word, one in found if one.cue == cue]


@dataclass(frozen=True)
class CastSystemOptions(SystemLists):
    """Which systems search. Lists are words with spaces between."""

    cast_backends: str = cli.option("original propagation", "ways to search, see docs/metrics.md")
    cast_rerank: str = cli.option(
        "", f"what original re-ranks by k-reciprocal encoding: {' '.join(CUES)}; as identity:ecn by ECN; empty: nothing"
    )
    calibration_set: str = cli.option(
        "", "searched set with a key that makes scores of 'calibrated' log-likelihood ratios"
    )
    calibration_enroll_sets: str = cli.option("", "sets with the portraits of that set")
    search_top: int = cli.option(100, "candidates listed per cast member", convert=cli.whole(1))
    search_persons: int = cli.option(5, "cast members listed per candidate", convert=cli.whole(1))
    scores_dir: Path = cli.option(Path("exp/scores"), "folder with the scores of all systems")
    embedders: str = cli.option("", "embedders of all modalities; no back-end may have the name of one")
    experiment: str = cli.option("", "name of the experiment")

    def systems(self) -> list[System]:
        """In the order of the tables."""
        from vidperson.backends.systems import cast_systems

        return cast_systems(self.cast_backends.split(), self.experiment, self.calibration_set)

    def calibration(self, pair: CastPairOptions) -> CastPairOptions:
        """What the calibration set is compared by: the same as a pair."""
        return replace(pair, enroll_sets=self.calibration_enroll_sets, test_set=self.calibration_set)

    def reasons(self, system: System, test_set: str) -> Path:
        return self.folder(system) / f"{test_set}_reasons"


@dataclass(frozen=True)
class SearchCastOptions:
    pair: CastPairOptions = cli.group(CastPairOptions)
    systems: CastSystemOptions = cli.group(CastSystemOptions)
    run: RunOptions = cli.group(RunOptions)


def search_cast(options: SearchCastOptions) -> None:
    """See the top of this file.

    Raises ScoringError for back-ends that are not there, for cast members and candidates of the lists that the other
    inputs lack, and for embeddings that are missing or of other items than stage 2's; DataError for malformed, edited
    or swapped files and for embeddings that are not finite or of different sizes.
    """
    check_cast(options.systems)
    planned = plan_casts(options.pair, options.systems)
    wanted = to_make([one for ours in planned.values() for one in ours], options.run)
    systems = [system for system, ours in planned.items() if any(one in wanted for one in ours)]
    if not systems:
        return
    for system in systems:
        for one in planned[system]:
            one.remove()
    found = {system: _Found() for system in systems}
    models = {one: learn(options.systems.calibration(options.pair), one) for one in systems if one.calibrated_on}
    for names, film in read_films(options.pair):
        for system in systems:
            ranking = ways_to_search()[system.backend](film, options.systems.cast_rerank.split())
            if system in models:
                ranking = calibrate(ranking, models[system])
            found[system].add(names, ranking)
    for system in systems:
        _write(planned[system], found[system], options.systems)


def learn(pair: CastPairOptions, system: System) -> LinearModel:
    """The logistic regression from the scores of a back-end to log-likelihood ratios, by a set with a key.

    Raises ScoringError where that set has no pairs to learn from, or the key contradicts the scores.
    """
    import numpy as np

    from vidperson.backends.calibration import train_linear
    from vidperson.errors import ScoringError
    from vidperson.io.ranks import read_relevant

    shown = {(model, segment) for model, some in read_relevant(pair.test_data / "relevant").items() for segment in some}
    scores, right = [], []
    for names, film in read_films(pair):
        scores.append(ways_to_search()[system.backend](film, ()).scores.ravel())
        right += [(model, segment) in shown for model in names.models for segment in names.segments]
    try:
        found = train_linear(np.concatenate(scores), right, (system.backend,), trained_on=pair.test_set)
        if found.weights[0] <= 0:
            raise ScoringError("candidates in the key have no higher scores than others; is it the key of this set?")
    except ScoringError as error:
        raise ScoringError(f"calibration_set: {pair.test_data / 'relevant'}: {error}") from None
    message = "%s: log-likelihood ratio = %.4f + %.4f times the log odds; %d pairs of the key, %d others of %s"
    numbers = found.offset, found.weights[0], found.num_targets, found.num_nontargets
    logging.info(message, system.backend, *numbers, pair.test_set)
    return found


def calibrate(ranking: Ranking, model: LinearModel) -> Ranking:
    """The same with log-likelihood ratios as scores."""
    scores = model.apply(ranking.scores.ravel()).reshape(ranking.scores.shape)
    return replace(ranking, scores=scores.astype("float32"))


def ways_to_search() -> Mapping[str, Callable[[Film, Sequence[str]], Ranking]]:
    """Name -> back-end."""
    from vidperson.backends.cast_calibrated import calibrated
    from vidperson.backends.cast_original import original
    from vidperson.backends.cast_propagation import propagation

    return {
        "original": original,
        "propagation": lambda film, rerank: propagation(film),
        "calibrated": lambda film, rerank: calibrated(film),
    }


def check_cast(options: CastSystemOptions) -> None:
    """Refuse what would stop the search or its evaluation after part of the work.

    Raises ScoringError for unknown back-ends and cues, an embedder with the name of a back-end, and an experiment that
    names no folder.
    """
    from vidperson.backends.cast import RERANKINGS
    from vidperson.errors import ScoringError

    valid = list(ways_to_search())
    names = options.cast_backends.split()
    if not names or (unknown := [name for name in names if name not in valid]):
        found = f"'{unknown[0]}'" if names else "none"
        raise ScoringError(f"cast_backends: expected one or several of {' '.join(valid)}, found {found}")
    reranked = options.cast_rerank.split()
    ways = [*CUES, *(f"{cue}:{way}" for cue in CUES for way in RERANKINGS)]
    if unknown := [word for word in reranked if word not in ways]:
        raise ScoringError(f"cast_rerank: expected words of {' '.join(ways)}, found '{unknown[0]}'")
    if len({word.partition(":")[0] for word in reranked}) < len(reranked):
        raise ScoringError(f"cast_rerank: expected each of {' '.join(CUES)} once, found '{options.cast_rerank}'")
    if taken := [name for name in options.embedders.split() if name in valid]:
        raise ScoringError(f"expected embedders with other names than the back-ends of a cast search: {taken[0]}")
    if not options.experiment or "/" in options.experiment or options.experiment in (".", ".."):
        raise ScoringError(f"experiment: expected the name of a folder, found '{options.experiment}'")


def plan_casts(pair: CastPairOptions, options: CastSystemOptions) -> dict[System, list[Planned]]:
    """Each system's ranks, persons and reasons of a test set, with the options and inputs that matter to them.

    Raises ScoringError for embeddings and lists that are not there, without an identity to compare, and for embeddings
    of other items than stage 2's; DataError for embeddings that were edited.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.planned import Planned

    if not pair.of("identity"):
        raise ScoringError(
            "expected a modality in which portraits and candidates are compared, found none; name one in "
            "modalities, and in cast_embedders unless that is empty"
        )
    inputs = _inputs(pair)
    command = ["python", "steps/search_cast.py", "--enroll-sets", *pair.enroll_sets.split()]
    for cue in CUES:
        for _, one in pair.of(cue):
            command += [f"--{cue}", *map(str, one.embed_dirs), "--link-cosine", f"{one.link_cosine:g}"]
    planned = {}
    for system in options.systems():
        own = [*command, "--test-set", pair.test_set, "--cast-backend", system.backend]
        if system.backend in RERANKING:
            own += [word for cue in options.cast_rerank.split() for word in ("--cast-rerank", cue)]
        top, persons = ["--search-top", str(options.search_top)], ["--search-persons", str(options.search_persons)]
        made_of = inputs
        if system.calibrated_on:
            trained = options.calibration(pair)
            own += ["--calibration-set", trained.test_set, "--calibration-enroll-sets", *trained.enroll_sets.split()]
            key = need(trained.test_data / "relevant", "name a calibration_set of which it is known who is where")
            made_of = list(dict.fromkeys([*inputs, *_inputs(trained), key]))
        planned[system] = [
            Planned(options.ranks(system, pair.test_set), [*own, *top], made_of),
            Planned(options.persons(system, pair.test_set), [*own, *persons], made_of),
            Planned(options.reasons(system, pair.test_set), [*own, *top, "--reasons"], made_of),
        ]
    return planned


def _inputs(pair: CastPairOptions) -> list[Path]:
    """The files that a pair is read from. Raises as :func:`plan_casts`."""
    found = [need(pair.test_data / name, CURE) for name in ("search", "utt2group", "vid.scp")]
    found += [need(data / "utt2spk", CURE) for data in pair.enrolment()]
    for cue in CUES:
        names = [*(pair.enroll_sets.split() if cue == "identity" else []), pair.test_set]
        found += [path for _, one in pair.of(cue) for name in names for path in one.part(name).inputs]
    return list(dict.fromkeys(found))


# -- films


@dataclass(frozen=True)
class Names:
    """Who is in a film, each in C-locale order.

    models: the cast. segments: the candidates. portrait: (C, N) for each cast member and candidate the place in
        ``portraits`` of the nearest portrait, or -1.
    """

    models: list[str]
    segments: list[str]
    portraits: list[str]
    portrait: NDArray[np.int64]


@dataclass
class _Portraits:
    """Portraits, whom each shows, and per identity cue their (P, D) vectors and which of these there are."""

    names: list[str]
    owners: list[str]
    parts: list[tuple[Vectors, NDArray[np.bool_]]]

    def cast(self, models: Sequence[str]) -> Cue:
        """Each cast member as the mean of its portraits."""
        import numpy as np

        from vidperson.backends.cast import Cue
        from vidperson.backends.identification import class_means

        place = {model: i for i, model in enumerate(models)}
        means = []
        for rows, there in self.parts:
            own = [i for i, owner in enumerate(self.owners) if owner in place and there[i]]
            found = np.zeros((len(models), rows.shape[1]), np.float32)
            known = np.zeros(len(models), dtype=bool)
            if own:
                names, found_means = class_means(rows[own], [self.owners[i] for i in own])
                places = [place[name] for name in names]
                found[places], known[places] = found_means, True
            means.append((found, known))
        return Cue(len(models), means)

    def nearest(self, models: Sequence[str], candidates: Cue) -> NDArray[np.int64]:
        """(C, N) place of the portrait of each cast member that is nearest to each candidate; -1 where it has none."""
        import numpy as np

        from vidperson.backends.cast import Cue

        every = Cue(len(self.names), self.parts)
        cosines = np.nan_to_num(every.cosines(candidates), nan=-2.0)
        found = np.full((len(models), len(candidates)), -1, dtype=np.int64)
        for c, model in enumerate(models):
            own = np.flatnonzero(np.array([owner == model for owner in self.owners], dtype=bool) & every.known)
            if len(own):
                found[c] = own[np.argmax(cosines[own], axis=0)]
        return found


def read_films(pair: CastPairOptions) -> Iterator[tuple[Names, Film]]:
    """The films of a set, one by one; see :func:`search_cast` for what is refused."""
    import numpy as np

    from vidperson.backends.cast import Cue, Film
    from vidperson.io.lines import read_scp, sort_key

    groups = {name: some for name, some in read_groups(pair.test_data).items() if some[0]}
    films = [(groups[name][0], sorted(groups[name][1], key=sort_key)) for name in sorted(groups, key=sort_key)]
    segments = [segment for _, some in films for segment in some]
    lists = pair.test_data / "utt2group", pair.test_data / "vid.scp"
    frame_of = read_scp(lists[1])
    require(segments, frame_of, f"segments of {lists[0]} are not in {lists[1]}", "correct one of the lists")
    sizes: dict[str, dict[str, int]] = {word: {} for word in pair.cues}
    portraits = _read_portraits(pair, sorted({model for some, _ in films for model in some}, key=sort_key), sizes)
    readers = {cue: [_vectors(one, pair.test_set, segments, sizes[word]) for word, one in pair.of(cue)] for cue in CUES}
    for models, some in films:
        cues = {cue: Cue(len(some), [_take(each, len(some)) for each in readers[cue]]) for cue in CUES}
        number = {frame: i for i, frame in enumerate(dict.fromkeys(frame_of[segment] for segment in some))}
        frames = np.array([number[frame_of[segment]] for segment in some], dtype=np.int64)
        names = Names(models, some, portraits.names, portraits.nearest(models, cues["identity"]))
        yield names, Film(portraits.cast(models), cues["identity"], cues["appearance"], frames)


def _vectors(cue: CueOptions, name: str, segments: Sequence[str], sizes: dict[str, int]) -> Iterator[Vectors | None]:
    """The vector of the largest track of each of some segments of a set; None for one without an item."""
    part = cue.part(name)
    require(segments, set(part.segments()), f"segments of {name} are not in {part.embed[0]}", CURE_OF_ITEMS)
    empty = 0
    for place, (_, pooled, _) in enumerate(part.pooled(segments, sizes), 1):
        empty += pooled.largest is None
        if empty and place == len(segments):  # now, as nobody asks for what is behind the last one
            logging.info("%s: %d of %d segments without any %s", part.embed[0], empty, place, items_of(cue.modality))
        yield None if pooled.largest is None else pooled.vectors[pooled.largest]


def _take(vectors: Iterator[Vectors | None], count: int) -> tuple[Vectors, NDArray[np.bool_]]:
    """The next vectors as (count, D), and which of them there are."""
    import numpy as np

    some = list(itertools.islice(vectors, count))
    size = next((len(row) for row in some if row is not None), 0)
    rows = np.zeros((count, size), np.float32)
    for i, row in enumerate(some):
        if row is not None:
            rows[i] = row
    return rows, np.array([row is not None for row in some], dtype=bool)


def _read_portraits(pair: CastPairOptions, models: Sequence[str], sizes: Mapping[str, dict[str, int]]) -> _Portraits:
    """The portraits of these cast members.

    Raises ScoringError for one that no enrolment set has, and where no portrait shows any of them.
    """
    import numpy as np

    from vidperson.errors import ScoringError
    from vidperson.io.lines import read_scp, sort_key

    lists = " and ".join(str(data / "utt2spk") for data in pair.enrolment())
    found = _Portraits([], [], [])
    parts: list[list[tuple[Vectors, NDArray[np.bool_]]]] = [[] for _ in pair.of("identity")]
    wanted = set(models)
    for data in sorted(pair.enrolment(), key=lambda data: sort_key(data.name)):
        owner = {name: who for name, who in read_scp(data / "utt2spk").items() if who in wanted}
        names = sorted(owner, key=sort_key)
        found.names += names
        found.owners += [owner[name] for name in names]
        for own, (word, one) in zip(parts, pair.of("identity"), strict=True):
            own.append(_take(_vectors(one, data.name, names, sizes[word]), len(names)))
    require(models, set(found.owners), f"cast members of {pair.test_data / 'search'} are not in {lists}", CURE)
    for own in parts:
        size = max((rows.shape[1] for rows, _ in own), default=0)
        rows = [some if some.shape[1] else np.zeros((len(some), size), np.float32) for some, _ in own]
        found.parts.append((np.concatenate(rows), np.concatenate([there for _, there in own])))
    usable = np.any([there for _, there in found.parts], axis=0)
    without = sorted(
        set(models) - {owner for owner, has in zip(found.owners, usable, strict=True) if has}, key=sort_key
    )
    log_each(without, logging.warning, "cast member without any usable portrait: ranked by who is left")
    if len(without) == len(models):
        raise ScoringError(f"{lists}: no cast member has a portrait with an embedding: nothing to search with")
    return found


# -- lists


@dataclass
class _Found:
    """The lines of all films: names of cast members and candidates, scores, reasons, evidence."""

    lines: list[tuple[str, str, float, str, str]] = field(default_factory=list)

    def add(self, names: Names, ranking: Ranking) -> None:
        from vidperson.backends.cast import NOTHING, REASONS

        count = len(names.segments)
        for c, model in enumerate(names.models):
            for n, segment in enumerate(names.segments):
                evidence, told = int(ranking.evidence[c, n]), "-"
                if evidence >= count:
                    portrait = int(names.portrait[evidence - count, n])
                    told = names.portraits[portrait] if portrait >= 0 else "-"
                elif evidence != NOTHING:
                    told = names.segments[evidence]
                reason = REASONS[ranking.reasons[c, n]]
                self.lines.append((model, segment, float(ranking.scores[c, n]), reason, told))


def _write(planned: Sequence[Planned], found: _Found, options: CastSystemOptions) -> None:
    """The three lists of a system, each whole or not at all."""
    from vidperson.io.atomic import atomic_write

    of_models = _best([(model, segment, score, f"{why} {by}") for model, segment, score, why, by in found.lines])
    of_segments = _best([(segment, model, score, "") for model, segment, score, *_ in found.lines])
    ranks = [line for line in of_models if line.rank <= options.search_top]
    persons = [line for line in of_segments if line.rank <= options.search_persons]
    contents = ranks, persons, ranks
    for one, lines in zip(planned, contents, strict=True):
        one.target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(one.target) as stream:
            stream.writelines(line.why() if one is planned[-1] else line.ranked() for line in lines)
        one.note()
    logging.info("%s: %d candidates ranked for %d cast members", planned[0].target, *_counts(of_models))


class _Line(NamedTuple):
    row: str
    rank: int
    column: str
    score: str
    told: str

    def ranked(self) -> str:
        return f"{self.row} {self.rank} {self.column} {self.score}\n"

    def why(self) -> str:
        return f"{self.row} {self.column} {self.told}\n"


def _best(lines: list[tuple[str, str, float, str]]) -> list[_Line]:
    """Row, column, score and text, ranked by score for each row; rows, and equal scores, in C-locale order."""
    import numpy as np

    from vidperson.io.lines import sort_key
    from vidperson.io.lists import score_texts

    lines = sorted(lines, key=lambda line: (sort_key(line[0]), -line[2], sort_key(line[1])))
    texts = score_texts(np.array([score for _, _, score, _ in lines], dtype=np.float32))
    found, rank, before = [], 0, None
    for (row, column, _, told), text in zip(lines, texts, strict=True):
        rank = rank + 1 if row == before else 1
        before = row
        found.append(_Line(row, rank, column, text.decode(), told))
    return found


def _counts(lines: Sequence[_Line]) -> tuple[int, int]:
    return len({line.column for line in lines}), len({line.row for line in lines})


if __name__ == "__main__":
    cli.run(search_cast, SearchCastOptions, __doc__)
