"""The numbered stages on real videos in a user's own folders: who is in them, and how sure that is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recipe import PUBLISHED, SHIPPED, STAGES, Recipe, link, published

import vidperson
from vidperson.io.answers import read_answers, read_names, read_who_csv
from vidperson.io.lines import read_scp
from vidperson.io.matrices import load_matrices

VIDEO = "soirée à Washington; $(touch pwned) 'live'.mp4"


@pytest.fixture(scope="module")
def hamilton(repo: Path, models: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A user's own folders, with names that people give: spaces, quotes, accents."""
    work = tmp_path_factory.mktemp("hamilton")
    recipe = published(repo, models, work, "folder")
    media = shared / "data/video/hamilton"
    portraits = {
        "Lin-Manuel Miranda": ["lin-manuel-miranda.png"],
        'Alex "The Conductor" Lacamoire': ["alex-lacamoire.png", "alex_lacamoire1.jpg"],
        "Barack Obama": ["obama.jpg"],
        "Joe Biden's": ["biden.jpg"],
    }
    for person, files in portraits.items():
        for name in files:
            link(media / name, work / "my persons" / person / name)
    link(
        media / "short_hamilton_clip.mp4",
        work / "my videos" / VIDEO,
    )
    options = [
        "--folder-persons",
        f"{work}/my persons",
        "--folder-videos",
        f"{work}/my videos",
        "--fps",
        "5",
        "--nj",
        "2",
    ]
    for stage in ("001_prepare_data", *STAGES):
        recipe.run(stage, *options)
    return recipe


def test_folder_with_names_of_all_kinds_finds_who_is_in_the_clip_and_not_who_is_not(
    hamilton: Recipe, repo: Path
) -> None:
    """Obama is in it too: he sits in the audience that is shown from 7 s on, in profile. Biden is not."""
    rows = list(read_who_csv(hamilton.results / "who.csv"))
    assert {row.video for row in rows} == {VIDEO}
    sure = {row.person for row in rows if row.decision == "yes"}
    assert "Lin-Manuel Miranda" in sure <= {"Lin-Manuel Miranda", 'Alex "The Conductor" Lacamoire', "Barack Obama"}
    (miranda, *_) = sorted(
        (row for row in rows if row.person == "Lin-Manuel Miranda"), key=lambda row: row.start_s - row.end_s
    )
    assert abs(miranda.start_s - 2.8) < 0.5 and abs(miranda.end_s - 7.2) < 0.5  # by eye: the shot of him speaking
    assert not list(repo.glob("pwned")) and not list(hamilton.work.rglob("pwned"))


def test_folder_obama_is_seen_only_where_the_clip_shows_the_audience(hamilton: Recipe) -> None:
    names = read_scp(hamilton.work / "data" / "folder_enroll" / "names")
    (obama,) = [model for model, original in names.items() if original == "Barack Obama"]
    members = load_matrices(hamilton.embeddings("folder_enroll") / "embed.scp")
    (clip,) = load_matrices(hamilton.embeddings("folder_test") / "embed.scp").values()
    (faces,) = load_matrices(hamilton.faces("folder_test") / "faces.scp").values()
    (portrait,) = [matrix for segment, matrix in members.items() if segment.startswith(f"{obama}-")]
    cosine = (clip / np.linalg.norm(clip, axis=1, keepdims=True)) @ (portrait / np.linalg.norm(portrait)).T
    times = faces[cosine.max(axis=1) > 0.4, 1]
    assert len(times) >= 3 and times.min() > 7  # seconds; the camera turns to the audience at 7.2


def test_folder_without_key_is_neither_scored_nor_evaluated(hamilton: Recipe) -> None:
    assert not (hamilton.work / "data/folder_test/trials").exists() and not hamilton.systems("max").exists()
    assert (hamilton.results / "report.html").is_file() and not (hamilton.results / "results.json").exists()


def test_folder_answer_of_the_stages_is_that_of_the_package(hamilton: Recipe, models: Path) -> None:
    """Who, when, how probable, and all boxes, to the last digit; only ids are names."""
    data = hamilton.work / "data"
    names = read_names([data / "folder_enroll"], data / "folder_test")
    (stages,) = read_answers(hamilton.work / "exp/scores/who/folder/folder_test_who.jsonl")
    app = vidperson.load(detector=PUBLISHED[0], embedder=PUBLISHED[1], models_dir=models)
    gallery = app.gallery(hamilton.work / "my persons")
    (package,) = gallery.find_all([hamilton.work / "my videos" / name for name in names.videos.values()])
    assert len(gallery.persons) == 4 and len(package.appearances) > 3
    named = [
        replace(
            one,
            person=names.person(one.person),
            candidates=tuple(replace(other, person=names.person(other.person)) for other in one.candidates),
        )
        for one in stages.appearances
    ]
    assert package == replace(stages, segment=package.segment, appearances=tuple(named))


