"""What the epochs of a voice network are measured on: pairs of utterances of one speaker or of two."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError, MediaError
from vidperson.io.lines import read_scp
from vidperson.io.lists import read_key
from vidperson.media.excerpts import SoundPlace, excerpt
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.speaker.training_sounds import SoundSet
from vidperson.speaker.training_teachers import HEARD_S
from vidperson.types import Float

MOST_UTTERANCES = 2000  # of which all pairs are scored
_PAIRS_AT_ONCE = 1 << 16
Measure = Callable[[NDArray[np.float64], NDArray[np.bool_]], dict[str, Any]]


@dataclass(frozen=True)
class ValidPairs:
    """places: N utterances. models: of each of M the numbers of its own. pairs: (P, 2) int64, a model and an
    utterance. is_target: (P,). words: where they are from.
    """

    places: list[SoundPlace]
    models: list[list[int]]
    pairs: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    words: str

    def digest(self) -> str:
        """SHA-256 of what is compared with what."""
        found = hashlib.sha256(self.pairs.tobytes() + self.is_target.tobytes())
        for place in self.places:
            found.update(os.fsencode(f"{os.path.basename(place.path)} {place.offset} {place.size}\n"))
        return found.hexdigest()

    def figures(self, embedder: SpeakerEmbedder, measure: Measure, cache: str) -> dict[str, Any]:
        """What ``measure`` says of all scores, ``eer`` among it: of cosines, and, as ``<name>_centred``, of those after
        the mean of all embeddings was subtracted.

        Utterances that cannot be read are left out with their pairs, and counted in the log. Raises DataError where
        no pair of one speaker, or none of two, is left.
        """
        embeddings, unread = np.zeros((len(self.places), embedder.embedding_size)), dict[int, str]()
        for number, place in enumerate(self.places):
            try:
                embeddings[number] = _embedding(place, embedder, cache)
            except (MediaError, OSError) as error:
                unread[number] = f"{place.path}: {error}"
        pairs = self._without(unread)
        heard = np.ones(len(embeddings), bool)
        heard[list(unread)] = False
        plain = measure(pairs.scores(embeddings), pairs.is_target)
        centred = np.where(heard[:, None], embeddings - embeddings[heard].mean(axis=0), 0)
        after = measure(pairs.scores(centred), pairs.is_target)
        targets = int(pairs.is_target.sum())
        rates = 100 * plain["eer"], 100 * after["eer"]
        text = "%d pairs of one speaker, %d of two: EER %.2f %%; after the mean is subtracted %.2f %%"
        logging.info(text, targets, len(pairs.pairs) - targets, *rates)
        counts = ("num_targets", "num_nontargets")
        return plain | {f"{name}_centred": value for name, value in after.items() if name not in counts}

    def _without(self, unread: Mapping[int, str]) -> ValidPairs:
        """Those pairs that have neither an utterance nor a whole model among the unread ones, number -> why."""
        if not unread:
            return self
        known = np.array([any(number not in unread for number in numbers) for numbers in self.models], bool)
        kept = known[self.pairs[:, 0]] & ~np.isin(self.pairs[:, 1], list(unread))
        first = next(iter(unread.values()))
        counts = len(unread), len(self.places)
        logging.warning("%d of %d utterances to validate on are left out, e.g. %s", *counts, first)
        targets = int(self.is_target[kept].sum())
        if not 0 < targets < kept.sum():
            raise DataError(f"nothing to validate on: {len(unread)} utterances cannot be used, the first one: {first}")
        return dataclasses.replace(self, pairs=self.pairs[kept], is_target=self.is_target[kept])

    def scores(self, embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P,) cosines; a model is the mean of its utterances' directions."""
        directions = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        models = np.stack([directions[numbers].mean(axis=0) for numbers in self.models])
        models /= np.maximum(np.linalg.norm(models, axis=1, keepdims=True), 1e-12)
        scores = np.empty(len(self.pairs))
        for start in range(0, len(scores), _PAIRS_AT_ONCE):
            part = self.pairs[start : start + _PAIRS_AT_ONCE]
            scores[start : start + _PAIRS_AT_ONCE] = (models[part[:, 0]] * directions[part[:, 1]]).sum(axis=1)
        return scores


