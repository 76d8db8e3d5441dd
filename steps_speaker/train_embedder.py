#!/usr/bin/env python3
"""Train a voice embedding network, and export the best epoch's with a model card.

Inputs:
  TRAIN_DATA  one or more of: folder or uncompressed tar of <speaker>/.../<sound>, wav, flac, opus,
              ogg, m4a or mp3; data folder of the recipe with wav.scp and utt2spk (utterances that
              are not in it are left out). Speakers of different sources are different ones
  UNLABELLED  optional: more of these, or any folder or tar of sounds, to imitate the teachers on
  TEACHER     optional: folders of installed voice networks that the new one learns to imitate.
              They hear each whole utterance once, before the training
  NOISE, MUSIC, BABBLE, ROOMS  optional: folders or tars of sounds to add to speech, and of rooms'
              responses, such as the parts of MUSAN and RIRS_NOISES/simulated_rirs as published
  VALID_DATA  optional: like TRAIN_DATA; the epoch with the lowest equal error rate is kept, on the
              trials of a data folder, else on all pairs. Or HELD_OUT of the speakers of TRAIN_DATA
              take its place
  TEST_DATA   optional: likewise. It chooses nothing: only the exported network is measured on it,
              for its card
Outputs, in OUTPUT_DIR, the last part of which is the network's name:
  <name>.onnx, <name>.yaml  network and card of the best epoch, for stage 0 to install
  best.pt, last.pt          weights of that epoch; all that a run resumes from, bit for bit
  teachers_<digest>.npy     what the teachers say
  log.jsonl, curves.png     losses and error rates; also for TensorBoard where it is installed

Example:
  python steps_speaker/train_embedder.py --train-data voxceleb2/wav --held-out 50 \\
      --output-dir exp/speaker_train/ecapa --noise musan/noise \
      --rooms RIRS_NOISES/simulated_rirs
Several GPUs:
  python -m torch.distributed.run --standalone --nproc-per-node 4 steps_speaker/train_embedder.py \\
      --device cuda ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidperson import cli
from vidperson.training import command
from vidperson.training.command import MarginOptions, TaughtOptions

if TYPE_CHECKING:
    from vidperson.speaker.training_embedder import SpeakerRecipe


@dataclass(frozen=True, kw_only=True)
class SpeakerTrainingOptions(TaughtOptions):
    """Speakers may be named, or not, where there are teachers."""

    train_data: list[str] = cli.option((), "speakers to learn, see above")
    unlabelled: list[str] = cli.option((), "sounds of anyone, to imitate the teachers on")
    cache: str = cli.option("", "folder for what is decoded of sound that is no WAV of 16 kHz; empty: none")


@dataclass(frozen=True)
class ChangeOptions:
    """How speech is changed before it is learnt."""

    augment: str = cli.option("noise=0.2 babble=0.2 reverb=0.2 mask=1", "changes and how often each is made, 0..1")
    ranges: str = cli.option(
        "noise=0:15 music=5:15 babble=13:20 talkers=3:8 frames=0:19 bins=0:7",
        "lowest and highest signal-to-noise ratios in dB, numbers of talkers, masked frames and bins",
    )
    speeds: list[float] = cli.option((), "speeds at which speakers are played as others, too", convert=cli.positive)
    noise: str = cli.option("", "noises to add; empty: they are made")
    music: str = cli.option("", "music to add; empty: none")
    babble: str = cli.option("", "talkers to add; empty: other speakers of the training data")
    rooms: str = cli.option("", "responses of rooms; empty: they are made")


@dataclass(frozen=True)
class ValidationOptions:
    """What the epochs, and what the network that is kept, are measured on."""

    valid_data: list[str] = cli.option((), "speakers to choose the epoch by")
    held_out: int = cli.option(0, "speakers of the training data to do this by instead", convert=cli.whole(0))
    test_data: list[str] = cli.option((), "other speakers to measure the chosen network on")


@dataclass(frozen=True)
class TrainEmbedderOptions:
    """The options of this step."""

    training: SpeakerTrainingOptions = cli.group(SpeakerTrainingOptions)
    architecture: str = cli.option("ecapa_c512", "network to train")
    features: str = cli.option("logmel", "what it takes, as: logmel AVCleanse, logmel60 ReDimNet-B0, kaldi WeSpeaker")
    crop_s: float = cli.option(2.015, "seconds of a crop")
    batch_size: int = cli.option(400, "crops of known speakers per step, all GPUs together", convert=cli.whole(1))
    utterances: int = cli.option(0, "of these, of each speaker; 0: each utterance once an epoch", convert=cli.whole(0))
    unlabelled_batch: int = cli.option(32, "crops of unknown speakers per step", convert=cli.whole(1))
    changes: ChangeOptions = cli.group(ChangeOptions)
    margin: MarginOptions = cli.group(MarginOptions)
    validation: ValidationOptions = cli.group(ValidationOptions)


def train_embedder(options: TrainEmbedderOptions) -> dict[str, Any]:
    """See the top of this file. Returns the figures of the exported network ({} without speakers to measure it on).

    Raises VidPersonError for data, settings and networks that are wrong, and for a loss that is not finite.
    """
    command.begin(options.training.threads)

    from vidperson.report.plots import training_curves
    from vidperson.speaker.training_embedder import embedder_card, plan_embedder, read_data
    from vidperson.training.loop import join_world

    training, measured = options.training, options.validation
    recipe = _recipe(options)
    learnt = training.train_data, training.unlabelled
    data = read_data(*learnt, measured.valid_data, measured.test_data, measured.held_out)
    card = embedder_card(recipe, training)
    with join_world(training.device) as world:
        plan = plan_embedder(recipe, card, training, data, measure, world)
        return command.run_plan(plan, training, world, training_curves)


def _recipe(options: TrainEmbedderOptions) -> SpeakerRecipe:
    from vidperson.speaker.training_embedder import SpeakerRecipe

    changes = options.changes
    return SpeakerRecipe(
        options.architecture,
        options.features,
        options.crop_s,
        options.batch_size,
        options.unlabelled_batch,
        options.utterances,
        tuple(changes.speeds),
        changes.augment,
        changes.ranges,
        changes.noise,
        changes.music,
        changes.babble,
        changes.rooms,
        options.training.cache,
        options.margin,
    )


def measure(scores: NDArray[np.float64], is_target: NDArray[np.bool_]) -> dict[str, Any]:
    """Figures of (P,) scores: ``eer``, and ``min_dcf`` at a prior of 0.05 and equal costs."""
    from vidperson.metrics.detection import eer, min_dcf, roc

    curve = roc(scores[is_target], scores[~is_target])
    found = {"eer": eer(curve), "min_dcf": min_dcf(curve, 0.05)}
    return found | {"num_targets": int(is_target.sum()), "num_nontargets": int((~is_target).sum())}


if __name__ == "__main__":
    cli.run(train_embedder, TrainEmbedderOptions, __doc__)
