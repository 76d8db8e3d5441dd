"""Which network is taken where the user names none."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vidperson.errors import ModelError
from vidperson.io.record import RECORD
from vidperson.networks import choice
from vidperson.networks.card import ZOO, known_calibration, load_card

EMBEDDERS = choice.preferred_kinds()["face_embedder"]


def test_preferred_networks_have_cards_of_their_kind_and_the_last_one_ships() -> None:
    for kind, names in choice.preferred_kinds().items():
        cards = [load_card(name) for name in names]
        assert [card.kind for card in cards] == [kind] * len(names)
        assert all((ZOO / file.name).is_file() for file in cards[-1].files)
        assert kind.endswith("detector") or None not in map(known_calibration, cards)


def test_network_that_ships_is_taken_where_nothing_else_is_at_hand(tmp_path: Path) -> None:
    assert choice.best_at_hand("face_embedder", tmp_path / "models", [tmp_path / "mine"]) == EMBEDDERS[-1]


@pytest.mark.parametrize("name", EMBEDDERS[:-1])
def test_installed_network_is_taken_before_those_behind_it(tmp_path: Path, name: str) -> None:
    for installed in EMBEDDERS[EMBEDDERS.index(name) :]:
        (tmp_path / installed).mkdir()
        (tmp_path / installed / RECORD).touch()
    assert choice.best_at_hand("face_embedder", tmp_path) == name


def test_network_with_files_in_a_folder_of_the_user_is_taken_if_none_of_them_is_missing(
    tmp_path: Path, shared: Path
) -> None:
    name, source = "mobilefacenet_arcface_mxnet", shared / "models/mobilefacenet_arcface_mxnet"
    first, second = load_card(name).files
    (tmp_path / first.name).symlink_to(source / first.name)
    assert choice.best_at_hand("face_embedder", tmp_path / "models", [tmp_path]) == EMBEDDERS[-1]
    (tmp_path / second.name).symlink_to(source / second.name)
    assert choice.best_at_hand("face_embedder", tmp_path / "models", [tmp_path]) == name


def test_file_with_other_bytes_is_said_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "arcface_w600k_r50/w600k_r50.onnx"
    path.parent.mkdir()
    path.write_text("another network")
    with caplog.at_level(logging.WARNING):
        assert choice.best_at_hand("face_embedder", tmp_path / "models", [tmp_path]) == EMBEDDERS[-1]
    assert "arcface_w600k_r50: not used" in caplog.text and "expected SHA-256" in caplog.text


def test_checkpoint_counts_only_where_it_can_be_converted(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [shared / "models"]
    assert choice.best_at_hand("face_detector", tmp_path, folders) == "retinaface_mnet025_pytorch"
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    assert choice.best_at_hand("face_detector", tmp_path, folders) == "retinaface_tiny"


def test_kind_without_a_list_is_refused_with_those_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="line of speaker_detector, found those of face_detector face_embedder"):
        choice.best_at_hand("speaker_detector", tmp_path)
