"""Verification of utterances in stage 4: sub-mean, cohorts of persons, qualities and fusion with missing modalities."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import naive_scoring as naive
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from steps.calibrate import CalibrateOptions, TrainOptions, calibrate
from steps.fuse import FuseOptions, fuse
from steps.score import ScoreOptions, SystemOptions, score
from vidperson import cli
from vidperson.backends.calibration import train_linear
from vidperson.backends.cohort import centre, compare_domains, person_means, sample_units
from vidperson.backends.fusion import Measures, mean_scores, train_fusion
from vidperson.backends.sets import EmbeddingSets
from vidperson.errors import DataError, ScoringError
from vidperson.io.lists import read_scores
from vidperson.io.matrices import matrix_bytes
from vidperson.io.quality import Qualities, QualityList, read_qualities, write_qualities

PERSONS, EACH, DIM = 8, 4, 6
MUTE = ("p0-1", "p3-2")


def write_archive(folder: Path, name: str, matrices: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.ark", "wb") as ark, open(folder / f"{name}.scp", "w") as scp:
        for key, matrix in matrices.items():
            scp.write(f"{key} {name}.ark:{ark.tell() + len(key) + 1}\n")
            ark.write(matrix_bytes(key, np.asarray(matrix, np.float32)))


class Task:
    """Sets dev, eval and cohort of utterances, each its own model, by voice and by face; some without sound."""

    def __init__(self, work: Path) -> None:
        self.work = work
        rng = np.random.default_rng(3)
        self.embeddings: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for name in ("dev", "eval", "cohort"):
            keys = [f"p{person}-{n}" for person in range(PERSONS) for n in range(EACH)]
            for modality, noise in (("voice", 0.9), ("face", 0.7)):
                persons = rng.normal(size=(PERSONS, DIM)) + 0.5
                rows = {key: persons[int(key[1])] + noise * rng.normal(size=(4, DIM)) for key in keys}
                if modality == "voice" and name != "cohort":
                    rows |= {key: np.zeros((0, DIM)) for key in MUTE}
                self.embeddings[modality, name] = rows
                write_archive(work / "embed" / modality / name, "embed", rows)
                speech = {key: [[0, 1 + i % 5, -20, 5 * (i % 3), 0, 1, 0]] if len(rows[key]) else np.zeros((0, 7))
                          for i, key in enumerate(keys)}  # fmt: skip
                write_archive(work / "items" / modality / name, "speech" if modality == "voice" else "faces", speech)
            data = work / "data" / name
            data.mkdir(parents=True)
            (data / "spk2utt").write_text("".join(f"{key} {key}\n" for key in keys))
            (data / "utt2spk").write_text("".join(f"{key} {key[:2]}\n" for key in keys))
            self.pairs = [(a, b) for a in keys for b in keys if a < b]
            labels = ("nontarget", "target")
            (data / "trials").write_text("".join(f"{a} {b} {labels[a[:2] == b[:2]]}\n" for a, b in self.pairs))
        self.target = np.array([a[:2] == b[:2] for a, b in self.pairs])
        self.mute = np.array([a in MUTE or b in MUTE for a, b in self.pairs])

    def systems(self, **changes) -> dict:
        given = {"scores_dir": self.work / "scores", "embedders": "voice face", "test_sets": "dev eval",
                 "experiment": "av", "backends": "whole-crops", "cohort_data": self.work / "data/cohort"}  # fmt: skip
        return given | changes

    def score(self, modality: str = "voice", test_set: str = "eval", **changes) -> None:
        given = {"modality": {"voice": "speaker"}.get(modality, modality), "embed_dir": self.work / "embed" / modality,
                 "items_dir": self.work / "items" / modality, "enroll_parts": test_set, "test_part": test_set,
                 "enroll_data": self.work / "data" / test_set, "test_data": self.work / "data" / test_set}  # fmt: skip
        score(cli.fill(ScoreOptions, **given, **self.systems(**changes)))

    def train(self, **changes) -> None:
        """Score both sets by both modalities, calibrate and fuse."""
        options = self.systems(calibration_set="dev", fusion_systems="whole-crops", **changes)
        for modality in ("voice", "face"):
            for test_set in ("dev", "eval"):
                self.score(modality, test_set, **changes)
        trials = TrainOptions(self.work / "data/dev/trials")
        calibrate(CalibrateOptions(trials, SystemOptions(**options)))
        fuse(FuseOptions(trials, SystemOptions(**options)))

    def values(self, system: str, test_set: str = "eval") -> np.ndarray:
        scores = read_scores(self.work / "scores" / system / f"{test_set}_scores")
        assert list(zip(scores.models, scores.segments, strict=True)) == self.pairs
        return scores.values

    def expected(self, backend: str, modality: str = "voice", mean=0.0, cohort=None, ncoh=0) -> np.ndarray:
        rows = {k: (v - mean).astype(np.float32) for k, v in self.embeddings[modality, "eval"].items()}
        keys = list(rows)
        trials = [(keys.index(a), keys.index(b)) for a, b in self.pairs]
        return naive.score(backend, [[rows[k]] for k in keys], [rows[k] for k in keys], trials, cohort, ncoh)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return Task(tmp_path_factory.mktemp("verification"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Both modalities scored, calibrated and fused in all ways, which no test changes."""
    task = Task(tmp_path_factory.mktemp("trained"))
    task.train(quality_measures="duration norm snr", fusion_methods="mean logistic quality")
    return task


