"""What NIST's audio-visual evaluations share: two parts, TSV lists with a header line, trials and key, answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vidperson.corpora.data_folder import Segment, Trial, shortened
from vidperson.corpora.tables import Column, Row, read_table
from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write
from vidperson.io.lists import read_scores

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Pair = tuple[str, str]

TARGET = Column(("targettype", "target_type", "target", "label"))
VIDEO = (".mp4",)
IMAGE = (".jpg", ".jpeg", ".png")
SOUND = (".flac", ".sph", ".wav")


@dataclass(frozen=True)
class TrialList:
    """Trials as an official list has them.

    trials: unique pairs of ids, in order of the list.
    models, segments: id -> name in the list, which may have a file extension.
    """

    trials: list[Trial]
    models: dict[str, str]
    segments: dict[str, str]


def release_parts(dev_dir: PathLike | None, eval_dir: PathLike | None) -> Iterator[tuple[str, Path, Path]]:
    """`dev` and `eval` with the docs and data folders of that part; a part whose folder is None or "" is skipped.

    dev_dir, eval_dir: the release of that part, holding `docs/` and `data/` (or `docs/dev/`, `data/dev/` and
        so on, as in a joint release, which may be given for both).

    Raises DataError when both parts are skipped or a release has no docs folder.
    """
    if not dev_dir and not eval_dir:
        raise DataError("neither a dev nor an eval folder is given")
    for part, given in (("dev", dev_dir), ("eval", eval_dir)):
        if not given:
            log.info("%s: no folder given, skipped", part)
            continue
        docs, media = (Path(os.path.abspath(given)) / name for name in ("docs", "data"))
        if not docs.is_dir():
            raise DataError("no such folder; expected the folder of the release, with docs and data in it", docs)
        yield (part, docs / part, media / part) if (docs / part).is_dir() else (part, docs, media)


def media_id(row: Row, column: str) -> str:
    """The id of a row's model or segment; lists have it with or without the file's extension."""
    return _bare(row.id(column))


def media_file(folders: Sequence[Path], name: str, extensions: Sequence[str]) -> Path:
    """The file of a name in the first folder that has it, as named or with one of the extensions.

    Where there is none: the place in the first folder where it is missed.
    """
    names = [name, *(_bare(name) + extension for extension in extensions)]
    for folder in folders:
        for candidate in names:
            if (folder / candidate).is_file():
                return folder / candidate
    return folders[0] / (name if name != _bare(name) else names[1])


def with_sound(segments: Sequence[Segment]) -> list[Segment]:
    """The segments with the sound of their videos; as they are where one of them is an image."""
    if any(Path(segment.path).suffix.lower() in IMAGE for segment in segments):
        return list(segments)
    return [replace(segment, sound=segment.path) for segment in segments]


def read_enrolment(path: Path, columns: Mapping[str, Column], find: Callable[[str], Path]) -> list[Segment]:
    """The segments of an enrolment list, ids `<model>-<segment>`; a model may have several.

    columns: `model` and `segment`.
    find: name in the list -> file.

    Raises DataError for an empty list, or two files that would get the same id.
    """
    rows = read_table(path, columns)
    pairs = dict.fromkeys((media_id(row, "model"), media_id(row, "segment")) for row in rows)
    if not pairs:
        raise DataError("no enrolment segments", path)
    if len(pairs) < len(rows):
        log.warning("%s: %d repeated rows left out", path, len(rows) - len(pairs))
    names = _names(rows, "segment")
    return [Segment(f"{model}-{segment}", find(names[segment]), model) for model, segment in pairs]


def read_trials(
    path: Path,
    key_path: Path,
    columns: Mapping[str, Column],
    models: set[str] | None = None,
    partitions: Sequence[str] = (),
) -> TrialList:
    """The trial list, with the key where the release has one.

    columns: `model` and `segment`, of both lists.
    models: ids that are enrolled; None: any.
    partitions: columns of the key whose values make the trials' partitions: `<column>=<value>`, joined by commas.

    Raises DataError for an empty list, a model that is not enrolled, a trial that is not in the key, a pair
    that the key has in two ways.
    """
    rows = read_table(path, columns)
    first: dict[Pair, Row] = {}
    for row in rows:
        pair = media_id(row, "model"), media_id(row, "segment")
        if models is not None and pair[0] not in models:
            raise row.error(f"model '{pair[0]}' is not in the enrolment list")
        first.setdefault(pair, row)
    if not first:
        raise DataError("no trials", path)
    if len(first) < len(rows):
        log.warning("%s: %d repeated rows left out", path, len(rows) - len(first))
    names = _names(rows, "model"), _names(rows, "segment")
    if not key_path.exists():
        log.info("%s: no such file, so the trials have no key", key_path)
        return TrialList([Trial(*pair) for pair in first], *names)
    key = _read_key(key_path, columns, partitions)
    if unknown := [row for pair, row in first.items() if pair not in key]:
        raise unknown[0].error(f"{len(unknown)} trials, this one first, are not in the key {key_path}")
    if len(key) > len(first):
        log.info("%s: %d pairs that are no trials left out", key_path, len(key) - len(first))
    return TrialList([Trial(*pair, *key[pair]) for pair in first], *names)


def _read_key(path: Path, columns: Mapping[str, Column], partitions: Sequence[str]) -> dict[Pair, tuple[bool, str]]:
    key: dict[Pair, tuple[bool, str]] = {}
    wanted = {f"partition {name}": Column((name,)) for name in partitions}
    for row in read_table(path, {**columns, **wanted, "target": TARGET}):
        pair, label = (media_id(row, "model"), media_id(row, "segment")), row["target"].lower()
        if label not in ("target", "nontarget"):
            raise row.error(f"expected target or nontarget, found '{row['target']}'")
        partition = ",".join(f"{name}={row.id(f'partition {name}')}" for name in partitions)
        known = key.setdefault(pair, (label == "target", partition))
        if known[0] != (label == "target"):
            raise row.error(f"trial '{' '.join(pair)}' is both target and nontarget")
        if known[1] != partition:
            raise row.error(f"trial '{' '.join(pair)}' is in two partitions, {known[1]} and {partition}")
    return key


def format_submission(trials: PathLike, scores: PathLike, output: PathLike, columns: Mapping[str, Column]) -> int:
    """Write a score file as NIST takes it: the official trial list, row by row, with a last column `LLR`.

    trials: the official list; its columns are copied as they are.
    scores: `<model> <segment> <log-likelihood ratio>`, natural logarithm, as stage 4 writes them.
    columns: `model` and `segment` of the list.

    Returns the number of rows. Raises DataError, with nothing written, when a trial has no score, a score has
    no trial, or a file is malformed.
    """
    rows = read_table(trials, columns)
    if not rows:
        raise DataError("no trials", trials)
    if "llr" in (name.lower() for name in rows[0].header):
        raise DataError("there is a column LLR already; give the official trial list, not an answer to it", trials)
    table = read_scores(scores).table
    pairs = [(media_id(row, "model"), media_id(row, "segment")) for row in rows]
    for column in columns:
        _names(rows, column)
    if missing := [row for row, pair in zip(rows, pairs, strict=True) if pair not in table]:
        found = f"{len(missing)} of {len(rows)} trials, this one first, have no score in {os.fspath(scores)}"
        raise missing[0].error(f"{found}; prepare and score the part that this list belongs to (stages 1 to 4)")
    if extra := [f"'{' '.join(pair)}'" for pair in table.keys() - set(pairs)]:
        message = (
            f"{len(extra)} of {len(table)} scores have no trial in {os.fspath(trials)}: {shortened(sorted(extra))}"
        )
        raise DataError(f"{message}; give the trial list that was scored, dev or eval", scores)
    if max(map(abs, table.values())) <= 1:
        log.warning("%s: all scores lie in -1..1, like cosines; NIST expects log-likelihood ratios", scores)
    with atomic_write(output) as stream:
        stream.write("\t".join([*rows[0].header, "LLR"]) + "\n")
        for row, pair in zip(rows, pairs, strict=True):
            stream.write("\t".join([*row.cells, repr(table[pair])]) + "\n")
    log.info("%s: %d trials", output, len(rows))
    return len(rows)


def _bare(name: str) -> str:
    """A name without the extension of a media file."""
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix.lower() in (*VIDEO, *IMAGE, *SOUND) else name


def _names(rows: Sequence[Row], column: str) -> dict[str, str]:
    """Id -> name, with the extension if any row has it, in order; DataError when two files share an id."""
    names: dict[str, str] = {}
    for row in rows:
        identity, name = media_id(row, column), row.id(column)
        known = names.setdefault(identity, name)
        if known != name and identity not in (known, name):
            raise row.error(f"'{known}' and '{name}' would both be '{identity}' here: expected one file of that name")
        if name != identity:
            names[identity] = name
    return names
