"""VoxCeleb1 and VoxCeleb2: sounds, aligned faces, training lists and trial lists to data folders.

Layout and lists are those of AVCleanse (github.com/TaoRuijie/AVCleanse, README). The numbers of trials are those that
the VoxCeleb site states, as PaddleSpeech repeats them (examples/voxceleb/README.md).
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson.corpora.data_folder import Segment, Trial, report_missing_paths, shortened, write_data_folder
from vidperson.errors import DataError
from vidperson.io.lines import check_id, read_lines, write_lines

PathLike = str | os.PathLike[str]

log = logging.getLogger(__name__)

SOUNDS, FACES, VIDEOS = ("wav", "aac"), "frame_align", "mp4"
"""Folders. VoxCeleb2 comes as ``aac``, with files ``.m4a``; of ``wav`` and ``aac`` the first that is there counts."""
SOUND_SUFFIXES = (".wav", ".flac", ".m4a", ".opus", ".ogg", ".mp3")
TRAINING_LISTS = {"train": "train_all.txt", "train_clean": "train_all_clean.txt"}
CLEANSED = "train_all_clean.txt"
SIMILARITIES = ("speaker", "face")
"""Modalities with a column in a cleansed list: the audio similarity, the visual similarity."""
TRIALS = {
    "O": {"cleaned": 37_611, "original": 37_720},
    "E": {"cleaned": 579_818, "original": 581_480},
    "H": {"cleaned": 550_894, "original": 552_536},
}
OTHER = "other"


@dataclass(frozen=True)
class _Corpus:
    """A folder of VoxCeleb1 or 2. sounds, faces, videos: the folders in it, "" for one that is not there.

    suffix: of the sound files.
    """

    name: str
    root: Path
    sounds: str
    faces: str
    videos: str
    suffix: str

    def segment(self, utterance: str, model: str, seconds: float | None) -> Segment:
        """utterance: its path below the folder of sounds, without extension; model: "" for the utterance itself."""
        unique = utterance.replace("/", "-")
        video = os.path.join(self.videos, f"{utterance}.mp4") if self.videos else ""
        faces = os.path.join(self.faces, utterance) if self.faces else video
        sound = os.path.join(self.sounds, utterance + self.suffix) if self.sounds else video
        return Segment(unique, faces, model or unique, sound=sound, seconds=seconds)

    @property
    def scp(self) -> str:
        """The list of what is seen."""
        return "frames.scp" if self.faces or not self.videos else "vid.scp"


@dataclass(frozen=True)
class _Set:
    """A data folder to write. source: the list that it is made of."""

    name: str
    source: Path
    segments: Sequence[Segment]
    trials: Sequence[Trial] = ()


def prepare(
    data_dir: PathLike, voxceleb1_dir: PathLike | None = None, voxceleb2_dir: PathLike | None = None
) -> list[Path]:
    """Write `vox<1|2>_train`, `vox<1|2>_train_clean` and `vox1_<o|e|h>_<version>`, those of which there are lists.

    voxceleb1_dir, voxceleb2_dir: folders, of which one may be missing, with

    - `wav/<speaker>/<video>/<utterance>.wav`, or `aac/..m4a` as VoxCeleb2 comes; or
      `frame_align/<speaker>/<video>/<utterance>/`, aligned faces; or both;
    - or `mp4/<speaker>/<video>/<utterance>.mp4`, videos, for whichever of the two is not there;
    - `train_all.txt`, lines `<speaker> <path below wav> [<seconds>]`;
    - `train_all_clean.txt`, lines `<speaker> <path> <seconds> <audio similarity> <visual similarity> clean|noisy`:
      what is noisy is left out;
    - of VoxCeleb1, `O_trials.txt`, `E_trials.txt`, `H_trials.txt`, lines `1|0 <path> <path>`, and `O_list.txt` and so
      on, lines `<path> <seconds>`, which may be missing. The lists may lack their extension.

    A set of trials has each utterance once, and its models are the utterances, so it is both the enrolment set and the
    test set. The version is `cleaned` or `original` by the number of trials, `other` for any other number.

    Utterances without a file stay in the lists, with a warning: they end as unreadable in stage 2. Returns the folders
    written. Raises DataError, before anything is written, for folders without lists, media or any of the media listed,
    a malformed line, an utterance of two speakers, a pair that is both target and non-target, a list of which
    everything is noisy, or cleaned and original lists in one folder.
    """
    folders = {name: folder for name, folder in (("vox1", voxceleb1_dir), ("vox2", voxceleb2_dir)) if folder}
    if not folders:
        raise DataError("expected the folder of VoxCeleb1, of VoxCeleb2, or both; found none")
    sets: list[tuple[_Set, str]] = []
    for name, folder in folders.items():
        corpus = _corpus(name, Path(os.path.abspath(folder)))
        found = [*_training_sets(corpus), *(_trial_sets(corpus) if name == "vox1" else ())]
        if not found:
            expected = [*TRAINING_LISTS.values(), *(f"{part}_trials.txt" for part in TRIALS if name == "vox1")]
            raise DataError(f"expected at least one of {', '.join(expected)}; found none", corpus.root)
        for each in found:
            _report_missing(corpus, each)
        sets += [(each, corpus.scp) for each in found]
    return [
        write_data_folder(Path(data_dir, each.name), each.segments, trials=each.trials, scp=scp) for each, scp in sets
    ]


def _corpus(name: str, root: Path) -> _Corpus:
    if not root.is_dir():
        raise DataError("no such folder", root)
    sounds, faces, videos = (
        next((str(root / name) for name in names if (root / name).is_dir()), "")
        for names in (SOUNDS, (FACES,), (VIDEOS,))
    )
    if not (sounds or faces or videos):
        either = " or ".join(f"'{each}'" for each in SOUNDS)
        expected = f"a folder {either} of sounds, '{FACES}' of aligned faces, or both"
        raise DataError(f"expected {expected}, or '{VIDEOS}' of videos", root)
    return _Corpus(name, root, sounds, faces, videos, _sound_suffix(sounds))


def _sound_suffix(folder: str) -> str:
    """That of the first sound below a folder; ``.wav`` where there is none."""
    for _, folders, files in os.walk(folder):
        folders.sort()
        found = {os.path.splitext(name)[1] for name in files}
        suffix = next((suffix for suffix in SOUND_SUFFIXES if suffix in found), None)
        if suffix is not None:
            return suffix
    return SOUND_SUFFIXES[0]


def _report_missing(corpus: _Corpus, made: _Set) -> None:
    """Warn of utterances without sound, faces or video. Raises DataError where none has any."""
    kinds = ((corpus.sounds, "sound files"), (corpus.faces, "folders of aligned faces"), (corpus.videos, "videos"))
    for folder, what in kinds:
        if folder == "" or (folder == corpus.videos and corpus.sounds and corpus.faces):
            continue
        used = {str(path) for s in made.segments for path in (s.sound, s.path)}
        paths = sorted(path for path in used if path.startswith(folder + os.sep))
        exists = os.path.exists if folder == corpus.faces else os.path.isfile
        missing = [path for path in paths if not exists(path)]
        hint = f"unpack them into {folder}, or rename that folder to go without"
        report_missing_paths(missing, len(paths), what, made.source, hint)


def _find(root: Path, name: str) -> Path | None:
    """A list of a folder, with or without its extension."""
    found = [path for path in (root / name, (root / name).with_suffix("")) if path.is_file()]
    if len(found) > 1:
        log.warning("%s: read; %s: not read, as it is the same list by its name", *found)
    return found[0] if found else None


def _utterance(path: str, source: Path, line: int) -> str:
    """The path of a list without its extension. Raises DataError for one that leads out of the folder."""
    check_id(path, "path", source, line)
    return os.path.splitext(path)[0]


def _seconds(text: str, source: Path, line: int) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"expected a duration in seconds, found '{text}'", source, line)
    return seconds


def _check_ids(segments: Sequence[Segment], source: Path) -> None:
    """Refuse two utterances with one id: `a/b-c/d` and `a-b/c/d`."""
    count = Counter(segment.id for segment in segments)
    if len(count) < len(segments):
        twice = count.most_common(1)[0][0]
        raise DataError(f"two utterances share the id '{twice}'; rename a folder of one of them", source)


# -- training lists


def _training_sets(corpus: _Corpus) -> Iterator[_Set]:
    """A set for each training list that is there."""
    for part, name in TRAINING_LISTS.items():
        source = _find(corpus.root, name)
        if source is None:
            continue
        rows = _read_training_list(source, cleansed=name == CLEANSED)
        _report_speakers(source, Counter(speaker for speaker, _ in rows.values()))
        segments = [corpus.segment(utterance, speaker, seconds) for utterance, (speaker, seconds) in rows.items()]
        _check_ids(segments, source)
        yield _Set(f"{corpus.name}_{part}", source, segments)


def _read_training_list(source: Path, cleansed: bool) -> dict[str, tuple[str, float | None]]:
    """Utterance -> speaker and seconds, of a list with or without the columns of the cleansing."""
    expected = (
        "<speaker> <path> <seconds> <audio similarity> <visual similarity> clean|noisy"
        if cleansed
        else "<speaker> <path> [<seconds>]"
    )
    rows: dict[str, tuple[str, float | None]] = {}
    speakers: dict[str, str] = {}
    repeated: list[str] = []
    total = noisy = 0
    for number, line in read_lines(source):
        fields = line.split()
        good = len(fields) == 6 and fields[5] in ("clean", "noisy") if cleansed else len(fields) in (2, 3)
        if not good:
            hint = f"; a list with six columns is a {CLEANSED}" if len(fields) == 6 and not cleansed else ""
            raise DataError(f"expected '{expected}', found '{line[:100]}'{hint}", source, number)
        total += 1
        if fields[-1] == "noisy" and cleansed:
            noisy += 1
            continue
        speaker = speakers.setdefault(fields[0], check_id(fields[0], "speaker", source, number))
        utterance = _utterance(fields[1], source, number)
        if utterance in rows:
            if rows[utterance][0] != speaker:
                found = f"'{fields[1]}' is of speaker '{speaker}', and of '{rows[utterance][0]}' in an earlier line"
                raise DataError(f"{found}; remove one of the two", source, number)
            repeated.append(utterance)
            continue
        # 0: not known, as write_cleansed_list has it
        rows[utterance] = speaker, (_seconds(fields[2], source, number) or None) if len(fields) > 2 else None
    if noisy:
        log.info("%s: %d of %d rows are noisy, and left out", source, noisy, total)
    if not rows:
        raise DataError(f"expected lines '{expected}', found none" + (" that is clean" if noisy else ""), source)
    if repeated:
        message = "%s: %d rows repeat an utterance, and are left out: %s"
        log.warning(message, source, len(repeated), shortened(repeated))
    return rows


@dataclass(frozen=True)
class CleansedRow:
    """A line of a cleansed list. path: see :func:`listed_path`. similarity: by modality, of those that know it."""

    speaker: str
    path: str
    seconds: float | None
    similarity: Mapping[str, float]
    noisy: bool


def listed_path(segment: str, path: str) -> str:
    """What a list says of a segment: what its path has below one of the folders of a corpus, else the segment's id."""
    parts = path.split("/")
    for folder in (*SOUNDS, FACES, VIDEOS):
        if folder in parts[:-1]:
            below = "/".join(parts[len(parts) - parts[::-1].index(folder) :])
            return below if below.split() == [below] else segment
    return segment