@pytest.mark.parametrize(
    "networks",
    [pytest.param(SHIPPED, id="shipped"), pytest.param(PUBLISHED, id="published", marks=pytest.mark.campaign)],
)
def test_clips_of_four_corpora_are_verified_below_five_percent_equal_error(
    repo: Path, models: Path, shared: Path, tmp_path: Path, networks: tuple[str, str]
) -> None:
    """First clip of each person enrols, the others test, all cross pairs are non-target trials."""
    recipe = published(repo, models, tmp_path, "folder")
    if networks == SHIPPED:
        recipe = Recipe(repo, tmp_path, "folder")
        recipe.run("000_get_pretrained_models")
    video = shared / "data/video"
    clips: dict[str, list[Path]] = {}
    for path in sorted(
        [
            *video.glob("grid/*.mpg"),
            *video.glob("mead/*.mp4"),
            *video.glob("talks/*.mp4"),
            *video.glob("avspeech/*.mp4"),
        ]
    ):
        corpus, name = path.parent.name, path.stem
        if corpus == "grid":
            person = "s1" if name.startswith("s1_") else name
        elif corpus == "avspeech":
            person = "_".join(name.split("_")[:-2]).removesuffix("_co")
        else:
            person = re.split("_", name, maxsplit=1)[0]
        if name.startswith("id2_"):  # may be one of the GRID_ speakers
            continue
        if name == "GRID_bbaf2n":  # the same file as s1_bbaf2n
            continue
        clips.setdefault(f"{corpus} {person}", []).append(path)
    assert len(clips) == 10 + 3 + 5 + 5
    key = []
    for person, (first, *others) in clips.items():
        link(first, tmp_path / "persons" / person / first.name)
        for path in others:
            link(path, tmp_path / "videos" / path.name)
            key.append(f"{person}\t{path.name}")
    (tmp_path / "key.tsv").write_text("\n".join(key) + "\n")
    options = [
        "--folder-persons",
        f"{tmp_path}/persons",
        "--folder-videos",
        f"{tmp_path}/videos",
        "--folder-key",
        f"{tmp_path}/key.tsv",
    ]
    options += ["--backends", "max median ahc norm-mean track", "--snorm-cohort", "folder_test", "--ncoh", "50"]
    options += ["--calibration-set", "folder_test", "--fusion-systems", "max ahc_snorm norm-mean track"]
    for stage in ("001_prepare_data", *STAGES):
        recipe.run(stage, *options, "--find-persons", "false", "--fps", "1")
    results = recipe.results
    rows = json.loads((results / "results.json").read_text())["results"]
    print(f"EER {100 * rows[0]['eer']:.2f} %, {rows[0]['num_targets']} targets, {rows[0]['num_nontargets']} nontargets")
    assert rows[0]["num_targets"] == len(key) and rows[0]["num_nontargets"] == len(clips) * len(key) - len(key)
    assert rows[0]["eer"] < 0.05
    table = {(row["backend"], bool(row["snorm_cohort"]), bool(row["calibrated_on"])): row for row in rows}
    assert len(table) == 5 * 2 * 2 + 1 and ("fusion", False, True) in table
    assert all(0 <= row["min_cprimary"] <= row["act_cprimary"] + 1e-9 for row in table.values())
    raw, calibrated = (table["max", False, calibrated] for calibrated in (False, True))
    assert raw["act_cprimary"] == 1 > calibrated["act_cprimary"] and raw["eer"] == pytest.approx(calibrated["eer"])
    assert "Instructive trials of max, calibrated" in (results / "report.html").read_text()


def test_every_readable_form_of_a_video_shows_the_face_of_the_original(models: Path, shared: Path) -> None:
    import cv2

    from vidperson.engines import load_network
    from vidperson.face.candidates import SelectionPolicy
    from vidperson.face.detector import make_detector
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.face.pipeline import Task, find_faces
    from vidperson.media.video import UniformSampling
    from vidperson.networks.install import installed_model

    found, read = (installed_model(models / name) for name in PUBLISHED)
    detector = make_detector(load_network(found.network, threads=2), found.card)
    embedder = FaceEmbedder(load_network(read.network, threads=2), read.card)

    def embed(path: Path) -> tuple[str, np.ndarray]:
        ((_, status, faces),) = find_faces([Task("s", str(path), UniformSampling(1))], detector, SelectionPolicy())
        crops = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for png in faces.crops]
        vectors = embedder.embed(np.stack(crops) if crops else np.zeros((0, 112, 112, 3), np.uint8))
        return status, vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    folder = shared / "data/video/robustness"
    _, base = embed(folder / "base.mp4")
    _, other_man = embed(folder / "nonsquare_base.mp4")
    shows_other_man = {"nonsquare_base.mp4", "phone_upright_via_matrix.mp4"}
    faceless = {
        "audio_only.mp4",
        "black_silent_noface.mp4",
        "random_bytes.mp4",
        "text.mp4",
        "truncated_moov_at_end.mp4",
    }
    faceless.add("zero_bytes.mp4")
    lowest = {"sar2.mp4": 0.25}  # declares pixels twice as wide as high, so the face is shown stretched
    best = {}
    for path in sorted(folder.iterdir()):
        _, vectors = embed(path)
        reference = other_man if path.name in shows_other_man else base
        best[path.name] = float((vectors @ reference.T).max(initial=-1))
    assert {name for name, cosine in best.items() if cosine == -1} == faceless
    assert not {name: c for name, c in best.items() if name not in faceless and c < lowest.get(name, 0.6)}
    assert (other_man @ base.T).max() < 0.25
