"""What stages 2 and 3 cost on 720p video, beside decoding alone and the networks alone, all measured in one run.

Inputs:  a clip with faces (made into a 720p video, see benchmarks/make_video.py) and the installed networks.
Outputs: Markdown tables in CPU seconds of this process (user and system, all threads) per minute of video, and wall
         seconds. The networks alone get the very batches that the stages gave them; they stay in memory, 260 MB per
         minute of video.

Every figure is the median of --repeat rounds behind a first one that does not count.

Example:
  python benchmarks/end_to_end.py --clip talk.mp4 --detector exp/face_models/retinaface_mnet025_pytorch \
      --embedder exp/face_models/mobilefacenet_casia_pytorch
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest import mock

from vidperson import cli

if TYPE_CHECKING:
    import numpy as np

OPENING, OVERHEAD = "opening the network, once per job", "bookkeeping and the rest"


class Stopwatch:
    """CPU seconds per part of a stage; the parts are functions that must not call one another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.batches: list[np.ndarray] = []
        self._patches = contextlib.ExitStack()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.seconds[name] += time.process_time() - begin

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
        import vidperson.engines
        import vidperson.models.install

        original = vidperson.engines.load_network

        def load_network(*args: Any) -> Callable[[np.ndarray], list[np.ndarray]]:
            with self.part(OPENING):
                network = original(*args)

            def timed(batch: np.ndarray) -> list[np.ndarray]:
                self.batches.append(batch)
                with self.part("network"):
                    return network(batch)

            return timed

        self._patches.enter_context(mock.patch.object(vidperson.engines, "load_network", load_network))
        self.function(vidperson.models.install, "installed_model", OPENING)

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *exc: object) -> None:
        self._patches.close()


def end_to_end(
    clip: str, detector: str, embedder: str, minutes: int, repeat: int, engine: str, work_dir: str | None = None
) -> None:
    """Print the tables."""
    import cv2

    from benchmarks.make_video import make_video

    with tempfile.TemporaryDirectory(dir=work_dir) as folder:
        video = Path(folder) / "video.mp4"
        make_video(clip, minutes, str(video))
        rounds: list[dict[str, tuple[float, float]]] = []
        parts: dict[str, list[dict[str, float]]] = {"stage 2": [], "stage 3": []}
        for number in range(repeat + 1):
            costs: dict[str, tuple[float, float]] = {}
            round_folder = Path(folder) / str(number)
            cv2.setNumThreads(1)
            costs["decoding alone, without conversion to RGB (PyAV)"] = cost(lambda: decode(video))
            costs["decoding alone (FrameReader, 1 frame a second)"] = cost(lambda: read_frames(video))
            with stage2_stopwatch() as watch2:
                costs["stage 2"] = cost(lambda: stage2(video, detector, engine, round_folder))
            costs["detector alone"] = cost(*replay(detector, engine, watch2.batches))
            costs["joining of the jobs"] = cost(lambda: join(round_folder))
            with stage3_stopwatch() as watch3:
                costs["stage 3"] = cost(lambda: stage3(embedder, engine, round_folder))
            costs["face network alone"] = cost(*replay(embedder, engine, watch3.batches))
            if number:
                rounds.append(costs)
                parts["stage 2"].append(watch2.seconds)
                parts["stage 3"].append(watch3.seconds)
    faces = sum(len(batch) for batch in watch3.batches)
    print(f"{minutes} min of 1280 x 720 video at 25 frames a second, {faces / minutes:.0f} faces a minute, ", end="")
    print(f"engine {engine}, 1 thread, median of {repeat}\n")
    report(rounds, parts, minutes)


