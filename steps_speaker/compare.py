#!/usr/bin/env python3
"""Compare the voices of two sound or video files: `cosine 0.1234`, from -1 to 1, higher for the same voice.

Inputs:  two sound files, or videos with a sound track; an installed speaker network.
Outputs: on stdout the cosine of the two embeddings, which are those of stages 2 and 3.

A cosine has no meaning by itself: which one parts same from different voices depends on the network and the
sound. Stage 4 turns scores into log-likelihood ratios, see docs/metrics.md.

Example:
  python steps_speaker/compare.py --model exp/speaker_models/resemblyzer_dvector a.wav b.mp4
"""

from __future__ import annotations

import logging
from pathlib import Path

from vidperson import cli


def compare(model: Path, files: list[str], engine: str, detector: str) -> float:
    """Print and return the cosine of the voices of two files.

    Raises VidPersonError for a file without speech, and for a network that is missing or of another kind.
    """
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network
    from vidperson.speaker.comparing import voice_cosine
    from vidperson.speaker.embedder import SpeakerEmbedder
    from vidperson.speaker.speech import SpeechPolicy

    logging.getLogger().setLevel(logging.WARNING)
    installed = installed_model(model)
    embedder = SpeakerEmbedder(open_network(installed, engine), installed.card)
    cosine = voice_cosine(files[0], files[1], embedder, SpeechPolicy(detector == "energy"))
    print(f"cosine {cosine:.4f}")
    return cosine


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the installed network")
    parser.add_argument("--engine", default="auto", help="what runs the network")
    finds = "what finds speech; empty: the whole sound is speech"
    parser.add_argument("--detector", default="", choices=("", "energy"), help=finds)
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound or video file; two of them")
    given = parser.parse_args()
    if len(given.files) != 2:
        parser.error(f"expected two files, found {len(given.files)}: {' '.join(given.files)}")
    cli.main(compare, given)
