#!/usr/bin/env python3
"""Voices: front ends, networks and speed beside those of the projects that the cards describe.

inputs:  --speech: a folder of sound files; --seconds: how long the sound is that is timed
outputs: tables on standard output
         front ends: largest difference, and share of the values that differ by more than 1e-4; of torchaudio also with
           all of its steps in float64, and of its float32 form against its own float64 form
         networks: random weights in the other project's own module, its state dict loaded by our card
         speed: CPU seconds of one thread, sound file to embedding: WeSpeaker's module exported as its export_onnx.py
           does, run as its infer_onnx.py does, and ours with the same weights; interleaved, fastest of --rounds

It needs an environment with our packages and, without their dependencies, kaldi-native-fbank, torchaudio, librosa,
speechbrain, wespeaker-unofficial and soundfile. Rows of packages that are not there are left out, and said so.

example: python benchmarks/sound_peers.py --speech /path/to/librispeech
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidperson import cli
from vidperson.engines import load_network
from vidperson.media.audio import read
from vidperson.networks.card import FbankInput, ModelCard, load_card
from vidperson.networks.convert import export_network, load_checkpoint
from vidperson.speaker.fbank import fbank, network_input
from vidperson.types import Float

FILES = 12
Peer = Callable[[Float], Any]


def card_input(card: str) -> FbankInput:
    what = load_card(card).input
    assert isinstance(what, FbankInput)
    return what


def in_float64(peer: Callable[[Float, torch.dtype], Any]) -> Peer:
    """A peer of torch with every step in float64, filters and windows included."""

    def run(sound: Float) -> Any:
        torch.set_default_dtype(torch.float64)
        try:
            return peer(sound, torch.float64)
        finally:
            torch.set_default_dtype(torch.float32)

    return run


def torchaudio_mel(sound: Float, kind: torch.dtype) -> Any:
    """FbankAug's front end of AVCleanse and ECAPA-TDNN: (frames, bins)."""
    transforms = importlib.import_module("torchaudio.transforms")
    given = torch.from_numpy(sound).to(kind)[None, None]
    emphasis = torch.tensor([[[-0.97, 1.0]]], dtype=kind)
    emphasised = torch.nn.functional.conv1d(torch.nn.functional.pad(given, (1, 0), "reflect"), emphasis)[0, 0]
    size: dict[str, Any] = {"n_fft": 512, "win_length": 400, "hop_length": 160, "f_min": 20, "f_max": 7600}
    mel = transforms.MelSpectrogram(16000, n_mels=80, window_fn=torch.hamming_window, **size)
    found = (mel.to(kind)(emphasised) + 1e-6).log()
    return (found - found.mean(dim=-1, keepdim=True)).T.double().numpy()


def torchaudio_kaldi(what: FbankInput) -> Callable[[Float, torch.dtype], Any]:
    def run(sound: Float, kind: torch.dtype) -> Any:
        kaldi = importlib.import_module("torchaudio.compliance.kaldi")
        given = torch.from_numpy(sound).to(kind)[None] * what.scale
        options = {"frame_length": 25, "frame_shift": 10, "window_type": what.window_type, "dither": 0.0}
        found = kaldi.fbank(given, num_mel_bins=80, sample_frequency=16000, **options)
        return (found - found.mean(0, keepdim=True)).double().numpy()

    return run


def native_kaldi(what: FbankInput) -> Peer:
    def run(sound: Float) -> Any:
        kaldi = importlib.import_module("kaldi_native_fbank")
        options = kaldi.FbankOptions()
        options.frame_opts.dither, options.frame_opts.window_type = 0, what.window_type
        options.mel_opts.num_bins, options.mel_opts.low_freq = 80, 20
        computer = kaldi.OnlineFbank(options)
        computer.accept_waveform(16000, (sound * np.float32(what.scale)).tolist())
        computer.input_finished()
        found = np.stack([computer.get_frame(k) for k in range(computer.num_frames_ready)]).astype(np.float64)
        return found - found.mean(axis=0)

    return run


def speechbrain_fbank(sound: Float, kind: torch.dtype) -> Any:
    features = importlib.import_module("speechbrain.lobes.features")
    given = torch.from_numpy(sound).to(kind)[None]
    maker = features.Fbank(n_mels=80)
    magnitude = importlib.import_module("speechbrain.processing.features").spectral_magnitude
    found = maker.compute_fbanks(magnitude(maker.compute_STFT(given)))[0]
    return (found - found.mean(0, keepdim=True)).double().numpy()


def librosa_mel(sound: Float) -> Any:
    """What resemblyzer.audio.wav_to_mel_spectrogram calls, behind its normalize_volume."""
    librosa = importlib.import_module("librosa")
    change = -30 - 10 * np.log10(np.mean(sound.astype(np.float64) ** 2))
    louder = sound * np.float32(10 ** (max(change, 0) / 20))
    found = librosa.feature.melspectrogram(y=louder, sr=16000, n_fft=400, hop_length=160, n_mels=40)
    return found.T.astype(np.float64) / found.max()


