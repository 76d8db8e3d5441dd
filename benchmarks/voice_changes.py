#!/usr/bin/env python3
"""How well stage 4 finds where the voice changes, in dialogues joined of real recordings.

Inputs:  SPEECH, a folder <speaker>/*.flac of recordings of one speaker each; an installed speaker network, with a
         calibration in its card
Outputs: on stdout a line of a Markdown table per way and log-likelihood ratio: changes missed and false changes

A dialogue has eight turns of two or three speakers, each turn a recording, in windows of up to 2 s as stage 2 cuts
speech. With ``--one-session`` the recordings of a dialogue have one session letter, as UCLA's names have. Ways: as
stage 4 does it; and each window beside the one before it, by the same cosine.

Example:
  python benchmarks/voice_changes.py --speech ../shared/data/speech/librispeech --model exp/speaker_models/ecapa_tiny
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speech import session_of
from vidperson import cli
from vidperson.backends.exact import length_normalise
from vidperson.backends.tracks import tracks_of
from vidperson.errors import DataError
from vidperson.networks.install import installed_model
from vidperson.networks.opening import open_network
from vidperson.speaker.cutting import CutPolicy, read_spans
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.speaker.speech import SpeechPolicy, find_speech
from vidperson.types import SPEECH_COLUMNS, Float

DIALOGUES, TURNS, WINDOW_S, SEED = 60, 8, 2.0, 20
Turn = tuple[str, Path]


@dataclass(frozen=True)
class Options:
    """See the top of this file."""

    speech: Path = cli.option(help="folder with a folder of recordings per speaker")
    model: Path = cli.option(help="folder of an installed network")
    ratios: list[float] = cli.option(
        (-2.0, -2.5, -3.0), "log-likelihood ratios down to which two windows are one voice"
    )
    one_session: bool = cli.option(False, "take the recordings of a dialogue from one session")


def dialogues(folder: Path, one_session: bool) -> Iterator[list[Turn]]:
    """Speaker and recording of each turn; two turns in a row are of different speakers, no recording comes twice."""
    files = sorted(folder.glob("*/*.flac"))
    by_session: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        by_session[session_of(path) if one_session else ""][path.parent.name].append(path)
    rng = random.Random(SEED)
    for _ in range(DIALOGUES):
        session = by_session[rng.choice(sorted(by_session))]
        often = sorted(name for name, paths in session.items() if len(paths) * 2 >= TURNS)
        if len(often) < 3:
            raise DataError(f"expected 3 speakers with {TURNS // 2} recordings of a session", folder)
        speakers = rng.sample(often, rng.choice((2, 3)))
        left = {name: rng.sample(session[name], len(session[name])) for name in speakers}
        turns: list[Turn] = []
        while len(turns) < TURNS:
            name = rng.choice([name for name in speakers if left[name] and (not turns or name != turns[-1][0])])
            turns.append((name, left[name].pop()))
        yield turns


def windows_of(path: Path, embedder: SpeakerEmbedder) -> Float:
    """(N, D) embeddings of the windows of a recording, as stages 2 and 3 make them."""
    _, stretches = find_speech(str(path), SpeechPolicy(window_s=WINDOW_S))
    parts = read_spans(str(path), stretches, embedder.sample_rate, CutPolicy(each=True))
    return embedder.embed([embedder.items(sound) for _, sound in parts])


def changes_by_tracks(rows: Float, cosine: float) -> np.ndarray:
    """(N - 1,) bool: where stage 4 begins another track."""
    speech = np.zeros((len(rows), len(SPEECH_COLUMNS)), np.float32)
    speech[:, 0] = np.arange(len(rows)) * WINDOW_S
    speech[:, 1] = speech[:, 0] + WINDOW_S
    tracks, _, _ = tracks_of("speaker", speech, None, rows, None, 0.0, 0.0, cosine)
    changes = np.zeros(len(rows), bool)
    changes[[track.rows[0] for track in tracks]] = True
    return changes[1:]


def changes_in_turn(rows: Float, cosine: float) -> np.ndarray:
    """(N - 1,) bool: where a window is less like the one before it."""
    units = length_normalise(rows)
    return np.asarray((units[1:] * units[:-1]).sum(axis=1) < cosine)


def told(found: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> str:
    changed, said = np.concatenate(right), np.concatenate(found)
    return f"{(~said & changed).sum()} of {changed.sum()} | {(said & ~changed).sum()} of {(~changed).sum()}"


def voice_changes(options: Options) -> None:
    """See the top of this file. Raises DataError for too few recordings, or a card without calibration."""
    installed = installed_model(options.model)
    calibration = installed.card.calibration
    if calibration is None:
        raise DataError("the card has no calibration; see steps/measure_calibration.py", options.model)
    embedder = SpeakerEmbedder(open_network(installed, "auto", "cpu", 1), installed.card)
    known: dict[Path, Float] = {}
    rows, right = [], []
    for turns in dialogues(options.speech, options.one_session):
        for _, path in turns:
            if path not in known:
                known[path] = windows_of(path, embedder)
        parts = [known[path] for _, path in turns]
        begins = np.cumsum([len(part) for part in parts])[:-1]
        changed = np.zeros(sum(map(len, parts)), bool)
        changed[begins] = True
        rows.append(np.concatenate(parts))
        right.append(changed[1:])
    print(f"| `{installed.card.name}`, {options.speech.name} | ratio | changes missed | false changes |")
    print("|---|---|---|---|")
    for way, changes in (("as stage 4", changes_by_tracks), ("beside the one before", changes_in_turn)):
        for ratio in options.ratios:
            cosine = calibration.cosine(ratio)
            print(f"| {way} | {ratio:g} | {told([changes(each, cosine) for each in rows], right)} |")


if __name__ == "__main__":
    cli.run(voice_changes, Options, __doc__)
