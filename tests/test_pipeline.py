"""Stage 2's pipeline: the same bytes as one frame after the other, whatever overlaps, and memory that is bounded."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib import cbook, image
from naive_decoder import decode_all, pick_constant, write_video
from numpy.typing import NDArray

from steps_face.detect_faces import DetectOptions, detect_faces, scales
from vidperson import cli
from vidperson.engines import load_network
from vidperson.errors import MediaError, ModelError, VidPersonError
from vidperson.face import pipeline
from vidperson.face.candidates import Candidates, SelectionPolicy
from vidperson.face.detector import FaceDetector, make_detector
from vidperson.face.looks import FillGaps, MoreFrames, Seen, SeenFrame
from vidperson.face.pipeline import OUT_OF_MEMORY, Result, Task, find_faces
from vidperson.media.sampling import FrameSampling, KeyFrameSampling, Sampling, StretchSampling
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling
from vidperson.networks.card import load_card
from vidperson.networks.install import install_model, installed_model
from vidperson.types import Frame, Image

LONG_S = 60  # for what is to come; no test waits so long unless it fails
EVERY = UniformSampling(1000)
FAST = [FillGaps(5, 1.3), MoreFrames(5)]
Outputs = list[NDArray[np.float32]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches do not depend on how busy the machine is."""
    monkeypatch.setattr(pipeline, "_SILENCE_S", 600.0)


# -------------------------------------------------------------------------------------------- real media and network


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    folder = tmp_path_factory.mktemp("face_models")
    install_model("retinaface_tiny", folder)
    installed = installed_model(folder / "retinaface_tiny")
    return make_detector(load_network(installed.network), installed.card, scales=(1.0, 0.5), mirror=True)


def portrait(number: int, width: int = 320, height: int = 320) -> Image:
    """A photograph that every matplotlib carries, moved a little each time."""
    photo = image.imread(cbook.get_sample_data("grace_hopper.jpg"))[100:420, 90:410]
    return np.asarray(cv2.resize(np.roll(photo, 3 * number, axis=1), (width, height)), np.uint8)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[Task]:
    """Videos and pictures of many sizes, some of them in equal shapes for the network, broken ones between them."""
    folder = tmp_path_factory.mktemp("mixed")
    sizes = [(320, 320), (160, 240), (310, 300), (320, 320), (240, 160)]
    for number, (width, height) in enumerate(sizes):
        write_video(folder / f"{number}.mp4", (portrait(number + i, width, height) for i in range(5)))
    parts = [
        write_video(
            folder / f"{width}.m2v",
            (portrait(i, width, 160) for i in range(3)),
            "mpeg2video",
            container_format="mpeg2video",
        )
        for width in (320, 160, 320)
    ]
    (folder / "changes.m2v").write_bytes(b"".join(part.read_bytes() for part in parts))
    whole = write_video(folder / "whole.ts", (portrait(i) for i in range(30)), container_format="mpegts").read_bytes()
    middle = len(whole) // 2
    (folder / "damaged.ts").write_bytes(whole[:middle] + bytes(3000) + whole[middle + 3000 :])
    cv2.imwrite(str(folder / "picture.png"), portrait(9, 150, 230)[..., ::-1])
    (folder / "text.mp4").write_text("no video")
    plain = ["0.mp4", "picture.png", "text.mp4", "1.mp4", "changes.m2v", "missing.mp4", "2.mp4", "damaged.ts", "3.mp4"]
    tasks = [Task(f"s{number}", str(folder / name), EVERY) for number, name in enumerate(plain)]
    windows = WindowSampling((1.0, 3.0, 90.0), "frames", 3)
    labels = [[(60.0, 60.0, 260.0, 300.0)], [(70.0, 60.0, 270.0, 300.0)], [(0.0, 0.0, 9.0, 9.0)]]
    tasks.insert(3, Task("labelled", str(folder / "3.mp4"), windows, labels))
    tasks.insert(5, Task("late", str(folder / "4.mp4"), WindowSampling((90.0,), "frames", 3), [[(0.0, 0.0, 9.0, 9.0)]]))
    tasks.append(Task("unlabelled", str(folder / "3.mp4"), None))
    for number, (name, begin) in enumerate({"fades in": 9, "shows nobody": 99, "is seen at once": 0}.items()):
        faces = (portrait(i) if i >= begin else np.zeros((320, 320, 3), np.uint8) for i in range(23))
        path = write_video(folder / f"short{number}.mp4", faces, options={"bf": "2"})
        tasks.insert(3 * number, Task(name, str(path), UniformSampling(1), looks=[MoreFrames(5)]))
    for number, name in enumerate(["short0.mp4", "short2.mp4", "whole.ts", "picture.png", "changes.m2v"]):
        tasks.append(Task(f"fast{number}", str(folder / name), KeyFrameSampling(2), looks=FAST))
    images = (portrait(i) if i < 10 or i > 40 else np.zeros((320, 320, 3), np.uint8) for i in range(75))
    long = write_video(folder / "long.mp4", images, options={"bf": "2", "x264-params": "scenecut=0"}, gop=20)
    tasks.append(Task("fast long", str(long), KeyFrameSampling(2), looks=FAST))
    tasks.append(Task("cut", str(folder / "damaged.ts"), UniformSampling(0.5), looks=[MoreFrames(5)]))
    return tasks


