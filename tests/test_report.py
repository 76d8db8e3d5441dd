"""Tables, contact sheets and the HTML report."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import wave
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageFont
from scipy import stats

from steps.evaluate import CostOptions, evaluate_scores
from steps.make_contact_sheet import ContactSheetOptions, make_contact_sheet
from steps.make_report import ReportOptions, make_report, write_report
from steps.pick_trials import PickOptions, pick_trials
from steps.score import PairOptions, SystemOptions
from vidperson.errors import DataError
from vidperson.io.crops import TAR_END, tar_entry
from vidperson.io.matrices import matrix_bytes
from vidperson.io.record import read_record, write_record
from vidperson.report import contact_sheet, evaluation, page, plots, tables
from vidperson.report.contact_sheet import Tile, compose, decode_picture, evenly_spaced, shortened

NASTY = "<script>alert(1)</script>&\"'"  # an id that a list may hold


def jpeg(image) -> bytes:
    stream = io.BytesIO()
    Picture.fromarray(image).save(stream, "JPEG")
    return stream.getvalue()


def png(image) -> bytes:
    stream = io.BytesIO()
    Picture.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def write_face_det(folder, statuses, with_picture=("ok", "unsure", "no_face", "damaged")):
    folder.mkdir(parents=True)
    (folder / "status").write_text("".join(f"{segment} {status}\n" for segment, status in statuses.items()))
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "thumbs.tar", "w") as archive:
        for segment, status in statuses.items():
            if status.partition(":")[0] in with_picture:
                content = jpeg(np.full((180, 320, 3), rng.integers(0, 255, 3), dtype=np.uint8))
                member = tarfile.TarInfo(f"{segment}.jpg")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(3, 60, [0, 1, 2]), (9, 3, [0, 4, 8]), (5, 1, [0]), (1, 1, [0])]
)
def test_evenly_spaced_picks_first_last_and_between(count, most, expected):
    assert evenly_spaced(count, most) == expected


@pytest.mark.parametrize("count", [61, 100, 12345])
def test_evenly_spaced_many_segments_gives_distinct_positions(count):
    assert len(set(evenly_spaced(count, 60))) == 60


def test_shortened_long_id_keeps_both_ends_and_fits():
    font = ImageFont.truetype(contact_sheet._font_path(), 14)
    text = "start" + "x" * 500 + "end"
    short = shortened(text, font, 200)
    assert font.getlength(short) <= 200 and short.startswith("start") and short.endswith("end")
    assert (
        shortened("sm\N{LATIN SMALL LETTER O WITH DIAERESIS}rg", font, 200)
        == "sm\N{LATIN SMALL LETTER O WITH DIAERESIS}rg"
    )


def test_compose_tiles_stand_in_rows_of_six_and_missing_picture_is_grey():
    red = np.full((240, 320, 3), (200, 0, 0), dtype=np.uint8)
    tiles = [Tile(f"s{i}", "ok", red) for i in range(6)] + [Tile("bad", "unreadable: no video stream", None)]
    sheet = decode_picture(compose(tiles))
    step_x, step_y = 328, 292
    assert sheet.shape == (2 * step_y + 8, 6 * step_x + 8, 3)
    for i in range(6):
        np.testing.assert_allclose(sheet[8 + 120, 8 + i * step_x + 160], (200, 0, 0), atol=6)
    np.testing.assert_allclose(sheet[step_y + 30, 100], (205, 205, 205), atol=4)
    assert sheet[step_y + 8 + 60 : step_y + 8 + 100, 8:320].min() < 120, "no reason written on the grey tile"
    assert sheet[8 + 240 : 8 + 262, 8:60].min() < 100, "no id under the picture"


def test_compose_portrait_picture_keeps_its_shape():
    tall = np.full((640, 320, 3), (0, 0, 200), dtype=np.uint8)
    sheet = decode_picture(compose([Tile("tall", "ok", tall)]))
    blue = (np.abs(sheet.astype(int) - (0, 0, 200)) < 30).all(axis=2)
    assert abs(blue[128].sum() - 120) <= 2


def test_make_contact_sheet_more_segments_than_asked_shows_evenly_spaced_ones(tmp_path, caplog):
    folder = tmp_path / "mnet/set"
    statuses = {f"dir/seg{i:03d}": "unreadable: zero bytes" if i % 7 == 3 else "ok" for i in range(50)}
    write_face_det(folder, statuses)
    sheet = folder / "contact_sheet.jpg"
    make_contact_sheet(ContactSheetOptions(folder, 8))
    content = sheet.read_bytes()
    assert decode_picture(content).shape == (2 * 292 + 8, 6 * 328 + 8, 3)
    written = sheet.stat().st_mtime_ns
    make_contact_sheet(ContactSheetOptions(folder, 8))
    assert sheet.stat().st_mtime_ns == written  # kept
    sheet.write_bytes(content[:-1])
    make_contact_sheet(ContactSheetOptions(folder, 8))
    assert sheet.read_bytes() == content
    made = ["contact_sheet.jpg", "contact_sheet.jpg.record.json"]
    assert sorted(path.name for path in folder.iterdir()) == [*made, "status", "thumbs.tar"]


@pytest.mark.parametrize("break_it", ["no tar", "cut tar", "damaged picture", "no segments", "edited"])
def test_make_contact_sheet_broken_input_raises_and_writes_nothing(tmp_path, break_it):
    folder = tmp_path / "set"
    write_face_det(folder, {"a": "ok", "b": "ok"})
    tar = folder / "thumbs.tar"
    if break_it == "no tar":
        tar.unlink()
    elif break_it == "cut tar":
        tar.write_bytes(tar.read_bytes()[:700])
    elif break_it == "damaged picture":
        tar.write_bytes(tar.read_bytes().replace(b"\xff\xd8", b"\0\0"))
    elif break_it == "no segments":
        (folder / "status").write_text("")
    elif break_it == "edited":
        write_record(folder, ["stage 2"], [], [folder / "status", tar])
        (folder / "status").write_text("a no_face\n")
    with pytest.raises(DataError):
        make_contact_sheet(ContactSheetOptions(folder))
    assert not (folder / "contact_sheet.jpg").exists()


def test_make_contact_sheet_of_no_segments_is_refused_by_its_command_line(repo, tmp_path):
    command = [sys.executable, repo / "steps/make_contact_sheet.py", f"--items-dir={tmp_path}", "--max-segments=0"]
    done = subprocess.run(command, env={"PYTHONPATH": str(repo)}, capture_output=True, text=True)
    assert done.returncode == 2 and "expected a whole number from 1 on, found 0" in done.stderr


class Page(HTMLParser):
    """Collects tags and text, and that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open, self.links = [], "", [], []
        self.feed(str(text))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "link", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data


