#!/usr/bin/env python3
"""How well wrong labels are found: artificial persons, voices joined with faces of other people.

Inputs:  VOICES, folders of <speaker>/<sound>; FACES_DIR/train_{pins105,celebs,bollywood100}.tar,
         aligned faces; VOICE_NETWORK, an ONNX file as Resemblyzer's, and FACE_NETWORK, a card
Outputs: Markdown tables: area under the ROC curve by each modality and by all, precision and recall
         of each kind of error, with 0 errors and with SHARE of the utterances
         WORK_DIR keeps the embeddings (made once, minutes) and, of each seed, data folders and what
         stage 3 would have made: run stage 15 on them as on a real set

NO SUCH PERSONS EXIST: a voice and a face are drawn by a seed. An utterance has a sound and three
photos; three utterances in a row are a video. A quarter of the errors is of each kind: an utterance
under the label of somebody else; a whole video likewise; the face only; the voice only. Of one
utterance in ten no face is known.

Example:
  python benchmarks/pseudo_speakers.py --faces-dir ../shared/data/faces --model-dir ../shared/models \\
      --voices ../shared/data/speech_train/emodb ../shared/data/speech/ucla --work-dir /tmp/pseudo \\
      --voice-network ../shared/models/speaker/resemblyzer_dvector/resemblyzer.onnx
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidperson import cli

if TYPE_CHECKING:
    from benchmarks.pseudo_clips import Photo
    from vidperson.backends.cleansing import Cleansed, View

Float = NDArray[np.float32]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

TARS = ("train_pins105.tar", "train_celebs.tar", "train_bollywood100.tar")
PHOTOS, VIDEO = 3, 3
MODALITIES = ("speaker", "face")
KINDS = ("utterance", "video", "face", "speaker")


@dataclass(frozen=True)
class Options:
    """What is drawn."""

    voices: list[Path] = cli.option(help="folders of <speaker>/<sound>")
    faces_dir: Path = cli.option(help="folder of the tars")
    work_dir: Path = cli.option(help="folder for embeddings and sets; outside of the repository")
    voice_network: Path = cli.option(help="ONNX file of Resemblyzer's network")
    face_network: str = cli.option("mobilefacenet_casia_pytorch", "card of an embedder of faces")
    model_dir: str = cli.option("", "folder to search for networks before downloading")
    seeds: int = cli.option(3, "how often other persons are drawn", convert=cli.whole(1))
    share: float = cli.option(0.1, "of the utterances, that get an error", convert=cli.share)
    most: int = cli.option(12, "utterances of a person", convert=cli.whole(4))


@dataclass(frozen=True)
class Pool:
    """Items of known people. names: of each. owners: who it is. rows: (N, D) float32 embeddings."""

    names: list[str]
    owners: list[str]
    rows: Float

    def of_owner(self, least: int) -> dict[str, Index]:
        """The items of those who have so many."""
        found: dict[str, list[int]] = {}
        for number, owner in enumerate(self.owners):
            found.setdefault(owner, []).append(number)
        return {owner: np.array(items) for owner, items in sorted(found.items()) if len(items) >= least}


@dataclass(frozen=True)
class Drawn:
    """A list with errors; N utterances of P labels.

    labels: (N,). sounds: (N,) items of the pool of voices. photos: (N, 3) of the pool of faces; has_face: (N,).
    wrong: modality -> (N,) it is not that of the label. kinds: of each, "" for none.
    """

    labels: Index
    sounds: Index
    photos: Index
    has_face: Mask
    wrong: Mapping[str, Mask]
    kinds: list[str]

    @property
    def any_wrong(self) -> Mask:
        return self.wrong["speaker"] | self.wrong["face"]

    @property
    def ids(self) -> list[str]:
        return [f"p{label:03d}-{number:05d}" for number, label in enumerate(self.labels.tolist())]


def draw(voices: Pool, faces: Pool, seed: int, share: float, most: int, missing: float = 0.1) -> Drawn:
    """Join voices with faces, and put errors in; see the top of this file."""
    rng = np.random.default_rng(seed)
    of_voice, of_face = voices.of_owner(4), faces.of_owner(2 * PHOTOS)
    speakers, looks = (rng.permutation(list(owners)).tolist() for owners in (of_voice, of_face))
    persons: list[int] = []
    videos: list[int] = []
    sounds: list[int] = []
    photos: list[Index] = []
    for number_of, (speaker, face) in enumerate(zip(speakers, looks, strict=False)):
        own, shown = np.sort(rng.permutation(of_voice[speaker])[:most]), rng.permutation(of_face[face])
        for number, sound in enumerate(own.tolist()):
            persons.append(number_of)
            videos.append(number // VIDEO)
            sounds.append(sound)
            photos.append(shown[(PHOTOS * number + np.arange(PHOTOS)) % len(shown)])
    person, video = np.array(persons), np.array(videos)
    has_face = rng.random(len(person)) >= missing
    labels, source = person.copy(), {name: np.arange(len(person)) for name in MODALITIES}
    kinds = [""] * len(person)
    for kind in KINDS:
        for _ in range(len(person)):
            if sum(one == kind for one in kinds) >= share * len(person) / len(KINDS):
                break
            first, other = int(rng.integers(len(person))), int(rng.integers(person.max() + 1))
            if kinds[first] or other == person[first] or (kind == "face" and not has_face[first]):
                continue
            rows = np.array([first])
            if kind == "video":
                rows = np.flatnonzero((person == person[first]) & (video == video[first]) & [not k for k in kinds])
            if kind in source:
                source[kind][first] = rng.choice(np.flatnonzero(person == other))
            else:
                labels[rows] = other
            for row in rows.tolist():
                kinds[row] = kind
    wrong = {name: person[source[name]] != labels for name in MODALITIES}
    wrong["face"] &= has_face
    return Drawn(labels, np.array(sounds)[source["speaker"]], np.array(photos)[source["face"]], has_face, wrong, kinds)


def voice_pool(folders: Sequence[Path], network: Path) -> Pool:
    """Embed all sounds with Resemblyzer's network; the mean over its windows."""
    import onnxruntime

    from vidperson.media.audio import read
    from vidperson.networks.card import FbankInput
    from vidperson.speaker.fbank import network_input

    front_end = FbankInput(
        sample_rate=16000, mel_bins=40, window=400, hop=160, fft=400, low_hz=0, high_hz=8000, framing="centred",
        window_type="hann", mel_scale="slaney", mean_norm=False, level_dbfs=-30, crop_frames=160, crop_hop=80,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(network), options)
    paths = [path for folder in folders for path in sorted(folder.glob("*/*"))]
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: network_input(read(path), front_end)})[0].mean(axis=0) for path in paths]
    return Pool([str(path) for path in paths], [f"{path.parts[-3]}-{path.parts[-2]}" for path in paths], np.stack(rows))


