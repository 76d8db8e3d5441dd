"""The pages that users read: short lines and sentences, plain words, and nothing named that does not exist."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_README_LINES, MOST_CHARACTERS, MOST_WORDS = 120, 100, 25
LOST_WORDS = re.compile(
    r"\b(anew|mend(s|ed|ing)?|goes? on behind|stands?|stood|whose|alone|by hand|looks?|looked|pictures?"
    r"|(is|are) sound)\b",
    re.IGNORECASE,
)
FOLDERS = r"(?:\.ci|benchmarks|global_conf|local|requirements|steps(?:_\w+)?|tests|utils|vidperson)"
NAME = r"(?:[\w./*-]|\{[\w,]+\})*+(?!<)"  # with what bash makes several names of
PATH = re.compile(rf"(?:(?<![\w./<>-])|(?<=\./))({FOLDERS}/{NAME}|docs/\w+\.md|run_\w+\.sh|path\.sh|cmd\.sh)")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
# Options of programs that are not ours: pip, Slurm, Grid Engine and torchrun.
FOREIGN = {"bf16"}


def pages() -> list[Path]:
    """The Markdown files of the repository, those not yet added included."""
    call = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git repository: nothing tells which files belong to it")
    return [ROOT / name for name in sorted(done.stdout.split("\0")) if name and (ROOT / name).is_file()]


def for_users() -> list[Path]:
    """README and the pages of docs/."""
    return [page for page in pages() if page == ROOT / "README.md" or page.parent == ROOT / "docs"]


def lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Number, line, and whether it is code: between fences, the fences included."""
    code = False
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        yield number, line, code or fence
        code ^= fence


def is_table(line: str) -> bool:
    return line.lstrip().startswith("|")


def prose(text: str) -> str:
    """The text without code blocks, tables and comments; code within lines is one word, links are their texts."""
    kept = "\n".join(line for _, line, code in lines(text) if not code and not is_table(line))
    kept = re.sub(r"<!--.*?-->", "", kept, flags=re.DOTALL)
    kept = re.sub(r"`[^`]*`", "code", kept)
    return re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", kept)


def sentences(text: str) -> list[str]:
    """Of the prose: paragraphs, items of lists and headings end a sentence, too."""
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*#]|\d+\.) )", prose(text))
    return [part for block in blocks for part in re.split(r"(?<=[.!?])\s+", " ".join(block.split())) if part]


def count_words(sentence: str) -> int:
    return len([word for word in sentence.split() if re.search(r"\w", word)])


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower())
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(line.lstrip("#")) for _, line, code in lines(page.read_text()) if line.startswith("#") and not code}


def known_options() -> set[str]:
    """Options of stages (variables of the configs, and those at the top of a stage) and of our programs."""
    names: set[str] = set()
    for path in [*ROOT.glob("global_conf/*defaults.sh"), *ROOT.glob("run_*.sh")]:
        names |= set(re.findall(r"^([a-z]\w*)=", path.read_text(), re.MULTILINE))
    programs = [*ROOT.glob("utils/*"), *ROOT.glob("steps*/*"), *ROOT.glob("local/*/*"), *ROOT.glob("benchmarks/*")]
    programs += [ROOT / "vidperson" / name for name in ("app.py", "cli.py", "console.py")]
    programs += ROOT.glob("vidperson/training/*.py")
    for path in (path for path in programs if path.suffix in (".py", ".sh")):
        text = path.read_text()
        names |= set(re.findall(r"""["'( |]--([a-z][a-z0-9-]*)["') |]""", text))  # as a program asks for it
        names |= set(re.findall(r"^    (\w+): [^=\n]+ = (?:cli\.)?_?option\(", text, re.MULTILINE))
    for path in ROOT.glob("global_conf/grid/*.conf"):
        names |= set(re.findall(r"^option (\w+)=", path.read_text(), re.MULTILINE))
    return {name.replace("_", "-") for name in names} | {"help"} | FOREIGN


# --- the checks find what they look for


