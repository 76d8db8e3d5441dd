"""The demo corpus of clips in folders: its folders, its key, and who YuNet, another detector, sees in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import av
import cv2
import pytest

from vidperson.corpora import demo_clips, film
from vidperson.errors import DataError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of one frame."""
    out = tmp_path_factory.mktemp("demo") / "clips"
    made: list[None] = []
    assert demo_clips.build(out, 1 / film.FPS, lambda: made.append(None))
    assert len(made) == demo_clips.NUM_CLIPS
    return out


def _key(corpus: Path) -> list[tuple[str, str]]:
    return [(person, clip) for person, clip in (line.split("\t") for line in (corpus / "search.key").open())]


def test_folders_hold_persons_strangers_and_clips_to_search(corpus: Path) -> None:
    files = Counter(str(path.relative_to(corpus).parent) for path in corpus.rglob("*.mp4"))
    persons = {folder: number for folder, number in files.items() if folder.startswith("persons/")}
    assert len(persons) == 10 and set(persons.values()) == {5}
    assert files["strangers"] == 12 and files["search"] == 10 * 2 + 6 + 3
    assert sum(files.values()) == demo_clips.NUM_CLIPS == len({path.read_bytes() for path in corpus.rglob("*.mp4")})


def test_key_names_each_person_and_no_stranger_and_two_clips_of_two_persons(corpus: Path) -> None:
    key = [(person, clip.rstrip("\n")) for person, clip in _key(corpus)]
    persons = Counter(person for person, _ in key)
    assert set(persons) == {path.name for path in (corpus / "persons").iterdir()}
    assert sorted(persons.values()) == [2] * 6 + [3] * 4
    assert all((corpus / "search" / clip).is_file() for _, clip in key)
    assert sorted(Counter(clip for _, clip in key).values()) == [1] * 20 + [2] * 2


def test_searched_clips_show_as_many_faces_as_they_have_persons(corpus: Path, shared: Path) -> None:
    model = shared / "models/yunet_onnx/yunet_n_dynamic.onnx"
    detector = cv2.FaceDetectorYN.create(str(model), "", (film.WIDTH, film.HEIGHT), 0.6)
    named = Counter(clip.rstrip("\n") for _, clip in _key(corpus))
    seen = Counter[str]()
    for path in sorted((corpus / "search").iterdir()):
        with av.open(str(path)) as container:
            faces = detector.detect(next(container.decode(video=0)).to_ndarray(format="bgr24"))[1]
        seen[path.name] = 0 if faces is None else len(faces)
    assert sorted(seen.values()) == [0] + [1] * 26 + [2] * 2
    assert {clip for clip, count in seen.items() if count == 2} == {clip for clip, count in named.items() if count == 2}
    assert sum(named[clip] == 0 for clip, count in seen.items() if count) == 6


def test_finished_corpus_is_kept_and_a_folder_of_someone_else_is_refused(corpus: Path, tmp_path: Path) -> None:
    assert not demo_clips.build(corpus, 1 / film.FPS)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="not a finished demo corpus"):
        demo_clips.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
