#!/usr/bin/env python3
"""Embed the aligned faces of one job's segments.

Inputs:  faces.scp, crops.scp and status of stage 2 (video is not read again); an installed face
         network; the segments to do.
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         embed.ark      per segment (N, D) float32, one row per face in the order of faces.ark, not
                        length-normalised
         journal.jsonl  what is finished; a killed job resumes after it

Example:
  python steps_face/extract_embeddings.py --items-dir exp/face_det/retinaface_tiny/demo_dev_test \\
      --scp data/demo_dev_test/vid.scp --model exp/face_models/arcface_tiny \\
      --output-dir exp/face_embed/arcface_tiny/demo_dev_test/jobs1/1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from steps.options import EngineOptions, open_model
from vidperson import cli


@dataclass(frozen=True)
class ExtractOptions:
    """See the top of this file."""

    items_dir: Path = cli.option(help="output folder of stage 2 for the set")
    scp: Path = cli.option(help="list; its first column names the segments of the job")
    model: Path = cli.option(help="folder of the installed face network")
    output_dir: Path = cli.option(help="the job's own folder")
    embed_batch: int = cli.option(16, "crops per call of the network", convert=cli.whole(1))
    mirror: str = cli.option(
        "", "mirrored crops; empty: as the network's card says", choices=["", "none", "concatenate", "sum"]
    )
    network: EngineOptions = cli.group(EngineOptions)
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def extract_embeddings(options: ExtractOptions) -> None:
    """Do the segments of ``scp`` that the job has not finished yet.

    Raises VidPersonError for archives, networks and options that are wrong.
    """
    if options.check:
        cli.load("vidperson.embedding", "vidperson.face.crops", "vidperson.face.embedder", "vidperson.networks.opening")
        return
    import numpy as np

    from vidperson.embedding import embed_segments
    from vidperson.face.crops import FaceCrops
    from vidperson.face.detection import STATES
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.io.lines import read_scp

    crops, segments = FaceCrops(options.items_dir), read_scp(options.scp)
    crops.require(segments)
    network, card = open_model(options.model, options.network, options.embed_batch)
    embedder = FaceEmbedder(network, card, options.mirror or None)
    embed_segments(
        {segment: crops.statuses[segment] for segment in segments},
        crops.read,
        lambda batch: embedder.embed(np.stack(batch)),
        embedder.embedding_size,
        options.output_dir,
        STATES,
        options.embed_batch,
    )


if __name__ == "__main__":
    cli.run(extract_embeddings, ExtractOptions, __doc__)
