#!/usr/bin/env python3
"""WIDER Person Search (CSM) -> data folders.

inputs:  <corpus-dir>/{train,val,test}.json, those that are there: per film its cast and its candidates
         <corpus-dir>/{train,val,test}/, the portraits and frames that they name
         <corpus-dir>/val_label.json if there: which candidates show each cast member
outputs: <data-dir>/csm_<part>_cast        vid.scp utt2spk spk2utt: a portrait per cast member
         <data-dir>/csm_<part>_candidates  vid.scp region search utt2group: a part of a frame per candidate;
                                           relevant utt2spk spk2utt where it is known whom they show
         standard output: the folders written, one per line
Frames are neither copied nor cut.

example: python local/csm/prepare_data.py --data-dir data --corpus-dir /corpora/CSM
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, corpus_dir: str) -> None:
    from vidperson.corpora import csm

    for path in csm.prepare(data_dir, corpus_dir):
        print(path)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--corpus-dir", required=True, help="folder with the lists and the folders of images")
    cli.main(prepare_data, parser.parse_args())
