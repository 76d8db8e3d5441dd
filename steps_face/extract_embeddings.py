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

from steps.items import ExtractOptions, embed_items
from vidperson import cli


def extract_embeddings(options: ExtractOptions) -> None:
    """Do the segments of ``scp`` that the job has not finished yet.

    Raises VidPersonError for archives, networks and options that are wrong.
    """
    if options.check:
        cli.load("vidperson.embedding", "vidperson.face.crops", "vidperson.face.embedder", "vidperson.networks.opening")
        return
    from vidperson.face.crops import FaceCrops
    from vidperson.face.detection import STATES
    from vidperson.face.embedder import FaceEmbedder

    embed_items(options, FaceCrops(options.items_dir), FaceEmbedder, STATES)


if __name__ == "__main__":
    cli.run(extract_embeddings, ExtractOptions, __doc__)
