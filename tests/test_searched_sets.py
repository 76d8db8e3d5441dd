"""Stage 5 on searched sets: results, what is picked for the report, and the report."""

from __future__ import annotations

import base64
import csv
import json
import math
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from searched_set import PER_PERSON, PERSONS, STRANGERS, SearchedSet, write_tanh_identifier
from test_report import NASTY, Page, points_of, shade

from steps.calibrate_search import CalibrateSearchOptions, calibrate_search
from steps.evaluate_ranks import Lists
from steps.evaluate_searches import EvaluateSearchesOptions, evaluate_search, evaluate_searches
from steps.evaluate_searches import SearchedSet as Files
from steps.make_report import write_report
from steps.pick_ranks import Decisions, PickRanksOptions, pick_ranks, read_searched
from steps.score import PairOptions, ScoreOptions, SystemOptions, score
from steps.search import SearchOptions, SearchPairOptions, SearchSystemOptions, search
from vidperson.errors import DataError, ScoringError
from vidperson.io.lines import read_scp
from vidperson.io.ranks import read_scored_ranks
from vidperson.io.record import read_record, write_record
from vidperson.report import evaluation, page, plots, tables
from vidperson.report.contact_sheet import decode_picture

ABOUT = {"modality": "face", "system": "net", "backend": "class-mean", "snorm_cohort": None, "calibrated_on": None}


@dataclass
class World:
    made: SearchedSet
    files: Files
    paths: dict[str, Path]
    results: Path

    def lists(self) -> Lists:
        return self.files.lists(self.paths["ranks"], self.paths["persons"], self.paths["nobody"])

    def evaluate(self, backend: str = "class-mean", **more) -> dict:
        output = self.results / "net" / backend / "test.json"
        return evaluate_search(self.files, self.lists(), output, ABOUT | {"backend": backend}, 100, **more)

    def pair(self) -> SearchPairOptions:
        made = self.made
        return SearchPairOptions("face", made.embed, made.data, "train", "test", items_dir=made.items)

    def pick(self, count: int = 2) -> dict:
        self.evaluate()
        output = self.results / "picks/net/test.json"
        lists = self.paths["ranks"], self.paths["persons"]
        pick_ranks(
            PickRanksOptions(*lists, output, "class-mean", self.pair(), self.paths["nobody"], "net/class-mean", count)
        )
        return json.loads(output.read_text())

    def report(self, *systems: str, items: bool = False) -> str:
        found = [("face", self.made.items / "test")] if items else []
        write_report(self.results, [], [], found, ["net"], {"test": list(systems or ("net/class-mean",))})
        return (self.results / "report.html").read_text()


def make_world(folder: Path) -> World:
    made = SearchedSet(folder)
    files = Files(made.data / "test", {"face": read_scp(made.embed / "test/status")})
    return World(made, files, made.write_search(folder / "scores/net/class-mean"), folder / "results")


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@dataclass
class Shown:
    """A world that is only read: the result, what was picked of it, and the report of it and of other results."""

    world: World
    result: dict
    picked: dict
    report: str

    def write_report(self) -> str:
        return self.world.report("net/worse", "net/class-mean", items=True)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("shown"))
    world.evaluate("worse")
    picked = world.pick(3)
    made = Shown(world, world.evaluate(threshold=0.7), picked, "")
    return replace(made, report=made.write_report())


def test_result_counts_segments_without_an_item_by_state_and_has_the_figures_of_ranked_lists(shown):
    result = shown.result
    written = json.loads((shown.world.results / "net/class-mean/test.json").read_text())
    assert written == result
    assert result["without_items"] == {"damaged": 1, "no_face": 1} and result["without_items_of_models"] == 1
    assert (result["num_segments"], result["num_models"]) == (PERSONS * PER_PERSON + STRANGERS + 3, PERSONS)
    assert result["segments"]["strangers"] == STRANGERS + 1  # one of those without an item, too
    assert result["segments"]["without a list"] == 2
    assert result["mAP"] < 1 and result["mAP"] == result["mAP capped"]  # p2 cannot reach 1, nor p1 and the last
    assert "mAP per group" not in result  # there is one
    assert [point["resolved"] for point in result["segments"]["points"]] == [False, False]


