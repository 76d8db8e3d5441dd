"""Model cards: what a network file is, where it comes from, and how pictures go in and numbers come out.

Cards ship in ``vidperson/zoo``; a user's own card is named by its path. Every field is checked, unknown ones are
refused.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vidperson.errors import ModelError

ZOO = Path(__file__).resolve().parents[1] / "zoo"
KINDS = ("face_detector", "face_embedder")
MIRROR = ("none", "concatenate", "sum")
_MAX_CARD_BYTES = 1 << 18
_MAX_DEPTH = 16
_MAX_EMBEDDING_SIZE = 1 << 16
_MAX_WHOLE = 1 << 1000  # larger ones are no float


@dataclass(frozen=True)
class Source:
    """Where the file can be downloaded: a link to the file, or to a zip with the file as ``member``.

    Of a file without a hash, also a link to a page: such a file is not downloaded, its sources are shown to the user.
    """

    url: str
    member: str | None = None


@dataclass(frozen=True)
class NetworkFile:
    """The published file: name, lower-case hexadecimal SHA-256, size and sources in order of preference.

    A file without a hash is put there by hand; installing it records the hash that it then has.
    """

    name: str
    sha256: str | None = None
    size_bytes: int | None = None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A PyTorch checkpoint, converted to ONNX once: the architecture to build, the key of the weights in the file."""

    architecture: str
    state_dict: str | None = None


@dataclass(frozen=True)
class MxnetCheckpoint:
    """An MXNet checkpoint, converted to ONNX once: the card's ``file`` is its symbol, ``params`` are its weights.

    outputs: names of the nodes to end at; by default ``fc1`` for embedders and the symbol's own outputs for detectors.
    """

    params: NetworkFile
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """Pictures as the network wants them: ``(pixel - mean) / std`` per channel, pixels 0..255.

    width, height: fixed size in pixels (embedders; the middle of the 112 x 112 crop is taken); None for detectors.
    batch: 1 for a network that takes one picture at a time; None for one that takes any number.
    """

    channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int | None = None
    height: int | None = None
    batch: int | None = None


@dataclass(frozen=True)
class Output:
    """What comes out. Detectors: the decoder. Embedders: size of the embedding, mirrored pass included.

    landmark_std: what RetinaFace's landmark codes were divided by in training (InsightFace's ``net3l``: 0.2); None: 1.
    """

    decoder: str | None = None
    landmark_std: float | None = None
    embedding_size: int | None = None
    mirror: str = "none"


@dataclass(frozen=True)
class ModelCard:
    """One network. ``name`` is also the folder name below ``exp/face_models``.

    figures: what was measured, and on what. training: how it was trained, for networks of our own.
    """

    name: str
    kind: str
    description: str
    licence: str
    homepage: str
    training_data: str
    file: NetworkFile
    input: Input
    output: Output
    checkpoint: Checkpoint | None = None
    mxnet: MxnetCheckpoint | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[NetworkFile, ...]:
        """All published files: one, or symbol and params of an MXNet checkpoint."""
        return (self.file,) if self.mxnet is None else (self.file, self.mxnet.params)


def load_card(name_or_path: str | os.PathLike[str]) -> ModelCard:
    """A card by its name in the zoo or by the path of a ``.yaml`` file.

    Raises ModelError that names the file and the field.
    """
    path = card_path(name_or_path)
    try:
        fields = _parse_yaml(path)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a YAML file: {_shown(error)}") from None
    card = _build(ModelCard, fields, str(path), "")
    check_card(card, path)
    return card


def _parse_yaml(path: Path) -> Any:
    """Raises ValueError for what no card needs and a few bytes can make gigabytes of: aliases, tags, depth, size."""
    size = path.stat().st_size
    if size > _MAX_CARD_BYTES:
        raise ValueError(f"expected at most {_MAX_CARD_BYTES} bytes, found {size}")
    text = path.read_text(encoding="utf-8")
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = f"line {event.start_mark.line + 1 if event.start_mark else '?'}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError(f"{line}: nested more than {_MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise ValueError(f"{line}: anchors (&), aliases (*) and tags (!) have no place in a card")
    return yaml.safe_load(text)


def _shown(value: object) -> str:
    """For a message: on one line, and not too long."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:200] + "..."


def card_text(card: ModelCard) -> str:
    """The YAML text that :func:`load_card` reads back; empty fields are left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if item not in (None, {}, ())}
        return [plain(item) for item in value] if isinstance(value, tuple | list) else value

    return yaml.safe_dump(plain(dataclasses.asdict(card)), sort_keys=False, allow_unicode=True, width=120)


