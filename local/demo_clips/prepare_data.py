#!/usr/bin/env python3
"""Make a corpus of short clips in folders: persons to learn, strangers, and clips to search.

inputs:  faces and photographs inside scikit-image and matplotlib; nothing is downloaded
outputs: <out-dir>/persons/<person>/*.mp4, <out-dir>/strangers/*.mp4, <out-dir>/search/*.mp4
         (H.264, 640 x 360 pixels, 25 frames/s), <out-dir>/search.key

example: python local/demo_clips/prepare_data.py --out-dir data/demo_clips_corpus
"""

from __future__ import annotations

import logging

from vidperson import cli


def prepare_data(out_dir: str, seconds: float) -> None:
    from vidperson.corpora import demo_clips
    from vidperson.progress import Progress

    progress = Progress(demo_clips.NUM_CLIPS, "clips")
    if not demo_clips.build(out_dir, seconds, progress.step):
        logging.info("%s: already made", out_dir)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--out-dir", default="data/demo_clips_corpus", help="folder to make")
    parser.add_argument("--seconds", type=float, default=1.6, help="length of each clip")
    cli.main(prepare_data, parser.parse_args())
