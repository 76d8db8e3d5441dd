"""Tables, contact sheets and the HTML report."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import tarfile
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageFont

from steps_face.evaluate import evaluate
from steps_face.make_contact_sheet import make_contact_sheet
from steps_face.make_report import make_report
from vidperson.errors import DataError
from vidperson.report import contact_sheet
from vidperson.report.contact_sheet import Tile, compose, decode_picture, draw_faces, evenly_spaced, shortened
from vidperson.types import Detections

NASTY = "<script>alert(1)</script>&\"'"


def jpeg(image) -> bytes:
    stream = io.BytesIO()
    Picture.fromarray(image).save(stream, "JPEG")
    return stream.getvalue()


def faces_at(*boxes):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    return Detections(boxes, np.linspace(0.99, 0.6, len(boxes)), np.repeat(centres, 5, axis=1))


def write_face_det(folder, statuses, with_picture=("ok", "no_face", "damaged")):
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


def test_draw_faces_marks_box_and_landmarks_in_scaled_place_and_leaves_the_input():
    image = np.zeros((360, 640, 3), dtype=np.uint8)
    thumbnail = draw_faces(image, faces_at([200, 100, 400, 300]))
    assert thumbnail.shape == (180, 320, 3) and thumbnail.dtype == np.uint8 and not image.any()
    assert thumbnail[150, 150].tolist() == list(contact_sheet._BOX)
    assert thumbnail[120, 100].tolist() == list(contact_sheet._BOX)
    assert thumbnail[100, 150].tolist() == list(contact_sheet._LANDMARKS[-1])
    assert (thumbnail > 200).all(axis=2).any(), "no white score text"
    marked = thumbnail.any(axis=2)
    assert not marked[152:].any() and not marked[:, :98].any() and not marked[:, 202:].any()


def test_draw_faces_no_face_only_scales():
    image = np.full((31, 64, 3), 77, dtype=np.uint8)
    thumbnail = draw_faces(image, Detections.empty(), width=20)
    assert thumbnail.shape == (10, 20, 3) and (thumbnail == 77).all()


@pytest.mark.parametrize("shape", [(1, 1), (2000, 3), (3, 2000)])
def test_draw_faces_odd_sizes_and_boxes_far_outside_are_drawn_without_error(shape):
    image = np.zeros((*shape, 3), dtype=np.uint8)
    thumbnail = draw_faces(image, faces_at([-1e30, -5, 1e30, 2], [0, 0, 1, 1]), width=32)
    assert thumbnail.shape == (max(1, round(shape[0] * 32 / shape[1])), 32, 3)


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
    make_contact_sheet(folder, 8)
    content = (folder / "contact_sheet.jpg").read_bytes()
    assert decode_picture(content).shape == (2 * 292 + 8, 6 * 328 + 8, 3)
    make_contact_sheet(folder, 8)
    assert (folder / "contact_sheet.jpg").read_bytes() == content
    assert sorted(path.name for path in folder.iterdir()) == ["contact_sheet.jpg", "status", "thumbs.tar"]


@pytest.mark.parametrize("break_it", ["no tar", "cut tar", "damaged picture", "no segments", "none asked"])
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
    with pytest.raises(DataError):
        make_contact_sheet(folder, 0 if break_it == "none asked" else 60)
    assert not (folder / "contact_sheet.jpg").exists()


class Page(HTMLParser):
    """Collects tags and text, and that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open, self.links = [], "", [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def results(tmp_path):
    """Two keyed sets and one without a key; one detected set with every state and hostile names."""
    folder = tmp_path / "results/net/max"
    rng = np.random.default_rng(5)
    for name, columns in (("dev_test", 3), ("eval_test", 3), ("nokey_test", 2)):
        pairs = [(f"m{m}", f"v{v}", "target" if m == v % 5 else "nontarget") for m in range(5) for v in range(30)]
        (tmp_path / "trials").write_text("".join(" ".join(pair[:columns]) + "\n" for pair in pairs))
        scores = rng.normal([0.6 if pair[2] == "target" else 0.1 for pair in pairs], 0.15)
        (tmp_path / "scores").write_text(
            "".join(f"{p[0]} {p[1]} {s!r}\n" for p, s in zip(pairs, scores.tolist(), strict=True))
        )
        evaluate(tmp_path / "scores", tmp_path / "trials", name, f"net/max {NASTY}", "0.05 0.01", folder)
    statuses = {
        "a": "ok",
        NASTY: "no_face",
        "c": "damaged: 3 frames lost",
        "d": f"unreadable: {NASTY}",
        "e": "ok",
    }
    write_face_det(tmp_path / "face_det/mnet/eval", statuses)
    make_contact_sheet(tmp_path / "face_det/mnet/eval", 60)
    return folder, tmp_path / "face_det/mnet/eval"


SETS = ["dev_test", "eval_test", "nokey_test"]


def test_make_report_two_keyed_sets_writes_tables_that_agree(results, capsys):
    folder, faces = results
    make_report(folder, SETS, [faces])
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert [(row["set"], row["prior"]) for row in rows] == [
        ("dev_test", "0.05"),
        ("dev_test", "0.01"),
        ("eval_test", "0.05"),
        ("eval_test", "0.01"),
        ("nokey_test", ""),
    ]
    gathered = json.loads((folder / "results.json").read_text())
    for row, again in zip(rows, gathered["results"], strict=True):
        assert {key: "" if value is None else str(value) for key, value in again.items()} == row
    source = json.loads((folder / "eval_test.json").read_text())
    assert float(rows[2]["eer"]) == source["eer"] and float(rows[3]["act_dcf"]) == source["dcf"][1]["act"]
    assert rows[0]["c_miss"] == rows[0]["c_fa"] == "1.0" and "min(P" in rows[0]["normalisation"]
    counts = {"segments": 5, "ok": 2, "no_face": 1, "damaged": 1, "unreadable": 1}
    assert gathered["faces"][0] | counts == gathered["faces"][0] and list(gathered["faces"][0]["problems"]) == [
        NASTY,
        "c",
        "d",
    ]
    text = (folder / "results.txt").read_text()
    assert f"{100 * source['eer']:.3f}" in text and "mnet/eval" in text
    printed = capsys.readouterr().out
    assert text in printed and str(folder / "report.html") in printed


def test_make_report_detected_set_given_twice_is_shown_once(results):
    folder, faces = results
    make_report(folder, SETS, [faces, faces])
    assert len(json.loads((folder / "results.json").read_text())["faces"]) == 1


def test_make_report_html_parses_needs_no_network_and_escapes_names(results):
    folder, faces = results
    make_report(folder, SETS, [faces])
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert "script" not in page.tags and "<script" not in html
    assert NASTY in page.text and "3 frames lost" in page.text and "dev_test" in page.text
    assert page.links and all(link.startswith("data:image/") for link in page.links)
    markup = re.sub(r"base64,[A-Za-z0-9+/=]*", "", html)
    assert "//" not in markup and "url(" not in markup and "@import" not in markup
    pictures = [decode_picture(base64.b64decode(link.partition(",")[2])) for link in page.links]
    assert len(pictures) == 3 and all(picture.size for picture in pictures)


def test_make_report_run_again_gives_equal_bytes_and_does_not_read_its_own_output(results):
    folder, faces = results
    outputs = ("results.txt", "results.csv", "results.json", "report.html")
    make_report(folder, SETS, [faces])
    first = [(folder / name).read_bytes() for name in outputs]
    make_report(folder, SETS, [faces])
    assert [(folder / name).read_bytes() for name in outputs] == first


def test_make_report_without_detected_sets_or_contact_sheet_still_reports(results):
    folder, faces = results
    (faces / "contact_sheet.jpg").unlink()
    make_report(folder, SETS, [faces])
    assert (folder / "report.html").read_text().count("<img") == 2
    make_report(folder, SETS, [])
    assert "face detection" not in (folder / "report.html").read_text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x", "system": "y", "num_trials": 1, "has_key": true}'])
def test_make_report_json_that_is_no_result_raises_naming_the_file(results, content):
    folder, _ = results
    (folder / "other.json").write_text(content)
    with pytest.raises(DataError, match=r"other\.json: not a result"):
        make_report(folder, ["other"], [])
    assert not (folder / "report.html").exists()


def test_make_report_set_that_was_not_evaluated_raises_naming_its_file(results):
    folder, _ = results
    with pytest.raises(DataError, match=r"missing\.json: no such result"):
        make_report(folder, ["dev_test", "missing"], [])


def test_make_report_leaves_out_results_of_sets_that_were_not_asked_for(results):
    folder, _ = results
    make_report(folder, ["eval_test"], [])
    assert {row["set"] for row in json.loads((folder / "results.json").read_text())["results"]} == {"eval_test"}


def test_make_report_table_has_a_line_per_set_and_columns_per_prior(results):
    folder, _ = results
    make_report(folder, SETS, [])
    head, *lines = (folder / "results.txt").read_text().splitlines()
    for name in ("EER %", "min DCF 0.05", "act DCF 0.05", "min DCF 0.01", "act DCF 0.01"):
        assert name in head
    assert [line.split()[0] for line in lines[:3]] == SETS and lines[2].split()[-1] == "-"
    assert "C_miss = 1, C_fa = 1" in lines[3] and "min(P" in lines[3]
