"""Who is in a folder of videos, and when: stages 1 to 5 in one process, as the command ``vidperson who`` runs them.

Below the folder of the answer, ``work/`` has the data folders and what the stages make of them, with the same bytes. A
second run does only what is new: videos and photos that were added or changed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from vidperson.answers import PortraitNote
from vidperson.app import EMBED_BATCH, Settings, chosen_networks, find_tasks, open_detector, open_embedder, precision_of
from vidperson.backends.finding import Finder
from vidperson.backends.portrait_notes import gallery_notes
from vidperson.corpora.folder import prepare
from vidperson.durations import FILE_TIMEOUT_S, write_durations
from vidperson.embedding import ARCHIVE, embed_segments
from vidperson.errors import DataError
from vidperson.face.crops import FaceCrops
from vidperson.face.detection import ARCHIVES, STATES, open_store, store_faces
from vidperson.face.embedder import FaceEmbedder
from vidperson.face.pipeline import find_faces
from vidperson.face.selection import SelectionPolicy
from vidperson.io.answers import read_answers, read_names
from vidperson.io.items import store_unreadable
from vidperson.io.lines import read_scp
from vidperson.io.making import make_set
from vidperson.io.portrait_notes import notes_path, read_notes
from vidperson.io.record import new_record
from vidperson.networks.card import calibration_of
from vidperson.networks.install import InstalledModel
from vidperson.progress import Progress
from vidperson.report.who import Made
from vidperson.supervision import Watch, run_supervised
from vidperson.who.files import FOLDERS as ANSWER_FOLDERS
from vidperson.who.files import Source, annotate_videos, remove_annotated, write_answer_files
from vidperson.who.finding import StoredPart, read_gallery, read_videos, write_answers, write_portrait_notes
from vidperson.who.pages import FOLDERS as PAGE_FOLDERS
from vidperson.who.pages import PageSource, made_on, media_of, network_of, skipped_portraits, write_who_page

TIMEOUT_S = 3600.0
"""Seconds after which a file is given up, as the stages do by default."""


def find_in_folders(
    settings: Settings,
    persons: str | os.PathLike[str],
    videos: str | os.PathLike[str],
    output_dir: Path,
    tell: Callable[[str], None] = logging.info,
    call: str = "",
    annotate: bool = False,
) -> list[str]:
    """Write who.csv, report.html and the other answer files into a folder.

    persons: one folder per person with photos or videos in it; empty, or a folder without any: everybody is unknown.
    videos: a folder of videos and images, or one file. tell: is told what begins. call: the command, for the page.
    annotate: copy each video and image with boxes and names drawn in.
    Call it before other threads or engines are started: files are decoded in a child process.
    Returns what the user should know of the portraits, a sentence each. A file that cannot be read costs only itself.
    Raises DataError for a folder that is missing or has no video, for an answer within one of them or in place of other
    files, and as :func:`~vidperson.app.load`.
    """
    _refuse_a_folder_of_the_user(output_dir, persons, videos)
    tell("reading the folders")
    work = output_dir / "work"
    enrolment, test = prepare(work / "data", persons, videos, find_persons=True)
    write_durations(test, FILE_TIMEOUT_S)
    networks = chosen_networks(settings)
    calibration = calibration_of(networks[1].card)  # without one there is no need to begin
    sets = [data for data in (enrolment, test) if (data / "vid.scp").stat().st_size]
    places = {data: _Places(work, data.name, networks) for data in sets}
    tell(f"finding faces in photos and videos with {networks[0].card.name}")
    for data, place in places.items():
        cut_faces(data / "vid.scp", place.items, settings)
    tell(f"comparing them with {networks[1].card.name}")
    embedder = open_embedder(settings)
    for data, place in places.items():
        embed_faces(data / "vid.scp", place.items, place.embeddings, embedder, settings)
    stored = {data: StoredPart("face", place.items, place.embeddings) for data, place in places.items()}
    notes: list[PortraitNote] = []
    gallery = read_gallery([(stored[data], read_scp(data / "utt2spk")) for data in sets if data != test], notes)
    notes += gallery_notes(gallery, "face", calibration)
    finder = Finder({"face": gallery}, {"face": calibration}, settings.thresholds)
    answers = work / "who" / f"{test.name}_who.jsonl"
    write_answers(answers, finder, read_videos(read_scp(test / "vid.scp"), [stored[test]], settings.fps, test))
    write_portrait_notes(notes_path(answers), notes, [enrolment])
    tell("writing the answer")
    names, told = read_names([enrolment], test), read_notes(notes_path(answers))
    media = media_of(test)
    source = Source(read_answers(answers), names, {"face": places[test].items}, test.name, media)
    write_answer_files([source], output_dir)
    remove_annotated(output_dir, annotate_videos(read_answers(answers), names, media, output_dir) if annotate else [])
    pages = PageSource(read_answers(answers), names, media, test.name)
    options = {name: str(value) for name, value in vars(settings).items() if value not in ("", None)}
    used = [network_of(network) for network in networks]
    made = Made(made_on(answers), call, options, new_record([], []).versions, used)
    write_who_page([pages], output_dir, skipped_portraits(told, names.persons), made)
    return list(dict.fromkeys(note.text for note in told))


def _refuse_a_folder_of_the_user(output_dir: Path, *given: str | os.PathLike[str]) -> None:
    """Raises DataError where files of the user would be searched as if they were of the answer, or replaced by it."""
    output, folders = output_dir.resolve(), [Path(folder).resolve() for folder in given if folder]
    if inside := next((folder for folder in folders if output.is_relative_to(folder)), None):
        raise DataError(
            f"the answer would be in {inside}, and its images be searched; choose another folder", output_dir
        )
    is_ours = (output / "work" / "data").is_dir()
    for place in (output / name for name in (*PAGE_FOLDERS, *ANSWER_FOLDERS)):
        if place.exists() and (not is_ours or any(folder.is_relative_to(place.resolve()) for folder in folders)):
            raise DataError(f"the answer would replace '{place.name}' in it; choose another folder", output_dir)


class _Places:
    """Where what stages 2 and 3 make of a set is."""

    def __init__(self, work: Path, name: str, networks: Sequence[InstalledModel]) -> None:
        self.items = work / "face_det" / networks[0].card.name / name
        self.embeddings = work / "face_embed" / networks[1].card.name / name


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