SETS = ["dev_test", "eval_test", "nokey_test"]
SYSTEMS = {
    "max": {"backend": "max"},
    "max_cal": {"backend": "max", "calibrated_on": "dev_test"},
    "ahc_snorm": {"backend": "ahc", "snorm_cohort": "dev_test"},
}
TRIALS = [
    (f"m{m}", f"{NASTY if v == 7 else f'v{v}'}", "target" if m == v % 5 else "nontarget")
    for m in range(5)
    for v in range(30)
]


def write_matrices(path, matrices):
    """A Kaldi archive with its scp."""
    path.parent.mkdir(parents=True, exist_ok=True)
    offset, lines, content = 0, [], b""
    for key, matrix in matrices.items():
        entry = matrix_bytes(key, matrix)
        lines.append(f"{key} {path}:{offset + len(key.encode()) + 1}\n")
        offset += len(entry)
        content += entry
    path.write_bytes(content)
    path.with_suffix(".scp").write_text("".join(lines))


def write_faces(work, part, embeddings, shade):
    """Stages 2 and 3 of a part: segment -> (N, dim) embeddings; the crop of row i is of the grey shade + i."""
    write_matrices(work / f"embed/net/{part}/embed.ark", embeddings)
    root = work / "items" / part
    rows = {key: np.zeros((len(m), 17), np.float32) for key, m in embeddings.items()}
    for matrix in rows.values():
        matrix[:, 1] = np.arange(len(matrix)) + 0.5
    write_matrices(root / "faces.ark", rows)
    content, lines = b"", []
    for key, matrix in embeddings.items():
        if len(matrix):
            lines.append(f"{key} {root}/crops.tar:{len(content)}\n")
        for i in range(len(matrix)):
            content += tar_entry(f"{key}/{i}.png", png(np.full((112, 112, 3), shade + 10 * i, np.uint8)))
    (root / "crops.tar").write_bytes(content + TAR_END)
    (root / "crops.scp").write_text("".join(lines))


def pair_of(work, test_set, enroll_parts="enrol", modality="face"):
    """The pair of sets that write_faces wrote."""
    data = work / "data"
    return PairOptions(
        modality, work / "embed/net", enroll_parts, data / "enrol", "test", data / test_set, work / "items"
    )


@pytest.fixture
def results(tmp_path):
    """Three systems on two keyed sets and one without a key, with faces; a detected set with every state."""
    folder = tmp_path / "results/x"
    rng = np.random.default_rng(5)
    write_faces(tmp_path, "enrol", {f"m{m}-a": rng.normal(size=(2, 8)) for m in range(5)}, 100)
    write_faces(tmp_path, "test", {segment: rng.normal(size=(3, 8)) for segment in {t[1] for t in TRIALS}}, 20)
    for name in ("enrol", *SETS):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data/enrol/spk2utt").write_text("".join(f"m{m} m{m}-a\n" for m in range(5)))
    for name, columns in (("dev_test", 3), ("eval_test", 3), ("nokey_test", 2)):
        trials = tmp_path / "data" / name / "trials"
        trials.write_text("".join(" ".join(pair[:columns]) + "\n" for pair in TRIALS))
        for system, about in SYSTEMS.items():
            scores = rng.normal([0.6 if pair[2] == "target" else 0.1 for pair in TRIALS], 0.15)
            path = tmp_path / "scores" / system / f"{name}_scores"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{p[0]} {p[1]} {s!r}\n" for p, s in zip(TRIALS, scores.tolist(), strict=True)))
            about = {"modality": "face", "system": NASTY, "snorm_cohort": None, "calibrated_on": None, **about}
            output = folder / system / f"{name}.json"
            evaluate_scores(path, trials, output, about, CostOptions("0.05 0.01"))
        output = folder / f"trials/net/{name}.json"
        pick_trials(PickOptions(path, output=output, pair=pair_of(tmp_path, name), **SYSTEMS["ahc_snorm"]))
    statuses = {
        "a": "ok",
        NASTY: "no_face",
        "c": "damaged: 3 frames lost",
        "d": f"unreadable: {NASTY}",
        "e": "ok",
        "f": "unsure: best face 0.43, det_threshold is 0.9",
    }
    faces = tmp_path / "face_det/mnet/eval"
    write_face_det(faces, statuses)
    write_matrices(faces / "faces.ark", {key: np.zeros((4 if key in "ae" else 0, 17)) for key in statuses})
    make_contact_sheet(ContactSheetOptions(faces))
    return folder, faces


