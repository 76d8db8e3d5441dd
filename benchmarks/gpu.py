#!/usr/bin/env python3
"""Everything worth knowing from a GPU, in one call of less than eight minutes, or the parts that are asked for.

Outputs: Markdown tables on stdout and in OUTPUT_DIR/gpu.md, which grows with each row:
  machine    card, driver, processor and versions
  matrices   the rate of a large matrix product in each precision: the peak that networks are compared with
  networks   items per second and share of that peak, for each network, engine, precision and batch
  training   images per second of the training loop, and its share of the peak
  stages     seconds of stages 2 and 3 on a 720p video beside those of decoding only
  tests      the engine tests on this device
Networks have random weights, and batch normalisation that fits them, so that nothing is downloaded.
What cannot run here (no such engine, package or architecture, no time left) is a row that says so. What should run and
fails is a row, too, and the exit status is 1.

Example:
  python benchmarks/gpu.py --device cuda --output-dir exp/gpu
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidperson import cli
from vidperson.errors import EngineError
from vidperson.networks.card import Input, Output, PictureInput

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vidperson.networks.install import InstalledModel

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 450
PARTS = ("matrices", "networks", "training", "stages", "tests")
ENGINES = ("torch", "onnxruntime")
CROP = PictureInput("rgb", (127.5,) * 3, (127.5,) * 3, 112, 112)
FRAME = PictureInput("rgb", (104.0, 117.0, 123.0), (1.0,) * 3)
EMBEDDING, SMALL = Output(embedding_size=512), Output(embedding_size=128)
ANCHORS = Output(decoder="retinaface")


@dataclass(frozen=True)
class Case:
    """A network to measure. item: the shape of one item. quick: also measured with ``--quick``.

    To measure another network, add a row to ``CASES``; until its architecture exists the table says so.
    """

    label: str
    architecture: str
    kind: str
    input: Input
    output: Output
    item: tuple[int, ...]
    batches: tuple[int, ...]
    quick: bool = False


CASES = (
    Case("small ResNet", "small_resnet", "face_embedder", CROP, SMALL, (3, 112, 112), (1, 16, 64, 256), quick=True),
    Case("R50", "iresnet50", "face_embedder", CROP, EMBEDDING, (3, 112, 112), (1, 16, 64, 256)),
    Case("R100", "iresnet100", "face_embedder", CROP, EMBEDDING, (3, 112, 112), (1, 16, 64, 256)),
    Case("RetinaFace R50", "retinaface_resnet50", "face_detector", FRAME, ANCHORS, (3, 448, 800), (1, 8, 32)),
    Case("RetinaFace mnet0.25", "retinaface_mobilenet025", "face_detector", FRAME, ANCHORS, (3, 448, 800), (1, 8, 32)),
    Case("RetinaFace tiny", "retinaface_tiny", "face_detector", FRAME, ANCHORS, (3, 448, 800), (1, 8, 32), quick=True),
    Case(
        "ECAPA-TDNN", "ecapa_tdnn", "speaker_embedder", CROP, Output(embedding_size=192), (300, 80), (1, 64, 256), True
    ),
)


class Skipped(Exception):
    """What cannot run here, and need not."""


class Report:
    """Markdown on stdout and in a file, row by row."""

    def __init__(self, path: Path, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.lines, self.failed = path, list[str](), list[str]()
        self._end = time.monotonic() + seconds

    def line(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)
        self.path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def table(self, title: str, *columns: str) -> None:
        self.line(f"\n## {title}\n")
        self.line("| " + " | ".join(columns) + " |")
        self.line("|---" * len(columns) + "|")

    def left(self) -> float:
        """Seconds until no row is begun any more."""
        return max(0.0, self._end - time.monotonic())

    def row(self, names: tuple[Any, ...], values: Callable[[], tuple[Any, ...]]) -> None:
        """A row of names and what ``values`` returns, or of names and the reason why there are no values."""
        try:
            if not self.left():
                raise Skipped("no time left")
            cells = values()
        except (Skipped, ImportError, EngineError) as error:
            cells = (f"skipped: {_short(error)}",)
        except Exception as error:  # the other rows are worth having whatever happens to this one
            cells = (f"FAILED: {_short(error)}",)
            self.failed.append(" ".join(map(str, names)))
        self.line("| " + " | ".join(map(str, (*names, *cells))) + " |")


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()).replace("|", "/")
    return (text if len(text) <= 160 else text[:160] + " ...") or type(error).__name__


def measure_gpu(
    device: str, quick: bool, parts: Sequence[str], seconds: float, output_dir: str, clip: str, threads: int
) -> None:
    """Write the report. Leaves the process with status 1 when something that should run has failed."""
    import torch

    threads = 1 if quick else threads  # other work on the machine disturbs one thread least
    torch.set_num_threads(threads)
    report = Report(Path(output_dir) / "gpu.md", seconds)
    report.line("# One GPU" if device != "cpu" else "# The same measurements without a GPU: a test of the script")
    describe_machine(report, device)
    if device != "cpu":
        _expect_gpu()
    peaks: dict[str, float] = {}
    if "matrices" in parts:
        peaks = measure_matrices(report, device, 512 if quick else 8192)
    with tempfile.TemporaryDirectory() as folder:
        made = Models(Path(folder) / "models")
        cases = [case for case in CASES if "networks" in parts and (case.quick or not quick)]
        for case in cases:
            measure_network(report, case, made, device, peaks, case.batches[:1] if quick else case.batches, threads)
        if "training" in parts:
            measure_training(report, device, peaks, quick, Path(folder) / "training")
        if "stages" in parts:
            embedder, minutes = ("small ResNet", 0) if quick else ("R100", 2)
            counts = [threads] if quick else sorted({1, threads})
            measure_stages(report, device, made, embedder, minutes, clip, counts, Path(folder))
    if "tests" in parts:
        run_engine_tests(report, quick)
    report.line(f"\n{seconds - report.left():.0f} s in all.")
    if report.failed:
        report.line("FAILED: " + "; ".join(report.failed))
        sys.exit(1)


# --- machine


def describe_machine(report: Report, device: str) -> None:
    """Card, driver, processor and versions."""
    report.table("Machine", "what", "found")
    for name, value in machine(device).items():
        report.line(f"| {name} | {value} |")


def machine(device: str) -> dict[str, str]:
    """What figures of this machine depend on, name to text."""
    found = {"GPU": "none asked for"}
    if device != "cpu":
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,power.limit", "--format=csv,noheader"]
        found["GPU (name, memory, driver, power limit)"] = _output(query) or "nvidia-smi gave nothing"
        del found["GPU"]
    cpu = re.search(r"model name\s*: (.*)", _output(["cat", "/proc/cpuinfo"]))
    found["processor"] = f"{cpu[1] if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} cores in use"
    found["Python"] = platform.python_version()
    for package in ("numpy", "torch", "onnxruntime", "onnxruntime-gpu", "openvino", "av", "opencv-python-headless"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        import torch

        found["CUDA and cuDNN of torch"] = f"{torch.version.cuda}, {torch.backends.cudnn.version()}"
        import onnxruntime

        found["providers of onnxruntime"] = " ".join(onnxruntime.get_available_providers())
    except ImportError as error:
        found[str(error.name)] = "not installed"
    found["revision"] = _output(["git", "describe", "--always", "--dirty"]) or "not a git repository"
    return found


def _output(command: list[str]) -> str:
    """What a command printed, on one line per line; empty where it cannot run."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _expect_gpu() -> None:
    """Raises EngineError where torch does not see the GPU."""
    import torch

    from vidperson.engines import missing_gpu

    if not torch.cuda.is_available():
        raise missing_gpu("torch", 0, 0)