def test_utterances_that_are_their_own_models_score_as_double_loops_say(task):
    task.score(backends="whole crops mean whole-crops mean-cosine")
    for backend in ("whole", "crops", "mean", "whole-crops", "mean-cosine"):
        np.testing.assert_allclose(task.values(f"voice/{backend}"), task.expected(backend), atol=1e-6)
        assert not task.values(f"voice/{backend}")[task.mute].any()


def test_submean_and_s_norm_by_means_of_persons_equal_plain_loops(task):
    options = {"submean_set": "cohort", "snorm_cohort": "cohort", "cohort_of": "persons"}
    task.score(backends="whole whole-crops", **options)
    cohort = task.embeddings["voice", "cohort"]
    mean = np.mean([rows.mean(axis=0) for rows in cohort.values()], axis=0)
    persons = np.array([np.mean([cohort[f"p{p}-{n}"].mean(axis=0) for n in range(EACH)], axis=0)
                        for p in range(PERSONS)])  # fmt: skip
    for backend in ("whole", "whole-crops"):
        expected = task.expected(backend, mean=mean)
        np.testing.assert_allclose(task.values(f"voice/{backend}_submean"), expected, atol=2e-6)
        expected = task.expected(backend, cohort=persons, ncoh=PERSONS)  # 300, or as many as there are
        np.testing.assert_allclose(task.values(f"voice/{backend}_snorm"), expected, rtol=1e-4, atol=1e-4)
        expected = task.expected(backend, mean=mean, cohort=persons - mean, ncoh=PERSONS)
        np.testing.assert_allclose(task.values(f"voice/{backend}_submean_snorm"), expected, rtol=1e-4, atol=1e-4)


def test_systems_of_one_call_have_the_bytes_of_single_calls(task):
    both = {"submean_set": "cohort", "snorm_cohort": "cohort", "cohort_of": "segments", "ncoh": 9}
    task.score(backends="whole max", scores_dir=task.work / "all", **both)
    for backend in ("whole", "max"):
        for options in ({}, {"submean_set": "cohort"}, {**both, "submean_set": ""}, both):
            task.score(backends=backend, scores_dir=task.work / "one", **options)
    made = sorted(path.relative_to(task.work / "all") for path in (task.work / "all").rglob("*_scores"))
    assert len(made) == 8
    for path in made:
        assert (task.work / "all" / path).read_bytes() == (task.work / "one" / path).read_bytes(), path