def report(folder, systems, sets, *faces):
    return write_report(folder, systems, sets, [("face", part) for part in faces], ["net"])


def test_make_report_several_systems_writes_tables_that_agree(results, capsys):
    folder, faces = results
    report(folder, list(SYSTEMS), SETS, faces)
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    about = [(row["set"], row["backend"], row["snorm_cohort"], row["calibrated_on"], row["prior"]) for row in rows]
    assert about[:3] == [
        ("dev_test", "max", "", "", "0.05"),
        ("dev_test", "max", "", "", "0.01"),
        ("dev_test", "max", "", "dev_test", "0.05"),
    ]
    assert about[6] == ("eval_test", "max", "", "", "0.05") and about[-1] == ("nokey_test", "ahc", "dev_test", "", "")
    assert len(about) == 2 * 3 * 2 + 3
    gathered = json.loads((folder / "results.json").read_text())
    for row, again in zip(rows, gathered["results"], strict=True):
        assert {key: "" if value is None else str(value) for key, value in again.items()} == row
    source = json.loads((folder / "ahc_snorm/eval_test.json").read_text())
    assert float(rows[10]["eer"]) == source["eer"] and float(rows[11]["act_dcf"]) == source["dcf"][1]["act"]
    assert float(rows[10]["min_cprimary"]) == source["primary"]["min"] and float(rows[10]["cllr"]) == source["cllr"]
    assert rows[0]["c_miss"] == rows[0]["c_fa"] == "1.0" and "min(P" in rows[0]["normalisation"]
    counts = {"segments": 6, "faces": 8, "ok": 2, "unsure": 1, "no_face": 1, "damaged": 1, "unreadable": 1}
    assert gathered["faces"][0] | counts == gathered["faces"][0] and list(gathered["faces"][0]["problems"]) == [
        NASTY,
        "c",
        "d",
        "f",
    ]
    markup = Page((folder / "report.html").read_text()).text
    assert "unsure: 1 of 6 segments" in markup and "best face 0.43, det_threshold is 0.9" in markup
    assert "Some segments of mnet/eval, the unsure ones last" in markup
    text = (folder / "results.txt").read_text()
    assert f"{100 * source['eer']:.3f}" in text and "mnet/eval" in text
    printed = capsys.readouterr().out
    assert text in printed and str(folder / "report.html") in printed


HAND_MADE = {
    "name": "eval", "modality": "face", "system": "net|1",
    "backend": "ahc", "snorm_cohort": "coh", "calibrated_on": "dev", "has_key": True,
    "num_trials": 30, "num_targets": 10, "num_nontargets": 20, "eer": 0.0625, "cllr": 0.25, "min_cllr": 0.2,
    "c_miss": 1.0, "c_fa": 1.0, "normalisation": "min(...)",
    "primary": {"definition": "sre21", "priors": [0.01, 0.05], "partitions": ["x", "y"], "min": 0.1, "act": 0.125},
    "dcf": [{"prior": 0.05, "min": 0.5, "act": 0.75}],
}  # fmt: skip
NO_KEY = {
    "name": "blind", "modality": "face", "system": "net|1", "backend": None, "snorm_cohort": None,
    "calibrated_on": None, "has_key": False, "num_trials": 7,
}  # fmt: skip


def test_tables_of_hand_made_results_are_those_written_by_hand():
    text = tables.text_table(tables.result_table([HAND_MADE, HAND_MADE | {"name": "dev"}, NO_KEY]))
    assert (
        text
        == """\
set    system  back-end  s-norm  calibrated  EER %  min Cp  act Cp  min Cllr    Cllr
eval   net|1   ahc       yes     yes         6.250  0.1000  0.1250    0.2000  0.2500
dev    net|1   ahc       yes     on itself   6.250  0.1000  0.1250    0.2000  0.2500
blind  net|1   -         no      no              -       -       -         -       -
"""
    )
    assert (
        tables.markdown_table(tables.dcf_table([HAND_MADE, NO_KEY]))
        == """\
| set | system | back-end | s-norm | calibrated | min DCF 0.05 | act DCF 0.05 |
|---|---|---|---|---|--:|--:|
| eval | net\\|1 | ahc | yes | yes | 0.5000 | 0.7500 |
"""
    )
    assert tables.trial_table([HAND_MADE, HAND_MADE, NO_KEY])[1] == [
        ["eval", "30", "10", "20"],
        ["blind", "7", "-", "-"],
    ]
    note = tables.result_note([HAND_MADE, NO_KEY])
    for part in (
        "sre21: the mean of the DCF at P = 0.01 and 0.05, partitions of equal weight",
        "faces of coh",
        "on dev",
    ):
        assert part in note
    assert tables.label(HAND_MADE) == "ahc, s-norm, calibrated" and tables.label(NO_KEY) == "net|1"
    assert tables.label(HAND_MADE | {"backend": "fusion", "snorm_cohort": None}) == "fusion"


def test_make_report_detected_set_given_twice_is_shown_once(results):
    folder, faces = results
    report(folder, ["max"], SETS, faces, faces)
    assert len(json.loads((folder / "results.json").read_text())["faces"]) == 1


