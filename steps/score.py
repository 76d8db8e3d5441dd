#!/usr/bin/env python3
"""Score the trials of a test set with all back-ends and norms; the embeddings are read once.

Inputs:
  EMBED_DIR/<part>/embed.scp
      one (N, dim) float32 matrix per segment, an item per row; 0 rows is legal. The parts are
      ENROLL_PARTS, TEST_PART and SNORM_COHORT. The first of ENROLL_PARTS is the reference. A second
      one is optional: a segment without a row in the first gets the mean of its rows in the second
  ITEMS_DIR/<part>/
      what stage 2 found: (N, 17) float32 frames and boxes of the items that the rows are of. Read
      by back-ends that link items (track), and for the duration and SNR of speech. Embeddings of
      other items are refused
  ENROLL_DATA/spk2utt
      <model> <segment> <segment> ...; the best of a model's segments counts
  TEST_DATA/trials
      <model> <segment> [target|nontarget]
  COHORT_DATA/utt2spk
      <segment> <person>, with --cohort-of persons: a cohort of the means of persons
Outputs:
  SCORES_DIR/<embedder>/<system>/<test set>_scores
      <model> <segment> <score>, in the order of the trials, with as many digits as the float32
      score has. A system is <backend>, <backend>_snorm, <backend>_submean or
      <backend>_submean_snorm
  SCORES_DIR/<embedder>/<test set>_quality
      model|segment <name> items=<n> norm=<mean length> ..., with what QUALITY_MEASURES asks for.
      items=0: nothing was found, so that the score of its trials is 0 and tells nothing
Beside each is the record of how it was made. What is there, intact and of the same options and
inputs is kept.

docs/metrics.md says what the back-ends do. A model or a test segment without any item scores 0.
Memory is bounded by --mem-gb, which changes no score. The options of calibration and fusion are
checked, too, before anything is scored.

Example:
  steps/score.py --modality face --embed-dir exp/face_embed/arcface_tiny \\
    --items-dir exp/face_det/retinaface_tiny --scores-dir exp/scores --backends "max ahc" \\
    --enroll-parts "demo_dev_enroll_ref demo_dev_enroll_facedet" \\
    --enroll-data data/demo_dev_enroll --test-part demo_dev_test --test-data data/demo_dev_test
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidperson.backends import Backend, Context, EmbeddingSets, Scorer
    from vidperson.backends.scorers import CohortScorer
    from vidperson.backends.systems import System
    from vidperson.io.matrices import MatrixTable
    from vidperson.io.planned import Planned
    from vidperson.io.trial_list import TrialList


@dataclass(frozen=True)
class PairOptions:
    """An enrolment set and a test set, compared by one modality."""

    modality: str = cli.option(help="what is compared, as in the config variable modalities")
    embed_dir: Path = cli.option(help="folder with the embeddings of each part; its name is that of the embedder")
    enroll_parts: str = cli.option(help="part of the references and, optionally, of what replaces a missing one")
    enroll_data: Path = cli.option(help="data folder with spk2utt")
    test_part: str = cli.option(help="part of the test segments")
    test_data: Path = cli.option(help="data folder with trials; its name is that of the test set")
    items_dir: Path | None = cli.option(None, "folder with what stage 2 found in each part")

    @property
    def embedder(self) -> str:
        return self.embed_dir.name

    @property
    def test_set(self) -> str:
        return self.test_data.name

    @property
    def trials(self) -> Path:
        return self.test_data / "trials"

    @property
    def parts(self) -> list[str]:
        """The reference, the fallback if there is one, and the test part."""
        return [*self.enroll_parts.split(), self.test_part]

    def embeddings(self, part: str) -> Path:
        return self.embed_dir / part

    def items(self, part: str) -> Path | None:
        return None if self.items_dir is None else self.items_dir / part


@dataclass(frozen=True)
class SystemOptions:
    """Which systems there are. Lists are words with spaces between."""

    backends: str = cli.option("max", "ways to compare: names or aliases")
    thr_ahc: float = cli.option(0.8, "average cosine down to which clusters are merged")
    submean_set: str = cli.option("", "part with the mean that further systems subtract; empty: none")
    snorm_cohort: str = cli.option("", "part that normalises scores in further systems; empty: none")
    cohort_of: str = cli.option(
        "items", "what the cohort is: its items, or means", choices=("items", "segments", "persons")
    )
    cohort_data: Path = cli.option(Path(), "data folder of the cohort, with utt2spk, for its persons")
    ncoh: int | None = cli.option(None, "how many of the cohort normalise a score; usually 1000 items or 300 means",
                                  convert=cli.whole(1))  # fmt: skip
    ncoh_discard: int = cli.option(0, "better items of the cohort left out before them", convert=cli.whole(0))
    calibration_set: str = cli.option("", "test set that trains calibration and fusion; empty: none")
    quality_measures: str = cli.option("", "further inputs of a second calibration, such as duration norm")
    fusion_systems: str = cli.option("", "systems to fuse: names, <embedder>/<system>, or paths; empty: none")
    fusion_methods: str = cli.option("logistic", "ways to fuse them: mean, logistic, quality")
    max_systems: int = cli.option(5, "most systems in the fusion", convert=cli.whole(1))
    primary_cost: str = cli.option("sre19", "evaluation that defines the primary cost: sre19 or sre21")
    scores_dir: Path = cli.option(Path("exp/scores"), "folder with the scores of all systems")
    embedders: str = cli.option("", "embedders of all modalities")
    test_sets: str = cli.option("", "all test sets")
    experiment: str = cli.option("", "name of the experiment, which is that of its fusion")

    def plain(self, embedder: str) -> list[System]:
        """The systems that score embeddings of an embedder."""
        from vidperson.backends.systems import plain_systems

        return plain_systems(embedder, self.backends.split(), self.snorm_cohort, self.submean_set)

    def uncalibrated(self) -> list[System]:
        """The systems that score embeddings, of all embedders."""
        return [system for embedder in self.embedders.split() for system in self.plain(embedder)]

    def measures(self) -> tuple[str, ...]:
        """The measures of quality. Raises ScoringError for unknown ones."""
        from vidperson.backends.quality import check_measures

        return check_measures(self.quality_measures.split())

    def systems(self) -> list[System]:
        """All systems, in the order of the tables."""
        from vidperson.backends.systems import all_systems

        fusions = list(self.fusions().values())
        return [*all_systems(self.uncalibrated(), self.calibration_set, self.measures()), *fusions]

    def fusions(self) -> dict[str, System]:
        """Way to fuse -> system."""
        from vidperson.backends.systems import FUSIONS, System

        methods = dict.fromkeys(self.fusion_methods.split()) if self.fusion_systems else {}
        found = {}
        for method in methods:
            on, measures = ("", ()) if method == "mean" else (self.calibration_set, self.measures())
            quality = measures if method == "quality" else ()
            found[method] = System(FUSIONS[method], FUSIONS[method], "", on, self.experiment, quality=quality)
        return found

    def folder(self, system: System) -> Path:
        return self.scores_dir / system.folder

    def scores(self, system: System, test_set: str) -> Path:
        return self.folder(system) / f"{test_set}_scores"

    def quality(self, embedder: str, test_set: str) -> Path:
        return self.scores_dir / embedder / f"{test_set}_quality"

    def fused(self) -> list[Path]:
        """The folders of the systems to fuse. Raises ScoringError as :func:`fusion_folders`."""
        from vidperson.backends.systems import fusion_folders

        made = {system.folder for system in self.systems()}
        return fusion_folders(self.fusion_systems.split(), self.scores_dir, self.embedders.split(), made)


@dataclass(frozen=True)
class RunOptions:
    """What a step does with files that are there already."""

    force: bool = cli.option(False, "make again what is there and has not changed")
    check: bool = cli.option(False, "write nothing; exit status 3 and the reasons where something is to be made")


@dataclass(frozen=True)
class ScoreOptions:
    pair: PairOptions = cli.group(PairOptions)
    systems: SystemOptions = cli.group(SystemOptions)
    run: RunOptions = cli.group(RunOptions)
    mem_gb: float = cli.option(4.0, "memory to use, GiB", convert=cli.positive)


def score(options: ScoreOptions) -> None:
    """See the top of this file.

    Raises ScoringError for systems that cannot be, for models and segments of the trials that the
    other inputs lack, for embeddings that are missing, not finite, of different sizes or of other
    items than stage 2's, for a cohort that is smaller than asked, for too little memory; DataError
    for malformed, edited or swapped files.
    """
    from steps.qualities import plan_quality, write_quality
    from vidperson.io.trial_list import TrialList

    check_systems(options.systems)
    planned = plan_scores(options.pair, options.systems)
    quality = plan_quality(options.pair, options.systems)
    wanted = to_make([*planned.values(), quality], options.run)
    if not wanted:
        return
    for one in wanted:
        one.remove()
    options.systems.scores_dir.mkdir(parents=True, exist_ok=True)
    with TrialList(options.pair.trials, options.systems.scores_dir) as trials:
        inputs = read_inputs(options, trials)
        if quality in wanted:
            write_quality(quality, inputs, options)
        ours = {system: one for system, one in planned.items() if one in wanted}
        turns = [[system for system in ours if bool(system.submean_set) == mean] for mean in (False, True)]
        turns = [turn for turn in turns if turn]
        for turn in turns:
            if turn[0].submean_set:
                inputs.subtract_mean(options)  # in place: those without it were before
            if any(system.snorm_cohort for system in turn):
                inputs.take_sample()
            names = list(dict.fromkeys(system.backend for system in turn))
            for name in names:
                now = {system: ours[system] for system in turn if system.backend == name}
                _score_backend(inputs, now, options, last=name == names[-1] and turn is turns[-1])
        for line in inputs.warnings:
            logging.warning("%s", line)


def check_systems(options: SystemOptions) -> None:
    """Refuse what would stop scoring, calibration, fusion or evaluation after part of their work.

    Raises ScoringError for unknown back-ends, quality measures, ways to fuse and primary costs, a
    threshold that is no cosine, embedders that share a folder, a calibration set that is no test
    set, and systems to fuse that are neither there nor made.
    """
    from vidperson.backends import Context, get_backend
    from vidperson.backends.systems import FUSIONS
    from vidperson.errors import ScoringError
    from vidperson.metrics import primary_priors

    if not options.backends.split():
        raise ScoringError("backends: expected a back-end or several, such as max, found none")
    for backend in options.backends.split():
        get_backend(backend)
    Context(options.thr_ahc)
    primary_priors(options.primary_cost)
    embedders, test_sets = options.embedders.split(), options.test_sets.split()
    reserved = set(FUSIONS.values()) & set(embedders)
    if reserved or len(set(embedders)) < len(embedders):
        names = " or ".join(sorted(reserved)) or FUSIONS["logistic"]
        raise ScoringError(f"expected embedders with different names, none of them {names}, found {options.embedders}")
    check_fusions(options)
    if options.calibration_set and options.calibration_set not in test_sets:
        raise ScoringError(
            f"calibration_set: expected one of the test sets ({' '.join(test_sets)}), found '{options.calibration_set}'"
        )
    made = {options.folder(system) for system in options.systems()}
    for folder in options.fused():
        for test_set in test_sets if folder not in made else []:
            need(folder / f"{test_set}_scores", "run ./run_004_score.sh with that system, or correct its name")


def check_fusions(options: SystemOptions) -> None:
    """Raises ScoringError for ways to fuse that are unknown, or lack what they need."""
    from vidperson.backends.systems import FUSIONS
    from vidperson.errors import ScoringError

    methods, measures = options.fusion_methods.split(), options.measures()
    unknown = [method for method in methods if method not in FUSIONS]
    if unknown or not methods:
        found = unknown[0] if unknown else "none"
        raise ScoringError(f"fusion_methods: expected one or several of {' '.join(FUSIONS)}, found {found}")
    trained = [method for method in methods if method != "mean"]
    if options.fusion_systems and trained and not options.calibration_set:
        raise ScoringError(
            f"fusion_systems needs calibration_set, the test set to choose and train the fusion on ({trained[0]}); "
            "only fusion_methods=mean needs none"
        )
    if options.fusion_systems and "quality" in methods and not measures:
        raise ScoringError("fusion_methods: quality needs quality_measures, such as duration norm")
    if "cohort" in measures and not options.snorm_cohort:
        raise ScoringError("quality_measures: cohort needs snorm_cohort, the cohort to compare with")


def need(path: Path, cure: str) -> Path:
    """``path``. Raises ScoringError where it is not there, with what to do."""
    from vidperson.errors import ScoringError

    if not path.is_file():
        raise ScoringError(f"there is no {path}; {cure}")
    return path


def to_make(planned: Sequence[Planned], run: RunOptions) -> list[Planned]:
    """Those of the files that have to be made; of the others the log says that they are there.

    With --check it leaves the process: status 0 where nothing is to be made, else 3, with the
    reasons on stdout.
    """
    from vidperson.io.planned import new_files, reasons

    if run.check:
        new = new_files(planned)
        lines = [f"to make: {new[0].target}" + (f" and {len(new) - 1} more" if new[1:] else "")] if new else []
        lines += reasons([one for one in planned if one not in new])
        print("\n".join(lines or [f"{len(planned)} files are kept; --force true makes them again"]))
        raise SystemExit(3 if lines else 0)
    wanted = []
    for one in planned:
        lines = one.reasons()
        if lines:
            logging.info("%s", "\n".join(lines))
        else:
            logging.info("%s: %s", one.target, "made again, as --force asks" if run.force else "done already")
        if lines or run.force:
            wanted.append(one)
    return wanted


def plan_scores(pair: PairOptions, options: SystemOptions) -> dict[System, Planned]:
    """Each system's scores of a pair, with only the options and inputs that matter to them.

    Raises ScoringError for embeddings and lists that are not there, and for embeddings of other
    items than stage 2's; DataError for embeddings that were edited.
    """
    from steps.cohorts import cohort_lists, cohort_words
    from vidperson.backends import get_backend
    from vidperson.io.planned import Planned

    cure = "run ./run_001_prepare_data.sh, or write it, or correct trial_sets"
    lists = [need(pair.enroll_data / "spk2utt", cure), need(pair.trials, cure)]
    cohort, submean = options.snorm_cohort, options.submean_set
    read = [*pair.parts, *filter(None, (cohort, submean))]
    made_of = {part: embedding_inputs(pair.embeddings(part), pair.items(part)) for part in dict.fromkeys(read)}
    planned = {}
    for system in options.plain(pair.embedder):
        backend = get_backend(system.backend)
        command = ["python", "steps/score.py", "--backend", system.backend, "--embed-dir", str(pair.embed_dir)]
        command += ["--enroll-parts", *pair.enroll_parts.split(), "--test-part", pair.test_part]
        inputs = [*lists, *(path for part in dict.fromkeys(pair.parts) for path in made_of[part])]
        if backend.clusters:
            command += ["--thr-ahc", f"{options.thr_ahc:g}"]
        if backend.needs_items:
            parts = dict.fromkeys((pair.parts[0], pair.test_part))
            inputs += [path for part in parts for path in item_inputs(pair, part, f"back-end '{system.backend}'")]
        if system.submean_set:
            command += ["--submean-set", submean]
            inputs += made_of[submean]
        if system.snorm_cohort:
            command += cohort_words(options)
            inputs += [*made_of[cohort], *cohort_lists(options)]
        planned[system] = Planned(options.scores(system, pair.test_set), command, list(dict.fromkeys(inputs)))
    return planned


def embedding_inputs(folder: Path, items: Path | None) -> list[Path]:
    """The files that say which embeddings a folder has, of the items in another. Raises as :func:`plan_scores`."""
    from vidperson.errors import ScoringError

    if not (folder / "embed.scp").is_file():
        raise ScoringError(
            f"no embeddings in {folder}; run ./run_003_extract_embeddings.sh with the set in trial_sets first"
        )
    refuse_damaged(folder)
    if items is not None:
        refuse_other_items(folder, items)
    return files_of(folder, "embed")


def item_inputs(pair: PairOptions, part: str, who: str) -> list[Path]:
    from vidperson.errors import ScoringError

    folder = pair.items(part)
    if folder is None:
        raise ScoringError(f"{who} needs --items-dir, the folder of stage 2 with what it found")
    need(folder / f"{items_of(pair.modality)}.scp", "run stage 2 for the set")
    refuse_damaged(folder)
    return files_of(folder, items_of(pair.modality))


def files_of(folder: Path, name: str) -> list[Path]:
    """The record of a folder, which holds the hashes of its files; without one the files."""
    from vidperson.io.record import RECORD

    record = folder / RECORD
    if record.is_file():
        return [record]
    return [path for path in (folder / f"{name}.scp", folder / f"{name}.ark") if path.is_file()]


def items_of(modality: str) -> str:
    """What stage 2 finds of a modality. Raises ScoringError for an unknown one."""
    from vidperson.errors import ScoringError
    from vidperson.types import ITEMS

    if modality not in ITEMS:
        raise ScoringError(f"modality: expected one of {' '.join(ITEMS)}, found '{modality}'")
    return ITEMS[modality]


def refuse_damaged(folder: Path) -> None:
    """Raises DataError where a file of a folder is not as its record says.

    A file of the recorded size that is not newer than the record counts as unchanged.
    """
    from vidperson.errors import DataError
    from vidperson.io.record import damaged_outputs, read_record

    record = read_record(folder)
    damaged = damaged_outputs(folder, record, thorough=False) if record else []
    if record and damaged:
        raise DataError(f"expected {damaged[0]} as it was written, found other bytes; {record.cure}", folder)


def refuse_other_items(embeddings: Path, items: Path) -> None:
    """Raises ScoringError where the record of embeddings tells of other items than those there now.

    Items that are not there at all, and embeddings without a record, are accepted. The journal does not count: it also
    says when files were changed, and a file that was only touched gives the same items.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.job_store import JOURNAL
    from vidperson.io.record import read_record

    made_of, there = read_record(embeddings), read_record(items)
    if made_of is None or there is None:
        return
    items_now = {output.sha256 for name, output in there.outputs.items() if name != JOURNAL}
    if not items_now <= set(made_of.inputs.values()):
        raise ScoringError(
            f"{embeddings}: expected embeddings of the items in {items}, found those of others: stage 2 was run again,"
            " or with another detector; run ./run_003_extract_embeddings.sh first"
        )


