"""A student learns from a teacher; in a process of its own, as the Makefile starts each file of training tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vidperson.engines import load_network
from vidperson.networks.card import load_card
from vidperson.networks.install import install_model

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from test_training_embedder import options, people, train, trained  # noqa: E402, F401

from vidperson.engines.torch_graph import OnnxModule  # noqa: E402
from vidperson.face.embedder import FaceEmbedder  # noqa: E402
from vidperson.networks.card import PictureInput  # noqa: E402
from vidperson.training.loop import read_log  # noqa: E402
from vidperson.training.task import TeacherModule  # noqa: E402


def test_step_with_a_teacher_brings_the_students_cosines_near_the_teachers(
    people: Path,  # noqa: F811
    trained: tuple[Path, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    install_model(str(trained[0] / "tiny.yaml"), tmp_path)
    more = {"loss": "none", "teacher": [str(tmp_path / "tiny")], "embedding_size": 8, "epochs": 3, "ema": 0.0}
    train(**options(people, tmp_path / "student", **more))
    log = [entry for entry in read_log(tmp_path / "student") if entry["kind"] == "train"]
    for term in ("cosine", "relation"):  # the teacher has 16 values, the student 8: the cosine goes through a map
        assert log[-1][term] < 0.7 * log[0][term]
    assert "identity" not in log[0]
    validated = [entry["eer"] for entry in read_log(tmp_path / "student") if entry["kind"] == "validate"]
    assert min(validated) < 0.2
    card = load_card(tmp_path / "student/student.yaml")
    assert card.training["teacher"].startswith("tiny ") and "teacher tiny, trained on 32 faces" in card.training_data


@pytest.mark.parametrize("mirror", ["none", "sum", "concatenate"])
def test_teacher_as_a_module_says_what_it_says_behind_its_card(
    trained: tuple[Path, str],  # noqa: F811
    mirror: str,
) -> None:
    """Pictures in blue, green and red, with a mean and a scale per channel, as the card has it."""
    card = load_card(trained[0] / "tiny.yaml")
    pictures = PictureInput("bgr", (120.0, 127.5, 130.0), (64.0, 100.0, 128.0), 112, 112)
    card = dataclasses.replace(card, input=pictures, output=dataclasses.replace(card.output, mirror=mirror))
    if mirror == "concatenate":
        card = dataclasses.replace(card, output=dataclasses.replace(card.output, embedding_size=32))
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    path = trained[0] / "tiny.onnx"
    expected = FaceEmbedder(load_network(path, "onnxruntime"), card).embed(crops)
    teacher = TeacherModule(OnnxModule(str(path)).eval(), pictures, mirror)
    found = teacher(torch.from_numpy(crops)).numpy()
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
