"""What searching fewer frames of videos costs in found persons and equal error rate, and saves in CPU seconds.

Inputs:  --clips, a list: segment and path of a video or an image; --persons, a list: segment and the persons that it
         shows; an installed detector and an installed face network.
Outputs: a Markdown table with a row per mode: CPU seconds of stage 2 without opening its network, segments and faces
         found, equal error rate (EER) of all pairs of segments, compared by their most similar faces, and the
         recall of persons: of those that another segment shows, too, how many score above the threshold at which
         the errors of the first mode are equal.

Example:
  python benchmarks/frame_modes.py --clips clips.scp --persons persons --detector exp/face_models/retinaface_tiny \
      --embedder exp/face_models/arcface_tiny
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vidperson import cli

if TYPE_CHECKING:
    import numpy as np

    from vidperson.face.pipeline import Task
    from vidperson.types import Float

GAPS_S = (5.0, 12.0, 30.0)


def frame_modes(clips: str, persons: str, detector: str, embedder: str, repeat: int) -> None:
    """Print the table."""
    import cv2
    import numpy as np

    from vidperson.face.detection import fast_tasks, uniform_tasks
    from vidperson.face.detector import make_detector
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.face.pipeline import find_faces
    from vidperson.face.selection import SelectionPolicy
    from vidperson.io.lines import read_paths, read_scp
    from vidperson.media.image import decode_intact_image
    from vidperson.media.sampling import UniformSampling
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    cv2.setNumThreads(1)
    segments = read_paths(clips)
    shown = {segment: set(names.split()) for segment, names in read_scp(persons).items()}
    finder, face_network = installed_model(detector), installed_model(embedder)
    find = make_detector(open_network(finder), finder.card)
    embed = FaceEmbedder(open_network(face_network), face_network.card)
    modes: dict[str, list[Task]] = {"uniform": uniform_tasks(segments, UniformSampling(1), 5)}
    for gap in GAPS_S:
        modes[f"fast, gaps up to {gap:g} s"] = fast_tasks(segments, 1.0, gap, 5)
    costs: dict[str, list[float]] = {mode: [] for mode in modes}
    vectors: dict[str, dict[str, Float]] = {mode: {} for mode in modes}
    for _ in range(repeat):
        for mode, tasks in modes.items():
            crops = {}
            begin = time.process_time()
            for result in find_faces(tasks, find, SelectionPolicy()):
                crops[result.segment] = list(result.faces.crops)
            costs[mode].append(time.process_time() - begin)
            for segment, pngs in crops.items() if not vectors[mode] else ():
                images = [decode_intact_image(png) for png in pngs]
                none = np.zeros((0, 112, 112, 3), np.uint8)
                vectors[mode][segment] = embed.embed(np.stack(images) if images else none)
    print("| `--frames` | CPU s | segments with faces | faces | EER | recall of persons |\n|---|---|---|---|---|---|")
    threshold: float | None = None
    for mode, found_by in vectors.items():
        scores, targets, told = compare(found_by, shown)
        if threshold is None:
            threshold = equal_error(scores, targets)[1]
        recall = sum(best >= threshold for best in told) / len(told)
        faces, some = sum(map(len, found_by.values())), sum(len(one) > 0 for one in found_by.values())
        print(
            f"| {mode} | {sorted(costs[mode])[repeat // 2]:.2f} | {some} of {len(segments)} | {faces} | "
            f"{100 * equal_error(scores, targets)[0]:.2f} % | {100 * recall:.1f} % |",
            flush=True,
        )
    pairs = f"{int(targets.sum())} target and {int((~targets).sum())} non-target pairs"
    print(f"\n{pairs}, {len(told)} persons in segments")


def compare(
    found: Mapping[str, Float], shown: Mapping[str, set[str]]
) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
    """The scores of all pairs, which of them are targets, and per person in a segment the best score.

    A pair of which one has no face scores -1.
    """
    import numpy as np

    names = list(shown)
    unit = {name: found[name] / np.maximum(np.linalg.norm(found[name], axis=1, keepdims=True), 1e-9) for name in names}
    scores, targets = [], []
    best = {(name, person): -2.0 for name in names for person in shown[name]}
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            score = float((unit[one] @ unit[other].T).max(initial=-1))
            shared = shown[one] & shown[other]
            scores.append(score)
            targets.append(bool(shared))
            for key in [(name, person) for name in (one, other) for person in shared]:
                best[key] = max(best[key], score)
    return np.array(scores), np.array(targets), [score for score in best.values() if score > -2]


def equal_error(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """The equal error rate and its threshold."""
    import numpy as np

    order = np.argsort(scores, kind="stable")
    missed = np.cumsum(targets[order]) / targets.sum()
    accepted = 1 - np.cumsum(~targets[order]) / (~targets).sum()
    place = int(np.argmin(np.abs(missed - accepted)))
    return float((missed[place] + accepted[place]) / 2), float(scores[order][place])


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--clips", required=True, help="list: segment and path")
    parser.add_argument("--persons", required=True, help="list: segment and the persons in it")
    parser.add_argument("--detector", required=True, help="folder of the installed detector")
    parser.add_argument("--embedder", required=True, help="folder of the installed face network")
    parser.add_argument("--repeat", type=int, default=1, help="rounds to take the median CPU time of")
    cli.main(frame_modes, parser.parse_args())
