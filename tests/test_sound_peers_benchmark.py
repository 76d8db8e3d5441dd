"""benchmarks/sound_peers.py without most of its peers: what it compares and what it leaves out. Nothing is timed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks are defined in PyTorch")
pytest.importorskip("kaldi_native_fbank", reason="an independent front end")

from benchmarks import sound_peers

OTHERS = ("torchaudio", "librosa", "speechbrain", "wespeaker")


def test_tables_have_a_row_per_peer_and_say_which_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = sound_peers.importlib.import_module

    def load(name: str) -> object:
        if name.split(".")[0] in OTHERS:
            raise ImportError(f"No module named '{name}'")
        return real(name)

    monkeypatch.setattr(sound_peers.importlib, "import_module", load)
    noise = (0.1 * np.random.default_rng(3).standard_normal(8000)).astype(np.float32)
    sound_peers.compare_front_ends([noise])
    sound_peers.compare_networks()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    compared = {row[0]: float(row[1]) for row in rows if row[0].endswith("kaldi-native-fbank")}
    left_out = [row[0] for row in rows if row[1].startswith("left out: No module named")]
    assert set(compared) == {"WeSpeaker, kaldi-native-fbank", "3D-Speaker, kaldi-native-fbank"}
    assert all(0 < largest < 2e-3 for largest in compared.values())
    assert len(left_out) == 14 and "wespeaker_resnet34_pytorch" in left_out and "SpeechBrain, float64" in left_out