def test_set_without_a_key_gets_counts_only(world):
    (world.made.data / "test/relevant").unlink()
    result = world.evaluate()
    assert not result["has_key"] and result["num_segments"] == PERSONS * PER_PERSON + STRANGERS + 3
    assert "mAP" not in result and "segments" not in result


def test_edited_lists_lists_of_another_set_and_longer_ones_are_refused_by_name(world):
    persons = world.paths["persons"]
    write_record(persons, ["stage 4"], [], [persons])
    text = persons.read_text()
    persons.write_text(text.replace("p1", "p2", 1))
    with pytest.raises(DataError, match="test_persons: expected SHA-256"):
        world.evaluate()
    persons.write_text(text)
    groups = world.made.data / "test/utt2group"
    groups.write_text(groups.read_text().replace("t-s3 all\n", ""))
    with pytest.raises(ScoringError, match="segment 't-s3' is not in .*utt2group"):
        world.evaluate()
    groups.write_text(groups.read_text() + "t-s3 all\n")
    with pytest.raises(ScoringError, match="expected at most 5 ranks"):
        evaluate_search(world.files, world.lists(), world.results / "x.json", ABOUT, 5)
    assert not world.results.exists()


def test_picked_persons_have_the_best_right_the_best_wrong_and_the_missed_right_segments(shown):
    picked, last = shown.picked, f"p{PERSONS - 1}"
    assert {person["model"] for person in picked["worst"]} == {"p2", last}  # the others have an AP of 1
    by_model = {person["model"]: person for person in picked["worst"] + picked["best"]}
    assert len(by_model) == 5
    precisions = [person["average_precision"] for person in picked["persons"]]
    assert precisions == sorted(precisions) and picked["num_persons"] == PERSONS
    for person in by_model.values():
        kinds = [case["kind"] for case in person["cases"]]
        assert kinds.count("wrong") == 3 and kinds[0] == "right" and person["enrolled"] == 3
        wrong = [case["rank"] for case in person["cases"] if case["kind"] == "wrong"]
        assert wrong == sorted(wrong)
    missed = by_model[last]["cases"][-1]
    assert (missed["kind"], missed["segment"], missed["shows"]) == ("missed", f"t-{last}-0", [last])


def test_persons_that_all_go_right_are_best_and_none_is_worst(world):
    relevant = world.made.data / "test/relevant"
    relevant.write_text("".join(line for line in relevant.read_text().splitlines(True) if line[:2] in ("p0", "p3")))
    picked = world.pick()
    assert picked["worst"] == [] and {person["model"] for person in picked["best"]} == {"p0", "p3"}


def test_picked_segment_without_an_item_tells_its_status(shown):
    persons = {person["model"]: person for person in shown.picked["worst"]}
    case = persons["p2"]["cases"][-1]
    assert (case["kind"], case["rank"], case["score"]) == ("missed", None, None)
    assert case["why"] == "no faces; status no_face" and case["test"] is None


def decided(world, words, model, segment):
    searched = read_searched(world.pair(), words.split(), {})
    return Decisions(searched, {model: [segment]}).of(model, segment)


def test_decided_face_is_the_heaviest_of_the_track_that_gave_the_score(world):
    found = decided(world, "class-mean", "p0", "t-two")
    assert found["tracks"] > 1
    assert shade(found["test"]) == 20 + 10 * 6  # the third of the second track has the longest embedding
    assert shade(found["enrolment"]) == 20 + 10 * 2
    assert found["cosine"] > 0.8 and found["why"] is None