def report(rounds: list[dict[str, tuple[float, float]]], parts: dict[str, list[dict[str, float]]], minutes: int) -> None:
    """The tables: costs per minute, ratios, and the parts of each stage."""
    print("| what | CPU s per minute of video | wall s |\n|---|---|---|")
    cpu: dict[str, float] = {}
    for name in rounds[0]:
        cpu[name] = median(costs[name][0] for costs in rounds) / minutes
        print(f"| {name} | {cpu[name]:.2f} | {median(costs[name][1] for costs in rounds) / minutes:.2f} |")
    reading = cpu["decoding alone (FrameReader, 1 frame a second)"]
    floor2, floor3 = reading + cpu["detector alone"], cpu["face network alone"]
    both = cpu["stage 2"] + cpu["joining of the jobs"] + cpu["stage 3"]
    print("\n| ratio of CPU s | |\n|---|---|")
    print(f"| stage 2 / (decoding + detector alone) | {cpu['stage 2'] / floor2:.3f} |")
    print(f"| stage 3 / face network alone | {cpu['stage 3'] / floor3:.3f} |")
    print(f"| stages 2 and 3 / (decoding + both networks alone) | {both / (floor2 + floor3):.3f} |")
    for stage, seconds in parts.items():
        whole = cpu[stage]
        print(f"\n| part of {stage} | CPU s per minute of video | share |\n|---|---|---|")
        medians = {name: median(one[name] for one in seconds) / minutes for name in seconds[0]}
        medians[OVERHEAD] = whole - sum(medians.values())
        for name, value in sorted(medians.items(), key=lambda item: -item[1]):
            print(f"| {name} | {value:.3f} | {100 * value / whole:.1f} % |")


def cost(*tasks: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds of this process, wall seconds) of the last task; those before it only prepare."""
    for task in tasks[:-1]:
        task()
    cpu, wall = time.process_time(), time.monotonic()
    tasks[-1]()
    return time.process_time() - cpu, time.monotonic() - wall


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


def replay(model: str, engine: str, batches: list[np.ndarray]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Tasks: a first batch through a fresh network, and all of them."""
    from vidperson.engines import load_network
    from vidperson.models.install import installed_model

    network = load_network(installed_model(model).network, engine)
    return lambda: network(batches[0]), lambda: [network(batch) for batch in batches]


def stage2(video: Path, detector: str, engine: str, folder: Path) -> None:
    from steps_face.detect_faces import detect_faces

    folder.mkdir()
    (folder / "vid.scp").write_text(f"video {video}\n")
    detect_faces(str(folder / "vid.scp"), detector, str(folder / "jobs" / "1"), engine=engine)


def join(folder: Path) -> None:
    from steps_face.merge_jobs import merge

    with contextlib.redirect_stdout(None):
        merge(str(folder / "vid.scp"), str(folder / "jobs"), 1, "faces.ark quality.ark crops.tar", str(folder / "faces"))


def stage3(embedder: str, engine: str, folder: Path) -> None:
    from steps_face.extract_embeddings import extract_embeddings

    extract_embeddings(str(folder / "faces"), str(folder / "vid.scp"), embedder, str(folder / "embed"), engine=engine)


def stage2_stopwatch() -> Stopwatch:
    import cv2

    from vidperson.io.job_store import JobStore
    from vidperson.media.video import FrameReader
    from vidperson.models import candidates, detector

    watch = Stopwatch()
    watch.network()
    watch.function(FrameReader, "__init__", "decoding")
    watch.iterator(FrameReader, "__iter__", "decoding")
    watch.function(detector.FaceDetector, "_prepare", "resizing and normalising")
    for decoder in set(detector.DECODERS.values()):
        watch.function(decoder, "decode", "decoding of boxes")
    watch.function(detector, "non_maximum_suppression", "suppression of overlaps")
    watch.function(candidates, "align_faces", "alignment")
    watch.function(cv2, "imencode", "PNG")
    watch.function(JobStore, "append", "writing of archives")
    return watch


def stage3_stopwatch() -> Stopwatch:
    import cv2

    from vidperson.io import crops
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
    parser.add_argument("--engine", default="openvino", help="what runs the networks")
    parser.add_argument("--work-dir", help="folder for the video and the outputs, which are removed; default: the system's")
    cli.main(end_to_end, parser.parse_args())
