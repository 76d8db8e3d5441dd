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
NEUTRAL = {"types", "answers", "errors", "gpu"}
EVERYTHING = {
    "__init__",
    "answers",
    "app",
    "backends",
    "body",
    "cli",
    "corpora",
    "durations",
    "embedding",
    "engines",
    "errors",
    "face",
    "gpu",
    "io",
    "media",
    "metrics",
    "networks",
    "prefetch",
    "progress",
    "report",
    "speaker",
    "supervision",
    "types",
    "who",
    "zoo",
}
MODALITY = {"networks", "media", "training", "io", "engines", "prefetch", "progress", "supervision", *NEUTRAL}
ALLOWED: dict[str, set[str]] = {
    "__init__": {"app", "errors"},
    "types": set(),
    "answers": set(),
    "errors": set(),
    "gpu": set(),
    "cli": {"errors"},
    "progress": set(),
    "prefetch": set(),
    "supervision": {"errors"},
    **dict.fromkeys(("io", "media", "engines", "backends", "metrics", "report"), NEUTRAL),
    # The record of an installed network is written and checked like all others, by io.record.
    "networks": {"engines", "io", *NEUTRAL},
    "embedding": {"io", "progress", *NEUTRAL},
    "corpora": {"io", *NEUTRAL},
    "durations": {"io", "media", "supervision", *NEUTRAL},
    "training": {"networks", "io", "cli", "progress", *NEUTRAL},
    **dict.fromkeys(("face", "speaker", "body"), MODALITY),
    # The facade and the console call what the steps call.
    **dict.fromkeys(("app", "console", "who"), EVERYTHING),
    "zoo": set(),
}
USERS = re.compile(r"(local|steps(_[a-z]+)?|tests|benchmarks)/")
# What programs of utils may import of vidperson; the others run before there is an environment.
SET_MAKERS = {
    "utils/segment_jobs.py": {"io", "errors", "supervision"},
    "utils/workers.py": {"cli", "errors", "supervision"},
}

TOP_LEVEL = re.compile(
    r"run_00[0-5]_\w+\.sh|run_01\d_train_\w+\.sh|run_015_cleanse_list\.sh|run_(demo|tests|who)\.sh|path\.sh|cmd\.sh|global_conf|local"
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
        elif parts[0] == "vidperson" and not USERS.match(path) and (parts + [""])[1] not in SET_MAKERS.get(path, set()):
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
        ("utils/segment_jobs.py", "from vidperson.networks.install import install_model"),
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
        ("utils/segment_jobs.py", "from vidperson.io.merging import merge\nfrom vidperson.errors import DataError"),
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


def test_no_media_or_checkpoint_but_networks_that_ship_and_the_page_of_drawn_persons_is_in_the_repository() -> None:
    shipped = {f"vidperson/zoo/{name}.onnx" for name in ("arcface_tiny", "body_tiny", "ecapa_tiny", "retinaface_tiny")}
    assert {name for name in tracked() if MEDIA.search(name.lower())} == shipped | {"docs/who.png"}
    assert (ROOT / "docs/who.png").stat().st_size < 50_000


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


# Code for all modalities names none outside comments and docstrings.
NEUTRAL_CODE = re.compile(r"(vidperson/(io|engines|training|networks)|utils|steps)/.*|vidperson/embedding\.py")
MODALITY_WORDS = {"face", "faces", "speaker", "speakers", "body", "bodies", "voice", "voices"}
# Names of published networks and losses; and `self.body`, as their published checkpoints call a part of the network.
PUBLISHED = re.compile(r"(retina|arc|cos|insight|mobile)face|self\.body", re.IGNORECASE)


def named_modalities(text: str) -> list[str]:
    """The words of a piece of code, parts of identifiers included, that name a modality."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", PUBLISHED.sub("", text))}
    return sorted(words & MODALITY_WORDS)


def modalities_in_python(source: str) -> list[str]:
    """Where Python names a modality; strings that are statements of their own are docstrings."""
    statements = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr))
    docstrings = {
        (node.lineno, node.col_offset)
        for node in statements
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    kinds = (tokenize.NAME, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None))
    lines, found = source.splitlines(), []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line, column = token.start
        if token.type in kinds and token.start not in docstrings:
            owner = "self." if lines[line - 1][:column].endswith("self.") else ""
            found += [f"{line}: {word}" for word in named_modalities(owner + token.string)]
    return found


def modalities_in_shell(source: str) -> list[str]:
    """Where a shell script names a modality; a comment begins with # at the start of a word."""
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in source.splitlines())
    return [f"{number}: {word}" for number, line in enumerate(lines, 1) for word in named_modalities(line)]


@pytest.mark.parametrize(
    "source",
    [
        "face_dir = 1",
        "KIND = 'face_embedder'",
        "class FaceThing: pass",
        "def read(numFaces): pass",
        "FACE_COLUMNS = 1",
        "x.body = 1",
        "f'{x}/voice'",
        "def speaker(): pass",
        "def f():\n    return 'two bodies'",
        "import vidperson.face",
        "print('''of\na\nface''')",
    ],
)
def test_modality_named_in_python_is_found(source: str) -> None:
    assert len(modalities_in_python(source)) == 1