def test_decided_track_and_its_score_are_those_of_the_system_that_is_shown(world, tmp_path):
    """Beside a set in which every track of ``t-two`` is a segment of its own."""
    made = world.made
    tracks = {f"t-two{k}": made.tested["t-two"][4 * k : 4 * k + 4] for k in range(2)}
    made.stages("alone", tracks)
    (made.data / "alone").mkdir()
    shutil.copy(made.data / "test/search", made.data / "alone")
    (made.data / "alone/utt2group").write_text("".join(f"{segment} all\n" for segment in tracks))
    write_tanh_identifier(tmp_path / "trained", "who", list(made.means), ["net"], 16)
    systems = SearchSystemOptions(
        "class-mean class-mean-whitened class-mean-whitened-shift", "who", "class-mean-whitened who",
        scores_dir=tmp_path / "exp", embedders="net", experiment="x",
    )  # fmt: skip
    pairs = {name: replace(world.pair(), test_set=name, train_root=tmp_path / "trained") for name in ("test", "alone")}
    for pair in pairs.values():
        search(SearchOptions(pair, systems))
    decided = {}
    for system in systems.systems("net"):
        listed = {model: dict(found) for model, found in read_scored_ranks(systems.ranks(system, "test")).items()}
        alone = {model: dict(found) for model, found in read_scored_ranks(systems.ranks(system, "alone")).items()}
        searched = read_searched(pairs["test"], systems.members(system), {})
        decisions = Decisions(searched, {model: ["t-two", "t-p3-1"] for model in made.means})
        for model in made.means:
            assert decisions.of(model, "t-p3-1")["score"] == listed[model]["t-p3-1"]
            found = decisions.of(model, "t-two")
            assert found["score"] == listed[model]["t-two"] == max(alone[model].values())
            best = max(alone[model], key=lambda segment, of=alone[model]: of[segment])
            assert shade(found["test"]) == {"t-two0": 40, "t-two1": 80}[best]
            assert found["enrolment"]["segment"].startswith(f"{model}-")
            assert found["compares"] == system.backend.startswith("class-mean")
            decided[system.backend, model] = best
    ways = {tuple(decided[system.backend, model] for model in made.means) for system in systems.systems("net")}
    assert len(ways) > 1  # the systems do not agree: the plain cosine would be wrong for some


def test_person_whom_only_an_identifier_knows_is_shown_with_the_searched_face(world, tmp_path):
    made = world.made
    made.stages("train", {**made.enrolled, **{f"p0-{k}": np.zeros((0, 16), np.float32) for k in range(3)}})
    write_tanh_identifier(tmp_path / "trained", "who", list(made.means), ["net"], 16)
    searched = read_searched(replace(world.pair(), train_root=tmp_path / "trained"), ["who"], {})
    found = Decisions(searched, {"p0": ["t-two"]}).of("p0", "t-two")
    assert found["score"] is not None and shade(found["test"]) in (40, 80)
    assert found["enrolment"]["why"] == "no faces in what the person was enrolled with"
    assert decided(world, "class-mean", "p0", "t-two")["why"] == "no faces in what the person was enrolled with"
    shutil.rmtree(made.data / "train")
    searched = read_searched(searched.pair, ["who"], {})
    assert Decisions(searched, {"p0": ["t-two"]}).of("p0", "t-two") == found


def test_table_of_segments_begins_with_what_went_wrong(shown):
    lines = shown.picked["segments"]
    results = [line["result"] for line in lines]
    assert results == sorted(results, key=lambda result: {"stranger": 1, "right": 2}.get(result, 0))
    by_segment = {line["segment"]: line for line in lines}
    assert by_segment["t-empty0"]["result"] == "no list" and by_segment["t-empty1"]["result"] == "stranger"
    assert by_segment["t-empty1"]["status"] == "damaged: cut short" and by_segment["t-empty1"]["nobody"] is None
    assert by_segment["t-s0"]["shows"] == [] and by_segment["t-two"]["shows"] == ["p0"]


def test_report_of_searched_sets_has_tables_lists_and_faces_and_parses(shown, capsys):
    world = shown.world
    assert shown.write_report() == shown.report
    said = capsys.readouterr().out
    assert "right, not listed" in shown.report
    assert said.splitlines()[-1] == f"report: {world.results / 'report.html'}"
    rows = list(csv.DictReader((world.results / "results.csv").open()))
    gathered = json.loads((world.results / "results.json").read_text())
    assert [row["backend"] for row in rows] == ["worse", "class-mean"]
    assert float(rows[1]["map"]) == gathered["searches"][1]["map"] == shown.result["mAP"]
    assert f"{100 * gathered['searches'][1]['map']:.2f}" in said and "mAP@100" in said
    page = Page(shown.report)
    for words in ("Face identification with net", "2 systems on 1 searched set", "Persons that went worst", "no_face",
                  "15 strangers cannot resolve an FPIR of 0.1 % and 1 %"):  # fmt: skip
        assert words in page.text
    assert page.tags.count("img") > 2 * 2 * 4 and all(link.startswith(("data:", "#")) for link in page.links)


