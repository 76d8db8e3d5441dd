"""Stage 5 on a cast search: figures, what is picked of each cast member, and its part of the report."""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Picture
from searched_set import write_archive
from test_report import Page

from steps.evaluate_searches import EvaluateSearchesOptions, evaluate_searches
from steps.make_report import ReportOptions, make_report
from steps.pick_casts import PickCastsOptions, budget_of, pick_casts, portrait_of
from steps.search import SearchOptions, SearchPairOptions, SearchSystemOptions, search
from steps.search_cast import CastPairOptions, CastSystemOptions, SearchCastOptions, search_cast
from vidperson.errors import DataError, ScoringError
from vidperson.io.crops import TAR_END, tar_entry
from vidperson.io.ranks import REASONS, read_ranks, read_reasons, read_relevant
from vidperson.report.casts import cast_part

# film -> cast member -> its candidates; the others show nobody of the cast
CAST = {"A": {"A_p": ["A_0", "A_2", "A_4"], "A_<q>": ["A_1"]}, "B": {"B_p": ["B_0", "B_2"]}}
FRAMES = {"A": [(0, 1), (2, 3), (4, 5)], "B": [(0, 1), (2,)]}
CANDIDATES = [f"{film}_{n}" for film, frames in FRAMES.items() for pair in frames for n in pair]
FACELESS = {"A_4": "face_rejected: small", "B_2": "no_face", "A_<q>-portrait": "no_face"}
BOX, FACE = (100.0, 50.0, 160.0, 170.0), (115.0, 62.0, 145.0, 86.0)
BOXES_ON_PICTURE = [[25.0, 10.0, 50.0, 20.0]]  # per cent: (115 - 100) / 60, (62 - 50) / 120, 30 / 60, 24 / 120


def png(segment: str) -> bytes:
    """One colour for each segment."""
    stream = io.BytesIO()
    Picture.new("RGB", (128, 256), (20 * (len(segment) % 10), 90, sum(segment.encode()) % 200)).save(stream, "PNG")
    return stream.getvalue()


def write_part(root: Path, modality: str, name: str, segments: dict[str, np.ndarray], states: dict[str, str]) -> None:
    """What stages 2 and 3 write of a set: an item in each segment that has a state of its own not."""
    kind, net = ("faces", "net") if modality == "face" else ("bodies", "clothes")
    box = [*FACE, 0.9, *([0.0] * 10)] if modality == "face" else [*BOX, 1.0]
    items = root / f"exp/{modality}_det" / ("det" if modality == "face" else "given") / name
    embed = root / f"exp/{modality}_embed/{net}" / name
    has = {segment: segment not in states for segment in segments}
    rows = {s: np.array([[0, 0, *box]] if has[s] else np.zeros((0, 2 + len(box))), np.float32) for s in segments}
    write_archive(items / f"{kind}.ark", rows)
    write_archive(embed / "embed.ark", {s: v[None] if has[s] else v[None][:0] for s, v in segments.items()})
    for folder in (items, embed):
        (folder / "status").write_text("".join(f"{s} {states.get(s, 'ok')}\n" for s in segments))
    tar, lines = b"", ""
    for segment in segments:
        if has[segment]:
            lines += f"{segment} crops.tar:{len(tar)}\n"
            tar += tar_entry(f"{segment}/00000_0000000.png", png(segment))
    (items / "crops.tar").write_bytes(tar + TAR_END)
    (items / "crops.scp").write_text(lines)


