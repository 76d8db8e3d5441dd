#!/usr/bin/env python3
"""Ranks of stage 4 -> the answer that the WIDER Person Search challenge takes.

inputs:  a list of ranks, lines '<cast id> <rank> <candidate> <score>', best first
         optional: the data folder that was searched; what the ranks lack of it is put behind
outputs: lines '<cast id> <candidate>,<candidate>,...', in the order of the ranks, best candidate first
Nothing is written where a candidate comes twice or is not of the data folder.

example: python local/csm/format_submission.py --ranks exp/scores/r100/class-mean/csm_val_candidates_ranks \\
             --data-dir data/csm_val_candidates --output val_result.txt
"""

from __future__ import annotations

from vidperson import cli


def format_submission(ranks: str, output: str, data_dir: str) -> None:
    from vidperson.corpora import csm

    cast, candidates, lacking = csm.format_submission(ranks, output, data_dir or None)
    print(f"{output}: {cast} cast members, {candidates} candidates; {lacking} were not in the ranks")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--ranks", required=True, help="<set>_ranks of stage 4")
    parser.add_argument("--output", required=True, help="file to write")
    parser.add_argument("--data-dir", default="", help="data folder of the set; empty: only what is ranked is written")
    cli.main(format_submission, parser.parse_args())
