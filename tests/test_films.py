"""Own films: shots, frames and persons become the two sets; resumed, changed, damaged and labelled ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_persons import picture, write_network
from naive_decoder import write_video
from PIL import Image as Picture

from vidperson.body.detector import Persons
from vidperson.body.film import FilmSearch, search_film
from vidperson.body.from_faces import persons_of_faces
from vidperson.corpora import films
from vidperson.errors import DataError
from vidperson.io.lines import read_scp
from vidperson.io.lists import read_regions
from vidperson.networks.install import install_model

Array = np.ndarray[Any, Any]
EXAMPLE = [[(1, 2), (6, 4)], [(4, 3)]]  # places of the pillars in each shot


def shot(places: list[tuple[int, int]], grey: int, frames: int) -> list[Array]:
    return [picture(places, 128, 128, grey)] * frames


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed person detector."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("models")
    install_model(str(write_network(folder)), folder / "body_models")
    return folder / "body_models/pillars"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A video of two shots, a folder of three images, a text that is called a film; two persons."""
    videos = tmp_path / "films"
    (videos / "Walk & Talk").mkdir(parents=True)
    frames = [*shot(EXAMPLE[0], 60, 30), *shot(EXAMPLE[1], 200, 30)]
    write_video(videos / "first film.mp4", frames, rate=25, options={"crf": "1"})
    for number in range(3):
        Picture.fromarray(picture([(number, 2)] if number else [], 64, 64)).save(videos / f"Walk & Talk/{number}.png")
    (videos / "broken.mkv").write_text("no film")
    (videos / "notes.txt").write_text("text")
    for person in ("Ann", "José"):
        (tmp_path / "cast" / person).mkdir(parents=True)
        Picture.fromarray(picture([(1, 1)])).save(tmp_path / "cast" / person / "portrait.png")
    return tmp_path


def prepare(repo: Path, own: Path, detector: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "local/film/prepare_data.py", "--data-dir", str(own / "data"), "--model", str(detector)]
    words += ["--videos-dir", str(own / "films"), "--persons-dir", str(own / "cast"), *options]
    return subprocess.run(words, cwd=repo, capture_output=True, text=True)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_films_become_candidates_in_order_and_a_second_run_keeps_what_is_whole(
    repo: Path, own: Path, detector: Path
) -> None:
    ran = prepare(repo, own, detector)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(own / "data/film_cast"), str(own / "data/film_candidates")]
    assert "broken: unreadable: " in ran.stderr and "1 of 3 films cannot be used: broken" in ran.stderr
    data = own / "data/film_candidates"
    times = [200, 600, 1000, 1360, 1760, 2160]
    expected = [f"first_film-{time:08d}-{n:02d}" for time in times for n in ((1, 2) if time < 1200 else (1,))]
    expected += [f"Walk_Talk-{time:08d}-01" for time in (1000, 2000)]
    paths, regions = read_scp(data / "vid.scp"), read_regions(data / "region")
    assert sorted(name.rpartition("-")[0].partition("-")[0] for name in paths) == sorted(
        name.partition("-")[0] for name in expected
    )
    assert len(paths) == len(expected) == 11
    two = [name for name in paths if name.startswith("first_film-") and name.endswith("-02")]
    assert len(two) == 3 and all(regions[name][0] > regions[name[:-1] + "1"][0] for name in two)
    np.testing.assert_allclose(regions["Walk_Talk-00001000-01"], [8, 8, 16, 32], atol=0.2)
    assert paths["Walk_Talk-00001000-01"] == str(own / "films/Walk & Talk/1.png")
    frame = np.asarray(Picture.open(data / paths[two[0]]))
    assert frame.shape == (128, 128, 3) and frame[72, 104].tolist()[2] > 200
    assert (data / "frames/first_film/shots").read_text().split() == ["0.000", "1.200"]
    assert (data / "search").read_text().split("\n")[:4] == [
        "Ann Walk_Talk", "Ann first_film", "Jose Walk_Talk", "Jose first_film",
    ]  # fmt: skip
    assert read_scp(own / "data/film_cast/names") == {"Ann": "Ann", "Jose": "José"}
    for name in ("film_cast", "film_candidates"):
        assert subprocess.run(["utils/validate_data_dir.sh", own / "data" / name], cwd=repo).returncode == 0

    made = content(data)
    again = prepare(repo, own, detector)
    assert again.returncode == 0 and "shots" not in again.stderr and content(data) == made


def test_killed_run_is_taken_up_with_the_same_bytes_and_other_options_search_again(
    repo: Path, own: Path, detector: Path
) -> None:
    assert prepare(repo, own, detector).returncode == 0
    data = own / "data/film_candidates"
    made = content(data)
    partial = data / "frames/first_film.partial"
    (data / "frames/first_film").rename(partial)  # as a kill leaves it: not whole, and without the rest
    (partial / ".done").unlink()
    (partial / "persons").write_text("half a li")
    ran = prepare(repo, own, detector)
    assert ran.returncode == 0 and "Walk_Talk: ok" not in ran.stderr and content(data) == made
    ran = prepare(repo, own, detector, "--frames", "1")
    assert ran.returncode == 0 and "first_film: ok; 2 shots, 3 persons in 2 frames" in ran.stderr
    assert len(read_scp(data / "vid.scp")) == 5