def naive(task: Task, detector: FaceDetector, policy: SelectionPolicy) -> Result:
    """One frame after the other."""
    candidates = Candidates(policy, task.labels)
    frames: list[Frame] = []
    if task.sampling is None:
        return Result(task.segment, "no_face: no labelled box", candidates.select())
    try:
        with FrameReader(task.path, task.sampling) as reader:
            frames += fast_frames(task.path, detector) if isinstance(task.sampling, KeyFrameSampling) else reader
        if task.looks and not any(detector.detect([frame.image], 0.9)[0] for frame in frames):
            with FrameReader(task.path, EVERY) as other:
                every = list(other)
            more = {int(len(every) * share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)}
            frames = [frame for frame in every if frame.index in more | {frame.index for frame in frames}]
        for frame in frames:
            candidates.add(frame, detector.detect([frame.image], candidates.min_score)[0])
    except MediaError as error:
        return Result(task.segment, f"unreadable: {error}", Candidates(policy).select())
    faces = candidates.select()
    late = f": {reader.labels_past_end} of {len(task.labels)} labelled times lie after the end of the video"
    status = "ok" if len(faces.rows) else "no_face" + (late if reader.labels_past_end else "")
    return Result(task.segment, f"damaged: {reader.damage}" if reader.damage else status, faces)


