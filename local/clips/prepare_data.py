#!/usr/bin/env python3
"""Own clips -> data folders: every person that is learnt is searched for in every video to search.

inputs:  <persons-dir>/<person>/...  videos or images to learn from; <search-dir>/...  videos or images to search
         optional: <strangers-dir>/...  videos or images of other people
         optional key: lines '<person><tab><video below search-dir>', who is in which searched video
outputs: <data-dir>/clips_train  vid.scp utt2spk spk2utt names; strangers in vid.scp only
         <data-dir>/clips_valid  the same and search utt2group relevant, with --valid-share above 0
         <data-dir>/clips_test   vid.scp search utt2group names; relevant with a key
         standard output: the folders written, one per line

example: python local/clips/prepare_data.py --data-dir data --persons-dir ~/people --search-dir ~/films
"""

from __future__ import annotations

from vidperson import cli


def prepare_data(
    data_dir: str, persons_dir: str, search_dir: str, strangers_dir: str, key: str, valid_share: float
) -> None:
    from vidperson.corpora import clips

    for path in clips.prepare(data_dir, persons_dir, search_dir, strangers_dir, key, valid_share):
        print(path)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="where the data folders are written")
    parser.add_argument("--persons-dir", required=True, help="one folder per person")
    parser.add_argument("--search-dir", required=True, help="videos or images to search")
    parser.add_argument("--strangers-dir", default="", help="videos or images of other people; empty: none")
    parser.add_argument("--key", default="", help="who is in which searched video; empty: not known")
    parser.add_argument("--valid-share", type=float, default=0.0, help="share of a person's sources to validate on")
    cli.main(prepare_data, parser.parse_args())