def test_key_says_whom_candidates_show_and_what_it_names_wrongly_is_refused(
    repo: Path, own: Path, detector: Path
) -> None:
    data = own / "data/film_candidates"
    ran = prepare(repo, own, detector, "--frames", "1", "--key", str(own / "key"))
    assert ran.returncode == 1 and f"{own / 'key'}: no such file" in ran.stderr and not data.exists()
    assert prepare(repo, own, detector, "--frames", "1").returncode == 0
    first, second, *_ = (name for name in read_scp(data / "vid.scp") if name.startswith("first"))
    key = own / "key"
    searched = [film for film in films.read_films(own / "films") if film.id != "broken"]
    for text, message in (
        (f"Ann {first}\n", "key:1: expected '<person><tab><candidate>', found"),
        (f"Ann\t{first}\nBob\t{second}\n", "key:2: no portraits of a person 'Bob'; the persons are: Ann, José"),
        ("Ann\tfirst_film-1\n", "key:1: no candidate 'first_film-1'"),
        (f"Ann\t{first}\nJosé\t{first}\n", f"key:2: candidate '{first}' is given to two persons"),
        ("\n", "key: no line"),
    ):
        key.write_text(text)
        before = content(data)
        with pytest.raises(DataError, match=re.escape(message)):
            films.write_sets(own / "data", films.read_cast(own / "cast"), searched, key)
        assert content(data) == before
    key.write_text(f"Ann\t{first}\nJosé\t{second}\n")
    ran = prepare(repo, own, detector, "--frames", "1", "--key", str(key))
    assert ran.returncode == 0 and "1 films have no candidate in it" in ran.stderr
    assert (data / "relevant").read_text() == f"Ann {first}\nJose {second}\n"
    assert read_scp(data / "utt2spk") == {first: "Ann", second: "Jose"}


def test_films_in_which_nobody_or_nothing_is_found_are_an_error(repo: Path, own: Path, detector: Path) -> None:
    ran = prepare(repo, own, detector, "--threshold", "1")
    assert ran.returncode == 1 and "nobody was found in any of the films" in ran.stderr
    ran = prepare(repo, own, detector, "--max-pixels", "100")
    assert ran.returncode == 1 and "none of the films can be read; see above" in ran.stderr
    assert "more than max_pixels 100" in ran.stderr and not (own / "data/film_candidates/vid.scp").exists()


def test_folders_without_films_or_persons_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        films.read_films(tmp_path / "missing")
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="no film in it; expected videos, or a folder of images per film"):
        films.read_films(tmp_path)
    (tmp_path / "1.jpg").touch()
    assert [(film.id, film.path) for film in films.read_films(tmp_path)] == [(tmp_path.name, tmp_path)]
    (tmp_path / "ä film.mp4").touch()
    (tmp_path / "a film.mkv").touch()
    found = films.read_films(tmp_path)
    assert [film.path.name for film in found] == ["a film.mkv", "ä film.mp4"] or len({f.id for f in found}) == 2
    with pytest.raises(DataError, match="no folder in it; expected one folder per person"):
        films.read_cast(tmp_path)
    (tmp_path / "stills").mkdir()
    (tmp_path / "stills/a\nb.png").touch()
    with pytest.raises(DataError, match=r"a\\nb.png': a list cannot hold line breaks"):
        films.read_films(tmp_path)


def test_slivers_without_a_tenth_of_a_pixel_are_left_out_of_a_frame(tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    Picture.fromarray(picture([])).save(tmp_path / "film/1.png")
    boxes = np.array([[40, 5, 50, 9], [63.98, 0, 64, 60], [1, 2, 30, 40], [10, 1, 21, 9]], np.float32)
    persons = Persons(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32))
    search_film(tmp_path / "film", tmp_path / "out", FilmSearch(lambda images: [persons]))
    lines = (tmp_path / "out/persons").read_text().splitlines()
    image = tmp_path / "film/1.png"
    assert lines == [
        f"00000000 10.0 1.0 21.0 9.0 0.6000 {image}",  # as far left as the next one, and higher
        f"00000000 1.0 2.0 30.0 40.0 0.7000 {image}",
        f"00000000 40.0 5.0 50.0 9.0 0.9000 {image}",
    ]


def test_body_of_a_face_is_below_it_four_times_as_wide_and_ends_where_the_frame_does() -> None:
    faces = np.array([[100, 50, 120, 80], [0, 0, 20, 20], [-50, 10, -30, 30]], np.float32)
    found = persons_of_faces(faces, np.array([0.9, 0.8, 0.7], np.float32), 200, 300)
    assert found.boxes.tolist() == [[70, 41, 150, 200], [0, 0, 50, 180]]
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
    nobody = persons_of_faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 200, 300)
    assert len(nobody) == 0


def test_without_a_person_detector_bodies_follow_from_faces(repo: Path, tmp_path: Path) -> None:
    skimage_data = pytest.importorskip("skimage.data", reason="needs the demo extra")
    (tmp_path / "films/one").mkdir(parents=True)
    (tmp_path / "cast/Eileen").mkdir(parents=True)
    for folder in ("films/one", "cast/Eileen"):
        Picture.fromarray(skimage_data.astronaut()).save(tmp_path / folder / "1.png")
    install_model("retinaface_tiny", tmp_path / "models")
    words = [sys.executable, "local/film/prepare_data.py", "--face-model", str(tmp_path / "models/retinaface_tiny")]
    words += ["--data-dir", str(tmp_path), "--videos-dir", str(tmp_path / "films")]
    ran = subprocess.run([*words, "--persons-dir", str(tmp_path / "cast")], cwd=repo, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    (box,) = read_regions(tmp_path / "film_candidates/region").values()
    assert box[0] < 170 < 280 < box[2] and box[1] < 80 and box[3] == 512  # her face, and all below
