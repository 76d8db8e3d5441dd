"""What stage 4 subtracts from embeddings, and what it normalises scores by: sets that are read for all back-ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from steps.score import SystemOptions
    from vidperson.backends import EmbeddingSets

    Double = NDArray[np.float64]


def cohort_words(options: SystemOptions) -> list[str]:
    """What of a command decides the cohort."""
    words = ["--snorm-cohort", options.snorm_cohort, "--ncoh", str(options.ncoh or "usual")]
    words += ["--ncoh-discard", str(options.ncoh_discard)]
    return words + (["--cohort-of", options.cohort_of] if options.cohort_of != "items" else [])


def cohort_lists(options: SystemOptions) -> list[Path]:
    """The list that says who is who of a cohort of persons. Raises ScoringError where it is not there."""
    from steps.score import need

    if options.cohort_of != "persons":
        return []
    return [need(options.cohort_data / "utt2spk", "write it, or take another cohort_of: items or segments")]


def read_cohort(folder: Path, options: SystemOptions) -> EmbeddingSets:
    """The items of a cohort, or the means of its segments or persons.

    Raises ScoringError for a segment without a person, and for embeddings as :class:`EmbeddingSets`.
    """
    from steps.score import checked_matrices, naming, require
    from vidperson.backends import EmbeddingSets
    from vidperson.backends.cohort import person_means, segment_means
    from vidperson.io.lines import read_scp

    matrices = checked_matrices(folder, "embed")
    items = matrices.read(matrices)
    with naming(folder):
        if options.cohort_of == "items":
            return EmbeddingSets.from_items(items)
        if options.cohort_of == "segments":
            return EmbeddingSets.from_items(segment_means(items))
        (listed,) = cohort_lists(options)
        person_of = read_scp(listed)
        require(list(matrices), person_of, f"segments of the cohort are not in {listed}", "add them")
        return EmbeddingSets.from_items(person_means(items, person_of))


def cohort_size(options: SystemOptions, have: int) -> int:
    """How many of a cohort normalise a score: as many as asked, or as usual; of means as far as there are."""
    from vidperson.backends.cohort import USUAL_ITEMS, USUAL_MEANS

    most = USUAL_ITEMS if options.cohort_of == "items" else max(1, min(USUAL_MEANS, have - options.ncoh_discard))
    return options.ncoh or most


def read_sample(folder: Path, mean: Double | None) -> Double:
    """(K, dim) unit vectors of some segments of a cohort, less a (dim,) mean."""
    from vidperson.backends import EmbeddingSets
    from vidperson.backends.cohort import evenly_spaced, sample_units
    from vidperson.io.matrices import load_matrices

    matrices = load_matrices(folder / "embed.scp")
    names = list(matrices)
    sets = EmbeddingSets.from_items(matrices.read(names[i] for i in evenly_spaced(len(names))))
    if mean is not None:
        subtract(sets, mean)
    return sample_units(sets)


def tell_domains(units: Double, others: Double, names: tuple[str, str], how: str) -> list[str]:
    """Log how far the cohort is from the test set; returns a warning where it is of another domain, or nothing.

    units, others: of samples of the test set and the cohort. names: of both sets. how: words behind.
    """
    from vidperson.backends.cohort import FAR, compare_domains

    found = compare_domains(units, others)
    if found is None:
        return []
    told = (
        f"median cosine of {names[0]} with itself {found.test:.3f}, with the cohort {names[1]} {found.cohort:.3f}{how}"
    )
    told += f": {abs(found.shift):.1f} standard deviations apart"
    logging.info("%s", told)
    advice = f"from {FAR} on the cohort is of another domain, and s-norm may harm: compare with the scores without it"
    return [f"{told}; {advice}"] if found.differ else []


def read_mean(folder: Path, others: Sequence[EmbeddingSets]) -> Double:
    """(dim,) mean of the embeddings of a part. Raises ScoringError where it has another size than others, or none."""
    from steps.score import checked_matrices, naming
    from vidperson.backends.cohort import centre
    from vidperson.errors import ScoringError

    with naming(folder):
        matrices = checked_matrices(folder, "embed")
        mean = centre(matrices.read(matrices))
        for sets in others:
            if len(sets.embeddings) and sets.dim != len(mean):
                raise ScoringError(
                    f"the mean to subtract has {len(mean)} numbers, the embeddings {sets.dim}; "
                    "extract all with the same network"
                )
    return mean


def subtract(sets: EmbeddingSets, mean: Double) -> None:
    """Subtract a (dim,) mean from all embeddings, in place."""
    import numpy as np

    if len(sets.embeddings):
        np.subtract(sets.embeddings, mean, out=sets.embeddings, casting="same_kind")
