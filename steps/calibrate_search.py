#!/usr/bin/env python3
"""Learn on one searched set which scores strangers get, and say of each segment how likely it shows nobody.

Inputs:
  Of each system that steps/search.py makes with the same options:
  SCORES_DIR/<system>/<test set>_persons   <segment> <rank> <model> <score>; the first score counts
  DATA_DIR/<calibration set>/              utt2group: all segments; relevant: <model> <segment>.
                                           A segment in no line of relevant shows a stranger
  TRAIN_ROOTS/<identifier>/<identifier>.yaml
                                           optional: which sets an identifier learnt from. Where the
                                           calibration set is one, a warning is logged
Outputs:
  SCORES_DIR/<system>/nobody.json          the logistic regression, thresholds, and how they were
                                           measured (docs/formats.md)
  SCORES_DIR/<system>/<test set>_nobody    <segment> <probability that it shows no searched person>
Beside each is the record of how it was made. What is there, intact and of the same options and
inputs is kept. Segments without an item are in no list.

Example:
  steps/calibrate_search.py --scores-dir exp/scores --embedders arcface_tiny --data-dir data \\
    --test-sets "clips_valid clips_test" --calibration-set clips_valid
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.score import RunOptions, need, to_make
from steps.search import LEARNT, SearchSystemOptions, check_search, learnt_sets
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.backends.calibration import LinearModel
    from vidperson.backends.systems import System
    from vidperson.io.planned import Planned

RATES = (0.01, 0.001)
"""Further false-alarm rates whose thresholds are given."""
MODEL = ""
"""Stands for nobody.json among the test sets of a plan."""


@dataclass(frozen=True)
class CalibrateSearchOptions:
    systems: SearchSystemOptions = cli.group(SearchSystemOptions)
    run: RunOptions = cli.group(RunOptions)
    data_dir: Path = cli.option(Path("data"), "folder of the data sets")
    train_roots: list[Path] = cli.option((), "folders of the trained identifiers, see above")


def calibrate_search(options: CalibrateSearchOptions) -> None:
    """See the top of this file.

    Raises ScoringError for systems that cannot be, a calibration set without a key, without strangers or without known
    persons, and lists that are missing; DataError for malformed or edited ones.
    """
    check_search(options.systems)
    planned = plan_calibrations(options.systems, options.data_dir)
    wanted = to_make([one for ours in planned.values() for one in ours.values()], options.run)
    for system, ours in planned.items():
        left = {test_set: one for test_set, one in ours.items() if one in wanted}
        if left:
            _warn_of_learnt(system, options)
            _calibrate_system(system, left, options)


def _warn_of_learnt(system: System, options: CalibrateSearchOptions) -> None:
    """Raises ModelError for a card that cannot be read."""
    from vidperson.networks.card import load_card

    for word in options.systems.members(system):
        for card in (root / word / f"{word}.yaml" for root in options.train_roots):
            if card.is_file() and options.systems.calibration_set in learnt_sets(load_card(card)):
                logging.warning(LEARNT, word, options.systems.calibration_set)


def plan_calibrations(options: SearchSystemOptions, data_dir: Path) -> dict[System, dict[str, Planned]]:
    """The probabilities of each system and test set, and the model as that of ``MODEL``.

    Raises ScoringError where there is no calibration set, or it has no key.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.planned import Planned

    if not options.calibration_set:
        raise ScoringError("calibration_set: expected one of the searched test sets, found none")
    data = data_dir / options.calibration_set
    cure = "name a calibration_set of which it is known who is where"
    key = [need(data / "relevant", cure), need(data / "utt2group", "run ./run_001_prepare_data.sh")]
    command = ["python", "steps/calibrate_search.py", "--calibration-set", options.calibration_set]
    rate = ["--false-alarm-rate", f"{options.false_alarm_rate:g}"]
    planned = {}
    for system in options.all_systems():
        trained = [*key, options.persons(system, options.calibration_set)]
        planned[system] = {MODEL: Planned(options.folder(system) / "nobody.json", [*command, *rate], trained)}
        for test_set in options.test_sets.split():
            inputs = list(dict.fromkeys([*trained, options.persons(system, test_set)]))
            planned[system][test_set] = Planned(options.nobody(system, test_set), command, inputs)
    return planned