class World:
    """Two films; persons are told apart by the face, or by clothes that are the same in a film."""

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, root / "exp/results/films"
        rng = np.random.default_rng(3)
        models = [model for members in CAST.values() for model in members]
        owner = {s: model for members in CAST.values() for model, own in members.items() for s in own}
        face, clothes = ({who: rng.normal(size=8).astype(np.float32) for who in (*models, *CANDIDATES)} for _ in "ab")
        near = {s: face[owner.get(s, s)] + 0.3 * rng.normal(size=8).astype(np.float32) for s in CANDIDATES}
        portraits = {f"{model}-portrait": face[model] for model in models}
        worn = {s: clothes[owner.get(s, s)] for s in CANDIDATES}
        for name, faces, bodies in (("cast", portraits, portraits), ("films", near, worn)):
            write_part(root, "face", name, faces, {s: why for s, why in FACELESS.items() if s in faces})
            write_part(root, "body", name, bodies, {})
        frame = {
            f"{film}_{n}": f"{film}{i}.png" for film, some in FRAMES.items() for i, p in enumerate(some) for n in p
        }
        lists = {
            "cast/utt2spk": [(f"{model}-portrait", model) for model in models],
            "cast/vid.scp": [(f"{model}-portrait", f"{model}.png") for model in models],
            "films/vid.scp": sorted(frame.items()),
            "films/region": [(s, *(f"{side:g}" for side in BOX)) for s in CANDIDATES],
            "films/utt2group": [(s, s[0]) for s in CANDIDATES],
            "films/search": [(model, film) for film, members in CAST.items() for model in members],
            "films/relevant": [(model, s) for members in CAST.values() for model, own in members.items() for s in own],
        }
        for name, lines in lists.items():
            path = root / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(" ".join(line) + "\n" for line in lines))

    def options(self, **changed) -> dict:
        """Those of the steps of stages 4 and 5."""
        data, exp = f"--data-dir {self.root}/data --enroll-sets cast --test-set films", f"{self.root}/exp"
        face, body = (
            f"--modality {modality} --items-dir {exp}/{modality}_det/{det} --embed-dir"
            for modality, det in (("face", "det"), ("body", "given"))
        )
        dirs = {"face": f"{face} {exp}/face_embed/net", "body": f"{body} {exp}/body_embed/clothes"}
        cues = [f"--cue identity {dirs['face']}", f"--cue appearance {dirs['body']}"]
        cast = f"{data} --cues {' '.join(shlex.quote(cue.replace('embed-dir', 'embed-dirs')) for cue in cues)}"
        systems = f"--cast-backends '{changed.get('cast_backends', 'original propagation')}' --experiment films "
        systems += f"--scores-dir {exp}/scores --search-top {changed.get('search_top', 50)}"
        plain = SearchSystemOptions(
            "class-mean", search_top=50, scores_dir=self.root / "exp/scores", embedders="net clothes", test_sets="films"
        )
        return {"searches": [f"{one} {data}" for one in dirs.values()], "casts": [cast], "cast_systems": systems,
                "plain": plain, "cues": [cue.replace("embed-dir", "embed-dirs") for cue in cues]}  # fmt: skip

    def stage_4(self) -> None:
        options, exp = self.options(), self.root / "exp"
        for modality, det, net in (("face", "det", "net"), ("body", "given", "clothes")):
            items, embed = exp / f"{modality}_det/{det}", exp / f"{modality}_embed/{net}"
            pair = SearchPairOptions(modality, embed, self.root / "data", "cast", "films", items_dir=items)
            search(SearchOptions(pair, options["plain"]))
        systems = CastSystemOptions(
            "original propagation", search_top=50, scores_dir=exp / "scores", experiment="films"
        )
        search_cast(SearchCastOptions(CastPairOptions(self.root / "data", "cast", "films", options["cues"]), systems))

    def evaluate(self, **changed) -> None:
        o = self.options(**changed)
        evaluate_searches(
            EvaluateSearchesOptions(o["searches"], self.results, o["plain"], o["casts"], o["cast_systems"])
        )

    def report(self, casts: bool = True) -> str:
        o = self.options()
        plain = shlex.join(
            ["--search-backends", "class-mean", "--search-top", "50", "--embedders", "net clothes",
             "--test-sets", "films", "--scores-dir", f"{self.root}/exp/scores"])  # fmt: skip
        more = {"casts": o["casts"], "cast_systems": o["cast_systems"]} if casts else {}
        make_report(ReportOptions(self.results, searches=o["searches"], search_systems=plain, **more))
        return (self.results / "report.html").read_text()

    def lists(self, system: str) -> Path:
        return self.root / f"exp/scores/{system}/films/films_ranks"

    def picked(self) -> dict:
        return json.loads((self.results / "casts/films.json").read_text())


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    made.stage_4()
    return made


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("shown"))
    made.stage_4()
    made.evaluate()
    return SimpleNamespace(world=made, markup=made.report(), picked=made.picked())