def card_path(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a card. Raises ModelError, with the names in the zoo, where there is none."""
    text = os.fspath(name_or_path)
    path = Path(text) if text.endswith(".yaml") else ZOO / f"{text}.yaml"
    if not path.is_file():
        raise ModelError(
            f"no model card '{text}'; cards in the zoo: {' '.join(card_names())}; or give the path of a .yaml card"
        )
    return path


def card_names() -> list[str]:
    """Names of the cards in the zoo."""
    return sorted(path.stem for path in ZOO.glob("*.yaml"))


def _build(cls: Any, value: Any, path: str, where: str) -> Any:
    """A dataclass from parsed YAML, with types checked."""
    if not isinstance(value, dict):
        raise ModelError(f"{path}: {where or 'card'}: expected fields, found {_shown(repr(value))}")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(map(str, value)) - set(hints))
    if unknown:
        raise ModelError(f"{path}: {where}{_shown(unknown[0])}: unknown field; valid fields: {' '.join(hints)}")
    arguments = {}
    for item in dataclasses.fields(cls):
        if item.name in value:
            arguments[item.name] = _convert(hints[item.name], value[item.name], path, where + item.name)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ModelError(f"{path}: {where}{item.name}: missing field")
    return cls(**arguments)


def _convert(hint: Any, value: Any, path: str, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(arguments[0], value, path, where)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, path, where + ".")
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, path, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < _MAX_WHOLE else math.inf
    if hint in (str, int, float) and type(value) is hint:
        return value
    raise ModelError(f"{path}: {where}: expected {getattr(hint, '__name__', hint)}, found {_shown(repr(value))}")


def check_card(card: ModelCard, path: Path) -> None:
    """Raises ModelError that names the file and the field for a card that stage 0 would refuse."""

    def expect(good: bool, where: str, expected: str, found: object) -> None:
        if not good:
            raise ModelError(f"{path}: {where}: expected {expected}, found {_shown(repr(found))}")

    expect(card.name == path.stem, "name", f"the file's name '{path.stem}'", card.name)
    expect(
        bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", card.name)),
        "name",
        "letters, digits, '.', '_' and '-'",
        card.name,
    )
    expect(card.kind in KINDS, "kind", f"one of {' '.join(KINDS)}", card.kind)
    for file, where in zip(card.files, ("file", "mxnet.params"), strict=False):
        good = file.sha256 is None or bool(re.fullmatch(r"[0-9a-f]{64}", file.sha256))
        expect(good, f"{where}.sha256", "64 lower-case hexadecimal digits", file.sha256)
        good = bool(re.fullmatch(r"[^/\x00-\x1f]+", file.name)) and file.name not in (".", "..")
        expect(good, f"{where}.name", "a plain file name", file.name)
    names = [file.name for file in card.files]
    expect(len(set(names)) == len(names), "mxnet.params.name", "another name than that of the symbol", names[-1])
    expect(card.checkpoint is None or card.mxnet is None, "mxnet", "no checkpoint beside it", "checkpoint")
    expect(card.input.channels in ("rgb", "bgr"), "input.channels", "rgb or bgr", card.input.channels)
    expect(
        len(card.input.mean) == 3 and all(map(math.isfinite, card.input.mean)),
        "input.mean",
        "three numbers",
        card.input.mean,
    )
    expect(
        len(card.input.std) == 3 and all(0 < s < math.inf for s in card.input.std),
        "input.std",
        "three positive numbers",
        card.input.std,
    )
    expect(card.input.batch in (1, None), "input.batch", "1, or no such field", card.input.batch)
    expect(card.output.mirror in MIRROR, "output.mirror", f"one of {' '.join(MIRROR)}", card.output.mirror)
    if card.kind == "face_embedder":
        sizes = (card.input.width, card.input.height, card.output.embedding_size)
        expect(
            all(s is not None and s > 0 for s in sizes),
            "input.width, input.height, output.embedding_size",
            "positive sizes",
            sizes,
        )
        expect(
            all(s is not None and s <= 112 for s in sizes[:2]),
            "input.width, input.height",
            "at most 112, the size of a crop",
            sizes[:2],
        )
        size = card.output.embedding_size or 0
        expect(size <= _MAX_EMBEDDING_SIZE, "output.embedding_size", f"at most {_MAX_EMBEDDING_SIZE}", size)
    else:
        expect(card.output.decoder is not None, "output.decoder", "the name of a decoder", None)