def test_report_without_a_key_or_strangers_says_so(world):
    relevant, groups = world.made.data / "test/relevant", world.made.data / "test/utt2group"
    key = relevant.read_text()
    relevant.unlink()
    world.evaluate()
    assert world.pick()["worst"] == []
    world.report()
    page = Page((world.results / "report.html").read_text())
    assert "There is no key, so there are no figures" in page.text and "Persons that went worst" not in page.text
    assert not any(head in page.text for head in ("mAP", "AP %", "with a key", "result", "shows"))
    assert "t-two (" in page.text and "t-empty1" in page.text  # both lists are there
    relevant.write_text(key)
    shown = {line.split()[1] for line in key.splitlines()}
    groups.write_text("".join(f"{segment} all\n" for segment in sorted(shown)))
    for path in world.paths.values():
        lines = path.read_text().splitlines()
        place = 2 if path == world.paths["ranks"] else 0
        kept, number, owner = [], 0, None
        for fields in (line.split() for line in lines if line.split()[place] in shown):
            if path == world.paths["ranks"]:  # ranks count 1, 2, 3 again
                number, owner = (number + 1 if fields[0] == owner else 1), fields[0]
                fields[1] = str(number)
            kept.append(" ".join(fields) + "\n")
        path.write_text("".join(kept))
    world.evaluate()
    world.report()
    text = Page((world.results / "report.html").read_text()).text
    assert "There are no strangers, so there are no open-set figures." in text and "FNIR at" not in text


def test_original_names_stand_behind_the_ids_in_the_report(world):
    (world.made.data / "test/relevant").unlink()  # no figures are drawn, which takes long
    (world.made.data / "train/names").write_text("p0 Ann <Example>\np1 p1\n")
    (world.made.data / "test/names").write_text("t-two party/two of us.mp4\n")
    world.evaluate()
    assert world.pick()["names"] == {"p0": "Ann <Example>", "p1": "p1", "t-two": "party/two of us.mp4"}
    world.report()
    text = Page((world.results / "report.html").read_text()).text
    assert "p0 (Ann <Example>)" in text and "t-two (party/two of us.mp4)" in text and "p1 (p1)" not in text


def test_set_without_any_item_has_figures_and_picked_persons(world):
    for path in world.paths.values():
        path.write_text("")
    result = world.evaluate(threshold=0.5)
    assert (result["mAP"], result["segments"]["rank-1"], result["models without a list"]) == (0, 0, PERSONS)
    assert [point["fnir"] for point in result["segments"]["points"]] == [1, 1]
    assert result["segments"]["decided"]["misses"] == 1 and result["segments"]["decided"]["false alarms"] == 0
    picked = world.pick()
    assert {case["kind"] for person in picked["worst"] for case in person["cases"]} == {"missed"}
    assert "no right segment listed" in evaluation.ranked_persons(picked)


def test_json_that_is_no_result_or_was_not_picked_is_refused_by_name(world):
    (world.made.data / "test/relevant").unlink()  # no figures are drawn, which takes long
    world.pick()
    for name in ("net/class-mean/test.json", "picks/net/test.json"):
        path = world.results / name
        kept = path.read_text()
        for content in ('{"name": "test"}', "[]", "{"):
            path.write_text(content)
            with pytest.raises(DataError, match=name):
                world.report()
        path.write_text(kept)
    world.report()


def test_long_list_that_can_be_searched_is_cut_off_and_says_where_the_rest_is():
    lines = [[f"s{i}", NASTY] for i in range(tables.MOST_LISTED)]
    macros = page.environment().get_template("macros.html.j2").module
    markup = macros.searchable("Segments", (["segment", "shows"], lines), 5000, "exp/scores/x_persons")
    assert "The first 1000 of 5000; exp/scores/x_persons has all." in Page(markup).text and NASTY not in markup


