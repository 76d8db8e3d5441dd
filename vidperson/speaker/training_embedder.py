"""The plan of a training of a voice embedding network, see :class:`~vidperson.training.command.TrainingPlan`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from vidperson.errors import DataError, TrainingError
from vidperson.networks.card import FbankInput, ModelCard, Output
from vidperson.networks.convert import FBANK_EMBEDDERS
from vidperson.networks.install import InstalledModel, installed_model
from vidperson.speaker.augment import Ranges, SoundAugmentation, SoundPool, SoundShares, fraction_of
from vidperson.speaker.embedder import SpeakerEmbedder
from vidperson.speaker.training_sounds import (
    OtherSpeakers,
    SoundLoader,
    read_pool,
    read_speakers,
    read_unlabelled,
    split_speakers,
    training_set,
)
from vidperson.speaker.training_teachers import TeacherAnswers, teacher_answers
from vidperson.speaker.training_valid import Measure, ValidPairs, valid_pairs
from vidperson.training import command
from vidperson.training.batches import ShuffledBatches
from vidperson.training.command import MarginOptions, TaughtOptions, TrainingPlan
from vidperson.training.export import new_card
from vidperson.training.loop import World, first_alone, start_centres
from vidperson.training.losses import IdentityLoss
from vidperson.training.pictures import (
    IdentityPictureBatches,
    JoinedBatches,
    PictureBatches,
    PictureSet,
    refuse_shared,
)
from vidperson.training.task import EmbedderTask, Teaching

_LOGMEL = FbankInput(
    sample_rate=16000, mel_bins=80, window=400, hop=160, fft=512, low_hz=20.0, high_hz=7600.0, framing="centred",
    window_type="hamming", mel_scale="htk", mean_norm=True, pre_emphasis=0.97, log_offset=1e-6, channels_first=True,
)  # fmt: skip
_KALDI = FbankInput(
    sample_rate=16000, mel_bins=80, window=400, hop=160, fft=512, low_hz=20.0, high_hz=8000.0, framing="kaldi",
    window_type="hamming", mel_scale="kaldi", mean_norm=True, pre_emphasis=0.97, log_floor=1.1920929e-07,
    scale=32768.0, channels_first=True,
)  # fmt: skip
FRONT_ENDS = {"logmel": _LOGMEL, "logmel60": dataclasses.replace(_LOGMEL, mel_bins=60), "kaldi": _KALDI}
"""As AVCleanse, as ReDimNet-B0, and as WeSpeaker compute what a network takes."""
_SPEEDS = (0.5, 2.0)


@dataclass(frozen=True)
class SpeakerRecipe:
    """What is trained, and how. features: one of ``FRONT_ENDS``. crop_s: seconds of a crop.

    batch_size: crops of known speakers per step, all processes together. utterances: of these, of each speaker; 0: each
    utterance once an epoch. unlabelled_batch: crops of unknown speakers. speeds: at which each utterance is played,
    too, as another speaker. augment, ranges: texts of :class:`~vidperson.speaker.augment.SoundShares` and ``Ranges``.
    noise, music, babble, rooms: folders or tars of sounds; "": none. cache: folder for decoded sound; "": none.
    Raises TrainingError for what is not possible.
    """

    architecture: str
    features: str
    crop_s: float
    batch_size: int
    unlabelled_batch: int
    utterances: int
    speeds: tuple[float, ...]
    augment: str
    ranges: str
    noise: str
    music: str
    babble: str
    rooms: str
    cache: str
    margin: MarginOptions

    def __post_init__(self) -> None:
        if self.architecture not in FBANK_EMBEDDERS:
            raise TrainingError(
                f"architecture: expected one of {' '.join(FBANK_EMBEDDERS)}, found '{self.architecture}'"
            )
        if self.features not in FRONT_ENDS:
            raise TrainingError(f"features: expected one of {' '.join(FRONT_ENDS)}, found '{self.features}'")
        if not 0.2 <= self.crop_s <= 60:
            raise TrainingError(f"crop: expected 0.2 to 60 seconds, found {self.crop_s:g}")
        for speed in self.speeds:
            if not _SPEEDS[0] <= speed <= _SPEEDS[1] or fraction_of(speed) == 1:
                raise TrainingError(f"speeds: expected numbers from 0.5 to 2 beside 1, found {speed:g}")
        if len({fraction_of(speed) for speed in self.speeds}) < len(self.speeds):
            raise TrainingError(f"speeds: expected each once, found {' '.join(f'{speed:g}' for speed in self.speeds)}")
        if self.utterances and self.batch_size % self.utterances:
            raise TrainingError(
                f"batch size: expected a multiple of the {self.utterances} utterances of a speaker, found "
                f"{self.batch_size}"
            )
        SoundShares.parse(self.augment)
        Ranges.parse(self.ranges)

    @property
    def input(self) -> FbankInput:
        """What the network takes."""
        return FRONT_ENDS[self.features]

    @property
    def played(self) -> tuple[float, ...]:
        """All speeds, the own one first."""
        return (1.0, *self.speeds)


@dataclass(frozen=True)
class SpeakerData:
    """utterances: what is learnt from, known speakers and unknown ones. valid: what chooses the epoch. test: what the
    exported network is measured on. None: nothing.
    """

    utterances: PictureSet
    valid: ValidPairs | None
    test: ValidPairs | None


def read_data(
    train: Sequence[str], unlabelled: Sequence[str], valid: Sequence[str], test: Sequence[str], wanted: int
) -> SpeakerData:
    """Read all sources; ``wanted`` speakers of ``train`` are validated on where ``valid`` is empty.

    Raises DataError for a source that is missing or broken, or that is learnt from and measured on.
    """
    refuse_shared((*train, *unlabelled), (*valid, *test))
    known, measured = [read_speakers(source) for source in train], [read_speakers(source) for source in valid]
    if wanted and valid:
        raise DataError("speakers are held out, or others are named to validate on, not both")
    if wanted:
        known, measured = split_speakers(known, wanted)
    tested = [read_speakers(source) for source in test]
    unnamed = [read_unlabelled(source) for source in unlabelled]
    chosen_by = valid_pairs(measured, by_trials=not wanted) if measured else None
    if wanted and chosen_by:
        chosen_by = dataclasses.replace(chosen_by, words=f"{wanted} speakers held out of {chosen_by.words}")
    figures_of = valid_pairs(tested) if tested else None
    utterances = training_set(known, unnamed)
    if not len(utterances):
        raise DataError("expected utterances to train on, found none")
    return SpeakerData(utterances, chosen_by, figures_of)


def embedder_card(recipe: SpeakerRecipe, options: TaughtOptions) -> ModelCard:
    """The card of the network to be. Raises ModelError for a folder with a name that no card can have."""
    size = recipe.margin.embedding_size
    return new_card(
        options.folder.name,
        "speaker_embedder",
        f"{recipe.architecture}, {size} values, trained by run_012_train_speaker_embedder.sh",
        options.licence,
        options.homepage,
        recipe.input,
        Output(embedding_size=size),
    )


def sound_changes(recipe: SpeakerRecipe, utterances: PictureSet) -> SoundAugmentation:
    """What is done to the crops. Raises DataError for a folder without sound, TrainingError for what has no folder."""
    rate = recipe.input.sample_rate
    noise, music, babble, rooms = (
        read_pool(folder, rate, recipe.cache) if folder else None
        for folder in (recipe.noise, recipe.music, recipe.babble, recipe.rooms)
    )
    talkers: SoundPool | None = babble
    if talkers is None and (len(utterances.identities) > 1 or (utterances.labels < 0).any()):
        talkers = OtherSpeakers(utterances, rate, recipe.cache)
    return SoundAugmentation(
        SoundShares.parse(recipe.augment), Ranges.parse(recipe.ranges), rate, noise, music, rooms, talkers
    )


def plan_embedder(
    recipe: SpeakerRecipe, card: ModelCard, options: TaughtOptions, data: SpeakerData, measure: Measure, world: World
) -> TrainingPlan:
    """The network, its heads, batches and teachers. Raises VidPersonError for what is wrong with any of them.

    measure: figures of scores and of which are targets, among them ``eer``, by which the epoch is chosen.
    """
    how, utterances = recipe.margin, data.utterances
    network, note = command.new_network(card, recipe.architecture, options)
    changes = sound_changes(recipe, utterances)
    known = int((utterances.labels >= 0).sum())
    counted = f"{known} utterances of {len(utterances.identities)} speakers"
    if known < len(utterances):
        counted += f" and {len(utterances) - known} of unknown ones"
    logging.info("training data: %s", counted)
    teachers = [installed_model(folder) for folder in options.teacher]
    note |= _note(recipe, utterances) | how.note(teachers)
    answers = _answers(recipe, utterances, teachers, options, world)
    source = _batches(recipe, utterances, changes, answers, options, world)
    classes = [f"{name}@{speed:g}" for speed in recipe.played for name in utterances.identities]
    sizes = answers.sizes if answers else ()
    teaching = Teaching(sizes, tuple(how.teacher_weights), how.cosine_weight, how.relation_weight)
    heads = _heads(how, classes, options) if known else []
    kept = classes if heads else ()
    task = EmbedderTask(network, how.embedding_size, nn.Identity(), heads, teaching, classes=kept)
    words = command.data_in_words(counted, options, teachers)
    plan = TrainingPlan(card, task, source, source, note, words, None, None, "-eer", "")
    valid, test = data.valid, data.test or data.valid
    if valid:
        plan = dataclasses.replace(
            plan,
            validate=lambda run, card: valid.figures(SpeakerEmbedder(run, card), measure, recipe.cache),
            validated_on=valid.digest(),
        )
        if not data.test:
            logging.warning("the speakers who choose the epoch also give the figures of the card: name --test-data")
    if test is None:
        return plan
    about = {"measured_on": test.words, **({"epoch_chosen_on": valid.words} if valid else {})}
    return dataclasses.replace(
        plan, describe=lambda run, card: {**about, **test.figures(SpeakerEmbedder(run, card), measure, recipe.cache)}
    )


def _answers(
    recipe: SpeakerRecipe,
    utterances: PictureSet,
    teachers: Sequence[InstalledModel],
    options: TaughtOptions,
    world: World,
) -> TeacherAnswers | None:
    if not teachers:
        return None
    with first_alone(world):
        given = options.engine, max(options.workers, 0), recipe.cache, options.folder
        options.folder.mkdir(parents=True, exist_ok=True)
        return teacher_answers(utterances, recipe.played, teachers, *given)


def _batches(
    recipe: SpeakerRecipe,
    utterances: PictureSet,
    changes: SoundAugmentation,
    answers: TeacherAnswers | None,
    options: TaughtOptions,
    world: World,
) -> ShuffledBatches:
    """Those of known speakers, each with utterances of unknown ones behind them; or those of one kind only."""
    place = options.settings.seed, world.rank, world.ranks
    known = utterances.labels >= 0
    parts: list[ShuffledBatches] = []

    def loader(chosen: Any) -> SoundLoader:
        rows = answers.chosen(chosen) if answers else None
        count = round(recipe.crop_s * recipe.input.sample_rate)
        return SoundLoader(utterances.pick(chosen), recipe.input, count, recipe.played, changes, rows, recipe.cache)

    if known.any() and recipe.utterances:
        each = recipe.utterances
        parts.append(IdentityPictureBatches(loader(known), recipe.batch_size // each, each, *place))
    elif known.any():
        parts.append(PictureBatches(loader(known), recipe.batch_size, *place))
    if not known.all():
        parts.append(PictureBatches(loader(~known), recipe.unlabelled_batch, *place))
    found = JoinedBatches(parts[0], parts[1]) if len(parts) > 1 else parts[0]
    found.workers = options.workers
    return found


def _heads(how: MarginOptions, classes: Sequence[str], options: TaughtOptions) -> list[IdentityLoss]:
    """The classifier, with the centres that the classes had in the run that is started from."""
    if how.loss == "none":
        return []
    given = how.loss, how.scale, how.margin, how.sub_centres, how.sample_rate
    more = {"top_k": how.top_k, "top_k_angle": how.top_k_angle, "rises": tuple(how.margin_epochs)}
    head = IdentityLoss(how.embedding_size, len(classes), *given, **more)  # type: ignore[arg-type]
    if options.init:
        found = start_centres(head.weight, classes, options.init)
        logging.info("%d of %d classes start from their centres in %s", found, len(classes), options.init)
    return [head]


def _note(recipe: SpeakerRecipe, utterances: PictureSet) -> dict[str, Any]:
    """What the weights depend on, but for the settings and the teachers."""
    folders = {
        name: len(read_pool(folder, 1, "").places)
        for name in ("noise", "music", "babble", "rooms")
        if (folder := getattr(recipe, name))
    }
    return {
        **recipe.margin.apart(),
        "features": recipe.features,
        "crop_s": recipe.crop_s,
        "batch_size": recipe.batch_size,
        **({"unlabelled_batch": recipe.unlabelled_batch} if (utterances.labels < 0).any() else {}),
        "utterances": recipe.utterances,
        "speeds": " ".join(f"{speed:g}" for speed in recipe.played),
        "augment": " ".join(recipe.augment.split()),
        "ranges": " ".join(recipe.ranges.split()),
        **{f"{name}_files": count for name, count in folders.items()},
        "decoded_to_16_bits": bool(recipe.cache),
        "identities": len(utterances.identities),
        "items": len(utterances),
        "items_sha256": utterances.digest(),
    }
