#!/usr/bin/env python3
"""Find where somebody talks in the sound of one job's segments, and measure how good the sound is there.

Inputs:  wav.scp (segment, path of a sound file, or of a video with a sound track).
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         speech.ark   per segment (N, 7) float32, a row per stretch: start_s, end_s, level_db,
                      snr_db, clipped_share, speech_share, rate_hz; see docs/formats.md
         journal.jsonl  the finished segments with their status; a killed job resumes after them

Without a detector there is one stretch, the whole sound. With `energy` there is one per stretch of
loud sound. With --window-s, longer stretches are cut into equal parts, to tell who talks when. A
segment is `silent` without any sound above -70 dB, `short` with less than --shortest-s, `no_audio`
without a sound track. A file that crashes the decoder, or takes it longer than
--segment-timeout-s, costs only its own segment.

Example:
  python steps_speaker/find_speech.py --scp data/talking_test/wav.scp \\
      --output-dir exp/speaker_det/given/talking_test/jobs1/1
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from steps.items import TimeLimitOptions, take_items, take_supervised
from vidperson import cli
from vidperson.supervision import UNWATCHED, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SpeechOptions:
    """See the top of this file."""

    scp: str = cli.option(help="list: segment and path")
    output_dir: str = cli.option(help="the job's own folder")
    detector: str = cli.option("", "what finds speech; empty: the whole sound is speech", choices=("", "energy"))
    shortest_s: float = cli.option(0.3, "seconds of sound that a segment needs", convert=cli.not_negative)
    window_s: float = cli.option(0.0, "cut longer stretches into parts of up to this; 0: no", convert=cli.not_negative)
    limits: TimeLimitOptions = cli.group(TimeLimitOptions)
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def find_speech_supervised(options: SpeechOptions) -> None:
    """:func:`find_speech` in a child process that may crash or hang; see the top of the file."""
    if options.check:
        cli.load("vidperson.speaker.speech", "vidperson.io.job_store")
        return
    from vidperson.speaker.speech import STATES

    take_supervised(partial(find_speech, options), "speech", STATES, options.output_dir, options.limits)


def find_speech(options: SpeechOptions, watch: Watch = UNWATCHED) -> None:
    """Do the segments that the job has not finished yet. Raises VidPersonError for lists that are wrong."""
    from vidperson.io.matrices import matrix_bytes
    from vidperson.speaker import speech

    policy = speech.SpeechPolicy(options.detector == "energy", options.shortest_s, options.window_s)
    limits = options.limits.of_media()

    def take(segment: str, path: str) -> tuple[str, dict[str, Iterator[bytes]]]:
        status, rows = speech.find_speech(path, policy, limits)
        return status, {"speech.ark": iter([matrix_bytes(segment, rows)])}

    take_items("speech", speech.STATES, options.scp, options.output_dir, take, watch)


if __name__ == "__main__":
    cli.run(find_speech_supervised, SpeechOptions, __doc__)