def test_lines_inside_fences_are_code() -> None:
    found = [(line, code) for _, line, code in lines("a\n```bash\nb\n```\nc")]
    assert found == [("a", False), ("```bash", True), ("b", True), ("```", True), ("c", False)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!\nThree", ["One.", "Two!", "Three"]),
        ("- one\n- two\n  more", ["- one", "- two more"]),
        ("a\n| x. y | z |\nb", ["a b"]),
        ("Run `a. b c` [now](x.md).", ["Run code now."]),
        ("```\nx. y\n```\nz", ["z"]),
    ],
)
def test_sentences_end_at_stops_paragraphs_and_items(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize("text", ["make it anew", "whose face", "It Stands there", "mended", "is sound", "a picture"])
def test_word_to_lose_is_found(text: str) -> None:
    assert LOST_WORDS.search(text)


def test_paths_and_options_are_found_in_commands() -> None:
    text = "python steps/score.py --mem-gb 4 exp/x local/<corpus>/prepare.sh ./run_005_eval.sh a--b"
    assert PATH.findall(text) == ["steps/score.py", "run_005_eval.sh"]
    assert OPTION.findall(text) == ["mem-gb"]


def test_known_options_are_those_of_stages_and_steps() -> None:
    known = known_options()
    assert {"config-file", "max-size", "nj", "mem", "trials", "help"} <= known and "no-such-option" not in known


# --- the pages


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_README_LINES


def test_lines_outside_tables_code_and_links_are_short() -> None:
    found = [
        f"{page.relative_to(ROOT)}:{number}: {len(line)} characters"
        for page in pages()
        for number, line, code in lines(page.read_text())
        if not code and not is_table(line) and "](" not in line and "http" not in line and len(line) > MOST_CHARACTERS
    ]
    assert found == []


def test_sentences_for_users_are_short() -> None:
    found = [
        f"{page.relative_to(ROOT)}: {count_words(sentence)} words: {sentence}"
        for page in for_users()
        for sentence in sentences(page.read_text())
        if count_words(sentence) > MOST_WORDS
    ]
    assert found == []


def test_words_to_lose_are_gone() -> None:
    found = [
        f"{page.relative_to(ROOT)}:{number}: {match[0]}"
        for page in pages()
        for number, line, code in lines(page.read_text())
        if not code
        for match in LOST_WORDS.finditer(re.sub(r"`[^`]*`", "code", line))
    ]
    assert found == []


def test_links_lead_somewhere() -> None:
    found = []
    for page in pages():
        text = "\n".join(line for _, line, code in lines(page.read_text()) if not code)
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
            if re.match(r"https?:|mailto:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                found.append(f"{page.relative_to(ROOT)}: {target}")
    assert found == []


def test_files_of_the_repository_that_are_named_exist() -> None:
    found = []
    for page in pages():
        for number, line, code in lines(page.read_text()):
            for text in [line] if code else re.findall(r"`([^`]+)`", line):
                for name in PATH.findall(text):
                    names = [name.rstrip(".,")]
                    if match := re.search(r"\{([\w,]+)\}", name):
                        names = [name.replace(match[0], part) for part in match[1].split(",")]
                    missing = [one for one in names if not any(ROOT.glob(one.rstrip("/")))]
                    found += [f"{page.relative_to(ROOT)}:{number}: {one}" for one in missing]
    assert found == []


def test_options_that_are_named_exist() -> None:
    known = known_options()
    found = [
        f"{page.relative_to(ROOT)}:{number}: --{name}"
        for page in for_users()
        for number, line, code in lines(page.read_text())
        for text in ([line] if code else re.findall(r"`([^`]+)`", line))
        for name in OPTION.findall(text)
        if name not in known
    ]
    assert found == []


# --- the example of a back-end works as the page says


def test_backend_of_the_page_is_the_mean_of_the_three_best_cosines() -> None:
    np = pytest.importorskip("numpy")
    from vidperson import backends
    from vidperson.backends import scorers

    page = (ROOT / "docs/develop.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "WholeVideo" in block)
    names = dict(vars(scorers))
    exec(textwrap.dedent("   " + code.strip()), names)
    line = re.search(r'"best3": (Backend\(.*\)),', page)
    assert line
    backend = eval(line[1], {**vars(backends), **names})

    rng = np.random.default_rng(0)
    faces, videos = rng.normal(size=(4, 8)), [rng.normal(size=(count, 8)) for count in (1, 2, 3, 9)]
    enrolment, test = (
        backends.EmbeddingSets.from_items((f"s{k}", rows.astype(np.float32)) for k, rows in enumerate(sets))
        for sets in ([faces], videos)
    )
    context = backends.Context()
    scorer = backend.scorer(backend.enrolment(enrolment, context), backend.test(test, context))
    found = backends.score_pairs(scorer, np.array([[0, video] for video in range(len(videos))]))
    mean = faces.astype(np.float32).astype(np.float64).mean(axis=0)
    for score, rows in zip(found, videos, strict=True):
        cosines = sorted(rows @ mean / np.linalg.norm(mean) / np.linalg.norm(rows, axis=1))
        assert abs(score - np.mean(cosines[-3:])) < 1e-6
