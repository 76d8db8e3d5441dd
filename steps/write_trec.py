#!/usr/bin/env python3
"""Ranked lists as files that the tools of TREC read, such as trec_eval and ir_measures.

Inputs:
  RANKS      <model> <rank> <segment> <score>, best first
  RELEVANT   optional, <model> <segment>: what belongs to each model
Outputs:
  RUN        <model> Q0 <segment> <rank> <score> <tag>
  QRELS      <model> 0 <segment> 1
trec_eval orders by score, of equal ones by name, not by rank: there it may differ from RANKS.

Example:
  steps/write_trec.py --ranks exp/scores/arcface_tiny/class-mean/clips_test_ranks \\
    --run class-mean.run --relevant data/clips_test/relevant --qrels clips_test.qrels
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidperson import cli


@dataclass(frozen=True)
class WriteTrecOptions:
    ranks: Path = cli.option(help="ranked lists")
    run: Path = cli.option(help="file to write them to")
    tag: str = cli.option("", "name of the system in the run; empty: the name of the folder of RANKS")
    relevant: Path | None = cli.option(None, "what belongs to each model")
    qrels: Path | None = cli.option(None, "file to write that to")


def write_trec(options: WriteTrecOptions) -> None:
    """See the top of this file.

    Raises DataError for malformed or edited lists, ScoringError where only one of RELEVANT and QRELS is given, for
    outputs that are inputs, and for a tag with blanks.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.lines import write_lines
    from vidperson.io.ranks import read_relevant, read_scored_ranks
    from vidperson.io.record import checked

    if (options.relevant is None) != (options.qrels is None):
        raise ScoringError("--relevant and --qrels: expected both of them, or neither")
    paths = [path for path in (options.ranks, options.relevant, options.run, options.qrels) if path is not None]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ScoringError(f"expected files that differ, found {' '.join(map(str, paths))}")
    tag = options.tag or options.ranks.resolve().parent.name
    if len(tag.split()) != 1:
        raise ScoringError(f"--tag: expected a word, found '{tag}'")
    ranked = read_scored_ranks(checked(options.ranks))
    relevant = read_relevant(options.relevant) if options.relevant else {}
    write_lines(
        options.run,
        (
            f"{model} Q0 {segment} {rank} {score} {tag}"
            for model, listed in ranked.items()
            for rank, (segment, score) in enumerate(listed, 1)
        ),
    )
    if options.qrels:
        write_lines(
            options.qrels, (f"{model} 0 {segment} 1" for model, segments in relevant.items() for segment in segments)
        )


if __name__ == "__main__":
    cli.run(write_trec, WriteTrecOptions, __doc__)
