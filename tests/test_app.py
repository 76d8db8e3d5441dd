"""The facade behind ``import vidperson``, and the command ``vidperson``: the results are those of the stages."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import vidperson
from steps.items import ExtractOptions
from steps_face.detect_faces import DetectOptions, detect_faces
from steps_face.extract_embeddings import extract_embeddings
from vidperson import cli, console
from vidperson.app import App, Face, Settings
from vidperson.engines.processor import processor_features
from vidperson.errors import DataError, ModelError, VidPersonError
from vidperson.face.detection import ARCHIVES, STATES
from vidperson.io.answers import read_who_csv
from vidperson.io.lines import read_scp
from vidperson.io.matrices import load_matrices
from vidperson.io.merging import merge_jobs
from vidperson.networks.card import calibration_of, load_card
from vidperson.networks.install import install_model, shipped_model
from vidperson.networks.opening import auto_precision
from vidperson.supervision import UNWATCHED
from vidperson.who.folders import _cut, find_in_folders

DETECTOR, EMBEDDER = "retinaface_tiny", "arcface_tiny"
SMALL = Settings(detector=DETECTOR, embedder=EMBEDDER, max_size=384)  # which is faster


@pytest.fixture(scope="module")
def app() -> App:
    return vidperson.load(SMALL)


@pytest.fixture(scope="module")
def photos(shared: Path) -> Path:
    return shared / "data/video/hamilton"


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 300, 3), 120, np.uint8))
    return tmp_path / "wall.png"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    (tmp_path / "holiday.jpg").write_text("no picture")
    return tmp_path / "holiday.jpg"


# ------------------------------------------------------------------------------------------------------- from Python


def test_faces_and_embeddings_of_photo_and_video_are_the_bytes_of_stages_2_and_3(
    app: App, shared: Path, photos: Path, tmp_path: Path
) -> None:
    files = {"clip": shared / "data/clips/asl_A/again.mkv", "photo": photos / "two_people.jpg"}
    scp = tmp_path / "vid.scp"
    scp.write_text("".join(f"{name} {path}\n" for name, path in files.items()))
    for network in (DETECTOR, EMBEDDER):
        install_model(network, tmp_path / "models")
    jobs, done = (tmp_path / "det", tmp_path / "embed"), (tmp_path / "dets", tmp_path / "embeds")
    detect = cli.fill(DetectOptions, scp=str(scp), model=str(tmp_path / "models" / DETECTOR), output_dir=str(jobs[0]),
                      fps=5.0, max_size=SMALL.max_size)  # fmt: skip
    detect_faces(detect)
    for folder in done:
        folder.mkdir()
    merge_jobs([jobs[0]], done[0], ARCHIVES, STATES, files)
    precision = auto_precision(load_card(EMBEDDER), "auto", "cpu", processor_features())
    extract_embeddings(
        cli.fill(
            ExtractOptions,
            items_dir=done[0],
            scp=scp,
            model=tmp_path / "models" / EMBEDDER,
            output_dir=jobs[1],
            precision=precision,
        )
    )
    merge_jobs([jobs[1]], done[1], ["embed.ark"], STATES, files)
    statuses = read_scp(done[0] / "status")
    rows, quality, all_shots = (load_matrices(done[0] / f"{name}.scp") for name in ("faces", "quality", "shots"))
    embeddings = load_matrices(done[1] / "embed.scp")
    for name, path in files.items():
        status, shots, found = app.found(path)
        assert status == statuses[name] == "ok"
        assert len(found.rows) > 1
        assert found.rows.tobytes() == rows[name].tobytes()
        assert found.quality is not None and found.quality.tobytes() == quality[name].tobytes()
        assert found.embeddings.tobytes() == embeddings[name].tobytes()
        assert shots.tobytes() == all_shots[name].tobytes()


def test_faces_of_an_array_are_those_of_its_file(app: App, photos: Path) -> None:
    path = photos / "two_people.jpg"
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    from_file, from_array = app.faces(path), app.faces(image)
    assert len(from_file) == len(from_array) == 2
    for one, other in zip(from_file, from_array, strict=True):
        assert one.box == other.box and one.embedding.tobytes() == other.embedding.tobytes()
        assert one.crop.shape == (112, 112, 3) and (one.crop == other.crop).all()
        x1, y1, x2, y2 = one.box
        assert 0 <= x1 < x2 <= image.shape[1] and 0 <= y1 < y2 <= image.shape[0]
        assert one.area == pytest.approx((x2 - x1) * (y2 - y1))
        assert all(x1 < x < x2 and y1 < y < y2 for x, y in one.landmarks[:3])
        right, left = np.array(one.landmarks[:2])
        assert one.eye_distance == pytest.approx(np.linalg.norm(right - left), rel=1e-5)
        assert one.time_s == one.frame == 0


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)])
def test_array_that_is_no_image_is_refused_with_what_is_expected(app: App, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(height, width, 3\) uint8, found \("):
        app.faces(image)


def test_faces_of_an_image_without_one_are_none(app: App, blank: Path) -> None:
    assert app.faces(blank) == []


def test_file_that_is_missing_or_broken_is_named(app: App, broken: Path, tmp_path: Path) -> None:
    for ask in (app.faces, app.gallery({}).find, lambda path: app.compare(path, path)):
        with pytest.raises(DataError, match=r"holiday\.jpg: .*cannot be decoded|holiday\.jpg: "):
            ask(broken)
        with pytest.raises(DataError, match="nothing.jpg: no such file"):
            ask(tmp_path / "nothing.jpg")


def test_compare_is_the_cosine_of_the_largest_faces_and_bayes_rule(app: App, photos: Path) -> None:
    def largest(name: str) -> Face:
        return max(app.faces(photos / name), key=lambda face: face.area)

    one, other = (largest(name).embedding.astype(np.float64) for name in ("alex-lacamoire.png", "alex_lacamoire1.jpg"))
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    found = app.compare(photos / "alex-lacamoire.png", photos / "alex_lacamoire1.jpg")
    calibration = calibration_of(load_card(EMBEDDER))
    assert found.cosine == pytest.approx(cosine, abs=1e-6)
    assert found.llr == pytest.approx(calibration.slope * cosine + calibration.offset, abs=1e-4)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-found.llr)), abs=1e-9)
    assert found.probability > 0.9 and found.notes == ()
    rare = app.compare(photos / "alex-lacamoire.png", photos / "alex_lacamoire1.jpg", prior=0.01)
    odds = math.exp(found.llr) * 0.01 / 0.99
    assert rare.probability == pytest.approx(odds / (1 + odds), abs=1e-9)
    stranger = app.compare(photos / "alex-lacamoire.png", photos / "biden.jpg")
    assert stranger.probability < 0.1


def test_compare_of_a_photo_of_two_takes_the_larger_face_and_says_so(app: App, photos: Path) -> None:
    found = app.compare(photos / "two_people.jpg", photos / "two_people.jpg")
    assert found.cosine == pytest.approx(1)
    assert found.notes == (f"{photos / 'two_people.jpg'}: there are 2 faces in it; the largest one is taken",) * 2


def test_compare_refuses_a_photo_without_face_and_a_prior_that_is_none(app: App, blank: Path) -> None:
    with pytest.raises(DataError, match=r"wall\.png: no face found"):
        app.compare(blank, blank)
    for prior in (0, 1, -1, math.nan):
        with pytest.raises(ValueError, match="prior: expected a number above 0 and below 1"):
            app.compare(blank, blank, prior)


def test_gallery_names_who_is_in_photos_and_the_same_stranger_alike(
    app: App, photos: Path, blank: Path, broken: Path
) -> None:
    persons = {'Alex "J."': [photos / "alex-lacamoire.png", broken], "Łucja": [blank]}
    gallery = app.gallery(persons)
    assert gallery.persons == ('Alex "J."',)
    for note, said in zip(
        gallery.notes, ["holiday.jpg: this file cannot be read", "wall.png: no face is found", "Łucja: no"], strict=True
    ):
        assert said in note
    answers = gallery.find_all([photos / "alex-lacamoire.png", photos / "biden.jpg", broken, photos / "biden.jpg"])
    assert [[one.person for one in answer.appearances] for answer in answers] == [
        ['Alex "J."'], ["unknown 1"], [], ["unknown 1"],
    ]  # fmt: skip
    known, stranger, unreadable, _ = answers
    assert known == gallery.find(photos / "alex-lacamoire.png")
    assert known.appearances[0].decision == "yes" and stranger.appearances[0].decision == "unknown"
    assert known.status == "ok" and unreadable.status.startswith("unreadable: ")


def test_gallery_of_nobody_finds_strangers_and_a_folder_without_faces_is_refused(
    app: App, photos: Path, blank: Path, tmp_path: Path
) -> None:
    (one,) = app.gallery({}).find(photos / "biden.jpg").appearances
    assert (one.person, one.decision) == ("unknown 1", "unknown") and math.isnan(one.llr)
    (tmp_path / "persons" / "Wall").mkdir(parents=True)
    assert app.gallery(tmp_path / "persons").persons == ()
    (tmp_path / "persons" / "Joe.jpg").symlink_to(photos / "biden.jpg")  # beside the folders: named as the person
    beside = app.gallery(tmp_path / "persons").find_all(str(photos / "biden.jpg"))
    assert beside == app.gallery({"Joe": photos / "biden.jpg"}).find_all([str(photos / "biden.jpg")])
    assert beside[0].appearances[0].person == "Joe"
    (tmp_path / "persons" / "Joe.jpg").unlink()
    blank.rename(tmp_path / "persons" / "Wall" / "wall.png")
    with pytest.raises(DataError, match="no face found in any photo or video of: Wall"):
        app.gallery(tmp_path / "persons")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        app.gallery(tmp_path / "nowhere")


# ----------------------------------------------------------------------------------------------------------- of folders


class Folders:
    """Two persons and three files to search, one of them broken."""

    def __init__(self, work: Path, photos: Path, clip: Path) -> None:
        self.photos, self.persons, self.videos, self.out = photos, work / "persons", work / "videos", work / "who"
        self.add('Alex "J."', "alex-lacamoire.png")
        self.add("Łucja, *", "obama.jpg")
        self.videos.mkdir()
        (self.videos / "signing.mkv").symlink_to(clip)
        (self.videos / "two people.jpg").symlink_to(photos / "two_people.jpg")
        (self.videos / "broken.mp4").write_text("no video")

    def add(self, person: str, photo: str) -> None:
        (self.persons / person).mkdir(parents=True, exist_ok=True)
        (self.persons / person / photo).symlink_to(self.photos / photo)

    def find(self) -> list[str]:
        call = shlex.join(["vidperson", *self.arguments()])
        return find_in_folders(SMALL, self.persons, self.videos, self.out, call=call)

    def arguments(self) -> list[str]:
        where = ["who", str(self.persons), str(self.videos), "--output-dir", str(self.out)]
        return [*where, "--max-size", str(SMALL.max_size), "--detector", DETECTOR, "--embedder", EMBEDDER]

    def run(self) -> subprocess.CompletedProcess[str]:
        """As a command, which decodes in a child process; :meth:`find` is for tests that have opened networks."""
        call = [sys.executable, "-m", "vidperson.console", *self.arguments()]
        return subprocess.run(call, capture_output=True, text=True, timeout=120)

    def outputs(self) -> dict[str, bytes]:
        """All files but records and locks, which tell of versions and times."""
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.out)): path.read_bytes()
            for path in files
            if not path.name.endswith("record.json") and path.name != ".lock"
        }


def test_folders_have_the_answer_of_the_gallery_and_a_second_run_does_only_what_is_new(
    app: App, shared: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders(tmp_path, photos, shared / "data/clips/asl_A/again.mkv")
    done = folders.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [f"{folders.out}/who.csv", f"{folders.out}/report.html"]
    assert (
        re.search(r"Łucja, \* +two people.jpg +0.00", done.stdout) and "1 could not be read: broken.mp4" in done.stdout
    )
    rows = list(read_who_csv(folders.out / "who.csv"))
    sources = {name: folders.videos / name for name in ("broken.mp4", "signing.mkv", "two people.jpg")}
    answers = app.gallery(folders.persons).find_all(sources.values())
    told = [
        (one.person, name, one.decision, one.num_faces)
        for name, answer in zip(sources, answers, strict=True)
        for one in answer.appearances
    ]
    assert [(row.person, row.video, row.decision, row.num_faces) for row in rows] == told
    assert ("Łucja, *", "two people.jpg", "yes", 1) in told
    page = (folders.out / "report.html").read_text()
    assert all(word in page for word in ("broken.mp4", DETECTOR, "max_size", "numpy", shlex.quote(str(folders.out))))
    first = folders.outputs()

    began: list[str] = []
    monkeypatch.setattr("vidperson.who.folders.run_supervised", lambda work, give_up, timeout_s: work(UNWATCHED))
    monkeypatch.setattr("vidperson.who.folders._cut", lambda paths, *rest: began.extend(paths) or _cut(paths, *rest))
    assert folders.find() == [] and began == []
    assert folders.outputs() == first
    folders.add('Alex "J."', "alex_lacamoire1.jpg")
    folders.find()
    assert len(began) == 1 and folders.outputs().keys() == first.keys()


def test_folders_without_a_person_or_a_video_are_answered_in_words(
    app: App, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidperson.who.folders.run_supervised", lambda work, give_up, timeout_s: work(UNWATCHED))
    folders = Folders(tmp_path, photos, photos / "obama.jpg")
    folders.persons = tmp_path / "nobody"
    with pytest.raises(DataError, match="nobody: no such folder"):
        folders.find()
    folders.persons.mkdir()
    (folders.videos / "signing.mkv").unlink()
    assert folders.find() == []
    assert {row.person for row in read_who_csv(folders.out / "who.csv")} == {"unknown 1", "unknown 2"}
    folders.out = folders.videos / "answer"
    with pytest.raises(DataError, match="answer: the answer would be in .*videos, and its images be searched"):
        folders.find()
    folders.videos, folders.out = tmp_path / "nobody", tmp_path / "who"
    with pytest.raises(DataError, match="no video or image in it"):
        folders.find()


@pytest.mark.parametrize("begun", [False, True])
def test_answer_never_replaces_folders_of_the_user(tmp_path: Path, blank: Path, begun: bool) -> None:
    portrait = tmp_path / "persons" / "Ada" / "1.png"
    portrait.parent.mkdir(parents=True)
    portrait.write_bytes(blank.read_bytes())
    if begun:  # an answer has been there before
        (tmp_path / "work" / "data").mkdir(parents=True)
    with pytest.raises(DataError, match="the answer would replace 'persons' in it; choose another folder"):
        find_in_folders(SMALL, tmp_path / "persons", blank, tmp_path)
    assert portrait.is_file()


# --------------------------------------------------------------------------------------------- networks and settings


def test_networks_that_ship_are_opened_in_their_place(tmp_path: Path) -> None:
    shipped = shipped_model(EMBEDDER)
    assert shipped is not None and shipped.network.parent.name == "zoo"
    assert shipped.sha256 == shipped.card.file.sha256
    assert shipped_model("arcface_r50_mxnet") is None
    own = tmp_path / f"{EMBEDDER}.yaml"
    own.write_bytes((shipped.network.parent / own.name).read_bytes())
    assert shipped_model(str(own)) is None  # a card of the user's own has its file elsewhere


@pytest.mark.parametrize(
    ("engine", "device", "features", "expected"),
    [
        ("auto", "cpu", {"avx512_bf16"}, "bf16"),
        ("openvino", "cpu", {"amx_bf16", "avx2"}, "bf16"),
        ("auto", "cpu", {"avx2"}, "fp32"),
        ("torch", "cpu", {"avx512_bf16"}, "fp32"),
        ("auto", "cuda", {"avx512_bf16"}, "fp32"),
    ],
)
def test_precision_auto_is_that_of_the_stages(
    repo: Path, tmp_path: Path, engine: str, device: str, features: set[str], expected: str
) -> None:
    """Asked of utils/stage.sh, too."""
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {' '.join(features)}\n")
    begin = "/^set_computes_in/,/^}/p"
    script = f"eval \"$(sed -n '{begin}' utils/stage.sh)\"; set_computes_in $1 $2; echo $computes_in"
    card = repo / f"vidperson/zoo/{EMBEDDER}.yaml"
    call = ["bash", "-c", script, "bash", str(card), str(tmp_path / "cpuinfo")]
    environment = {"precision": "auto", "device": device, "engine": engine, "PATH": "/usr/bin:/bin"}
    told = subprocess.run(call, cwd=repo, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == auto_precision(load_card(EMBEDDER), engine, device, features) == expected
    assert auto_precision(load_card(DETECTOR), engine, device, features) == "fp32"  # not checked in bf16


def test_defaults_are_those_of_the_config_for_folders(repo: Path) -> None:
    script = ". global_conf/defaults.sh; . global_conf/config_folder.sh; "
    script += "echo $fps $max_size $det_threshold $second_look $person_prior $min_probability $unsure_probability"
    script += " $device $engine $precision"
    told = subprocess.run(["bash", "-c", script], cwd=repo, capture_output=True, text=True, check=True).stdout.split()
    ours = Settings()
    numbers = [ours.fps, ours.max_size, ours.det_threshold, ours.second_look, ours.person_prior]
    assert [float(word) for word in told[:7]] == [*numbers, ours.min_probability, ours.unsure_probability]
    assert told[7:] == [ours.device, ours.engine, ours.precision]


def test_load_refuses_unknown_networks_and_those_of_another_kind() -> None:
    with pytest.raises(ModelError, match="no model card 'arcface'; cards in the zoo: "):
        vidperson.load(embedder="arcface")
    with pytest.raises(ModelError, match="arcface_tiny is a face_embedder, not a face_detector"):
        vidperson.load(detector=EMBEDDER)
    with pytest.raises(TypeError, match="colour"):
        vidperson.load(colour="red")
    for wrong in ({"fps": 0}, {"det_threshold": 2}, {"max_size": 0}, {"threads": -1}, {"min_probability": 0.1}):
        with pytest.raises((ValueError, VidPersonError), match="expected"):
            vidperson.load(**wrong)


def test_import_is_cheap_and_every_public_name_is_there() -> None:
    heavy = "numpy cv2 av openvino onnxruntime scipy"
    code = f"import sys, vidperson; sys.exit(' '.join(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "") or done.stderr.strip() == ""
    assert all(getattr(vidperson, name) for name in vidperson.__all__)
    assert issubclass(vidperson.DataError, vidperson.VidPersonError)  # what a caller catches
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        vidperson.lod  # noqa: B018


def test_wheel_takes_every_file_of_the_package(repo: Path) -> None:
    """What is no Python is taken by the patterns of ``package-data``."""
    patterns = tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    listed = subprocess.run(["git", "ls-files", "vidperson"], cwd=repo, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git repository: nothing tells which files belong to it")
    packages = {package.replace(".", "/"): globs for package, globs in patterns.items()}
    left = [
        name
        for name in listed.stdout.split("\n")
        if name
        and not name.endswith(".py")
        and not any(Path(name).match(glob) for glob in packages["*"])
        and not any(Path(name).match(f"{package}/{glob}") for package, globs in packages.items() for glob in globs)
    ]
    assert left == []
    assert all((repo / "vidperson" / name).is_file() for name in ("zoo/arcface_tiny.onnx", "py.typed"))


@pytest.mark.campaign
def test_wheel_works_where_there_is_no_repository(repo: Path, photos: Path, tmp_path: Path) -> None:
    """Built, installed into a folder of its own, and called from elsewhere."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = tmp_path / "source"
    shutil.copytree(repo / "vidperson", source / "vidperson")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copyfile(repo / name, source / name)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    folders = Folders(tmp_path, photos, photos / "biden.jpg")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)}
    call = [sys.executable, str(tmp_path / "site/bin/vidperson"), *folders.arguments()]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Łucja, *" in done.stdout
    assert (folders.out / "report.html").is_file() and not (tmp_path / ".cache/vidperson").exists()


