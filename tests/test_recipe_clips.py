"""Persons in real clips, from own folders to ranks: strangers stay behind, and what a second look finds counts."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from recipe import Recipe

from benchmarks.real_clips import Source, encode, lay_out, not_first
from vidperson.io.lines import read_paths, read_scp
from vidperson.io.matrices import load_matrices
from vidperson.io.ranks import read_ranks, read_relevant

FPS = 1  # of the first look
LATE = "late.mp4"


def hide_from_the_first_look(source: Path, target: Path) -> None:
    """A copy whose frames are black within 0.2 s of the times k / FPS at which a first look takes one."""
    with av.open(str(source)) as container:
        video = container.streams.video[0]
        rate = video.average_rate
        pictures = list(container.decode(video))
    assert rate is not None
    kept = []
    for index, picture in enumerate(pictures):
        image = picture.to_ndarray(format="rgb24")
        distance = index / rate * FPS % 1
        if min(distance, 1 - distance) < 0.2 * FPS:
            image = np.zeros_like(image)
        kept.append(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
    encode(kept, target, rate)


@pytest.fixture(scope="module")
def clips(repo: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Three persons, strangers, a clip without a face, and one that shows its person to a second look only."""
    work = tmp_path_factory.mktemp("clips")
    video = shared / "data/video"
    found = [
        *(Source(path, name) for name in ("M030", "W009") for path in sorted(video.glob(f"mead/{name}_*"))[:3]),
        *(Source(path, "asl_E") for path in sorted((shared / "data/clips/asl_E").iterdir())),
        *(Source(path) for path in sorted(video.glob("grid/GRID_*"))[1:6]),
        Source(video / "robustness/black_silent_noface.mp4"),
        Source(video / "talks/KristiNoem.mp4", cut_s=8.0),
    ]
    corpus = work / "corpus"
    lay_out(found, corpus)
    hide_from_the_first_look(sorted(video.glob("mead/M030_*"))[5], corpus / "search" / LATE)
    with (corpus / "search.key").open("a") as key:
        key.write(f"M030\t{LATE}\n")
    recipe = Recipe(repo, work, "clips")
    options = [
        "--clips-persons", f"{corpus}/persons", "--clips-strangers", f"{corpus}/strangers",
        "--clips-search", f"{corpus}/search", "--clips-key", f"{corpus}/search.key", "--fps", str(FPS),
        "--second-look", "9", "--search-backends", "class-mean class-mean-whitened-shift", "--nj", "2",
    ]  # fmt: skip
    for stage in ("000_get_pretrained_models", "001_prepare_data", "002_detect_faces", "003_extract_embeddings"):
        recipe.run(stage, *options)
    recipe.run("004_score", *options)
    assert recipe.run("005_eval", *options).stdout.endswith(f"\nreport: {recipe.results}/report.html\n")
    return recipe


def _segment(recipe: Recipe, name: str) -> str:
    (segment,) = (key for key, path in read_paths(recipe.work / "data/clips_test/vid.scp").items() if name in path)
    return segment


@pytest.mark.parametrize("system", ["class-mean", "class-mean-whitened-shift"])
def test_every_clip_with_a_face_is_ranked_before_all_strangers(clips: Recipe, system: str) -> None:
    ranks = read_ranks(clips.systems(system) / "clips_test_ranks")
    relevant = read_relevant(clips.work / "data/clips_test/relevant")
    assert {model: len(segments) for model, segments in relevant.items()} == {"M030": 2, "W009": 1, "asl_E": 1}
    assert list(not_first(ranks, relevant, read_scp(clips.faces("clips_test") / "status"))) == []


def test_faces_that_only_the_second_look_finds_reach_embeddings_and_ranks(clips: Recipe) -> None:
    segment = _segment(clips, LATE)
    faces = np.asarray(load_matrices(clips.faces("clips_test") / "faces.scp")[segment])
    embeddings = np.asarray(load_matrices(clips.embeddings("clips_test") / "embed.scp")[segment])
    assert len(faces) == len(embeddings) > 0
    with av.open(str(clips.work / "corpus/search" / LATE)) as container:
        rate = container.streams.video[0].average_rate
        bright = [frame.to_ndarray(format="gray").mean() > 20 for frame in container.decode(video=0)]
    assert rate is not None
    first_look = [round(second * rate / FPS) for second in range(int(len(bright) * FPS / rate) + 1)]
    assert not any(bright[index] for index in first_look if index < len(bright)) and sum(bright) > len(bright) / 3
    assert not set(faces[:, 0].astype(int)) & set(first_look)
    ranked = read_ranks(clips.systems("class-mean") / "clips_test_ranks")
    assert ranked["M030"].index(segment) < 2


def test_clips_without_a_face_are_counted_and_stand_in_no_list(clips: Recipe) -> None:
    faceless = {_segment(clips, "black_silent_noface")}
    status = read_scp(clips.faces("clips_test") / "status")
    assert {name for name, state in status.items() if not state.startswith("ok")} == faceless
    ranked = read_ranks(clips.systems("class-mean") / "clips_test_ranks")
    assert all(faceless.isdisjoint(segments) for segments in ranked.values())
    figures = json.loads((clips.results / "arcface_tiny/class-mean/clips_test.json").read_text())
    assert figures["without_items"] == {"no_face": 1}
