#!/usr/bin/env python3
"""Embed the speech of one job's segments.

Inputs:  speech.scp and status of stage 2; wav.scp, the sound of which is read again; an installed
         speaker network.
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         embed.ark      per segment (1 + crops, D) float32, not length-normalised: row 0 of all its
                        speech together, the others of crops of 3 s; no row where there is no speech
         journal.jsonl  what is finished; a killed job resumes after it

Equally long pieces go through the network together, so that nothing is filled up. Speech longer than
--longest-s is embedded in equal parts, and row 0 is their mean. With --window-s above 0 there is
instead a row per stretch of stage 2, in their order.

Example:
  python steps_speaker/extract_embeddings.py --items-dir exp/speaker_det/given/talking_test \\
      --scp data/talking_test/wav.scp --model exp/speaker_models/resemblyzer_dvector \\
      --output-dir exp/speaker_embed/resemblyzer_dvector/talking_test/jobs1/1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.options import EngineOptions, open_model
from vidperson import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidperson.speaker.cutting import Span
    from vidperson.types import Float


@dataclass(frozen=True)
class SpeechEmbedOptions:
    """See the top of this file."""

    items_dir: Path = cli.option(help="output folder of stage 2 for the set")
    scp: Path = cli.option(help="list: segment and path")
    model: Path = cli.option(help="folder of the installed embedder")
    output_dir: Path = cli.option(help="the job's own folder")
    crops: int = cli.option(0, "crops of 3 s that are embedded, too", convert=cli.whole(0))
    longest_s: float = cli.option(60.0, "seconds that are embedded at once", convert=cli.positive)
    window_s: float = cli.option(0.0, "above 0: embed each stretch of stage 2 by itself", convert=cli.not_negative)
    embed_batch: int = cli.option(16, "pieces per call of the network", convert=cli.whole(1))
    network: EngineOptions = cli.group(EngineOptions)
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def extract_embeddings(options: SpeechEmbedOptions) -> None:
    """Do the segments of ``scp`` that the job has not finished yet.

    Raises VidPersonError for archives, networks and options that are wrong, and for sound that has changed.
    """
    if options.check:
        cli.load("vidperson.embedding", "vidperson.speaker.cutting", "vidperson.speaker.embedder")
        cli.load("vidperson.networks.opening")
        return
    from vidperson.embedding import embed_segments
    from vidperson.io.lines import read_paths
    from vidperson.speaker.cutting import CutPolicy, SpeechStretches, join_rows, read_spans
    from vidperson.speaker.embedder import SpeakerEmbedder
    from vidperson.speaker.speech import STATES

    paths, speech = read_paths(options.scp), SpeechStretches(options.items_dir)
    speech.require(paths)
    embedder = SpeakerEmbedder(*open_model(options.model, options.network, options.embed_batch), options.embed_batch)
    policy = CutPolicy(options.crops, options.longest_s, each=options.window_s > 0)
    spans: dict[str, list[Span]] = {}

    def items_of(segment: str) -> Iterator[Float]:
        spans[segment] = []
        for span, sound in read_spans(paths[segment], speech.rows(segment), embedder.sample_rate, policy):
            spans[segment].append(span)
            yield embedder.items(sound)

    embed_segments(
        {segment: speech.statuses[segment] for segment in paths},
        items_of,
        embedder.embed,
        embedder.embedding_size,
        options.output_dir,
        STATES,
        options.embed_batch,
        lambda segment, found: join_rows(spans.pop(segment), found),
    )


if __name__ == "__main__":
    cli.run(extract_embeddings, SpeechEmbedOptions, __doc__)
