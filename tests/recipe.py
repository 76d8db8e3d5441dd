"""The stages of the recipe as a user runs them, in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vidperson.io.lists import read_scores

SHIPPED = ("retinaface_tiny", "arcface_tiny")
PUBLISHED = ("retinaface_mnet025_pytorch", "mobilefacenet_casia_pytorch")
STAGES = ("002_detect_faces", "003_extract_embeddings", "004_score", "005_eval")
SNORM = ("--snorm-cohort", "demo_dev_test", "--ncoh", "30", "--fusion-systems", "max ahc_snorm xatt")
"""Options of stages 4 and 5 with which the demo has normalised scores, too."""


@dataclass
class Recipe:
    """The stage scripts with data and results under ``work``."""

    root: Path
    work: Path
    config: str
    detector: str = SHIPPED[0]
    embedder: str = SHIPPED[1]

    def command(self, stage: str, *options: str) -> list[str]:
        return [
            f"./run_{stage}.sh", "--config-file", f"global_conf/config_{self.config}.sh",
            "--data-dir", f"{self.work}/data", "--exp-dir", f"{self.work}/exp",
            "--face-detector", self.detector, "--face-embedder", self.embedder, *options,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VIDPERSON_PYTHON": sys.executable}

    def run(self, stage: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(stage, *options),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check and done.returncode:
            raise AssertionError(
                f"run_{stage}.sh gave {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def faces(self, name: str) -> Path:
        return self.work / "exp" / "face_det" / self.detector / name

    def embeddings(self, name: str) -> Path:
        return self.work / "exp" / "face_embed" / self.embedder / name

    @property
    def results(self) -> Path:
        return self.work / "exp" / "results" / self.config

    def systems(self, name: str) -> Path:
        """The scores of a system of the embedder, or of the fusion."""
        scores = self.work / "exp" / "scores"
        return scores / "fusion" / self.config if name == "fusion" else scores / self.embedder / name

    def scores(self, name: str, system: str = "max") -> dict[tuple[str, str], float]:
        return read_scores(self.systems(system) / f"{name}_scores").table


def published(repo: Path, models: Path, work: Path, config: str) -> Recipe:
    """A recipe with the published networks."""
    (work / "exp").mkdir(parents=True)
    shutil.copytree(models, work / "exp" / "face_models")
    return Recipe(repo, work, config, *PUBLISHED)


def outputs(folder: Path) -> dict[str, bytes]:
    """What a set's folder holds for the next stage, its own place written as OUT."""
    kept = (
        "faces.ark",
        "faces.scp",
        "quality.ark",
        "quality.scp",
        "crops.tar",
        "crops.scp",
        "embed.ark",
        "embed.scp",
        "status",
    )
    return {
        name: (folder / name).read_bytes().replace(str(folder).encode(), b"OUT")
        for name in kept
        if (folder / name).exists()
    }


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)
