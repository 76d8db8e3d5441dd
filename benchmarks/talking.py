"""Voice, face and their fusion on real talking clips, in lists built as VoxCeleb's O, E and H are.

Inputs:  clips with sound of VIDPERSON_SHARED (see docs/develop.md): GRID sentences, talks of AVSpeech, public talks.
Outputs: <out-dir>/lists/A-{O,E,H}.txt, lines `1|0 <clip> <clip>`; <out-dir>/data and <out-dir>/exp of stages 1 to 5,
         with the report; on stdout the EER of each list and system with its 95 % interval, bootstrap over persons, and
         how far the last fusion is from what it has to reach.

Clips: a talk is cut into pieces of 4 s. GRID_bbaf2n is a copy of s1_bbaf2n, and left out. id2 may be a GRID speaker:
those pairs are left out. Target pairs are of different recordings: pieces of one talk are no pair. Of the GRID speaker
s1 10 of 45 pairs are drawn.
  A-E  all pairs.
  A-O  the target pairs, and as many others: drawn one by one for the persons that are in the fewest so far.
  A-H  the target pairs, and others of the same corpus and sex only.
Conditions, in the second clip of each pair of A-H: no sound track (mute), a black picture (black), the face of another
person of the same corpus and sex (swap), and faces about 10 pixels wide with noise 10 dB below the voice (poor). With
swap, a pair is a target by its voice.

Calibration and fusion are trained on pseudo persons (artificial): each is a voice of UCLA or LibriSpeech joined with a
face of LFW View 1, by a seed; no clip takes part. On their own pairs (pseudo) the mean of the cosines, which is not
trained, has to reach the same as on A-H. Nine persons of clips have target pairs: for regression, not for claims.

Exit status 1 where the last fusion is behind by the whole interval: on A-H, its EER is more than half of the better
single one's; with a modality missing, it is more than the other one's. On "poor", it is told only.

Example:
  VIDPERSON_SHARED=../shared python benchmarks/talking.py --out-dir /tmp/talking --speaker-embedder ecapa_tiny
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tarfile
import wave
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_clips import PIECE_S, Source, cut, encode
from vidperson import cli, metrics
from vidperson.errors import DataError
from vidperson.io.lines import read_scp
from vidperson.io.lists import read_key, read_scores_of
from vidperson.metrics.intervals import MAX_DRAWS
from vidperson.metrics.trials import Persons, drawn_rates, interval

ROOT = Path(__file__).resolve().parents[1]
RATE = 16000
SEED = 19
MOST_S1 = 10  # of the 45 pairs of the GRID speaker with ten clips
COPY = "GRID_bbaf2n"
WOMEN = {
    *("GRID_brbk7n", "GRID_lbbc2a", "GRID_lrwp9a", "GRID_lwbsza", "5JGS4NZrYpk", "FrKHP3yLjJw"),
    *("feifeili", "KristiNoem"),
}
LISTS = ("A-O", "A-E", "A-H")
CONDITIONS = ("mute", "black", "swap", "poor")
FACE_WIDTH = {"grid": 110, "talks": 110, "avspeech": 60}  # about, in pixels
POOR_WIDTH, POOR_SNR = 10, 10.0  # pixels, dB
CALIBRATION = "pseudo"
FACES, VOICES = 6, 6  # of each pseudo person
BACKEND = "mean-cosine"
MEASURES = "norm duration"
METHODS = ("mean", "logistic", "quality")
SINGLE = ("face", "voice")


@dataclass(frozen=True)
class Options:
    out_dir: str = cli.option(help="new folder for data and results")
    shared: str = cli.option(os.environ.get("VIDPERSON_SHARED", "../shared"), "folder of the real media")
    speaker_embedder: str = cli.option("ecapa_tiny", "network of voices")
    face_detector: str = cli.option("retinaface_tiny", "network that finds faces")
    face_embedder: str = cli.option("arcface_tiny", "network of faces")
    model_dir: str = cli.option("", "folder of network files that are not shipped")
    fps: float = cli.option(4.0, "frames per second of video that are searched", convert=cli.positive)


@dataclass(frozen=True)
class Clip:
    """A clip to compare. recording: what it was cut from. video, sound: its files."""

    name: str
    person: str
    corpus: str
    recording: str
    video: Path
    sound: Path

    @property
    def kind(self) -> tuple[str, bool]:
        """Corpus and sex: what the others of A-H share."""
        return self.corpus, self.person in WOMEN


def clips(shared: Path, work: Path) -> list[Clip]:
    """All clips; pieces of talks are cut into a folder of ``work``."""
    video = shared / "data/video"
    found = []
    for path in sorted(video.glob("grid/*.mpg")):
        if path.stem != COPY:
            person = path.stem if path.stem.startswith("GRID_") else path.stem.split("_")[0]
            found.append(Clip(path.stem, person, "grid", path.stem, path, path))
    for path in sorted(video.glob("avspeech/*.mp4")):
        name = path.stem.rstrip("_")
        person = name.replace("_co_", "_").rpartition("_")[0]
        found.append(Clip(name, person, "avspeech", path.stem, path, path))
    for path in sorted(video.glob("talks/*.mp4")):
        found += list(_pieces(path, work / "pieces"))
    return found


def _pieces(path: Path, folder: Path) -> Iterator[Clip]:
    """The pieces of a talk, each as a video and a sound."""
    from vidperson.media.audio import read

    names = cut(Source(path, cut_s=3600.0), folder, path.stem)
    samples = read(path, RATE)
    for place, name in enumerate(names):
        sound = folder / f"{Path(name).stem}.wav"
        write_sound(sound, samples[place * PIECE_S * RATE : (place + 1) * PIECE_S * RATE])
        yield Clip(Path(name).stem, path.stem.split("_")[0], "talks", path.stem, folder / name, sound)


Pair = tuple[Clip, Clip]


def target_pairs(found: Sequence[Clip], draw: random.Random) -> list[Pair]:
    """Pairs of different recordings of a person, of s1 only MOST_S1."""
    pairs = [(a, b) for a, b in combinations(found, 2) if a.person == b.person and a.recording != b.recording]
    of_s1 = [pair for pair in pairs if pair[0].person == "s1"]
    kept = draw.sample(of_s1, min(MOST_S1, len(of_s1)))
    return [pair for pair in pairs if pair[0].person != "s1" or pair in kept]


def trial_lists(found: Sequence[Clip]) -> dict[str, list[tuple[Pair, bool]]]:
    """The lists of the top of this file: pairs, and whether each is a target."""
    draw = random.Random(SEED)
    targets = target_pairs(found, draw)
    others = [(a, b) for a, b in combinations(found, 2) if a.person != b.person and not _same_perhaps(a, b)]
    left, balanced, count = draw.sample(others, len(others)), set[Pair](), Counter[str]()
    while len(balanced) < min(len(targets), len(others)):
        pair = min(left, key=lambda pair: sorted(count[clip.person] for clip in pair))
        left.remove(pair)
        balanced.add(pair)
        count.update(clip.person for clip in pair)
    hard = [(a, b) for a, b in others if a.kind == b.kind]
    nontargets = {"A-O": [pair for pair in others if pair in balanced], "A-E": others, "A-H": hard}
    return {
        name: [*((pair, True) for pair in targets), *((pair, False) for pair in pairs)]
        for name, pairs in nontargets.items()
    }


def _same_perhaps(a: Clip, b: Clip) -> bool:
    return "id2" in (a.person, b.person) and a.corpus == b.corpus == "grid"


def swapped(found: Sequence[Clip]) -> dict[str, Path]:
    """Clip -> the video of the next other person of its corpus and sex; its own where there is none."""
    videos = {}
    for at, clip in enumerate(found):
        following = [*found[at + 1 :], *found[:at]]
        other = (c for c in following if c.kind == clip.kind and c.person != clip.person and not _same_perhaps(c, clip))
        videos[clip.name] = next(other, clip).video
    return videos


def poor(clip: Clip, noise: Path, folder: Path) -> tuple[Path, Path]:
    """The clip's pictures made small and large again, and its sound with noise."""
    import av

    from vidperson.media.audio import read

    folder.mkdir(parents=True, exist_ok=True)
    video, sound = folder / f"{clip.name}.mp4", folder / f"{clip.name}.wav"
    with av.open(str(clip.video)) as container:
        stream = container.streams.video[0]
        width, height = stream.width // 2 * 2, stream.height // 2 * 2
        small = (side * POOR_WIDTH // FACE_WIDTH[clip.corpus] for side in (width, height))
        less, fewer = (max(2, side) for side in small)
        pictures = [
            frame.reformat(less, fewer, "rgb24", interpolation="AREA").reformat(width, height, "yuv420p")
            for frame in container.decode(stream)
        ]
        encode(pictures, video, stream.average_rate or Fraction(25))
    voice = read(clip.sound, RATE)
    added = np.resize(read(noise, RATE), len(voice))
    added *= np.sqrt(np.mean(voice**2) / np.mean(added**2)) * 10 ** (-POOR_SNR / 20)
    write_sound(sound, (voice + added) / np.float32(2))
    return video, sound


def write_sound(path: Path, samples: NDArray[np.float32]) -> None:
    """A WAV file of samples at RATE, -1 to 1."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def write_sets(found: Sequence[Clip], shared: Path, work: Path) -> list[str]:
    """Write the data folders; returns the pairs of sets as `trial_sets` has them."""
    from vidperson.corpora.data_folder import Segment, Trial, write_data_folder

    robustness = shared / "data/video/robustness"
    mute, black, faces = robustness / "video_no_audio.mp4", robustness / "black_silent_noface.mp4", swapped(found)
    noises = sorted(path for path in (shared / "data/speech/noise").rglob("*") if path.is_file())
    (work / "lists").mkdir(parents=True)
    everything = "talking_a_e"
    sets = []
    for name, pairs in trial_lists(found).items():
        lines = [f"{int(target)} {a.name} {b.name}\n" for (a, b), target in pairs]
        (work / f"lists/{name}.txt").write_text("".join(lines))
        trials = [Trial(a.name, b.name, target) for (a, b), target in pairs]
        tested = found if name == "A-E" else list(dict.fromkeys(b for (_, b), _ in pairs))
        for condition in ("", *(CONDITIONS if name == "A-H" else ())):
            segments = []
            for at, clip in enumerate(tested):
                files = {
                    "mute": (clip.video, mute),
                    "black": (black, clip.sound),
                    "swap": (faces[clip.name], clip.sound),
                }
                if condition == "poor":
                    files["poor"] = poor(clip, noises[at % len(noises)], work / "poor")
                seen, heard = files.get(condition, (clip.video, clip.sound))
                segments.append(Segment(clip.name, seen, clip.name, sound=heard))
            folder = f"talking_{name.lower().replace('-', '_')}" + (f"_{condition}" if condition else "")
            write_data_folder(work / "data" / folder, segments, trials=trials)
            sets.append(f"{everything}:{folder}")
    return [f"{CALIBRATION}:{CALIBRATION}", *sorted(sets, key=lambda pair: pair != f"{everything}:{everything}")]


def write_pseudo(shared: Path, work: Path) -> None:
    """The set of pseudo persons: voices in the order of their names, faces in that of a seed."""
    from vidperson.corpora.data_folder import PairsOfSources, Segment, write_data_folder

    draw = random.Random(SEED)
    speech = shared / "data/speech"
    speakers = [folder for corpus in ("librispeech", "ucla") for folder in sorted((speech / corpus).iterdir())]
    photos: dict[str, list[str]] = defaultdict(list)
    with tarfile.open(shared / "data/faces/lfw_view1_aligned.tar") as archive:
        for name in sorted(archive.getnames()):
            if name.endswith((".jpg", ".png")):
                photos[Path(name).parent.name].append(name)
        persons = draw.sample(sorted(p for p, images in photos.items() if len(images) >= FACES), len(speakers))
        segments, sources = [], {}
        for number, (speaker, person) in enumerate(zip(speakers, persons, strict=True)):
            files = [path for path in sorted(speaker.rglob("*")) if path.is_file()]
            files = files[:: max(1, len(files) // VOICES)][:VOICES]
            for place, (sound, photo) in enumerate(zip(files, photos[person], strict=False)):
                name = f"pseudo{number:02d}-{place}"
                folder = work / "faces" / name
                folder.mkdir(parents=True)
                content: Any = archive.extractfile(photo)
                (folder / Path(photo).name).write_bytes(content.read())
                segments.append(Segment(name, folder, name, sound=sound))
                session = sound.stem.split("_S")[0][-1] if speaker.parent.name == "ucla" else sound.stem
                sources[name] = (speaker.name, f"{speaker.name} {session}")
    write_data_folder(work / f"data/{CALIBRATION}", segments, trials=PairsOfSources(sources), scp="frames.scp")


def run_stages(work: Path, sets: Sequence[str], options: Options) -> None:
    """Run the stages on the data folders; prints what each cost."""
    given = [
        *("--data-dir", f"{work}/data", "--exp-dir", f"{work}/exp", "--experiment", "talking"),
        *("--modalities", "face speaker", "--trial-sets", " ".join(sets), "--priors", "0.05 0.01"),
        *("--face-detector", options.face_detector, "--face-embedder", options.face_embedder),
        *("--speaker-embedder", options.speaker_embedder, "--fps", f"{options.fps:g}", "--backends", BACKEND),
        *("--calibration-set", CALIBRATION, "--quality-measures", MEASURES),
        *("--fusion-systems", BACKEND, "--fusion-methods", " ".join(METHODS)),
        *(("--model-dir", options.model_dir) if options.model_dir else ()),
    ]
    stages = {
        "000_get_pretrained_models": (),
        "002_detect_faces": ("--stop-stage", "3"),
        "004_score": (),
        "005_eval": (),
    }
    for stage, own in stages.items():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {"VIDPERSON_PYTHON": sys.executable, **os.environ}
        done = subprocess.run([f"./run_{stage}.sh", *given, *own], cwd=ROOT, env=environment, stdout=sys.stderr)
        if done.returncode:
            raise DataError(f"run_{stage}.sh gave {done.returncode}; see its output above")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"run_{stage}.sh: {cpu:.1f} CPU seconds", flush=True)


@dataclass(frozen=True)
class Compared:
    """A list scored by each system: name -> (N,) scores; the key, and the numbers of the persons of both sides."""

    scores: Mapping[str, NDArray[np.float64]]
    is_target: NDArray[np.bool_]
    persons: Persons

    def rates(self) -> dict[str, tuple[float, NDArray[np.float64]]]:
        """System -> EER, 0..1, and (D,) those of samples of the persons, the same samples for all systems."""
        found = {}
        for name, values in self.scores.items():
            curve = metrics.roc(values[self.is_target], values[~self.is_target])
            drawn = drawn_rates(values, self.is_target, self.persons, MAX_DRAWS)
            found[name] = metrics.eer(curve), np.concatenate([rates.eer() for rates in drawn])
        return found


def read_list(work: Path, name: str, systems: Mapping[str, str], person_of: Mapping[str, str]) -> Compared:
    """The scores of a test set. systems: what is printed -> folder below exp/scores."""
    trials, is_target = read_key(work / "data" / name / "trials")
    scores = {
        title: read_scores_of(work / "exp/scores" / folder / f"{name}_scores", trials)
        for title, folder in systems.items()
    }
    number = {person: at for at, person in enumerate(sorted(set(person_of.values())))}
    sides = (trials.models, trials.segments)
    first, second = (np.array([number[person_of[clip]] for clip in side]) for side in sides)
    return Compared(scores, is_target, (first, second))


def judge(rates: Mapping[str, tuple[float, NDArray[np.float64]]], name: str) -> tuple[str, bool]:
    """A line on the best fusion of a list, and whether it is behind what it has to reach by the whole interval."""
    fused = rates[f"fusion, {METHODS[0 if name == CALIBRATION else -1]}"]
    singles = min((rates[one] for one in SINGLE), key=lambda rate: rate[0])
    if name.endswith("mute"):
        what, other = "less the face's", rates["face"]
    elif name.endswith("black"):
        what, other = "less the voice's", rates["voice"]
    elif name == CALIBRATION or name.endswith(("_h", "poor")):
        what, other = "less half of the better one's", (singles[0] / 2, np.fmin(*(rates[one][1] for one in SINGLE)) / 2)
    else:
        return "", False
    found = interval(fused[1] - other[1])
    title = "mean" if name == CALIBRATION else "last"
    span = f"{100 * (fused[0] - other[0]):+.2f} % {told(found)}"
    text = f"  EER of the {title} {what}: {span}"
    return text, bool(found and found[0] > 0) and not name.endswith("poor")


def told(span: list[float] | None) -> str:
    """An interval of rates of 0..1, in per cent."""
    return f"({100 * span[0]:.2f} to {100 * span[1]:.2f})" if span else "(0 in every sample)"


def talking(options: Options) -> None:
    work, shared = Path(options.out_dir).resolve(), Path(options.shared).resolve()
    if (work / "data").exists():
        raise DataError("expected a folder without data; remove it, or choose another one", work)
    found = clips(shared, work)
    sets = write_sets(found, shared, work)
    write_pseudo(shared, work)
    run_stages(work, sets, options)
    systems = {"face": f"{options.face_embedder}/{BACKEND}", "voice": f"{options.speaker_embedder}/{BACKEND}"}
    folders = {"mean": "fusion-mean", "logistic": "fusion", "quality": "fusion-quality"}
    systems |= {f"fusion, {method}": f"{folders[method]}/talking" for method in METHODS}
    person_of = {clip.name: clip.person for clip in found}
    person_of |= {name: name.partition("-")[0] for name in read_scp(work / f"data/{CALIBRATION}/wav.scp")}
    behind = []
    for name in [pair.split(":")[1] for pair in sets]:
        compared = read_list(work, name, systems, person_of)
        targets = int(compared.is_target.sum())
        print(f"{name}: {targets} target and {len(compared.is_target) - targets} other pairs")
        rates = compared.rates()
        for title, (eer, drawn) in rates.items():
            print(f"  {title:18} EER {100 * eer:6.2f} % {told(interval(drawn))}")
        text, late = judge(rates, name)
        print(text, end="\n" if text else "")
        behind += [name] if late else []
    print(f"report: {work}/exp/results/talking/report.html")
    if behind:
        raise DataError(f"the fusion is behind on {' '.join(behind)}, see above")


if __name__ == "__main__":
    cli.run(talking, Options, __doc__)
