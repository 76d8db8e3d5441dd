#!/usr/bin/env python3
"""VoxCeleb1 and VoxCeleb2 -> data folders; the utterances of a trial list are tried against each other.

inputs:  <voxceleb1-dir>, <voxceleb2-dir>: wav/ or frame_align/ or both, train_all.txt, train_all_clean.txt;
         of VoxCeleb1 also {O,E,H}_trials.txt and {O,E,H}_list.txt
outputs: <data-dir>/vox<1|2>_{train,train_clean}  wav.scp frames.scp utt2spk spk2utt utt2dur
         <data-dir>/vox1_{o,e,h}_<version>        wav.scp frames.scp utt2spk spk2utt utt2dur trials
         standard output: the folders written, one per line
Which scp there is depends on the folders that are there. <version> is cleaned or original by the number of trials,
or other.

example: python local/voxceleb/prepare_data.py --data-dir data --voxceleb1-dir /corpora/VoxCeleb1
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, voxceleb1_dir: str, voxceleb2_dir: str) -> None:
    from vidperson.corpora import voxceleb

    for path in voxceleb.prepare(data_dir, voxceleb1_dir, voxceleb2_dir):
        print(path)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--voxceleb1-dir", default="", help="folder of VoxCeleb1; empty: none")
    parser.add_argument("--voxceleb2-dir", default="", help="folder of VoxCeleb2; empty: none")
    cli.main(prepare_data, parser.parse_args())
