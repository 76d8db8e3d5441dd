#!/usr/bin/env python3
"""Embed the aligned faces of one job's segments.

Inputs:  faces.scp and crops.scp of stage 2 (video is not read again); an installed face network; the segments to do.
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         embed.ark      per segment (N, D) float32, one row per face in the order of faces.ark, not length-normalised
         journal.jsonl  what is finished; a killed job resumes after it

Example:
  python steps_face/extract_embeddings.py --face-dir exp/face_det/retinaface_mnet025_pytorch/demo_dev_test \\
      --scp data/demo_dev_test/split2/1/vid.scp --model exp/face_models/mobilefacenet_casia_pytorch \\
      --output-dir exp/face_embed/mobilefacenet_casia_pytorch/demo_dev_test/jobs2/1
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path

from vidperson import cli

STATES = ("ok", "no_face", "damaged", "unreadable")


def extract_embeddings(
    face_dir: str,
    scp: str,
    model: str,
    output_dir: str,
    engine: str = "auto",
    device: str = "cpu",
    precision: str = "fp32",
    threads: int = 1,
    embed_batch: int = 16,
    mirror: str = "",
) -> None:
    """Do the segments of ``scp`` that the job has not finished yet; batches run across segments.

    mirror: see :class:`vidperson.face.embedder.FaceEmbedder`; empty: as the network's card says.

    Raises VidPersonError for archives, models and options that are wrong.
    """
    import cv2
    import numpy as np

    from vidperson.errors import DataError
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.io.crops import read_tar_files
    from vidperson.io.job_store import JobStore
    from vidperson.io.lists import read_paths, read_scp
    from vidperson.io.matrices import load_matrices, matrix_bytes
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network
    from vidperson.progress import Progress
    from vidperson.types import FACE_COLUMNS, Image

    faces = load_matrices(Path(face_dir) / "faces.scp", len(FACE_COLUMNS))
    crops = read_paths(Path(face_dir) / "crops.scp")
    statuses = read_scp(Path(face_dir) / "status")
    listed = list(read_scp(scp))

    def require(name: str, wanted: list[str], known: Container[str]) -> None:
        missing = [segment for segment in wanted if segment not in known]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(wanted)} segments are not in it, first '{missing[0]}'; "
                "run ./run_002_detect_faces.sh",
                Path(face_dir) / name,
            )

    require("faces.scp", listed, faces)
    require("status", listed, statuses)
    installed = installed_model(model)
    network = open_network(installed, engine, device, threads, precision, embed_batch)
    embedder = FaceEmbedder(network, installed.card, mirror or None)
    with JobStore(output_dir, ["embed.ark"], STATES) as store:
        segments = [segment for segment in listed if segment not in store.statuses]
        counts = {segment: len(faces[segment]) for segment in segments}
        require("crops.scp", [segment for segment in segments if counts[segment]], crops)
        progress = Progress(len(segments) + len(store.statuses), "segments", done=len(store.statuses))

        def all_crops() -> Iterator[tuple[str, Image]]:
            for segment in segments:
                if not counts[segment]:
                    continue
                for name, png in read_tar_files(crops[segment], counts[segment]):
                    crop = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
                    if crop is None or not name.startswith(f"{segment}/"):
                        raise DataError(
                            f"'{name}' at {crops[segment]} is not a crop of {segment}; redo ./run_002_detect_faces.sh"
                        )
                    yield segment, np.asarray(crop[..., ::-1], np.uint8)

        waiting = deque(segments)
        ready: dict[str, list[np.ndarray]] = {segment: [] for segment in segments}

        def flush() -> None:
            while waiting and len(ready[waiting[0]]) == counts[waiting[0]]:
                segment = waiting.popleft()
                rows = ready.pop(segment)
                matrix = np.stack(rows) if rows else np.zeros((0, embedder.embedding_size), np.float32)
                store.append(segment, statuses[segment], {"embed.ark": [matrix_bytes(segment, matrix)]})
                progress.step()

        stream = all_crops()
        while batch := list(islice(stream, embed_batch)):
            for (segment, _), embedding in zip(
                batch, embedder.embed(np.stack([crop for _, crop in batch])), strict=True
            ):
                ready[segment].append(embedding)
            flush()
        flush()


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--face-dir", required=True, help="output folder of stage 2 for the set")
    parser.add_argument("--scp", required=True, help="list whose first column names the job's segments")
    parser.add_argument("--model", required=True, help="folder of the installed face network")
    parser.add_argument("--output-dir", required=True, help="the job's own folder")
    parser.add_argument("--engine", default="auto", help="what runs the network; auto: the best one here")
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda or cuda:<number>")
    parser.add_argument("--precision", default="fp32", help="what the network computes in: fp32, bf16 or fp16")
    parser.add_argument("--threads", type=cli.whole(1), default=1, help="CPU threads of the network")
    parser.add_argument("--embed-batch", type=cli.whole(1), default=16, help="crops per call of the network")
    parser.add_argument(
        "--mirror",
        default="",
        choices=["", "none", "concatenate", "sum"],
        help="mirrored crops; empty: as the card says",
    )
    cli.main(extract_embeddings, parser.parse_args())
