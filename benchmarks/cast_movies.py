#!/usr/bin/env python3
"""Cast search in movies composed of clips of talking persons: face, body, and both, by every back-end.

Inputs:  SHARED, the real media that tests use (see docs/develop.md). Body networks of BODIES: shipped, or in
         SHARED/models
Outputs: per share of covered heads and seed a folder WORK_DIR/masked<share>-clips<number>-seed<seed> with `corpus` in
         the layout of WIDER Person Search, `data` and `exp`; what is there is kept. On stdout Markdown tables, one
         per part: mAP over all cast members, mean of the films, rank-1, in percent, each the mean
         over the seeds, with their standard deviation

See movies.py for the movies. Stages 1 to 4 do the work, with --report true also stage 5. Rows:

  face            class means: candidates by the cosine of their face to the portrait's
  body            the same by the body of the portrait, which shows little of the clothes
  face + body     the back-ends of the cast search; with several BODIES also by all of them together
Candidates that a list lacks, since they have no face, follow in the order of their names. Constants of the back-ends
were chosen with figures of seeds 0 and 1 in view: measure on others.

Example:
  python benchmarks/cast_movies.py --shared ../shared --work-dir /tmp/movies --seeds "0 1 2"
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, pstdev
from typing import NamedTuple

from benchmarks import movies
from vidperson import cli
from vidperson.backends.systems import CAST_BACKENDS
from vidperson.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
FACES = "retinaface_tiny", "arcface_tiny"
PHOTOS = 200
SURE = 0.6  # lowest score of a face when persons are cut out of clips


@dataclass(frozen=True)
class Options:
    """See the top of this file."""

    shared: Path = cli.option(help="folder of the real media and networks")
    work_dir: Path = cli.option(help="folder for the movies and all that stages compute")
    bodies: str = cli.option("omz_person_reidentification_0277 osnet_x025_msmt17_onnx", "body networks")
    backends: str = cli.option(" ".join(CAST_BACKENDS), "back-ends of the cast search")
    parts: str = cli.option("val test", "parts to search")
    seeds: str = cli.option("0 1 2", "seeds of the movies")
    masked: str = cli.option("0 0.5", "shares of the candidates with a covered head")
    clips: int = cli.option(0, "most clips that a person's candidates are from; 0: all", convert=cli.whole(0))
    rerank: str = cli.option("", "what the back-ends re-rank: identity, appearance or both")
    report: bool = cli.option(False, "also run stage 5, which writes the report", convert=cli.flag)
    nj: int = cli.option(2, "jobs", convert=cli.whole(1))


class Figures(NamedTuple):
    """map: mean over the cast members. films: mean of the means of films. rank1: share with the best one right."""

    map: float
    films: float
    rank1: float


@dataclass(frozen=True)
class System:
    """A row of the tables. ranks: its folder below exp/scores."""

    cues: str
    network: str
    backend: str
    ranks: str


class Clips:
    """The persons that movies are composed of; read when they are needed first."""

    def __init__(self, shared: Path, models: Path) -> None:
        self.shared, self.models = shared, models

    @cached_property
    def persons(self) -> Mapping[str, movies.Person]:
        return movies.read_persons(movies.talking_clips(self.shared), self.find)

    @cached_property
    def photos(self) -> Mapping[str, movies.Person]:
        return movies.read_photos(self.shared, self.find, range(PHOTOS))

    @cached_property
    def find(self) -> movies.Find:
        from vidperson.face.detector import make_detector
        from vidperson.networks.install import install_model
        from vidperson.networks.opening import open_network

        installed = install_model(FACES[0], self.models / "face_models")
        detector = make_detector(open_network(installed), installed.card)
        return lambda picture: detector.detect([picture], SURE)[0]


def systems(bodies: Sequence[str], backends: Sequence[str]) -> Iterator[System]:
    """The rows of the tables, in their order."""
    yield System("face", FACES[1], "class mean", f"{FACES[1]}/class-mean")
    for body in bodies:
        yield System("body", body, "class mean", f"{body}/class-mean")
    for network, experiment in experiments(bodies).items():
        for backend in backends:
            yield System("face + body", network, backend, f"{backend}/{experiment}")


def experiments(bodies: Sequence[str]) -> dict[str, str]:
    """What the back-ends use -> name of the experiment; with several bodies also all of them."""
    found = {body: f"movies-{body}" for body in bodies}
    return {**found, " + ".join(bodies): "movies-all"} if len(bodies) > 1 else found


def figures(ranks: Path, data: Path) -> Figures:
    """Of a searched set; candidates that the ranks lack follow in the order of their names."""
    from vidperson.io.lines import read_scp
    from vidperson.io.ranks import read_ranks, read_relevant, read_search
    from vidperson.metrics.ranking import average_precisions, first_hits, match_rate

    ranked, relevant = read_ranks(ranks), read_relevant(data / "relevant")
    search, group_of = read_search(data / "search"), read_scp(data / "utt2group")
    full = {}
    for model, groups in search.items():
        listed = ranked.get(model, [])
        full[model] = [*listed, *sorted({name for name, group in group_of.items() if group in groups} - set(listed))]
    precisions = average_precisions(full, relevant)
    of_film: dict[str, list[float]] = {}
    for model, precision in precisions.items():
        of_film.setdefault(search[model][0], []).append(precision)
    films = fmean(fmean(some) for some in of_film.values())
    return Figures(fmean(precisions.values()), films, match_rate(first_hits(full, relevant), 1))


def run_stage(stage: str, *words: str) -> None:
    """Raises DataError with the end of what a stage said that failed."""
    environment = {"VIDPERSON_PYTHON": sys.executable, **os.environ}
    command = [f"./run_{stage}.sh", *words]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise DataError(f"{' '.join(command)} failed:\n{ran.stdout[-1000:]}{ran.stderr[-2000:]}")


def install(options: Options, models: Path) -> None:
    """The networks, once for all movies."""
    for body in options.bodies.split():
        places = [options.shared / "models", options.shared / "models/body"]
        place = next((place for place in places if (place / body).is_dir()), places[0])
        words = ["--modalities", "face body", "--exp-dir", str(models), "--model-dir", str(place)]
        words += ["--face-detector", FACES[0], "--face-embedder", FACES[1], "--body-embedder", body]
        run_stage("000_get_pretrained_models", *words)


def search(options: Options, work: Path, models: Path) -> None:
    """Stages 1 to 4 on the movies in work/corpus, with options.report stage 5, too."""
    parts = options.parts.split()
    pairs = " ".join(f"csm_{part}_cast:csm_{part}_candidates" for part in parts)
    given = ["--data-dir", str(work / "data"), "--exp-dir", str(work / "exp"), "--trial-sets", pairs]
    given += ["--modalities", "face body", "--face-detector", FACES[0], "--face-embedder", FACES[1]]
    for name in ("face_models", "body_models"):
        link = work / "exp" / name
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(models.resolve() / name)
    if not (work / f"data/csm_{parts[-1]}_candidates/vid.scp").exists():
        run_stage("001_prepare_data", *given, "--corpora", "csm", "--csm-dir", str(work / "corpus"))
    bodies = options.bodies.split()
    for body in bodies:
        run_stage("002_detect_faces", *given, "--body-embedder", body, "--nj", str(options.nj), "--stop-stage", "3")
    ranking = ["--search-backends", "class-mean", "--search-top", "2000"]
    ranking += ["--cast-backends", options.backends, "--cast-rerank", options.rerank]
    for network, experiment in experiments(bodies).items():
        own = network.split(" + ")
        embedders = " ".join([f"face/{FACES[1]}", *(f"body/{body}" for body in own)])
        words = [*given, *ranking, "--body-embedder", own[0], "--cast-embedders", embedders, "--experiment", experiment]
        run_stage("004_score", *words)
        if options.report:
            run_stage("005_eval", *words)


def table(systems: Sequence[System], shares: Sequence[str], found: Callable[[System, str], Sequence[Figures]]) -> str:
    """Markdown; a system's figures, of each seed, are asked for by the share of covered heads."""
    titles = [f"{name}, masked {share}" for share in shares for name in ("mAP", "mean of films", "rank-1")]
    lines = [f"| cues | body network | back-end | {' | '.join(titles)} |", "|" + "---|" * (3 + len(titles))]
    for system in systems:
        cells = [system.cues, system.network if "body" in system.cues else "", system.backend]
        for share in shares:
            for values in zip(*found(system, share), strict=True):
                cells.append(f"{100 * fmean(values):.1f} ± {100 * pstdev(values):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cast_movies(options: Options) -> dict[tuple[str, str, System], list[Figures]]:
    """Part, share and system -> figures per seed; printed, too. Raises VidPersonError for what is missing or fails."""
    models = options.work_dir / "models"
    install(options, models)
    clips = Clips(options.shared, models)
    rows, shares = list(systems(options.bodies.split(), options.backends.split())), options.masked.split()
    found: dict[tuple[str, str, System], list[Figures]] = {}
    for seed in options.seeds.split():
        for share in shares:
            work = options.work_dir / f"masked{share}-clips{options.clips}-seed{seed}"
            if not (work / "corpus").exists():
                plan = movies.Plan(masked=float(share), clips=options.clips)
                shutil.rmtree(work / "corpus.part", ignore_errors=True)
                count = movies.write_corpus(work / "corpus.part", clips.persons, clips.photos, int(seed), plan)
                (work / "corpus.part").rename(work / "corpus")
                print(f"{work.name}: {count} candidates", file=sys.stderr)
            search(options, work, models)
            for part in options.parts.split():
                for system in rows:
                    ranks = work / "exp/scores" / system.ranks / f"csm_{part}_candidates_ranks"
                    found.setdefault((part, share, system), []).append(
                        figures(ranks, work / f"data/csm_{part}_candidates")
                    )
    for part in options.parts.split():
        print(f"{part}:\n")
        print(table(rows, shares, lambda system, share, part=part: found[part, share, system]), "\n", flush=True)  # type: ignore[misc]
    return found


if __name__ == "__main__":
    cli.run(cast_movies, Options, __doc__)
