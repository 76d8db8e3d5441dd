#!/usr/bin/env python3
"""Make a corpus of films in the layout of WIDER Person Search (CSM): portraits, and frames with persons in them.

inputs:  faces and photographs inside scikit-image and matplotlib; nothing is downloaded
outputs: <out-dir>/train.json, <out-dir>/val.json, <out-dir>/val_label.json
         <out-dir>/{train,val}/<film>/cast/*.jpg        portraits, 240 x 240 pixels
         <out-dir>/{train,val}/<film>/candidates/*.jpg  frames, 640 x 360 pixels

example: python local/demo_cast/prepare_data.py --out-dir data/demo_cast_corpus
"""

from __future__ import annotations

import logging

from vidperson import cli


def prepare_data(out_dir: str, frames: int) -> None:
    from vidperson.corpora import demo_cast
    from vidperson.progress import Progress

    progress = Progress(sum(demo_cast.PARTS.values()), "films")
    if not demo_cast.build(out_dir, frames, progress.step):
        logging.info("%s: already made", out_dir)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--out-dir", default="data/demo_cast_corpus", help="folder to make")
    parser.add_argument("--frames", type=int, default=24, help="frames of each film")
    cli.main(prepare_data, parser.parse_args())