def test_models_that_share_the_test_part_score_as_if_they_did_not(task):
    """The same embeddings below another name are another part, so that they are held twice."""
    shared = task.work / "embed/voice"
    if not (shared / "copy").exists():
        write_archive(shared / "copy", "embed", task.embeddings["voice", "eval"])
    given = {"modality": "speaker", "embed_dir": shared, "test_part": "eval", "test_data": task.work / "data/eval",
             "enroll_data": task.work / "data/eval"}  # fmt: skip
    for part in ("eval", "copy"):
        options = task.systems(scores_dir=task.work / part, backends="max mean whole-crops", submean_set="cohort")
        score(cli.fill(ScoreOptions, **given, enroll_parts=part, **options))
    made = [path for path in (task.work / "eval").rglob("eval_*") if path.suffix != ".json"]
    assert len(made) == 7
    for path in made:
        assert path.read_bytes() == (task.work / "copy" / path.relative_to(task.work / "eval")).read_bytes(), path


def test_cohort_of_another_domain_is_told_last_and_one_of_the_same_is_not(task, caplog):
    rng = np.random.default_rng(4)
    write_archive(
        task.work / "embed/voice/foreign", "embed", {f"f{i}": rng.normal(-0.5, 1, (1, DIM)) for i in range(40)}
    )
    for cohort, warned in (("cohort", False), ("foreign", True)):
        caplog.clear()
        options = {"snorm_cohort": cohort, "cohort_of": "segments", "scores_dir": task.work / cohort}
        task.score(backends="max whole", **options)
        last = [record.message for record in caplog.records if record.levelname == "WARNING"][-1]
        assert ("of another domain, and s-norm may harm" in last) is warned


def test_distance_to_a_cohort_does_not_depend_on_what_is_made_of_it(task, caplog):
    caplog.set_level(logging.INFO)
    told = set()
    for kind in ("items", "segments", "persons"):
        caplog.clear()
        options = {"snorm_cohort": "cohort", "cohort_of": kind, "ncoh": 8, "scores_dir": task.work / kind}
        task.score(backends="whole", **options)
        told |= {record.message for record in caplog.records if "standard deviations apart" in record.message}
    assert len(told) == 1


def test_person_of_the_cohort_who_is_in_no_list_is_named(task):
    (task.work / "data/less").mkdir(exist_ok=True)
    (task.work / "data/less/utt2spk").write_text("p0-0 p0\n")
    options = {"snorm_cohort": "cohort", "cohort_of": "persons", "scores_dir": task.work / "refused"}
    with pytest.raises(ScoringError, match=r"31 of 32 segments of the cohort are not in .*less/utt2spk: p0-1, p0-2"):
        task.score(cohort_data=task.work / "data/less", **options)
    with pytest.raises(ScoringError, match="there is no .*nowhere/utt2spk; write it, or take another cohort_of"):
        task.score(cohort_data=task.work / "data/nowhere", **options)


@pytest.mark.parametrize("measures", ["", "cohort"])
def test_cohort_that_is_too_small_or_of_another_network_is_refused(task, measures):
    options = {"quality_measures": measures, "snorm_cohort": "cohort", "scores_dir": task.work / "refused"}
    with pytest.raises(ScoringError, match=r"cohort/embed.scp: the cohort has 128 items, 1000 are asked for \(ncoh 10"):
        task.score(backends="whole", **options)
    write_archive(task.work / "embed/voice/other", "embed", {f"a{i}": np.ones((1, 3)) for i in range(9)})
    with pytest.raises(ScoringError, match="other/embed.scp: cohort embeddings have 3 numbers, those to score 6"):
        task.score(backends="whole", **options | {"snorm_cohort": "other", "cohort_of": "segments"})