def fast_frames(path: str, detector: FaceDetector) -> list[Frame]:
    """Key frames half a second apart; behind one without a sure face and in gaps of 1.3 s five frames a second."""
    with FrameReader(path, EVERY) as reader:
        every = list(reader)
    if len(every) == 1:
        return every
    times, decoded, rate = decode_all(Path(path))
    taken: list[int] = []
    for index, frame in enumerate(decoded):
        if frame.key_frame and (not taken or times[index] - times[taken[-1]] > 0.47):
            taken.append(index)
    grid = set(pick_constant(len(every), rate, 5))
    for begin, end in pairwise([*taken, len(every)]):
        sure = len(detector.detect([every[begin].image], 0.9)[0]) > 0
        if (min(end, len(every) - 1) - begin) / 25 > (1.3 if sure else 0.25):
            taken += [index for index in range(begin + 1, end) if index in grid]
    if len(taken) == 1:
        taken.append(len(every) // 2)
    return [every[index] for index in sorted(taken)]


def content(result: Result) -> tuple[Any, ...]:
    """All that is written of a result."""
    faces = result.faces
    thumbnail = None if faces.thumbnail is None else (faces.thumbnail.shape, faces.thumbnail.tobytes())
    shown = faces.thumbnail_faces
    rows, quality, crops = faces.rows.tobytes(), faces.quality.tobytes(), list(faces.crops)
    return result.segment, result.status, rows, quality, crops, thumbnail, shown.boxes.tobytes(), shown.scores.tobytes()


@pytest.fixture(scope="module")
def expected(real: FaceDetector, mixed: list[Task]) -> list[tuple[Any, ...]]:
    results = [content(naive(task, real, SelectionPolicy())) for task in mixed]
    assert {status.split(":")[0] for _, status, *_ in results} == {"ok", "no_face", "damaged", "unreadable"}
    assert sum(len(crops) > 0 for _, _, _, _, crops, *_ in results) >= 5
    return results


@pytest.mark.parametrize("batch", [1, 2, 4, 50])
def test_mixed_segments_give_the_bytes_of_one_frame_after_the_other_for_every_batch(
    real: FaceDetector, mixed: list[Task], expected: list[tuple[Any, ...]], batch: int
) -> None:
    found = list(map(content, find_faces(mixed, real, SelectionPolicy(), batch)))
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    assert found == expected


def test_mixed_segments_give_the_same_bytes_in_room_for_hardly_a_frame_with_some_done_alone(
    real: FaceDetector, mixed: list[Task], expected: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_BUDGET", 100_000)
    alone = ["s0", "s2", "labelled", "s8"]
    assert list(map(content, find_faces(mixed, real, SelectionPolicy(), 4, alone=alone))) == expected


def test_short_video_that_fades_in_from_black_is_found_by_the_second_look_only(
    real: FaceDetector, mixed: list[Task]
) -> None:
    tasks = [task for task in mixed if len(task.looks) == 1]
    once = [Task(task.segment, task.path, task.sampling) for task in tasks]
    found = [[(r.segment, r.status.split(":")[0], len(r.faces.rows)) for r in find_faces(t, real, SelectionPolicy())]
             for t in (once, tasks)]  # fmt: skip
    assert found[0][0] == ("fades in", "no_face", 0)
    assert found[1][0] == ("fades in", "ok", 3)  # at 11, 16 and 20 of 23 frames
    assert [one[1] for one in found[0][1:]] == [one[1] for one in found[1][1:]] == ["no_face", "ok", "damaged"]


# ----------------------------------------------------------------------------------------------------- made-up media


class Media:
    """Takes the place of FrameReader: the path says how many frames of which size, such as ``3x64x96``.

    step: a first look takes every so-manieth.
    """

    def __init__(self, on_frame: Callable[[NDArray[np.uint8]], object] = id, step: int = 1) -> None:
        self.on_frame, self.step = on_frame, step
        self.open = 0
        self.looks: list[tuple[str, Sampling]] = []

    def __call__(self, path: str, sampling: Sampling, *arguments: Any) -> Media.Reader:
        self.looks.append((path, sampling))
        return Media.Reader(self, sampling, *map(int, path.split("x")))

    class Reader:
        damage = None
        labels_past_end = 0
        last_s = 1.0

        def __init__(self, media: Media, sampling: Sampling, count: int, height: int, width: int) -> None:
            first = range(0, count, media.step)
            self.indices = sorted(sampling.indices) if isinstance(sampling, FrameSampling) else first
            self.media, self.size = media, (height, width, 3)
            self.total = count

        def __enter__(self) -> Media.Reader:
            self.media.open += 1
            return self

        def __exit__(self, *exc: object) -> None:
            self.media.open -= 1

        def __iter__(self) -> Iterator[Frame]:
            for index in self.indices:
                picture = np.full(self.size, index % 256, np.uint8)
                self.media.on_frame(picture)
                yield Frame(picture, index, index / 25)


class Recorder:
    """A network that finds nothing, and the shapes of its batches; calls ``before`` with the number of each."""

    def __init__(self, before: Callable[[int], object] = id) -> None:
        self.before = before
        self.shapes: list[tuple[int, ...]] = []
        self.detector = make_detector(self, load_card("retinaface_tiny"))

    def __call__(self, batch: NDArray[np.float32]) -> Outputs:
        self.shapes.append(batch.shape)
        self.before(len(self.shapes) - 1)
        places = sum(-(-batch.shape[2] // stride) * -(-batch.shape[3] // stride) for stride in (8, 16, 32))
        return [np.zeros((len(batch), 2 * places, *last), np.float32) for last in ((4,), (), (10,))]

    @property
    def batches(self) -> list[int]:
        return [shape[0] for shape in self.shapes]


def use(monkeypatch: pytest.MonkeyPatch, media: Media) -> Media:
    monkeypatch.setattr(pipeline, "FrameReader", media)
    return media


def segments(*paths: str) -> list[Task]:
    return [Task(f"s{number}", path, EVERY) for number, path in enumerate(paths)]


def names(results: Iterator[Result]) -> list[str]:
    return [result.segment for result in results]


def test_batches_run_across_segments_and_frames_of_equal_network_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Media())
    recorder = Recorder()
    tasks = segments("3x64x64", "1x64x60", "2x50x33", "0x64x64", "3x64x64")
    assert names(find_faces(tasks, recorder.detector, SelectionPolicy(), 4)) == ["s0", "s1", "s2", "s3", "s4"]
    assert recorder.batches == [4, 4, 1]


def test_frame_whose_like_does_not_come_waits_for_a_bounded_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Media())
    recorder = Recorder()
    stored: list[int] = []
    for result in find_faces(segments("1x32x32", "100x64x64"), recorder.detector, SelectionPolicy(), 2):
        stored.append(len(recorder.shapes))
        assert result.status == "no_face"
    assert recorder.shapes.index((1, 3, 32, 32)) <= 4 and len(recorder.shapes) == 51


def test_frames_wait_no_longer_when_the_decoder_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_SILENCE_S", 0.05)
    first_stored = threading.Event()
    waited: list[bool] = []

    def on_frame(picture: NDArray[np.uint8]) -> None:
        if picture.shape[0] == 64:
            waited.append(first_stored.wait(LONG_S))

    use(monkeypatch, Media(on_frame))
    for _ in find_faces(segments("1x32x32", "1x64x64"), Recorder().detector, SelectionPolicy(), 8):
        first_stored.set()
    assert waited == [True]


def test_decoding_and_resizing_go_on_while_the_network_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Media())
    begun, resized = threading.Event(), threading.Event()
    seen: list[bool] = []
    recorder = Recorder(lambda number: seen.extend([begun.wait(LONG_S), resized.wait(LONG_S)]) if not number else None)
    fill, made = recorder.detector._fill, []

    def counted(*arguments: Any) -> None:
        fill(*arguments)
        made.append(arguments)
        if len(made) == 2:
            resized.set()

    monkeypatch.setattr(recorder.detector, "_fill", counted)
    tasks = segments("1x32x32", "1x32x32", "1x32x32")
    find = find_faces(
        tasks, recorder.detector, SelectionPolicy(), begin=lambda segment: begun.set() if segment == "s2" else None
    )
    assert names(find) == ["s0", "s1", "s2"] and seen == [True, True]


def test_network_goes_on_while_a_result_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Media())
    second = threading.Event()
    recorder = Recorder(lambda number: second.set() if number else None)
    with closing(find_faces(segments("1x32x32", "1x32x32"), recorder.detector, SelectionPolicy())) as results:
        assert next(results).segment == "s0"
        assert second.wait(LONG_S)