def valid_pairs(sources: Sequence[SoundSet], by_trials: bool = True) -> ValidPairs:
    """The trials of a data folder, where it is the only source; else all pairs of utterances of known speakers, those
    of different sources being different, of at most 2,000 utterances that are spread evenly over all.

    by_trials: the sources are whole, so that trials of one mean its utterances.

    Raises DataError where there are no pairs of one speaker, or none of two.
    """
    words = " ".join(dict.fromkeys(os.path.basename(os.path.normpath(each.source)) for each in sources))
    folder = sources[0].source
    if by_trials and len(sources) == 1 and os.path.isfile(f"{folder}/trials"):
        found = _of_trials(sources[0], words)
    else:
        found = _all_pairs(sources, words)
    targets = int(found.is_target.sum())
    if not 0 < targets < len(found.is_target):
        raise DataError(
            f"expected pairs of one speaker, and of two, to validate on, found {targets} and "
            f"{len(found.is_target) - targets}; take two speakers or more, with two utterances or more",
            folder,
        )
    return found


def _all_pairs(sources: Sequence[SoundSet], words: str) -> ValidPairs:
    known = [(at, number) for at, each in enumerate(sources) for number, name in enumerate(each.speakers) if name]
    if len(known) > MOST_UTTERANCES:
        known = [known[place * len(known) // MOST_UTTERANCES] for place in range(MOST_UTTERANCES)]
    places = [sources[at].place(number) for at, number in known]
    named = [(at, sources[at].speakers[number]) for at, number in known]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
    speakers = np.array([numbers[name] for name in named], np.int64)
    pairs = np.stack(np.triu_indices(len(known), 1), axis=1)
    is_target = speakers[pairs[:, 0]] == speakers[pairs[:, 1]]
    return ValidPairs(places, [[number] for number in range(len(known))], pairs, is_target, words)


def _of_trials(source: SoundSet, words: str) -> ValidPairs:
    folder = source.source
    numbers = {name: number for number, name in enumerate(read_scp(f"{folder}/wav.scp"))}
    members: dict[str, list[int]] = {}
    for number, speaker in enumerate(source.speakers):
        if speaker:
            members.setdefault(speaker, []).append(number)
    trials, is_target = read_key(f"{folder}/trials")
    named: list[tuple[list[str], Container[str], str]] = [
        (trials.model_ids, members, "model"),
        (trials.segment_ids, numbers, "segment"),
    ]
    for ids, known, what in named:
        strange = next((name for name in ids if name not in known), None)
        if strange is not None:
            raise DataError(
                f"{what} '{strange}': not in this folder; to validate on a set, its wav.scp and utt2spk have both the "
                "enrolment and the test utterances",
                f"{folder}/trials",
            )
    order = {name: number for number, name in enumerate(members)}
    models = np.array([order[name] for name in trials.model_ids], np.int64)[trials.model_index]
    segments = np.array([numbers[name] for name in trials.segment_ids], np.int64)[trials.segment_index]
    pairs = np.stack([models, segments], axis=1)
    places = [source.place(number) for number in range(len(source.speakers))]
    return ValidPairs(places, list(members.values()), pairs, is_target, words)


def _embedding(place: SoundPlace, embedder: SpeakerEmbedder, cache: str) -> Float:
    """(D,) of an utterance's middle. Raises MediaError or OSError where it cannot be read."""
    rate = embedder.sample_rate
    return embedder.embed([embedder.items(excerpt(place, 0.5, int(HEARD_S * rate), rate, cache))])[0]
