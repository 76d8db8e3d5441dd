"""Who is in a folder of videos, and when: stages 1 to 5 in one process, as the command ``vidperson who`` runs them.

Below the folder of the answer, ``work/`` has the data folders and what the stages make of them, with the same bytes. A
second run does only what is new: videos and photos that were added or changed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from vidperson.app import EMBED_BATCH, Settings, chosen_networks, find_tasks, open_detector, open_embedder, precision_of
from vidperson.backends.finding import Finder
from vidperson.corpora.folder import prepare
from vidperson.embedding import ARCHIVE, embed_segments
from vidperson.face.crops import FaceCrops
from vidperson.face.detection import ARCHIVES, STATES, open_store, store_faces
from vidperson.face.embedder import FaceEmbedder
from vidperson.face.pipeline import find_faces
from vidperson.face.selection import SelectionPolicy
from vidperson.io.answers import read_answers, read_names
from vidperson.io.items import store_unreadable
from vidperson.io.lines import read_scp
from vidperson.io.making import make_set
from vidperson.networks.card import calibration_of
from vidperson.progress import Progress
from vidperson.supervision import Watch, run_supervised
from vidperson.who.files import Source, Summary, summarise, write_answer_files
from vidperson.who.finding import StoredPart, read_gallery, read_videos, write_answers

ANSWERS = "who.jsonl"
TIMEOUT_S = 3600.0
"""Seconds after which a file is given up, as the stages do by default."""


def find_in_folders(
    settings: Settings,
    persons: str | os.PathLike[str],
    videos: str | os.PathLike[str],
    output_dir: Path,
    tell: Callable[[str], None] = logging.info,
) -> Summary:
    """Write who.csv and the other answer files into a folder.

    persons: one folder per person with photos or videos in it; empty, or a folder without any: everybody is unknown.
    videos: a folder of videos and images, or one file. tell: is told what begins.
    Call it before other threads or engines are started: files are decoded in a child process.
    A file that cannot be read costs only itself. Raises DataError for a folder that is missing or empty, and as
    :func:`~vidperson.app.load`.
    """
    tell("reading the folders")
    work = output_dir / "work"
    sets = prepare(work / "data", persons, videos, find_persons=True)
    detector, embedder = (installed.card for installed in chosen_networks(settings))
    calibration = calibration_of(embedder)  # without one there is no need to begin
    parts = {}
    tell(f"finding faces in photos and videos with {detector.name}")
    for data in sets:
        if read_scp(data / "vid.scp"):
            parts[data.name] = work / "face_det" / detector.name / data.name
            cut_faces(data / "vid.scp", parts[data.name], settings)
    tell(f"comparing them with {embedder.name}")
    network = open_embedder(settings)
    stored = {}
    for data in sets:
        if data.name in parts:
            embeddings = work / "face_embed" / embedder.name / data.name
            embed_faces(data / "vid.scp", parts[data.name], embeddings, network, settings)
            stored[data.name] = StoredPart("face", parts[data.name], embeddings)
    enrolment, test = sets
    known = [(stored[enrolment.name], read_scp(enrolment / "utt2spk"))] if enrolment.name in stored else []
    finder = Finder({"face": read_gallery(known)}, {"face": calibration}, settings.thresholds)
    found = read_videos(read_scp(test / "vid.scp"), [stored[test.name]], settings.fps)
    write_answers(work / ANSWERS, finder, found)
    tell("writing the answer")
    names = read_names([enrolment], test)
    source = Source(read_answers(work / ANSWERS), names, {"face": parts[test.name]}, test.name)
    write_answer_files([source], output_dir)
    return summarise(output_dir / "who.json")


def cut_faces(scp: Path, output_dir: Path, settings: Settings) -> None:
    """Stage 2 for the files of a list: faces, aligned crops, a status per file."""
    (network, _) = chosen_networks(settings)
    words = ["faces", network.card.name, network.sha256, precision_of(network.card, settings)]
    for name in ("fps", "max_size", "det_threshold", "second_look", "device", "engine"):
        words += [f"--{name}", str(getattr(settings, name))]

    def do(paths: Mapping[str, str], job: Path) -> None:
        def give_up(segment: str, why: str) -> None:
            store_unreadable(job, "faces", STATES, segment, why)

        run_supervised(partial(_cut, paths, job, settings), give_up, TIMEOUT_S)

    make_set(output_dir, ARCHIVES, STATES, scp, words, do)


def _cut(paths: Mapping[str, str], job: Path, settings: Settings, watch: Watch) -> None:
    """In a child process that may crash or hang."""
    detector, policy = open_detector(settings), SelectionPolicy(threshold=settings.det_threshold)
    with open_store(str(job)) as store:
        left = {segment: path for segment, path in paths.items() if segment not in store.statuses}
        progress = Progress(len(paths), "files", done=len(store.statuses))

        def stored(segment: str, status: str) -> None:
            watch.end(segment)
            logging.info("%s %s", segment, status)
            progress.step()

        tasks = find_tasks(left, settings)
        found = find_faces(tasks, detector, policy, threads=settings.num_threads, begin=watch.begin, alone=watch.alone)
        with closing(found) as results:
            store_faces(store, results, left, stored)


def embed_faces(scp: Path, items_dir: Path, output_dir: Path, embedder: FaceEmbedder, settings: Settings) -> None:
    """Stage 3 for the files of a list. items_dir: what stage 2 made of them."""
    (_, network) = chosen_networks(settings)
    words = ["embeddings", network.card.name, network.sha256, precision_of(network.card, settings)]
    words += ["--device", settings.device, "--engine", settings.engine]

    def do(paths: Mapping[str, str], job: Path) -> None:
        import numpy as np

        crops = FaceCrops(items_dir)
        embed_segments(
            {segment: crops.statuses[segment] for segment in paths},
            crops.read,
            lambda batch: embedder.embed(np.stack(batch)),
            embedder.embedding_size,
            job,
            STATES,
            EMBED_BATCH,
        )

    make_set(output_dir, [ARCHIVE], STATES, scp, words, do, [items_dir])