class Alive:
    """How many frames are alive at most."""

    def __init__(self) -> None:
        self.now: list[weakref.ref[Any]] = []
        self.most = 0

    def __call__(self, picture: NDArray[np.uint8]) -> None:
        self.now = [one for one in self.now if one() is not None] + [weakref.ref(picture)]
        self.most = max(self.most, len(self.now))


SHAPES = [f"1x{32 * (1 + k % 7)}x{32 * (1 + k % 5)}" for k in range(300)]


@pytest.mark.parametrize(
    ("paths", "batch"), [(["600x32x32"], 1), (["600x32x32"], 4), (["1x32x32"] * 600, 4), (SHAPES, 4), (SHAPES, 8)]
)
def test_frames_alive_are_bounded_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, paths: Sequence[str], batch: int
) -> None:
    gc.collect()
    alive, slow = Alive(), threading.Event()
    use(monkeypatch, Media(alive))
    recorder = Recorder(lambda number: slow.wait(0.3) if not number else None)  # what is before it piles up
    assert len(names(find_faces(segments(*paths), recorder.detector, SelectionPolicy(), batch))) == len(paths)
    assert sum(recorder.batches) == (600 if "600" in paths[0] else len(paths))
    # those ahead of the batches, those that wait for company, and the batches on their way through three stages
    assert 3 <= alive.most <= 8 + 4 * batch + 7 * batch