def test_make_report_html_parses_needs_no_network_and_escapes_names(results):
    folder, faces = results
    report(folder, list(SYSTEMS), SETS, faces)
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert page.tags.count("script") == 1 and "alert(1)</script>" not in html
    assert NASTY in page.text and "3 frames lost" in page.text and "dev_test" in page.text
    images = [link for link in page.links if link.startswith("data:image/")]
    assert {link for link in page.links if link not in images} == {
        "data:,",
        "#content",
        *(f"#part{i}" for i in range(5)),
    }
    markup = re.sub(r"base64,[A-Za-z0-9+/=]*", "", html)
    assert "://" not in markup and "url(" not in markup and "@import" not in markup
    pictures = [decode_picture(base64.b64decode(link.partition(",")[2])) for link in images]
    # Faces of six and six trials of two sets with a key and six of the other, a contact sheet.
    assert len(pictures) == 2 * (12 + 12 + 6) + 1 and all(picture.size for picture in pictures)
    assert html.count('<figure class="plot') == 2 * (1 + 2 * len(SYSTEMS))  # curves of a set, two plots of each system


def test_make_report_shows_the_best_system_of_each_set_first_and_folds_the_others(results):
    folder, faces = results
    report(folder, list(SYSTEMS), SETS, faces)
    markup = (folder / "report.html").read_text()
    listed = {name: [] for name in SETS}
    for path in folder.glob("*/*_test.json"):
        result = json.loads(path.read_text())
        if result.get("has_key"):
            listed[path.stem].append((result["primary"]["min"], result["eer"], result["primary"]["act"], result))
    summary, *sections = markup.replace("<wbr>", "").split("<section ")[1:]
    for section, name in zip(sections, SETS[:2], strict=False):
        *_, best = min(listed[name], key=lambda found: found[:3])
        label = tables.label(best)
        assert f"Best system: <b>{label}</b>" in section
        before = section.partition("<details")[0]
        assert f"Scores of {label}" in before and before.count('<figure class="plot') == 3
        others = section.partition("Plots of the other systems: 2")[2]
        assert others.count('<figure class="plot') == 4 and f'"Scores of {label}"' not in others
        assert ("(on itself)" in section) == (name == "dev_test")
        row = [name, label, f"{100 * best['eer']:.3f}", f"{best['primary']['min']:.4f}"]
        assert all(f">{text}</t" in summary for text in row)
    assert "nokey_test has no key" in summary and ">nokey_test<" not in summary
    assert "<caption><span>The best system of each test set" in summary
    assert '<th scope="row"' in summary and '<th scope="col"' in summary


def test_make_report_run_again_gives_equal_bytes_and_does_not_read_its_own_output(results):
    folder, faces = results
    outputs = ("results.txt", "results.md", "results.csv", "results.json", "report.html")
    report(folder, list(SYSTEMS), SETS, faces)
    first = [(folder / name).read_bytes() for name in outputs]
    report(folder, list(SYSTEMS), SETS, faces)
    assert [(folder / name).read_bytes() for name in outputs] == first


def test_make_report_without_detected_sets_contact_sheet_or_trials_still_reports(results):
    folder, faces = results
    (faces / "contact_sheet.jpg").unlink()
    (faces / "faces.scp").unlink()
    for path in (folder / "trials/net").iterdir():
        path.unlink()
    report(folder, ["max"], SETS, faces)
    markup = (folder / "report.html").read_text()
    assert "<img" not in markup and markup.count('<figure class="plot') == 2 * 3
    assert json.loads((folder / "results.json").read_text())["faces"][0]["faces"] is None
    report(folder, ["max"], SETS)
    assert "Faces" not in Page((folder / "report.html").read_text()).text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x", "system": "y", "num_trials": 1, "has_key": true}'])
def test_make_report_json_that_is_no_result_raises_naming_the_file(results, content):
    folder, _ = results
    (folder / "max/other.json").write_text(content)
    with pytest.raises(DataError, match=r"max/other\.json: not a result"):
        report(folder, ["max"], ["other"])
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"backend": "max", "groups": 5}'])
def test_make_report_json_that_holds_no_trials_raises_naming_the_file(results, content):
    folder, _ = results
    (folder / "trials/net/eval_test.json").write_text(content)
    with pytest.raises(DataError, match=r"trials/net/eval_test\.json: not (a result of|written by) pick_trials"):
        report(folder, ["max"], ["eval_test"])


def test_make_report_set_that_was_not_evaluated_raises_naming_its_file(results):
    folder, _ = results
    with pytest.raises(DataError, match=r"max_cal/missing\.json: no such result"):
        report(folder, ["max_cal"], ["missing"])


def test_make_report_leaves_out_results_that_were_not_asked_for(results):
    folder, _ = results
    report(folder, ["max_cal"], ["eval_test"])
    rows = json.loads((folder / "results.json").read_text())["results"]
    assert {(row["set"], row["calibrated_on"]) for row in rows} == {("eval_test", "dev_test")}


def test_tables_of_several_modalities_have_a_column_that_says_which():
    body = HAND_MADE | {"modality": "body", "system": "walk"}
    fused = HAND_MADE | {"modality": "face + body", "system": "net|1 + walk", "backend": "fusion", "snorm_cohort": None}
    results = [HAND_MADE, body, fused]
    head, lines = tables.result_table(results)
    assert head[:3] == ["set", "modality", "system"]
    assert [line[1:4] for line in lines] == [
        ["face", "net|1", "ahc"], ["body", "walk", "ahc"], ["face + body", "net|1 + walk", "fusion"],
    ]  # fmt: skip
    assert tables.dcf_table(results)[0][:3] == ["set", "modality", "system"]
    assert list(tables.result_rows(results)[0])[:3] == ["set", "modality", "system"]
    assert (
        "modality" not in tables.result_table([HAND_MADE])[0] and "modality" not in tables.result_rows([HAND_MADE])[0]
    )
    assert tables.label(body, with_system=True) == "walk ahc, s-norm, calibrated"


