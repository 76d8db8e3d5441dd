"""Lists of marked faces, in WIDER FACE's format with landmarks and in dlib's imglab: what is read, what is refused."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from vidperson.errors import DataError
from vidperson.face.annotations import FaceMarks, read_annotations, write_annotations

POINTS = [[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]]
FLAGGED = " ".join(f"{x} {y} 0.0" for x, y in POINTS)


def read(path: Path, text: str) -> dict[str, FaceMarks]:
    path.write_text(text, newline="")
    return read_annotations(path)


def test_list_of_wider_face_gives_boxes_and_landmarks_in_its_order(tmp_path: Path) -> None:
    text = f"# b/two faces.jpg\n5 6 30 40 {FLAGGED} 0.82\n1 2 3 4\n# a.jpg\n# c.jpg\n1.5 2.5 10 20 {FLAGGED}\n\n"
    marks = read(tmp_path / "label.txt", text)
    assert list(marks) == ["b/two faces.jpg", "a.jpg", "c.jpg"]
    both = marks["b/two faces.jpg"]
    np.testing.assert_array_equal(both.boxes, [[5, 6, 35, 46], [1, 2, 4, 6]])
    np.testing.assert_array_equal(both.landmarks[0], POINTS)
    assert np.isnan(both.landmarks[1]).all()
    assert marks["a.jpg"].boxes.shape == (0, 4) and marks["a.jpg"].landmarks.shape == (0, 5, 2)
    np.testing.assert_array_equal(marks["c.jpg"].boxes, [[1.5, 2.5, 11.5, 22.5]])
    assert both.boxes.dtype == both.landmarks.dtype == np.float32


def test_landmarks_with_a_negative_coordinate_are_unknown_and_boxes_without_area_left_out(tmp_path: Path) -> None:
    unknown = " ".join(["-1 -1 -1"] * 5)
    partly = FLAGGED.replace("30 20", "-1 20", 1)
    marks = read(
        tmp_path / "l", f"# a.jpg\n1 1 9 9 {unknown} 0\n2 1 9 9 {partly} 0\n3 1 0 9\n4 1 9 0\n5 1 9 9 {FLAGGED} 0\n"
    )
    np.testing.assert_array_equal(marks["a.jpg"].boxes[:, 0], [1, 2, 5])
    assert np.isnan(marks["a.jpg"].landmarks).all(axis=(1, 2)).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("1 2 3 4\n# a.jpg\n", 1, "expected '# <image>'"),
        ("# a.jpg\n1 2 3\n", 2, "4, 19 or 20 numbers"),
        (f"# a.jpg\n\n1 2 3 4 {FLAGGED} 1 1\n", 3, "4, 19 or 20 numbers"),
        ("# a.jpg\n1 2 3 x\n", 2, "found '1 2 3 x'"),
        ("# a.jpg\n1 2 3 nan\n", 2, "found '1 2 3 nan'"),
        ("# a.jpg\n1 2 inf 3\n", 2, "found '1 2 inf 3'"),
        (f"# a.jpg\n1 2 3 4 {FLAGGED.replace('30', 'nan', 1)}\n", 2, "4, 19 or 20 numbers"),
        ("# a.jpg\n# b.jpg\n# a.jpg\n", 3, "each once, found '# a.jpg'"),
        ("# a.jpg\n#\n", 2, "each once, found '#'"),
        ("# a.jpg\r\n1 2 3 4\r\n", 1, "Windows line end"),
    ],
)
def test_list_of_wider_face_malformed_names_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path / "label.txt", text)
    assert str(error.value).startswith(f"{tmp_path}/label.txt:{line}: ") and words in str(error.value)


@pytest.mark.parametrize("name", ["label.txt", "label.xml"])
def test_list_of_no_picture_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no image is listed"):
        read(tmp_path / name, "<dataset/>" if name.endswith("xml") else "\n")


def test_list_missing_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.txt: no such file"):
        read_annotations(tmp_path / "none.txt")
    (tmp_path / "bytes.txt").write_bytes(b"# a.jpg\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"bytes.txt:2: not UTF-8"):
        read_annotations(tmp_path / "bytes.txt")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(-5, 300, (4, 2))
    boxes = np.hstack([corner, corner + rng.uniform(1, 90, (4, 2))]).astype(np.float32)
    landmarks = rng.uniform(0, 300, (4, 5, 2)).astype(np.float32)
    landmarks[1] = np.nan
    landmarks[3, 0] = 0
    marks = {
        "some folder/a b.jpg": FaceMarks(boxes, landmarks),
        "none.png": FaceMarks(boxes[:0], landmarks[:0]),
    }
    write_annotations(tmp_path / "list", marks)
    again = read_annotations(tmp_path / "list")
    assert list(again) == list(marks)
    for name, expected in marks.items():
        np.testing.assert_allclose(again[name].boxes, expected.boxes, atol=0.0011)
        np.testing.assert_allclose(again[name].landmarks, expected.landmarks, atol=0.00051)


def test_landmark_known_by_half_is_written_as_unknown(tmp_path: Path) -> None:
    landmarks = np.array([POINTS], np.float32)
    landmarks[0, 2, 1] = np.nan
    write_annotations(tmp_path / "list", {"a.jpg": FaceMarks(np.array([[0, 0, 50, 50]], np.float32), landmarks)})
    assert np.isnan(read_annotations(tmp_path / "list")["a.jpg"].landmarks).all()


IMGLAB = """<?xml version='1.0' encoding='ISO-8859-1'?>
<?xml-stylesheet type='text/xsl' href='image_metadata_stylesheet.xsl'?>
<dataset><name>Faces</name>
<images>
  <image file='two faces.jpg' width='500' height='332'>
    <box top='181' left='274' width='52' height='53'><part name='00' x='277' y='194'/></box>
    <box top='1' left='2' width='3' height='4' ignore='1'/>
    <box top='5' left='6' width='0' height='4'/>
    <box top='-7' left='8.5' width='9' height='10' ignore='0'/>
  </image>
  <image file='b/none.jpg'/>