def write_cleansed_list(path: PathLike, rows: Iterable[CleansedRow]) -> None:
    """Write a list with six columns, as :data:`CLEANSED` has them; what is not known is ``-``.

    Durations that are not known are 0, since :func:`prepare` reads a number.
    """

    def line(row: CleansedRow) -> str:
        known = [row.similarity.get(modality) for modality in SIMILARITIES]
        similarities = " ".join("-" if value is None else f"{value:.4f}" for value in known)
        seconds = "0" if row.seconds is None else f"{row.seconds:.10g}"
        return f"{row.speaker} {row.path} {seconds} {similarities} {'noisy' if row.noisy else 'clean'}"

    write_lines(path, map(line, rows))


def _report_speakers(source: Path, count: Mapping[str, int]) -> None:
    """Warn of what training can learn little from: one speaker, speakers of one utterance."""
    if len(count) == 1:
        log.warning("%s: only one speaker, %s; no network can learn from that", source, next(iter(count)))
    single = [speaker for speaker, utterances in count.items() if utterances == 1]
    if single:
        message = "%s: %d of %d speakers have only one utterance: %s"
        log.warning(message, source, len(single), len(count), shortened(single))


# -- trial lists


def _trial_sets(corpus: _Corpus) -> list[_Set]:
    """A set for each trial list that is there."""
    sets: list[_Set] = []
    versions: dict[str, str] = {}
    for part in TRIALS:
        source = _find(corpus.root, f"{part}_trials.txt")
        if source is None:
            continue
        rows, pairs = _read_trials(source)
        versions[part] = _version(source, part, rows, len(pairs))
        targets = sum(pairs.values())
        if targets in (0, len(pairs)):
            what = "target" if targets == 0 else "non-target"
            log.warning("%s: no %s trial; there will be no error rate", source, what)
        utterances = dict.fromkeys(utterance for pair in pairs for utterance in pair)
        seconds = _read_seconds(corpus.root, part, utterances)
        segments = {u: corpus.segment(u, "", seconds.get(u)) for u in utterances}
        _check_ids(list(segments.values()), source)
        trials = [Trial(segments[a].id, segments[b].id, target) for (a, b), target in pairs.items()]
        name = f"{corpus.name}_{part.lower()}_{versions[part]}"
        sets.append(_Set(name, source, list(segments.values()), trials))
    if len({*versions.values()} - {OTHER}) > 1:
        found = ", ".join(f"{part} {version}" for part, version in versions.items())
        hint = "published figures are for one version: move the lists of the other one elsewhere"
        raise DataError(f"the trial lists are of several versions: {found}; {hint}", corpus.root)
    return sets


