"""The demo corpus: layout, same bytes, and boxes that fit the faces found by YuNet, another detector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vidperson.corpora import demo, film, sre19_av
from vidperson.errors import DataError
from vidperson.io.atomic import make_once
from vidperson.io.lines import read_scp
from vidperson.io.lists import LabelledBox, read_boxes, read_trials

SECONDS = 0.4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "corpus"
    videos: list[None] = []
    assert demo.build(out, SECONDS, lambda: videos.append(None))
    assert len(videos) == demo.NUM_VIDEOS
    return out


@pytest.fixture(scope="module")
def sets(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    written = sre19_av.prepare(tmp_path_factory.mktemp("data"), corpus / "dev", corpus / "eval", "demo")
    return {path.name: path for path in written}


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_build_again_elsewhere_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    demo.build(tmp_path / "again", SECONDS)
    assert _files(tmp_path / "again") == _files(corpus)


def test_build_finished_corpus_is_kept(corpus: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in corpus.rglob("*")}
    assert not demo.build(corpus, SECONDS)
    assert {p: p.stat().st_mtime_ns for p in corpus.rglob("*")} == before


def test_build_killed_leaves_no_corpus_and_the_next_run_makes_it(tmp_path: Path, corpus: Path) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.build(tmp_path / "c", SECONDS, kill)
    assert not (tmp_path / "c").exists()
    demo.build(tmp_path / "c", SECONDS)
    assert _files(tmp_path / "c") == _files(corpus)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_kill_while_an_old_folder_is_removed_leaves_one_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "content").touch()

    def kill(path: Path, ignore_errors: bool) -> None:
        if path.exists():
            (path / ".done").unlink()  # the rest is there yet
            raise KeyboardInterrupt

    assert make_once(tmp_path / "c", "one", fill)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", kill)
        with pytest.raises(KeyboardInterrupt):
            make_once(tmp_path / "c", "two", fill)
    assert not make_once(tmp_path / "c", "two", fill) and make_once(tmp_path / "c", "three", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_build_folder_of_someone_else_or_no_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="was not finished by this program"):
        demo.build(tmp_path)
    assert (tmp_path / "mine.txt").exists()
    with pytest.raises(DataError, match="seconds per video"):
        demo.build(tmp_path / "new", 0)


def test_build_without_scikit_image_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(DataError, match=r"pip install '\.\[demo\]'"):
        demo.build(tmp_path / "c")


def test_corpus_is_read_by_the_code_of_sre19(sets: dict[str, Path]) -> None:
    assert list(sets) == ["demo_dev_enroll", "demo_dev_test", "demo_eval_enroll", "demo_eval_test"]
    for part in ("dev", "eval"):
        trials = read_trials(sets[f"demo_{part}_test"] / "trials")
        assert set(trials.models) == set(demo.PEOPLE) and len(trials) == 2 * 8
        assert trials.is_target is not None and sum(trials.is_target) == 8
        labels = read_boxes(sets[f"demo_{part}_enroll"] / "face_boundingbox")
        assert len(labels) == 2 and all(2 <= len(boxes) <= 3 for boxes in labels.values())


def test_videos_are_h264_of_the_wanted_size_and_differ(sets: dict[str, Path]) -> None:
    contents = set()
    for path in sets.values():
        for video in read_scp(path / "vid.scp").values():
            contents.add(Path(video).read_bytes())
            with av.open(video) as container:
                (stream,) = container.streams
                context = stream.codec_context
                assert isinstance(context, av.VideoCodecContext)
                assert (context.name, context.width, context.height, context.pix_fmt) == (
                    "h264",
                    640,
                    360,
                    "yuv420p",
                )
                assert stream.frames == round(SECONDS * film.FPS) and stream.average_rate == film.FPS
    assert len(contents) == demo.NUM_VIDEOS


def _faces(video: str, frames: set[int], model: Path) -> dict[int, list[tuple[float, ...]]]:
    """Frame -> boxes x1 y1 x2 y2 that YuNet finds."""
    detector = cv2.FaceDetectorYN.create(str(model), "", (film.WIDTH, film.HEIGHT), 0.8)
    found: dict[int, list[tuple[float, ...]]] = {}
    with av.open(video) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in frames:
                rows = detector.detect(frame.to_ndarray(format="bgr24"))[1]
                found[index] = [(x, y, x + w, y + h) for x, y, w, h in ([] if rows is None else rows[:, :4])]
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.prod(np.maximum(high - low, 0))
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def test_labelled_boxes_fit_one_face_of_the_frame(sets: dict[str, Path], shared: Path) -> None:
    model = shared / "models/yunet_onnx/yunet_n_dynamic.onnx"
    num_faces = set()
    for part in ("dev", "eval"):
        folder = sets[f"demo_{part}_enroll"]
        videos = read_scp(folder / "vid.scp")
        for segment, labels in read_boxes(folder / "face_boundingbox").items():
            by_frame: dict[int, LabelledBox] = {round(label.position * film.FPS): label for label in labels}
            for index, faces in _faces(videos[segment], set(by_frame), model).items():
                overlaps = sorted(_overlap(by_frame[index].box, face) for face in faces)
                assert overlaps[-1] > 0.75, f"{segment} frame {index}"
                assert sum(overlaps[:-1]) < 0.05, f"{segment} frame {index}"
                assert by_frame[index].box[3] - by_frame[index].box[1] > 60
                num_faces.add(len(faces))
    assert num_faces == {1, 2}, "one model of each part is enrolled beside the other person"


def test_test_videos_show_who_the_key_says(sets: dict[str, Path], shared: Path) -> None:
    model = shared / "models/yunet_onnx/yunet_n_dynamic.onnx"
    for part in ("dev", "eval"):
        folder = sets[f"demo_{part}_test"]
        trials = read_trials(folder / "trials")
        assert trials.is_target is not None
        for segment, video in read_scp(folder / "vid.scp").items():
            pairs = zip(trials.segments, trials.is_target, strict=True)
            expected = sum(target for name, target in pairs if name == segment)
            assert [len(f) for f in _faces(video, {0, 9}, model).values()] == [expected] * 2, segment


def test_prepare_data_says_when_it_is_already_made(corpus: Path, repo: Path) -> None:
    command = [
        sys.executable,
        "local/demo/prepare_data.py",
        "--out-dir",
        str(corpus),
        "--seconds",
        str(SECONDS),
    ]
    environment = {"PYTHONPATH": str(repo)}
    result = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "already made" in result.stderr