def test_open_set_plot_steps_down_where_a_stranger_passes_and_merges_equal_curves():
    curves = {"a": {"fpir": [0.0, 0.1, 1.0], "fnir": [0.5, 0.25, 0.0]}}
    plot = plots.open_set_plot(curves | {"b <i>": curves["a"]}, [0.01, 0.001], "t")
    (curve,) = plot.curves
    assert curve.name == "a = b <i>"
    x = [330 * (math.log10(rate) - math.log10(0.0005)) / -math.log10(0.0005) for rate in (0.0005, 0.1, 1)]
    y = [240 * (1 - 100 * miss / 52.5) for miss in (0.5, 0.25, 0)]
    corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[2], y[1]), (x[2], y[2])]
    np.testing.assert_allclose(points_of(curve.path), corners, atol=0.06)
    assert [text for _, text in plot.x.ticks] == ["0.1", "1", "10", "100"] and len(plot.marks) == 2
    assert plot.bands[0].to == pytest.approx(x[1], abs=0.01)


def test_curves_without_misses_ties_or_strangers_are_drawn():
    perfect, useless = {"fpir": [0.0, 0.5, 1.0], "fnir": [0.0, 0.0, 0.0]}, {"fpir": [0.0, 1.0], "fnir": [1.0, 0.0]}
    for curves, lines in (
        ({"a $x$": perfect, "b": perfect, "c": useless}, 2),
        ({"none listed": {"fpir": [0.0], "fnir": [1.0]}}, 1),
    ):
        assert len(plots.open_set_plot(curves, [0.01, 0.001], "t").curves) == lines
    assert not plots.open_set_plot({"a": perfect}, [], "t").marks
    assert plots.match_plot({"nobody is listed": []}, "t").curves[0].path == "M0.0 240.0h0"
    one, two = plots.match_plot({"a": [1.0], "b": [0.2, 0.9]}, "t").curves
    assert one.path == "M0.0 0.0h0" and points_of(two.path)[1].tolist() == [330, pytest.approx(28.2, abs=0.1)]


