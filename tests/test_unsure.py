"""Segments without a face from --det-threshold on: said so, and kept only where --det-fallback allows it."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import cbook, image
from naive_decoder import write_video

from steps_face.detect_faces import DetectOptions, SelectionOptions, detect_faces
from vidperson import cli
from vidperson.body import gathering
from vidperson.engines import load_network
from vidperson.face.candidates import SelectionPolicy
from vidperson.face.detection import STATES, archive_entries
from vidperson.face.detector import FaceDetector, make_detector
from vidperson.face.pipeline import Result, Task, find_faces
from vidperson.media.sampling import UniformSampling, WindowSampling
from vidperson.networks.install import install_model, installed_model
from vidperson.report import contact_sheet, tables
from vidperson.report.contact_sheet import decode_picture, shown_segments
from vidperson.types import Image

KEEPING, PLAIN = SelectionPolicy(fallback=True), SelectionPolicy()
ON_FACE, ELSEWHERE = (60.0, 60.0, 260.0, 260.0), (1.0, 1.0, 6.0, 6.0)


def smiley() -> Image:
    """A drawing that a face detector half takes for a face."""
    drawn = np.full((320, 320, 3), 120, np.uint8)
    cv2.circle(drawn, (160, 160), 100, (255, 220, 0), cv2.FILLED, cv2.LINE_AA)
    for x in (120, 200):
        cv2.circle(drawn, (x, 130), 12, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
    cv2.ellipse(drawn, (160, 185), (50, 30), 0, 0, 180, (0, 0, 0), 6, cv2.LINE_AA)
    return drawn


def door() -> Image:
    """A drawing of a door with panels."""
    drawn = np.full((320, 320, 3), (180, 160, 130), np.uint8)
    cv2.rectangle(drawn, (90, 20), (230, 310), (110, 70, 40), cv2.FILLED)
    for x, y in ((105, 40), (165, 40), (105, 180), (165, 180)):
        cv2.rectangle(drawn, (x, y), (x + 50, y + 110), (90, 55, 30), 4)
    return drawn


def portrait() -> Image:
    """A photograph that every matplotlib carries."""
    return np.asarray(image.imread(cbook.get_sample_data("grace_hopper.jpg")))[100:420, 90:410]


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("face_models")
    install_model("retinaface_tiny", folder)
    return folder


@pytest.fixture(scope="module")
def detector(models_dir: Path) -> FaceDetector:
    installed = installed_model(models_dir / "retinaface_tiny")
    return make_detector(load_network(installed.network), installed.card)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two frames and a damaged one of 30; ``upside.png`` is a real face that stands on its head."""
    folder = tmp_path_factory.mktemp("media")
    for name, picture in (("smiley", smiley()), ("door", door()), ("portrait", portrait())):
        write_video(folder / f"{name}.mp4", [picture, picture], rate=1)
    cv2.imwrite(str(folder / "upside.png"), np.ascontiguousarray(portrait()[::-1, ::-1, ::-1]))
    whole = write_video(folder / "whole.ts", [smiley()] * 30, container_format="mpegts").read_bytes()
    middle = len(whole) // 2
    (folder / "damaged.ts").write_bytes(whole[:middle] + bytes(3000) + whole[middle + 3000 :])
    return folder


def found(detector: FaceDetector, policy: SelectionPolicy, *files: Path, label: Sequence[float] = ()) -> list[Result]:
    """The result of each file; with a label, that of its first frame."""
    sampling = WindowSampling((0.0,), "frames", 1) if label else UniformSampling(1)
    tasks = [Task(path.name, str(path), sampling, [[label]] if label else ()) for path in files]
    return list(find_faces(tasks, detector, policy))


def best_of(status: str) -> float:
    return float(status.partition("best face ")[2][:4])


