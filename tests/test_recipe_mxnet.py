"""Stages 0 to 3 with MXNet checkpoints that were put there by hand: run by MXNet itself, and converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from recipe import Recipe

from vidperson.io.matrices import load_matrices

GRAPHS = {"retinaface_r50_mxnet": ("retinaface_r50", "R50"), "arcface_r50_mxnet": ("lresnet50e_ir", "model")}
SETS = ("folder_enroll", "folder_test")


def test_checkpoints_put_there_by_hand_give_the_same_faces_and_embeddings_by_mxnet_and_converted(
    repo: Path, zoo_graph: Callable[..., Path], tmp_path: Path
) -> None:
    skimage = pytest.importorskip("skimage.data", reason="the photo comes with the demo extra")
    recipe = Recipe(repo, tmp_path, "r50", *GRAPHS)
    for name, (graph, prefix) in GRAPHS.items():
        files = (f"{prefix}-symbol.json", f"{prefix}-0000.params")
        zoo_graph(graph, tmp_path / "exp" / "face_models" / name, *files)
    photo = skimage.astronaut()[..., ::-1]
    for place, picture in (("persons/eve/a.png", photo), ("videos/b.png", photo[:400, ::-1])):
        (tmp_path / place).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / place), picture)
    folders = ["--folder-persons", f"{tmp_path}/persons", "--folder-videos", f"{tmp_path}/videos"]
    options = ["--corpora", "folder", "--trial-sets", ":".join(SETS), "--max-size", "128", "--nj", "1"]
    options += ["--det-fallback", "always"]  # the networks have random weights

    def detect_and_embed(*more: str) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        for stage in ("002_detect_faces", "003_extract_embeddings"):
            recipe.run(stage, *options, *more)
        for name in SETS:
            log = next((recipe.faces(name) / "log").glob("*.log")).read_text()
            assert f"engine {more[1] if more else 'o'}" in log  # openvino or onnxruntime
        faces, embeddings = ({}, {})
        for name in SETS:
            faces |= load_matrices(recipe.faces(name) / "faces.scp")
            embeddings |= load_matrices(recipe.embeddings(name) / "embed.scp")
        return faces, embeddings

    recipe.run("000_get_pretrained_models", *options)
    recipe.run("001_prepare_data", *options, *folders)
    converted, by_mxnet = detect_and_embed(), detect_and_embed("--engine", "mxnet", "--force", "true")
    for key in ("eve-a", "b"):
        assert 3 <= len(converted[0][key]) == len(by_mxnet[0][key])
        np.testing.assert_allclose(converted[0][key], by_mxnet[0][key], rtol=0, atol=0.05)  # pixels
        np.testing.assert_allclose(converted[0][key][:, 6], by_mxnet[0][key][:, 6], rtol=0, atol=1e-4)  # scores
        first, second = (
            found[1][key] / np.linalg.norm(found[1][key], axis=1, keepdims=True) for found in (converted, by_mxnet)
        )
        assert len(first) == len(second) and ((first * second).sum(axis=1) > 0.999).all()