def test_report_of_several_modalities_counts_what_each_found_and_names_both(results, tmp_path):
    folder, faces = results
    for path in (folder / "max").iterdir():
        result = json.loads(path.read_text()) | {"modality": "body", "system": "walk"}
        (folder / "body" / path.name).parent.mkdir(exist_ok=True)
        (folder / "body" / path.name).write_text(json.dumps(result))
    write_face_det(tmp_path / "body_det/boxes/eval", {"a": "ok"})
    found = [("face", faces), ("body", tmp_path / "body_det/boxes/eval")]
    write_report(folder, ["max", "body"], SETS, found, ["net"])
    gathered = json.loads((folder / "results.json").read_text())
    assert [row["set"] for row in gathered["faces"]] == ["mnet/eval"]
    assert [row["set"] for row in gathered["bodies"]] == ["boxes/eval"]
    page = Page((folder / "report.html").read_text())
    assert f"Face and body verification with {NASTY}, walk" in page.text and "walk max" not in page.text
    assert "Bodies found" in (folder / "results.md").read_text()


@pytest.fixture
def experiment(results, tmp_path):
    """The options of a report on one embedder whose results are those of `results`."""
    folder, _ = results
    for system in ("max", "max_cal"):
        (folder / "net").mkdir(exist_ok=True)
        shutil.copytree(folder / system, folder / "net" / system)
        shutil.copytree(tmp_path / "scores" / system, tmp_path / "scores/net" / system)
    data = tmp_path / "data"
    parts = f"--enroll-parts enrol --enroll-data {data}/enrol --test-part test --test-data {data}"
    pairs = [
        f"--modality face --embed-dir {tmp_path}/embed/net --items-dir {tmp_path}/items {parts}/{name}" for name in SETS
    ]
    systems = SystemOptions(
        scores_dir=tmp_path / "scores", embedders="net", test_sets=" ".join(SETS), calibration_set="dev_test"
    )
    return ReportOptions(folder, pairs, systems)


def test_make_report_picks_trials_of_the_calibrated_system_and_records_scores_and_results(experiment, tmp_path):
    make_report(experiment)
    folder = experiment.output_dir
    assert json.loads((folder / "trials/net/eval_test.json").read_text())["calibrated_on"] == "dev_test"
    record = read_record(folder)
    assert record is not None
    assert {f"net/{system}/{name}.json" for system in ("max", "max_cal") for name in SETS} <= record.outputs.keys()
    assert {"results.txt", "results.csv", "results.json", "report.html"} <= record.outputs.keys()
    assert str(tmp_path / "scores/net/max_cal/eval_test_scores") in record.inputs
    assert str(tmp_path / "data/eval_test/trials") in record.inputs


def test_make_report_of_edited_scores_or_statuses_is_refused_by_name(experiment, tmp_path):
    write_face_det(tmp_path / "items/other", {"a": "ok"})
    shutil.copy(tmp_path / "items/other/status", tmp_path / "items/test/status")
    faces = tmp_path / "items/test"
    write_record(faces, ["stage 2"], [], [faces / name for name in ("status", "faces.ark", "faces.scp", "crops.scp")])
    make_report(experiment)
    (faces / "status").write_text("a no_face\n")
    with pytest.raises(DataError, match="items/test: expected status as it was written, found other bytes"):
        make_report(experiment)
    scores = tmp_path / "scores/net/max_cal/dev_test_scores"
    write_record(scores, ["stage 4"], [], [scores])
    scores.write_text(scores.read_text()[:-2] + "\n")
    with pytest.raises(DataError, match="max_cal/dev_test_scores: expected SHA-256"):
        make_report(experiment)


def test_folded_long_list_is_cut_off_and_says_so():
    lines = [[f"s{i}", "-"] for i in range(tables.MOST_LISTED + 5)]
    part = {"name": "set", "folds": [("no_face", (["segment", "why"], lines))], "sheet": None, "caption": ""}
    markup = evaluation.items_found("faces", [], [part])
    assert markup.count("<td") == tables.MOST_LISTED and "first 1000 of 1005; results.json has all" in markup


def points_of(path):
    """The corners of a line of SVG."""
    assert re.fullmatch(r"M-?[\d.]+ -?[\d.]+(L-?[\d.]+ -?[\d.]+)*(h0)?", path), path
    return np.array(
        [[float(value) for value in pair.split()] for pair in re.split("[ML]", path.removesuffix("h0"))[1:]]
    )


def test_det_plot_has_the_rates_on_normal_deviates_and_equal_curves_once():
    rates = {"p_miss": [0.3, 0.2, 0.1, 0.02], "p_fa": [0.01, 0.05, 0.1, 0.3]}
    plot = plots.det_plot({"one <b>": rates, "same": rates, "worse": {"p_miss": [0.4, 0.25], "p_fa": [0.2, 0.3]}}, "t")
    assert [curve.name for curve in plot.curves] == ["one <b> = same", "worse"]
    assert plot.curves[0].kind != plot.curves[1].kind and "best" in plot.curves[0].kind
    low, high = stats.norm.ppf([0.004, 0.6])
    expected = 330 * (stats.norm.ppf([rates["p_fa"], rates["p_miss"]]) - low) / (high - low)
    np.testing.assert_allclose(points_of(plot.curves[0].path).T, [expected[0], 330 - expected[1]], atol=0.06)
    assert [text for _, text in plot.x.ticks] == ["0.5", "2", "5", "10", "20", "40", "60"] and plot.x.size == 330
    root = ElementTree.fromstring(page.environment().get_template("macros.html.j2").module.plot(plot, "caption"))
    assert [key.text for key in root.iterfind(".//li[@class='key']/span")] == ["one <b> = same", "worse"]