Places = tuple["NDArray[np.int32]", "NDArray[np.int32]"]


@dataclass
class Inputs:
    """What all back-ends compare.

    trials: what to score. groups: model -> its segments.
    reference, test: what is known of each segment; None once no back-end needs it.
    places: where each model is one segment of the test part, ``reference`` and ``test`` are the same object, so that
        embeddings are held once. These are the positions in it of the models and of the test segments, by their
        numbers in the trials; there are no groups then.
    cohort: vectors of the cohort, once it was read. mean: what was subtracted from all of these, (dim,).
    sample: (K, dim) unit vectors of the test set, until the cohort was compared with them.
    warnings: what is to be said at the end, so that it is seen.
    """

    pair: PairOptions
    trials: TrialList
    groups: Mapping[str, Sequence[str]]
    reference: EmbeddingSets | None
    test: EmbeddingSets | None
    places: Places | None = None
    cohort: EmbeddingSets | None = None
    mean: NDArray[np.float64] | None = None
    sample: NDArray[np.float64] | None = None
    warnings: list[str] = field(default_factory=list)

    def held(self) -> list[EmbeddingSets]:
        """The different sets that are held."""
        sets = {id(one): one for one in (self.reference, self.test, self.cohort) if one is not None}
        return list(sets.values())

    def others_bytes(self) -> int:
        """Memory of what is held, bytes."""
        return sum(sets.embeddings.nbytes for sets in self.held())

    def subtract_mean(self, options: ScoreOptions) -> None:
        """Subtract the mean of a set from all embeddings, in place."""
        from steps.cohorts import read_mean, subtract

        self.mean = read_mean(options.pair.embeddings(options.systems.submean_set), self.held())
        for sets in self.held():
            subtract(sets, self.mean)

    def take_sample(self) -> None:
        """Take a sample of the test set as it is now."""
        from vidperson.backends.cohort import sample_units

        assert self.test is not None
        self.sample = sample_units(self.test)

    def compare_cohort(self, name: str) -> None:
        """Note a warning where the cohort is of another domain than the sample, once."""
        from steps.cohorts import read_sample, tell_domains

        if self.sample is not None:
            how = "" if self.mean is None else ", after sub-mean"
            others = read_sample(self.pair.embeddings(name), self.mean)
            self.warnings += tell_domains(self.sample, others, (self.pair.test_part, name), how)
            self.sample = None

    def get_cohort(self, options: ScoreOptions) -> EmbeddingSets:
        """The vectors of the cohort, less the mean that was subtracted; they are read once."""
        from steps.cohorts import read_cohort, subtract

        if self.cohort is None:
            self.cohort = read_cohort(options.pair.embeddings(options.systems.snorm_cohort), options.systems)
            if self.mean is not None:
                subtract(self.cohort, self.mean)
        return self.cohort


