"""What teachers say of the utterances that are learnt from: computed once, before the training, and kept beside it."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vidperson.errors import MediaError
from vidperson.io.atomic import atomic_write
from vidperson.media.excerpts import excerpt
from vidperson.networks.install import InstalledModel
from vidperson.networks.opening import open_network
from vidperson.progress import Progress
from vidperson.speaker.augment import Sound, at_speed
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.speaker.training_sounds import place_of, where_of
from vidperson.training.batches import one_thread
from vidperson.training.pictures import PictureSet
from vidperson.types import Float

HEARD_S = 20.0  # of an utterance at most, from its middle
_CHUNK = 32  # utterances that are written at once


@dataclass
class TeacherAnswers:
    """(N * speeds, E) float32 in a file: a row for each utterance at each speed, teachers side by side.

    sizes: values of each teacher. numbers: the utterances that are meant; None: all. speeds: rows of each. The file is
    opened by each process when it is first asked.
    """

    path: Path
    sizes: tuple[int, ...]
    speeds: int = 1
    numbers: NDArray[np.int64] | None = None
    _rows: NDArray[np.float32] | None = field(default=None, init=False, repr=False)

    def chosen(self, is_meant: NDArray[np.bool_]) -> TeacherAnswers:
        """Those of some utterances, which are counted from 0 again."""
        return TeacherAnswers(self.path, self.sizes, self.speeds, np.flatnonzero(is_meant))

    def __call__(self, utterances: Sequence[int], speeds: Sequence[int]) -> Float:
        """(B, E) of B utterances at one speed each, by their numbers."""
        if self._rows is None:
            self._rows = np.load(self.path, mmap_mode="r")
        numbers = np.asarray(utterances)
        numbers = numbers if self.numbers is None else self.numbers[numbers]
        return np.array(self._rows[numbers * self.speeds + np.asarray(speeds)], np.float32)

    def __getstate__(self) -> dict[str, object]:
        """For the workers: not what is open."""
        return {**self.__dict__, "_rows": None}


def teacher_answers(
    utterances: PictureSet,
    speeds: Sequence[float],
    teachers: Sequence[InstalledModel],
    engine: str,
    workers: int,
    cache: str,
    folder: Path,
) -> TeacherAnswers:
    """The file of all answers in a folder, made where it is not there yet; resumes after its last finished part.

    Each teacher's rows are of length 1, minus their mean. Rows of utterances that cannot be read are 0.
    engine: what runs the teachers. workers: processes that do it; 0: this one. cache: see
    :func:`~vidperson.media.excerpts.excerpt`.
    """
    sizes = tuple(each.card.output.embedding_size or 0 for each in teachers)
    about = [utterances.digest(), " ".join(map(str, speeds)), *(each.sha256 for each in teachers)]
    about += ([] if engine == "auto" else [engine]) + (["decoded to 16 bits"] if cache else [])
    digest = hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
    path, parts = folder / f"teachers_{digest}.npy", folder / f"teachers_{digest}"
    if path.is_file():
        shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed between the two
        return TeacherAnswers(path, sizes, len(speeds))
    parts.mkdir(parents=True, exist_ok=True)
    chunks = _Chunks(utterances, tuple(speeds), tuple(teachers), engine, cache)
    missing = [number for number in range(len(chunks)) if not (parts / f"{number}.npy").is_file()]
    loader = torch.utils.data.DataLoader(
        chunks,
        batch_size=None,
        sampler=missing,
        num_workers=workers,
        worker_init_fn=one_thread,
        multiprocessing_context="forkserver" if workers else None,
        generator=torch.Generator(),  # its own: the first weights do not depend on what was computed before
    )
    to_hear = sum(chunks.size(number) for number in missing)
    logging.info("the teachers hear %d of %d utterances", to_hear, len(utterances))
    progress = Progress(len(utterances), "utterances", done=len(utterances) - to_hear)
    broken = 0
    for number, (rows, why) in zip(missing, loader, strict=True):
        for line in why:
            logging.warning("the teachers cannot hear %s", line)
        broken += len(why)
        with atomic_write(parts / f"{number}.npy", "wb") as stream:
            np.save(stream, np.asarray(rows), allow_pickle=False)
        progress.step(chunks.size(number))
    if broken:
        logging.warning("%d utterances cannot be read", broken)
    found = np.concatenate([np.load(parts / f"{number}.npy") for number in range(len(chunks))])
    with atomic_write(path, "wb") as stream:
        np.save(stream, _centred(found, sizes), allow_pickle=False)
    shutil.rmtree(parts)
    return TeacherAnswers(path, sizes, len(speeds))


def _centred(rows: Float, sizes: Sequence[int]) -> Float:
    heard = rows.any(axis=1)
    place = 0
    for size in sizes:
        part = rows[:, place : place + size]
        part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
        if heard.any():
            part[heard] -= part[heard].mean(axis=0, dtype=np.float64).astype(np.float32)
        place += size
    return rows


class _Chunks(torch.utils.data.Dataset["tuple[Float, list[str]]"]):
    """Rows of some utterances, and what cannot be read, per number: what the workers compute."""

    def __init__(
        self,
        utterances: PictureSet,
        speeds: tuple[float, ...],
        teachers: tuple[InstalledModel, ...],
        engine: str,
        cache: str,
    ) -> None:
        self.utterances, self.speeds, self.teachers, self.engine, self.cache = (
            utterances,
            speeds,
            teachers,
            engine,
            cache,
        )
        self.embedders: list[SpeakerEmbedder] = []

    def __len__(self) -> int:
        return -(-len(self.utterances) // _CHUNK)

    def size(self, number: int) -> int:
        return min(_CHUNK, len(self.utterances) - number * _CHUNK)

    def __getitem__(self, number: int) -> tuple[Float, list[str]]:
        if not self.embedders:
            networks = [open_network(each, self.engine, "cpu", 1) for each in self.teachers]
            cards = [each.card for each in self.teachers]
            self.embedders = [SpeakerEmbedder(*both) for both in zip(networks, cards, strict=True)]
        rows, broken = [], []
        first = number * _CHUNK
        for item in range(first, first + self.size(number)):
            try:
                rows += self._rows(item)
            except (MediaError, OSError) as error:
                broken.append(f"{where_of(self.utterances, item)}: {error}")
                values = sum(each.embedding_size for each in self.embedders)
                rows += [np.zeros(values, np.float32)] * len(self.speeds)
        return np.stack(rows), broken

    def _rows(self, item: int) -> list[Float]:
        heard: dict[int, Sound] = {}  # by sample rate
        rows = []
        for speed in self.speeds:
            said = []
            for each in self.embedders:
                rate = each.sample_rate
                if rate not in heard:
                    place = place_of(self.utterances, item)
                    heard[rate] = excerpt(place, 0.5, int(HEARD_S * rate), rate, self.cache)
                items = each.items(at_speed(heard[rate], speed))
                if not len(items):
                    raise MediaError("the sound is too short")
                said.append(each.embed([items])[0])
            rows.append(np.concatenate(said))
        return rows

    def __getstate__(self) -> dict[str, object]:
        """For the workers: not the open networks."""
        return {**self.__dict__, "embedders": []}
