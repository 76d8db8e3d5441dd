#!/usr/bin/env python3
"""Gather the results of all systems and test sets into tables and one HTML report.

Inputs:
  OUTPUT_DIR/<system>/<test set>.json
      what evaluate.py and evaluate_searches.py wrote with the same options, one per system and set
  scores, data, embeddings and items
      as pick_trials.py reads them, of each embedder's first system, calibrated if any is, and
      pick_ranks.py, of its best system; sets with cast systems or with regions as pick_casts.py
  ITEMS_DIR/<part>/
      status: <segment> <state>[: <why>]; optional: the list of items, and contact_sheet.jpg
Outputs in OUTPUT_DIR:
  trials/<embedder>/<test set>.json
                 what pick_trials.py finds
  picks/<embedder>/<test set>.json
                 what pick_ranks.py finds
  casts/<test set>.json
                 or, instead, what pick_casts.py finds
  results.txt    aligned tables: a line per set and system, in the order of the test sets and
                 systems; EER in per cent
  results.md     the same tables in Markdown
  results.csv    one line per set, system and prior, at full precision (EER 0..1), with costs and
                 normalisation
  results.json   the same, and per part of stage 2 the segments that are not ok
  report.html    the tables with DET curves, histograms, calibration plots, instructive trials and
                 contact sheets, in one file that needs no network
  record.json    how all of this was made, with the hashes of scores, keys and results
The tables and the path of the report go to stdout. Equal inputs give equal bytes.

Example:
  pair="--modality face --embed-dir exp/face_embed/arcface_tiny"
  pair+=" --enroll-parts 'demo_dev_enroll_ref demo_dev_enroll_facedet'"
  pair+=" --enroll-data data/demo_dev_enroll --items-dir exp/face_det/retinaface_tiny"
  pair+=" --test-part demo_dev_test --test-data data/demo_dev_test"
  steps/make_report.py --pairs "$pair" --scores-dir exp/scores --embedders arcface_tiny \\
    --test-sets demo_dev_test --backends max --output-dir exp/results/demo
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from steps.casts import CastSearches, cues_of, read_casts
from steps.evaluate import read_pairs
from steps.evaluate_searches import read_searches, searched_by
from steps.pick_casts import PickCastsOptions, pick_casts
from steps.pick_ranks import PickRanksOptions, pick_ranks
from steps.pick_trials import PickOptions, pick_trials
from steps.score import PairOptions, SystemOptions, checked_matrices, items_of
from steps.search import SearchPairOptions, SearchSystemOptions
from vidperson import cli

if TYPE_CHECKING:
    from markupsafe import Markup

    from vidperson.backends.systems import System
    from vidperson.report.evaluation import Section
    from vidperson.report.tables import Row, Table

SHEET_WIDTH = 1400
_ABOUT = ("submean_set", "snorm_cohort", "calibrated_on", "quality_measures")
"""What parts systems of one embedder and back-end."""


@dataclass(frozen=True)
class ReportOptions:
    output_dir: Path = cli.option(help="results folder")
    pairs: list[str] = cli.option((), "a word per pair of sets and modality: its options as steps/score.py takes them")
    systems: SystemOptions = cli.group(SystemOptions)
    count: int = cli.option(6, "instructive trials of each kind", convert=cli.whole(1))
    searches: list[str] = cli.option((), "a word per searched set and modality: its options as steps/search.py takes")
    search_systems: str = cli.option("", "a word with the options of steps/search.py that say which systems search")
    casts: list[str] = cli.option((), "a word per searched set: its options as steps/search_cast.py takes")
    cast_systems: str = cli.option("", "a word with the options of steps/search_cast.py that say which systems search")
    note: str = cli.option("", "words below the title of the report")


def make_report(options: ReportOptions) -> None:
    """See the top of this file.

    Raises DataError when a system has no result for a set, or one that evaluate.py or evaluate_searches.py did not
    write, a status list is missing, or a file of stages 2 to 4 was edited; ScoringError as :func:`pick_trials`, and
    where there is neither a pair nor a search.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.record import write_record

    pairs, searches = read_pairs(options.pairs), read_searches(options.searches)
    if not pairs and not searches:
        raise ScoringError("expected --pairs or --searches, found neither")
    searching, casts = search_systems(options.search_systems), read_casts(options.casts, options.cast_systems)
    systems, test_sets = options.systems.systems(), list(dict.fromkeys(pair.test_set for pair in pairs))
    folders = [system.folder for system in systems] if pairs else []
    searched: dict[str, list[str]] = {}
    for name, system in searched_by(searching, searches):
        searched.setdefault(name, []).append(system.folder)
    for cast, system, _ in casts.searched():
        searched.setdefault(cast.test_set, []).append(system.folder)
    picks = [_pick(pair, options) for pair in pairs]
    for name in searched:
        picks += _pick_set(name, options, searching, casts)
    parts = [(pair.modality, folder) for pair in pairs for part in pair.parts if (folder := pair.items(part))]
    for pair in searches:
        names = [*pair.enroll_sets.split(), pair.test_set] if pair.items_dir else []
        parts += [(pair.modality, pair.items_dir / name) for name in names if pair.items_dir]
    found = [(modality, folder) for modality, folder in parts if (folder / "status").is_file()]
    embedders = list(dict.fromkeys([*(pair.embedder for pair in pairs), *(pair.embedder for pair in searches)]))
    outputs = write_report(options.output_dir, folders, test_sets, found, embedders, searched, options.note)
    outputs += [options.output_dir / folder / f"{name}.json" for folder in folders for name in test_sets]
    outputs += [options.output_dir / folder / f"{name}.json" for name, ours in searched.items() for folder in ours]
    inputs = [options.systems.scores(system, name) for system in systems for name in test_sets]
    inputs += [pair.trials for pair in pairs]
    inputs += [path for pair in searches for path in _search_inputs(pair, searching)]
    inputs += [path for _, _, made in casts.searched() for path in (made.ranks, made.persons, made.reasons)]
    command = ["python", "steps/make_report.py", "--systems", *folders, "--test-sets", *test_sets]
    command += ["--count", str(options.count), "--note", options.note]
    for name, ours in searched.items():
        command += ["--searched", name, *ours]
    write_record(options.output_dir, command, dict.fromkeys(inputs), dict.fromkeys([*outputs, *picks]))