def checked_matrices(folder: Path, name: str, columns: int | None = None) -> MatrixTable:
    """See :func:`vidperson.io.matrices.checked_matrices`."""
    from vidperson.io import matrices

    return matrices.checked_matrices(folder, name, columns)


def read_inputs(options: ScoreOptions, trials: TrialList) -> Inputs:
    """Read the embeddings that the trials need; see :func:`score` for what is refused."""
    import numpy as np

    from vidperson.backends import EmbeddingSets
    from vidperson.io.lines import read_spk2utt

    pair, spk2utt = options.pair, read_spk2utt(options.pair.enroll_data / "spk2utt")
    require(
        trials.model_ids,
        spk2utt,
        f"models of {pair.trials} are not in {pair.enroll_data / 'spk2utt'}",
        "correct the trial list",
        lambda model: trials.where(trials.first_with(0, model)),
    )
    groups = {model: spk2utt[model] for model in trials.model_ids}
    del spk2utt  # many names
    videos = list(dict.fromkeys(video for members in groups.values() for video in members))
    # Each model one segment of the test part: all embeddings are held once.
    shared = pair.enroll_parts.split() == [pair.test_part] and all(len(members) == 1 for members in groups.values())
    reference = None if shared else _read_reference(pair, videos)
    folder = pair.embeddings(pair.test_part)
    matrices = checked_matrices(folder, "embed")
    if shared:
        require_reference(pair, videos, matrices)
    require(
        trials.segment_ids,
        matrices,
        f"test segments of {pair.trials} are not in {folder / 'embed.scp'}",
        "correct the trial list, or run stages 2 and 3 for the set",
        lambda segment: trials.where(trials.first_with(1, segment)),
    )
    with naming(folder):
        names = dict.fromkeys([*(videos if shared else ()), *trials.segment_ids])
        test = EmbeddingSets.from_items(matrices.read(names))
    what = f"test segment without any {pair.modality}: its trials score 0"
    log_each(test.empty_keys(), logging.warning, what, folder)
    if reference is not None:
        return Inputs(pair, trials, groups, reference, test)
    rows = {name: i for i, name in enumerate(names)}
    models = np.array([rows[members[0]] for members in groups.values()], dtype=np.int32)
    segments = np.array([rows[segment] for segment in trials.segment_ids], dtype=np.int32)
    return Inputs(pair, trials, {}, test, test, (models, segments))


