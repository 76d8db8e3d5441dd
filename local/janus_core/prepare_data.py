#!/usr/bin/env python3
"""Janus Multimedia, CORE condition: official lists -> data folders.

inputs:  the folder of LDC2019E55: docs/janus_multimedia.tsv, docs/janus_multimedia_trials.tsv, videos/
outputs: <data-dir>/janus_<part>_enroll     vid.scp utt2spk spk2utt face_boundingbox{,_conf} (frames, pixels)
         <data-dir>/janus_<part>_test_core  vid.scp utt2spk spk2utt trials
         standard output: the folders written, one per line

example: python local/janus_core/prepare_data.py --data-dir data --janus-dir LDC2019E55/Janus
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, janus_dir: str) -> None:
    from vidperson.corpora import janus_core

    for folder in janus_core.prepare(data_dir, janus_dir):
        print(folder)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--janus-dir", required=True, help="folder of the release")
    cli.main(prepare_data, parser.parse_args())