def search_systems(word: str) -> SearchSystemOptions:
    """The systems that search, from their options in one word. Leaves the process with status 2 for wrong ones."""
    import shlex

    return cli.parse(SearchSystemOptions, None, shlex.split(word))


def _search_inputs(pair: SearchPairOptions, options: SearchSystemOptions) -> list[Path]:
    """The lists and the key that the results of a searched set are of."""
    lists = [path(system, pair.test_set) for system in options.systems(pair.embedder)
             for path in (options.ranks, options.persons, options.nobody)]  # fmt: skip
    lists += [options.folder(system) / "nobody.json" for system in options.systems(pair.embedder)]
    lists += [pair.test_data / name for name in ("search", "utt2group", "relevant")]
    lists += [data / "names" for data in (*pair.enrolment(), pair.test_data)]
    return [path for path in lists if path.is_file()]


def _pick(pair: PairOptions, options: ReportOptions) -> Path:
    """Pick the trials of a pair by the scores of the embedder's first system, calibrated if any is."""
    systems = [system for system in options.systems.systems() if system.embedder == pair.embedder]
    shown = next((system for system in systems if system.calibrated_on), systems[0])
    output = options.output_dir / "trials" / pair.embedder / f"{pair.test_set}.json"
    scores = options.systems.scores(shown, pair.test_set)
    on = shown.calibrated_on
    pick_trials(PickOptions(scores, shown.backend, output, pair, shown.snorm_cohort, on, options.count))
    return output