# -------------------------------------------------------------------------------------------------- on the command line

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, with networks that are open already. Returns outcome, stdout and stderr."""
    monkeypatch.setattr("vidperson.app.load", lambda **settings: app)

    def call(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            console.main(list(map(str, arguments)))
        shown = capsys.readouterr()
        return stop.value.code, shown.out, shown.err

    return call


def test_command_compare_prints_three_lines_and_exits_with_0(run: Run, app: App, photos: Path) -> None:
    code, out, err = run("compare", photos / "obama.jpg", photos / "two_people.jpg")
    assert code == 0
    printed = dict(line.split() for line in out.splitlines())
    found = app.compare(photos / "obama.jpg", photos / "two_people.jpg")
    assert list(printed) == ["cosine", "llr", "probability"]
    assert float(printed["cosine"]) == pytest.approx(found.cosine, abs=1e-4)
    assert float(printed["llr"]) == pytest.approx(found.llr, abs=1e-2)
    assert float(printed["probability"]) == pytest.approx(found.probability, abs=1e-4)
    assert f"networks: {DETECTOR}, {EMBEDDER}" in err and "there are 2 faces in it; the largest one is taken" in err


def test_command_compare_of_a_file_without_face_says_why_and_exits_with_1(run: Run, blank: Path) -> None:
    code, out, _ = run("compare", blank, blank)
    assert isinstance(code, str) and "wall.png: no face found in it" in code and not out


def test_command_faces_goes_on_after_a_broken_file_and_counts_it(run: Run, photos: Path, broken: Path) -> None:
    odd = broken.with_name("two\tpeople.jpg")
    odd.symlink_to(photos / "two_people.jpg")
    code, out, err = run("faces", broken, odd)
    assert isinstance(code, str) and "1 of 2 files cannot be read" in code and "holiday.jpg: " in err
    head, *lines = (line.split("\t") for line in out.splitlines())
    assert len(lines) == 2 and all(len(line) == len(head) == 8 for line in lines)
    assert {line[0] for line in lines} == {str(odd.with_name("two\\tpeople.jpg"))}
    code, out, _ = run("faces", odd, "--as-json", "true")
    first = json.loads(out.splitlines()[0])
    assert code == 0 and len(first["embedding"]) == 128 and first["file"] == str(odd)
    assert float(lines[0][2]) == pytest.approx(first["box"][0], abs=0.06)


def test_command_faces_prints_a_name_that_is_no_text(run: Run, photos: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    os.symlink(os.fsencode(photos / "two_people.jpg"), name)
    call = [sys.executable, "-m", "vidperson.console", "faces", os.fsdecode(name), "--max-size", "200"]
    done = subprocess.run(call, capture_output=True)
    assert done.returncode == 0 and b"/caf\\udce9.jpg\t0.000" in done.stdout, done.stderr


def test_command_that_is_wrong_is_refused_with_what_is_valid(run: Run) -> None:
    assert run()[0] == 2 and "vidperson who persons/ videos/" in run()[2]
    assert "invalid choice: 'fases'" in run("fases", "x.jpg")[2]
    assert "--det-threshold" in run("faces", "x.jpg", "--threshold", "1")[2]
    assert "expected a number above 0 and below 1, found 2" in run("compare", "a", "b", "--prior", "2")[2]
