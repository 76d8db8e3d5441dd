"""How outputs were made: one JSON file, written last, with hashes of the inputs and of the outputs.

``<folder>/record.json`` describes the outputs in a folder, ``<file>.record.json`` a file. While
work on a folder goes on it has ``unfinished.json``: its record to be, without the outputs.

Example of a record::

    {"stage": "./run_003_extract_embeddings.sh",
     "command": ["python", "steps_face/extract_embeddings.py", "--model", "exp/face_models/x"],
     "options": {"embedder": "x"},
     "versions": {"vidperson": "0.1.0", "python": "3.11.7", "numpy": "2.2.0"},
     "inputs": {"data/dev/vid.scp": "<sha256>"},
     "outputs": {"embed.ark": {"sha256": "<sha256>", "bytes": 4096}}}
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vidperson.errors import DataError
from vidperson.io.atomic import atomic_write

RECORD = "record.json"
UNFINISHED = "unfinished.json"
MISSING = "missing"
# Options that say what is run, not how.
UNRECORDED_OPTIONS = ("stage", "stop_stage", "annotate")
# Options that name a folder: a path below one of them stays the same when the folder is moved.
FOLDER_OPTIONS = ("data_dir", "exp_dir")

_SETTLED_NS = 2_000_000_000  # a file that has just been written may change once more at the same time of change
_hashed: dict[tuple[int, ...], str] = {}  # state of a file -> SHA-256
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Output:
    """A file as it was written: SHA-256 in hexadecimal digits, size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Record:
    """How outputs were made.

    stage: what makes them, such as ``./run_002_detect_faces.sh``; empty where it is not known.
    command: words, without what only changes the speed.
    options: resolved options of the stage.
    versions: program or package -> version.
    inputs: path, relative to the repository root or absolute -> SHA-256.
    outputs: name below the record's folder -> the file.
    """

    stage: str
    command: list[str]
    options: dict[str, str]
    versions: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, Output] = field(default_factory=dict)

    @property
    def cure(self) -> str:
        """What to do where an output is not as it was written."""
        return f"put it back, or run {self.stage or 'the stage that made it'} again"


def record_path(target: Path) -> Path:
    """``record.json`` in a folder; ``<file>.record.json`` beside a file, be it there yet or not."""
    return target / RECORD if target.is_dir() else target.with_name(f"{target.name}.{RECORD}")


def sha256(path: Path) -> str:
    """Hexadecimal digits; of a file that has not changed since this process hashed it, those of then.

    Raises OSError where the file cannot be read.
    """
    with open(path, "rb") as stream:
        found = os.fstat(stream.fileno())
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if state in _hashed:
            return _hashed[state]
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS:
        _hashed[state] = digest
    return digest


def new_record(
    command: Sequence[str],
    inputs: Iterable[Path],
    versions: Mapping[str, str] | None = None,
    hashed: Mapping[Path, str] | None = None,
) -> Record:
    """A record, without outputs, of a command that is about to run on these files.

    hashed: more inputs, of which the SHA-256 is known.
    Stage and options come from the environment: VIDPERSON_STAGE, and VIDPERSON_OPTIONS with lines
    ``name='value'``.
    Raises OSError for an input that cannot be read.
    """
    return Record(
        stage=os.environ.get("VIDPERSON_STAGE", ""),
        command=list(command),
        options=_current_options(),
        versions={**_own_versions(), **(versions or {})},
        inputs={
            **{_path_text(path): sha256(path) for path in inputs},
            **{_path_text(path): digest for path, digest in (hashed or {}).items()},
        },
    )


def save_record(target: Path, record: Record) -> None:
    """Write a record. In a folder it says that the work has ended: the unfinished one is removed.

    Raises OSError where it cannot be written.
    """
    _write(record_path(target), record)
    if target.is_dir():
        (target / UNFINISHED).unlink(missing_ok=True)


