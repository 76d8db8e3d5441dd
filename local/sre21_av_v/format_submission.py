#!/usr/bin/env python3
"""Scores of stage 4 -> the answer that NIST takes for the visual track of SRE21.

inputs:  the official trial list, docs/sre21_visual_<part>_trials.tsv; its columns: imageid, segmentid
         a score file of the same trials, lines '<model> <segment> <log-likelihood ratio>' (natural logarithm)
outputs: a table with tabs: the rows of the trial list, in its order, with a last column LLR
Nothing is written unless every trial has one finite score and every score has its trial.

example: python local/sre21_av_v/format_submission.py --trials LDC2021E10/docs/sre21_visual_eval_trials.tsv \\
             --scores exp/scores/r100/max_cal/sre21_av_v_eval_test_scores --output sre21_eval_system_output.tsv
"""

from __future__ import annotations

from vidperson import cli


def format_submission(trials: str, scores: str, output: str) -> None:
    from vidperson.corpora import sre, sre21

    sre.format_submission(trials, scores, output, sre21.TRIAL_COLUMNS)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--trials", required=True, help="official trial list of the part")
    parser.add_argument("--scores", required=True, help="scores of these trials, calibrated to log-likelihood ratios")
    parser.add_argument("--output", required=True, help="table to write")
    cli.main(format_submission, parser.parse_args())
