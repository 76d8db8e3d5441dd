"""Recognise persons from Python: what :func:`vidperson.load` gives, and the console calls.

    import vidperson
    app = vidperson.load()
    app.compare("a.jpg", "b.jpg")              # Comparison(cosine=..., llr=..., probability=...)
    app.faces("x.jpg")                         # [Face(time_s=0.0, box=(...), ...), ...]
    gallery = app.gallery("persons/")          # one folder of photos or videos per person
    gallery.find("video.mp4")                  # VideoAnswer(appearances=(Appearance(person=...), ...))

Everything is done by the functions that the stages call, so that the results are those of the stages.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidperson import cli
from vidperson.answers import PortraitNote, VideoAnswer
from vidperson.backends.decisions import Thresholds, posteriors
from vidperson.backends.exact import Double
from vidperson.backends.finding import Finder, Found, Unknown, join, portrait
from vidperson.backends.gallery import Gallery as Vectors
from vidperson.backends.gallery import Portrait
from vidperson.backends.portrait_notes import gallery_notes, noted
from vidperson.corpora.folder import portraits_of, without_live_films
from vidperson.durations import figures_of
from vidperson.engines import ENGINES, PRECISIONS, Network
from vidperson.engines.processor import processor_features
from vidperson.errors import DataError, MediaError, ModelError
from vidperson.face.candidates import Candidates, SelectedFaces
from vidperson.face.detection import uniform_tasks
from vidperson.face.detector import MAX_SIZE, FaceDetector, make_detector
from vidperson.face.embedder import FaceEmbedder
from vidperson.face.pipeline import Task, find_faces
from vidperson.face.selection import SelectionPolicy, score_levels
from vidperson.media.image import decode_intact_image
from vidperson.media.sampling import UniformSampling
from vidperson.networks.card import ModelCard, calibration_of
from vidperson.networks.choice import best_at_hand
from vidperson.networks.install import InstalledModel, install_model, shipped_model
from vidperson.networks.opening import AUTO, auto_precision, open_network
from vidperson.report.portrait_notes import note_text
from vidperson.types import Calibration, Float, Frame, Image, is_image_name
from vidperson.who.finding import video_of

Source = str | os.PathLike[str] | Image
"""A file, a folder of images, or (height, width, 3) uint8 RGB."""

EMBED_BATCH = 16  # crops per call of the embedder


@dataclass(frozen=True)
class FaceSettings:
    """How faces are found and embedded. The defaults are those of ``global_conf/config_folder.sh``."""

    detector: str = cli.option("", "network that finds faces, or path of its card; empty: the best at hand")
    embedder: str = cli.option("", "network that tells persons apart, or path of its card; empty: the best at hand")
    models_dir: Path | None = cli.option(None, "where networks are installed; by default in ~/.cache/vidperson")
    fps: float = cli.option(5.0, "frames per second of video that are searched", convert=cli.positive)
    max_size: int = cli.option(MAX_SIZE, "long side in pixels that frames are brought down to", convert=cli.whole(1))
    det_threshold: float = cli.option(SelectionPolicy.threshold, "lowest score of a face", convert=cli.share)
    second_look: int = cli.option(
        5, "frames to search of a shorter video in which none shows a sure face", convert=cli.whole(0)
    )
    device: str = cli.option("cpu", "where the networks run: cpu, cuda or cuda:<number>")
    engine: str = cli.option(AUTO, "what runs the networks; auto: the best one here", choices=(AUTO, *ENGINES))
    precision: str = cli.option(
        AUTO, "what they compute in; auto: bf16 where network and processor allow it", choices=(AUTO, *PRECISIONS)
    )
    threads: int = cli.option(0, "CPU threads; 0: as many as there are cores", convert=cli.whole(0))

    def __post_init__(self) -> None:
        """Raises VidPersonError or ValueError for values that cannot be; as options they are refused before."""
        UniformSampling(self.fps)
        score_levels(self.det_threshold)
        if self.max_size < 1 or self.second_look < 0 or self.threads < 0:
            found = f"{self.max_size}, {self.second_look} and {self.threads}"
            raise ValueError(f"max_size, second_look, threads: expected at least 1, 0 and 0, found {found}")

    @property
    def num_threads(self) -> int:
        """1 or more."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Settings(FaceSettings):
    """What :func:`load` may be given: also when a person is named."""

    person_prior: float = cli.option(
        Thresholds.person_prior, "prior probability that somebody is in the gallery", convert=cli.prior
    )
    min_probability: float = cli.option(
        Thresholds.yes, "lowest probability with which a person is named", convert=cli.share
    )
    unsure_probability: float = cli.option(
        Thresholds.unsure, "lowest probability with which that is unsure", convert=cli.share
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.thresholds

    @property
    def thresholds(self) -> Thresholds:
        """Raises ScoringError for values that cannot be."""
        return Thresholds(self.person_prior, self.min_probability, self.unsure_probability)


@dataclass(frozen=True, eq=False)
class Face:
    """A face in an image or a frame of a video.

    frame: number of the frame in display order, from 0. time_s: seconds since the first frame; both 0 of an image.
    box: x1 y1 x2 y2 in pixels of the frame. score: of the detector, 0..1.
    landmarks: x y of the eyes (image left, image right), the nose and the mouth corners, in pixels.
    eye_distance: in pixels. black_share: 0..1, of the aligned face that is black, such as outside the image.
    crop: (112, 112, 3) uint8 RGB, the aligned face.
    embedding: (D,) float32, not length-normalised.
    """

    frame: int
    time_s: float
    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]
    eye_distance: float
    black_share: float
    crop: Image = field(repr=False)
    embedding: Float = field(repr=False)

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        x1, y1, x2, y2 = self.box
        return (x2 - x1) * (y2 - y1)