def _read_trials(source: Path) -> tuple[int, dict[tuple[str, str], bool]]:
    """The number of lines, and model and segment -> whether it is a target trial."""
    pairs: dict[tuple[str, str], bool] = {}
    names: dict[str, str] = {}
    rows = 0
    for number, line in read_lines(source):
        fields = line.split()
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise DataError(f"expected '1|0 <path> <path>', found '{line[:100]}'", source, number)
        for path in fields[1:]:
            if path not in names:
                names[path] = _utterance(path, source, number)
        pair, target = (names[fields[1]], names[fields[2]]), fields[0] == "1"
        rows += 1
        if pairs.setdefault(pair, target) != target:
            raise DataError(f"'{line[2:]}' is both target and non-target; remove one of the two", source, number)
    if not pairs:
        raise DataError("expected lines '1|0 <path> <path>', found none", source)
    if len(pairs) < rows:
        log.warning("%s: %d rows repeat a trial, and are left out", source, rows - len(pairs))
    return rows, pairs


def _version(source: Path, part: str, rows: int, pairs: int) -> str:
    """By the number of rows or, where some repeat others, by that of the pairs."""
    known = {count: version for version, count in TRIALS[part].items()}
    version = known.get(rows) or known.get(pairs)
    if version:
        log.info("%s: %d trials, the %s list", source, pairs, version)
        return version
    expected = " or ".join(f"{count} ({version})" for count, version in known.items())
    message = "%s: %d trials, expected %s; its set is vox1_%s_%s; do not compare it with published figures"
    log.warning(message, source, pairs, expected, part.lower(), OTHER)
    return OTHER


def _read_seconds(root: Path, part: str, utterances: Mapping[str, object]) -> dict[str, float]:
    """Utterance -> seconds by the last two columns of the list of a part; nothing where there is none."""
    source = _find(root, f"{part}_list.txt")
    if source is None:
        return {}
    seconds: dict[str, float] = {}
    untried = 0
    for number, line in read_lines(source):
        fields = line.split()
        if len(fields) < 2:
            raise DataError(f"expected '<path> <seconds>', found '{line[:100]}'", source, number)
        utterance = _utterance(fields[-2], source, number)
        found = _seconds(fields[-1], source, number)
        if utterance not in utterances:
            untried += 1
        elif seconds.setdefault(utterance, found) != found:
            raise DataError(f"'{fields[-2]}' has two durations, {seconds[utterance]:g} and {found:g}", source, number)
    if untried:
        log.warning("%s: %d utterances are in no trial of this part, and are left out", source, untried)
    unlisted = [utterance for utterance in utterances if utterance not in seconds]
    if unlisted:
        message = "%s: %d of %d utterances of the trials are not in it, so their durations are not known: %s"
        log.warning(message, source, len(unlisted), len(utterances), shortened(unlisted))
    return seconds