@pytest.mark.parametrize("name", ["smiley.mp4", "upside.png"])
@pytest.mark.parametrize("label", [(), ON_FACE], ids=["all faces", "labelled"])
@pytest.mark.parametrize("policy", [PLAIN, KEEPING], ids=["plain", "fallback"])
def test_unsure_segment_says_its_best_score_and_keeps_faces_only_with_fallback(
    detector: FaceDetector, media: Path, name: str, label: Sequence[float], policy: SelectionPolicy
) -> None:
    (result,) = found(detector, policy, media / name, label=label)
    scores = [detector.detect([frame], 0.1)[0].scores for frame in frames_of(media / name)]
    best = max(float(each.max(initial=0)) for each in scores)
    assert 0.1 < best < 0.9
    kept = "; kept" if policy.fallback else ""
    assert result.status == f"unsure: best face {int(100 * best) / 100:.2f}, det_threshold is 0.9{kept}"
    assert len(result.faces.rows) == len(list(result.faces.crops)) and (len(result.faces.rows) > 0) == policy.fallback
    assert len(result.faces.thumbnail_faces) == 1, "the sheet shows what was found, whether it was kept or not"


def frames_of(path: Path) -> list[Image]:
    from vidperson.media.video import FrameReader

    with FrameReader(str(path), UniformSampling(1)) as reader:
        return [frame.image for frame in reader]


@pytest.mark.parametrize("label", [(), ON_FACE], ids=["all faces", "labelled"])
@pytest.mark.parametrize("policy", [PLAIN, KEEPING], ids=["plain", "fallback"])
def test_sure_face_is_ok_and_nothing_is_no_face_whatever_the_fallback(
    detector: FaceDetector, media: Path, label: Sequence[float], policy: SelectionPolicy
) -> None:
    sure, none = found(detector, policy, media / "portrait.mp4", media / "door.mp4", label=label)
    assert (sure.status, none.status) == ("ok", "no_face")
    assert len(sure.faces.rows) and sure.faces.rows[:, 6].min() >= np.float32(0.9) and not len(none.faces.rows)


@pytest.mark.parametrize("policy", [PLAIN, KEEPING], ids=["plain", "fallback"])
def test_face_far_from_the_label_is_no_face(detector: FaceDetector, media: Path, policy: SelectionPolicy) -> None:
    for result in found(detector, policy, media / "smiley.mp4", media / "portrait.mp4", label=ELSEWHERE):
        assert result.status == "no_face" and not len(result.faces.rows)


def test_fallback_of_no_faces_keeps_none_and_says_unsure(detector: FaceDetector, media: Path) -> None:
    (result,) = found(detector, SelectionPolicy(min_faces=0, fallback=True), media / "smiley.mp4")
    assert result.status.startswith("unsure: best face 0.") and "kept" not in result.status
    assert not len(result.faces.rows)


@pytest.mark.parametrize("policy", [PLAIN, KEEPING], ids=["plain", "fallback"])
def test_damaged_segment_with_unsure_faces_says_both(
    detector: FaceDetector, media: Path, policy: SelectionPolicy
) -> None:
    (result,) = found(detector, policy, media / "damaged.ts")
    state, _, why = result.status.partition(": ")
    assert state == "damaged" and "; best face 0." in why
    assert why.endswith("; kept") == policy.fallback == (len(result.faces.rows) > 0)


def test_best_score_is_never_rounded_up_to_the_threshold(detector: FaceDetector, media: Path) -> None:
    (result,) = found(detector, PLAIN, media / "smiley.mp4")
    exact = float(result.faces.thumbnail_faces.scores.max())
    (result,) = found(detector, SelectionPolicy(threshold=exact + 1e-6), media / "smiley.mp4")
    assert result.status.startswith("unsure") and best_of(result.status) <= exact < exact + 1e-6


