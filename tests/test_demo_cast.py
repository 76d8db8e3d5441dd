"""The demo corpus of films: its lists, its clothes, who YuNet, another detector, sees in it; and run_demo.sh on it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from recipe import Recipe

from vidperson.corpora import csm, demo_cast, film
from vidperson.errors import DataError
from vidperson.io.lines import read_scp
from vidperson.networks.card import load_card


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of as few frames as there can be."""
    out = tmp_path_factory.mktemp("demo") / "films"
    made: list[None] = []
    assert demo_cast.build(out, demo_cast.FEWEST_FRAMES, lambda: made.append(None))
    assert len(made) == sum(demo_cast.PARTS.values())
    return out


def _films(corpus: Path, part: str) -> dict[str, Any]:
    return json.loads((corpus / f"{part}.json").read_text())


def _crop(corpus: Path, part: str, entry: dict[str, Any]) -> np.ndarray:
    x, y, width, height = entry["bbox"]
    return np.asarray(Image.open(corpus / part / entry["img"]))[y : y + height, x : x + width]


def test_lists_are_read_as_those_of_csm_and_each_cast_member_is_seen(corpus: Path, tmp_path: Path) -> None:
    sets = [path.name for path in csm.prepare(tmp_path, corpus)]
    assert sets == [f"csm_{part}_{kind}" for part in ("train", "val") for kind in ("cast", "candidates")]
    for part, films in demo_cast.PARTS.items():
        cast = read_scp(tmp_path / f"csm_{part}_cast/utt2spk")
        shown = read_scp(tmp_path / f"csm_{part}_candidates/utt2spk")
        assert len(cast) == 4 * films and set(shown.values()) == set(cast.values())
        regions = read_scp(tmp_path / f"csm_{part}_candidates/region")
        assert len(regions) == 18 * films and len(shown) < len(regions)  # the others are extras
        for line in regions.values():
            x1, y1, x2, y2 = map(float, line.split())
            assert 0 <= x1 < x2 <= film.WIDTH and 0 <= y1 < y2 <= film.HEIGHT and y2 - y1 > 150


def test_frames_show_one_to_three_persons_and_actors_play_in_two_films(corpus: Path) -> None:
    films = _films(corpus, "train") | _films(corpus, "val")
    in_frame = defaultdict[str, list[str]](list)
    for entry in (entry for each in films.values() for entry in each["candidates"]):
        in_frame[entry["img"]].append(entry["label"])
    assert {len(labels) for labels in in_frame.values()} == {1, 2, 3}
    named = [[label for label in labels if label != "others"] for labels in in_frame.values()]
    assert all(len(set(labels)) == len(labels) for labels in named)  # nobody twice
    casts = [{entry["label"] for entry in each["cast"]} for each in films.values()]
    assert [len(one & other) for one, other in itertools.pairwise(casts)] == [1] * 6


def test_clothes_tell_the_persons_of_a_film_apart_but_not_an_actor_in_another_film(corpus: Path) -> None:
    """By the colours of the trunk, of one film: who wears what is nearest? An actor of two films is no match."""
    colours = defaultdict[tuple[str, str], list[np.ndarray]](list)
    for name, each in _films(corpus, "val").items():
        for entry in each["candidates"]:
            if entry["label"] != "others":
                crop = _crop(corpus, "val", entry).astype(float)
                height, width = crop.shape[:2]
                trunk = crop[int(0.4 * height) : int(0.6 * height), int(0.4 * width) : int(0.6 * width)].reshape(-1, 3)
                colours[name, entry["label"]].append(trunk.mean(axis=0) / trunk.mean())
    means = {key: np.mean(rows, axis=0) for key, rows in colours.items()}
    hits = [
        min((key for key in means if key[0] == own[0]), key=lambda key: np.linalg.norm(row - means[key])) == own
        for own, rows in colours.items()
        for row in rows
    ]
    assert np.mean(hits) > 0.8
    spread = max(np.std(rows, axis=0).max() for rows in colours.values())
    actors = defaultdict[str, list[np.ndarray]](list)
    for (_, label), mean in means.items():
        actors[label].append(mean)
    pairs = [rows for rows in actors.values() if len(rows) == 2]
    assert len(pairs) == 2 and all(np.abs(one - other).max() > 2 * spread for one, other in pairs)


def test_three_of_five_candidates_show_a_face_and_every_portrait_does(corpus: Path, shared: Path) -> None:
    detector = cv2.FaceDetectorYN.create(str(shared / "models/yunet_onnx/yunet_n_dynamic.onnx"), "", (0, 0), 0.7)

    def num_faces(picture: np.ndarray) -> int:
        detector.setInputSize(picture.shape[1::-1])
        faces = detector.detect(np.ascontiguousarray(picture[..., ::-1]))[1]
        return 0 if faces is None else len(faces)

    seen = []
    for part in demo_cast.PARTS:
        for each in _films(corpus, part).values():
            seen += [num_faces(_crop(corpus, part, entry)) > 0 for entry in each["candidates"]]
            for entry in each["cast"]:
                assert num_faces(np.asarray(Image.open(corpus / part / entry["img"]))) == 1
    assert 0.5 < np.mean(seen) < 0.7


def test_finished_corpus_is_kept_and_fewer_frames_than_show_everybody_are_refused(corpus: Path, tmp_path: Path) -> None:
    assert not demo_cast.build(corpus, demo_cast.FEWEST_FRAMES)
    with pytest.raises(DataError, match="at least 9 frames per film, found 8"):
        demo_cast.build(tmp_path / "films", 8)
    assert not list(tmp_path.iterdir())


def test_run_demo_goes_from_films_to_a_trained_body_network_a_table_and_a_report(
    corpus: Path, repo: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="training needs the torch extra")
    shutil.copytree(corpus, tmp_path / "data/demo_cast_corpus")
    (tmp_path / "data/demo_cast_corpus/.done").write_text(f"recipe {demo_cast.RECIPE}, 24 frames\n")  # else made again
    recipe = Recipe(repo, tmp_path, "demo_cast")
    said = subprocess.run(
        ["./run_demo.sh", *recipe.command("demo", "--nj", "2", "--contact-sheet", "false")[1:]],
        cwd=repo, env=recipe.environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    assert said.stdout.splitlines()[-1] == f"report: {recipe.results}/report.html"
    table = [re.split(r"  +", line) for line in said.stdout.partition("mAP:")[0].splitlines()]
    found = {(row[0], row[1]): float(row[3]) for row in table if row[1:2] and row[0].startswith(("face", "body"))}
    both = {name: figure for (cues, name), figure in found.items() if cues == "face + body"}
    assert set(both) == {"original", "propagation", "calibrated"}
    assert min(both.values()) > 60 > 50 > found["body", "class-mean"]  # mAP in per cent; chance is about 30
    assert min(both["propagation"], both["calibrated"]) > found["face", "class-mean"] + 10
    assert load_card(tmp_path / "exp/body_train/demo_cast/demo_cast.yaml").kind == "body_embedder"
    for embedder in ("body_tiny", "demo_cast"):
        assert (tmp_path / f"exp/body_embed/{embedder}/csm_val_candidates/embed.ark").is_file()
