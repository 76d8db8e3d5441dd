#!/usr/bin/env python3
"""Train a face embedding network, and export the best epoch's with a model card.

Inputs:
  TRAIN_DATA  one or more of: folder or tar of <identity>/<picture>; <crops.tar>:<utt2spk> of stage 2; a folder in the
              layout of VoxCeleb2 (frame_align/<identity>/<video>/<utterance>/*.jpg and train_all.txt).
              Faces are aligned as stage 2 does, square; other sizes than 112 x 112 are brought to it.
  TEACHER     optional: folder of an installed face network that the new one learns to imitate, on the same crops
  VALID_*     optional: pictures and pairs to measure each epoch on, as for steps_face/evaluate_pairs.py
Outputs, in OUTPUT_DIR, whose last part is the network's name:
  <name>.onnx, <name>.yaml  the best epoch's network and its card: ./run_000_get_pretrained_models.sh installs it with
                            --face-embedder OUTPUT_DIR/<name>.yaml
  last.pt, best.pt          everything to go on from, and the best epoch's weights
  log.jsonl, curves.png     losses and figures per step; TensorBoard files where the package tensorboard is installed
Killed and run again it goes on from last.pt and gives the same weights.

Example:
  python steps_face/train_embedder.py --train-data faces.tar --output-dir exp/face_train/r18 \\
      --valid-pictures lfw.tar --valid-pairs pairsDevTest.txt --valid-threshold-pairs pairsDevTrain.txt
Several GPUs:
  python -m torch.distributed.run --standalone --nproc-per-node 4 steps_face/train_embedder.py --device cuda ...
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson import cli
from vidperson.training import command

if TYPE_CHECKING:
    from torch import nn

    from vidperson.io.pairs import Pairs
    from vidperson.networks.card import ModelCard

MEAN = STD = (127.5, 127.5, 127.5)


def train_embedder(
    train_data: list[str],
    output_dir: str,
    architecture: str = "iresnet18",
    embedding_size: int = 512,
    loss: str = "arcface",
    scale: float = 64.0,
    margin: float = 0.4,
    sub_centres: int = 1,
    sample_rate: float = 1.0,
    augment: str = "mirror=0.5",
    batch_size: int = 400,
    teacher: str = "",
    init: str = "",
    cosine_weight: float = 1.0,
    relation_weight: float = 1.0,
    valid_pictures: str = "",
    valid_pairs: str = "",
    valid_threshold_pairs: str = "",
    licence: str = "none stated",
    homepage: str = "none: trained by this recipe",
    half_weights: bool = False,
    device: str = "cpu",
    engine: str = "auto",
    threads: int = 1,
    workers: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """See the top of this file. ``loss`` "none" trains from the teacher alone; ``settings`` are the fields of
    ``vidperson.training.settings.Settings``.

    Returns the figures of the exported network ({} without validation lists).
    Raises VidPersonError for data, settings and networks that are wrong, and for a loss that is not finite.
    """
    command.begin(threads)
    import torch

    from steps_face.evaluate_pairs import aligned_face, describe, pair_figures
    from vidperson.errors import DataError, TrainingError
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.face.training_faces import FaceBatches, read_faces
    from vidperson.io.pairs import find_pictures, read_pairs
    from vidperson.io.pictures import list_pictures
    from vidperson.media.image import decode_sound_image
    from vidperson.networks.card import Input, Output
    from vidperson.networks.convert import EMBEDDERS, build_network
    from vidperson.networks.install import InstalledModel, installed_model
    from vidperson.networks.opening import open_network
    from vidperson.report.plots import training_curves
    from vidperson.training.augment import Augmentation
    from vidperson.training.batches import TaughtBatches
    from vidperson.training.export import as_engine, flat_figures, new_card
    from vidperson.training.loop import Batches, join_world, start_from, train
    from vidperson.training.losses import IdentityLoss
    from vidperson.training.settings import Settings
    from vidperson.training.task import EmbedderTask, ask_teacher

    how = Settings(**settings)
    if architecture not in EMBEDDERS:
        raise TrainingError(f"architecture: expected one of {' '.join(EMBEDDERS)}, found '{architecture}'")
    if bool(valid_pictures) != bool(valid_pairs) or (valid_threshold_pairs and not valid_pairs):
        raise TrainingError("--valid-pictures and --valid-pairs are given together; --valid-threshold-pairs needs both")
    augmentation = Augmentation.parse(augment)
    validation, validated_on = None, ""
    if valid_pairs:
        pictures = list_pictures(valid_pictures)

        def usable_pairs(path: str) -> Pairs:
            """What is wrong with a list or its pictures is said now, not after the first epoch."""
            pairs = read_pairs(path)
            for index in set(find_pictures(pictures, pairs.first + pairs.second).tolist()):
                aligned_face(pictures, index)
            if pairs.is_target.all() or not pairs.is_target.any():
                raise DataError("expected pairs of one person and pairs of two, found one kind alone", path)
            return pairs

        threshold_pairs = usable_pairs(valid_threshold_pairs) if valid_threshold_pairs else None
        validation = (pictures, usable_pairs(valid_pairs), threshold_pairs)
        validated_on = validation[1].digest()
    faces = read_faces(train_data)
    folder = Path(output_dir)
    card = new_card(
        folder.name,
        "face_embedder",
        f"{architecture}, {embedding_size} values, trained by run_010_train_face_embedder.sh",
        licence,
        homepage,
        Input("rgb", MEAN, STD, 112, 112),
        Output(embedding_size=embedding_size),
    )

    with join_world(device) as world:
        torch.manual_seed(how.seed)
        network = build_network(architecture, card.input, card.output)
        identity = None
        if loss != "none":
            identity = IdentityLoss(
                embedding_size, len(faces.identities), loss, scale, margin, sub_centres, sample_rate
            )
        plain = FaceBatches(
            faces, decode_sound_image, batch_size, augmentation, how.seed, world.rank, world.ranks, workers
        )
        batches: Batches = plain
        recipe: dict[str, Any] = {
            "architecture": architecture,
            "embedding_size": embedding_size,
            "loss": loss,
            "scale": scale,
            "margin": margin,
            "sub_centres": sub_centres,
            "sample_rate": sample_rate,
            "augment": " ".join(augment.split()),
            "batch_size": batch_size,
            "identities": len(faces.identities),
            "items": len(faces),
            "items_sha256": faces.digest(),
        }
        data = f"{len(faces)} faces or utterances of {len(faces.identities)} identities"
        logging.info("training data: %s", data)
        data += f" ({' '.join(Path(name).name for name in train_data)})"
        teacher_size = 0
        if init:
            recipe["init"] = start_from(network, init)
        if teacher:
            installed = installed_model(teacher)
            precision = command.teacher_precision(how.precision, engine)
            teaches = FaceEmbedder(open_network(installed, engine, "cpu", threads, precision), installed.card)
            batches, teacher_size = TaughtBatches(plain, ask_teacher(teaches.embed)), teaches.embedding_size
            recipe["teacher"] = f"{installed.card.name} {installed.sha256}"
            recipe |= {"cosine_weight": cosine_weight, "relation_weight": relation_weight}
            data += f"; teacher {installed.card.name}, trained on {installed.card.training_data}"
        task = EmbedderTask(network, embedding_size, MEAN, STD, identity, teacher_size, cosine_weight, relation_weight)
        folder.mkdir(parents=True, exist_ok=True)

        def figures_of(run: Any, card: ModelCard) -> dict[str, Any]:
            assert validation is not None
            figures = pair_figures(FaceEmbedder(run, card).embed, *validation)
            logging.info("validation: %s", describe(figures))
            return figures

        def validate(network: nn.Module) -> dict[str, float]:
            return flat_figures(figures_of(as_engine(network, world.device, how.precision), card))

        def figures_of_file(path: Path, card: ModelCard) -> dict[str, Any]:
            return figures_of(open_network(InstalledModel(card, path, ""), engine, "cpu", threads), card)

        report = command.reporter(folder, plain.steps_per_epoch, training_curves)
        validates = validate if validation else None
        best = train(task, batches, how, folder, world, validates, "-eer", validated_on, recipe, report)
        if world.rank != 0:
            return {}
        card = dataclasses.replace(card, training_data=data)
        measured = figures_of_file if validation else None
        return command.finish(folder, card, half_weights, plain, best, recipe, how, measured, training_curves)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    command.add_arguments(parser)
    parser.add_argument("--architecture", default="iresnet18", help="network to train")
    parser.add_argument("--embedding-size", type=cli.whole(1), default=512, help="values of an embedding")
    parser.add_argument("--loss", default="arcface", help="arcface, cosface, softmax, or none: teacher alone")
    parser.add_argument("--scale", type=float, default=64.0, help="s of arcface and cosface")
    parser.add_argument("--margin", type=float, default=0.4, help="m of arcface (radians) and cosface")
    parser.add_argument("--sub-centres", type=int, default=1, help="centres per identity")
    parser.add_argument("--sample-rate", type=float, default=1.0, help="share of the identities per step (partial FC)")
    parser.add_argument("--augment", default="mirror=0.5", help="changes and how often each is made, 0..1")
    parser.add_argument("--batch-size", type=int, default=400, help="crops per step, all GPUs together")
    parser.add_argument("--cosine-weight", type=float, default=1.0, help="weight of: be like the teacher's embedding")
    parser.add_argument("--relation-weight", type=float, default=1.0, help="weight of: cosines like the teacher's")
    parser.add_argument("--valid-pictures", default="", help="folder or tar of aligned faces to validate on")
    parser.add_argument("--valid-pairs", default="", help="list of pairs to validate on")
    parser.add_argument("--valid-threshold-pairs", default="", help="list of pairs to learn the threshold of")
    cli.main(train_embedder, parser.parse_args())