@pytest.mark.parametrize(
    "fallback,labelled,kept",
    [
        ("labelled", False, False),
        ("labelled", True, True),
        ("always", False, True),
        ("always", True, True),
        ("never", False, False),
        ("never", True, False),
    ],
)
def test_det_fallback_decides_with_the_labels_what_an_unsure_segment_keeps(
    models_dir: Path, media: Path, tmp_path: Path, fallback: str, labelled: bool, kept: bool
) -> None:
    (tmp_path / "vid.scp").write_text(f"drawn {media / 'smiley.mp4'}\nperson {media / 'portrait.mp4'}\n")
    (tmp_path / "boxes").write_text("".join(f"{name} 0 60 60 260 260\n" for name in ("drawn", "person")))
    files = {"scp": f"{tmp_path}/vid.scp", "model": f"{models_dir}/retinaface_tiny", "output_dir": f"{tmp_path}/job"}
    boxes = f"{tmp_path}/boxes" if labelled else None
    options = cli.fill(DetectOptions, **files, labels=boxes, label_unit="frames", det_fallback=fallback)
    statuses = detect_faces(options)
    assert statuses["person"] == "ok" and statuses["drawn"].startswith("unsure: best face 0.")
    assert statuses["drawn"].endswith("; kept") == kept
    crops = (tmp_path / "job/crops.tar").read_bytes()
    assert (b"drawn/00000" in crops) == kept and b"person/00000" in crops


def test_fallback_is_for_labelled_segments_by_default_and_other_words_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert SelectionOptions().det_fallback == "labelled" and not SelectionPolicy().fallback
    files = ["--scp", "a", "--model", "b", "--output-dir", "c"]
    with pytest.raises(SystemExit):
        cli.parse(DetectOptions, None, [*files, "--det-fallback", "sometimes"])
    assert "labelled" in capsys.readouterr().err


@pytest.mark.parametrize("config,value", [
    ("config_sre19", "always"), ("config_sre21", "always"), ("config_folder", "labelled"), ("config_r100", "labelled"),
])  # fmt: skip
def test_only_the_configs_of_nist_corpora_do_as_the_published_system(repo: Path, config: str, value: str) -> None:
    script = f". global_conf/defaults.sh; . global_conf/{config}.sh; echo $det_fallback"
    said = subprocess.run(["bash", "-c", script], cwd=repo, capture_output=True, text=True, check=True).stdout
    assert said.strip() == value


# ------------------------------------------------------------------------------------------------------- real media


def test_faceless_videos_keep_no_face_and_a_face_on_its_side_is_unsure(detector: FaceDetector, shared: Path) -> None:
    """Cartoons, test pictures and a logo, for which the published fallback finds something."""
    video = shared / "data/video"
    odd = ("moviepy_example.mp4", "moviepy_smpte-2997.mp4", "moviepy_big_buck_bunny_432_433.webm")
    faceless = [video / "odd" / name for name in odd]
    person = [video / "robustness" / name for name in ("rot_meta_90.mp4", "base.mp4")]
    before = found(detector, KEEPING, *faceless, *person)
    assert all(len(result.faces.rows) for result in before), "else this shows nothing"
    *nobody, sideways, upright = found(detector, PLAIN, *faceless, *person)
    assert all(result.status.startswith("unsure: ") and not len(result.faces.rows) for result in nobody)
    assert max(best_of(result.status) for result in nobody) < 0.5 < best_of(sideways.status) < 0.9
    assert upright.status == "ok" and len(upright.faces.rows)


# ------------------------------------------------------------------------------------------------ sheet and report


def test_states_of_stage_2_are_those_that_report_sheet_and_stages_know(repo: Path) -> None:
    assert tables.states_of("faces", STATES) == STATES and STATES[1] == "unsure"
    assert {*STATES, "no_body"} == set(contact_sheet._STATE_COLOURS)
    assert f'face_states="{" ".join(STATES)}"' in (repo / "steps_face/modality.sh").read_text()
    assert f'body_states="{" ".join(gathering.STATES)}"' in (repo / "steps_body/modality.sh").read_text()
    assert {*gathering.STATES} < {*tables.states_of("bodies")} <= set(contact_sheet._STATE_COLOURS)