</images></dataset>
"""


def test_list_of_imglab_gives_the_boxes_that_are_not_to_be_ignored(tmp_path: Path) -> None:
    marks = read(tmp_path / "faces.XML", IMGLAB)
    assert list(marks) == ["two faces.jpg", "b/none.jpg"]
    np.testing.assert_array_equal(marks["two faces.jpg"].boxes, [[274, 181, 326, 234], [8.5, -7, 17.5, 3]])
    assert np.isnan(marks["two faces.jpg"].landmarks).all() and marks["b/none.jpg"].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("<images>", "<images", 5, "not well-formed"),
        ("</dataset>", "", 13, "no element found"),
        ("left='274' ", "", 6, "found none 181 52 53"),
        ("left='274'", "left='27x'", 6, "found 27x 181 52 53"),
        ("left='274'", "left='nan'", 6, "found nan 181 52 53"),
        ("<images>", "<box top='1' left='1' width='1' height='1'/><images>", 4, "in an image"),
        ("b/none.jpg", "two faces.jpg", 11, "each once, found 'two faces.jpg'"),
        ("file='b/none.jpg'", "", 11, "an image's name in 'file'"),
    ],
)
def test_list_of_imglab_broken_names_file_and_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert IMGLAB.count(old) == 1
    with pytest.raises(DataError) as error:
        read(tmp_path / "faces.xml", IMGLAB.replace(old, new))
    assert str(error.value).startswith(f"{tmp_path}/faces.xml:{line}: not a list of dlib's imglab: ")
    assert words in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_list_of_imglab_with_entities_that_would_fill_the_memory_is_refused_at_once(
    tmp_path: Path, encoding: str
) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY e0 "aaaaaaaaaa">'
    bomb += "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 10)) + "]>"
    (tmp_path / "faces.xml").write_text(f"<?xml version='1.0'?>{bomb}\n<a>&e9;</a>", encoding=encoding)
    start = time.process_time()
    with pytest.raises(DataError, match=r"faces.xml:1: .* it defines the entity 'e0'"):
        read_annotations(tmp_path / "faces.xml")
    assert time.process_time() - start < 1