def _calibrate_system(system: System, planned: Mapping[str, Planned], options: CalibrateSearchOptions) -> None:
    import json

    import numpy as np

    from vidperson.backends.strangers import probabilities
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import score_texts

    systems = options.systems
    for one in planned.values():
        one.remove()
    model, found = train(system, systems, options.data_dir)
    for test_set, one in planned.items():
        if test_set == MODEL:
            with atomic_write(one.target) as stream:
                stream.write(json.dumps(model.as_dict() | found, indent=1, ensure_ascii=False) + "\n")
        else:
            best = best_scores(systems.persons(system, test_set))
            values = probabilities(model, list(best.values())).astype(np.float32)
            with atomic_write(one.target, "wb") as stream:
                stream.writelines(
                    b"%b %b\n" % (segment.encode(), text)
                    for segment, text in zip(best, score_texts(values), strict=True)
                )
        one.note()
    logging.info(
        "%s: threshold %.6g for %g of %d strangers of %s: %d of them and %d of %d known segments reach it",
        *(systems.folder(system), found["threshold"], found["false_alarm_rate"], found["num_strangers"]),
        *(model.trained_on, found["thresholds"][0]["strangers_named"], found["thresholds"][0]["known_named"]),
        found["num_known"],
    )


def best_scores(persons: Path) -> dict[str, float]:
    """Segment -> its best score. Raises DataError for malformed or edited lists."""
    from vidperson.io.ranks import read_persons
    from vidperson.io.record import checked

    return {segment: listed[0][1] for segment, listed in read_persons(checked(persons)).items()}


def train(system: System, options: SearchSystemOptions, data_dir: Path) -> tuple[LinearModel, dict[str, Any]]:
    """The model of a system, and what nobody.json says beside it. Raises as :func:`calibrate_search`."""
    from vidperson.backends.strangers import threshold_for, train_nobody
    from vidperson.errors import ScoringError
    from vidperson.io.lines import read_scp
    from vidperson.io.ranks import read_relevant

    name = options.calibration_set
    data, folder = data_dir / name, options.folder(system)
    shown = {segment for segments in read_relevant(data / "relevant").values() for segment in segments}
    best = best_scores(need(options.persons(system, name), "run ./run_004_score.sh with the set in trial_sets"))
    segments = list(read_scp(data / "utt2group"))
    strangers = [segment for segment in segments if segment not in shown]
    known = [segment for segment in segments if segment in shown]
    for what, ours in (("of a stranger", strangers), ("of a known person", known)):
        if not any(segment in best for segment in ours):
            found = f"found {len(ours)} {what}, none with an item; {data / 'relevant'} tells who is where"
            raise ScoringError(f"calibration_set: expected segments of {name} {what}, {found}")
    scores = [best[segment] for segment in strangers if segment in best]
    others = [best[segment] for segment in known if segment in best]
    model = train_nobody(others, scores, str(folder), name)
    thresholds = []
    for rate in dict.fromkeys([options.false_alarm_rate, *RATES]):
        threshold = threshold_for(scores, len(strangers), rate)
        passed = [sum(score >= threshold for score in some) for some in (scores, others)]
        counts = dict(zip(("strangers_named", "known_named"), passed, strict=True))
        thresholds.append({"false_alarm_rate": rate, "threshold": threshold, **counts})
    about = {"measured_on": name, "false_alarm_rate": options.false_alarm_rate, "threshold": thresholds[0]["threshold"]}
    about |= {"thresholds": thresholds, "num_strangers": len(strangers), "num_known": len(known)}
    without = {"strangers_without_item": len(strangers) - len(scores), "known_without_item": len(known) - len(others)}
    return model, about | without


if __name__ == "__main__":
    cli.run(calibrate_search, CalibrateSearchOptions, __doc__)
