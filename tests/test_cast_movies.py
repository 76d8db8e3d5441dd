"""Movies composed of clips: lists and images that hold what they say, and body beside face in a tiny one, by stages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cast_movies, movies
from benchmarks.cast_movies import Options, figures
from vidperson.corpora import csm
from vidperson.errors import DataError
from vidperson.media.image import decode_intact_image
from vidperson.types import Image

BODY = "osnet_x025_msmt17_onnx"
CASTS: movies.Casts = {"val": {"v1": ("a", "b")}, "test": {"t1": ("c",), "t2": ("d",)}}
ONE: movies.Casts = {"val": {"v1": ("a",)}}
TINY = movies.Plan(shown=(6, 8), extras=(2, 3), photos=2)


def drawn(name: str, clips: int) -> movies.Person:
    """A person of one colour, with a white face."""
    rng = np.random.default_rng(sum(name.encode()))
    picture = np.full((160, 120, 3), rng.integers(40, 200, 3), np.uint8)
    picture[20:70, 40:80] = 255
    look = movies.Look(picture, (40.0, 20.0, 80.0, 70.0))
    return movies.Person(name, {f"{name}{number}": [look] for number in range(clips)})


PERSONS = {name: drawn(name, 3) for name in "abcd"} | {name: drawn(name, 1) for name in ("x", "y")}
PHOTOS = {f"photo{number}": drawn(f"photo{number}", 1) for number in range(8)}


def written(folder: Path, seed: int, plan: movies.Plan, casts: movies.Casts = ONE) -> dict[str, Any]:
    movies.write_corpus(folder, PERSONS, PHOTOS, seed, plan, casts)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in (*casts, "shown")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A corpus of both parts: its folder, and what its lists hold."""
    folder = tmp_path_factory.mktemp("movies") / "corpus"
    return folder, written(folder, 0, TINY, CASTS)


def contents(folder: Path) -> Mapping[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(path: Path) -> Image:
    return decode_intact_image(path.read_bytes())


def test_same_seed_gives_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        written(tmp_path / name, seed, movies.Plan((2, 3), (1, 1), 1))
    assert contents(tmp_path / "one") == contents(tmp_path / "same") != contents(tmp_path / "other")


def test_lists_are_read_as_csm_and_parts_share_no_person(corpus: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, lists = corpus
    folders = csm.prepare(tmp_path / "data", folder)
    assert [folder.name for folder in folders] == [
        f"csm_{p}_{k}" for p in ("val", "test") for k in ("cast", "candidates")
    ]
    persons = {
        part: {lists["shown"][one["id"]]["person"] for film in lists[part].values() for one in film["candidates"]}
        for part in CASTS
    }
    assert not persons["val"] & persons["test"] and {"a", "b"} < persons["val"] and {"c", "d"} < persons["test"]
    relevant = (tmp_path / "data/csm_val_candidates/relevant").read_text().split("\n")[:-1]
    assert 12 <= len(relevant) <= 16 and {line.split()[0] for line in relevant} == {"v1_a", "v1_b"}


def test_portraits_are_of_other_clips_and_nobody_is_twice_in_a_frame(
    corpus: tuple[Path, dict[str, Any]],
) -> None:
    lists = corpus[1]
    shown = lists["shown"]
    for part in CASTS:
        for film in lists[part].values():
            clips = {shown[one["id"]]["clip"] for one in film["candidates"]}
            assert clips and not clips & {shown[one["id"]]["clip"] for one in film["cast"]}
            seen = Counter((one["img"], shown[one["id"]]["person"]) for one in film["candidates"])
            assert set(seen.values()) == {1} and max(Counter(image for image, _ in seen).values()) > 1


def test_boxes_lie_on_the_persons_and_a_covered_head_changes_nothing_else(tmp_path: Path) -> None:
    plain, half = (written(tmp_path / str(share), 3, movies.Plan((6, 6), (1, 1), 0, share)) for share in (0.0, 0.5))
    assert plain["val"] == half["val"] and not any(made.get("mask") for made in plain["shown"].values())
    covered = Counter(
        (made["person"], bool(made["mask"]))
        for name, made in half["shown"].items()
        if made["person"] == "a" and "mask" in made
    )
    assert abs(covered["a", True] - covered["a", False]) <= 1 < covered["a", True]
    for one in plain["val"]["v1"]["candidates"]:
        frames = [read(tmp_path / share / "val" / one["img"]) for share in ("0.0", "0.5")]
        x, y, width, height = one["bbox"]
        assert frames[0].shape == (movies.HEIGHT, movies.WIDTH, 3) and x >= 0 and y >= 0
        assert x + width <= movies.WIDTH and y + height <= movies.HEIGHT
        changed = np.abs(
            frames[0][y : y + height, x : x + width].astype(int) - frames[1][y : y + height, x : x + width]
        )
        assert (changed.max() > 60) == bool(half["shown"][one["id"]]["mask"])
        bottom = changed[-max(height // 20, 1) :]  # clothes
        assert bottom.mean() < 6


def test_one_clip_per_person_where_it_is_asked_for(tmp_path: Path) -> None:
    for clips, expected in ((0, 2), (1, 1)):
        shown = written(tmp_path / str(clips), 0, movies.Plan((4, 4), (1, 1), 0, 0.5, clips))["shown"]
        assert len({made["clip"] for made in shown.values() if made["person"] == "a" and "mask" in made}) == expected


def test_cast_member_with_a_single_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least two clips with a face of x"):
        movies.write_corpus(tmp_path / "corpus", PERSONS, PHOTOS, 0, TINY, {"val": {"v1": ("a", "x")}})


def test_candidates_without_a_rank_follow_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "ranks").write_text("m1 1 c 0.9\nm1 2 b 0.8\nm2 1 e 0.5\n")
    (tmp_path / "relevant").write_text("m1 b\nm1 d\nm2 e\n")
    (tmp_path / "search").write_text("m1 f1\nm2 f2\n")
    (tmp_path / "utt2group").write_text("a f1\nb f1\nc f1\nd f1\ne f2\n")
    found = figures(tmp_path / "ranks", tmp_path)  # m1: c b a d, so precision (1/2 + 2/4) / 2
    assert (found.map, found.films, found.rank1) == pytest.approx((0.75, 0.75, 0.5))


def test_face_and_body_find_more_than_face_in_a_tiny_movie_with_covered_heads(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = cast_movies.Clips(shared, tmp_path / "models")
    wanted = {"help", "no", "milk", "bird", "book", "walk", "GRID_brbk7n", "GRID_lbax4n"}
    paths = [path for path in movies.talking_clips(shared) if path.stem in wanted]
    persons = movies.read_persons(paths, clips.find, looks=3)
    work = tmp_path / "masked0.5-clips0-seed0"
    movies.write_corpus(work / "corpus", persons, {}, 0, TINY, {"test": {"t1": ("asl_A", "asl_B", "asl_C")}})
    found = cast_movies.cast_movies(Options(shared, tmp_path, BODY, parts="test", seeds="0", masked="0.5", nj=1))
    of = {(one.cues, one.backend): figures[0].map for (_, _, one), figures in found.items()}
    face = of["face", "class mean"]
    assert face <= 0.75 and of["face + body", "original"] >= face
    assert min(of["face + body", "propagation"], of["face + body", "calibrated"]) >= face + 0.1
    assert f"| face + body | {BODY} | original |" in capsys.readouterr().out