def test_histogram_plot_has_the_share_of_each_bin_and_says_where_thresholds_are():
    histogram = {"edges": [-1.0, 0.0, 1.0], "targets": [0, 3], "nontargets": [6, 2]}
    plot = plots.histogram_plot(histogram, [-2.0, 0.5, 3.0], "t")
    nontargets, targets = (points_of(curve.path) for curve in plot.curves)
    heights = 120 * (1 - nontargets[:, 1] / 180)  # the highest bin has all targets: 100 %, and there is room above
    np.testing.assert_allclose(heights, [0, 75, 75, 25, 25, 0], atol=0.1)
    np.testing.assert_allclose(nontargets[:, 0], [0, 0, 150, 150, 300, 300])
    assert targets[:, 1].min() == pytest.approx(180 * (1 - 100 / 120))
    assert [mark.at for mark in plot.marks] == [225]
    arrow = " \N{RIGHTWARDS ARROW}"
    assert [(note.anchor, note.text.removesuffix(arrow)[-5:]) for note in plot.notes] == [
        ("start", "-2.00"),
        ("end", " 3.00"),
    ]


def test_plots_without_errors_with_one_bin_or_many_systems_are_drawn():
    perfect = {"p_miss": [0.0, 0.0, 1.0], "p_fa": [1.0, 0.0, 0.0]}
    useless = {"p_miss": [0.0, 1.0], "p_fa": [1.0, 0.0]}
    many = {f"s{i}": {"p_miss": [0.0, i / 100], "p_fa": [1.0, i / 100]} for i in range(1, 33)}
    assert len({curve.kind for curve in plots.det_plot(many, "t").curves}) == 32  # each is told from the others
    for curves in ({"perfect": perfect}, {"same": useless, "again": useless}):
        plot = plots.det_plot(curves, "t")
        assert [len(points_of(curve.path)) >= 2 for curve in plot.curves] == [True]
        assert bool(plot.notes) == ("perfect" in curves), "a curve outside of the axes is not told of"
    empty = {"edges": [0.0, 1.0], "targets": [0], "nontargets": [0]}
    assert plots.histogram_plot(empty, (), "t").y.ticks
    flat = {"log_odds": [-1.0, 1.0], "min": [0.0, 0.0], "act": [0.0, 1e9]}
    assert points_of(plots.calibration_plot(flat, [0.5, 7.0], "t").curves[0].path)[0].tolist() == [0.0, 175.3]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-7.3, 10.9, [-5, 0, 5, 10]),
        (0.0021, 0.0043, [0.0025, 0.003, 0.0035, 0.004]),
    ],
)
def test_round_values_are_few_and_within(low, high, expected):
    assert plots.round_values(low, high) == pytest.approx(expected)


def pick(tmp_path, scores, trials, count=2, enroll_parts="enrol", **about):
    for name in ("enrol", "tested"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "scores").write_text(scores)
    (tmp_path / "data/tested/trials").write_text(trials)
    (tmp_path / "data/enrol/spk2utt").write_text("m m-a m-b\nn n-a\n")
    output = tmp_path / "picked.json"
    pair = pair_of(tmp_path, "tested", enroll_parts)
    pick_trials(PickOptions(tmp_path / "scores", output=output, pair=pair, count=count, **{"backend": "max", **about}))
    return json.loads(output.read_text())


def shown_trials(*picked):
    """Trials as the page shows them."""
    return page.part("trials.html.j2", heading="", why="", groups={"some": picked})


def shade(face):
    """Grey value of a face's picture."""
    return round(float(decode_picture(base64.b64decode(face["jpeg"])).mean()))


@pytest.fixture
def small_faces(tmp_path):
    """Model m with two segments, n with none but in the fallback; test x with three faces, y with one, z with none."""
    x, y = np.eye(4)[0], np.eye(4)[1]
    write_faces(tmp_path, "enrol", {"m-a": np.stack([y, y]), "m-b": np.stack([y, 3 * x]), "n-a": np.zeros((0, 4))}, 100)
    write_faces(tmp_path, "fallback", {"n-a": np.stack([x + y, y, -y]), "m-a": np.stack([x, x])}, 150)
    write_faces(tmp_path, "test", {"x": np.stack([-x, y + x, 2 * x]), "y": y[None], "z": np.zeros((0, 4))}, 20)
    return tmp_path


def test_pick_trials_finds_highest_nontargets_lowest_targets_and_the_faces_that_are_most_alike(small_faces):
    trials = "m x nontarget\nm y nontarget\nm z target\nn x target\nn y nontarget\nn z target\n"
    picked = pick(
        small_faces, "n z 0\nm x 1\nm y 0.5\nm z 0\nn x -1\nn y 0.75\n", trials, enroll_parts="enrol fallback"
    )
    groups = {
        title: [(t["model"], t["segment"], t["score"]) for t in group] for title, group in picked["groups"].items()
    }
    assert groups == {
        "highest non-targets": [("m", "x", 1), ("n", "y", 0.75)],
        "lowest targets": [("n", "x", -1), ("m", "z", 0)],  # of equal scores the first in the list
    }
    assert picked["pair_gave_score"]
    best = picked["groups"]["highest non-targets"][0]
    assert best["cosine"] == pytest.approx(1) and best["why"] is None
    assert (best["enrolment"]["segment"], best["enrolment"]["time_s"], shade(best["enrolment"])) == ("m-b", 1.5, 110)
    assert (best["test"]["segment"], best["test"]["time_s"], shade(best["test"])) == ("x", 2.5, 40)
    fallen_back = picked["groups"]["lowest targets"][0]
    assert fallen_back["enrolment"]["segment"] == "n-a" and shade(fallen_back["enrolment"]) == 150
    assert shade(fallen_back["test"]) == 30
    assert fallen_back["mean_enrolled"] and not best["mean_enrolled"]
    assert "the mean of all" in shown_trials(fallen_back) and "the mean of all" not in shown_trials(best)
    assert picked["groups"]["lowest targets"][1]["why"] == "no face in the test video"