# --- matrices


def precisions(device: str) -> tuple[str, ...]:
    """What is measured on a device; tf32 is float32 with products rounded to 10 bits."""
    return ("fp32", "bf16") if device == "cpu" else ("fp32", "tf32", "bf16", "fp16")


def measure_matrices(report: Report, device: str, size: int) -> dict[str, float]:
    """The rate of a product of two square matrices per precision, in operations per second."""
    peaks: dict[str, float] = {}
    report.table(f"Product of two matrices of {size} x {size}", "precision", "TFLOP/s")
    for precision in precisions(device):

        def rate(precision: str = precision) -> tuple[str]:
            import torch

            matrix = torch.randn(size, size, device=device).to(dtype_of(precision))
            set_tf32(precision == "tf32")
            peaks[precision] = 2 * size**3 / shortest(lambda: matrix @ matrix, device)
            return (f"{peaks[precision] / 1e12:.4g}",)

        report.row((precision,), rate)
    return peaks


def dtype_of(precision: str) -> torch.dtype:
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def set_tf32(allowed: bool) -> None:
    """Whether float32 products and convolutions may be computed in TensorFloat-32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def shortest(task: Callable[[], object], device: str, seconds: float = 0.3) -> float:
    """Wall seconds of the shortest of some calls, each waited for, after two that do not count."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    found: list[float] = []
    for _ in range(2):
        task()
    wait()
    while len(found) < 3 or (sum(found) < seconds and len(found) < 200):
        start = time.perf_counter()
        task()
        wait()
        found.append(time.perf_counter() - start)
    return min(found)