def _pick_set(name: str, options: ReportOptions, searching: SearchSystemOptions, casts: CastSearches) -> list[Path]:
    """Pick what the report shows of a searched set by all modalities; what was picked in another way is removed."""
    read = zip(options.searches, read_searches(options.searches), strict=True)
    words = [word for word, pair in read if pair.test_set == name]
    pairs = read_searches(words)
    picks = [options.output_dir / "picks" / pair.embedder / f"{name}.json" for pair in pairs]
    cast = options.output_dir / "casts" / f"{name}.json"
    ours = [found for found in casts.searched() if found[0].test_set == name]
    if not ours and not (pairs[0].test_data / "region").is_file():
        cast.unlink(missing_ok=True)
        return [_pick_search(pair, searching, options.output_dir) for pair in pairs]
    for picked in picks:
        picked.unlink(missing_ok=True)
    cues = {cue.cue: cue.modality for pair, *_ in ours for cue in cues_of(pair)}
    shown: list[tuple[System, Path, Path | None, str]]
    shown = [(system, made.ranks, made.reasons, cues["identity"]) for _, system, made in reversed(ours)]
    if not ours:
        shown = [(system, searching.ranks(system, name), None, pair.modality)
                 for pair in pairs for system in searching.systems(pair.embedder)]  # fmt: skip
    system, ranks, reasons, identity = shown[_best([one[0].folder for one in shown], name, options.output_dir)]
    pick_casts(PickCastsOptions(ranks, cast, words, identity, cues.get("appearance", ""), reasons, system.folder))
    return [cast]


def _best(systems: Sequence[str], name: str, results_dir: Path) -> int:
    """The place of the system with the highest mAP on a searched set; without a key, 0."""
    read = [_read_json(results_dir / system / f"{name}.json", "evaluate_searches.py") for system in systems]
    return max(range(len(systems)), key=lambda at: (read[at].get("mAP") or 0.0, -at))


def _pick_search(pair: SearchPairOptions, options: SearchSystemOptions, results_dir: Path) -> Path:
    """Pick the persons of a searched set by the lists of its best system; without a key, of the first."""
    systems, name = options.systems(pair.embedder), pair.test_set
    best = _best([system.folder for system in systems], name, results_dir)
    shown, output = systems[best], results_dir / "picks" / pair.embedder / f"{name}.json"
    nobody = options.nobody(shown, name) if options.calibration_set else None
    lists = options.ranks(shown, name), options.persons(shown, name)
    pick_ranks(PickRanksOptions(*lists, output, " ".join(options.members(shown)), pair, nobody, shown.folder))
    return output


def write_report(
    results_dir: Path,
    systems: Sequence[str],
    test_sets: Sequence[str],
    found: Sequence[tuple[str, Path]],
    embedders: Sequence[str] = (),
    searches: Mapping[str, Sequence[str]] = MappingProxyType({}),
    remark: str = "",
) -> list[Path]:
    """Write tables and report of the results in a folder; returns the files.

    systems: folders below ``results_dir``. found: modality and folder of each part of stage 2.
    embedders: instructive trials of these are shown. searches: searched set -> its systems' folders.
    remark: words below the title of the report. Raises DataError as :func:`make_report`.
    """
    import json

    from vidperson.io.atomic import atomic_write
    from vidperson.report import evaluation, tables
    from vidperson.report.searches import search_rows

    results: list[dict[str, Any]] = []
    searched: list[dict[str, Any]] = []
    sections: list[Section] = []
    for name in dict.fromkeys(test_sets):
        of_set, section = _set_section(results_dir, systems, name, embedders)
        results += of_set
        sections.append(section)
    for name, folders in searches.items():
        of_set, section = _search_section(results_dir, folders, name, embedders)
        searched += of_set
        sections.append(section)
    named = _named_tables(results, searched)
    gathered: dict[str, Any] = {"results": tables.result_rows(results)} if results else {}
    gathered |= {"searches": search_rows(searched)} if searched else {}
    rows = [row for kind in gathered.values() for row in kind]
    for items, parts in _by_items(found).items():
        gathered[items], table, section = _items_section(items, parts)
        named.append((f"{items.capitalize()} found", table, ""))
        sections.append(section)
    named = [(title, table, note) for title, table, note in named if table[1]]
    sections.insert(0, evaluation.Section("Results", evaluation.summary(results, searched)))
    outputs = {
        "results.txt": "\n".join(tables.text_table(each) + (note + "\n" if note else "") for _, each, note in named),
        "results.md": "\n".join(
            f"## {title}\n\n{tables.markdown_table(table)}" + (f"\n{note}\n" if note else "")
            for title, table, note in named
        ),
        "results.csv": tables.csv_table(rows),
        "results.json": json.dumps(gathered, indent=1, ensure_ascii=False) + "\n",
        "report.html": evaluation.evaluation_page(*_titles(results, searched, remark), sections),
    }
    for name, content in outputs.items():
        with atomic_write(results_dir / name) as stream:
            stream.write(content)
    print(outputs["results.txt"])
    print(f"report: {results_dir / 'report.html'}")
    return [results_dir / name for name in outputs]