def face_pool(tars: Sequence[Path], card: str, models: Path, model_dir: str, most: int) -> Pool:
    """Embed at most so many photos of each person."""
    from benchmarks.pseudo_clips import open_photo, read_photos
    from vidperson.face.embedder import FaceEmbedder
    from vidperson.networks.install import install_model
    from vidperson.networks.opening import open_network

    counts: dict[str, int] = {}
    photos: list[Photo] = []
    for photo in read_photos(tars):
        counts[photo.person] = counts.get(photo.person, 0) + 1
        if counts[photo.person] <= most:
            photos.append(photo)
    installed = install_model(card, models, [model_dir] if model_dir else [])
    embedder = FaceEmbedder(open_network(installed), installed.card)
    parts = [photos[begin : begin + 16] for begin in range(0, len(photos), 16)]
    rows = np.concatenate([embedder.embed(np.stack([open_photo(photo) for photo in part])) for part in parts])
    return Pool([photo.name for photo in photos], [photo.person for photo in photos], rows)


def kept(path: Path, make: Callable[[], Pool]) -> Pool:
    """A pool that is stored, or is made and stored."""
    if not path.is_file():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".tmp.npz"), allow_pickle=False, **vars(made))
        path.with_suffix(".tmp.npz").rename(path)
    with np.load(path) as arrays:
        return Pool(arrays["names"].tolist(), arrays["owners"].tolist(), arrays["rows"])


def pools(options: Options) -> tuple[Pool, Pool]:
    """Voices and faces; embedded once."""
    work, most = options.work_dir, PHOTOS * options.most
    voices = kept(work / "voices.npz", lambda: voice_pool(options.voices, options.voice_network))
    tars = [options.faces_dir / name for name in TARS]
    faces = kept(
        work / f"{options.face_network}.npz",
        lambda: face_pool(tars, options.face_network, work / "models", options.model_dir, most),
    )
    return voices, faces


