"""benchmarks/pseudo_clips.py and identification.py: clips out of photos, and what the steps find in them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from recipe import STAGES, Recipe

from benchmarks.identification import WHOLE, System, View, alike, measure, print_table
from benchmarks.pseudo_clips import (
    STRANGERS,
    Clip,
    Embedded,
    Photo,
    Plan,
    degraded,
    draw,
    embed_versions,
    open_photo,
    read_photos,
    render,
    unknown_persons,
    write_data,
    write_embeddings,
    write_sets,
)
from vidperson.face.embedder import FaceEmbedder
from vidperson.io.ranks import read_ranks, read_relevant
from vidperson.metrics.ranking import mean_average_precision
from vidperson.networks.install import install_model
from vidperson.networks.opening import open_network

SMALL = Plan(faces=(4, 6), kept=2, strangers=14)
FACES_DIR = "data/faces"


def made_photos() -> list[Photo]:
    """Five persons with 20 photos, 60 strangers with two: noise, a photo is what its number says."""
    rng = np.random.default_rng(0)
    photos = []
    for person, count in [(f"known/p{i}", 20) for i in range(5)] + [(f"celeba10k/s{i:02d}", 2) for i in range(60)]:
        for number in range(count):
            pixels = cv2.resize(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8), (112, 112))
            data = cv2.imencode(".png", pixels)[1].tobytes()
            photos.append(Photo(f"{person}/{number:02d}.png", person.split("/")[1], data))
    return sorted(photos)


def thumbnails(photos: list[Photo]) -> np.ndarray:
    """(N, 192) float32 unit vectors, without a network."""
    small = [cv2.resize(open_photo(photo), (8, 8), interpolation=cv2.INTER_AREA).ravel() for photo in photos]
    rows = np.stack(small).astype(np.float32) - 128
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made_clips(seed: int = 0, plan: Plan = SMALL) -> tuple[list[Photo], dict[str, list[Clip]]]:
    photos = made_photos()
    strangers = sorted({photo.person for photo in photos if photo.person.startswith("s")})
    return photos, draw(photos, thumbnails(photos), strangers, seed, plan)


def test_a_photo_is_in_one_clip_and_guests_are_somebody_else() -> None:
    photos, sets = made_clips()
    clips = [clip for each in sets.values() for clip in each]
    used = Counter(number for clip in clips for number in clip.photos[~clip.guest].tolist())
    assert set(used.values()) == {1} and len({clip.id for clip in clips}) == len(clips)
    assert {name: sum(clip.person is None for clip in each) for name, each in sets.items()} == dict.fromkeys(sets, 14)
    for clip in clips:
        own = {photos[number].person for number in clip.photos[~clip.guest]}
        others = {photos[number].person for number in clip.photos[clip.guest]}
        assert (len(own) == 1 and not own & others and own == {clip.person}) or clip.person is None
        assert len(clip.faces) == len(clip.photos) and (np.diff(clip.faces[:, 0]) >= 0).all()
    assert any(clip.guest.any() for clip in clips)
    assert all({clip.person for clip in each} >= {f"p{i}" for i in range(5)} for each in sets.values())


def test_same_seed_gives_the_same_clips_and_another_seed_others() -> None:
    def told(seed: int) -> list[tuple[str, list[int], bytes]]:
        return [(c.id, c.photos.tolist(), c.faces.tobytes()) for each in made_clips(seed)[1].values() for c in each]

    assert told(1) == told(1) != told(2)


def test_versions_of_a_photo_differ_and_are_the_same_each_time() -> None:
    photo = made_photos()[0]
    near, far = degraded(photo, 0)[0], degraded(photo, 1)
    assert (degraded(photo, 0)[0] == near).all() and (near != far[0]).any()
    assert 16 / 112 * 35 < far[1] < 48 / 112 * 36 and near.shape == far[0].shape == (112, 112, 3)


def test_strangers_like_a_target_are_left_out() -> None:
    photos = [
        Photo(f"{source}/{name}/0.png", name, b"")
        for source, name in (("celeba10k", "s0"), ("celeba10k", "s1"), ("known", "p0"))
    ]
    looks = np.array([[0.6, 0.8], [0.5, math.sqrt(0.75)], [1, 0]], np.float32)
    assert unknown_persons(photos, looks) == ["s1"]


def oracle(root: Path, train: list[Clip], test: list[Clip], pool: Embedded, shrink: float | None) -> float:
    """Mean average precision of class means of whole clips, clip by clip; whitened where ``shrink`` is given."""

    def vector(clip: Clip) -> np.ndarray:
        total = sum(pool.rows[number, clip.version].astype(np.float64) for number in clip.photos)
        return total / np.linalg.norm(total)  # the length of each embedding is its weight

    rows, origin, matrix = np.stack([vector(clip) for clip in train]), 0, np.eye(pool.rows.shape[2])
    if shrink is not None:
        origin, covariance = rows.mean(axis=0), np.cov(rows.T, bias=True)
        covariance = (1 - shrink) * covariance + shrink * np.trace(covariance) / len(covariance) * np.eye(
            len(covariance)
        )
        matrix = np.linalg.cholesky(np.linalg.inv(covariance))

    def moved(row: np.ndarray) -> np.ndarray:
        return (row - origin) @ matrix / np.linalg.norm((row - origin) @ matrix)

    precisions = []
    for person in sorted({clip.person for clip in test if clip.person}):
        mean = sum(moved(vector(clip)) for clip in train if clip.person == person)
        ranked = sorted(test, key=lambda clip: -float(moved(vector(clip)) @ mean))[:100]
        hits, total = 0, 0.0
        for rank, clip in enumerate(ranked, 1):
            if clip.person == person:
                hits += 1
                total += hits / rank
        precisions.append(total / sum(clip.person == person for clip in test))
    return sum(precisions) / len(precisions)


@pytest.fixture(scope="session")
def small(shared: Path, made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """Embeddings of 8 persons and 48 strangers by the network that ships."""

    def make(folder: Path) -> None:
        photos = some_photos(shared)
        installed = install_model("arcface_tiny", folder / "models")
        pool = embed_versions(photos, FaceEmbedder(open_network(installed), installed.card).embed)
        np.savez(folder / "pool.npz", rows=pool.rows, quality=pool.quality)

    return made_once("identification_pool", make)


def some_photos(shared: Path) -> list[Photo]:
    known = read_photos([shared / FACES_DIR / "train_bollywood100.tar"])
    strange = read_photos([shared / FACES_DIR / STRANGERS])
    of_person = Counter[str]()
    kept = []
    for photo in known[: 8 * 40] + strange:
        of_person[photo.person] += 1
        if of_person[photo.person] <= (22 if photo.name.startswith("bolly") else 2) and len(of_person) <= 8 + 48:
            kept.append(photo)
    return sorted(kept)


def test_steps_agree_with_a_naive_oracle_and_the_best_is_not_worse_than_the_class_mean(
    shared: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = some_photos(shared)
    with np.load(small / "pool.npz") as arrays:
        pool = Embedded(arrays["rows"], arrays["quality"])
    names = sorted({photo.person for photo in photos if photo.name.startswith("celeba10k")})
    sets = draw(photos, thumbnails(photos), names, 0, SMALL)
    write_sets(tmp_path, sets, {"tiny": pool})
    write_embeddings(tmp_path / "alike", sets, {"tiny": alike(pool)})
    systems = [
        System("unweighted", "class-mean", View(items=False, unweighted=True)),
        System("mean", "class-mean", WHOLE),
        System("whitened", "class-mean-whitened", WHOLE),
        System("best", "class-mean-whitened-shift"),
    ]
    found = measure(tmp_path, systems, "tiny", "test", "train valid")
    learnt = sets["train"] + sets["valid"]
    assert found["unweighted"] == pytest.approx(oracle(tmp_path, learnt, sets["test"], alike(pool), None), abs=1e-6)
    assert found["mean"] == pytest.approx(oracle(tmp_path, learnt, sets["test"], pool, None), abs=1e-6)
    assert found["whitened"] == pytest.approx(oracle(tmp_path, learnt, sets["test"], pool, 0.3), abs=1e-6)
    assert found["best"] >= found["mean"]
    print_table({"class mean, weighted by norm": [[0.5, 0.25, 0.5]], "other": [[0.5, 0.5, 0.6], [0.5, 0.5, 0.8]]})
    assert "| other | 50.0 ± 0.0 | 50.0 ± 0.0 | 70.0 ± 10.0 | +20.0 |" in capsys.readouterr().out


def test_rendered_clip_shows_each_photo_and_is_the_same_each_time(tmp_path: Path) -> None:
    import av

    photos, sets = made_clips()
    clip = next(clip for clip in sets["train"] if clip.person and clip.guest.any())
    for name in ("a.mp4", "b.mp4"):
        render(tmp_path / name, clip, photos, shown_s=0.2)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        shots = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shots) == 5 * len(set(clip.faces[:, 0].tolist()))
    for item, frame in enumerate(np.unique(clip.faces[:, 0], return_inverse=True)[1].tolist()):
        crop = cv2.resize(degraded(photos[clip.photos[item]], clip.version)[0], (150, 150)).astype(int)
        left = 400 if clip.guest[item] else 60
        shown = shots[5 * frame][90:240, left : left + 150].astype(int)
        assert np.abs(shown - crop).mean() < 25


def test_stages_find_faces_and_persons_in_rendered_clips(repo: Path, shared: Path, tmp_path: Path) -> None:
    photos = some_photos(shared)
    persons = sorted({photo.person for photo in photos if photo.name.startswith("bolly")})[:3]
    strangers = sorted({photo.person for photo in photos if photo.name.startswith("celeba10k")})[:9]
    photos = [photo for photo in photos if photo.person in [*persons, *strangers]]
    plan = Plan(faces=(4, 5), kept=1, strangers=2, far=0.0)
    sets = draw(photos, thumbnails(photos), strangers, 0, plan)
    for clip in [clip for clips in sets.values() for clip in clips]:
        render(tmp_path / "videos" / f"{clip.id}.mp4", clip, photos, shown_s=0.24)
    write_data(tmp_path, sets, tmp_path / "videos")
    recipe = Recipe(repo, tmp_path, "demo_clips")
    options = ("--trial-sets", "train+valid:test", "--fps", "4", "--identifiers", "", "--search-fusion", "")
    for stage in ("000_get_pretrained_models", *STAGES[:3]):
        recipe.run(stage, *options, "--calibration-set", "", "--search-backends", "class-mean")
    ranks = read_ranks(recipe.systems("class-mean") / "test_ranks")
    relevant = read_relevant(tmp_path / "data/test/relevant")
    assert set(relevant) == set(persons) and set().union(*ranks.values()) == {clip.id for clip in sets["test"]}
    assert mean_average_precision(ranks, relevant) > 0.75, ranks  # 0.5 by chance