def _named_tables(
    results: Sequence[dict[str, Any]], searched: Sequence[dict[str, Any]]
) -> list[tuple[str, Table, str]]:
    """Title, table and note of what is true of all sets."""
    from vidperson.report import evaluation, searches, tables

    named = []
    if results:
        named += [
            ("Results", tables.result_table(results), tables.result_note(results)),
            (evaluation.INTERVALS, tables.interval_table(results), tables.interval_note(results)),
            (evaluation.COSTS, tables.dcf_table(results), ""),
            ("Trials", tables.trial_table(results), ""),
        ]
    if searched:
        ranked, strangers = searches.map_table(searched), searches.open_set_table(searched)
        named.append(("Ranked lists", ranked, searches.map_note(searched) if ranked[1] else ""))
        named.append(("Strangers", strangers, "\n".join(searches.open_set_notes(searched))))
        named += [(title, table, "") for title, table in searches.count_tables(searched)]
    return named


def _titles(
    results: Sequence[Mapping[str, Any]], searched: Sequence[Mapping[str, Any]], note: str = ""
) -> tuple[str, str]:
    """Title and subtitle of the report, the note at the end."""
    from vidperson.report import tables

    plain = [one for one in (*results, *searched) if not tables.is_fusion(one) and "cues" not in one]
    modalities = " and ".join(dict.fromkeys(str(result["modality"]) for result in plain))
    networks = ", ".join(dict.fromkeys(str(result["system"]) for result in plain))
    tasks = " and ".join(task for task, some in (("verification", results), ("identification", searched)) if some)
    counts = []
    for some, kind in ((results, "test"), (searched, "searched")):
        systems = {(result["system"], result["backend"], *map(result.get, _ABOUT)) for result in some}
        sets = {result["name"] for result in some}
        ends = ["s" if len(each) > 1 else "" for each in (systems, sets)]
        counts += [f"{len(systems)} system{ends[0]} on {len(sets)} {kind} set{ends[1]}"] if some else []
    return f"{modalities.capitalize()} {tasks} with {networks}", ". ".join(filter(None, (", ".join(counts), note)))


def _set_section(
    results_dir: Path, systems: Sequence[str], name: str, embedders: Sequence[str]
) -> tuple[list[dict[str, Any]], Section]:
    """The results of all systems for a test set, and the part of the report about it."""
    from vidperson.errors import DataError
    from vidperson.report import evaluation, tables

    def check(result: dict[str, Any]) -> None:
        tables.result_rows([result])
        tables.label(result)

    results = _read_results(results_dir, systems, name, "evaluate.py", check)
    picked = _picks(results_dir / "trials", embedders, name, "pick_trials.py", evaluation.trials)
    try:
        part = evaluation.test_set(results, picked)
    except (KeyError, TypeError, ValueError) as error:
        every = results_dir / "*" / f"{name}.json"
        raise DataError(f"not results of evaluate.py ({error!r}); delete them or evaluate again", every) from None
    return results, evaluation.Section(f"Test set {name}", [part])


def _search_section(
    results_dir: Path, systems: Sequence[str], name: str, embedders: Sequence[str]
) -> tuple[list[dict[str, Any]], Section]:
    """The results of all systems for a searched set, and the part of the report about it."""
    from vidperson.report import casts, evaluation, searches

    def check(result: dict[str, Any]) -> None:
        searches.search_rows([result])

    results = _read_results(results_dir, systems, name, "evaluate_searches.py", check)
    picked = _picks(results_dir, ["casts"], name, "pick_casts.py", casts.cast_part)
    persons = _picks(results_dir / "picks", embedders, name, "pick_ranks.py", evaluation.ranked_persons)
    return results, evaluation.Section(f"Searched set {name}", [evaluation.searched_set(results, picked, persons)])