# --- networks


class Models:
    """Networks of random weights, made and installed when they are asked for. Raises Skipped where there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: dict[str, nn.Module] = {}
        self._installed: dict[str, InstalledModel] = {}

    def module(self, case: Case) -> nn.Module:
        """The network in evaluation mode, on the CPU."""
        import torch

        from vidperson.networks.convert import ARCHITECTURES, build_network

        if case.architecture not in ARCHITECTURES:
            raise Skipped(f"there is no architecture '{case.architecture}' yet")
        if case.label not in self._modules:
            torch.manual_seed(0)
            network = build_network(case.architecture, case.input, case.output)
            self._modules[case.label] = settle(network, case.item)
        return self._modules[case.label]

    def installed(self, case: Case) -> InstalledModel:
        """The network as stage 0 installs one."""
        from vidperson.networks.card import NetworkFile, card_text
        from vidperson.networks.convert import export_network
        from vidperson.networks.install import install_model
        from vidperson.training.export import new_card

        if case.label not in self._installed:
            network = self.module(case)
            name = f"random_{case.architecture}"
            made = self.folder / "made" / name
            made.mkdir(parents=True, exist_ok=True)
            card = new_card(name, case.kind, "random weights", "none", "none", case.input, case.output)
            export_network(network, card, made / f"{name}.onnx")
            digest = hashlib.sha256((made / f"{name}.onnx").read_bytes()).hexdigest()
            card = dataclasses.replace(card, file=NetworkFile(f"{name}.onnx", digest))
            (made / f"{name}.yaml").write_text(card_text(card), encoding="utf-8")
            self._installed[case.label] = install_model(str(made / f"{name}.yaml"), self.folder / "installed")
        return self._installed[case.label]


def settle(network: nn.Module, item: tuple[int, ...]) -> nn.Module:
    """The network in evaluation mode, with the statistics of a random batch in its batch normalisation.

    Without them the values of a deep network of random weights overflow, and a GPU computes infinities faster.
    """
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, *item))
    return network.eval()


def operations(network: nn.Module, item: tuple[int, ...]) -> float:
    """Multiplications and additions for one item in convolutions and matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *item))
    return float(counter.get_total_flops())


