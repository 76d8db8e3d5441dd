#!/usr/bin/env python3
"""Make a corpus of talking people in the layout of VoxCeleb: artificial voices, and faces inside Python packages.

inputs:  faces and photographs inside scikit-image and matplotlib; nothing is downloaded
outputs: <out-dir>/voxceleb1/mp4/<speaker>/<video>/*.mp4  H.264 and AAC, 640 x 360 pixels
         <out-dir>/voxceleb1/{O,E}_{trials,list}.txt
         <out-dir>/voxceleb2/wav/<speaker>/<video>/*.wav  16 kHz
         <out-dir>/voxceleb2/frame_align/<speaker>/<video>/<utterance>/*.jpg  112 x 112 pixels
         <out-dir>/voxceleb2/train_all.txt, some rows of which have the wrong speaker
         <out-dir>/train_key.txt  <speaker> <path> <speaker heard> <speaker seen>

example: python local/demo_av/prepare_data.py --out-dir data/demo_av_corpus
"""

from __future__ import annotations

import logging

from vidperson import cli


def prepare_data(out_dir: str, persons: int, seconds: float) -> None:
    from vidperson.corpora import demo_av
    from vidperson.progress import Progress

    progress = Progress(demo_av.num_utterances(persons), "utterances")
    if not demo_av.build(out_dir, persons, seconds, progress.step):
        logging.info("%s: already made", out_dir)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--out-dir", default="data/demo_av_corpus", help="folder to make")
    parser.add_argument("--persons", type=int, default=10, help="persons of a trial list, 2 to 10")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each utterance")
    cli.main(prepare_data, parser.parse_args())
