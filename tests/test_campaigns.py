"""The campaigns of benchmarks/: kills at random moments, and damaged media. Short; `make campaign` runs long forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook, image
from naive_decoder import write_video

from benchmarks import faults, media_faults
from vidperson.io.lines import read_scp


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four clips of a photograph that every matplotlib carries, moving; with a face."""
    folder = tmp_path_factory.mktemp("clips")
    photo = image.imread(cbook.get_sample_data("grace_hopper.jpg"))[100:420, 90:410]
    return [
        write_video(folder / f"{number}.mp4", (np.roll(photo, 4 * i + 9 * number, axis=1) for i in range(50)))
        for number in range(4)
    ]


@pytest.mark.parametrize(
    ("kills", "seed"), [(2, 1), *(pytest.param(20, seed, marks=pytest.mark.campaign) for seed in (2, 3))]
)
def test_stages_killed_at_random_moments_lose_and_double_nothing(
    clips: list[Path], tmp_path: Path, kills: int, seed: int
) -> None:
    outcomes = list(faults.campaign(clips[0].parent, kills=kills, kills_per_run=2, seed=seed, work=tmp_path))
    counts = [(o.stage[:3], o.segments, o.kills, o.runs) for o in outcomes]
    assert counts == [("002", 4, kills, kills // 2), ("003", 4, kills, kills // 2)]
    assert sum(outcome.at_work for outcome in outcomes) > 0
    assert all(outcome.good for outcome in outcomes), outcomes


def test_kills_whose_runs_differ_are_found(clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign itself can fail: runs behind the first lose the last segment, and have another one twice."""
    runs: list[str] = []

    def run_stage(stage: str, work: Path, nj: int) -> None:
        folder = work / "exp" / faults.STAGES[stage]
        folder.mkdir(parents=True)
        names = ["a", "b", "c"] if not runs else ["a", "a", "b"]
        runs.append(stage)
        (folder / "status").write_text("".join(f"{name} ok\n" for name in names))

    monkeypatch.setattr(faults, "run_stage", run_stage)
    monkeypatch.setattr(faults, "kill_at", lambda *_: True)
    monkeypatch.setattr(faults, "STAGES", {"002_detect_faces": Path("x")})
    (outcome,) = faults.campaign(clips[0].parent, kills=1, kills_per_run=1, seed=0, work=tmp_path)
    assert (outcome.lost, outcome.doubled, outcome.files_that_differ, outcome.good) == (1, 1, 1, False)


def test_damaged_clips_cost_only_themselves(clips: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "empty.mp4").touch()
    (odd / "text; $(touch pwned) 'é'.mp4").write_text("no video")
    table, problems = media_faults.campaign([odd], clips, 10, seed=3, limit_s=60, nj=2, work=tmp_path / "work")
    assert problems == []
    assert {kind: counts["tried"] for kind, counts in table.items()} == {
        "odd": 2, "truncate": 3, "flip": 3, "splice": 2, "zero": 2, "sound": 2
    }  # fmt: skip
    assert table["odd"]["unreadable"] == 2 and table["sound"]["ok"] == 2
    assert sum(table[kind]["damaged"] + table[kind]["unreadable"] for kind in media_faults.MUTATIONS) >= 3
    assert not list(tmp_path.rglob("pwned"))
    status = tmp_path / "work" / "together" / "exp" / "face_det" / "retinaface_tiny" / "clips" / "status"
    assert len(read_scp(status)) == 14


@pytest.mark.campaign
def test_hundreds_of_damaged_clips_cost_only_themselves(clips: list[Path], tmp_path: Path) -> None:
    table, problems = media_faults.campaign([], clips, 400, seed=4, limit_s=60, nj=2, work=tmp_path / "work")
    assert problems == []
    assert sum(counts["tried"] for kind, counts in table.items() if kind in media_faults.MUTATIONS) == 400


def test_mutations_are_seeded_and_change_the_file() -> None:
    data, other = bytes(range(256)) * 20, b"other" * 1000
    for mutate in media_faults.MUTATIONS.values():
        random = media_faults.random.Random
        results = [mutate(data, other, random(seed)) for seed in range(20)]
        assert results == [mutate(data, other, random(seed)) for seed in range(20)]
        assert sum(result != data for result in results) >= 19