def require_reference(pair: PairOptions, videos: Sequence[str], matrices: Container[str]) -> None:
    """Raises ScoringError for enrolment segments without embeddings."""
    scp = pair.embeddings(pair.parts[0]) / "embed.scp"
    listed = f"enrolment segments of {pair.enroll_data / 'spk2utt'} are not in {scp}"
    require(videos, matrices, listed, "run stages 2 and 3 for the set")


def _read_reference(pair: PairOptions, videos: list[str]) -> EmbeddingSets:
    """The enrolment segments' embeddings; what is missing is replaced by the fallback's mean."""
    from vidperson.backends import EmbeddingSets, replace_missing_reference

    folders = [pair.embeddings(part) for part in pair.parts[:-1]]
    matrices = checked_matrices(folders[0], "embed")
    require_reference(pair, videos, matrices)
    with naming(folders[0]):
        reference = EmbeddingSets.from_items(matrices.read(videos))
    for folder in folders[1:]:
        detected = checked_matrices(folder, "embed")
        require(
            reference.empty_keys(),
            detected,
            f"segments without reference {items_of(pair.modality)} are not in {folder / 'embed.scp'}",
            "run stages 2 and 3 for the set",
        )
        with naming(folders[0], folder):
            reference, replaced, _ = replace_missing_reference(reference, detected)
        log_each(replaced, logging.info, f"no reference {pair.modality}: replaced by the mean of all that was found")
    log_each(reference.empty_keys(), logging.warning, f"enrolment segment without any {pair.modality}", folders[0])
    return reference


