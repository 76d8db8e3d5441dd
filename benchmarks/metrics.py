"""What all metrics of a list of scores cost, beside numpy.sort of the same array, in one run.

Inputs:  none; Gaussian scores with two standard deviations between targets and non-targets.
Outputs: a Markdown table: CPU seconds of numpy.sort and of the metrics (ROC, both EER, min and act DCF at four priors,
         Cllr, min Cllr, precision-recall break-even, DET points), their ratio, and the peak memory of the process,
         the scores themselves (8 bytes each) and the sorted copy for the comparison included.

Every share of targets runs in a process of its own. 100,000,000 scores take a minute and 4 GB.

Example:
  python benchmarks/metrics.py --scores 100000000 --targets 0.01 0.5
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from vidperson import cli

PRIORS = (0.05, 0.01, 0.005, 0.001)


def measure(scores: int, targets: float) -> str:
    """One line of the table."""
    import numpy as np

    from vidperson import metrics

    values = np.random.default_rng(0).standard_normal(scores)
    num_targets = round(scores * targets)
    values[:num_targets] += 2

    begin = time.process_time()
    np.sort(values)
    sorting = time.process_time() - begin
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    begin = time.process_time()
    curve = metrics.roc(values[:num_targets], values[num_targets:])
    figures = [metrics.eer(curve), metrics.eer_simple(curve), metrics.precision_recall_break_even(curve)]
    figures += [metrics.cllr(curve), metrics.min_cllr(curve)]
    figures += [dcf(curve, prior) for prior in PRIORS for dcf in (metrics.min_dcf, metrics.act_dcf)]
    metrics.det_points(curve)
    seconds = time.process_time() - begin
    peak = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return (
        f"| {scores:,} | {100 * targets:g} % | {sorting:.2f} | {seconds:.2f} | {seconds / sorting:.2f} "
        f"| {peak / 1e6:.2f} | {100 * figures[0]:.4f} |"
    )


def run(scores: int, targets: Sequence[float], alone: bool) -> None:
    if alone:
        print(measure(scores, targets[0]))
        return
    print("| scores | targets | numpy.sort, CPU s | all metrics, CPU s | ratio | peak GB | EER % |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for share in targets:
        command = [sys.executable, __file__, "--alone", "--scores", str(scores), "--targets", str(share)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--scores", type=cli.whole(10), default=100_000_000, help="how many")
    parser.add_argument("--targets", type=cli.share, nargs="+", default=[0.01, 0.1, 0.5], help="share of targets, 0..1")
    parser.add_argument("--alone", action="store_true", help="measure the first share in this process")
    cli.main(run, parser.parse_args())