def measure_network(
    report: Report,
    case: Case,
    models: Models,
    device: str,
    peaks: Mapping[str, float],
    batches: tuple[int, ...],
    threads: int,
) -> None:
    """Rows for each engine, precision and batch.

    Engines take arrays in the memory of the computer and give such: copies count. ``module`` is the PyTorch module with
    its input on the device: what is left when nothing is copied and nothing is recorded.
    """
    shape = " x ".join(map(str, case.item))
    report.table(f"{case.label}, items of {shape}", "how", "precision", "batch", "items/s", "ms", "TFLOP/s", "of peak")
    try:
        work = operations(models.module(case), case.item)
    except (Skipped, ImportError) as error:
        report.line(f"| skipped: {_short(error)} |" + " |" * 6)
        return

    def cells(batch: int, seconds: float, precision: str) -> tuple[str, ...]:
        rate = work * batch / seconds
        share = f"{rate / peaks[precision]:.1%}" if precision in peaks else "-"
        return f"{batch / seconds:.1f}", f"{1000 * seconds:.2f}", f"{rate / 1e12:.3g}", share

    def of_engine(engine: str, precision: str, batch: int) -> tuple[str, ...]:
        from vidperson.engines import load_network

        network = load_network(models.installed(case).network, engine, device, threads, precision, batch)
        items = random_items(case, batch)
        return cells(batch, shortest(lambda: network(items), device), precision)

    def of_module(precision: str, batch: int) -> tuple[str, ...]:
        import torch

        network = models.module(case).to(device, dtype_of(precision))
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        items = torch.from_numpy(random_items(case, batch)).to(device, dtype_of(precision))
        if items.ndim == 4:
            items = items.contiguous(memory_format=torch.channels_last)
        set_tf32(precision == "tf32")
        try:
            with torch.inference_mode():
                return cells(batch, shortest(lambda: network(items), device), precision)
        finally:
            models.module(case).to("cpu", torch.float32)

    for batch in batches:
        for engine in ENGINES:
            for precision in precisions(device):
                if precision != "tf32" and (engine == "torch" or precision == "fp32"):
                    row = (f"engine {engine}", precision, batch)
                    report.row(row, lambda e=engine, p=precision, b=batch: of_engine(e, p, b))  # type: ignore[misc]
    for precision in precisions(device):
        row = ("module", precision, batches[-1])
        report.row(row, lambda p=precision: of_module(p, batches[-1]))  # type: ignore[misc]


def random_items(case: Case, count: int) -> Any:
    """(count, *item) float32, of mean 0 and variance 1."""
    import numpy as np

    return np.random.default_rng(0).normal(size=(count, *case.item)).astype(np.float32)


# --- training


def measure_training(report: Report, device: str, peaks: Mapping[str, float], quick: bool, folder: Path) -> None:
    """Images per second of the training loop with ArcFace over 10,000 identities, images made beforehand."""
    case, batch, steps = (_case("small ResNet"), 4, 4) if quick else (_case("R50"), 128, 40)
    report.table(f"Training of {case.label}, batches of {batch}", "precision", "images/s", "ms per step", "of peak")

    def rate(precision: str) -> tuple[str, ...]:
        per_s, work = train_rate(case, device, precision, batch, steps, folder / precision)
        share = f"{3 * work * per_s / peaks[precision]:.1%}" if precision in peaks else "-"
        return f"{per_s:.1f}", f"{1000 * batch / per_s:.1f}", share

    for precision in ("fp32", "bf16"):
        report.row((precision,), lambda p=precision: rate(p))  # type: ignore[misc]
    report.line("\nA step counts as three passes. On a GPU, fp32 leaves tf32 to torch's defaults, as training does.")


class SyntheticBatches:
    """The same random crops in every step, on the CPU as a loader gives them."""

    def __init__(self, batch: int, steps: int, classes: int) -> None:
        import torch

        self.steps_per_epoch = steps
        labels = torch.randint(classes, (batch,))
        self.batch = {
            "crops": torch.randint(256, (batch, 112, 112, 3), dtype=torch.uint8),
            "labels": labels,
            "other_labels": labels,
            "share": torch.ones(batch),
        }

    def __call__(self, epoch: int, first_step: int) -> Iterator[dict[str, torch.Tensor]]:
        for _ in range(first_step, self.steps_per_epoch):
            yield self.batch