def _score_backend(inputs: Inputs, planned: Mapping[System, Planned], options: ScoreOptions, last: bool) -> None:
    """Score with one back-end, plain and normalised as planned.

    last: the inputs are not needed afterwards, and their memory is freed.
    """
    from vidperson.backends import get_backend

    pair = options.pair
    name = next(iter(planned)).backend
    method = get_backend(name)
    assert inputs.reference is not None and inputs.test is not None
    folders = [pair.embeddings(part) for part in pair.parts]
    places = inputs.places
    with naming(folders[-1]):
        test = method.test(inputs.test, _context(method, pair.test_part, options))
    if places and method.enrolment is method.test:
        enrolment = test
    else:
        with naming(folders[0]):
            enrolment = method.enrolment(inputs.reference, _context(method, pair.parts[0], options))
            enrolment = enrolment if places else enrolment.union(inputs.groups)
    if last:
        inputs.reference = inputs.test = None
    empty = enrolment.counts == 0 if places is None else enrolment.counts[places[0]] == 0
    models = [model for model, none in zip(inputs.trials.model_ids, empty.tolist(), strict=True) if none]
    log_each(models, logging.warning, f"model without any {pair.modality}: its trials score 0")
    missing = int((test.counts == 0 if places is None else test.counts[places[1]] == 0).sum())
    with naming(folders[0], folders[-1]):
        plain = method.scorer(enrolment, test)
    for system, one in planned.items():
        how = " after sub-mean" if system.submean_set else ""
        scorer: Scorer = plain
        if system.snorm_cohort:
            scorer, normalised = _normalised(method, plain, inputs, options)
            how += normalised
        _score_all(one, scorer, inputs, options.mem_gb)
        logging.info(
            "%s: %d trials scored with '%s'%s; %d of %d models and %d of %d test segments without a %s",
            *(one.target, len(inputs.trials), name, how, len(models), len(inputs.trials.model_ids)),
            *(missing, len(inputs.trials.segment_ids), pair.modality),
        )