def save_unfinished(folder: Path, record: Record) -> None:
    """Say what work on a folder was begun with: until :func:`save_record` its files are refused."""
    _write(folder / UNFINISHED, record)


def write_record(
    target: Path,
    command: Sequence[str],
    inputs: Iterable[Path],
    outputs: Iterable[Path],
    versions: Mapping[str, str] | None = None,
) -> None:
    """Note how finished outputs were made, at the very end.

    target: a folder, or a file among the outputs.
    outputs: files in the folder of the record or below.
    Raises OSError for a file that cannot be read or written.
    """
    record = new_record(command, inputs, versions)
    folder = record_path(target).parent
    made = {_output_name(path, folder): Output(sha256(path), path.stat().st_size) for path in outputs}
    save_record(target, replace(record, outputs=made))


def read_record(target: Path) -> Record | None:
    """The record of a folder or a file; None: there is none. Raises DataError for a damaged one."""
    return _read(record_path(target))


def read_unfinished(folder: Path) -> Record | None:
    """What unfinished work in a folder was begun with; None: there is none.

    Raises DataError for a damaged record.
    """
    return _read(folder / UNFINISHED)


def differences(
    record: Record, command: Sequence[str], inputs: Iterable[Path], except_for: Iterable[Path] = ()
) -> list[str]:
    """In what a command and its inputs differ from those of the record; an empty list: in nothing.

    except_for: inputs that do not count.
    Returns lines ``< then`` and ``> now``. Moving the folder of --exp-dir or --data-dir changes
    nothing.
    """
    moved = _moved(record.options)
    uncounted = {_path_text(path) for path in except_for}
    then = {moved(path): digest for path, digest in record.inputs.items()}
    now = {_path_text(path): sha256(path) if path.is_file() else MISSING for path in inputs}
    lines = _different_words([moved(word) for word in record.command], list(command))
    for path in sorted((then.keys() | now.keys()) - uncounted):
        if then.get(path) != now.get(path):
            lines += [f"< {path} {then[path]}"] if path in then else []
            lines += [f"> {path} {now[path]}"] if path in now else []
    return lines


def damaged_outputs(target: Path, record: Record, thorough: bool) -> list[str]:
    """Names of the outputs that are missing or have other bytes than the record says.

    thorough: True hashes all; False believes files of the recorded size that are not newer than it.
    Raises OSError for a file that cannot be read.
    """
    place = record_path(target)
    written_ns = place.stat().st_mtime_ns
    return [
        name
        for name, output in record.outputs.items()
        if not _is_whole(place.parent / name, output, None if thorough else written_ns)
    ]


def checked(path: Path) -> Path:
    """``path``, after its bytes were found to be those of its record, or of its folder's record.

    A file in a folder without any record is the user's own and is accepted, and so is a record.
    Raises DataError for a file that is missing, unlisted or changed, or in an unfinished folder.
    """
    if path.name.endswith(RECORD):  # it is checked by its reader
        return path
    own, of_folder = path.with_name(f"{path.name}.{RECORD}"), path.parent / RECORD
    record = _read(own) or _read(of_folder)
    if record is None:
        if unfinished := _read(path.parent / UNFINISHED):
            raise DataError(f"its folder is unfinished; run {unfinished.stage or 'the stage that makes it'}", path)
        if not path.is_file():
            raise DataError("no such file", path)
        return path
    if path.name not in record.outputs:
        place = own if own.exists() else of_folder
        raise DataError(f"expected a file that {place} lists, found none of that name there; {record.cure}", path)
    expected = record.outputs[path.name]
    if not path.is_file():
        raise DataError(f"expected SHA-256 {expected.sha256}, found no such file; {record.cure}", path)
    if (found := sha256(path)) != expected.sha256:
        raise DataError(f"expected SHA-256 {expected.sha256}, found {found}; {record.cure}", path)
    return path


