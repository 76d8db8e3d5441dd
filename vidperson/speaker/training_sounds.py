"""Speakers to train on and to measure on: which sounds there are of whom, and batches of their features."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError, MediaError
from vidperson.io.data_dir import refuse_kaldi
from vidperson.io.lines import read_paths, read_scp
from vidperson.io.pictures import Pictures, list_pictures
from vidperson.media.excerpts import SOUND_SUFFIXES, SoundPlace, excerpt
from vidperson.networks.card import FbankInput
from vidperson.speaker.augment import Sound, SoundAugmentation, SoundPool, at_speed
from vidperson.speaker.fbank import network_input
from vidperson.training.batches import Arrays, ShuffledBatches
from vidperson.training.pictures import NOBODY, PictureSet, PlainPictures, picture_set, split_off

SHORTEST_S = 0.1  # of an utterance that is learnt from


@dataclass(frozen=True)
class SoundSet:
    """Sounds of one source. names: of utterances, in the order of ``sounds``. speakers: of each, "" where not known."""

    sounds: PlainPictures
    speakers: list[str]

    @property
    def source(self) -> str:
        return self.sounds.pictures.source

    def place(self, number: int) -> SoundPlace:
        """Where the sound of an utterance is."""
        return SoundPlace(*self.sounds.pictures.place(self.sounds.chosen[number]))

    def pick(self, numbers: Sequence[int]) -> SoundSet:
        """Some of the utterances."""
        chosen = PlainPictures(self.sounds.pictures, [self.sounds.chosen[number] for number in numbers])
        return SoundSet(chosen, [self.speakers[number] for number in numbers])


def read_speakers(source: str) -> SoundSet:
    """One source: a data folder of the recipe, with ``wav.scp`` and ``utt2spk``, utterances without a speaker being
    nobody's; or a folder or tar archive of ``<speaker>/.../<sound>``.

    Raises DataError for a source that is missing or broken, and for a sound of which it cannot be told who it is.
    """
    if os.path.isfile(f"{source}/wav.scp"):
        sounds = _listed(source)
        spoken = read_scp(f"{source}/utt2spk") if os.path.isfile(f"{source}/utt2spk") else {}
        return SoundSet(sounds, [spoken.get(name, "") for name in read_scp(f"{source}/wav.scp")])
    sounds = _all_of(source)
    for name in sounds.names:
        if "/" not in name:
            raise DataError(f"'{name}': expected <speaker>/.../<sound>, or a data folder with wav.scp", source)
    return SoundSet(sounds, [name.partition("/")[0] for name in sounds.names])


def read_unlabelled(source: str) -> SoundSet:
    """All sounds of a folder, a tar archive or a data folder, whoever speaks in them. Raises DataError."""
    sounds = _listed(source) if os.path.isfile(f"{source}/wav.scp") else _all_of(source)
    return SoundSet(sounds, [""] * len(sounds.names))


def read_pool(source: str, sample_rate: int, cache: str) -> SoundPool:
    """The sounds of a folder at any depth, or of a tar archive. Raises DataError where there are none."""
    sounds = list_pictures(source, SOUND_SUFFIXES, "sound")
    return SoundPool([SoundPlace(*sounds.place(number)) for number in range(len(sounds))], sample_rate, cache)


def training_set(sources: Sequence[SoundSet], unnamed: Sequence[SoundSet]) -> PictureSet:
    """The utterances of some sources, the speakers of different ones being different; and those of nobody known, which
    are not in ``sources``. What is nobody's in these is left out.
    """
    found = []
    for number, each in enumerate(sources):
        kept = [place for place, speaker in enumerate(each.speakers) if speaker]
        if left := len(each.speakers) - len(kept):
            logging.info("%s: %d utterances are of nobody who is known: left out", each.source, left)
        chosen = each.pick(kept)
        found.append((chosen.sounds, [f"{number}:{speaker}" for speaker in chosen.speakers]))
    made = picture_set([*found, *((each.sounds, [""] * len(each.speakers)) for each in unnamed)])
    counts = Counter(made.labels[made.labels >= 0].tolist())
    lonely = [made.identities[label] for label, count in sorted(counts.items()) if count == 1]
    if lonely:
        logging.info("%d of %d speakers have one utterance only, e.g. '%s'", len(lonely), len(counts), lonely[0])
    return made


def split_speakers(sources: Sequence[SoundSet], wanted: int) -> tuple[list[SoundSet], list[SoundSet]]:
    """The sources without ``wanted`` speakers, and these; see :func:`~vidperson.training.pictures.split_off`."""
    kept, out = split_off([each.speakers for each in sources], wanted, "speakers")
    return list(map(SoundSet.pick, sources, kept)), list(map(SoundSet.pick, sources, out))


def _all_of(source: str) -> PlainPictures:
    found = list_pictures(source, SOUND_SUFFIXES, "sound")
    return PlainPictures(found, range(len(found)))


def _listed(source: str) -> PlainPictures:
    """The sounds of a data folder, in the order of its list."""
    refuse_kaldi(source)
    paths = list(read_paths(f"{source}/wav.scp").values())
    if not paths:
        raise DataError("no sound in it", f"{source}/wav.scp")
    relative = [os.path.relpath(path, source) if not os.path.isabs(path) else path for path in paths]
    zeros = np.zeros(len(paths), np.int64)
    return PlainPictures(Pictures(source, relative, zeros, zeros - 1), range(len(paths)))


@dataclass(frozen=True)
class SoundLoader:
    """An utterance as features of a crop, changed at random.

    utterances: all of them. what: the network's input. count: samples of a crop.
    speeds: that each utterance is played at, 1 the first; each is a speaker of its own.
    answer: what teachers say, (B, E), of B utterances at one speed each, both by their numbers; None: no teachers.
    cache: see :func:`~vidperson.media.excerpts.excerpt`.
    """

    utterances: PictureSet
    what: FbankInput
    count: int
    speeds: tuple[float, ...]
    augmentation: SoundAugmentation
    answer: Callable[[list[int], list[int]], NDArray[np.float32]] | None = None
    cache: str = ""

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class of each utterance at its own speed."""
        return self.utterances.labels

    def load(self, batches: ShuffledBatches, epoch: int, step: int) -> tuple[Arrays, list[str]]:
        """crops: (B, frames, bins) features, or (B, bins, frames), float32. labels: (B,) int64. other_labels, share:
        the labels again, and 1. teacher: (B, E), where there are any. And what was left out, and why."""
        crops, labels, items, drawn, broken = [], [], list[int](), list[int](), list[str]()
        for item, rng in batches.draws(epoch, step):
            (speech, used, speed), left_out = batches.usable(item, rng, partial(self._crop, rng=rng))
            broken += left_out
            label = int(self.utterances.labels[used])
            speech = self.augmentation(speech, label, rng, broken)
            features = network_input(speech, self.what)[0]
            self.augmentation.mask(features if self.what.channels_first else features.T, rng)
            crops.append(features)
            labels.append(label if label == NOBODY else label + speed * len(self.utterances.identities))
            items.append(used)
            drawn.append(speed)
        names = np.array(labels, np.int64)
        arrays: dict[str, Any] = {"crops": np.stack(crops), "labels": names, "other_labels": names}
        arrays["share"] = np.ones(len(names), np.float32)
        if self.answer:
            arrays["teacher"] = self.answer(items, drawn)
        return arrays, broken

    def _crop(self, item: int, rng: np.random.Generator) -> tuple[Sound, int, int]:
        """(count,) of an utterance, its number, and the number of the speed that was drawn."""
        speed = int(rng.integers(len(self.speeds)))
        needed = round(self.count * self.speeds[speed]) + 1 if speed else self.count
        place = place_of(self.utterances, item)
        try:
            speech = excerpt(place, rng.random(), needed, self.what.sample_rate, self.cache)
        except MediaError as error:
            raise MediaError(f"{where_of(self.utterances, item)}: {error}") from None
        if len(speech) < SHORTEST_S * self.what.sample_rate:
            seconds = len(speech) / self.what.sample_rate
            raise MediaError(f"{where_of(self.utterances, item)}: {seconds:.3f} s are too short to learn from")
        return np.resize(at_speed(speech, self.speeds[speed]), self.count), item, speed


class OtherSpeakers(SoundPool):
    """Talkers for babble: the speakers that are learnt from. Of whom more than one is known."""

    def __init__(self, utterances: PictureSet, sample_rate: int, cache: str = "") -> None:
        super().__init__((), sample_rate, cache)
        self.utterances = utterances

    def pick(self, rng: np.random.Generator, speaker: int) -> SoundPlace:
        """Any utterance but those of a speaker."""
        while True:
            item = int(rng.integers(len(self.utterances)))
            if self.utterances.labels[item] != speaker or speaker == NOBODY:
                return place_of(self.utterances, item)


def place_of(utterances: PictureSet, item: int) -> SoundPlace:
    """Where an utterance's sound is."""
    source = utterances.sources[utterances.source[item]]
    assert isinstance(source, PlainPictures)
    return SoundPlace(*source.pictures.place(source.chosen[int(utterances.number[item])]))


def where_of(utterances: PictureSet, item: int) -> str:
    """An utterance's place for a message."""
    source = utterances.sources[utterances.source[item]]
    assert isinstance(source, PlainPictures)
    return source.pictures.where(source.chosen[int(utterances.number[item])])
