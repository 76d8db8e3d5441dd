"""Which systems an experiment has: each embedder with each back-end, and the fusion of several."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidperson.errors import ScoringError

FUSION = "fusion"
FUSIONS = {"mean": "fusion-mean", "logistic": FUSION, "quality": "fusion-quality"}
"""Way to fuse -> back-end, which is also the folder of the fused scores."""

CAST_BACKENDS = ("original", "propagation", "calibrated")
"""Back-ends of cast search, which compare what all modalities tell; their folders are beside those of embedders."""


@dataclass(frozen=True)
class System:
    """An embedder and a way to compare, or a fusion.

    embedder: network that made the embeddings; of a fusion or a cast search the same as the back-end.
    backend: name or alias of the back-end; of a fusion one of the values of FUSIONS.
    snorm_cohort: set that normalises the scores; empty: none.
    calibrated_on: test set that the calibration or the fusion was trained on; empty: none.
    experiment: name of the experiment, of a fusion or a cast search only.
    submean_set: set with the mean that is subtracted from embeddings; empty: none.
    quality: measures of quality that the calibration takes, too; none: the scores only.
    """

    embedder: str
    backend: str
    snorm_cohort: str = ""
    calibrated_on: str = ""
    experiment: str = ""
    submean_set: str = ""
    quality: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``max``, ``max_submean_snorm_cal``, ``max_qmf``; of a fusion or a cast search the name of the experiment."""
        if self.backend in (*FUSIONS.values(), *CAST_BACKENDS):
            return self.experiment
        last = "_qmf" if self.quality else "_cal" if self.calibrated_on else ""
        return f"{self.backend}{'_submean' * bool(self.submean_set)}{'_snorm' * bool(self.snorm_cohort)}{last}"

    @property
    def folder(self) -> str:
        """Its folder below exp/scores."""
        return f"{self.embedder}/{self.name}"


def plain_systems(
    embedder: str, backends: Sequence[str], snorm_cohort: str = "", submean_set: str = ""
) -> list[System]:
    """The systems that compare embeddings: each back-end without and, given such sets, with sub-mean and s-norm."""
    return [
        System(embedder, backend, cohort, submean_set=mean)
        for backend in dict.fromkeys(backends)
        for mean in dict.fromkeys(("", submean_set))
        for cohort in dict.fromkeys(("", snorm_cohort))
    ]


def cast_systems(backends: Sequence[str], experiment: str, calibration_set: str = "") -> list[System]:
    """The systems of a cast search, in the order of the tables; only the last of CAST_BACKENDS is calibrated."""
    return [
        System(backend, backend, "", calibration_set if backend == CAST_BACKENDS[-1] else "", experiment)
        for backend in dict.fromkeys(backends)
    ]


def calibrated(system: System, calibration_set: str, quality: Sequence[str] = ()) -> System:
    """The system with its scores as log-likelihood ratios."""
    return replace(system, calibrated_on=calibration_set, quality=tuple(quality))


def all_systems(plain: Sequence[System], calibration_set: str = "", quality: Sequence[str] = ()) -> list[System]:
    """Plain systems and, given such a set, each calibrated ones behind it, in the order of the tables.

    quality: measures of a second calibration; none: there is no second.
    """
    if not calibration_set:
        return list(plain)
    kinds = [(), tuple(quality)] if quality else [()]
    return [one for system in plain for one in (system, *(calibrated(system, calibration_set, kind) for kind in kinds))]


def fusion_folders(
    names: Sequence[str], scores_dir: Path, embedders: Sequence[str], made: Collection[str]
) -> list[Path]:
    """The folders of scores that the names of a fusion's systems mean.

    names: ``max`` is that system of each of the embedders; ``<embedder>/<system>`` a folder below
        ``scores_dir``; any other path, with ``./`` or more than one ``/``, another folder.
    made: folders below ``scores_dir`` that the experiment itself makes.
    Raises ScoringError for a name that may mean two folders, and for a folder that is meant twice.
    """
    folders = []
    for name in names:
        parts = name.split("/")
        if len(parts) == 1 and name != "..":
            folders += [scores_dir / embedder / name for embedder in embedders]
        elif len(parts) == 2 and all(parts) and parts[0] not in (".", ".."):
            folders.append(_below(name, scores_dir, made))
        else:
            folders.append(Path(name))
    twice = [str(folder) for i, folder in enumerate(folders) if folder in folders[:i]]
    if twice:
        raise ScoringError(f"fusion_systems: expected each system once, found {twice[0]} twice")
    return folders


def _below(name: str, scores_dir: Path, made: Collection[str]) -> Path:
    """Raises ScoringError where a folder of this name here may be meant instead."""
    folder = scores_dir / name
    if Path(name).is_dir() and Path(name).resolve() != folder.resolve():
        if name in made or folder.is_dir():
            raise ScoringError(
                f"fusion_systems: {name} is a system below {scores_dir} and a folder here; write {folder} or ./{name}"
            )
        raise ScoringError(
            f"fusion_systems: expected a system below {scores_dir}, found only a folder {name} here; write ./{name}"
        )
    return folder
