"""Make a set of segments in this process, by one job; utils/segment_jobs.py does so by many.

The files are the same, byte for byte, and so is what happens when it is done again: a set that is done is left alone,
of one with new or changed segments only these are done, and after a kill it resumes with the next segment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from vidperson.io.data_dir import work_list
from vidperson.io.lines import read_scp
from vidperson.io.merging import Plan, merge
from vidperson.io.record import damaged_outputs, differences, new_record, save_record
from vidperson.io.segment_inputs import is_missing, segment_inputs
from vidperson.io.set_folder import SetFolder, job_folders


def make_set(
    output_dir: Path,
    archives: Sequence[str],
    states: Sequence[str],
    scp: Path,
    settings: Sequence[str],
    do: Callable[[Mapping[str, str], Path], None],
    sources: Iterable[Path] = (),
) -> None:
    """Bring a set up to date. With other settings than those of its record, or where a file is not as it was written,
    all of it is done again.

    archives, states: see :class:`~vidperson.io.job_store.JobStore`.
    scp: list of segments and, where there are no ``sources``, of files, which count by size and time of change.
    settings: words that decide the outcome of each segment.
    do: the segments that are left, with absolute paths, and the folder of a job -> its archives and journal there.
    sources: finished sets of which the segments decide those of this one.
    Raises DataError while another process is at work on it, and MediaError where files vanish under way.
    """
    folder, lines, sources = SetFolder(output_dir, archives), read_scp(scp), list(sources)
    with folder.locked():
        media = None if sources else scp.parent
        plan = Plan(segment_inputs(lines, sources, media), archives)
        record = new_record(settings, [])
        begun = folder.begun_with()
        whole = folder.record()
        if begun is None or differences(begun, settings, []) or (whole and damaged_outputs(output_dir, whole, False)):
            folder.clear()
        elif whole and all(then == now for then, now in zip_longest(folder.inputs_of_set(), plan.inputs())):
            folder.remove_leftovers()
            return
        folder.begin(record)
        folder.take_finished(plan, states)
        jobs = folder.jobs() if plan.to_do() else None
        if plan.to_do():
            paths = {segment: os.path.abspath(scp.parent / lines[segment]) for segment in plan.to_do()}
            jobs = jobs or folder.start_jobs(scp.name, paths, work_list(scp.parent, decodes=False), plan, 1)
            (job,) = job_folders(jobs)
            do(paths, job)
            plan.add_jobs([job], lambda segment: media is not None and not is_missing(plan.input_of(segment) or ""))
        save_record(output_dir, replace(record, outputs=merge(plan, output_dir, states)))
        folder.remove_leftovers()
