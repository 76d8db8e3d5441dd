#!/usr/bin/env python3
"""An answer to the WIDER Person Search challenge -> lists for steps/evaluate_ranks.py.

inputs:  an answer, lines '<cast id> <candidate>,<candidate>,...', best candidate first
         its key, such as val_label.json: an object, cast id -> list of candidates
outputs: <ranks>     <cast id> <rank> <candidate> <score>, in the order of the answer; the score is minus the rank
         <relevant>  <cast id> <candidate>
         <search>    if wished: <cast id> <film>, the film being the id up to its last '_'
Nothing is written for a malformed line, with its number.

example: python local/csm/read_submission.py --result val_rank.txt --labels val_label.json \\
             --ranks ranks --relevant relevant
         steps/evaluate_ranks.py --ranks ranks --relevant relevant
"""

from __future__ import annotations

from vidperson import cli


def read_submission(result: str, labels: str, ranks: str, relevant: str, search: str) -> None:
    from vidperson.corpora import csm

    answered, known = csm.read_submission(result, labels, ranks, relevant, search or None)
    print(f"{ranks}: {answered} cast members; {relevant}: {known}")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--result", required=True, help="the answer")
    parser.add_argument("--labels", required=True, help="its key")
    parser.add_argument("--ranks", required=True, help="list of ranks to write")
    parser.add_argument("--relevant", required=True, help="list of relevant candidates to write")
    parser.add_argument("--search", default="", help="list of films to write; empty: none")
    cli.main(read_submission, parser.parse_args())
