#!/usr/bin/env python3
"""What stages 2 and 3 of speakers cost: CPU seconds beside a bare decoder and network, and memory for hours of sound.

Inputs:  SPEECH, a folder of sound files, in its subfolders, too; MODEL, an installed speaker network
Outputs: on stdout two Markdown tables. Speed: per round the CPU seconds of decoding the files with PyAV and nothing
         else, of the network on features that are there, of stage 3, and the ratio of the first two to the last.
         Memory: the peak of a process that does stage 2 or 3 of one file of so many hours; the file is the
         speech again and again. Exit status 1 below the ratio --least, or with more than --limit-mb between the hours

Example:
  python benchmarks/sound.py --speech ../shared/data/speech/librispeech \\
      --model /tmp/speech/exp/speaker_models/resemblyzer_dvector
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidperson import cli
from vidperson.errors import DataError
from vidperson.types import Float

SUFFIXES = {".flac", ".wav", ".ogg", ".opus", ".mp4", ".m4a", ".mp3"}
FIND, EXTRACT = "steps_speaker/find_speech.py", "steps_speaker/extract_embeddings.py"


@dataclass(frozen=True)
class Options:
    """See the top of this file."""

    speech: Path = cli.option(help="folder of sound files")
    model: Path = cli.option(help="folder of the installed network")
    files: int = cli.option(100, "sound files for the speed", convert=cli.whole(1))
    rounds: int = cli.option(3, "times that each is measured, in turns", convert=cli.whole(0))
    batch: int = cli.option(16, "items per call of the network", convert=cli.whole(1))
    hours: list[float] = cli.option((1.0, 10.0), "lengths to compare with the first", convert=cli.positive)
    least: float = cli.option(0.8, "ratio that is expected", convert=cli.share)
    limit_mb: float = cli.option(30.0, "by how much the peaks may differ", convert=cli.positive)


def decode(path: Path) -> int:
    """Samples of a file, by PyAV only."""
    import av

    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def speed(options: Options, files: list[Path], work: Path) -> float:
    """Print a line a round. Returns the ratio of the best rounds: others of the machine may have slowed one down."""
    from steps_speaker.extract_embeddings import SpeechEmbedOptions, extract_embeddings
    from steps_speaker.find_speech import SpeechOptions, find_speech
    from vidperson.io.lines import read_scp
    from vidperson.io.merging import merge_jobs
    from vidperson.media.audio import read
    from vidperson.networks.batching import by_shape
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network
    from vidperson.speaker.embedder import SpeakerEmbedder
    from vidperson.speaker.speech import STATES

    scp = work / "wav.scp"
    scp.write_text("".join(f"s{number:05d} {path}\n" for number, path in enumerate(files)))
    items, job = work / "items", work / "items/job"
    find_speech(SpeechOptions(str(scp), str(job)))
    merge_jobs([job], items, ["speech.ark"], STATES, read_scp(scp))
    installed = installed_model(options.model)
    network = open_network(installed)
    embedder = SpeakerEmbedder(network, installed.card)
    crops = [crop for path in files for crop in embedder.items(read(path))]
    batches: list[Float] = [batch for _, batch in by_shape(range(len(crops)), crops, options.batch)]
    print("| decoder, s | network, s | stage 3, s |\n|---|---|---|")
    seconds = []
    for number in range(options.rounds):
        out = work / f"embed{number}"
        marks = [time.process_time()]
        for path in files:
            decode(path)
        marks.append(time.process_time())
        for batch in batches:
            network(batch)
        marks.append(time.process_time())
        extract_embeddings(SpeechEmbedOptions(items, scp, options.model, out, embed_batch=options.batch))
        marks.append(time.process_time())
        seconds.append(np.diff(marks))
        print(f"| {' | '.join(f'{value:.2f}' for value in seconds[-1])} |", flush=True)
    bare, net, whole = np.min(seconds, axis=0)
    return float((bare + net) / whole)


def write_hours(files: list[Path], hours: float, path: Path) -> None:
    """A WAV file, 16 kHz, of the files again and again."""
    from vidperson.media.audio import read

    pieces = [(read(file) * 32767).astype(np.int16).tobytes() for file in files[:20]]
    left = round(hours * 3600 * 16000) * 2
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 16000, 0, "NONE", ""))
        while left > 0:
            for piece in pieces:
                stream.writeframesraw(piece[:left])
                left -= len(piece[:left])


def peak_of(words: list[str]) -> tuple[float, float]:
    """Peak resident memory in MB of 10^6 bytes, and CPU seconds, of a step. Raises DataError where it fails."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        if child.returncode:
            raise DataError(f"{' '.join(words)} failed:\n{log.read().decode()[-2000:]}")
    return usage.ru_maxrss * 1024 / 1e6, usage.ru_utime + usage.ru_stime


def memory(options: Options, files: list[Path], work: Path) -> float:
    """Print a line per length. Returns by how much the peaks differ, MB."""
    print(
        "\n| hours | stage 2, MB | stage 3, MB | stage 2, CPU s | stage 3, CPU s |\n|---|---|---|---|---|", flush=True
    )
    peaks = []
    for hours in options.hours:
        folder = work / f"{hours:g}"
        folder.mkdir()
        sound, scp = folder / "long.wav", folder / "wav.scp"
        # another process makes the file: the memory of the parent at its start counts as the child's
        make = "import benchmarks.sound as b, pathlib as p, sys; "
        make += "b.write_hours([p.Path(x) for x in sys.argv[3:]], float(sys.argv[1]), p.Path(sys.argv[2]))"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        words = [sys.executable, "-c", make, str(hours), str(sound), *map(str, files[:20])]
        subprocess.run(words, check=True, env=environment)
        scp.write_text(f"long {sound}\n")
        data = folder / "set"
        words = ["utils/segment_jobs.py", "--nj", "1", "--states", "ok", "--archives", "speech.ark"]
        words += [str(scp), str(data), "--", "python", FIND, "--detector", "energy"]
        found, find_s = peak_of(words)
        extract = [EXTRACT, "--items-dir", str(data), "--scp", str(scp), "--model", str(options.model)]
        embedded, embed_s = peak_of([*extract, "--output-dir", str(folder / "embed"), "--crops", "5"])
        print(f"| {hours:g} | {found:.1f} | {embedded:.1f} | {find_s:.1f} | {embed_s:.1f} |", flush=True)
        peaks.append((found, embedded))
        sound.unlink()
    return max(abs(peak - first) for row in peaks for peak, first in zip(row, peaks[0], strict=True))


def sound(options: Options) -> None:
    """See the top of the file."""
    logging.getLogger().setLevel(logging.WARNING)
    files = sorted(path for path in options.speech.resolve().rglob("*") if path.suffix in SUFFIXES)[: options.files]
    if not files:
        raise DataError(f"expected sound files ({' '.join(sorted(SUFFIXES))}), found none", options.speech)
    with tempfile.TemporaryDirectory() as folder:
        more_mb = memory(options, files, Path(folder)) if options.hours else 0.0
        ratio = speed(options, files, Path(folder)) if options.rounds else 1.0
    print(f"\nRatio {ratio:.2f} (at least {options.least:g}); the longer file needs {more_mb:.1f} MB more.")
    if ratio < options.least or more_mb > options.limit_mb:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(sound, Options, __doc__)