@dataclass(frozen=True)
class Comparison:
    """Are two faces of one person?

    cosine: of the embeddings, -1..1.
    llr: natural log-likelihood ratio, one person or two, by the calibration in the embedder's card.
    probability: 0..1, that it is one person, with the prior that was given.
    notes: what to know about it, such as that an image shows several faces.
    """

    cosine: float
    llr: float
    probability: float
    notes: tuple[str, ...] = ()


class App:
    """A detector and an embedder, opened once; see :func:`load`."""

    def __init__(self, detector: FaceDetector, embedder: FaceEmbedder, settings: Settings) -> None:
        self.detector, self.embedder, self.settings = detector, embedder, settings
        self._policy = SelectionPolicy(threshold=settings.det_threshold)

    @property
    def networks(self) -> str:
        """Their names."""
        return f"{self.detector.card.name}, {self.embedder.card.name}"

    @property
    def calibration(self) -> Calibration:
        """That of the embedder. Raises ModelError where its card has none."""
        return calibration_of(self.embedder.card)

    def faces(self, source: Source) -> list[Face]:
        """The faces of an image, or of a video at ``Settings.fps``; in the order of time, the best score first.

        None is a normal case. Raises DataError for a file that cannot be read.
        """
        found, crops, embeddings = self._readable(source)
        return [_face(*of_face) for of_face in zip(found.rows, found.quality, crops, embeddings, strict=True)]

    def compare(self, first: Source, second: Source, prior: float = 0.5) -> Comparison:
        """The persons of two images or videos: are they one person?

        Of several faces in an image the largest counts; of several persons in a video the one with the largest faces,
        see :func:`~vidperson.backends.finding.portrait`.
        prior: probability that they are, above 0 and below 1, before anything is seen.
        Raises DataError for a file that cannot be read, or shows no face; ModelError for an embedder without
        calibration; ValueError for another prior.
        """
        if not 0 < prior < 1:
            raise ValueError(f"prior: expected a number above 0 and below 1, found {prior}")
        notes: list[str] = []
        one, other = (self._person(source, notes) for source in (first, second))
        cosine = float(one @ other)
        llr = float(self.calibration.llr(np.array(cosine)))
        (probability,), _ = posteriors(np.array([llr]), prior, 1)
        return Comparison(cosine, llr, float(probability), tuple(notes))

    def gallery(self, persons: str | os.PathLike[str] | Mapping[str, Source | Iterable[Source]]) -> Gallery:
        """The persons to find in videos.

        persons: a folder with one folder per person, with photos or videos in it; a file beside these folders is of the
            person of its name. Or name -> photos and videos. Without any everybody is unknown.
        A photo that cannot be read, or shows no face, is named in :attr:`Gallery.notes`. Raises DataError for a folder
        that is missing or where no photo shows a face, ModelError for an embedder without calibration.
        """
        given: Mapping[str, Source | Iterable[Source]]
        given = persons if isinstance(persons, Mapping) else _portraits(Path(persons))
        notes: list[PortraitNote] = []
        portraits = (
            self._portrait(source, person) for person, sources in given.items() for source in _as_list(sources)
        )
        vectors = Vectors.of(noted(portraits, "face", notes))
        if given and not len(vectors):
            raise DataError(f"no face found in any photo or video of: {', '.join(given)}")
        notes += gallery_notes(vectors, "face", self.calibration)
        finder = Finder({"face": vectors}, {"face": self.calibration}, self.settings.thresholds)
        return Gallery(self, finder, tuple(note_text(note, {}) for note in notes))

    def found(self, source: Source) -> tuple[str, Float, Found]:
        """What stages 2 and 3 have of a file: its status, its shots, and rows, quality and embeddings of its faces."""
        status, found = self._selected(source)
        return status, found.shots, Found("face", found.rows, found.quality, self._embedded(found)[1])

    def _readable(self, source: Source) -> tuple[SelectedFaces, list[Image], Float]:
        """What was found, with aligned crops and embeddings. Raises DataError for a file that cannot be read."""
        status, found = self._selected(source)
        _require_readable(source, status)
        return found, *self._embedded(found)

    def _selected(self, source: Source) -> tuple[str, SelectedFaces]:
        """The status of stage 2, and what it keeps."""
        if isinstance(source, np.ndarray):
            candidates = Candidates(self._policy)
            frame = Frame(source, 0, 0.0)
            candidates.add(frame, self.detector.detect([source], candidates.min_score)[0])
            shots = np.array([(0, *source.shape[1::-1])], np.float32)
            return "ok", replace(candidates.select(), shots=shots)
        tasks = find_tasks({"": os.path.abspath(source)}, self.settings)
        with closing(find_faces(tasks, self.detector, self._policy, threads=self.settings.num_threads)) as results:
            result = next(results)
            return result.status, result.faces

    def _embedded(self, found: SelectedFaces) -> tuple[list[Image], Float]:
        """Aligned crops, and their (N, D) embeddings. ``found.crops`` is read by it."""
        crops = [decode_intact_image(png) for png in found.crops]
        embeddings = [np.zeros((0, self.embedder.embedding_size), np.float32)]
        for start in range(0, len(crops), EMBED_BATCH):
            embeddings.append(self.embedder.embed(np.stack(crops[start : start + EMBED_BATCH])))
        return crops, np.concatenate(embeddings)

    def _portrait(self, source: Source, person: str) -> Portrait:
        status, _, found = self.found(source)
        return portrait(_name(source), person, found, status)

    def _person(self, source: Source, notes: list[str]) -> Double:
        """(D,) unit vector. Raises DataError for a file that cannot be read, or shows no face."""
        one = self._portrait(source, "")
        _require_readable(source, one.status)
        if one.vector is None:
            raise DataError("no face found in it; expected a photo or video that shows a face", _name(source))
        if one.together > 1:
            notes.append(f"{_name(source)}: there are {one.together} faces in it; the largest one is taken")
        return one.vector