def _context(method: Backend, part: str, options: ScoreOptions) -> Context:
    """What a back-end may need of a part beside its embeddings."""
    from vidperson.backends import Context

    table: MatrixTable | None = None
    folder = options.pair.items(part)
    if method.needs_items and folder is not None:
        table = checked_matrices(folder, items_of(options.pair.modality))
    return Context(options.systems.thr_ahc, int(options.mem_gb * 2**28), table)


def _normalised(method: Backend, plain: CohortScorer, inputs: Inputs, options: ScoreOptions) -> tuple[Scorer, str]:
    """The scorer with its scores normalised, and the words for it."""
    from steps.cohorts import cohort_size
    from vidperson.backends import AdaptiveSNorm

    systems, folder = options.systems, options.pair.embeddings(options.systems.snorm_cohort)
    cohort = inputs.get_cohort(options)
    size = cohort_size(systems, len(cohort.embeddings))
    with naming(folder):
        scorer = AdaptiveSNorm(plain, method.cohort(cohort), size, systems.ncoh_discard)
    inputs.compare_cohort(systems.snorm_cohort)
    items = items_of(options.pair.modality) if systems.cohort_of == "items" else f"means of {systems.cohort_of}"
    return scorer, f", normalised by {size} of the {len(cohort.embeddings)} {items} of {folder}"