def test_modality_in_comments_docstrings_and_published_names_is_not_found() -> None:
    source = (
        '"""Faces."""\n# a voice\nfrom x import RetinaFaceTiny, MobileFaceNet\nname = "arcface_tiny"\n'
        'LOSSES = "cosface"\n"""Of faces."""\ndef nobody(self):\n    """Of the body."""\n    self.body = 1\n'
        "surface, interface, typeface = 1, 'Bodyguard', 'invoice'\n"
    )
    assert modalities_in_python(source) == []


@pytest.mark.parametrize(
    "source", ["faces=$1", "python steps_face/x.py", 'echo "no face" # why', "echo ${speaker_embedder}"]
)
def test_modality_named_in_shell_is_found(source: str) -> None:
    assert len(modalities_in_shell(source)) == 1


def test_modality_in_comments_of_shell_is_not_found() -> None:
    assert modalities_in_shell("# a face\nx=$1  # a voice\n  # body\nmodel=${modality}_embedder; n=${#x[@]}\n") == []


def test_code_for_all_modalities_names_none() -> None:
    names = [name for name in tracked() if NEUTRAL_CODE.fullmatch(name) and name.endswith((".py", ".sh"))]
    assert len(names) > 30
    found = []
    for name in names:
        check = modalities_in_python if name.endswith(".py") else modalities_in_shell
        found += [f"{name}:{place}" for place in check((ROOT / name).read_text(encoding="utf-8"))]
    assert found == []


# -- how large things may be ----------------------------------------------------------------------------------------

MOST_LINES, MOST_PARAMETERS = 60, 10
SAME_LINES = 6


def large_functions(source: str, path: str) -> list[str]:
    """``<file>:<function>`` of those with too many lines or parameters; inner functions count for themselves, too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            count = sum(each is not None and each.arg != "self" for each in parameters)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES or count > MOST_PARAMETERS:
                found.append(f"{path}:{node.name}")
    return found


def repeated_lines(sources: dict[str, str], folder_of: dict[str, str]) -> list[str]:
    """Where SAME_LINES lines in a row are in files of two folders; lines that say little do not count.

    sources, folder_of: by file.
    """
    seen: dict[tuple[str, ...], str] = {}
    found = []
    for name, source in sources.items():
        lines = [(n, line.strip()) for n, line in enumerate(source.splitlines(), 1) if is_telling(line.strip())]
        for at in range(len(lines) - SAME_LINES + 1):
            block = tuple(line for _, line in lines[at : at + SAME_LINES])
            first = seen.setdefault(block, name)
            if folder_of[first] != folder_of[name]:
                found.append(f"{name}:{lines[at][0]}: also in {first}")
    return found


def is_telling(line: str) -> bool:
    """Whether a line without indentation is more than brackets, an import or a comment."""
    return len(line) > 5 and not line.startswith(("import ", "from ", "#"))


def lines_of(count: int) -> str:
    return "".join(f"    value_{number} = {number}\n" for number in range(count))


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n" + lines_of(60),
        "class C:\n  async def f(self):\n" + lines_of(60),
        "def f(a, b, c, d, e, f, g, h, i, j, k): pass",
        "def f(a, b, c, /, d, e, f, g, *h, i, j, **k): pass",
    ],
)
def test_function_that_is_too_large_is_found(source: str) -> None:
    assert large_functions(source, "x.py") == ["x.py:f"]


def test_function_that_is_large_enough_is_not_found() -> None:
    assert large_functions("def f(self, a, b, c, d, e, f, g, h, i, j):\n" + lines_of(59), "x.py") == []


def test_lines_repeated_in_another_folder_are_found_and_others_are_not() -> None:
    other = {"a/x.py": "a", "b/x.py": "b"}
    same = {"a/x.py": lines_of(7), "b/x.py": "import numpy\n\n" + lines_of(6).replace("    ", "")}
    assert repeated_lines(same, other) == ["b/x.py:3: also in a/x.py"]
    assert repeated_lines(same, dict.fromkeys(same, "a")) == []
    assert repeated_lines({"a/x.py": lines_of(7), "b/x.py": lines_of(5)}, other) == []
    assert repeated_lines({"a/x.py": "import numpy\n" * 9, "b/x.py": "import numpy\n" * 9}, other) == []


def test_functions_of_steps_are_small() -> None:
    names = [name for name in python_files() if re.match(r"steps(_[a-z]+)?/", name)]
    assert len(names) > 10
    found = [place for name in names for place in large_functions((ROOT / name).read_text(encoding="utf-8"), name)]
    assert found == []


def test_stage_scripts_are_short() -> None:
    stages = [name for name in tracked() if re.fullmatch(r"run_0\w+\.sh", name)]
    assert len(stages) >= 6
    long = [name for name in stages if (ROOT / name).read_text(encoding="utf-8").count("\n") > MOST_LINES]
    assert long == []


def test_modalities_do_not_repeat_each_other() -> None:
    folders = re.compile(r"steps_([a-z]+)/.*\.(py|sh)|vidperson/(face|speaker|body)/.*\.py")
    modality = {name: found[1] or found[3] for name in tracked() if (found := folders.fullmatch(name))}
    sources = {name: (ROOT / name).read_text(encoding="utf-8") for name in modality}
    assert len(sources) > 10
    assert repeated_lines(sources, modality) == []


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
    for name in ("base", "demo", "torch", "dev", "bench"):
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