def test_box_in_a_browser_leaves_the_lines_with_all_words(shown, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(shown.report)
    page = browser.open(path)
    assert page.troubles() == page.broken_images() == page.findings() == [] and not page.is_wide()
    lines = "[data-label='show only persons with these words'] tbody th"
    assert page.count(lines) == PERSONS
    page.type(".searchable input", "T-Two p0")
    assert page.texts(lines) == ["p0"] and page.text(".searchable .search span") == f"1 of {PERSONS}"
    page.type(".searchable input", "")
    assert page.count(lines) == PERSONS
    page.close()


def test_pictures_of_cases_are_those_of_the_crops(shown):
    case = shown.picked["best"][0]["cases"][0]
    assert decode_picture(base64.b64decode(case["test"]["jpeg"])).shape == (112, 112, 3)
    assert case["test"]["time_s"] == 1.0  # of the third item


@dataclass
class Stages:
    """Stages 4 and 5 on the searched set, which also calibrates."""

    world: World
    systems: SearchSystemOptions

    def words(self) -> list[str]:
        made = self.world.made
        word = f"--modality face --embed-dir {made.embed} --data-dir {made.data} --items-dir {made.items}"
        return [f"{word} --enroll-sets train --test-set test"]

    def search(self) -> None:
        search(SearchOptions(self.world.pair(), self.systems))
        calibrate_search(CalibrateSearchOptions(self.systems, data_dir=self.world.made.data))

    def evaluate(self, **changed) -> None:
        systems = replace(self.systems, **changed)
        evaluate_searches(EvaluateSearchesOptions(self.words(), self.world.results, systems))


@pytest.fixture
def stages(world, tmp_path):
    with (world.made.data / "train/vid.scp").open("a") as stream:  # a known stranger, and one of p0 without an item
        stream.write("x-empty x.mp4\nx-stranger x.mp4\n")
    with (world.made.data / "train/utt2spk").open("a") as stream:
        stream.write("x-empty p0\n")
    more = {"x-empty": np.zeros((0, 16), np.float32), "x-stranger": world.made.tested["t-s0"] * -1}
    world.made.stages("train", {**world.made.enrolled, **more})
    systems = SearchSystemOptions(
        "class-mean class-mean-shift", calibration_set="test", scores_dir=tmp_path / "exp/scores", embedders="net",
        test_sets="test",
    )  # fmt: skip
    made = Stages(world, systems)
    made.search()
    return made


def test_lists_of_other_options_are_refused_and_nothing_is_written(stages):
    for changed, message in (
        ({"search_top": 50}, "< --search-top 100"),
        ({"search_persons": 3}, r"(?s)< --search-persons 5.*run \./run_004_score.sh with the same options first"),
        ({"false_alarm_rate": 0.1}, "--false-alarm-rate 0.01"),
        ({"search_backends": "class-mean max"}, "no back-end 'max'"),
        ({"calibration_set": "other"}, "expected one of the searched test sets"),
    ):
        with pytest.raises(ScoringError, match=message):
            stages.evaluate(**changed)
    assert not stages.world.results.exists()


def test_lists_that_were_edited_or_are_missing_are_refused_with_the_stage(stages):
    persons = stages.systems.scores_dir / "net/class-mean/test_persons"
    text = persons.read_text()
    persons.write_text(text.replace("p1", "p2", 1))
    with pytest.raises(ScoringError, match=r"(?s)test_persons: expected the file as it was written.*run_004_score"):
        stages.evaluate()
    persons.unlink()
    with pytest.raises(ScoringError, match=r"(?s)test_persons.*run_004_score"):
        stages.evaluate()


def test_stage_5_of_a_searched_and_a_verified_set_gives_one_report_with_the_best_system(stages, repo, tmp_path):
    made = stages.world.made
    verified = made.data / "pairs"
    verified.mkdir()
    (verified / "vid.scp").write_text("t-p0-0 a.mp4\nt-p1-1 b.mp4\n")
    (verified / "trials").write_text("p0 t-p0-0 target\np0 t-p1-1 nontarget\np1 t-p0-0 nontarget\np1 t-p1-1 target\n")
    made.stages("pairs", {segment: made.tested[segment] for segment in ("t-p0-0", "t-p1-1")})
    parts = {"enroll_parts": "train", "enroll_data": made.data / "train", "test_part": "pairs"}
    pair = PairOptions("face", made.embed, test_data=verified, items_dir=made.items, **parts)
    scores = stages.systems.scores_dir
    score(ScoreOptions(pair, SystemOptions("max", scores_dir=scores, embedders="net", test_sets="pairs")))
    options = [
        "--data-dir",
        made.data,
        "--exp-dir",
        tmp_path / "exp",
        "--face-embedder",
        "net",
        "--face-detector",
        "det",
    ]
    options += ["--experiment", "small", "--backends", "max", "--trial-sets", "train:test train:pairs"]
    options += ["--search-backends", stages.systems.search_backends, "--calibration-set", "test"]
    done = subprocess.run(["./run_005_eval.sh", *options], cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "exp/results/small"
    assert done.stdout.splitlines()[-1] == f"report: {results / 'report.html'}"
    assert "mAP@100 %" in done.stdout and "EER %" in done.stdout
    assert "on test with 15 strangers: its own figures are too good" in done.stdout
    rows = list(csv.DictReader((results / "results.csv").open()))
    assert [(row["set"], bool(row["eer"]), bool(row["map"])) for row in rows[-3:]] == [
        ("pairs", True, False), ("test", False, True), ("test", False, True)]  # fmt: skip
    assert "Face verification and identification with net" in Page((results / "report.html").read_text()).text
    found = [json.loads((results / f"net/{name}/test.json").read_text()) for name in ("class-mean", "class-mean-shift")]
    assert all(result["calibrated_on"] == "test" and result["nobody"]["cross-entropy"] < 1 for result in found)
    assert [result["segments"]["decided"]["false alarms"] for result in found] == [0, 0]  # of 15 strangers
    assert "without any" not in done.stderr  # stage 4 said that
    best = max(found, key=lambda result: result["mAP"])
    picked = json.loads((results / "picks/net/test.json").read_text())
    assert picked["system"] == f"net/{best['backend']}"
    record = read_record(results)
    assert record is not None and {"picks/net/test.json", "net/class-mean/test.json"} <= record.outputs.keys()
    assert {str(scores / f"net/class-mean/{name}") for name in ("test_persons", "nobody.json")} <= record.inputs.keys()
    assert str(made.data / "test/relevant") in record.inputs
