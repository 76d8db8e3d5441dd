#!/usr/bin/env python3
"""Put networks under exp/face_models: found in a local folder or downloaded, checked, converted.

Inputs:  model cards (names in vidperson/zoo, or paths of .yaml files), of a detector, an embedder or both.
Outputs: <models-dir>/<name>/ with network.onnx, <name>.yaml and installed.json; cpu_engine.json, the engine that
         --engine auto takes on a CPU, and engines.json, the time per item of those that it chose from; of an MXNet
         checkpoint also its own two files.

Example:
  python steps/get_models.py --models-dir exp/face_models \\
      --detector retinaface_mnet025_pytorch --embedder mobilefacenet_casia_pytorch
"""

from __future__ import annotations

import logging
import os

from vidperson import cli


def get_models(
    detector: str = "",
    embedder: str = "",
    models_dir: str = "exp/face_models",
    model_dir: str = "",
    needs_torch: bool = False,
) -> None:
    """Install the cards; raises ModelError, after all were tried, with the reasons of those that failed.

    needs_torch: only print "true" or "false": whether a checkpoint waits for conversion and torch is not installed.
    """
    import importlib.util

    from vidperson.errors import ModelError, VidPersonError
    from vidperson.networks.card import load_card
    from vidperson.networks.install import install_model, needs_conversion
    from vidperson.networks.opening import measure_engines
    from vidperson.progress import Progress

    cards = {kind: card for kind, card in (("face_detector", detector), ("face_embedder", embedder)) if card}
    if needs_torch:
        missing = importlib.util.find_spec("torch") is None
        print("true" if missing and any(needs_conversion(card, models_dir) for card in cards.values()) else "false")
        return
    folders = [folder for folder in (model_dir, os.environ.get("VIDPERSON_MODEL_DIR", "")) if folder]
    failures: list[str] = []
    for kind, card in cards.items():
        bar: list[Progress] = []

        def report(done: int, total: int, bar: list[Progress] = bar) -> None:
            if not bar:
                bar.append(Progress(total >> 20, "MiB", done=done >> 20))
            bar[0].step((done >> 20) - bar[0].done)

        try:
            found = load_card(card)
            if found.kind != kind:
                raise ModelError(f"{found.name} is a {found.kind}, not a {kind}; --list shows the kinds")
            installed = install_model(card, models_dir, folders, report)
            measure_engines(installed)
            logging.info(
                "%s: ready; licence: %s; training data: %s",
                installed.card.name,
                installed.card.licence,
                installed.card.training_data,
            )
        except VidPersonError as error:
            failures.append(str(error))
    if failures:
        raise ModelError(f"{len(failures)} of {len(cards)} networks are missing:\n  " + "\n  ".join(failures))


def list_models() -> None:
    """Print the cards in the zoo; "by hand": a file has no download that could be checked."""
    from vidperson.networks.card import card_names, load_card
    from vidperson.networks.install import can_download

    for name in card_names():
        card = load_card(name)
        sizes = [file.size_bytes for file in card.files]
        size = f"{sum(filter(None, sizes)) / 1e6:7.1f} MB" if any(sizes) else "         -"
        by_hand = "" if can_download(card) else "; by hand"
        print(f"{name:32} {card.kind:14} {size}  {card.licence}{by_hand}\n    {card.description}")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--detector", default="", help="card of the detector; empty: none")
    parser.add_argument("--embedder", default="", help="card of the embedder; empty: none")
    parser.add_argument("--models-dir", default="exp/face_models", help="where the networks are put")
    parser.add_argument(
        "--model-dir", default="", help="folder to look in before downloading; so is VIDPERSON_MODEL_DIR"
    )
    parser.add_argument(
        "--needs-torch",
        action="store_true",
        help="only tell whether the torch extra has to be installed first",
    )
    parser.add_argument("--list", action="store_true", help="list the cards in the zoo and stop")
    arguments = parser.parse_args()
    if arguments.list:
        arguments = cli.argparse.Namespace()
        cli.main(list_models, arguments)
    del arguments.list
    cli.main(get_models, arguments)
