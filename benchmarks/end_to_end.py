"""What stages 2 and 3 cost on 720p video, beside decoding only and the networks only, measured in one run.

Inputs:  a clip with faces (made into a 720p video, see benchmarks/make_video.py) and the installed networks.
Outputs: Markdown tables in CPU seconds of this process (user and system, all threads) per minute of video, and wall
         seconds. The networks get the same batches as in the stages; these stay in memory, 260 MB per
         minute of video.

Every figure is the median of --repeat rounds after a first one that does not count. All run on one core: on two, the
threads of a stage take caches and clock from each other, and CPU seconds beside those of one thread mean little.

Example:
  python benchmarks/end_to_end.py --clip talk.mp4 --detector exp/face_models/retinaface_mnet025_pytorch \
      --embedder exp/face_models/mobilefacenet_casia_pytorch
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest import mock

from vidperson import cli

if TYPE_CHECKING:
    import numpy as np

BARE = "decoding only, without conversion to RGB (PyAV)"
READING = "decoding only (FrameReader, 1 frame a second)"
STAGE2, DETECTOR, JOINING = "stage 2", "detector only", "joining of the jobs"
STAGE3, EMBEDDER = "stage 3", "face network only"
OPENING, REST = "opening the network, once per job", "bookkeeping and the rest"


class Stopwatch:
    """CPU seconds per part of a stage; the parts are functions that must not call one another.

    They may run in several threads: each counts the seconds of its own thread.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.batches: list[np.ndarray] = []
        self._patches = contextlib.ExitStack()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        begin = time.thread_time()
        yield
        self.seconds[name] += time.thread_time() - begin

    def function(self, owner: Any, attribute: str, name: str) -> None:
        """Time a function or method."""
        original = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        self._patches.enter_context(mock.patch.object(owner, attribute, timed))

    def iterator(self, owner: Any, attribute: str, name: str) -> None:
        """Time a function or method that returns an iterator, as it is used up."""
        original = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = original(*args, **kwargs)
            while True:
                with self.part(name):
                    item = next(items, self)
                if item is self:
                    return
                yield item

        self._patches.enter_context(mock.patch.object(owner, attribute, timed))

    def network(self) -> None:
        """Time the opening and the calls of the stage's network, and keep its batches."""
        import vidperson.networks.install
        import vidperson.networks.opening
        from steps.options import kept_open

        original = vidperson.networks.opening.open_network

        def open_network(*args: Any) -> Callable[[np.ndarray], list[np.ndarray]]:
            with self.part(OPENING):
                network = original(*args)

            def timed(batch: np.ndarray) -> list[np.ndarray]:
                self.batches.append(batch)
                with self.part("network"):
                    return network(batch)

            return timed

        self._patches.enter_context(mock.patch.object(vidperson.networks.opening, "open_network", open_network))
        kept_open.cache_clear()  # a network that is open already would not be timed
        self._patches.callback(kept_open.cache_clear)
        self.function(vidperson.networks.install, "installed_model", OPENING)

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *exc: object) -> None:
        self._patches.close()


def end_to_end(
    clip: str,
    detector: str,
    embedder: str,
    minutes: int,
    repeat: int,
    engine: str,
    work_dir: str | None = None,
) -> None:
    """Print the tables."""
    import cv2

    from benchmarks.make_video import make_video

    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(dir=work_dir) as folder:
        video = Path(folder) / "video.mp4"
        make_video(clip, minutes, str(video))
        for number in range(repeat + 1):
            rounds.append(measure(video, detector, embedder, engine, Path(folder) / str(number)))
    print(
        f"{minutes} min of 1280 x 720 video, 25 frames a second, {rounds[0].faces / minutes:.0f} faces a minute; "
        f"engine {engine}, 1 thread, 1 core, median of {repeat}\n"
    )
    report(rounds[1:], minutes)


@dataclass(frozen=True)
class Round:
    """What one round found.

    costs: per task (CPU seconds of this process, wall seconds).
    parts: per stage and part CPU seconds.
    """

    costs: dict[str, tuple[float, float]]
    parts: dict[str, dict[str, float]]
    faces: int


def measure(video: Path, detector: str, embedder: str, engine: str, folder: Path) -> Round:
    """Each task once."""
    costs = {BARE: cost(decode, video), READING: cost(read_frames, video)}
    with stage2_stopwatch() as watch2:
        costs[STAGE2] = cost(stage2, [video], detector, engine, folder)
    costs[DETECTOR] = cost_of_network(detector, engine, watch2.batches)
    costs[JOINING] = cost(join, folder)
    with stage3_stopwatch() as watch3:
        costs[STAGE3] = cost(stage3, embedder, engine, folder)
    costs[EMBEDDER] = cost_of_network(embedder, engine, watch3.batches)
    parts = {STAGE2: watch2.seconds, STAGE3: watch3.seconds}
    for stage, seconds in parts.items():
        seconds[REST] = costs[stage][0] - sum(seconds.values())
    return Round(costs, parts, sum(len(batch) for batch in watch3.batches))