def test_mean_of_another_network_is_refused_with_both_sizes(task):
    write_archive(task.work / "embed/voice/other", "embed", {"a": np.ones((1, 3))})
    with pytest.raises(ScoringError, match="other/embed.scp: the mean to subtract has 3 numbers, the embeddings 6"):
        task.score(submean_set="other", scores_dir=task.work / "refused")
    write_archive(task.work / "embed/voice/none", "embed", {"a": np.zeros((0, 3))})
    with pytest.raises(ScoringError, match="none/embed.scp: no embeddings to take the mean of"):
        task.score(submean_set="none", scores_dir=task.work / "refused")


@pytest.mark.parametrize(("options", "match"), [
    ({"quality_measures": "duration loudness"}, "no quality measure 'loudness'; valid: items duration snr norm cohort"),
    ({"quality_measures": "cohort"}, "cohort needs snorm_cohort"),
    ({"fusion_methods": "median"}, "fusion_methods: expected one or several of mean logistic quality, found median"),
    ({"fusion_methods": ""}, "fusion_methods: expected one or several of mean logistic quality, found none"),
    ({"fusion_systems": "whole-crops", "fusion_methods": "mean logistic"}, "needs calibration_set.*logistic"),
    ({"fusion_systems": "whole-crops", "fusion_methods": "quality", "calibration_set": "dev"}, "needs quality_measu"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused_before_anything_is_scored(task, options, match):
    with pytest.raises(ScoringError, match=match):
        task.score(scores_dir=task.work / "impossible", **options)
    assert not (task.work / "impossible").exists()


def test_quality_list_tells_what_stages_2_and_3_found(trained):
    found = read_qualities(trained.work / "scores/voice/eval_quality")
    rows = trained.embeddings["voice", "eval"]
    for side in (found.models, found.segments):
        place = {name: i for i, name in enumerate(side.names)}
        assert side.measures["items"][place["p0-2"]] == 4 and side.measures["duration"][place["p0-2"]] == 3
        assert side.measures["snr"][place["p0-2"]] == 10
        norm = np.linalg.norm(rows["p0-2"], axis=1).mean()
        assert side.measures["norm"][place["p0-2"]] == pytest.approx(norm, rel=1e-5)
        assert side.measures["items"][place["p3-2"]] == 0 and np.isnan(side.measures["norm"][place["p3-2"]])
    faces = read_qualities(trained.work / "scores/face/eval_quality").models
    assert "duration" not in faces.measures and (faces.measures["items"] == 4).all()


def test_quality_list_given_back_and_malformed_ones_refused_by_line(tmp_path):
    models = Qualities(["a", "b"], {"items": np.array([0.0, 2.0]), "norm": np.array([np.nan, 1 / 3])})
    write_qualities(tmp_path / "q", QualityList(models, Qualities(["s"], {"items": np.array([1.0])})))
    assert (tmp_path / "q").read_text() == "model a items=0\nmodel b items=2 norm=0.333333\nsegment s items=1\n"
    again = read_qualities(tmp_path / "q").models
    np.testing.assert_allclose(again.of(["b", "x", "a"], "norm"), [1 / 3, np.nan, np.nan], atol=1e-6)
    for line in (
        "person a items=1",
        "model a",
        "model a norm=1",
        "model a items=nan",
        "model a items=1\nmodel a items=1",
    ):
        (tmp_path / "bad").write_text(line + "\n")
        with pytest.raises(DataError, match="bad:[12]"):
            read_qualities(tmp_path / "bad")


def log_ratios(scores: np.ndarray, target: np.ndarray, prior: float = 0.05) -> LogisticRegression:
    """What scikit-learn learns from (N, K) inputs, each kind of trial of the weight of its prior."""
    weights = np.where(target, prior / target.sum(), (1 - prior) / (~target).sum())
    model = LogisticRegression(C=1e5, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(scores, target, sample_weight=weights)
    model.intercept_ -= np.log(prior / (1 - prior))
    return model


def test_calibration_leaves_out_trials_without_sound_and_gives_them_the_ratio_0(trained):
    mute = trained.mute
    model = log_ratios(trained.values("voice/whole-crops", "dev")[~mute, None], trained.target[~mute])
    found = trained.values("voice/whole-crops_cal")
    expected = model.decision_function(trained.values("voice/whole-crops")[:, None])
    np.testing.assert_allclose(found[~mute], expected[~mute], rtol=1e-4, atol=1e-4)
    assert mute.any() and not found[mute].any()
    told = json.loads((trained.work / "scores/voice/whole-crops_cal/calibration.json").read_text())
    assert told["num_targets"] == trained.target[~mute].sum() and "measures" not in told


def quality_inputs(task: Task, test_set: str) -> np.ndarray:
    """(N, 6): of the poorer and of the better side, what calibration takes of duration, norm and SNR."""
    rows, keys = task.embeddings["voice", test_set], list(task.embeddings["voice", test_set])
    measures = (lambda k: np.log(1 + keys.index(k) % 5), lambda k: np.log(np.linalg.norm(rows[k], axis=1).mean()),
                lambda k: 5 * (keys.index(k) % 3))  # fmt: skip
    inputs = []
    for a, b in task.pairs:
        sides = [[measure(k) if len(rows[k]) else np.nan for k in (a, b)] for measure in measures]
        inputs.append([value for side in sides for value in (min(side), max(side))])
    return np.array(inputs)


def test_calibration_with_quality_is_a_logistic_regression_of_score_and_measures(trained):
    there = ~trained.mute
    inputs = {name: np.column_stack([trained.values("voice/whole-crops", name), quality_inputs(trained, name)])[there]
              for name in ("dev", "eval")}  # fmt: skip
    expected = log_ratios(inputs["dev"], trained.target[there]).decision_function(inputs["eval"])
    np.testing.assert_allclose(trained.values("voice/whole-crops_qmf")[there], expected, rtol=1e-3, atol=1e-3)
    told = json.loads((trained.work / "scores/voice/whole-crops_qmf/calibration.json").read_text())
    assert told["measures"][:4] == ["duration_min", "duration_max", "norm_min", "norm_max"]


def test_mean_fusion_is_the_mean_of_what_there_is_and_needs_no_training(trained):
    voice, face = trained.values("voice/whole-crops"), trained.values("face/whole-crops")
    expected = np.where(trained.mute, face, (voice + face) / 2)
    np.testing.assert_allclose(trained.values("fusion-mean/av"), expected, atol=1e-6)
    assert not (trained.work / "scores/fusion-mean/av/fusion.json").exists()


def test_logistic_fusion_without_sound_is_what_the_face_says_by_its_own_calibration(trained):
    mute = trained.mute
    for method in ("fusion", "fusion-quality"):
        np.testing.assert_array_equal(
            trained.values(f"{method}/av")[mute], trained.values("face/whole-crops_cal")[mute], method
        )
    columns = {name: np.column_stack([trained.values(f"{m}/whole-crops", name) for m in ("voice", "face")])[~mute]
               for name in ("dev", "eval")}  # fmt: skip
    expected = log_ratios(columns["dev"], trained.target[~mute]).decision_function(columns["eval"])
    np.testing.assert_allclose(trained.values("fusion/av")[~mute], expected, rtol=1e-3, atol=1e-3)
    told = json.loads((trained.work / "scores/fusion/av/fusion.json").read_text())
    assert [len(model["systems"]) for model in told["without_all_scores"]] == [1]


def test_fusion_log_counts_the_trials_by_the_systems_that_scored_them(task, caplog):
    caplog.set_level(logging.WARNING)
    task.score("voice", fusion_methods="mean")
    task.score("face", fusion_methods="mean")
    options = task.systems(fusion_systems="whole-crops", fusion_methods="mean", test_sets="eval")
    fuse(FuseOptions(TrainOptions(), SystemOptions(**options)))
    folder = task.work / "scores"
    said = f"eval_scores: {task.mute.sum()} of 496 trials have scores only of {folder}/face/whole-crops"
    assert f"{folder}/fusion-mean/av/{said}" in caplog.text


@pytest.mark.parametrize("missing", ["none", "voice", "face", "both"])
def test_fusion_is_never_worse_than_the_modality_that_is_left(missing):
    rng = np.random.default_rng(0)
    target = np.arange(2000) < 400
    scores = rng.normal(size=(2000, 2)) + [1.5, 2.0] * target[:, None]
    fusion = train_fusion(scores, target, ("voice", "face"), [(0,), (1,)])
    tested = rng.normal(size=(2000, 2)) + [1.5, 2.0] * target[:, None]
    alone = tested.copy()
    tested[:, {"none": [], "voice": [0], "face": [1], "both": [0, 1]}[missing]] = np.nan
    found = fusion.apply(tested)
    order = {"voice": 1, "face": 0}
    if missing in order:
        column = order[missing]
        own = train_linear(scores[:, column], target, ("x",)).apply(alone[:, column])
        np.testing.assert_array_equal(found, own)
    elif missing == "both":
        assert not found.any()
    else:
        ranks = [np.mean(values[target][:, None] < values[~target]) for values in (found, alone[:, 0], alone[:, 1])]
        assert ranks[0] < min(ranks[1:])


def test_fusion_of_a_set_without_any_trial_of_both_modalities_is_refused_by_their_names():
    scores, target = np.ones((6, 2)), np.arange(6) < 3
    scores[:, 0] = np.nan
    with pytest.raises(ScoringError, match="with scores of voice and face, found 0 and 0; calibrate on a set"):
        train_fusion(scores, target, ("voice", "face"))


def test_unknown_measures_count_as_usual_ones_and_mean_of_nothing_is_0():
    rng = np.random.default_rng(1)
    target = np.arange(300) < 100
    scores, known = rng.normal(size=(300, 2)) + target[:, None], rng.normal(size=(300, 1)) + target[:, None]
    holes = known.copy()
    holes[::7] = np.nan
    filled = np.where(np.isnan(holes), np.nanmean(holes), holes)
    found, expected = (
        train_fusion(scores, target, ("a", "b"), measures=(m := Measures(("q",), values, (0,)))).apply(scores, m)
        for values in (holes, filled)
    )
    np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(mean_scores([[np.nan, np.nan], [1, np.nan], [1, 3]]), [0, 1, 2])


def test_means_of_persons_weigh_each_segment_alike_and_leave_out_empty_ones():
    items = [("a1", np.array([[1.0, 0], [3, 0]])), ("b1", np.array([[0.0, 5]])), ("a2", np.array([[6.0, 2]])),
             ("a3", np.zeros((0, 2)))]  # fmt: skip
    means = dict(person_means(items, {"a1": "a", "a2": "a", "a3": "a", "b1": "b"}))
    np.testing.assert_array_equal(means["a"], [[4, 1]])
    np.testing.assert_array_equal(means["b"], [[0, 5]])
    np.testing.assert_allclose(centre(items), [8 / 3, 7 / 3])
    with pytest.raises(ScoringError, match="'x': NaN or infinite"):
        centre([("x", np.array([[np.nan, 0]]))])


def domain(rng, count: int, shift: np.ndarray) -> EmbeddingSets:
    rows = (rng.normal(size=(count, 16)) + shift).astype(np.float32)
    return EmbeddingSets.from_items((f"{i}", rows[i : i + 1]) for i in range(count))


@pytest.mark.parametrize(("foreign", "far"), [(False, False), (True, True)])
def test_cohort_of_another_domain_is_told_by_the_medians_of_cosines(foreign, far):
    rng = np.random.default_rng(2)
    here = np.full(16, 1.0)
    there = here if not foreign else np.where(np.arange(16) < 8, 1.0, -0.5)
    found = compare_domains(sample_units(domain(rng, 60, here)), sample_units(domain(rng, 50, there)))
    assert found is not None and found.differ is far
    assert compare_domains(sample_units(domain(rng, 9, here)), sample_units(domain(rng, 50, there))) is None
