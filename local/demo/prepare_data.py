#!/usr/bin/env python3
"""Make the demo corpus: a few short videos of two persons in the layout of the SRE19 audio-visual releases.

inputs:  public-domain portraits and photographs inside scikit-image and matplotlib; nothing is downloaded
outputs: <out-dir>/{dev,eval}/docs/sre19_av_<part>_*.tsv
         <out-dir>/{dev,eval}/data/{enrollment,test}/*.mp4  (H.264, 640 x 360 pixels, 25 frames/s)

example: python local/demo/prepare_data.py --out-dir data/demo_corpus
"""

from __future__ import annotations

import logging

from vidperson import cli


def prepare_data(out_dir: str, seconds: float) -> None:
    from vidperson.corpora import demo
    from vidperson.progress import Progress

    progress = Progress(demo.NUM_VIDEOS, "videos")
    if not demo.build(out_dir, seconds, progress.step):
        logging.info("%s: already made", out_dir)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--out-dir", default="data/demo_corpus", help="folder to make")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each video")
    cli.main(prepare_data, parser.parse_args())