def cases(picked: dict) -> dict[str, dict]:
    """Model -> its line."""
    return {line["model"]: line for group in picked["groups"] for line in group["models"]}


@pytest.mark.parametrize("system", ["original", "propagation"])
def test_figures_of_a_cast_search_are_those_of_its_lists_per_query_film_and_rank(shown, system):
    result = json.loads((shown.world.results / f"{system}/films/films.json").read_text())
    ranked, relevant = read_ranks(shown.world.lists(system)), read_relevant(shown.world.root / "data/films/relevant")
    precisions, first = {}, {}
    for model, own in relevant.items():
        places = sorted(ranked[model].index(segment) + 1 for segment in own)
        precisions[model], first[model] = fmean((i + 1) / place for i, place in enumerate(places)), places[0]
    assert result["mAP"] == pytest.approx(fmean(precisions.values()))
    per_film = [fmean(precisions[model] for model in members) for members in CAST.values()]
    assert result["mAP per group"] == pytest.approx(fmean(per_film)) and result["groups"].keys() == {"A", "B"}
    for rank in (1, 5, 10):
        assert result[f"rank-{rank}"] == pytest.approx(fmean(place <= rank for place in first.values()))
    told = [line.split()[2] for line in shown.world.lists(system).with_name("films_reasons").read_text().splitlines()]
    assert result["reasons"] == {reason: Counter(told)[reason] for reason in REASONS} and len(told) == 12 + 3
    assert result["models_without_items"] == ["A_<q>"]
    assert result["statuses"]["face"] == {"face_rejected": 1, "no_face": 1, "ok": 7}
    assert result["statuses"]["body"] == {"ok": 9}
    assert (result["modality"], result["system"]) == ("face + body", "net + clothes")


def test_tables_have_the_mean_per_film_ranks_reasons_and_statuses(shown):
    text = (shown.world.results / "results.txt").read_text()
    for head in ("per group %", "rank-1 %", "rank-10 %", "excluded", "persons without a list"):
        assert head in text
    assert "face_rejected 1, no_face 1, ok 7" in text
    rows = json.loads((shown.world.results / "results.json").read_text())["searches"]
    assert [(row["modality"], row["backend"]) for row in rows] == [
        ("face", "class-mean"), ("body", "class-mean"), ("face + body", "original"), ("face + body", "propagation"),
    ]  # fmt: skip
    assert all(row["map_per_group"] is not None and row["num_groups"] == 2 for row in rows)
    faces = json.loads((shown.world.results / "results.json").read_text())["faces"]
    assert [(row["face_rejected"], row["no_face"], row["segments"]) for row in faces if "films" in row["set"]] == [
        (1, 1, 9)
    ]


def test_picked_segments_are_the_first_of_the_list_and_the_misses_are_the_last_right_ones(shown):
    picked = shown.picked
    system = picked["system"].partition("/")[0]
    ranked = read_ranks(shown.world.lists(system))
    reasons = read_reasons(shown.world.lists(system).with_name("films_reasons"))
    lines = cases(picked)
    for film, members in CAST.items():
        for model, own in members.items():
            line = lines[model]
            assert [case["segment"] for case in line["best"]] == ranked[model][:12]
            assert [case["right"] for case in line["best"]] == [case["segment"] in own for case in line["best"]]
            assert line["missed"] == [] and line["not_found"] == 0  # a film has fewer than are shown
            for case in line["best"]:
                assert (case["reason"], case["evidence"] or "-") == reasons[model][case["segment"]]
                found = case["evidence"] in ranked[model] and ranked[model].index(case["evidence"]) + 1
                assert (case["evidence_rank"] or False) == found
        assert [group["num_segments"] for group in picked["groups"] if group["group"] == film] == [len(ranked[model])]
    few = shown.world.root / "few.json"
    pick_casts(few_options(shown.world, system, few, ranked=1, missed=2))
    line = cases(json.loads(few.read_text()))["A_p"]
    assert len(line["best"]) == 1 and line["not_found"] == 2
    assert [case["rank"] for case in line["missed"]] == sorted((case["rank"] for case in line["missed"]), reverse=True)
    assert {case["segment"] for case in (*line["best"], *line["missed"])} == {"A_0", "A_2", "A_4"}