def test_frames_larger_than_the_room_are_hardly_ever_alive_together(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = Alive()
    use(monkeypatch, Media(alive))
    monkeypatch.setattr(pipeline, "_BUDGET", 1000)
    recorder = Recorder()
    assert names(find_faces(segments(*["1x64x64", "1x32x64"] * 20), recorder.detector, SelectionPolicy(), 4))
    assert recorder.batches == [1] * 40 and alive.most <= 6  # two, and what each stage was last at


def test_error_of_the_network_ends_the_work_and_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    media = use(monkeypatch, Media())

    def fail(number: int) -> None:
        if number == 3:
            raise ModelError("the network failed")

    results = find_faces(segments(*["2x32x32"] * 50), Recorder(fail).detector, SelectionPolicy())
    assert next(results).segment == "s0"
    with pytest.raises(ModelError, match="the network failed"):
        list(results)
    assert threading.active_count() == before and media.open == 0


@pytest.mark.parametrize("room", [1, 1 << 20])
def test_closing_between_results_ends_all_threads_and_closes_the_file(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    before = threading.active_count()
    media = use(monkeypatch, Media())
    monkeypatch.setattr(pipeline, "_BUDGET", room)
    with closing(find_faces(segments("1x32x32", "100000x32x32"), Recorder().detector, SelectionPolicy(), 3)) as results:
        assert next(results).segment == "s0"
    assert threading.active_count() == before and media.open == 0


def test_out_of_memory_costs_the_segment_that_needs_it_with_nothing_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    once = ["not when it is alone"]

    def on_frame(picture: NDArray[np.uint8]) -> None:
        if picture.shape[0] == 64 or (picture.shape[0] == 96 and once and once.pop()):
            raise MemoryError

    use(monkeypatch, Media(on_frame))
    tasks = segments("2x32x32", "1x32x32", "1x64x64", "1x32x32", "1x96x96", "1x32x32")
    results = list(find_faces(tasks, Recorder().detector, SelectionPolicy(), 4))
    assert [(result.segment, result.status) for result in results] == [
        (task.segment, OUT_OF_MEMORY if task.segment == "s2" else "no_face") for task in tasks
    ]
    assert all(not len(result.faces.rows) for result in results)


def test_out_of_memory_in_the_network_is_found_out_segment_by_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Media())
    recorder = Recorder()

    def too_large(number: int) -> None:
        if recorder.shapes[number][0] > 2:
            raise MemoryError

    recorder.before = too_large
    results = find_faces(segments("1x32x32", "2x32x32", "3x32x32"), recorder.detector, SelectionPolicy(), 4)
    assert [result.status for result in results] == ["no_face", "no_face", OUT_OF_MEMORY]


def test_segments_alone_begin_when_all_before_are_done_and_nothing_begins_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, Media())
    events: list[str] = []
    tasks = segments(*["1x32x32"] * 6)
    find = find_faces(tasks, Recorder().detector, SelectionPolicy(), 4, begin=events.append, alone=["s0", "s2", "s3"])
    for result in find:
        events.append(f"{result.segment} done")
    assert events[:2] == ["s0", "s0 done"]
    assert events[2:8] == ["s1", "s1 done", "s2", "s2 done", "s3", "s3 done"]
    assert sorted(events[8:]) == ["s4", "s4 done", "s5", "s5 done"]


def looking(*paths: str, most: int = 4) -> list[Task]:
    return [Task(f"s{number}", path, EVERY, looks=[MoreFrames(most)]) for number, path in enumerate(paths)]


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_second_looks_are_taken_while_other_segments_are_under_way_and_results_stay_in_order(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    media = use(monkeypatch, Media(step=5))
    paths = ["2x32x32", "5x32x32", "1x32x32", "6x64x64", "0x32x32", "20x32x32", "2x32x64", *["9x32x32"] * 30]
    begun: list[str] = []
    recorder = Recorder()
    find = find_faces(looking(*paths), recorder.detector, SelectionPolicy(), batch, begin=begun.append)
    assert names(find) == begun == [f"s{number}" for number in range(len(paths))]
    second = [path for path, sampling in media.looks if isinstance(sampling, FrameSampling)]
    assert second == [path for path in paths if path not in ("1x32x32", "0x32x32", "20x32x32")]
    kinds = [isinstance(sampling, FrameSampling) for _, sampling in media.looks]
    assert kinds.index(True) <= (5 if batch < 16 else 17)  # those begun while one waits: 4, or a batch
    assert sum(recorder.batches) == sum(map(frames_looked_at, paths))


def test_segments_that_need_no_second_look_do_not_pile_up_behind_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Media(step=5))
    begun: list[str] = []
    tasks = looking("9x32x32", *["1x32x32"] * 90)  # a video, and photos
    with closing(find_faces(tasks, Recorder().detector, SelectionPolicy(), begin=begun.append)) as found:
        assert next(found).segment == "s0"
        assert len(begun) < 20


def frames_looked_at(path: str) -> int:
    """By a first look at every fifth frame, and a second one at up to four more if that took fewer."""
    total = int(path.split("x")[0])
    first = set(range(0, total, 5))
    more = {int(total * share) for share in (1 / 8, 3 / 8, 5 / 8, 7 / 8)} if total > 1 and len(first) < 4 else set()
    return len(first | more)


