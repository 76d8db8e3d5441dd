"""The rules that no linter knows: who imports whom, what must not be in the repository, complete pins."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What each part of vidperson may import of vidperson, beside itself.
NEUTRAL = {"types", "errors"}
MODALITY = {"networks", "media", "training", "io", "engines", "prefetch", "supervision", *NEUTRAL}
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "types": set(),
    "errors": set(),
    "cli": {"errors"},
    "progress": set(),
    "prefetch": set(),
    "supervision": {"errors"},
    **dict.fromkeys(("io", "media", "engines", "backends", "metrics", "report"), NEUTRAL),
    # The record of an installed network is written and checked like all others, by io.record.
    "networks": {"engines", "io", *NEUTRAL},
    "embedding": {"io", "progress", *NEUTRAL},
    "corpora": {"io", *NEUTRAL},
    "training": {"networks", "io", "cli", "progress", *NEUTRAL},
    **dict.fromkeys(("face", "speaker", "body"), MODALITY),
    "zoo": set(),
}
USERS = re.compile(r"(local|steps(_[a-z]+)?|tests|benchmarks)/")

TOP_LEVEL = re.compile(
    r"run_00[0-5]_\w+\.sh|run_01\d_train_\w+\.sh|run_demo\.sh|run_tests\.sh|path\.sh|cmd\.sh|global_conf|local"
    r"|steps|steps_(face|speaker|body)|utils|vidperson|benchmarks|docs|tests|requirements|pyproject\.toml|Makefile"
    r"|README\.md|CHANGELOG\.md|LICENSE|\.ci|\.gitignore"
)
MEDIA = re.compile(
    r"\.(mp4|mov|mkv|webm|avi|mpe?g|gif|jpe?g|png|bmp|flac|wav|mp3|pth|pt|ckpt|params|onnx|bin|npz|npy|ark|tar|gz|zip)$"
)
# Built of pieces, so that this file does not break the rule.
MACHINE_PATHS = re.compile("|".join(rf"(?<![\w.])/{folder}/" for folder in ("work", "root", "home", "Users")))


def tracked() -> list[str]:
    """Files of the repository, those not yet added included."""
    call = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip("not a git repository: nothing tells which files belong to it")
    return sorted(name for name in result.stdout.split("\0") if name and (ROOT / name).exists())


def python_files() -> list[str]:
    return [name for name in tracked() if name.endswith(".py")]


def imported(source: str, path: str) -> list[str]:
    """Dotted names that a file imports, relative ones resolved; `from a import b` gives `a.b`."""
    names = []
    package = Path(path).parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            names += [".".join([*base, alias.name]) for alias in node.names]
    return names


def import_violations(source: str, path: str) -> list[str]:
    """What a file imports of our own against the rules."""
    found = []
    for name in imported(source, path):
        parts = name.split(".")
        if path.startswith("vidperson/"):
            own = Path(path).parts[1].removesuffix(".py")
            if parts[0] == "vidperson":
                part = parts[1] if len(parts) > 1 and (parts[1] in ALLOWED) else "__init__"
                if part != own and part not in ALLOWED.get(own, set()):
                    found.append(f"{path}: {own} must not import {name}")
            elif parts[0] in ("local", "tests", "utils", "steps") or parts[0].startswith("steps_"):
                found.append(f"{path}: the package must not import {name}")
        elif parts[0] == "vidperson" and not USERS.match(path):
            found.append(f"{path}: only local, steps, steps_* and tests import vidperson")
    return found


def unsafe_calls(source: str, path: str) -> list[str]:
    """Ways to run code hidden in a data file: pickle in its forms, and YAML that makes objects."""
    found = []
    for name in imported(source, path):
        if name.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
            found.append(f"{path}: imports {name}")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if call == "torch.load" and options.get("weights_only") != "True":
            found.append(f"{path}:{node.lineno}: torch.load without weights_only=True")
        if call in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(f"{path}:{node.lineno}: {call}; use yaml.safe_load")
        if options.get("allow_pickle", "False") != "False":
            found.append(f"{path}:{node.lineno}: {call} with allow_pickle")
    return found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("vidperson/metrics/x.py", "import vidperson.io.lists"),
        ("vidperson/metrics/x.py", "from vidperson.backends import sets"),
        ("vidperson/metrics/x.py", "def f():\n    from vidperson import io"),
        ("vidperson/metrics/x.py", "from ..io import lists"),
        ("vidperson/metrics/x.py", "from .. import cli"),
        ("vidperson/types.py", "from vidperson.errors import DataError"),
        ("vidperson/face/x.py", "from vidperson.report.plots import training_curves"),
        ("vidperson/report/x.py", "from vidperson.metrics import detection"),
        ("vidperson/corpora/x.py", "from vidperson.progress import Progress"),
        ("vidperson/networks/x.py", "from vidperson import __version__"),
        ("vidperson/unheard_of.py", "from vidperson.types import Image"),
        ("vidperson/io/x.py", "from steps_face.detect_faces import detect_faces"),
        ("utils/x.py", "from vidperson.io import lists"),
        ("x.py", "import vidperson"),
    ],
)
def test_import_rules_broken_is_found(path: str, source: str) -> None:
    assert len(import_violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("vidperson/io/x.py", "from vidperson.io.lists import read_scp\nfrom .atomic import atomic_write"),
        ("vidperson/metrics/x.py", "import numpy\nfrom vidperson.errors import DataError"),
        (
            "vidperson/networks/x.py",
            "from vidperson.engines import openvino_engine\nfrom vidperson.types import Image",
        ),
        ("steps_body/x.py", "from vidperson import cli"),
        ("local/demo/x.py", "from vidperson.corpora import demo"),
        ("tests/x.py", "import vidperson.io.lists, steps_face.detect_faces"),
    ],
)
def test_import_rules_kept_is_not_found(path: str, source: str) -> None:
    assert import_violations(source, path) == []


def test_every_file_keeps_the_import_rules() -> None:
    names = python_files()
    assert len(names) > 20
    assert [v for name in names for v in import_violations((ROOT / name).read_text(encoding="utf-8"), name)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(stream, Loader=yaml.Loader)",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_unsafe_calls_present_is_found(source: str) -> None:
    assert len(unsafe_calls(source, "x.py")) == 1


def test_unsafe_calls_safe_forms_are_not_found() -> None:
    source = "torch.load(p, weights_only=True)\nyaml.safe_load(s)\nnumpy.load(p, allow_pickle=False)"
    assert unsafe_calls(source, "x.py") == []


def test_no_file_unpickles() -> None:
    """Tests may make a pickle, to see it refused."""
    names = [name for name in python_files() if not name.startswith("tests/")]
    assert [v for n in names for v in unsafe_calls((ROOT / n).read_text(encoding="utf-8"), n)] == []


def test_machine_paths_present_is_found_and_others_are_not() -> None:
    assert MACHINE_PATHS.search("see " + "/ho" + "me/somebody/x")
    assert not MACHINE_PATHS.search("/corpora/sre19 and exp/roots/x and ../home/x")


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for name in tracked():
        if (ROOT / name).is_file() and not MEDIA.search(name):
            for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
                if MACHINE_PATHS.search(line):
                    found.append(f"{name}:{number}: {line}")
    assert found == []


def test_no_media_or_checkpoint_but_the_networks_that_ship_is_in_the_repository() -> None:
    shipped = {"vidperson/zoo/arcface_tiny.onnx", "vidperson/zoo/retinaface_tiny.onnx"}
    assert {name for name in tracked() if MEDIA.search(name.lower())} == shipped


def test_top_level_has_only_the_names_of_the_design() -> None:
    assert {name.split("/")[0] for name in tracked()} - {
        name.split("/")[0] for name in tracked() if TOP_LEVEL.fullmatch(name.split("/")[0])
    } == set()


def test_every_module_defers_annotations() -> None:
    missing = [
        name
        for name in python_files()
        if not name.endswith("__init__.py")
        and "from __future__ import annotations\n" not in (ROOT / name).read_text(encoding="utf-8")
    ]
    assert missing == []


# Code for all modalities. Names of published networks, and of what their files call "body", are exempt.
WITHOUT_MODALITY = ("vidperson/networks/", "vidperson/engines/", "vidperson/embedding.py")
PUBLISHED = re.compile(r"(retina|arc|cos|insight|mobile)face|self\.body", re.IGNORECASE)
MODALITY_WORDS = {"face", "faces", "speaker", "speakers", "body", "bodies", "voice", "voices"}


def modality_names(source: str) -> list[str]:
    """Lines of Python, and the word in them, that name a modality outside comments and docstrings."""
    found = []
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {n.body[0].lineno for n in ast.walk(tree) if isinstance(n, documented) and ast.get_docstring(n)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING and token.start[0] in docstrings:
            continue
        if token.type not in (tokenize.NAME, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)):
            continue
        before = "self." if source.splitlines()[token.start[0] - 1][: token.start[1]].endswith("self.") else ""
        text = PUBLISHED.sub("", before + token.string)
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", text)}
        found += [f"line {token.start[0]}: {word}" for word in sorted(words & MODALITY_WORDS)]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "face_dir = 1",
        "KIND = 'face_embedder'",
        "class FaceThing: pass",
        "x.body = 1",
        "f'{x}/voice'",
        "def speaker(): pass",
    ],
)
def test_name_of_a_modality_in_code_is_found(source: str) -> None:
    assert len(modality_names(source)) == 1


def test_name_of_a_modality_in_comments_docstrings_and_published_names_is_not_found() -> None:
    source = (
        '"""Faces."""\n# a voice\nfrom x import RetinaFaceTiny\nname = "arcface_tiny"\n'
        'def nobody(self):\n    """Of the body."""\n    self.body = 1\n'
    )
    assert modality_names(source) == []


def test_code_for_all_modalities_names_none() -> None:
    names = [name for name in python_files() if name.startswith(WITHOUT_MODALITY)]
    assert len(names) > 15
    found = {name: modality_names((ROOT / name).read_text(encoding="utf-8")) for name in names}
    assert {name: lines for name, lines in found.items() if lines} == {}


BLOCKED_IMPORT = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        engines = {"torch", "openvino", "onnxruntime", "onnx", "mxnet"}
        if name.split(".")[0] in {"cv2", "av", "matplotlib", *engines}:
            raise ImportError(f"blocked: {name}")
sys.meta_path.insert(0, Block())
import importlib, pkgutil
for package in sys.argv[1:]:
    module = importlib.import_module(package)
    for info in pkgutil.walk_packages(module.__path__, package + "."):
        print(importlib.import_module(info.name).__name__)
"""


