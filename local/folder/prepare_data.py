#!/usr/bin/env python3
"""Own folders of persons and videos -> data folders; every person is tried against every video.

inputs:  <persons-dir>/<person>/...  portraits or videos of each person; <videos-dir>/...  videos or images
         optional key: lines '<person><tab><video below videos-dir>' naming the target pairs
outputs: <data-dir>/folder_enroll  vid.scp utt2spk spk2utt names; all empty where --find-persons finds no portrait
         <data-dir>/folder_test    vid.scp utt2spk spk2utt trials names; no trials with --find-persons without a key
         standard output: the folders written that are not empty, one per line

example: python local/folder/prepare_data.py --data-dir data --persons-dir ~/people --videos-dir ~/videos
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(data_dir: str, persons_dir: str, videos_dir: str, key: str, find_persons: bool, sound: bool) -> None:
    from vidperson.corpora import folder

    for path in folder.prepare(data_dir, persons_dir, videos_dir, key, find_persons, sound):
        if (path / "spk2utt").stat().st_size:
            print(path)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--persons-dir", required=True, help="one folder per person; with --find-persons may be empty")
    parser.add_argument("--videos-dir", required=True, help="videos or images to search")
    parser.add_argument("--key", default="", help="list of the target pairs; empty: trials have no key")
    parser.add_argument("--find-persons", type=cli.flag, default=False, help="true: who is in each video, and when")
    parser.add_argument("--sound", type=cli.flag, default=False, help="true: list their sound, too")
    cli.main(prepare_data, parser.parse_args())