def front_ends() -> Iterator[tuple[str, FbankInput, Peer]]:
    """Name of a row, our front end, and the other one; twice the same name: the second in float64."""

    def single(peer: Callable[[Float, torch.dtype], Any]) -> Peer:
        return lambda sound: peer(sound, torch.float32)

    avcleanse = card_input("ecapa_c1024_vox2_pytorch")
    both: list[tuple[str, FbankInput, Callable[[Float, torch.dtype], Any]]] = [
        ("AVCleanse, torchaudio", avcleanse, torchaudio_mel)
    ]
    for name, card in (("WeSpeaker", "wespeaker_ecapa512_pytorch"), ("3D-Speaker", "campplus_voxceleb_pytorch")):
        what = card_input(card)
        both.append((f"{name}, torchaudio", what, torchaudio_kaldi(what)))
        yield f"{name}, kaldi-native-fbank", what, native_kaldi(what)
    both.append(("SpeechBrain", card_input("speechbrain_ecapa_pytorch"), speechbrain_fbank))
    for name, what, peer in both:
        yield name, what, single(peer)
        yield f"{name}, float64", what, in_float64(peer)
    mel = dataclasses.replace(
        avcleanse, fft=400, low_hz=0, high_hz=8000, mel_bins=40, window_type="hann", mel_scale="slaney",
        mean_norm=False, pre_emphasis=0.0, log_offset=None, level_dbfs=-30,
    )  # fmt: skip
    yield "Resemblyzer, librosa, over the largest value", mel, librosa_mel


def ours(sound: Float, what: FbankInput) -> Any:
    found = fbank(sound, what).astype(np.float64)
    return found if what.log_offset or what.log_floor else found / found.max()


def compare_front_ends(sounds: list[Float]) -> None:
    print("| front end, compared with | largest difference | above 1e-4 | median |\n|---|---|---|---|")
    before: tuple[str, list[Any]] = "", []
    for name, what, peer in front_ends():
        try:
            found = [peer(sound) for sound in sounds]
        except ImportError as error:
            print(f"| {name} | left out: {error} | | |")
            continue
        pairs = {name: [(a, ours(sound, what)) for a, sound in zip(found, sounds, strict=True)]}
        if name == f"{before[0]}, float64":
            pairs[f"{before[0]}, float32 with its own float64"] = list(zip(before[1], found, strict=True))
        for row, both in pairs.items():
            apart = np.concatenate([np.abs(a - b).ravel() for a, b in both])
            print(f"| {row} | {apart.max():.1e} | {np.mean(apart > 1e-4):.1e} | {np.median(apart):.1e} |")
        before = name, found


def wespeaker_module(name: str) -> Any:
    """A module of wespeaker.models, without what the package itself imports."""
    for package in ("wespeaker", "wespeaker.models"):
        if package not in sys.modules:
            spec = importlib.util.find_spec("wespeaker")
            if spec is None or not spec.submodule_search_locations:
                raise ImportError("No module named 'wespeaker'")
            bare = types.ModuleType(package)
            bare.__path__ = [str(Path(spec.submodule_search_locations[0], *package.split(".")[1:]))]
            bare.__spec__ = spec
            sys.modules[package] = bare
    return importlib.import_module(f"wespeaker.models.{name}")


def drawn(network: Any) -> Any:
    """Random weights and statistics, in evaluation mode."""
    torch.manual_seed(4)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


class Last(torch.nn.Module):
    """Features with frames first to the last output, (N, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, feats: torch.Tensor) -> torch.Tensor:
        found = self.network(feats)
        last: torch.Tensor = found[-1] if isinstance(found, tuple) else found
        return last.flatten(1)


def networks() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Card, and its project's own module."""
    ecapa = lambda name: lambda: getattr(wespeaker_module("ecapa_tdnn"), name)(80, 192)  # noqa: E731
    yield "wespeaker_ecapa512_pytorch", ecapa("ECAPA_TDNN_GLOB_c512")
    yield "wespeaker_ecapa1024_pytorch", ecapa("ECAPA_TDNN_GLOB_c1024")
    yield "wespeaker_resnet34_pytorch", lambda: wespeaker_module("resnet").ResNet34(80, 256, two_emb_layer=False)
    yield "wespeaker_campplus_pytorch", lambda: wespeaker_module("campplus").CAMPPlus(80, 512)

    def speechbrain() -> Any:
        ecapa_tdnn = importlib.import_module("speechbrain.lobes.models.ECAPA_TDNN")
        return ecapa_tdnn.ECAPA_TDNN(80, channels=[1024] * 4 + [3072], attention_channels=128, lin_neurons=192)

    yield "speechbrain_ecapa_pytorch", speechbrain


