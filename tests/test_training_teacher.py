"""A student learns from a teacher; in a process of its own, as the Makefile starts each file of training tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidperson.networks.card import load_card
from vidperson.networks.install import install_model

torch = pytest.importorskip("torch", reason="training needs the torch extra")

from test_training_embedder import options, people, train, trained  # noqa: E402, F401

from vidperson.training.loop import read_log  # noqa: E402


def test_step_with_a_teacher_brings_the_students_cosines_near_the_teachers(
    people: Path,  # noqa: F811
    trained: tuple[Path, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    install_model(str(trained[0] / "tiny.yaml"), tmp_path)
    more = {"loss": "none", "teacher": str(tmp_path / "tiny"), "embedding_size": 8, "epochs": 3, "ema": 0.0}
    figures = train(**options(people, tmp_path / "student", **more))
    log = [entry for entry in read_log(tmp_path / "student") if entry["kind"] == "train"]
    for term in ("cosine", "relation"):  # the teacher has 16 values, the student 8: the cosine goes through a map
        assert log[-1][term] < 0.7 * log[0][term]
    assert "identity" not in log[0] and figures["accuracy"] > 0.8
    card = load_card(tmp_path / "student/student.yaml")
    assert card.training["teacher"].startswith("tiny ") and "teacher tiny, trained on 32 faces" in card.training_data