def _score_all(planned: Planned, scorer: Scorer, inputs: Inputs, mem_gb: float) -> None:
    """Score and write some trials at a time: memory does not grow with the list.

    Raises ScoringError for a score that is not finite.
    """
    import numpy as np

    from vidperson.backends import score_pairs
    from vidperson.backends.trials import fastest, trials_at_once
    from vidperson.errors import ScoringError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import ScoreLines

    trials, places, scorer = inputs.trials, inputs.places, fastest(scorer)
    done, most = 0, trials_at_once(scorer, trials.by_model, mem_gb)
    with atomic_write(planned.target, "wb") as stream:
        lines = None
        for pairs in trials.parts(most):
            where = pairs if places is None else np.column_stack([places[0][pairs[:, 0]], places[1][pairs[:, 1]]])
            scores = score_pairs(scorer, where, mem_gb, others_bytes=inputs.others_bytes())
            broken = np.flatnonzero(~np.isfinite(scores))
            if len(broken):
                place = trials.where(done + int(broken[0]))
                raise ScoringError(f"{place}: the score of '{trials.name(pairs[broken[0]])}' would be NaN or infinite")
            lines = lines or ScoreLines(stream, trials.model_ids, trials.segment_ids)  # not beside the first products
            lines.write(pairs[:, 0], pairs[:, 1], scores)
            done += len(pairs)
    planned.note()