def few_options(world: World, system: str, output: Path, **changed) -> PickCastsOptions:
    ranks = world.lists(system)
    reasons = ranks.with_name("films_reasons")
    return replace(
        PickCastsOptions(ranks, output, world.options()["searches"], "face", "body", reasons, f"{system}/films"),
        **changed,
    )


def test_picture_is_the_body_in_its_shape_with_the_box_of_its_face(shown):
    lines = cases(shown.picked)
    by_segment = {case["segment"]: case for line in lines.values() for case in line["best"]}
    for segment in CANDIDATES:
        case = by_segment[segment]
        assert case["boxes"] == ([] if segment in FACELESS else BOXES_ON_PICTURE)
        with Picture.open(io.BytesIO(base64.b64decode(case["jpeg"]))) as picture:
            assert picture.size == (72, 144)  # of 60 x 120
            with Picture.open(io.BytesIO(png(segment))) as sent:
                np.testing.assert_allclose(picture.getpixel((30, 70)), sent.getpixel((30, 70)), atol=4)
    assert (lines["A_<q>"]["portrait"]["status"], lines["A_p"]["portrait"]["status"]) == ("no_face", "ok")


def test_report_tells_reasons_evidence_and_portraits_without_a_face_and_escapes_names(shown, tmp_path):
    pick_casts(few_options(shown.world, "original", tmp_path / "original.json", ranked=3))
    markup = cast_part(json.loads((tmp_path / "original.json").read_text()))
    text = Page(markup).text
    for told in (
        "#1 7.996 \N{CHECK MARK}face: portraitA_2",
        "#3 7.468 \N{MULTIPLICATION X}face: portraitshows nobody who is searchedA_5",
        "portrait, no faceA_<q>-portrait",
        "#6 1.948face rejected: small; excluded #3A_4",
        "body #1B_2",
        "shows p",  # without the film before it
    ):
        assert told in text.replace("\n", ""), told
    assert "A_<q>" not in markup
    markup = shown.markup
    assert markup.count('<section class="person" data-item>') == 3
    assert markup.count('<details class="group" data-group open>') == 2
    assert not list((shown.world.results / "picks").rglob("*.json"))


