#!/usr/bin/env python3
"""Own films and portraits -> data folders; every person is searched in every film.

inputs:  <videos-dir>/...  a film each: a video, or a folder of images; <persons-dir>/<person>/...  portraits
         an installed person detector (--model), or a face detector (--face-model): then boxes follow from faces
         optional key: lines '<person><tab><candidate>' naming the candidates that show a person
outputs: <data-dir>/film_cast        vid.scp utt2spk spk2utt names: the portraits
         <data-dir>/film_candidates  vid.scp region search utt2group names: the persons found, one box of one frame
                                     each; with a key relevant utt2spk spk2utt
         <data-dir>/film_candidates/frames/<film>/  key frames with persons as JPEG 95, and the lists of
                                     vidperson/body/film.py; a film that is there whole is not searched again
         standard output: the folders written, one per line
A film that cannot be read, or crashes its decoder, is named; the others are searched all the same.

example: python local/film/prepare_data.py --data-dir data --videos-dir ~/films --persons-dir ~/cast \\
             --model exp/body_models/yolox_nano_onnx
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from steps.options import EngineOptions, open_model
from vidperson import cli
from vidperson.body import detector as persons
from vidperson.engines import ENGINES
from vidperson.media.key_frames import ShotSampling
from vidperson.media.limits import Limits
from vidperson.supervision import Watch, run_supervised

if TYPE_CHECKING:
    from vidperson.body.found import Detect
    from vidperson.corpora.films import Film
    from vidperson.types import Image

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorOptions:
    """What finds the persons in a frame."""

    model: str = cli.option("", "folder of the installed person detector")
    threshold: float = cli.option(persons.THRESHOLD, "score from which on persons are kept", convert=cli.share)
    nms_threshold: float = cli.option(
        persons.NMS_THRESHOLD,
        "intersection over union above which the lower scored person is dropped",
        convert=cli.share,
    )
    face_model: str = cli.option("", "without model: folder of the installed face detector")
    face_threshold: float = cli.option(0.9, "score from which on faces count", convert=cli.share)
    max_size: int = cli.option(800, "long side in pixels that frames are brought down to for it", convert=cli.whole(1))
    engine: str = cli.option("auto", "what runs the network; auto: the best one here", choices=("auto", *ENGINES))


@dataclass(frozen=True)
class FilmOptions:
    """See the top of this file."""

    videos_dir: str = cli.option(help="films: videos, or a folder of images each")
    persons_dir: str = cli.option(help="one folder per person")
    data_dir: str = cli.option("data", "where the data folders are written")
    key: str = cli.option("", "list of who is who; empty: not known")
    frames: int = cli.option(ShotSampling.frames, "key frames per shot", convert=cli.whole(1))
    longest_s: float = cli.option(
        ShotSampling.longest_s, "seconds from which on a shot counts as several", convert=cli.positive
    )
    max_pixels: int = cli.option(Limits.max_pixels, "larger frames and images are refused", convert=cli.whole(1))
    max_duration_s: float = cli.option(Limits.max_duration_s, "longer films are refused", convert=cli.positive)
    film_timeout_s: float = cli.option(
        21600.0, "seconds after which a film is given up; 0: never", convert=cli.not_negative
    )
    decoder_threads: int = cli.option(1, "threads of the decoder", convert=cli.whole(1))
    detector: DetectorOptions = cli.group(DetectorOptions)


def prepare_data(options: FilmOptions) -> None:
    """Raises VidPersonError for folders, lists and networks that are wrong, and where no film can be searched."""
    from vidperson.corpora import films as corpus
    from vidperson.errors import DataError

    films, cast = corpus.read_films(options.videos_dir), corpus.read_cast(options.persons_dir)
    if options.key and not Path(options.key).is_file():
        raise DataError("no such file", options.key)
    folder = Path(options.data_dir) / corpus.CANDIDATES / corpus.FRAMES
    stamps = _stamps(options, films)
    whole = {film.id: _stamp_of(folder / film.id) for film in films}
    if whole != stamps:
        if any(stamp not in ("", stamps[film]) for film, stamp in whole.items()):
            corpus.remove_sets(options.data_dir)  # they name frames that are about to change
        _search(options, films, stamps, folder)
    failed = [film for film in films if _stamp_of(folder / film.id) != stamps[film.id]]
    if failed:
        log.warning("%d of %d films cannot be used: %s", len(failed), len(films), " ".join(film.id for film in failed))
    searched = [film for film in films if film not in failed]
    if not searched:
        raise DataError("none of the films can be read; see above", options.videos_dir)
    for path in corpus.write_sets(options.data_dir, cast, searched, options.key or None):
        print(path)


def _stamps(options: FilmOptions, films: Sequence[Film]) -> dict[str, str]:
    """Film -> what decides what its folder holds, one line: options, network, the film's size and time of change."""
    from vidperson.errors import DataError
    from vidperson.io.segment_inputs import segment_inputs
    from vidperson.networks.install import installed_model

    how = options.detector
    if bool(how.model) == bool(how.face_model):
        raise DataError("expected one of --model and --face-model")
    network = installed_model(how.model or how.face_model).sha256
    chosen = [how.threshold, how.nms_threshold] if how.model else [how.face_threshold, how.max_size]
    limits = [options.max_pixels, options.max_duration_s]
    settings = [options.frames, options.longest_s, *limits, network, how.engine, *chosen]
    inputs = segment_inputs({film.id: os.fspath(film.path) for film in films}, (), Path())
    return {film: json.dumps([*settings, text]) + "\n" for film, text in inputs}