def _case(label: str) -> Case:
    return next(case for case in CASES if case.label == label)


def train_rate(case: Case, device: str, precision: str, batch: int, steps: int, folder: Path) -> tuple[float, float]:
    """Images per second in the second half of ``steps`` steps, and operations of one image's pass."""
    import torch

    from vidperson.networks.convert import build_network
    from vidperson.training.batches import Normalise
    from vidperson.training.loop import join_world, read_log, train
    from vidperson.training.losses import IdentityLoss
    from vidperson.training.settings import Settings
    from vidperson.training.task import EmbedderTask

    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = True  # torch's default, which measurements above have changed
    torch.backends.cuda.matmul.allow_tf32 = False
    folder.mkdir(parents=True)
    network = build_network(case.architecture, case.input, case.output)
    work = operations(network.eval(), case.item)
    size = case.output.embedding_size
    assert size and isinstance(case.input, PictureInput)
    task = EmbedderTask(network, size, Normalise(case.input.mean, case.input.std), [IdentityLoss(size, 10_000)])
    settings = Settings(epochs=1, optimiser="sgd", lr=1e-4, clip=5.0, precision=precision, log_steps=max(1, steps // 2))
    with join_world(device) as world:
        train(task, SyntheticBatches(batch, steps, 10_000), settings, folder, world)
    return float([line for line in read_log(folder) if line["kind"] == "train"][-1]["items_per_s"]), work


# --- stages


def measure_stages(
    report: Report,
    device: str,
    models: Models,
    embedder: str,
    minutes: int,
    clip: str,
    counts: Sequence[int],
    folder: Path,
) -> None:
    """Wall seconds of stages 2 and 3 on a 720p video, and how many times those of decoding only they are.

    minutes: of the video, made of the clip; 0: the clip itself. counts: of CPU threads, in ascending order; stage 3 has
    the last.
    """
    from benchmarks.end_to_end import join

    report.table(
        f"Stages 2 and 3 on {f'{minutes} min of 1280 x 720 video' if minutes else 'a short clip'}, 1 frame a second",
        "what", "threads", "wall s", "CPU s", "s per minute of video", "times decoding only",
    )  # fmt: skip
    video, threads = folder / "video.mp4", counts[-1]
    bare: dict[int, float] = {}

    def timed(threads: int, task: Callable[[], object]) -> tuple[str, ...]:
        if not video.is_file():
            _make_video(clip, minutes, video)
        start, cpu_start = time.perf_counter(), time.process_time()
        task()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        bare.setdefault(threads, seconds)
        per_minute, times = 60 * seconds / _length_s(video), seconds / bare[threads]
        return f"{seconds:.2f}", f"{cpu:.2f}", f"{per_minute:.2f}", f"{times:.2f}"

    def row(what: str, count: int, task: Callable[[], object]) -> None:
        report.row((what, count), lambda: timed(count, task))

    def shipped(name: str) -> str:
        from vidperson.networks.install import install_model

        install_model(name, folder / "shipped")
        return str(folder / "shipped" / name)

    def detect(count: int, decoder: str) -> None:
        detector, where = shipped("retinaface_tiny"), folder / f"stage2_{decoder}_{count}"
        _stage2(video, detector, where, device, count, decoder)
        join(where)

    def embed(model: str, precision: str) -> None:
        where = folder / f"stage2_software_{threads}"
        _stage3(model, where, where / f"embed_{Path(model).name}_{precision}", device, precision, threads)

    def embed_case(precision: str) -> None:
        embed(str(models.installed(_case(embedder)).network.parent), precision)

    for count in counts:
        row("decoding only (PyAV)", count, lambda count=count: _decode(video, count))  # type: ignore[misc]
        for decoder in ("software",) if device == "cpu" else ("software", "cuda"):
            what = "stage 2, retinaface_tiny, fp32" + (", decoder cuda" if decoder == "cuda" else "")
            row(what, count, lambda count=count, decoder=decoder: detect(count, decoder))  # type: ignore[misc]
    row("stage 3, arcface_tiny, fp32", threads, lambda: embed(shipped("arcface_tiny"), "fp32"))
    for precision in ("fp32", "bf16"):
        row(f"stage 3, {embedder}, {precision}", threads, lambda p=precision: embed_case(p))  # type: ignore[misc]
    report.line(
        "\nEach figure includes opening the network once. Stage 3 reads the faces of stage 2, about two a frame."
    )


def _decode(video: Path, threads: int) -> None:
    """Every frame, thrown away."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass


def _length_s(video: Path) -> float:
    import av

    with av.open(str(video)) as container:
        return (container.duration or 0) / av.time_base


def _stage2(video: Path, detector: str, folder: Path, device: str, threads: int, decoder: str) -> None:
    """One job of stage 2 in ``folder``, in batches of 8 frames."""
    from steps_face.detect_faces import DetectOptions, detect_faces

    folder.mkdir()
    scp, jobs = folder / "vid.scp", folder / "jobs" / "1"
    scp.write_text(f"video {video}\n")
    how = {"device": device, "threads": threads, "det_batch": 8, "decoder": decoder}
    detect_faces(cli.fill(DetectOptions, scp=str(scp), model=detector, output_dir=str(jobs), **how))


def _stage3(embedder: str, folder: Path, output: Path, device: str, precision: str, threads: int) -> None:
    """One job of stage 3 on what :func:`_stage2` and the joining of its jobs left, in batches of 64 faces."""
    from steps_face.extract_embeddings import ExtractOptions, extract_embeddings

    paths = {"items_dir": folder / "faces", "scp": folder / "vid.scp", "model": Path(embedder), "output_dir": output}
    how = {"device": device, "precision": precision, "threads": threads, "embed_batch": 64}
    extract_embeddings(cli.fill(ExtractOptions, **paths, **how))


def _make_video(clip: str, minutes: int, video: Path) -> None:
    """A 720p video of a clip, or with 0 minutes the clip; without one, the demo corpus' clip of two persons."""
    from benchmarks.make_video import make_video

    if not clip:
        from vidperson.corpora import demo

        demo.build(video.parent / "demo", 3.0)
        clip = str(video.parent / "demo/eval/data/test/eval_test7.mp4")
    if minutes:
        make_video(clip, minutes, str(video))
    else:
        shutil.copyfile(clip, video)


# --- tests


def run_engine_tests(report: Report, quick: bool) -> None:
    """pytest on what depends on the device: all engine tests, or with ``quick`` those of GPUs only."""
    report.table("Tests", "what", "outcome")
    files = ("tests/test_engines.py", "tests/test_training_detector.py", "tests/test_media_hardware.py")
    chosen = "gpu or cuda" if quick else "test_engines or cuda or test_media_hardware"

    def outcome() -> tuple[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", chosen]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=report.left() + 20)
        except subprocess.TimeoutExpired:
            raise Skipped("no time left") from None
        if "No module named pytest" in done.stderr:
            raise Skipped("pytest is not installed")
        lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
        if done.returncode:
            print(done.stdout, done.stderr)
            raise RuntimeError(lines[-1] if lines else f"exit status {done.returncode}")
        return (lines[-1].strip("= "),)

    report.row((f"{' '.join(files)} -k '{chosen}'",), outcome)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="cuda: the first of CUDA_VISIBLE_DEVICES; cpu: a test"
    )
    parser.add_argument("--quick", action="store_true", help="few networks and small batches, for that test")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="what is measured")
    parser.add_argument("--seconds", type=cli.whole(1), default=SECONDS, help="no row is begun later than this")
    parser.add_argument("--output-dir", default="exp/gpu", help="folder of gpu.md")
    parser.add_argument("--clip", default="", help="a video with faces; default: one of the demo corpus")
    parser.add_argument(
        "--threads", type=cli.whole(1), default=len(os.sched_getaffinity(0)), help="CPU threads; with --quick it is 1"
    )
    cli.main(measure_gpu, parser.parse_args())
