"""The demo corpus of clips: its folders, its key, who YuNet, another detector, sees in them; and run_demo.sh on it."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import av
import cv2
import pytest
from recipe import Recipe

from vidperson.corpora import demo_clips, film
from vidperson.errors import DataError
from vidperson.io.ranks import read_persons
from vidperson.networks.card import VectorInput, load_card


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
    with pytest.raises(DataError, match="was not finished by this program"):
        demo_clips.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_run_demo_goes_from_clips_to_a_trained_identifier_a_table_and_a_report(
    corpus: Path, repo: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="training needs the torch extra")
    shutil.copytree(corpus, tmp_path / "data/demo_clips_corpus")
    (tmp_path / "data/demo_clips_corpus/.done").write_text(f"recipe {demo_clips.RECIPE}, 1.6 s\n")  # else made again
    recipe = Recipe(repo, tmp_path, "demo_clips")
    said = subprocess.run(
        ["./run_demo.sh", *recipe.command("demo", "--nj", "2")[1:]],
        cwd=repo, env=recipe.environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    assert said.stdout.splitlines()[-1] == f"report: {recipe.results}/report.html"
    card = load_card(tmp_path / "exp/face_train/demo_clips/demo_clips.yaml")
    assert isinstance(card.input, VectorInput) and len(card.output.labels) == 10
    systems = {"class-mean", "class-mean-whitened", "demo_clips", "fusion"}
    table = [line.split() for line in said.stdout.partition("mAP:")[0].splitlines()]
    found = {row[1]: float(row[2]) for row in table if row[:1] == ["clips_test"]}
    assert set(found) == systems and min(found.values()) > 70  # mAP@100, in per cent
    persons = read_persons(recipe.systems("fusion") / "clips_test_persons")
    key = [(person, clip.removesuffix(".mp4\n")) for person, clip in _key(corpus)]
    both = {clip for clip, count in Counter(clip for _, clip in key).items() if count == 2}
    assert len(both) == 2
    for clip in both & persons.keys():  # both persons of a clip are found, each by a track of its own
        assert {person for person, _ in persons[clip][:2]} == {person for person, shown in key if shown == clip}