def _stamp_of(folder: Path) -> str:
    """That of a folder that is whole, else nothing."""
    done = folder / ".done"
    return done.read_text() if done.is_file() else ""


def _search(options: FilmOptions, films: Sequence[Film], stamps: dict[str, str], folder: Path) -> None:
    """Search the films that are not done, in a child process that may crash or hang."""
    cli.load("cv2", "vidperson.body.film", "vidperson.networks.opening")
    for path in folder.glob("*.lost"):
        path.unlink()
    folder.mkdir(parents=True, exist_ok=True)

    def work(watch: Watch) -> None:
        left = [film for film in films if not (folder / f"{film.id}.lost").exists()]
        _search_films(options, left, stamps, folder, watch)

    def give_up(film: str, why: str) -> None:
        (folder / f"{film}.lost").write_text(f"{why}\n")
        log.warning("%s: %s", film, why)

    run_supervised(work, give_up, options.film_timeout_s or None)


def _search_films(
    options: FilmOptions, films: Sequence[Film], stamps: dict[str, str], folder: Path, watch: Watch
) -> None:
    import cv2

    from vidperson.body.film import FilmSearch, search_film
    from vidperson.errors import MediaError
    from vidperson.io.atomic import make_once
    from vidperson.progress import Progress

    cv2.setNumThreads(1)
    limits = Limits(options.max_pixels, options.max_duration_s)
    how = FilmSearch(_detect(options.detector), options.frames, options.longest_s, options.decoder_threads, limits)
    seconds = {film.id: _seconds(film) for film in films}
    progress = Progress(sum(seconds.values()), "s of film")
    for film in films:
        watch.begin(film.id)
        begin = progress.done

        def report(time_s: float, begin: int = begin) -> None:
            progress.step(max(0, begin + int(time_s) - progress.done))

        try:
            if make_once(folder / film.id, stamps[film.id], partial(search_film, film.path, how=how, report=report)):
                log.info("%s: %s", film.id, _summary(folder / film.id))
        except MediaError as error:
            log.warning("%s: unreadable: %s", film.id, error)
        report(seconds[film.id])
        watch.end(film.id)


def _summary(folder: Path) -> str:
    """What came of a film."""
    status, shots, found = ((folder / name).read_text().splitlines() for name in ("status", "shots", "persons"))
    return f"{status[0]}; {len(shots)} shots, {len(found)} persons in {len({line.split()[0] for line in found})} frames"


def _seconds(film: Film) -> int:
    from vidperson.errors import MediaError
    from vidperson.media.video import probe

    try:
        return round(probe(film.path).duration_s)
    except (MediaError, OSError):
        return 0


def _detect(options: DetectorOptions) -> Detect:
    """Images to the persons in them."""
    network, card = open_model(options.model or options.face_model, EngineOptions(engine=options.engine), 1)
    if options.model:
        return persons.PersonDetector(network, card, options.threshold, options.nms_threshold).detect
    from vidperson.body.from_faces import persons_of_faces
    from vidperson.face.detector import make_detector

    faces = make_detector(network, card, options.max_size)

    def detect(images: Sequence[Image]) -> list[persons.Persons]:
        found = (faces.detect([image], options.face_threshold)[0] for image in images)
        return [
            persons_of_faces(each.boxes, each.scores, *image.shape[:2])
            for image, each in zip(images, found, strict=True)
        ]

    return detect


if __name__ == "__main__":
    cli.run(prepare_data, FilmOptions, __doc__)
