"""The systems of steps/search_cast.py, which compare several modalities, as stage 5 sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.search_cast import CUES, CastPairOptions, CastSystemOptions, CueOptions, check_cast, plan_casts
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.backends.systems import System
    from vidperson.io.planned import Planned

Reasons = Mapping[str, Mapping[str, tuple[str, str]]]
"""Model -> segment -> why it has its rank, and the segment that decided."""


@dataclass(frozen=True)
class Written:
    """What a system wrote of a set. most: of segments in a list."""

    ranks: Path
    persons: Path
    reasons: Path
    most: int


@dataclass(frozen=True)
class CastSearches:
    """Searched sets, each with all of its modalities, and the systems that search them; there may be none."""

    pairs: Sequence[CastPairOptions]
    systems: CastSystemOptions | None

    def searched(self) -> list[tuple[CastPairOptions, System, Written]]:
        """Each set with each system, in the order of the tables, and what was written."""
        if self.systems is None:
            return []
        return [(pair, one, written(self.systems, one, pair)) for pair in self.pairs for one in self.systems.systems()]

    def planned(self) -> list[Planned]:
        """What stage 4 makes with these options. Raises as ``steps.search_cast.plan_casts``."""
        if self.systems is None:
            return []
        check_cast(self.systems)
        return [one for pair in self.pairs for ours in plan_casts(pair, self.systems).values() for one in ours]


def written(options: CastSystemOptions, system: System, pair: CastPairOptions) -> Written:
    """What a system writes of a set."""
    name = pair.test_set
    lists = options.ranks(system, name), options.persons(system, name), options.reasons(system, name)
    return Written(*lists, options.search_top)


def read_casts(words: Sequence[str], systems: str) -> CastSearches:
    """Searched sets and systems from their options. Leaves the process with status 2 for wrong ones."""
    import shlex

    if not systems:
        return CastSearches((), None)
    pairs = [cli.parse(CastPairOptions, None, shlex.split(word)) for word in words]
    return CastSearches(pairs, cli.parse(CastSystemOptions, None, shlex.split(systems)))


def cues_of(pair: CastPairOptions) -> list[CueOptions]:
    """What is compared, that of identity first."""
    return [one for cue in CUES for _, one in pair.of(cue)]


def about_cast(pair: CastPairOptions, system: System) -> dict[str, Any]:
    """What results say of a system."""
    cues = cues_of(pair)
    return {
        "modality": " + ".join(cue.modality for cue in cues),
        "system": " + ".join(folder.name for cue in cues for folder in cue.embed_dirs),
        "backend": system.backend,
        "snorm_cohort": None,
        "calibrated_on": system.calibrated_on or None,
        "learnt_from": None,
        "cues": {cue.cue: cue.modality for cue in cues},
    }


def reason_counts(reasons: Reasons) -> dict[str, int]:
    """Reason -> in how many lines."""
    from vidperson.io.ranks import REASONS

    counts = Counter(reason for of_model in reasons.values() for reason, _ in of_model.values())
    return {reason: counts[reason] for reason in REASONS}


def models_without_items(pair: CastPairOptions) -> list[str]:
    """The models that are searched and have no identity item in any enrolment segment, such as a portrait without face.

    Raises DataError for malformed or edited files.
    """
    from steps.score import checked_matrices
    from vidperson.io.lines import read_scp
    from vidperson.io.ranks import read_search

    usable = set()
    for data in pair.enrolment():
        owners = read_scp(data / "utt2spk")
        for _, cue in pair.of("identity"):
            found = checked_matrices(cue.embed_dirs[0] / data.name, "embed")
            usable |= {model for segment, model in owners.items() if len(found.get(segment, ()))}
    return [model for model in read_search(pair.test_data / "search") if model not in usable]
