"""benchmarks/gpu.py, run on the CPU with the smallest sizes: the rows that it writes, and what it skips."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from vidperson.errors import EngineError, ModelError

torch = pytest.importorskip("torch", reason="the benchmark measures PyTorch networks")

from benchmarks import gpu  # noqa: E402
from benchmarks.gpu import CASES, Case, Models, Report  # noqa: E402

SMALL = next(case for case in CASES if case.label == "small ResNet")


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "out" / "gpu.md", 600)


def rows(report: Report) -> list[list[str]]:
    """The cells of all rows but titles and rules, as the file has them."""
    lines = report.path.read_text().splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]


def test_matrices_on_the_cpu_give_a_rate_per_precision(report: Report) -> None:
    peaks = gpu.measure_matrices(report, "cpu", 64)
    assert set(peaks) == {"fp32", "bf16"} and all(rate > 0 for rate in peaks.values())
    assert [row[0] for row in rows(report)] == ["precision", "fp32", "bf16"]


def test_network_is_measured_with_each_engine_and_precision(report: Report, tmp_path: Path) -> None:
    models = Models(tmp_path)
    gpu.measure_network(report, SMALL, models, "cpu", {"fp32": 1e12, "bf16": 1e12}, (2,), 1)
    found = rows(report)[1:]
    assert [row[:3] for row in found] == [
        ["engine torch", "fp32", "2"],
        ["engine torch", "bf16", "2"],
        ["engine onnxruntime", "fp32", "2"],
        ["module", "fp32", "2"],
        ["module", "bf16", "2"],
    ]
    assert all(float(row[3]) > 0 and row[6].endswith("%") for row in found) and not report.failed


def test_settled_network_of_random_weights_gives_moderate_values(tmp_path: Path) -> None:
    (embeddings,) = [Models(tmp_path).module(SMALL)(torch.from_numpy(gpu.random_items(SMALL, 8))).detach().numpy()]
    assert 0.1 < np.abs(embeddings).max() < 100


def test_operations_of_a_product_are_twice_its_size() -> None:
    assert gpu.operations(torch.nn.Linear(30, 20), (30,)) == 2 * 30 * 20


def test_architecture_that_does_not_exist_yet_is_said_and_no_failure(report: Report, tmp_path: Path) -> None:
    case = Case("new", "no_such_network", "face_embedder", SMALL.input, SMALL.output, SMALL.item, (1,))
    gpu.measure_network(report, case, Models(tmp_path), "cpu", {}, (1,), 1)
    assert "skipped: there is no architecture 'no_such_network' yet" in rows(report)[1][0] and not report.failed


def test_training_rate_is_measured_by_the_training_loop(tmp_path: Path) -> None:
    per_s, work = gpu.train_rate(SMALL, "cpu", "fp32", 2, 2, tmp_path / "run")
    assert per_s > 0 and work == gpu.operations(Models(tmp_path).module(SMALL), SMALL.item)


def make_short_video(clip: str, minutes: int, video: Path) -> None:
    """Half a second of noise: no faces."""
    import av

    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"  # type: ignore[attr-defined]
        for number in range(13):
            pixels = np.random.default_rng(number).integers(0, 256, (96, 160, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))  # type: ignore[attr-defined]
        container.mux(stream.encode())  # type: ignore[attr-defined]


def test_stages_are_compared_with_decoding_only(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_make_video", make_short_video)
    gpu.measure_stages(report, "cpu", Models(tmp_path / "models"), "small ResNet", 1, "", [1], tmp_path)
    found = rows(report)[1:]
    assert [row[0] for row in found][:3] == [
        "decoding only (PyAV)",
        "stage 2, retinaface_tiny, fp32",
        "stage 3, arcface_tiny, fp32",
    ]
    assert found[0][5] == "1.00" and not report.failed, report.lines


@pytest.mark.parametrize(
    ("error", "cell", "fails"),
    [
        (gpu.Skipped("no such thing"), "skipped: no such thing", False),
        (EngineError("no GPU"), "skipped: no GPU", False),
        (ImportError("no package"), "skipped: no package", False),
        (ModelError("cannot load a | b"), "FAILED: cannot load a / b", True),
        (RuntimeError("CUDA error"), "FAILED: CUDA error", True),
    ],
)
def test_row_that_cannot_be_measured_says_why(report: Report, error: Exception, cell: str, fails: bool) -> None:
    def values() -> tuple[str]:
        raise error

    report.row(("network", 1), values)
    assert rows(report) == [["network", "1", cell]]
    assert report.failed == (["network 1"] if fails else [])


def test_row_after_the_time_is_skipped(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.md", 0)
    time.sleep(0.01)
    report.row(("late",), lambda: ("never",))
    assert rows(report) == [["late", "skipped: no time left"]]


def test_machine_names_versions_and_processor() -> None:
    found = gpu.machine("cpu")
    assert found["GPU"] == "none asked for" and found["torch"].startswith(torch.__version__.split("+")[0])
    assert "cores in use" in found["processor"] and "providers of onnxruntime" in found


def test_failed_engine_tests_fail_the_run(report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "ROOT", tmp_path)  # where there are no tests
    gpu.run_engine_tests(report, quick=True)
    assert len(report.failed) == 1 and "FAILED: " in rows(report)[1][1]
