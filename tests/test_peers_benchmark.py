"""benchmarks/peers.py without the peers: its rows, what it skips, how it counts and compares. Nothing is timed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from naive_decoder import write_video

from benchmarks import peer_scoring, peers
from benchmarks.peers import Bench, Faces, Program
from vidperson.errors import DataError

ABSENT = "/no/such/python"


@pytest.fixture
def cores() -> Iterator[None]:
    """The program keeps to one core: the tests after it get all back."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


def write_noise(path: Path) -> None:
    """Half a second without faces."""
    noise = (np.random.default_rng(number).integers(0, 256, (96, 160, 3), np.uint8) for number in range(13))
    write_video(path, noise)


def size_and_frames(path: Path) -> tuple[int, int, int]:
    """Width, height, number of frames."""
    import av

    with av.open(str(path)) as container:
        shots = list(container.decode(video=0))
    return shots[0].width, shots[0].height, len(shots)


def faces(*rows: tuple[int, int, list[float], list[float]]) -> Faces:
    """From (video, frame, box, embedding) each."""
    video, frame, box, embedding = zip(*rows, strict=True)
    return Faces(np.array(video), np.array(frame), np.array(box, np.float32), np.array(embedding, np.float32))


def test_table_has_a_row_per_program_and_says_why_one_is_skipped(
    cores: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_noise(tmp_path / "clip.mp4")
    more = Program("ours, new", options=("--no-such-option", "1"))
    monkeypatch.setattr(peers, "PROGRAMS", (Program("ours"), more, *(one for one in peers.PROGRAMS if one.det_size)))
    monkeypatch.setattr(peers, "MADE", {"noise": (2, 1.0, (160, 96), 0.5)})
    monkeypatch.setattr(peers, "SCORING", {"few": (4, 3, 2, 5)})
    networks = ("retinaface_tiny", "arcface_tiny")
    peers.peers(str(tmp_path / "clip.mp4"), None, *networks, ABSENT, 1, scoring=True, split=False, work_dir=None)
    cells = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    videos, scoring = {row[1]: row for row in cells[1:5]}, {row[1]: row[2:] for row in cells[6:]}
    assert list(videos) == [program.name for program in peers.PROGRAMS]
    assert float(videos["ours"][2]) > 0 and videos["ours"][5].split()[0] == "0"
    assert videos["ours, new"][2] == "skipped: the stages have no --no-such-option yet"
    assert all(videos[name][2] == "skipped: not installed: run utils/make_env.sh bench" for name in peers.PEERS)
    assert set(scoring) == {name for name, _ in peers.WAYS.values()}
    assert all(float(scoring[name][1]) > 0 for name in ("float32 products only", "ours, `max`", "NumPy, float32"))
    assert float(scoring["NumPy, float32"][2]) < 1e-6
    assert "run utils/make_env.sh bench" in scoring["FAISS, `pairwise_distances`"][0]


def test_options_of_the_stages_are_those_of_the_defaults_and_of_the_script() -> None:
    options = peers.stage_options("run_001_prepare_data.sh")
    assert {"--det-threshold", "--stop-stage"} <= options and "--no-such-option" not in options


def test_own_videos_take_the_place_of_those_made_and_others_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine/b.mp4", "mine/a.mp4", "clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_noise(tmp_path / name)
    monkeypatch.setattr(peers, "MADE", {"made": (2, 1.0, (64, 48), 0.5), "mine": (30, 60.0, (1280, 720), 2.0)})
    own = dict(map(peers.own_videos, (["other", str(tmp_path / "clip.mp4")], ["mine", str(tmp_path / "mine")])))
    inputs = peers.make_inputs(str(tmp_path / "clip.mp4"), tmp_path / "videos", own)
    assert list(inputs) == ["made", "mine", "other"] and len(inputs["made"]) == 2
    assert inputs["mine"] == [tmp_path / "mine" / "a.mp4", tmp_path / "mine" / "b.mp4"]
    assert size_and_frames(inputs["made"][1]) == (64, 48, 25)


def test_same_face_is_that_of_the_same_frame_with_the_best_overlap() -> None:
    ours = faces(
        (0, 0, [0, 0, 10, 10], [1, 0]),
        (0, 25, [0, 0, 10, 10], [1, 0]),  # of another frame
        (1, 0, [0, 0, 10, 10], [1, 0]),  # of another video
        (2, 0, [0, 0, 10, 10], [1, 0]),  # too little overlap
    )
    other = faces(
        (0, 0, [0, 0, 10, 14], [0, 1]),
        (0, 0, [0, 0, 10, 11], [3, 4]),
        (0, 26, [0, 0, 10, 10], [1, 0]),
        (2, 0, [5, 0, 15, 10], [1, 0]),
    )
    assert peers.agreement(ours, other).tolist() == pytest.approx([0.6])


def test_videos_without_faces_keep_their_number() -> None:
    nothing = (np.zeros(0), np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32))
    one = (np.array([7.0]), np.ones((1, 4), np.float32), np.ones((1, 2), np.float32))
    found = peers.joined([nothing, one])
    assert (found.video.tolist(), found.frame.tolist()) == ([1], [7])
    assert len(peers.joined([nothing])) == 0


def test_seconds_are_those_of_all_processes_that_a_command_starts() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    assert peers.run(["bash", "-c", f'"$0" -c "{busy}"; true', sys.executable]) >= 0.3


def test_command_that_fails_ends_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="no disk left"):
        peers.run(["bash", "-c", "echo no disk left >&2; exit 3"])


@pytest.mark.parametrize(("line", "said"), [(["two"], "expected a label"), (["two", "no.mp4"], "there is no no.mp4")])
def test_own_videos_that_are_not_there_are_refused(line: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        peers.own_videos(line)


def test_detector_that_the_peer_cannot_decode_is_refused() -> None:
    with pytest.raises(DataError, match=r"scrfd_2\.5g: expected a detector of decoder retinaface"):
        peers.setup(Bench("scrfd_2.5g", "arcface_tiny", Path(ABSENT), Path()))


@pytest.mark.parametrize("way", ["ours", "numpy", "sklearn"])
@pytest.mark.parametrize("sizes", [(3, 5, 4, 2), (7, 2, 1, 3), (2, 3, 1, 1)])
def test_scores_are_the_largest_cosines(
    way: str, sizes: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "sklearn":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(peer_scoring, "BLOCK", 4)
    task = peer_scoring.Task(*sizes, dim=8)
    scores = peer_scoring.WAYS[way](task).reshape(task.shape)
    for (model, segment), found in np.ndenumerate(scores):
        pairs = [
            a @ b / np.sqrt((a @ a) * (b @ b))
            for a in task.models[model * sizes[2] : (model + 1) * sizes[2]].astype(np.float64)
            for b in task.segments[segment * sizes[3] : (segment + 1) * sizes[3]].astype(np.float64)
        ]
        assert found == pytest.approx(max(pairs), abs=1e-6)