def _is_whole(path: Path, output: Output, written_ns: int | None) -> bool:
    """written_ns: an older file is believed by its size; None: none is."""
    if not path.is_file():
        return False
    stat = path.stat()
    if stat.st_size != output.bytes:
        return False
    return (written_ns is not None and stat.st_mtime_ns <= written_ns) or sha256(path) == output.sha256


def _current_options() -> dict[str, str]:
    text = os.environ.get("VIDPERSON_OPTIONS", "")
    try:
        options = dict(word.split("=", 1) for word in shlex.split(text))
    except ValueError:
        raise DataError(f"expected lines name='value' in VIDPERSON_OPTIONS, found '{text[:200]}'") from None
    return {name: value for name, value in options.items() if name not in UNRECORDED_OPTIONS}


def _own_versions() -> dict[str, str]:
    package = __name__.partition(".")[0]
    return {package: sys.modules[package].__version__, "python": sys.version.split()[0], **_numpy_version()}


def _numpy_version() -> dict[str, str]:
    if "numpy" in sys.modules:
        return {"numpy": sys.modules["numpy"].__version__}
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"numpy": version("numpy")}
    except PackageNotFoundError:
        return {}


def _path_text(path: Path) -> str:
    """Relative to the current folder, the repository root, or absolute; links are not followed."""
    full = os.path.abspath(path)
    inside = full.startswith(os.path.join(os.getcwd(), ""))
    return os.path.relpath(full) if inside else full


def _output_name(path: Path, folder: Path) -> str:
    """Raises ValueError for a path that is not below the folder; links of folders are followed."""
    name = Path(os.path.realpath(path.parent), path.name).relative_to(os.path.realpath(folder))
    return name.as_posix()


def _moved(then: Mapping[str, str]) -> Any:
    """A function from a word of a record to that with the folders of FOLDER_OPTIONS of now."""
    now = _current_options()
    folders = [(then[name], now[name]) for name in FOLDER_OPTIONS if name in then and name in now]
    changed = [(old, new) for old, new in folders if old != new]

    def moved(word: str) -> str:
        for old, new in changed:
            if word == old or word.startswith(f"{old}/"):
                return new + word[len(old) :]
        return word

    return moved


def _different_words(then: list[str], now: list[str]) -> list[str]:
    """Lines of the options, each with its values, in which two commands differ."""
    if then == now:
        return []
    old, new = _by_option(then), _by_option(now)
    lines = [f"< {option}" for option in old if option not in new]
    lines += [f"> {option}" for option in new if option not in old]
    return lines or [f"< {shlex.join(then)}", f"> {shlex.join(now)}"]


def _by_option(words: list[str]) -> list[str]:
    """``["python", "x.py", "--fps", "1"]`` -> ``["python x.py", "--fps 1"]``."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    return [shlex.join(group) for group in groups if group]


def _write(path: Path, record: Record) -> None:
    with atomic_write(path) as stream:
        json.dump(asdict(record), stream, indent=1)
        stream.write("\n")


def _read(path: Path) -> Record | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    try:
        return _parsed(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError):
        message = "expected a record of how the files were made, found a damaged one"
        raise DataError(f"{message}; remove it and run the stage again", path) from None


def _parsed(content: Any) -> Record:
    """Raises ValueError, TypeError or KeyError for what is no record."""
    record = Record(**{**content, "outputs": {name: Output(**output) for name, output in content["outputs"].items()}})
    texts = [record.stage, *record.command]
    for table in (record.options, record.versions, record.inputs):
        texts += [*table.keys(), *table.values()]
    outputs_are_good = all(
        isinstance(name, str)
        and not Path(name).is_absolute()
        and ".." not in Path(name).parts
        and isinstance(output.sha256, str)
        and _HASH.fullmatch(output.sha256)
        and type(output.bytes) is int
        for name, output in record.outputs.items()
    )
    if not (isinstance(record.command, list) and all(isinstance(text, str) for text in texts) and outputs_are_good):
        raise ValueError("not a record")
    return record