class Gallery:
    """Persons to find in videos; made by :meth:`App.gallery`.

    notes: what was left out or chosen of the photos, a sentence each.
    """

    def __init__(self, app: App, finder: Finder, notes: tuple[str, ...] = ()) -> None:
        self._app, self._finder, self.notes = app, finder, notes

    @property
    def persons(self) -> tuple[str, ...]:
        """The names of those who can be found, in the order of their bytes in UTF-8."""
        return self._finder.galleries["face"].persons

    def find(self, source: Source) -> VideoAnswer:
        """Who is in a video or an image, and when. Raises DataError for a file that cannot be read."""
        (answer,) = self.find_all([source])
        _require_readable(source, answer.status)
        return answer

    def find_all(self, sources: Source | Iterable[Source]) -> list[VideoAnswer]:
        """Who is in each of these. "unknown 1", "unknown 2", ... are the same persons in all of them.

        A file that cannot be read has a status that says so, and no appearance.
        """
        unknown = Unknown(self._finder.calibrations)
        answers = []
        for source in _as_list(sources):
            status, shots, found = self._app.found(source)
            duration_s, taken = _figures(source)
            video = video_of(_name(source), status, shots, duration_s, self._app.settings.fps, taken)
            answer, vectors = self._finder.answer(video, [found])
            unknown.add(answer, vectors)
            answers.append(answer)
        names = iter(unknown.names())
        return [join(answer, names) for answer in answers]


