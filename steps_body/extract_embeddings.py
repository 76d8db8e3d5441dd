#!/usr/bin/env python3
"""Embed the persons of one job's segments.

Inputs:  bodies.scp, crops.scp and status of stage 2; an installed body network of input 256 x 128;
         the segments to do.
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         embed.ark      per segment (N, D) float32, one row per person in the order of bodies.ark,
                        not length-normalised
         journal.jsonl  what is finished; a killed job resumes after it

Example:
  python steps_body/extract_embeddings.py --items-dir exp/body_det/given/market \\
      --scp data/market/vid.scp --model exp/body_models/osnet_x025_msmt17_onnx \\
      --output-dir exp/body_embed/osnet_x025_msmt17_onnx/market/jobs1/1
"""

from __future__ import annotations

from steps.items import ExtractOptions, embed_items
from vidperson import cli


def extract_embeddings(options: ExtractOptions) -> None:
    """Do the segments of ``scp`` that the job has not finished yet; see ``embed_items``."""
    if options.check:
        cli.load("vidperson.embedding", "vidperson.body.crops", "vidperson.body.embedder", "vidperson.networks.opening")
        return
    from vidperson.body.crops import BodyCrops
    from vidperson.body.embedder import BodyEmbedder
    from vidperson.body.gathering import STATES

    embed_items(options, BodyCrops(options.items_dir), BodyEmbedder, STATES)


if __name__ == "__main__":
    cli.run(extract_embeddings, ExtractOptions, __doc__)
