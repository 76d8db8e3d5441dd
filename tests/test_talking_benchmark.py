"""The lists of benchmarks/talking.py: which clips are a pair, and how conditions change them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.talking import MOST_S1, Clip, Compared, judge, swapped, trial_lists


def clip(name: str, person: str, corpus: str, recording: str = "") -> Clip:
    return Clip(name, person, corpus, recording or name, Path(f"{name}.mp4"), Path(f"{name}.wav"))


def corpus() -> list[Clip]:
    """Ten clips of s1, two GRID men and two women, id2, two persons with two talks of three pieces each."""
    found = [clip(f"s1_{at}", "s1", "grid") for at in range(10)]
    found += [clip(name, name, "grid") for name in ("GRID_a", "GRID_b", "GRID_brbk7n", "GRID_lbbc2a")]
    found.append(clip("id2_x", "id2", "grid"))
    for person in ("Obama", "feifeili"):
        found += [
            clip(f"{person}_{talk}_{piece}", person, "talks", f"{person}_{talk}") for talk in "ab" for piece in "012"
        ]
    return found


def test_trial_lists_have_pairs_of_different_recordings_and_no_pair_that_may_be_one_person() -> None:
    lists = trial_lists(corpus())
    targets = [pair for pair, is_target in lists["A-E"] if is_target]
    assert Counter(a.person for a, _ in targets) == {"s1": MOST_S1, "Obama": 9, "feifeili": 9}
    assert all(a.person == b.person and a.recording != b.recording for a, b in targets)
    for name, trials in lists.items():
        assert [pair for pair, is_target in trials if is_target] == targets, name
        others = [pair for pair, is_target in trials if not is_target]
        assert len({frozenset((a.name, b.name)) for a, b in others}) == len(others)
        assert not any({a.person, b.person} & {"id2"} and a.corpus == b.corpus for a, b in others)
    everything = [pair for pair, is_target in lists["A-E"] if not is_target]
    # 27 clips; less pairs of one person, and the 14 of id2 with GRID
    assert len(everything) == 27 * 26 // 2 - 45 - 2 * 15 - 14


def test_trial_lists_balance_persons_in_o_and_keep_corpus_and_sex_in_h() -> None:
    lists = trial_lists(corpus())
    drawn = [pair for pair, is_target in lists["A-O"] if not is_target]
    assert len(drawn) == sum(is_target for _, is_target in lists["A-O"])
    count = Counter(side.person for pair in drawn for side in pair)
    assert len(count) == 8 and max(count.values()) <= 2 * min(count.values())
    hard = {frozenset((a.person, b.person)) for (a, b), is_target in lists["A-H"] if not is_target}
    men = {frozenset(pair) for pair in (("s1", "GRID_a"), ("s1", "GRID_b"), ("GRID_a", "GRID_b"))}
    assert hard == men | {frozenset(("GRID_brbk7n", "GRID_lbbc2a"))}


def test_swapped_clip_gets_the_face_of_another_person_of_its_corpus_and_sex() -> None:
    found = corpus()
    faces, by_file = swapped(found), {one.video: one for one in found}
    for one in found:
        other = by_file[faces[one.name]]
        assert other.kind == one.kind
        # only Obama, feifeili and id2 have nobody like them
        assert (other.person != one.person) == (one.person not in ("Obama", "feifeili", "id2"))


def test_judged_fusion_is_behind_only_where_the_whole_interval_says_so() -> None:
    rng = np.random.default_rng(0)
    models, segments = np.triu_indices(80, 1)
    person = np.arange(80) // 4
    target = person[models] == person[segments]
    face, voice = (rng.normal(2.5 * target, 1) for _ in range(2))
    scores = {"face": face, "voice": voice, "fusion, mean": face + voice, "fusion, quality": face + voice}
    good = Compared(scores, target, (person[models], person[segments])).rates()
    assert not judge(good, "talking_a_h")[1] and "less half of the better one's: -" in judge(good, "talking_a_h")[0]
    poor = good | {"fusion, quality": (good["voice"][0] + 0.2, good["voice"][1] + 0.2)}
    assert (
        judge(poor, "talking_a_h")[1] and judge(poor, "talking_a_h_black")[1] and not judge(poor, "talking_a_h_poor")[1]
    )
    assert judge(poor, "talking_a_e") == ("", False)
