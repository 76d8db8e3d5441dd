"""Fixtures that many tests share."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Browser, program
from hypothesis import settings
from recipe import SNORM, STAGES, Recipe

ROOT = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = str(ROOT)  # what tests start finds steps and benchmarks too, which path.sh leaves out

# The same examples in every run; `make campaign` draws others.
settings.register_profile("one seed", derandomize=True)
settings.load_profile("default" if "VIDPERSON_FUZZ_EXAMPLES" in os.environ else "one seed")

# The files that take longest begin first, so that parallel workers end together. `make test` prints durations.
LONGEST_FIRST = (
    "test_recipe.py", "test_zoo.py", "test_real_grid.py", "test_recipe_folders.py", "test_mxnet_to_onnx.py",
    "test_demo_cast.py", "test_demo_av.py", "test_recipe_mxnet.py", "test_networks.py", "test_demo_clips.py",
    "test_engines.py", "test_utils_grid.py", "test_supervision.py", "test_recipe_clips.py", "test_recipe_csm.py",
    "test_cast_movies.py", "test_search_cast_step.py", "test_segment_jobs.py", "test_detectors.py",
    "test_corpora_sre21.py", "test_report.py", "test_scoring_stages.py", "test_campaigns.py", "test_embedders.py",
    "test_evaluate_detector.py", "test_media_real.py", "test_pairs.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a folder once in a session, whichever worker asks first; the others wait for it. Nobody may change it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of this session, and of all its workers

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed at it
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return make_once


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium that opens pages; tests share it."""
    chromium = program()
    if chromium is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with Browser(chromium) as started:
        yield started


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos, faces and networks for testing, which is not part of the project."""
    folder = Path(os.environ.get("VIDPERSON_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir() or not (folder / "models").is_dir():
        pytest.skip(f"needs real media and networks: no data/ and models/ in VIDPERSON_SHARED ({folder})")
    return folder


@pytest.fixture(scope="session")
def models(shared: Path, made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The RetinaFace and MobileFaceNet checkpoints, installed as run_000 does: like exp/face_models."""
    pytest.importorskip("torch", reason="converting a checkpoint needs the torch extra")
    from vidperson.networks.install import install_model

    def install(folder: Path) -> None:
        for name in ("retinaface_mnet025_pytorch", "mobilefacenet_casia_pytorch"):
            install_model(name, folder, [shared / "models"])

    return made_once("face_models", install)


@pytest.fixture(scope="session")
def demo(repo: Path, made_once: Callable[[str, Callable[[Path], None]], Path]) -> Recipe:
    """The demo with the networks that the project ships and with s-norm, all stages done: nothing is downloaded."""

    def run(folder: Path) -> None:
        for stage in ("000_get_pretrained_models", "001_prepare_data", *STAGES):
            options = SNORM if stage in ("004_score", "005_eval") else ("--nj", "2")
            Recipe(repo, folder, "demo").run(stage, *options)

    return Recipe(repo, made_once("demo", run), "demo")


@pytest.fixture(scope="session")
def mxnet_python(repo: Path) -> str:
    """The interpreter that has MXNet."""
    named = os.environ.get("VIDPERSON_MXNET_PYTHON")
    own = repo / ".venv-mxnet" / "bin" / "python"
    if not named and not own.is_file():
        pytest.skip("needs MXNet: run utils/make_env.sh mxnet, or set VIDPERSON_MXNET_PYTHON")
    return named or str(own)


@pytest.fixture(scope="session")
def oracle(mxnet_python: str) -> Callable[..., None]:
    """Runs mxnet_oracle.py, which needs MXNet, with its arguments."""

    def run(*arguments: object) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        call = [mxnet_python, str(ROOT / "tests/mxnet_oracle.py"), *map(str, arguments)]
        done = subprocess.run(call, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    return run


@pytest.fixture(scope="session")
def zoo_graph(
    oracle: Callable[..., None], made_once: Callable[[str, Callable[[Path], None]], Path]
) -> Callable[..., Path]:
    """Links a graph of the zoo with random weights, as mxnet_oracle.py builds it, into a folder; returns that.

    Arguments: the graph, the folder, and the names that symbol and params get there.
    """

    def link(name: str, folder: Path, symbol: str = "model-symbol.json", params: str = "model-0000.params") -> Path:
        built = made_once(f"graph_{name}", lambda made: oracle("build", name, made))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / symbol).symlink_to(built / "model-symbol.json")
        (folder / params).symlink_to(built / "model-0000.params")
        return folder

    return link