def _read_results(
    results_dir: Path, systems: Sequence[str], name: str, writer: str, check: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """The results of each system for a set. Raises DataError where ``check`` fails on one."""
    from vidperson.errors import DataError

    results = []
    for path in (results_dir / system / f"{name}.json" for system in dict.fromkeys(systems)):
        result = _read_json(path, writer)
        try:
            check(result)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"not a result of {writer} ({error!r}); delete it or evaluate again", path) from None
        results.append(result)
    return results


def _picks(
    folder: Path, below: Sequence[str], name: str, writer: str, show: Callable[[dict[str, Any]], Markup]
) -> list[Markup]:
    """What was picked of a set in these folders below one, where it was, as parts of the report."""
    from vidperson.errors import DataError

    parts = []
    for picked in (folder / each / f"{name}.json" for each in below):
        if picked.is_file():
            try:
                parts.append(show(_read_json(picked, writer)))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"not written by {writer} ({error!r}); delete it", picked) from None
    return parts


def _read_json(path: Path, writer: str) -> dict[str, Any]:
    """Raises DataError for a file that is not there or holds no JSON object."""
    import json

    from vidperson.errors import DataError

    if not path.is_file():
        raise DataError(f"no such result; run steps/{writer} for the set first", path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a result of {writer} ({error}); delete it or run it again", path) from None
    if not isinstance(content, dict):
        raise DataError(f"not a result of {writer}; delete it or run it again", path)
    return content


def _by_items(found: Sequence[tuple[str, Path]]) -> dict[str, list[Path]]:
    """What was found -> the folders, each once: test sets may share their enrolment set."""
    folders: dict[str, list[Path]] = {}
    for modality, folder in dict.fromkeys(found):
        folders.setdefault(items_of(modality), []).append(folder)
    return folders


def _items_section(items: str, folders: Sequence[Path]) -> tuple[list[Row], Table, Section]:
    """Statistics of all parts of stage 2 of a modality, as rows, table and section of the report."""
    from vidperson.report import evaluation, tables

    found = [_items_part(items, folder) for folder in folders]
    rows = [row for row, _ in found]
    part = evaluation.items_found(items, rows, [part for _, part in found])
    return rows, tables.status_table(rows, items), evaluation.Section(items.capitalize(), [part])


def _items_part(items: str, folder: Path) -> tuple[Row, dict[str, Any]]:
    """Statistics of a part of stage 2, and what the page shows of it."""
    from vidperson.errors import DataError
    from vidperson.io.lines import read_scp
    from vidperson.io.record import checked
    from vidperson.report import tables
    from vidperson.report.pictures import shrunken_jpeg

    statuses = read_scp(checked(folder / "status"))
    name = "/".join(folder.resolve().parts[-2:])
    count = None
    if (folder / f"{items}.scp").is_file():
        count = sum(map(len, checked_matrices(folder, items).values()))
    row = tables.status_row(name, statuses, items, count) | {"problems": tables.problems(statuses)}
    folds = []
    for state in tables.states_of(items, statuses.values())[1:]:
        listed = [
            [segment, status.partition(": ")[2] or "-"]
            for segment, status in row["problems"].items()
            if status.partition(":")[0] == state
        ]
        if listed:
            folds.append((f"{state}: {len(listed)} of {len(statuses)} segments", (["segment", "why"], listed)))
    sheet, content = folder / "contact_sheet.jpg", None
    if sheet.is_file():
        try:
            content = shrunken_jpeg(checked(sheet).read_bytes(), SHEET_WIDTH)
        except OSError as error:
            raise DataError(f"not an image ({error}); run steps/make_contact_sheet.py again", sheet) from None
    last = ", the unsure ones last" if row.get("unsure") else ""
    return row, {"name": name, "folds": folds, "sheet": content, "caption": f"Some segments of {name}{last}"}


if __name__ == "__main__":
    cli.run(make_report, ReportOptions, __doc__)