def test_box_in_a_browser_leaves_the_films_and_persons_with_the_words(shown, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(shown.markup)
    page = browser.open(path)
    assert page.troubles() == page.broken_images() == page.findings() == [] and not page.is_wide()
    page.value("document.querySelectorAll('details[data-group]').forEach(group => { group.open = false; })")
    assert page.count(".person") == 0
    page.type(".searchable input", "b_P")
    groups = "[...document.querySelectorAll('details[data-group]')].map(group => [group.hidden, group.open])"
    assert page.value(groups) == [[True, False], [False, True]] and page.count(".person") == 1
    page.close()


def test_without_a_key_the_last_system_is_shown_with_counts_lists_and_pictures_but_no_marks(world, caplog):
    (world.root / "data/films/relevant").unlink()
    with caplog.at_level("INFO"):
        world.evaluate()
    assert caplog.text.count("nothing to evaluate") == caplog.text.count("in the enrolment of A_<q>") == 1
    markup = world.report()
    assert world.picked()["system"] == "propagation/films"
    lines = cases(world.picked())
    assert all(case["right"] is None for line in lines.values() for case in line["best"])
    assert not any(line["missed"] for line in lines.values())
    assert "AP " not in Page(markup).text and 'class="unknown"' in markup and 'class="wrong"' not in markup
    result = json.loads((world.results / "original/films/films.json").read_text())
    assert not result["has_key"] and sum(result["reasons"].values()) == 15 and "mAP" not in result


def test_a_set_with_regions_shows_the_best_system_without_reasons_where_there_is_no_cast_search(world):
    world.evaluate()
    world.report()
    first = (world.results / "casts/films.json").read_bytes()
    markup = world.report(casts=False)
    picked = world.picked()
    assert picked["system"] in ("net/class-mean", "clothes/class-mean") and not picked["has_reasons"]
    assert all(case["reason"] is None and case["jpeg"] for line in cases(picked).values() for case in line["best"])
    assert "Reasons:" not in markup
    world.report()
    assert (world.results / "casts/films.json").read_bytes() == first


@pytest.mark.parametrize(
    ("models", "pictures", "expected"),
    [(3, 3000, (3, 12, 3)), (373, 3000, (373, 5, 2)), (1000, 3000, (500, 4, 1)), (3, 0, (0, 4, 1))],
)
def test_pictures_are_bounded_whatever_the_number_of_cast_members(models, pictures, expected):
    options = replace(PickCastsOptions(Path("r"), Path("o"), [], "face"), pictures=pictures)
    budget = budget_of(options, [f"m{i}" for i in range(models)])
    assert (len(budget.models), budget.ranked, budget.missed) == expected
    assert len(budget.models) * (1 + budget.ranked + budget.missed) <= pictures
    assert not budget.models or "m0" in budget.models


def test_of_several_portraits_the_first_usable_one_is_shown_and_the_others_are_counted():
    pictures = SimpleNamespace(of=lambda name, segment: {"jpeg": None, "why": f"{name}/{segment}", "boxes": []})
    found = portrait_of([("cast", "a", "no_face"), ("more", "b", "unsure: best face 0.4")], pictures)
    assert (found["segment"], found["why"], found["others"]) == ("b", "more/b", 1)
    assert portrait_of([("cast", "a", "no_face")], pictures)["segment"] == "a" and portrait_of([], pictures) is None


def test_models_beyond_the_pictures_stand_in_the_table_only(shown, tmp_path):
    output = tmp_path / "few.json"
    pick_casts(few_options(shown.world, "original", output, pictures=12))
    lines = cases(json.loads(output.read_text()))
    shown_models = [model for model, line in lines.items() if "best" in line]
    assert len(lines) == 3 and len(shown_models) == 2
    worst = sorted(lines, key=lambda model: (lines[model]["average_precision"], model))
    assert shown_models and set(shown_models) == set(worst[:2])


@pytest.mark.parametrize(
    ("line", "found"),
    [("m s why -", "'m s why -'"), ("m s face -", "'m s face -'"), ("m s identity", "'m s identity'")],
)
def test_reasons_of_another_form_are_refused_with_their_line(tmp_path, line, found):
    path = tmp_path / "films_reasons"
    path.write_text(f"m t none -\n{line}\n")
    with pytest.raises(DataError, match=rf"films_reasons:2: expected '<model> <segment> <reason> .*found {found}"):
        read_reasons(path)
    path.write_text("m t none -\nm t identity p\n")
    with pytest.raises(DataError, match="segment 't' of 'm' appears twice"):
        read_reasons(path)


def test_edited_missing_and_other_lists_of_a_cast_search_are_refused_and_nothing_is_written(world):
    for changed, message in (
        ({"search_top": 4}, "< --search-top 50"),
        ({"cast_backends": "original median"}, "cast_backends: expected .*found 'median'"),
    ):
        with pytest.raises(ScoringError, match=rf"(?s){message}.*run \./run_004_score.sh with the same options first"):
            world.evaluate(**changed)
    reasons = world.lists("original").with_name("films_reasons")
    reasons.write_text(reasons.read_text().replace("identity", "appearance", 1))
    with pytest.raises(ScoringError, match=r"(?s)films_reasons: expected the file as it was written.*run_004_score"):
        world.evaluate()
    reasons.unlink()
    with pytest.raises(ScoringError, match=r"(?s)films_reasons.*run_004_score"):
        world.evaluate()
    assert not world.results.exists()
