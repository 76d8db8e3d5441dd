"""From a model card to ``exp/<modality>_models/<name>/network.onnx``: find or download, check, convert.

The folder then holds ``<name>.yaml`` (the card), ``network.onnx`` and ``record.json`` (see
``vidperson.io.record``: the published files are its inputs). For the engine that runs them as they
are it also holds the files of an MXNet checkpoint (``network-symbol.json``, ``network-0000.params``)
or of an OpenVINO IR (``network.xml``, ``network.bin``). The record is written last: a folder without
it is not installed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidperson.errors import DataError, ModelError
from vidperson.io.record import RECORD, read_record, sha256, write_record
from vidperson.networks.card import ZOO, ModelCard, NetworkFile, Source, card_path, load_card

NETWORK = "network.onnx"
MXNET_FILES = ("network-symbol.json", "network-0000.params")
OPENVINO_FILES = ("network.xml", "network.bin")
_CHUNK = 1 << 20
_TIMEOUT_S = 30
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class InstalledModel:
    """A network ready to be opened by an engine."""

    card: ModelCard
    network: Path
    sha256: str

    @property
    def mxnet_symbol(self) -> Path | None:
        """The symbol of the MXNet checkpoint that the network was converted from; its weights lie beside it."""
        symbol, params = (self.network.with_name(name) for name in MXNET_FILES)
        return symbol if self.card.mxnet is not None and symbol.is_file() and params.is_file() else None

    @property
    def openvino_graph(self) -> Path | None:
        """The graph of the OpenVINO IR that the network was converted from; its weights lie beside it."""
        graph, weights = (self.network.with_name(name) for name in OPENVINO_FILES)
        return graph if self.card.openvino is not None and graph.is_file() and weights.is_file() else None


def installed_model(directory: str | os.PathLike[str]) -> InstalledModel:
    """The model that ``install_model`` put in a folder.

    Raises ModelError when it is not there, or when network or card are not as they were installed.
    """
    folder = Path(directory)
    try:
        record = read_record(folder)
    except DataError:
        record = None
    if record is None or NETWORK not in record.outputs:
        cure = "run ./run_000_get_pretrained_models.sh"
        card = folder if folder.suffix == ".yaml" else folder / f"{folder.name}.yaml"
        if card.is_file() and not (card.parent / NETWORK).is_file():  # such as what a training has made
            cure += f" with the card {card}, and name the folder of exp that it then puts the network in"
        raise ModelError(f"{folder}: no installed network; {cure}")
    for name in (f"{folder.name}.yaml", NETWORK):
        expected = record.outputs[name].sha256 if name in record.outputs else "of a file in its record"
        found = sha256(folder / name) if (folder / name).is_file() else "no such file"
        if found != expected:
            raise ModelError(
                f"{folder / name}: expected SHA-256 {expected}, found {found}; remove the folder and run "
                "./run_000_get_pretrained_models.sh"
            )
    return InstalledModel(load_card(folder / f"{folder.name}.yaml"), folder / NETWORK, found)


def shipped_model(card_name: str) -> InstalledModel | None:
    """The network of a card where it ships with the package, opened in its place; None for any other card.

    Raises ModelError for a card that is wrong, and for a file that is not the one of the card.
    """
    card = load_card(card_name)
    path = ZOO / card.file.name
    if card_path(card_name).parent != ZOO or card.checkpoint or card.mxnet or card.openvino or not path.is_file():
        return None
    found = sha256(path)
    if found != card.file.sha256:
        raise ModelError(f"{path}: expected SHA-256 {card.file.sha256}, found {found}; install the package again")
    return InstalledModel(card, path, found)


def install_model(
    card_name: str,
    models_dir: str | os.PathLike[str],
    local_dirs: Sequence[str | os.PathLike[str]] = (),
    report: Report | None = None,
) -> InstalledModel:
    """Make ``models_dir/<name>`` hold the card's network; does nothing where it does already.

    Each published file is looked for in ``models_dir``, in ``local_dirs`` (there, or in a subfolder with the card's
    name) and beside the card, then downloaded; a download that broke off resumes where it stopped. A file whose hash
    the card does not know is not downloaded; put there manually, it is taken as it is, and its hash is recorded.
    ``report(done, total)`` gets bytes.
    Raises ModelError for a file that cannot be had, has another SHA-256, or cannot be converted.
    """
    card = load_card(card_name)
    folder = Path(models_dir) / card.name
    if (folder / RECORD).is_file():
        installed = installed_model(folder)
        whole = (card.mxnet is None or installed.mxnet_symbol) and (card.openvino is None or installed.openvino_graph)
        if installed.card == card and whole:
            return installed
    folder.mkdir(parents=True, exist_ok=True)
    beside = card_path(card_name).parent
    places = [models_dir, *local_dirs]

    def find(file: NetworkFile) -> Path | None:
        return _find_file(card, file, places, beside)

    unknown = [file for file in card.files if file.sha256 is None]
    _expect_there(card, [file for file in unknown if find(file) is None], folder)
    paths = [find(file) or _download(card, file, find, folder, report) for file in card.files]
    for file, path in zip(card.files, paths, strict=True):
        if file in unknown:
            logging.warning("%s: no hash is known of it; taken as it is, SHA-256 %s", file.name, sha256(path))
    partial = folder / (NETWORK + ".tmp")
    if card.checkpoint is not None:
        from vidperson.networks.convert import convert_checkpoint

        logging.info("converting %s to ONNX", paths[0])
        convert_checkpoint(card, paths[0], partial)
    elif card.mxnet is not None:
        from vidperson.networks.mxnet_to_onnx import convert_mxnet

        logging.info("converting %s to ONNX", paths[0])
        convert_mxnet(card, paths[0], paths[1], partial)
    elif card.openvino is not None:
        from vidperson.networks.openvino_to_onnx import convert_openvino

        logging.info("converting %s to ONNX", paths[0])
        convert_openvino(card, paths[0], paths[1], partial)
    else:
        shutil.copyfile(paths[0], partial)
    if card.checkpoint is None and card.mxnet is None:
        _check_batch(card, partial)
    (folder / RECORD).unlink(missing_ok=True)
    os.replace(partial, folder / NETWORK)
    as_they_are = MXNET_FILES if card.mxnet else OPENVINO_FILES if card.openvino else ()
    for path, name in zip(paths, as_they_are, strict=False):
        (folder / name).unlink(missing_ok=True)
        (os.link if path.parent == folder else shutil.copyfile)(path, folder / name)  # a download is there already
    shutil.copyfile(card_path(card_name), folder / f"{card.name}.yaml")
    made = [NETWORK, f"{card.name}.yaml", *as_they_are]
    from importlib.metadata import version

    tools = ("torch", "onnx") if card.checkpoint else ("onnx",) if as_they_are else ()
    outputs = [folder / name for name in made]
    write_record(folder, ["install_model", card.name], paths, outputs, {name: version(name) for name in tools})
    return installed_model(folder)


def can_download(card: ModelCard) -> bool:
    """Whether all files ship with the project, or can be downloaded and checked."""
    return all((ZOO / file.name).is_file() or (file.sha256 and file.sources) for file in card.files)


def needs_conversion(card_name: str, models_dir: str | os.PathLike[str]) -> bool:
    """Whether installing the card would need the torch extra."""
    card = load_card(card_name)
    return card.checkpoint is not None and not (Path(models_dir) / card.name / RECORD).is_file()


def find_files(card: ModelCard, folders: Sequence[str | os.PathLike[str]]) -> list[Path | None]:
    """Where the files of a card of the zoo are, in these folders or in the zoo; None for one that is not there.

    Raises ModelError when a file in a folder of the card's own is another one.
    """
    return [_find_file(card, file, folders, ZOO) for file in card.files]


def _find_file(
    card: ModelCard, file: NetworkFile, folders: Sequence[str | os.PathLike[str]], beside: Path
) -> Path | None:
    """One of the card's files where a user or an earlier run put it; ``beside`` is the folder of the card.

    Other networks' files have the same names: what lies in a folder of several networks is taken by its hash only.
    Raises ModelError when the file in the card's own folder is another one.
    """
    for folder in [*map(Path, folders), beside]:
        for path in (folder / card.name / file.name, folder / file.name):
            if not path.is_file():
                continue
            of_this_card = path.parent.name == card.name or folder == beside
            if file.sha256 is None and of_this_card:
                return path
            found = sha256(path)
            if found == file.sha256:
                return path
            if of_this_card:
                raise ModelError(
                    f"{path}: expected SHA-256 {file.sha256}, found {found}; "
                    f"remove the file or get it again from {card.homepage}"
                )
            logging.warning("%s: SHA-256 %s, so not the file of %s; left alone", path, found, card.name)
    return None


def _expect_there(card: ModelCard, missing: Sequence[NetworkFile], folder: Path) -> None:
    """Raises ModelError, with what to get where, if there are missing files, which have no hash."""
    if not missing:
        return
    it = "it" if len(missing) == 1 else "them"
    wanted = ", ".join(f"'{file.name}'" for file in missing)
    links = list(dict.fromkeys(source.url for file in missing for source in file.sources))
    raise ModelError(
        f"{card.name}: {wanted}: missing, and not downloaded, since no SHA-256 is known to check a download by. Get "
        f"{it} from {' or '.join(links) or card.homepage} and put {it} in {folder}, or in a folder '{card.name}' in "
        f"the one that --model-dir or VIDPERSON_MODEL_DIR names; see {card.homepage}; licence: {card.licence}"
    )


def _check_batch(card: ModelCard, path: str | os.PathLike[str]) -> None:
    """Raises ModelError for an ONNX file that takes another number of items than the card says."""
    try:
        import onnx
    except ImportError:  # only stage 0 of a checkpoint needs it; the engine refuses such batches, too
        return
    try:
        inputs = onnx.load(os.fspath(path), load_external_data=False).graph.input
        items = inputs[0].type.tensor_type.shape.dim[0].dim_value or None
    except Exception:  # what is no network is for the engine to refuse
        return
    if items is not None and items != card.input.batch:
        raise ModelError(
            f"{card.name}: the file takes {items} items at a time, the card says "
            f"{card.input.batch or 'any number'}; "
            + ("put 'batch: 1' below 'input' in the card" if items == 1 else "export it with a free batch size")
        )


def _download(
    card: ModelCard, file: NetworkFile, find: Callable[[NetworkFile], Path | None], folder: Path, report: Report | None
) -> Path:
    """Try the file's sources in turn; the licence is logged first.

    Raises ModelError when none gives it, with all files of the card that ``find`` does not find.
    """
    from zipfile import BadZipFile

    logging.info("%s: licence: %s; see %s", card.name, card.licence, card.homepage)
    reasons: list[str] = []
    for source in file.sources:
        logging.info("%s: downloading %s", card.name, source.url)
        try:
            return _fetch(card, file, source, folder, report)
        except (OSError, BadZipFile, KeyError, ModelError) as error:
            reasons.append(f"{source.url}: {error}")
    tried = "; ".join(reasons) or "the card names no source"
    missing = [other for other in card.files if find(other) is None]
    wanted = " and ".join(
        f"'{other.name}' (SHA-256 {other.sha256}{f', {other.size_bytes} bytes' if other.size_bytes else ''})"
        for other in missing
    )
    it = "it" if len(missing) == 1 else "them"
    raise ModelError(
        f"{card.name}: cannot be downloaded ({tried}). Get {wanted} from {card.homepage} and put {it} in {folder}, "
        "or in a folder that --model-dir or VIDPERSON_MODEL_DIR names"
    )


def _fetch(card: ModelCard, file: NetworkFile, source: Source, folder: Path, report: Report | None) -> Path:
    """Download one file; of a zip, the card's other files in it are unpacked at once."""
    from zipfile import ZipFile

    partial = folder / (hashlib.sha256(source.url.encode()).hexdigest()[:16] + ".part")
    _resume_download(source.url, partial, report)
    if source.member is None:
        return _put(file, partial, folder)
    try:
        with ZipFile(partial) as archive:
            for wanted in card.files:
                member = next((s.member for s in wanted.sources if s.url == source.url), None)
                if member is not None and (wanted is file or member in archive.namelist()):
                    unpacked = folder / (wanted.name + ".tmp")
                    with archive.open(member) as content, open(unpacked, "wb") as out:
                        shutil.copyfileobj(content, out, _CHUNK)
                    _put(wanted, unpacked, folder)
    finally:
        partial.unlink()  # it came whole: if it is no such zip, resuming it would never help
    return folder / file.name


def _put(file: NetworkFile, path: Path, folder: Path) -> Path:
    """Give a file its name if it is the right one, else remove it and raise ModelError."""
    assert file.sha256 is not None, file.name
    found = sha256(path)
    if found != file.sha256:
        path.unlink()
        raise ModelError(f"{file.name}: expected SHA-256 {file.sha256}, found {found}")
    os.replace(path, folder / file.name)
    return folder / file.name


def _resume_download(url: str, partial: Path, report: Report | None) -> None:
    """Fetch ``url`` into ``partial``, resuming after what is there if the server can."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    done = partial.stat().st_size if partial.exists() else 0
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urlopen(request, timeout=_TIMEOUT_S)
    except HTTPError as error:
        if error.code == 416 and done:  # nothing is left to fetch
            return
        raise
    with response, open(partial, "ab") as out:
        if response.status != 206:
            out.truncate(0)
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        while chunk := response.read(_CHUNK):
            out.write(chunk)
            done += len(chunk)
            if report:
                report(done, total)
    if total and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes; run again to resume from there")
