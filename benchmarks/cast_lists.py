#!/usr/bin/env python3
"""Cast search on the real lists of WIDER Person Search 2018, which come without images, with drawn embeddings.

Inputs:  LABELS, val_label.json: cast member -> its candidates; RANKS, val_rank.txt: all candidates of each film
Outputs: on stdout a line of a Markdown table per back-end: mAP per cast member with half of the faces hidden, without
         bodies, and with all faces; CPU seconds of all films and of the largest

Films, sizes, and who is which candidate are real. Drawn with a seed: faces, bodies in the clothes of a scene, who
shares a frame, and which candidates are the same extra.

Example:
  lists=../shared/data/cast/wider2018_val_lists
  python benchmarks/cast_lists.py --labels $lists/val_label.json --ranks $lists/val_rank.txt
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from steps.search_cast import ways_to_search
from vidperson import cli
from vidperson.backends.cast import Cue, Film, Ranking

Double = NDArray[np.float64]
Index = NDArray[np.int64]

SIZE = 128
CLOTHES = 3
"""Of each cast member; extras have their own."""
SCENE = 12
"""Successive candidates that are seen in one scene."""
EXTRA = 4
"""Most candidates of an extra."""
NOBODY = -1


def unit(rows: Double) -> Double:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def near(rng: np.random.Generator, centres: Double, likeness: Double) -> Double:
    """Vectors of length 1 with about these cosines to (N, D) centres of length 1."""
    likeness = np.clip(likeness, 0.0, 0.98)[:, None]
    noise = unit(rng.standard_normal(centres.shape))
    return unit(likeness * centres + np.sqrt(1 - likeness**2) * noise)


def drawn_film(rng: np.random.Generator, shown: Index, cast: int, hidden: float) -> Film:
    """A film by whom its N candidates show: the number of a cast member, or NOBODY.

    hidden: share of the candidates without a face. Faces have cosines to their portrait of about 0.43 +- 0.15, bodies
    in the same clothes of 0.66 +- 0.11, others of 0.47 +- 0.05.
    """
    count = len(shown)
    extras = cast + np.cumsum(rng.random(count) < 2 / (1 + EXTRA))  # some in a row are the same
    person = np.where(shown == NOBODY, extras, shown)
    faces = unit(rng.standard_normal((person.max(initial=0) + 1, SIZE)))
    clothes = unit(rng.standard_normal((len(faces), CLOTHES, SIZE)))
    scene = np.arange(count) // SCENE
    worn = np.where(person < cast, (person * 7919 + scene * 104729) // 13 % CLOTHES, 0)  # others in other scenes
    common = unit(rng.standard_normal(SIZE))
    bodies = np.sqrt(0.47) * common + np.sqrt(0.53) * near(rng, clothes[person, worn], rng.normal(0.6, 0.2, count))
    seen = rng.random(count) >= hidden
    portraits = near(rng, faces[:cast], np.full(cast, 0.8))
    own = near(rng, faces[person], rng.normal(0.54, 0.17, count))
    return Film(
        Cue(cast, [(portraits, np.ones(cast, bool))]),
        Cue(count, [(own, seen)]),
        Cue(count, [(bodies, np.ones(count, bool))]),
        frames_of(rng, person),
    )


def frames_of(rng: np.random.Generator, person: Index) -> Index:
    """(N,) frames of one to three successive candidates, each person once."""
    frames: list[int] = []
    frame, inside = 0, set[int]()
    for who in person.tolist():
        if who in inside or len(inside) == 3 or rng.random() < 0.4:
            frame, inside = frame + 1, set()
        inside.add(who)
        frames.append(frame)
    return np.array(frames, dtype=np.int64)


def without_appearance(film: Film) -> Film:
    return Film(film.cast, film.identity, Cue(len(film.identity), []), film.frames)


def read_films(labels: Path, ranks: Path) -> dict[str, tuple[Index, int]]:
    """Film -> whom its candidates show, by order of their names, and how many cast members it has."""
    key: Mapping[str, Sequence[str]] = json.loads(labels.read_text(encoding="utf-8"))
    listed = (line.split() for line in ranks.read_text(encoding="utf-8").splitlines())
    candidates = {cast.partition("_")[0]: sorted(some.split(",")) for cast, some in listed}
    films = {}
    for film, names in sorted(candidates.items()):
        cast = sorted(name for name in key if name.startswith(f"{film}_"))
        owner = {candidate: i for i, name in enumerate(cast) for candidate in key[name]}
        films[film] = np.array([owner.get(name, NOBODY) for name in names], dtype=np.int64), len(cast)
    return films


def average_precision(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Of one list; equal scores in order."""
    hits = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def precisions(ranking: Ranking, shown: Index) -> list[float]:
    """The average precision of each cast member that is shown."""
    return [
        average_precision(scores, shown == c) for c, scores in enumerate(ranking.scores) if np.count_nonzero(shown == c)
    ]


def measure(labels: str, ranks: str, seed: int) -> None:
    films = read_films(Path(labels), Path(ranks))
    sizes = [len(shown) for shown, _ in films.values()]
    print(f"{len(films)} films, {sum(cast for _, cast in films.values())} cast members, {sum(sizes)} candidates")
    print("| back-end | half of the faces hidden | the same without bodies | all faces | CPU s | largest film |")
    print("|---|---|---|---|---|---|")
    sets = {}
    for number, (name, (shown, cast)) in enumerate(films.items()):
        half, every = (drawn_film(np.random.default_rng([seed, number]), shown, cast, part) for part in (0.5, 0.0))
        sets[name] = half, without_appearance(half), every
    for backend, search in ways_to_search().items():
        found: list[list[float]] = [[], [], []]
        spent = []
        for name, (shown, _) in films.items():
            for place, film in enumerate(sets[name]):
                begin = time.process_time()
                ranking = search(film, ())
                if place == 0:
                    spent.append(time.process_time() - begin)
                found[place] += precisions(ranking, shown)
        figures = " | ".join(f"{100 * fmean(some):.1f} %" for some in found)
        print(f"| `{backend}` | {figures} | {sum(spent):.1f} | {spent[int(np.argmax(sizes))]:.2f} |")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--labels", required=True, help="cast member -> its candidates, JSON")
    parser.add_argument("--ranks", required=True, help="cast member and all candidates of its film, a line each")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    cli.main(measure, parser.parse_args())