def load(settings: Settings | None = None, **changes: Any) -> App:
    """Open the networks. changes: fields of :class:`Settings`, such as ``load(fps=2, device="cuda")``.

    The networks that ship are opened in their place. Others are installed below ``models_dir`` at first, from
    VIDPERSON_MODEL_DIR or by download.
    Raises ModelError for a network that cannot be had, EngineError for an engine or a device that is not there, and
    TypeError for a setting that there is not.
    """
    chosen = replace(settings or Settings(), **changes)
    return App(open_detector(chosen), open_embedder(chosen), chosen)


def open_detector(settings: Settings) -> FaceDetector:
    """Raises as :func:`load`."""
    network, card = _open(settings.detector, "face_detector", settings)
    return make_detector(network, card, settings.max_size)


def open_embedder(settings: Settings) -> FaceEmbedder:
    """Raises as :func:`load`."""
    return FaceEmbedder(*_open(settings.embedder, "face_embedder", settings))


def chosen_networks(settings: Settings) -> tuple[InstalledModel, InstalledModel]:
    """Detector and embedder, installed. Raises as :func:`load`."""
    return _installed(settings.detector, "face_detector", settings), _installed(
        settings.embedder, "face_embedder", settings
    )


def find_tasks(segments: Mapping[str, str], settings: Settings) -> list[Task]:
    """What stage 2 is to do with files, id -> path."""
    return uniform_tasks(segments, UniformSampling(settings.fps), settings.second_look)


def models_folder() -> Path:
    """Where networks are installed by default: ``vidperson`` in the user's cache folder, XDG_CACHE_HOME or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "vidperson" / "face_models"


def _installed(card_name: str, kind: str, settings: Settings) -> InstalledModel:
    """A network that ships in its place, any other one installed. card_name: empty for the best at hand."""
    folder = settings.models_dir or models_folder()
    given = [place for place in [os.environ.get("VIDPERSON_MODEL_DIR", "")] if place]
    name = card_name or best_at_hand(kind, folder, given)
    installed = shipped_model(name) or install_model(name, folder, given)
    if installed.card.kind != kind:
        raise ModelError(f"{installed.card.name} is a {installed.card.kind}, not a {kind}")
    return installed


def precision_of(card: ModelCard, settings: Settings) -> str:
    """What a network computes in; see :func:`~vidperson.networks.opening.auto_precision`."""
    if settings.precision != AUTO:
        return settings.precision
    return auto_precision(card, settings.engine, settings.device, processor_features())


def _open(card_name: str, kind: str, settings: Settings) -> tuple[Network, ModelCard]:
    installed = _installed(card_name, kind, settings)
    card, batch = installed.card, EMBED_BATCH if installed.card.role == "embedder" else 1
    precision = precision_of(card, settings)
    return open_network(installed, settings.engine, settings.device, settings.num_threads, precision, batch), card


def _name(source: Source) -> str:
    return "the image" if isinstance(source, np.ndarray) else os.fspath(source)


def _portraits(root: Path) -> dict[str, list[Source]]:
    """Person -> files, of a folder; see :func:`~vidperson.corpora.folder.portraits_of`."""
    person_of = portraits_of(root)
    found: dict[str, list[Source]] = {}
    for name in without_live_films(root, list(person_of)):
        found.setdefault(person_of[name], []).append(root / name)
    return found


def _as_list(sources: Source | Iterable[Source]) -> list[Source]:
    """A single file or image counts, too: a path is text, and its letters are no files."""
    return [sources] if isinstance(sources, str | os.PathLike | np.ndarray) else list(sources)


def _figures(source: Source) -> tuple[float, str]:
    """Seconds that it lasts, 0 for an image, and when it was taken."""
    if isinstance(source, np.ndarray):
        return 0.0, ""
    try:
        found = figures_of(os.path.abspath(source))
    except (DataError, MediaError):
        return 0.0, ""
    is_image = is_image_name(os.fspath(source))
    return 0.0 if is_image else round(found.seconds, 3), found.taken


def _require_readable(source: Source, status: str) -> None:
    state, _, why = status.partition(": ")
    if state == "unreadable":
        raise DataError(why, _name(source))
    if state == "damaged":
        logging.warning("%s: %s", _name(source), status)


def _face(row: Float, quality: Float, crop: Image, embedding: Float) -> Face:
    frame, time_s, x1, y1, x2, y2, score, *points = row.tolist()
    landmarks = tuple(zip(points[::2], points[1::2], strict=True))
    eyes, black = quality.tolist()
    return Face(int(frame), time_s, (x1, y1, x2, y2), score, landmarks, eyes, black, crop, embedding)
