"""Fixtures that many tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = str(ROOT)  # what tests start finds steps and benchmarks too, which path.sh leaves out


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos, faces and networks for testing, which is not part of the project."""
    folder = Path(os.environ.get("VIDPERSON_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir() or not (folder / "models").is_dir():
        pytest.skip(f"needs real media and networks: no data/ and models/ in VIDPERSON_SHARED ({folder})")
    return folder


@pytest.fixture(scope="session")
def models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RetinaFace and MobileFaceNet checkpoints, installed as run_000 does: like exp/face_models."""
    pytest.importorskip("torch", reason="converting a checkpoint needs the torch extra")
    from vidperson.networks.install import install_model

    folder = tmp_path_factory.mktemp("face_models")
    for name in ("retinaface_mnet025_pytorch", "mobilefacenet_casia_pytorch"):
        install_model(name, folder, [shared / "models"])
    return folder


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