def report(rounds: list[Round], minutes: int) -> None:
    """Print costs per minute, ratios, and the parts of each stage."""
    print("| what | CPU s per minute of video | wall s |\n|---|---|---|")
    cpu: dict[str, float] = {}
    for task in rounds[0].costs:
        cpu[task], wall = (median(one.costs[task][kind] for one in rounds) / minutes for kind in (0, 1))
        print(f"| {task} | {cpu[task]:.2f} | {wall:.2f} |")
    floor2, floor3 = cpu[READING] + cpu[DETECTOR], cpu[EMBEDDER]
    both = cpu[STAGE2] + cpu[JOINING] + cpu[STAGE3]
    print("\n| ratio of CPU seconds | |\n|---|---|")
    print(f"| stage 2 / (decoding + detector) | {cpu[STAGE2] / floor2:.3f} |")
    print(f"| stage 3 / face network | {cpu[STAGE3] / floor3:.3f} |")
    print(f"| stages 2 and 3 / (decoding + both networks) | {both / (floor2 + floor3):.3f} |")
    for stage in rounds[0].parts:
        parts = {part: median(one.parts[stage][part] for one in rounds) / minutes for part in rounds[0].parts[stage]}
        print(f"\n| part of {stage} | CPU s per minute of video | share |\n|---|---|---|")
        for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
            print(f"| {part} | {seconds:.3f} | {100 * seconds / cpu[stage]:.1f} % |")


def cost(task: Callable[..., object], *args: object) -> tuple[float, float]:
    """(CPU seconds of this process, wall seconds) of a call."""
    cpu, wall = time.process_time(), time.monotonic()
    task(*args)
    return time.process_time() - cpu, time.monotonic() - wall


def cost_of_network(model: str, engine: str, batches: list[np.ndarray]) -> tuple[float, float]:
    """The cost of the batches, without opening the network. Raises DataError when there are none."""
    from vidperson.errors import DataError
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    if not batches:
        raise DataError("no face was found in the clip; give one with faces")
    network = open_network(installed_model(model), engine)
    network(batches[0])
    return cost(lambda: [network(batch) for batch in batches])


def decode(video: Path) -> None:
    """Every frame, thrown away."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def read_frames(video: Path) -> None:
    """What stage 2 reads, thrown away."""
    from vidperson.media.video import FrameReader, UniformSampling

    with FrameReader(video, UniformSampling(1), threads=1) as reader:
        for _ in reader:
            pass


def stage2(videos: list[Path], detector: str, engine: str, folder: Path) -> None:
    from steps_face.detect_faces import DetectOptions, detect_faces

    folder.mkdir()
    (folder / "vid.scp").write_text("".join(f"v{number:04d} {video}\n" for number, video in enumerate(videos)))
    scp, jobs = str(folder / "vid.scp"), str(folder / "jobs" / "1")
    detect_faces(cli.fill(DetectOptions, scp=scp, model=detector, output_dir=jobs, engine=engine))


def join(folder: Path) -> None:
    from vidperson.face.detection import ARCHIVES, STATES
    from vidperson.io.lines import read_scp
    from vidperson.io.merging import merge_jobs

    merge_jobs([folder / "jobs" / "1"], folder / "faces", ARCHIVES, STATES, read_scp(folder / "vid.scp"))


def stage3(embedder: str, engine: str, folder: Path) -> None:
    from steps.options import EngineOptions
    from steps_face.extract_embeddings import ExtractOptions, extract_embeddings

    how = EngineOptions(engine=engine)
    extract_embeddings(
        ExtractOptions(folder / "faces", folder / "vid.scp", Path(embedder), folder / "embed", network=how)
    )


def stage2_stopwatch() -> Stopwatch:
    import cv2

    from vidperson.face import candidates, detector
    from vidperson.io.job_store import JobStore
    from vidperson.media.video import FrameReader

    watch = Stopwatch()
    watch.network()
    watch.function(FrameReader, "__init__", "decoding")
    watch.iterator(FrameReader, "__iter__", "decoding")
    watch.iterator(detector.FaceDetector, "passes", "resizing and normalising")
    watch.function(detector.FaceDetector, "decode", "decoding of boxes")
    watch.function(detector, "non_maximum_suppression", "suppression of overlaps")
    watch.function(candidates, "align_faces", "alignment")
    watch.function(cv2, "imencode", "PNG")
    watch.function(JobStore, "append", "writing of archives")
    return watch


def stage3_stopwatch() -> Stopwatch:
    import cv2

    from vidperson.face import crops
    from vidperson.io.job_store import JobStore

    watch = Stopwatch()
    watch.network()
    watch.iterator(crops, "read_tar_files", "reading of archives")
    watch.function(cv2, "imdecode", "PNG")
    watch.function(JobStore, "append", "writing of archives")
    return watch


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--clip", required=True, help="a video with faces")
    parser.add_argument("--detector", required=True, help="folder of the installed detector")
    parser.add_argument("--embedder", required=True, help="folder of the installed face network")
    parser.add_argument("--minutes", type=int, default=2, help="length of the video")
    parser.add_argument("--repeat", type=int, default=3, help="rounds to take the median of")
    parser.add_argument("--engine", default="auto", help="what runs the networks")
    parser.add_argument("--work-dir", help="folder for temporary files; default: the system's")
    cli.main(end_to_end, parser.parse_args())