def import_blocked(*packages: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", BLOCKED_IMPORT, *packages]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True)


def test_backends_and_metrics_import_without_engines_opencv_pyav_and_torch() -> None:
    result = import_blocked("vidperson.backends", "vidperson.metrics")
    assert result.returncode == 0, result.stderr
    assert "vidperson.backends.sets" in result.stdout and "vidperson.metrics.detection" in result.stdout


def test_blocked_import_of_a_part_that_needs_them_fails() -> None:
    assert "blocked: " in import_blocked("cv2").stderr


def pins(name: str) -> dict[str, str]:
    """Normalised name -> version of one requirements file."""
    table = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            package, version = line.split("==")
            table[re.sub(r"[-_.]+", "-", package).lower()] = version
    return table


def test_pins_of_two_files_agree() -> None:
    seen: dict[str, str] = {}
    for name in ("base", "demo", "torch", "dev"):
        for package, version in pins(name).items():
            assert seen.setdefault(package, version) == version


@pytest.mark.parametrize("name", ["base", "demo", "torch", "dev"])
def test_pins_are_complete(name: str) -> None:
    """Whatever a pinned package needs is pinned by the same file or by base.txt."""
    requirements = pytest.importorskip("packaging.requirements")
    have = pins("base") | pins(name)
    for package in pins(name):
        try:
            needs = requires(package) or []
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed here: its needs cannot be looked up")
        for text in needs:
            need = requirements.Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert re.sub(r"[-_.]+", "-", need.name).lower() in have, f"{package} needs {text}"


def test_pins_satisfy_the_bounds_of_pyproject() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {"base": project["dependencies"], **project["optional-dependencies"]}
    for name, texts in bounds.items():
        for text in texts:
            need = requirements.Requirement(text)
            version = pins(name)[re.sub(r"[-_.]+", "-", need.name).lower()]
            assert need.specifier.contains(version), f"{text}, pinned {version}"
