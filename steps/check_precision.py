#!/usr/bin/env python3
"""Does a network say in bf16 or fp16 what it says in fp32? Fails when it does not.

Inputs:  an installed network, and a sample to try it on: for an embedder the output folder of stage 2 (--face-dir),
         for a detector a list of videos or pictures (--scp).
Outputs: the figures in the log; exit status 1 when
         embedder: the cosine of the two embeddings of a face is below 0.999 for any face of the sample
         detector: of the boxes that fp32 gives with a score of 0.9 or more, less than 99 % are among those found in
         the other precision, within 1 pixel on every side

Example:
  python steps/check_precision.py --model exp/face_models/arcface_w600k_r50 --precision bf16 \\
      --face-dir exp/face_det/retinaface_mnet025_pytorch/demo_dev_test
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.face.detector import FaceDetector
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.types import Image

MIN_COSINE = 0.999
MAX_SHIFT = 1.0  # pixels of the frame
MIN_WITHIN = 0.99
SCORE, LOWEST_SCORE = 0.9, 0.5
_BATCH = 16


def check_precision(
    model: str,
    precision: str,
    face_dir: str = "",
    scp: str = "",
    engine: str = "auto",
    device: str = "cpu",
    threads: int = 1,
    max_size: int = 800,
    sample: int = 64,
) -> dict[str, float]:
    """See the top of this file. Returns the figures; a sample without faces passes, with a warning.

    Raises ModelError when the precision is not good enough; other VidPersonErrors for what is missing.
    """
    from vidperson.engines import Network
    from vidperson.errors import DataError, ModelError
    from vidperson.face.detector import make_detector
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    installed = installed_model(model)
    detects = installed.card.kind == "face_detector"
    if not (scp if detects else face_dir):
        raise DataError(
            f"{installed.card.name} is a {installed.card.kind}: expected {'--scp' if detects else '--face-dir'}"
        )

    def network(wanted: str) -> Network:
        return open_network(installed, engine, device, threads, wanted, 1 if detects else _BATCH)

    if detects:
        exact = make_detector(network("fp32"), installed.card, max_size)
        tried = make_detector(network(precision), installed.card, max_size, nms_threshold=1)
        figures = compare_boxes(exact, tried, some_frames(scp, sample, threads))
        passed = figures["within"] >= MIN_WITHIN
        wanted = f"within {MAX_SHIFT:g} pixel for {MIN_WITHIN:.0%}"
        found = (
            f"{figures['within']:.2%} of {figures['faces']:.0f} boxes are, the largest shift is {figures['shift']:.2f}"
        )
    else:
        pair = [FaceEmbedder(network(name), installed.card) for name in ("fp32", precision)]
        figures = compare_embeddings(pair[0], pair[1], some_crops(face_dir, sample))
        passed = figures["lowest"] >= MIN_COSINE
        wanted = f"a cosine of {MIN_COSINE} or more with fp32"
        found = f"lowest {figures['lowest']:.6f}, mean {figures['mean']:.6f} of {figures['faces']:.0f} faces"
    if not figures["faces"]:
        logging.warning("%s: no face in the sample: %s could not be compared with fp32", installed.card.name, precision)
        return figures
    logging.info("%s in %s: %s", installed.card.name, precision, found)
    if not passed:
        raise ModelError(
            f"{installed.card.name}: {precision} is not exact enough: expected {wanted}, found: {found}; use fp32"
        )
    return figures


def compare_embeddings(exact: FaceEmbedder, tried: FaceEmbedder, crops: Iterable[Image]) -> dict[str, float]:
    """faces: number of crops, (112, 112, 3) each; lowest and mean cosine of their two embeddings."""
    import numpy as np

    cosines: list[float] = []
    stream = iter(crops)
    while batch := list(islice(stream, _BATCH)):
        one, other = (embedder.embed(np.stack(batch)).astype(np.float64) for embedder in (exact, tried))
        cosines += ((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).tolist()
    lowest, mean = (min(cosines), sum(cosines) / len(cosines)) if cosines else (1.0, 1.0)
    return {"faces": len(cosines), "lowest": lowest, "mean": mean}


def compare_boxes(exact: FaceDetector, tried: FaceDetector, frames: Iterable[Image]) -> dict[str, float]:
    """faces: number that ``exact`` finds at 0.9; within: share that ``tried`` finds within a pixel; shift: the largest.

    ``tried`` keeps overlapping boxes and has a lower threshold: which of two anchors with nearly equal scores stays is
    chance in any precision, and so is on which side of a threshold a score lies.
    """
    import numpy as np

    shifts: list[float] = []
    for frame in frames:
        wanted, found = exact.detect([frame], SCORE)[0].boxes, tried.detect([frame], LOWEST_SCORE)[0].boxes
        distance = np.abs(wanted[:, None] - found[None]).max(axis=2)
        shifts += distance.min(axis=1).tolist() if len(found) else [float("inf")] * len(wanted)
    within = sum(shift <= MAX_SHIFT for shift in shifts) / len(shifts) if shifts else 1.0
    return {"faces": len(shifts), "within": within, "shift": max(shifts, default=0.0)}


def some_crops(face_dir: str, wanted: int) -> Iterator[Image]:
    """About ``wanted`` crops, of segments spread over the set."""
    from pathlib import Path

    import cv2
    import numpy as np

    from vidperson.errors import DataError
    from vidperson.io.crops import read_tar_files
    from vidperson.io.lists import read_paths
    from vidperson.io.matrices import load_matrices
    from vidperson.types import FACE_COLUMNS

    faces = load_matrices(Path(face_dir) / "faces.scp", len(FACE_COLUMNS))
    places = read_paths(Path(face_dir) / "crops.scp")
    segments = [segment for segment in places if len(faces[segment])]
    picked = segments[:: max(1, len(segments) // wanted)]
    each = -(-wanted // max(1, len(picked)))
    for segment in picked:
        for name, png in read_tar_files(places[segment], min(each, len(faces[segment]))):
            crop = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
            if crop is None:
                raise DataError(f"'{name}' at {places[segment]} is not a crop; redo ./run_002_detect_faces.sh")
            yield np.asarray(crop[..., ::-1], np.uint8)


def some_frames(scp: str, wanted: int, threads: int) -> Iterator[Image]:
    """About ``wanted`` frames, a second apart, of segments spread over the list; what cannot be read is left out."""
    from vidperson.errors import MediaError
    from vidperson.io.lists import read_paths
    from vidperson.media.sampling import UniformSampling
    from vidperson.media.video import FrameReader

    paths = list(read_paths(scp).values())
    picked = paths[:: max(1, len(paths) // wanted)]
    each = -(-wanted // max(1, len(picked)))
    for path in picked:
        try:
            with FrameReader(path, UniformSampling(1), threads) as reader:
                for frame in islice(reader, each):
                    yield frame.image
        except MediaError as error:
            logging.warning("%s: left out: %s", path, error)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--model", required=True, help="folder of the installed network")
    parser.add_argument("--precision", required=True, help="what to compare with fp32: bf16 or fp16")
    parser.add_argument("--face-dir", default="", help="output folder of stage 2, for an embedder")
    parser.add_argument("--scp", default="", help="segment and path of videos or pictures, for a detector")
    parser.add_argument("--engine", default="auto", help="what runs the network; auto: the best one here")
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda or cuda:<number>")
    parser.add_argument("--threads", type=cli.whole(1), default=1, help="CPU threads of the network")
    parser.add_argument("--max-size", type=cli.whole(1), default=800, help="long side that frames are brought down to")
    parser.add_argument("--sample", type=cli.whole(1), default=64, help="faces or frames to compare, about")
    cli.main(check_precision, parser.parse_args())
