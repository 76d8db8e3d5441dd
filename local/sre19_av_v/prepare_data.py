#!/usr/bin/env python3
"""SRE19 audio-visual (visual part): official lists -> data folders.

inputs:  the folders of LDC2019E56 (dev) and/or LDC2019E57 (eval):
         docs/sre19_av_<part>_*.tsv, data/{enrollment,test}/*.mp4
outputs: <data-dir>/<prefix>_<part>_enroll  vid.scp utt2spk spk2utt face_boundingbox{,_conf} (seconds, pixels)
         <data-dir>/<prefix>_<part>_test    vid.scp utt2spk spk2utt trials
         standard output: the folders written, one per line

example: python local/sre19_av_v/prepare_data.py --data-dir data --dev-dir LDC2019E56 --eval-dir LDC2019E57
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, dev_dir: str, eval_dir: str, prefix: str) -> None:
    from vidperson.corpora import sre19_av

    for folder in sre19_av.prepare(data_dir, dev_dir, eval_dir, prefix):
        print(folder)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--dev-dir", default="", help="folder of the dev release; empty: skip this part")
    parser.add_argument("--eval-dir", default="", help="folder of the eval release; empty: skip this part")
    parser.add_argument("--prefix", default="sre19_av_v", help="first part of the set names")
    cli.main(prepare_data, parser.parse_args())