def test_pick_trials_without_key_fallback_and_crops_says_so_in_place(small_faces):
    for missing in ("test/crops.scp", "enrol/faces.scp"):
        (small_faces / "items" / missing).unlink()
    tar = small_faces / "items/enrol/crops.tar"
    tar.write_bytes(tar.read_bytes()[:300])
    picked = pick(small_faces, "m x 1\nm y 0.5\nn z 9\nn y 3\n", "m x\nm y\nn z\nn y\n", 3, snorm_cohort="dev")
    assert list(picked["groups"]) == ["highest scores"] and not picked["pair_gave_score"]
    both, one, pair = picked["groups"]["highest scores"]
    assert both["why"] == "no face in the enrolment and the test video" and both["enrolment"] is None
    assert one["why"] == "no face in the enrolment" and one["cosine"] is None
    assert "crops are missing" in pair["test"]["why"] and pair["test"]["jpeg"] is None
    assert "cannot be read" in pair["enrolment"]["why"] and pair["enrolment"]["time_s"] is None
    markup = shown_trials(*picked["groups"]["highest scores"])
    assert "crops are missing" in markup and "no face in the enrolment" in markup and "<img" not in markup


def test_report_in_a_browser_sorts_folds_hides_curves_and_asks_for_nothing(results, browser):
    folder, faces = results
    report(folder, list(SYSTEMS), SETS, faces)
    page = browser.open(folder / "report.html")
    assert page.troubles() == page.broken_images() == page.findings() == [] and not page.is_wide()
    assert page.count("details figure.plot") == 0, "the plots of other systems are there before one asks for them"
    page.click("#part1 summary", 1)
    page.click("#part1 details details summary")
    assert page.count("#part1 details figure.plot") == 2
    page.click("#part1 summary")
    table = "#part1 details table"
    eer = f"[...document.querySelector('{table}').tBodies[0].rows].map(row => row.cells[1].textContent)"
    numbers = [float(value) for value in page.value(eer)]
    for order in (False, True):
        page.click(f"{table} th:nth-child(2) button")
        assert [float(value) for value in page.value(eer)] == sorted(numbers, reverse=order) and len(numbers) == 3
    key = "#part1 .chosen .key button"
    page.click(key)
    curves = "[...document.querySelectorAll('#part1 .chosen g[data-curve]')]"
    hidden = f"{curves}.map(curve => getComputedStyle(curve).display === 'none')"
    assert page.value(hidden)[0] and page.value(f"document.querySelector('{key}').ariaPressed") == "false"
    page.click(key)
    assert not any(page.value(hidden))
    page.close()


def test_search_in_a_browser_finds_accents_in_either_form(browser, tmp_path):
    macros = page.environment().get_template("macros.html.j2").module
    table = macros.searchable("Persons", (["person"], [["Zoe\u0308"], ["Bob"]]), 2, "results.json")
    path = tmp_path / "report.html"
    path.write_text(evaluation.evaluation_page("t", "s", [evaluation.Section("one", [table])]))
    opened = browser.open(path)
    opened.type(".searchable input", "zo\u00eb")
    assert opened.texts("tbody th") == ["Zoe\u0308"]
    opened.close()


def test_report_in_a_browser_is_narrow_dark_and_on_paper_all_there(results, browser):
    folder, faces = results
    report(folder, list(SYSTEMS), SETS, faces)
    page = browser.open(folder / "report.html", width=400, dark=True)
    assert page.findings() == [] and not page.is_wide()
    smallest = "Math.min(...[...document.querySelectorAll('.plot text')].filter(t => t.checkVisibility())"
    assert page.value(f"{smallest}.map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a))") > 10
    page.show(dark=True, media="print")
    page.resize(718)  # A4 less its margins
    wide = (
        "[...document.querySelectorAll('table, figure, img')].filter(e => e.getBoundingClientRect().right > 719).length"
    )
    assert page.value(wide) == 0 and page.count("details figure.plot") == 2 * 2 * 2
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert "best face 0.43, det_threshold is 0.9" in page.text("main")
    page.close()


