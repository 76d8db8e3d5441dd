#!/usr/bin/env python3
"""SRE21, visual track: official lists -> data folders.

inputs:  the folders of LDC2021E09 (dev) and/or LDC2021E10 (eval):
         docs/sre21_visual_<part>_*.tsv, data/image/enrollment/*.jpg, data/video/test/*.mp4
outputs: <data-dir>/<prefix>_<part>_enroll  vid.scp utt2spk spk2utt
         <data-dir>/<prefix>_<part>_test    vid.scp utt2spk spk2utt trials trial_partitions
         standard output: the folders written, one per line

example: python local/sre21_av_v/prepare_data.py --data-dir data --dev-dir LDC2021E09 --eval-dir LDC2021E10
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, dev_dir: str, eval_dir: str, prefix: str, partitions: str) -> None:
    from vidperson.corpora import sre21

    for folder in sre21.prepare(data_dir, dev_dir, eval_dir, prefix, partitions.split()):
        print(folder)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--dev-dir", default="", help="folder of the dev release; empty: skip this part")
    parser.add_argument("--eval-dir", default="", help="folder of the eval release; empty: skip this part")
    parser.add_argument("--prefix", default="sre21_av_v", help="first part of the set names")
    parser.add_argument("--partitions", default="gender", help="columns of the key that make partitions; empty: none")
    cli.main(prepare_data, parser.parse_args())
