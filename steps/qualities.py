"""What stage 4 tells of models and test segments beside the scores: what was found, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from steps.score import Inputs, PairOptions, ScoreOptions, SystemOptions
    from vidperson.backends import EmbeddingSets
    from vidperson.io.planned import Planned

    Double = NDArray[np.float64]

OF_SPEECH = ("duration", "snr")
"""Measures that need the columns of what stage 2 finds in sound."""


def plan_quality(pair: PairOptions, options: SystemOptions) -> Planned:
    """The list of a test set, with only the options and inputs that matter to it. Raises as ``plan_scores``."""
    from steps.cohorts import cohort_lists, cohort_words
    from steps.score import embedding_inputs, item_inputs, need
    from vidperson.io.planned import Planned

    measures = options.measures()
    command = ["python", "steps/score.py", "--embed-dir", str(pair.embed_dir)]
    command += ["--enroll-parts", *pair.enroll_parts.split(), "--test-part", pair.test_part]
    cure = "run ./run_001_prepare_data.sh, or write it, or correct trial_sets"
    inputs = [need(pair.enroll_data / "spk2utt", cure), need(pair.trials, cure)]
    parts = list(dict.fromkeys(pair.parts))
    inputs += [path for part in parts for path in embedding_inputs(pair.embeddings(part), pair.items(part))]
    asked = [measure for measure in measures if measure not in ("items", "norm")]  # these are always there
    if of_items(pair, measures):
        both = dict.fromkeys((pair.parts[0], pair.test_part))
        who = "quality_measures=" + next(measure for measure in measures if measure in OF_SPEECH)
        inputs += [path for part in both for path in item_inputs(pair, part, who)]
    if asked:
        command += ["--quality-measures", *asked]
    if "cohort" in asked:
        command += cohort_words(options) + (["--submean-set", options.submean_set] if options.submean_set else [])
        read = [options.snorm_cohort, *filter(None, [options.submean_set])]
        inputs += [path for part in read for path in embedding_inputs(pair.embeddings(part), pair.items(part))]
        inputs += cohort_lists(options)
    return Planned(options.quality(pair.embedder, pair.test_set), command, list(dict.fromkeys(inputs)))


def of_items(pair: PairOptions, measures: Sequence[str]) -> bool:
    """Whether some of the measures are told by what stage 2 found of the pair's modality."""
    from steps.score import items_of
    from vidperson.types import SUMMARIES

    return items_of(pair.modality) in SUMMARIES and any(measure in OF_SPEECH for measure in measures)


def write_quality(planned: Planned, inputs: Inputs, options: ScoreOptions) -> None:
    """Write the list of the models and test segments of the trials.

    Raises as ``score``: for items that are missing, and a cohort of another size.
    """
    from vidperson.io.quality import Qualities, QualityList, write_qualities

    pair, trials = options.pair, inputs.trials
    assert inputs.reference is not None and inputs.test is not None
    tested = _measured(inputs.test, pair.test_part, inputs, options)
    if inputs.places is None:
        models, segments = _of_models(_measured(inputs.reference, pair.parts[0], inputs, options), inputs), tested
    else:
        models, segments = ({name: values[places] for name, values in tested.items()} for places in inputs.places)
    write_qualities(
        planned.target, QualityList(Qualities(trials.model_ids, models), Qualities(trials.segment_ids, segments))
    )
    planned.note()


def _measured(sets: EmbeddingSets, part: str, inputs: Inputs, options: ScoreOptions) -> dict[str, Double]:
    """Measure -> (S,) values of the segments of a part."""
    from steps.cohorts import cohort_size, read_mean, subtract
    from steps.score import naming
    from vidperson.backends import EmbeddingSets
    from vidperson.backends.quality import cohort_means, mean_norms

    pair, systems = options.pair, options.systems
    measures = systems.measures()
    found = {"items": sets.counts.astype(float), "norm": mean_norms(sets)}
    if of_items(pair, measures):
        told = _told_by_items(sets.keys, pair.items(part), pair.modality)
        found |= {measure: told[measure] for measure in OF_SPEECH if measure in measures}
    if "cohort" in measures:
        cohort, scored = inputs.get_cohort(options), sets
        if systems.submean_set:
            cohort, scored = (EmbeddingSets(s.keys, s.embeddings.copy(), s.offsets) for s in (cohort, scored))
            mean = read_mean(pair.embeddings(systems.submean_set), [cohort, scored])
            for one in (cohort, scored):
                subtract(one, mean)
        with naming(pair.embeddings(systems.snorm_cohort)):
            found["cohort"] = cohort_means(scored, cohort, cohort_size(systems, len(cohort.embeddings)))
    return found


def _told_by_items(keys: Sequence[str], folder: Path | None, modality: str) -> dict[str, Double]:
    """Duration (seconds) and SNR (dB) of segments, NaN where nothing was found."""
    import numpy as np

    from steps.score import checked_matrices, items_of
    from vidperson.types import SUMMARIES

    assert folder is not None  # or the plan was refused
    columns, summary = SUMMARIES[items_of(modality)]
    table = checked_matrices(folder, items_of(modality))
    told = np.full((len(keys), len(columns)), np.nan)
    for i, key in enumerate(keys):
        rows = table.get(key)
        if rows is not None and len(rows):
            told[i] = summary(rows)
    return {"duration": told[:, columns.index("duration_s")], "snr": told[:, columns.index("snr_db")]}


def _of_models(found: dict[str, Double], inputs: Inputs) -> dict[str, Double]:
    """Measures of segments to those of the models: sums of items and durations, means of others."""
    import numpy as np

    from vidperson.backends.quality import by_model

    assert inputs.reference is not None
    rows = {key: i for i, key in enumerate(inputs.reference.keys)}
    segments = np.array([rows[name] for members in inputs.groups.values() for name in members], dtype=np.int64)
    models = np.repeat(np.arange(len(inputs.groups)), [len(members) for members in inputs.groups.values()])
    told = {}
    for measure, values in found.items():
        if measure in ("items", "duration"):
            known = np.isfinite(values)
            sums = np.bincount(models, np.where(known, values, 0.0)[segments], len(inputs.groups))
            some = np.bincount(models, known[segments], len(inputs.groups)) > 0
            told[measure] = np.where(some, sums, np.nan)
        else:
            weights = found.get("duration", found["items"]) if measure == "snr" else found["items"]
            told[measure] = by_model(values, weights, segments, models, len(inputs.groups))
    return told