def test_thumbnail_of_an_unsure_segment_shows_its_face_in_another_colour(detector: FaceDetector, media: Path) -> None:
    orange = []
    for policy in (PLAIN, KEEPING):
        (result,) = found(detector, policy, media / "smiley.mp4")
        (stored,) = archive_entries("s", result.faces)["thumbs.tar"]
        drawn = decode_picture(stored[512 : stored.rindex(b"\xff\xd9") + 2]).astype(int)
        x1, y1, x2, _ = result.faces.thumbnail_faces.boxes[0].round().astype(int)
        edge = drawn[y1, (x1 + x2) // 2 : x2 - 4].mean(axis=0)
        orange.append(edge[0] > edge[1] + 20)
    assert orange == [True, False]


def test_sheet_shows_unsure_segments_last_and_leaves_them_a_third_of_the_places() -> None:
    statuses = {f"s{i:02d}": "unsure: best face 0.43, det_threshold is 0.9" if i % 2 else "ok" for i in range(40)}
    shown = shown_segments(statuses, 12)
    assert shown[:8:7] == ["s00", "s38"] and shown[8:] == ["s01", "s13", "s27", "s39"]
    assert len(set(shown)) == 12 and all(statuses[name] == "ok" for name in shown[:8])
    few = {"a": "unsure: x", "b": "ok", "c": "no_face", "d": "unsure: y"}
    assert shown_segments(few, 60) == ["b", "c", "a", "d"]
    assert shown_segments(few, 1) == ["b"] and shown_segments({"a": "unsure: x"}, 1) == ["a"]
    assert shown_segments({"a": "unsure: x", "b": "unsure: y", "c": "ok"}, 2) == ["c", "a"]


def test_unsure_is_counted_in_the_table_and_listed_with_its_score() -> None:
    statuses = {"a": "ok", "b": "unsure: best face 0.43, det_threshold is 0.9", "c": "no_face"}
    row = tables.status_row("set", statuses, "faces", 7)
    assert (row["ok"], row["unsure"], row["no_face"]) == (1, 1, 1)
    assert tables.problems(statuses)["b"].startswith("unsure: best face 0.43")
    head, body = tables.status_table([row], "faces")
    assert head[3:6] == ["ok", "unsure", "no_face"] and body == [["set", "3", "7", "1", "1", "1", "0", "0"]]


# ---------------------------------------------------------------------------------------------------------- scoring


def test_trials_of_an_unsure_segment_score_0_and_are_counted_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from steps.score import PairOptions, RunOptions, ScoreOptions, SystemOptions, score
    from vidperson.io.matrices import matrix_bytes

    def write(part: str, matrices: dict[str, list[list[float]]], statuses: dict[str, str]) -> None:
        folder = tmp_path / "embed/e" / part
        folder.mkdir(parents=True)
        with open(folder / "embed.ark", "wb") as ark, open(folder / "embed.scp", "w") as scp:
            for key, rows in matrices.items():
                scp.write(f"{key} {folder}/embed.ark:{ark.tell() + len(key) + 1}\n")
                ark.write(matrix_bytes(key, np.asarray(rows, np.float32).reshape(-1, 2)))
        (folder / "status").write_text("".join(f"{key} {status}\n" for key, status in statuses.items()))

    unsure = "unsure: best face 0.43, det_threshold is 0.9"
    write("enrolled", {"p-1": [[1, 0]], "q-1": []}, {"p-1": "ok", "q-1": unsure})
    write("tested", {"door": [], "t1": [[1, 0]], "wall": []}, {"door": unsure, "t1": "ok", "wall": "no_face"})
    for folder in ("enroll", "test"):
        (tmp_path / folder).mkdir()
    (tmp_path / "enroll/spk2utt").write_text("p p-1\nq q-1\n")
    (tmp_path / "test/trials").write_text("".join(f"{m} {s}\n" for m in "pq" for s in ("door", "t1", "wall")))
    caplog.set_level(logging.INFO)
    pair = PairOptions("face", tmp_path / "embed/e", "enrolled", tmp_path / "enroll", "tested", tmp_path / "test")
    score(ScoreOptions(pair, SystemOptions(scores_dir=tmp_path / "out"), RunOptions()))
    scores = (tmp_path / "out/e/max/test_scores").read_text().split()
    assert [float(value) for value in scores[2::3]] == [0, 1, 0, 0, 0, 0]
    assert f"door: test segment without any face: its trials score 0 ({unsure})" in caplog.text
    assert "2 in all: test segment without any face: its trials score 0 (1 unsure, 1 no_face)" in caplog.text
    assert f"q-1: enrolment segment without any face ({unsure})" in caplog.text
