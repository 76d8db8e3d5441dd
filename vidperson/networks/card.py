"""Model cards: what a network file is, where it comes from, what goes in and what comes out.

Cards ship in ``vidperson/zoo``; a user's own card is named by its path. Every field is checked,
unknown ones are refused.
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
from typing import Any, Protocol

import yaml

from vidperson.errors import ModelError
from vidperson.io.atomic import atomic_write
from vidperson.types import Calibration

ZOO = Path(__file__).resolve().parents[1] / "zoo"
ROLES = ("detector", "embedder", "classifier")
MIRROR = ("none", "concatenate", "sum")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C, where PyYAML has it
_MAX_CARD_BYTES = 1 << 21  # a label of each of 100,000 persons
_MAX_CARD_EVENTS = 1 << 18  # values, and beginnings and ends of lists and mappings
_MAX_DEPTH = 16
_MAX_EMBEDDING_SIZE = 1 << 16
_MAX_CLASSES = 1 << 24
_MAX_SAMPLE_RATE = 1_000_000  # Hz
_MAX_FFT = 1 << 16  # samples
_MAX_MIN_S = 60
_MAX_FRAMES = 1 << 16
_MAX_SIDE = 1 << 14  # pixels
_MAX_WHOLE = 1 << 1000  # larger ones are no float
_FBANK_CHOICES = {
    "framing": ("kaldi", "centred"),
    "window_type": ("hamming", "hann", "povey"),
    "mel_scale": ("kaldi", "htk", "speechbrain", "slaney"),
    "edges": ("reflect", "zeros"),
}


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

    A file without a hash is put there manually; installing it records the hash that it then has.
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
class OpenVinoIr:
    """An OpenVINO IR, which the engine openvino runs as it is: the card's ``file`` is its graph in XML.

    weights: the file beside it. It is converted to ONNX once, for the other engines.
    """

    weights: NetworkFile


@dataclass(frozen=True, kw_only=True)
class Input:
    """What every kind of input says; its own class, see ``INPUTS``, says the rest.

    batch: 1 for a network that takes one item at a time; None for one that takes any number.
    """

    kind: str = field(default="", init=False)
    batch: int | None = None


@dataclass(frozen=True)
class PictureInput(Input):
    """(N, 3, height, width): ``(pixel - mean) / std`` per channel, pixels 0..255.

    channels: rgb or bgr.
    width, height: fixed size in pixels; None for a network that takes any size, such as a detector.
    """

    kind: str = field(default="picture", init=False)
    channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True)
class FbankInput(Input):
    """(N, frames, mel_bins): energies of a mel filter bank, from sound of one channel.

    sample_rate: Hz.
    scale: what a sample at full scale is: 1, or 32768 for 16-bit whole numbers.
    level_dbfs: quieter sound is raised to this level first; None: the level stays.
    pre_emphasis: coefficient, 0 for none.
    framing: "kaldi": whole frames only, the mean and pre-emphasis taken per frame, symmetric
        windows. "centred": a frame around each multiple of ``hop``, pre-emphasis over the whole
        sound, periodic windows.
    edges: of centred frames: the sound is mirrored at its ends ("reflect"), or continued by "zeros".
    window_type: hamming, hann or povey.
    window, hop, fft: samples of a frame, from frame to frame, and of the Fourier transform.
    mel_bins: number of filters, from ``low_hz`` to ``high_hz``.
    mel_scale: "kaldi": HTK's scale, triangles straight in mel. "htk": the same scale, triangles
        straight in Hz. "speechbrain": as htk, triangles as wide on the right as on the left.
        "slaney": Slaney's scale, triangles of equal area.
    log_offset: log(energy + offset). log_floor: log(max(energy, floor)). Both None: no logarithm.
    decibels: the logarithm is 10 log10, not the natural one. range_db: values of more than this below
        the highest of the recording are raised to that; it needs ``decibels``.
    mean_norm: the mean over time is subtracted per bin.
    crop_frames, crop_hop: frames that the network takes at once, and from crop to crop; what comes
        out is then the mean over the crops. None: any number, the whole recording.
    crop_cover: a last crop that the sound fills to this share, 0..1, is taken, too; silence follows.
    channels_first: (N, mel_bins, frames) instead.
    min_s: seconds of sound that it takes at least; shorter sound is repeated.
    """

    kind: str = field(default="fbank", init=False)
    sample_rate: int
    mel_bins: int
    window: int
    hop: int
    fft: int
    low_hz: float
    high_hz: float
    framing: str
    window_type: str
    mel_scale: str
    mean_norm: bool
    scale: float = 1.0
    level_dbfs: float | None = None
    pre_emphasis: float = 0.0
    log_offset: float | None = None
    log_floor: float | None = None
    decibels: bool = False
    range_db: float | None = None
    edges: str = "reflect"
    crop_frames: int | None = None
    crop_hop: int | None = None
    crop_cover: float = 1.0
    channels_first: bool = False
    min_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WaveformInput(Input):
    """(N, samples): sound of one channel.

    sample_rate: Hz. scale: what a sample at full scale is: 1, or 32768 for 16-bit whole numbers.
    min_s: seconds of sound that it takes at least; shorter sound is repeated.
    """

    kind: str = field(default="waveform", init=False)
    sample_rate: int
    scale: float = 1.0
    min_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class VectorInput(Input):
    """(N, size): vectors, such as embeddings.

    embedders: those of the embeddings that are joined in it, in this order; none where it does not matter.
    """

    kind: str = field(default="vector", init=False)
    size: int
    embedders: tuple[str, ...] = ()


INPUTS: dict[str, type[Input]] = {
    "picture": PictureInput,
    "fbank": FbankInput,
    "waveform": WaveformInput,
    "vector": VectorInput,
}


@dataclass(frozen=True)
class Output:
    """What comes out.

    Detectors: decoder. Embedders: embedding_size, with the mirrored pass included, and mirror.
    Classifiers: classes, their number, or labels, their names in the order of the outputs.

    landmark_std: what RetinaFace's landmark codes were divided by in training (InsightFace's
    ``net3l``: 0.2); None: 1.
    """

    decoder: str | None = None
    landmark_std: float | None = None
    embedding_size: int | None = None
    mirror: str = "none"
    classes: int | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """One network. ``name`` is also the folder name below ``exp/<modality>_models``.

    kind: ``<modality>_<role>``, the role one of ``ROLES``.
    figures: what was measured, and on what. bf16_check: what ``steps/check_precision.py`` found when the network passed
    it in bf16; ``--precision auto`` takes bf16 for such a network. calibration: of an embedder, how cosines of its
    embeddings become log-likelihood ratios. training: how it was trained, for our own networks.
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
    openvino: OpenVinoIr | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    bf16_check: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def modality(self) -> str:
        return self.kind.rpartition("_")[0]

    @property
    def role(self) -> str:
        return self.kind.rpartition("_")[2]

    @property
    def files(self) -> tuple[NetworkFile, ...]:
        """All published files: one, or symbol and params of an MXNet checkpoint, or graph and weights of an IR."""
        beside = [self.mxnet.params] if self.mxnet else [self.openvino.weights] if self.openvino else []
        return (self.file, *beside)


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
    for number, event in enumerate(yaml.parse(text, _LOADER)):
        line = f"line {event.start_mark.line + 1 if event.start_mark else '?'}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if number > _MAX_CARD_EVENTS:
            raise ValueError(f"{line}: expected at most {_MAX_CARD_EVENTS} values, lists and mappings")
        if depth > _MAX_DEPTH:
            raise ValueError(f"{line}: nested more than {_MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise ValueError(f"{line}: anchors (&), aliases (*) and tags (!) have no place in a card")
    loader = _LOADER(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


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
    if cls is Input:
        cls, value = _input_class(value, path, where), {key: value[key] for key in value if key != "kind"}
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(map(str, value)) - set(hints))
    if unknown:
        raise ModelError(f"{path}: {where}{_shown(unknown[0])}: unknown field; valid fields: {' '.join(hints)}")
    arguments = {}
    for item in dataclasses.fields(cls):
        if not item.init:
            continue
        if item.name in value:
            arguments[item.name] = _convert(hints[item.name], value[item.name], path, where + item.name)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ModelError(f"{path}: {where}{item.name}: missing field")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ModelError(f"{path}: {where or 'card'}: {error}") from None


def _input_class(value: dict[Any, Any], path: str, where: str) -> type[Input]:
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in INPUTS:
        found = _shown(repr(kind)) if "kind" in value else "no such field"
        raise ModelError(f"{path}: {where}kind: expected one of {' '.join(INPUTS)}, found {found}")
    return INPUTS[kind]


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
    if hint in (str, int, float, bool) and type(value) is hint:
        return value
    raise ModelError(f"{path}: {where}: expected {getattr(hint, '__name__', hint)}, found {_shown(repr(value))}")


class _Expect(Protocol):
    """Raises ModelError that names the file and the field unless ``good``."""

    def __call__(self, good: bool, where: str, expected: str, found: object) -> None: ...


def check_card(card: ModelCard, path: Path) -> None:
    """Raises ModelError that names the file and the field for a card that stage 0 would refuse."""

    def expect(good: bool, where: str, expected: str, found: object) -> None:
        if not good:
            raise ModelError(f"{path}: {where}: expected {expected}, found {_shown(repr(found))}")

    expect(card.name == path.stem, "name", f"the file's name '{path.stem}'", card.name)
    plain = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", card.name))
    expect(plain, "name", "letters, digits, '.', '_' and '-'", card.name)
    good = bool(re.fullmatch(r"[a-z]+", card.modality)) and card.role in ROLES
    expect(good, "kind", f"<modality>_<role>, the role one of {' '.join(ROLES)}", card.kind)
    _check_files(card, expect)
    expect(card.input.batch in (1, None), "input.batch", "1, or no such field", card.input.batch)
    if isinstance(card.input, PictureInput):
        _check_picture(card.input, expect)
    elif isinstance(card.input, FbankInput):
        _check_fbank(card.input, expect)
    elif isinstance(card.input, WaveformInput):
        _check_sound(card.input, expect)
    elif isinstance(card.input, VectorInput):
        good = 0 < card.input.size <= _MAX_EMBEDDING_SIZE
        expect(good, "input.size", f"a size from 1 to {_MAX_EMBEDDING_SIZE}", card.input.size)
        good = len(set(card.input.embedders)) == len(card.input.embedders)
        expect(good, "input.embedders", "embedders that differ", card.input.embedders)
    _check_output(card, expect)
    if card.calibration is not None:
        expect(card.role == "embedder", "calibration", "no such field, as this is no embedder", card.kind)
        counts = card.calibration.num_targets, card.calibration.num_nontargets
        expect(min(counts) >= 0, "calibration.num_targets, calibration.num_nontargets", "numbers from 0 on", counts)


def _check_files(card: ModelCard, expect: _Expect) -> None:
    ways = [way for way in ("checkpoint", "mxnet", "openvino") if getattr(card, way) is not None]
    expect(len(ways) < 2, ways[-1] if ways else "", f"no {ways[0] if ways else ''} beside it", ways)
    beside = "openvino.weights" if card.openvino else "mxnet.params"
    for file, where in zip(card.files, ("file", beside), strict=False):
        good = file.sha256 is None or bool(re.fullmatch(r"[0-9a-f]{64}", file.sha256))
        expect(good, f"{where}.sha256", "64 lower-case hexadecimal digits", file.sha256)
        good = bool(re.fullmatch(r"[^/\x00-\x1f]+", file.name)) and file.name not in (".", "..")
        expect(good, f"{where}.name", "a plain file name", file.name)
    names = [file.name for file in card.files]
    what = "graph" if card.openvino else "symbol"
    expect(len(set(names)) == len(names), f"{beside}.name", f"another name than that of the {what}", names[-1])
    # These are converted, by architectures and operators that are there for such inputs only.
    converted = "".join(ways)
    kinds = {"": tuple(INPUTS), "checkpoint": ("picture", "fbank")}.get(converted, ("picture",))
    expect(card.input.kind in kinds, converted, f"input.kind {' or '.join(kinds)}", card.input.kind)
    expect(card.openvino is None or card.role == "embedder", "openvino", "an embedder", card.kind)


def _check_picture(what: PictureInput, expect: _Expect) -> None:
    expect(what.channels in ("rgb", "bgr"), "input.channels", "rgb or bgr", what.channels)
    good = len(what.mean) == 3 and all(map(math.isfinite, what.mean))
    expect(good, "input.mean", "three numbers", what.mean)
    good = len(what.std) == 3 and all(0 < s < math.inf for s in what.std)
    expect(good, "input.std", "three positive numbers", what.std)
    sizes = (what.width, what.height)
    good = all(size is None or 0 < size <= _MAX_SIDE for size in sizes)
    expect(good, "input.width, input.height", f"sizes from 1 to {_MAX_SIDE}", sizes)


def _check_sound(what: FbankInput | WaveformInput, expect: _Expect) -> None:
    good = 0 < what.sample_rate <= _MAX_SAMPLE_RATE
    expect(good, "input.sample_rate", f"1 to {_MAX_SAMPLE_RATE} Hz", what.sample_rate)
    expect(0 < what.scale < math.inf, "input.scale", "a positive number", what.scale)
    expect(0 <= what.min_s <= _MAX_MIN_S, "input.min_s", f"0 to {_MAX_MIN_S} seconds", what.min_s)


def _check_fbank(what: FbankInput, expect: _Expect) -> None:
    _check_sound(what, expect)
    frames = (what.mel_bins, what.hop, what.window, what.fft)
    expect(min(frames) > 0, "input.mel_bins, input.hop, input.window, input.fft", "positive sizes", frames)
    expect(what.window <= what.fft <= _MAX_FFT, "input.fft", f"the window's size to {_MAX_FFT} samples", what.fft)
    expect(what.mel_bins <= what.fft // 2, "input.mel_bins", f"at most {what.fft // 2}, half of fft", what.mel_bins)
    good = 0 <= what.low_hz < what.high_hz <= what.sample_rate / 2
    expect(good, "input.low_hz, input.high_hz", "0 <= low < high <= half of sample_rate", (what.low_hz, what.high_hz))
    for name, valid in _FBANK_CHOICES.items():
        value = getattr(what, name)
        expect(value in valid, f"input.{name}", f"one of {' '.join(valid)}", value)
    expect(0 <= what.pre_emphasis <= 1, "input.pre_emphasis", "a number from 0 to 1", what.pre_emphasis)
    level = what.level_dbfs
    expect(level is None or -math.inf < level <= 0, "input.level_dbfs", "a level of at most 0 dB", level)
    for name in ("log_offset", "log_floor"):
        value = getattr(what, name)
        expect(value is None or 0 < value < math.inf, f"input.{name}", "a positive number", value)
    both = what.log_offset is not None and what.log_floor is not None
    expect(not both, "input.log_floor", "no log_offset beside it", what.log_offset)
    none = what.log_offset is None and what.log_floor is None
    expect(not (what.decibels and none), "input.decibels", "log_offset or log_floor beside it", what.decibels)
    good = what.range_db is None or (what.decibels and 0 < what.range_db < math.inf)
    expect(good, "input.range_db", "a positive number, with decibels", what.range_db)
    crops = (what.crop_frames, what.crop_hop)
    good = crops == (None, None) or all(size is not None and 0 < size <= _MAX_FRAMES for size in crops)
    expect(good, "input.crop_frames, input.crop_hop", f"two sizes from 1 to {_MAX_FRAMES}, or neither", crops)
    expect(0 < what.crop_cover <= 1, "input.crop_cover", "a share above 0, at most 1", what.crop_cover)


def _check_output(card: ModelCard, expect: _Expect) -> None:
    output, picture = card.output, isinstance(card.input, PictureInput)
    expect(output.mirror in MIRROR, "output.mirror", f"one of {' '.join(MIRROR)}", output.mirror)
    expect(picture or output.mirror == "none", "output.mirror", "none, as the input is no picture", output.mirror)
    if card.role == "detector":
        expect(output.decoder is not None, "output.decoder", "the name of a decoder", None)
        return
    if isinstance(card.input, PictureInput):
        sizes = (card.input.width, card.input.height)
        expect(None not in sizes, "input.width, input.height", "two sizes", sizes)
    if card.role == "embedder":
        size = output.embedding_size or 0
        expected = f"a positive size of at most {_MAX_EMBEDDING_SIZE}"
        expect(0 < size <= _MAX_EMBEDDING_SIZE, "output.embedding_size", expected, output.embedding_size)
        return
    labels = output.labels
    classes = output.classes if output.classes is not None else len(labels)
    expect(2 <= classes <= _MAX_CLASSES, "output.classes", f"2 to {_MAX_CLASSES} classes, or labels", output.classes)
    expect(len(set(labels)) == len(labels), "output.labels", "labels that differ", labels)
    expect(len(labels) in (0, classes), "output.labels", f"{classes} labels, one a class", len(labels))


def picture_input(card: ModelCard) -> PictureInput:
    """The card's input. Raises ModelError for a network that takes something else than pictures."""
    if not isinstance(card.input, PictureInput):
        raise ModelError(f"{card.name}: input.kind: expected picture, found {card.input.kind}")
    return card.input


def calibration_of(card: ModelCard) -> Calibration:
    """That of a card or, where it was installed before it had one, of the card of the zoo with its name.

    Raises ModelError, with the command that measures it, where there is none.
    """
    known = known_calibration(card)
    if known is None:
        step = f"steps_{card.modality}/evaluate_pairs.py"
        if not os.path.isfile(step):
            step = "steps/measure_calibration.py"
        raise ModelError(
            f"{card.name}: its card has no calibration, which makes probabilities of cosines; measure it on pairs that"
            f" you have: python {step} --card {card_path(card.name) if card.name in card_names() else 'CARD'} ...,"
            " see docs/networks.md"
        )
    return known


def known_calibration(card: ModelCard) -> Calibration | None:
    """:func:`calibration_of`, None where there is none."""
    if card.calibration is not None:
        return card.calibration
    return load_card(card.name).calibration if card.name in card_names() else None


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Put a calibration into the file of a card, in place of the one that it has; the other lines stay as they are.

    Raises ModelError where the file is no card.
    """
    load_card(path)
    fields = {name: value for name, value in dataclasses.asdict(calibration).items() if value}
    block = yaml.safe_dump({"calibration": fields}, sort_keys=False, allow_unicode=True, width=120)
    text = re.sub(r"(?m)^calibration:.*\n(?:[ \t].*\n?)*", "", path.read_text(encoding="utf-8"))
    text = text if text.endswith("\n") else text + "\n"
    with atomic_write(path) as stream:
        stream.write(text + block)
    load_card(path)