@contextmanager
def naming(*folders: Path) -> Iterator[None]:
    """Puts the archives at fault in front of what is wrong with their embeddings."""
    from vidperson.errors import ScoringError

    try:
        yield
    except ScoringError as error:
        raise ScoringError(f"{' and '.join(str(folder / 'embed.scp') for folder in folders)}: {error}") from None


def require(
    names: Sequence[str],
    known: Container[str],
    problem: str,
    cure: str,
    where: Callable[[int], str] | None = None,
) -> None:
    """Refuse names that are not known; where: a name's place in the list to ``<file>:<line>``."""
    from vidperson.errors import ScoringError

    missing = [i for i, name in enumerate(names) if name not in known]
    if missing:
        place = f"{where(missing[0])}: " if where else ""
        first = ", ".join(names[i] for i in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ScoringError(f"{place}{len(missing)} of {len(names)} {problem}: {first}; {cure}")


def log_each(names: list[str], log: Callable[..., None], what: str, folder: Path | None = None) -> None:
    """Log each name and how many there are. folder: of the embeddings; its statuses say why."""
    statuses = _statuses(folder) if names and folder else {}
    for name in names:
        log("%s: %s%s", name, what, f" ({statuses[name]})" if name in statuses else "")
    if names:
        states = Counter(statuses[name].partition(":")[0] for name in names if name in statuses)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        log("%d in all: %s%s", len(names), what, f" ({counts})" if counts else "")


def _statuses(folder: Path) -> dict[str, str]:
    """Segment -> status, as stage 2 gave it; none where a user's own embeddings have no such list."""
    from vidperson.io.lines import read_scp
    from vidperson.io.record import checked

    return read_scp(checked(folder / "status")) if (folder / "status").is_file() else {}


if __name__ == "__main__":
    cli.run(score, ScoreOptions, __doc__)
