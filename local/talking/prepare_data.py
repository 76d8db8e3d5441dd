#!/usr/bin/env python3
"""Own folders of talking videos -> data folders; every two videos of different sources are tried.

inputs:  <test-dir>/<person>/...  talking videos; those in one folder inside a person's folder are one source
         <train-dir>/<person>/... likewise, of other persons, to train on; optional
outputs: <data-dir>/talking_test   vid.scp wav.scp utt2spk spk2utt trials names
         <data-dir>/talking_train  vid.scp wav.scp utt2spk spk2utt names
         standard output: the folders written, one per line

example: python local/talking/prepare_data.py --data-dir data --test-dir ~/talking
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, test_dir: str, train_dir: str) -> None:
    from vidperson.corpora import talking

    for path in talking.prepare(data_dir, test_dir, train_dir):
        print(path)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--test-dir", required=True, help="one folder of videos per person")
    parser.add_argument("--train-dir", default="", help="likewise, of other persons, to train on; empty: none")
    cli.main(prepare_data, parser.parse_args())