@pytest.fixture
def voices(tmp_path):
    """Model m is enrolled by a tone of 1 kHz after a second of silence; test x is a click, y no sound, z not there."""
    one, other = np.eye(4, dtype=np.float32)[:2]
    write_matrices(tmp_path / "embed/net/enrol/embed.ark", {"m-a": one[None], "m-b": other[:0, None].reshape(0, 4)})
    embedded = {"x": one[None], "y": other[None], "z": one[None] + other}
    write_matrices(tmp_path / "embed/net/test/embed.ark", embedded)
    stretches = np.array([[1, 3, -9, 40, 0, 1], [5, 6, -12, 40, 0, 1]], np.float32)
    write_matrices(tmp_path / "items/enrol/speech.ark", {"m-a": stretches, "m-b": stretches[:0]})
    write_matrices(tmp_path / "items/test/speech.ark", dict.fromkeys(embedded, stretches[:1]))
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * 16000) / 16000)
    write_sound(tmp_path / "tone.wav", np.concatenate([np.zeros(16000), tone]))
    write_sound(tmp_path / "click.wav", np.eye(1, 100)[0])
    (tmp_path / "none.wav").write_bytes(b"nothing")
    for name, files in (("enrol", {"m-a": "tone"}), ("tested", {"x": "click", "y": "none"})):
        (tmp_path / "data" / name).mkdir(parents=True)
        scp = "".join(f"{key} {tmp_path}/{file}.wav\n" for key, file in files.items())
        (tmp_path / "data" / name / "wav.scp").write_text(scp)
    (tmp_path / "data/enrol/spk2utt").write_text("m m-a m-b\nn m-b\n")
    (tmp_path / "data/tested/trials").write_text("m x target\nm y nontarget\nm z nontarget\nn x nontarget\n")
    (tmp_path / "scores").write_text("m x 0.5\nm y 0.4\nm z 0.3\nn x 0\n")
    return tmp_path


def write_sound(path, samples):
    """A WAV file of samples at 16 kHz, -1 to 1."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.rint(32767 * samples).astype("<i2").tobytes())


def test_pick_trials_of_voices_shows_what_was_heard_and_says_what_is_missing(voices):
    output, pair = voices / "picked.json", pair_of(voices, "tested", modality="speaker")
    pick_trials(PickOptions(voices / "scores", output=output, pair=pair, backend="max"))
    picked = json.loads(output.read_text())["groups"]
    (target,), (no_sound, not_there, nobody) = picked["lowest targets"], picked["highest non-targets"]
    enrolled, tested = target["enrolment"], target["test"]
    assert (enrolled["time_s"], enrolled["about"]) == (1.0, "3.0 s of sound, -10 dB")
    picture = decode_picture(base64.b64decode(enrolled["jpeg"])).mean(axis=2)
    assert picture.shape == (96, 288)
    dark = picture.mean(axis=1).argmin()  # 1 of 8 kHz is an eighth of the height up
    assert abs(dark - 84) <= 1 and picture[:40].min() > 200  # nothing of the silence before the tone
    assert decode_picture(base64.b64decode(tested["jpeg"])).shape == (96, 288, 3)
    assert no_sound["test"]["jpeg"] is None and "the sound cannot be read" in no_sound["test"]["why"]
    assert "wav.scp does not name it" in not_there["test"]["why"]
    assert nobody["why"] == "no speaker in the enrolment"
    markup = shown_trials(target, *picked["highest non-targets"])
    assert markup.count('<img class="sound"') == 4 and "3.0 s of sound, -10 dB" in markup


def test_report_of_voices_has_their_states_and_no_crops(voices):
    folder, about = voices / "results", {"modality": "speaker", "system": "net", "backend": "max"}
    about |= {"snorm_cohort": None, "calibrated_on": None}
    evaluate_scores(
        voices / "scores", voices / "data/tested/trials", folder / "net/max/tested.json", about, CostOptions()
    )
    pair = pair_of(voices, "tested", modality="speaker")
    pick_trials(PickOptions(voices / "scores", output=folder / "trials/net/tested.json", pair=pair, backend="max"))
    (voices / "items/test/status").write_text("x ok\ny silent: -91 dB\nz no_audio\n")
    write_report(folder, ["net/max"], ["tested"], [("speaker", voices / "items/test")], ["net"])
    text = (folder / "results.txt").read_text()
    assert "set         segments  speech  ok  silent  short  no_audio  damaged  unreadable" in text
    assert "items/test         3       3   1       1      0         1        0           0" in text
    page = Page((folder / "report.html").read_text())
    assert "Speaker verification with net" in page.text and "Instructive trials of max: speech" in page.text
    assert "silent: 1 of 3 segments" in page.text and "the first 8 s of what was compared" in page.text


def test_curves_of_several_modalities_are_named_by_modality_embedder_and_system():
    voice = HAND_MADE | {"modality": "speaker", "system": "ecapa", "snorm_cohort": None}
    assert tables.label(voice, True, True) == "speaker/ecapa/ahc, calibrated"
    assert tables.label(HAND_MADE | {"backend": "fusion"}, True, True) == "fusion"


def test_interval_table_has_intervals_where_there_are_some():
    interval = {"level": 0.95, "persons": 7, "draws": 1000, "eer": [0.05, 0.081], "min_dcf": [[0.25, 0.625]]}
    known = HAND_MADE | {"eer_point": 0.07, "interval": interval}
    unknown = HAND_MADE | {"eer_point": 0.0625, "interval": None}
    assert tables.text_table(tables.interval_table([known, unknown, NO_KEY])) == (
        "set   system  back-end  s-norm  calibrated  EER %  95 %        EER pt %  min DCF 0.05  95 %\n"
        "eval  net|1   ahc       yes     yes         6.250  5.00..8.10     7.000        0.5000  0.250..0.625\n"
        "eval  net|1   ahc       yes     yes         6.250  -              6.250        0.5000  -\n"
    )
    assert "eval: 7 persons, drawn 1000 times" in tables.interval_note([known, unknown])
    assert "No intervals: they need 5 persons" in tables.interval_note([unknown])
    row = tables.result_rows([known])[0]
    assert (row["eer_low"], row["eer_high"], row["eer_point"]) == (0.05, 0.081, 0.07)
    assert (row["min_dcf_low"], row["min_dcf_high"]) == (0.25, 0.625)