def loaded(card: ModelCard, theirs: Any) -> Any:
    """Our network with the weights of another project's module."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), f"{folder}/theirs.pt")
        return load_checkpoint(card, f"{folder}/theirs.pt")


@torch.inference_mode()
def compare_networks() -> None:
    print("\n| card | parameters | largest difference, over the largest value |\n|---|---|---|")
    for name, make in networks():
        try:
            theirs = drawn(make())
        except ImportError as error:
            print(f"| {name} | left out: {error} | |")
            continue
        network, worst = loaded(load_card(name), theirs), 0.0
        for frames in (12, 137, 301):
            features = torch.randn(2, 80, frames, generator=torch.Generator().manual_seed(frames))
            expected = Last(theirs)(features.transpose(1, 2))
            worst = max(worst, float((network(features) - expected).abs().max() / expected.abs().max()))
        count = sum(each.numel() for each in theirs.parameters())
        print(f"| {name} | {count / 1e6:.2f} million | {worst:.1e} |")


def time_ecapa(sound: Float, rounds: int) -> None:
    """ECAPA-TDNN with 512 channels: WeSpeaker's runtime and ours, step by step."""
    onnxruntime, soundfile = (importlib.import_module(name) for name in ("onnxruntime", "soundfile"))
    card = load_card("wespeaker_ecapa512_pytorch")
    theirs = drawn(wespeaker_module("ecapa_tdnn").ECAPA_TDNN_GLOB_c512(80, 192))
    what = card_input(card.name)
    with tempfile.TemporaryDirectory() as folder:
        axes = {"feats": {0: "B", 1: "T"}, "embs": {0: "B"}}
        given = (torch.ones(1, 200, 80),)
        names: dict[str, Any] = {"input_names": ["feats"], "output_names": ["embs"], "dynamic_axes": axes}
        torch.onnx.export(Last(theirs), given, f"{folder}/theirs.onnx", opset_version=14, dynamo=False, **names)
        export_network(loaded(card, theirs), card, f"{folder}/ours.onnx")
        soundfile.write(f"{folder}/sound.wav", sound, 16000)
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(f"{folder}/theirs.onnx", options, ["CPUExecutionProvider"])
        engines = {name: load_network(f"{folder}/ours.onnx", name) for name in ("onnxruntime", "openvino")}
        kaldi = torchaudio_kaldi(what)
        rows: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
            "WeSpeaker": (
                lambda: soundfile.read(f"{folder}/sound.wav", dtype="float32")[0],
                lambda given: kaldi(given, torch.float32).astype(np.float32)[None],
                lambda given: session.run(None, {"feats": given})[0],
            )
        }
        for name, network in engines.items():
            rows[f"ours, {name}"] = (
                lambda: read(f"{folder}/sound.wav"),
                lambda given: network_input(given, what),
                lambda given, network=network: network(given)[0],  # type: ignore[misc]
            )
        spent: dict[str, list[list[float]]] = {name: [] for name in rows}
        found: dict[str, Any] = {}
        for _ in range(rounds):
            for name, (load, features, embed) in rows.items():
                marks = [time.process_time()]
                value = load()
                for step in (features, embed):
                    marks.append(time.process_time())
                    value = step(value)
                found[name] = value
                spent[name].append(list(np.diff([*marks, time.process_time()])))
    print(f"\n{len(sound) / 16000:.0f} s of sound, CPU ms:\n\n| program | reading | features | network | all | ratio |")
    print("|---|---|---|---|---|---|")
    best = {name: np.min(values, axis=0) * 1000 for name, values in spent.items()}
    for name, steps in best.items():
        cells = " | ".join(f"{value:.1f}" for value in (*steps, steps.sum()))
        print(f"| {name} | {cells} | {steps.sum() / best['WeSpeaker'].sum():.2f} |")
        assert np.abs(found[name] - found["WeSpeaker"]).max() <= 1e-4 * np.abs(found["WeSpeaker"]).max(), name


def sound_peers(speech: str, seconds: list[float], rounds: int) -> None:
    torch.set_num_threads(1)
    paths = sorted(path for path in Path(speech).rglob("*") if path.suffix in (".flac", ".wav"))
    if not paths:
        raise FileNotFoundError(2, "no .flac or .wav in it", speech)
    sounds = [read(path) for path in paths[:: max(1, len(paths) // FILES)][:FILES]]
    compare_front_ends(sounds)
    compare_networks()
    for length in seconds:
        time_ecapa(np.resize(np.concatenate(sounds), round(length * 16000)), rounds)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--speech", required=True, help="folder of sound files")
    parser.add_argument("--seconds", type=float, nargs="*", default=[6.0, 30.0], help="lengths of the sound timed")
    parser.add_argument("--rounds", type=int, default=15, help="of which the fastest counts")
    cli.main(sound_peers, parser.parse_args())
