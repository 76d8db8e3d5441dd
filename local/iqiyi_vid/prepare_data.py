#!/usr/bin/env python3
"""iQIYI-VID of 2018 or 2019 -> data folders.

inputs:  below <corpus-dir>, at any depth: train_v2.txt or train_gt.txt; val_v2.txt or val_gt.txt; IQIYI_VID.txt and
         filelist.txt if there; clips, each a video or a folder of frames
         optional key: who is in which test clip, of the form of val_gt.txt
outputs: <data-dir>/iqiyi_vid_train  vid.scp utt2spk spk2utt
         <data-dir>/iqiyi_vid_val    vid.scp utt2spk spk2utt search utt2group relevant; strangers in vid.scp only
         <data-dir>/iqiyi_vid_test   vid.scp search utt2group; relevant with a key
         <data-dir>/iqiyi_vid_face   frames.scp utt2spk spk2utt, of iQIYI-VID-FACE without lists of persons
         frames.scp instead of vid.scp where the clips are folders of aligned faces
         standard output: the folders written, one per line

example: python local/iqiyi_vid/prepare_data.py --data-dir data --corpus-dir /corpora/IQIYI_VID
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, corpus_dir: str, key: str) -> None:
    from vidperson.corpora import iqiyi_vid

    for path in iqiyi_vid.prepare(data_dir, corpus_dir, key):
        print(path)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--corpus-dir", required=True, help="folder with the lists and the clips")
    parser.add_argument("--key", default="", help="who is in which test clip; empty: not known")
    cli.main(prepare_data, parser.parse_args())
