#!/usr/bin/env python3
"""Ranks of stage 4 -> the answer that the iQIYI-VID challenge takes.

inputs:  a list of ranks, lines '<person> <rank> <clip> <score>', at most 100 clips per person
         the data folder that was searched; its vid.scp or frames.scp names the clips
outputs: lines '<person> <clip.mp4> <clip.mp4> ...', best clip first, in the order of the persons' numbers
Nothing is written for a person with more than 100 clips, or with one clip twice.

example: python local/iqiyi_vid/format_submission.py --ranks exp/scores/r100/class-mean/iqiyi_vid_test_ranks \\
             --data-dir data/iqiyi_vid_test --output result.txt
"""

from __future__ import annotations

from vidperson import cli


def format_submission(ranks: str, data_dir: str, output: str) -> None:
    from vidperson.corpora import iqiyi_vid

    print(f"{output}: {iqiyi_vid.format_submission(ranks, data_dir, output)} persons")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--ranks", required=True, help="<set>_ranks of stage 4")
    parser.add_argument("--data-dir", required=True, help="data folder of the set")
    parser.add_argument("--output", required=True, help="file to write")
    cli.main(format_submission, parser.parse_args())
