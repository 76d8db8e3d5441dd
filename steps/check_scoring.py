#!/usr/bin/env python3
"""Refuse options that scoring would refuse later, after part of its work.

Inputs:  the options alone.
Outputs: none.

Example:
  python steps/check_scoring.py --backends "max ahc" --thr-ahc 0.8 --primary sre19
"""

from __future__ import annotations

from vidperson import cli


def check_scoring(backends: str, thr_ahc: float, primary: str) -> None:
    """Raises ScoringError for an unknown back-end or primary cost, and for a threshold that is no cosine."""
    from vidperson.backends import Context, get_backend
    from vidperson.metrics import primary_priors

    for backend in backends.split():
        get_backend(backend)
    Context(thr_ahc)
    primary_priors(primary)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--backends", required=True, help="names or aliases, separated by spaces")
    parser.add_argument("--thr-ahc", type=float, required=True, help="average cosine down to which clusters are merged")
    parser.add_argument("--primary", required=True, help="evaluation whose cost is the primary one")
    cli.main(check_scoring, parser.parse_args())