@pytest.mark.parametrize("last", [0, 3, 9])
def test_closing_while_a_second_look_is_waited_for_ends_all_threads(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    before = threading.active_count()
    media = use(monkeypatch, Media(step=5))
    slow = threading.Event()
    recorder = Recorder(lambda number: slow.wait(0.2) if number == last else None)
    with closing(find_faces(looking(*["9x32x32"] * 30), recorder.detector, SelectionPolicy())) as results:
        assert next(results).segment == "s0"
    assert threading.active_count() == before and media.open == 0


def test_second_look_spreads_over_what_the_first_left_out() -> None:
    def seen(total: int, *numbers: int, sure: bool = False) -> Seen:
        return Seen([SeenFrame(number, number / 25, sure) for number in numbers], total, total / 25)

    look = MoreFrames(4)
    assert look(seen(24, 0)) == FrameSampling(frozenset({3, 9, 15, 21}))
    assert look(seen(24, 0, 9)) == FrameSampling(frozenset({3, 15, 21}))
    assert look(seen(2, 0)) == FrameSampling(frozenset({1}))
    assert look(seen(24, 0, sure=True)) is look(seen(500, 0, 25, 50, 75)) is look(seen(1, 0)) is look(seen(0)) is None


def test_gaps_are_filled_behind_a_key_frame_without_a_sure_face_and_where_the_next_one_is_far() -> None:
    def stretches(last_s: float, *frames: tuple[float, bool]) -> tuple[tuple[float, float], ...]:
        seen = Seen([SeenFrame(int(25 * time), time, sure) for time, sure in frames], int(25 * last_s) + 1, last_s)
        found = FillGaps(1, 12)(seen)
        return found.stretches if isinstance(found, StretchSampling) else ()

    assert stretches(30.0, (0.0, True), (10.0, True), (20.0, True)) == ()
    assert stretches(33.0, (0.0, True), (12.5, True), (20.0, True)) == ((0.0, 12.5), (20.0, math.inf))
    assert stretches(30.0, (0.0, True), (10.0, False), (20.0, True)) == ((10.0, 20.0),)
    found = stretches(30.0, (20.0, False), (0.0, False), (1.0, True))
    assert found == ((1.0, 20.0), (20.0, math.inf))  # 0 to 1 s holds no frame to add
    assert stretches(0.9, (0.0, False)) == stretches(0.0) == ()


def test_short_video_with_one_key_frame_is_searched_in_its_middle_too() -> None:
    assert FillGaps(1, 12)(Seen([SeenFrame(0, 0.0, True)], 100, 3.96)) == FrameSampling(frozenset({50}))
    assert FillGaps(1, 12)(Seen([SeenFrame(0, 0.0, True)], 1, 0.0)) is None
    assert FillGaps(1, 12)(Seen([SeenFrame(n, n / 25, True) for n in (0, 50)], 100, 3.96)) is None


@pytest.mark.parametrize("labels, options, message", [
    (False, {"fps": 0.0}, "fps: expected more than 0, found 0"),
    (True, {"fps": 0.0}, "fps: expected more than 0, found 0"),
    (True, {"det_window": 4}, "window: expected an odd number of frames, found 4"),
])  # fmt: skip
def test_sampling_that_cannot_be_is_refused_without_any_segment(
    tmp_path: Path, labels: bool, options: dict[str, Any], message: str
) -> None:
    """On no segment, the settings are tried before ``--force true`` removes a finished set."""
    for name in ("vid.scp", "face_boundingbox"):
        (tmp_path / name).touch()
    boxes = f"{tmp_path}/face_boundingbox" if labels else None
    with pytest.raises(VidPersonError, match=message):
        files = {"scp": f"{tmp_path}/vid.scp", "model": f"{tmp_path}/no model", "output_dir": f"{tmp_path}/job"}
        detect_faces(cli.fill(DetectOptions, **files, labels=boxes, **options))


@pytest.mark.parametrize("text", ["1e9", "1 10.5", "0", "-1", "nan"])
def test_scales_that_no_frame_fits_in_are_refused_with_what_was_found(text: str) -> None:
    assert scales("0.5 1 10") == [0.5, 1, 10] and scales("") == [1]
    with pytest.raises(ArgumentTypeError, match=f"found {text}"):
        scales(text)
