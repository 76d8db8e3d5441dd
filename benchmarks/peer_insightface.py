"""The faces of videos and their embeddings with InsightFace, as its users write it. benchmarks/peers.py runs it.

Inputs:  videos, and two networks of this project as ONNX files.
Outputs: per video an NPZ file, faces.<number>.npz, with frame (N,) int, box (N, 4) pixels, score (N,) and
         embedding (N, D).

InsightFace's own: the loop of FaceAnalysis, the resizing and suppression of RetinaFace, norm_crop, ArcFaceONNX. Added
here: the decoding of RetinaFace in the layout of biubug6/Pytorch_Retinaface, which InsightFace does not read, and what
its ArcFaceONNX would have to guess or lacks: mean, std, cut and mirrored pass of the card. OpenCV decodes every frame,
and converts only those that are used: one per second, as our stages choose them.

It needs the packages of requirements/bench.txt and none of ours. Example:
  .venv-bench/bin/python benchmarks/peer_insightface.py --detector d.onnx --embedder e.onnx \\
      --setup "$(cat setup.json)" --output-dir out a.mp4 b.mp4
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from insightface.app import FaceAnalysis
from insightface.model_zoo import ArcFaceONNX, RetinaFace
from insightface.utils import face_align

STRIDES = (8, 16, 32)
ANCHORS = ((16, 32), (64, 128), (256, 512))
CROP = 112


class PytorchRetinaFace(RetinaFace):
    """InsightFace's RetinaFace with the decoding of the other layout: boxes, scores, landmarks of all anchors."""

    def __init__(self, session: Any, setup: dict[str, Any]) -> None:
        super().__init__(session=session)
        self.use_kps = True
        self.swap, self.mean, self.scale = setup["channels"] == "rgb", tuple(setup["mean"]), 1 / setup["std"][0]
        self.anchors: dict[tuple[int, int], np.ndarray] = {}

    def forward(self, img: np.ndarray, threshold: float) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        height, width = img.shape[:2]
        blob = cv2.dnn.blobFromImage(img, self.scale, (width, height), self.mean, swapRB=self.swap)
        boxes, scores, points = (out[0] for out in self.session.run(self.output_names, {self.input_name: blob}))
        picked = np.flatnonzero(scores >= threshold)
        if (height, width) not in self.anchors:
            self.anchors[height, width] = make_anchors(height, width)
        anchors = self.anchors[height, width][picked]
        centre, size = anchors[:, :2], anchors[:, 2:]
        middle, half = centre + 0.1 * size * boxes[picked, :2], size * np.exp(0.2 * boxes[picked, 2:]) / 2
        landmarks = centre[:, None] + 0.1 * size[:, None] * points[picked].reshape(-1, 5, 2)
        return [scores[picked, None]], [np.hstack([middle - half, middle + half])], [landmarks]


def make_anchors(height: int, width: int) -> np.ndarray:
    """(A, 4) centre x, centre y, width, height."""
    levels = []
    for stride, sizes in zip(STRIDES, ANCHORS, strict=True):
        y, x, size = np.meshgrid(
            np.arange(-(-height // stride)), np.arange(-(-width // stride)), np.array(sizes), indexing="ij"
        )
        levels.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, size, size], axis=-1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


class Recognition(ArcFaceONNX):
    """ArcFaceONNX with mean, std and mirrored pass of the card; the middle of the crop where the network sees less."""

    def __init__(self, path: str, session: Any, setup: dict[str, Any]) -> None:
        super().__init__(path, session)
        self.input_mean, self.input_std, self.mirror = setup["mean"][0], setup["std"][0], setup["mirror"]
        width, height = self.input_size
        self.cut = np.s_[(CROP - height) // 2 : (CROP + height) // 2, (CROP - width) // 2 : (CROP + width) // 2]

    def get(self, img: np.ndarray, face: Any) -> np.ndarray:
        crop = face_align.norm_crop(img, landmark=face.kps, image_size=CROP)[self.cut]
        if self.mirror == "none":
            face.embedding = self.get_feat(crop).flatten()
        else:
            both = self.get_feat([crop, crop[:, ::-1]])
            face.embedding = both.flatten() if self.mirror == "concatenate" else both.sum(axis=0)
        embedding: np.ndarray = face.embedding
        return embedding


def open_app(detector: str, embedder: str, setup: dict[str, Any]) -> FaceAnalysis:
    """FaceAnalysis over these two networks; its own constructor takes only packages of known networks."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    sessions = [
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in (detector, embedder)
    ]
    app = FaceAnalysis.__new__(FaceAnalysis)
    app.addons, app.det_model = {}, PytorchRetinaFace(sessions[0], setup["detector"])
    app.models = {"detection": app.det_model, "recognition": Recognition(embedder, sessions[1], setup["embedder"])}
    return app


def read_frames(path: str) -> Iterator[tuple[int, np.ndarray]]:
    """Number and BGR picture of one frame a second."""
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not video.isOpened():
        sys.exit(f"ERROR: {path}: OpenCV cannot open it")
    rate = video.get(cv2.CAP_PROP_FPS)
    number = taken = 0
    while video.grab():
        if number == round(taken * rate):
            good, picture = video.retrieve()
            if good:
                yield number, picture
            taken += 1
        number += 1
    video.release()


def detector_size(picture: np.ndarray, wanted: str) -> tuple[int, int] | list[tuple[int, int]]:
    """Width and height of what the detector sees: 'ours' as our stages choose it, 'auto' as InsightFace does."""
    if wanted == "auto":
        return [(128, 128), (640, 640)]
    if wanted != "ours":
        return int(wanted), int(wanted)
    height, width = picture.shape[:2]
    factor = min(1.0, 800 / max(height, width))
    return -(-round(width * factor) // 32) * 32, -(-round(height * factor) // 32) * 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", required=True, help="ONNX file")
    parser.add_argument("--embedder", required=True, help="ONNX file")
    parser.add_argument("--setup", required=True, help="what the cards say, JSON")
    parser.add_argument("--det-size", default="640", help="640, auto or ours")
    parser.add_argument("--threshold", type=float, default=0.9, help="lowest score of a face")
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("videos", nargs="+")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    app = open_app(options.detector, options.embedder, json.loads(options.setup))
    for number, path in enumerate(options.videos):
        frames, faces = [], []
        for frame, picture in read_frames(path):
            if not frame:
                app.prepare(ctx_id=-1, det_thresh=options.threshold, det_size=detector_size(picture, options.det_size))
            found = app.get(picture)
            frames += [frame] * len(found)
            faces += found
        np.savez(
            Path(options.output_dir) / f"faces.{number}.npz",
            frame=np.array(frames, np.int64),
            box=np.array([face.bbox for face in faces], np.float32).reshape(-1, 4),
            score=np.array([face.det_score for face in faces], np.float32),
            embedding=np.array([face.embedding for face in faces], np.float32),
        )


if __name__ == "__main__":
    main()