def write_sets(root: Path, drawn: Drawn, voices: Pool, faces: Pool, face_network: str) -> None:
    """data/pseudo and <modality>_embed/<embedder>/pseudo below ``root``, as stages 1 and 3 write them."""
    from benchmarks.pseudo_clips import write_archive
    from vidperson.corpora.data_folder import Segment, write_data_folder

    ids = drawn.ids
    sounds = [voices.names[sound] for sound in drawn.sounds.tolist()]
    segments = [
        Segment(name, "", f"p{label:03d}", sound=os.path.abspath(sound))
        for name, label, sound in zip(ids, drawn.labels.tolist(), sounds, strict=True)
    ]
    write_data_folder(root / "data/pseudo", segments)
    of_sound = ((name, voices.rows[sound][None]) for name, sound in zip(ids, drawn.sounds.tolist(), strict=True))
    write_archive(root / "speaker_embed/resemblyzer_dvector/pseudo", "embed", of_sound)
    seen = zip(ids, drawn.photos, drawn.has_face.tolist(), strict=True)
    of_photos = ((name, faces.rows[photos if there else photos[:0]]) for name, photos, there in seen)
    write_archive(root / f"face_embed/{face_network}/pseudo", "embed", of_photos)


def views(drawn: Drawn, voices: Pool, faces: Pool) -> list[View]:
    """The vectors as steps/cleanse_list.py makes them of these embeddings."""
    from vidperson.backends.cleansing import View
    from vidperson.backends.identification import item_weights, pool

    photos = [faces.rows[items] for items in drawn.photos[drawn.has_face]]
    looks = np.stack([pool([rows], None, item_weights(len(rows))).vectors[0] for rows in photos])
    everybody = np.arange(len(drawn.labels))
    return [View("speaker", everybody, voices.rows[drawn.sounds]), View("face", np.flatnonzero(drawn.has_face), looks)]


def area(wrong: Mask, scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a wrong one has the higher score; NaN is left out."""
    from scipy.stats import rankdata

    there = np.isfinite(scores)
    wrong, ranks = wrong[there], rankdata(scores[there])
    number = int(wrong.sum())
    return float((ranks[wrong].sum() - number * (number + 1) / 2) / (number * (len(wrong) - number)))


def figures(drawn: Drawn, found: Cleansed) -> dict[str, float]:
    """AUC of similarity, of the doubt about a modality, and of all; precision and recall, by kind of error."""
    wrong = 1 - found.judged.right
    row = {}
    for v, name in enumerate(MODALITIES):
        known = found.known[:, v]
        row[f"AUC {name}, similarity"] = area(drawn.wrong[name][known], -found.similarity[known, v])
        row[f"AUC {name}"] = area(drawn.wrong[name][known], found.judged.doubts(v)[known])
    row["AUC all"] = area(drawn.any_wrong, wrong)
    both = found.noisy & drawn.any_wrong
    row["precision"] = float(both.sum() / max(found.noisy.sum(), 1))
    row["recall"] = float(both.sum() / drawn.any_wrong.sum())
    for kind in KINDS:
        mine = np.array([one == kind for one in drawn.kinds]) & drawn.any_wrong
        row[f"recall {kind}"] = float(found.noisy[mine].mean()) if mine.any() else np.nan
    return row


def benchmark(options: Options) -> None:
    """Prints the table."""
    from vidperson.backends.cleansing import cleanse

    voices, faces = pools(options)
    rows = []
    for seed in range(options.seeds):
        drawn = draw(voices, faces, seed, options.share, options.most)
        root = options.work_dir / f"seed{seed}"
        write_sets(root, drawn, voices, faces, options.face_network)
        row = figures(drawn, cleanse(drawn.labels, int(drawn.labels.max()) + 1, views(drawn, voices, faces)))
        clean = draw(voices, faces, seed, 0.0, options.most)
        good = cleanse(clean.labels, int(clean.labels.max()) + 1, views(clean, voices, faces))
        rows.append(row | {"noisy without errors": float(good.noisy.mean())})
    print("| figure | " + " | ".join(f"seed {seed}" for seed in range(options.seeds)) + " |")
    print("|---|" + "---|" * options.seeds)
    for name in rows[0]:
        print(f"| {name} | " + " | ".join(f"{row[name]:.4f}" for row in rows) + " |")


if __name__ == "__main__":
    cli.run(benchmark, Options, __doc__)
