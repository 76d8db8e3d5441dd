"""The official feature pickles as outputs of stages 2 and 3, against arrays put together by hand."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe import Recipe

from vidperson.corpora import iqiyi_features
from vidperson.corpora.iqiyi_features import Converted, clip_faces, convert_features, quality_weight
from vidperson.errors import DataError
from vidperson.io.lines import read_scp
from vidperson.io.matrices import load_matrices
from vidperson.io.ranks import read_scored_ranks
from vidperson.io.record import checked, read_record

CLIPS = 7
SETS = (("train", 0), ("test", 2))  # name and number of the first clip of each person
FILES = ("faces.ark", "faces.scp", "weights.ark", "weights.scp", "status", "embed.ark", "embed.scp")


def face(frame: Any = "8", quality: float = 80.0, size: int = 4, score: Any = 0.75, value: float = 1.0) -> list[Any]:
    feature = np.full(size, value, np.float16)
    return [frame, [1.0, 2.5, 30.0, 40.0], score, quality, feature]


def clip(number: int) -> list[Any]:
    return [face(str(8 * k), 10.0 * number, value=number + k) for k in range(number)]


def name(number: int) -> str:
    return f"IQIYI_VID_TRAIN_{number:07d}"


class Work:
    """A data folder of which the clips are in another order than in the pickles, and what is made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data" / "train"
        self.items, self.embeddings = folder / "exp" / "items", folder / "exp" / "embeddings"
        self.data.mkdir(parents=True)
        self.list([3, 1, 0, 2, 6, 5, 4])

    def list(self, numbers: Sequence[int]) -> None:
        lines = (f"s{place} clips/{name(number)}.mp4\n" for place, number in enumerate(numbers))
        (self.data / "vid.scp").write_text("".join(lines))

    def pickle(self, clips: dict[Any, Any], file: str = "a.pickle", protocol: int = 2) -> Path:
        path = self.folder / file
        path.write_bytes(pickle.dumps(clips, protocol))
        return path

    def convert(self, *pickles: Path, force: bool = False) -> Converted | None:
        return convert_features(pickles, self.data, self.items, self.embeddings, force)

    def files(self) -> dict[str, bytes]:
        """What was written, records and locks left out; of everything only that."""
        folders = (self.items, self.embeddings)
        found = {path.name: path for folder in folders if folder.is_dir() for path in folder.iterdir()}
        assert found.keys() - set(FILES) <= {"record.json", ".lock", "journal.jsonl"}
        return {file: found[file].read_bytes() for file in FILES if file in found}


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def all_clips() -> dict[bytes, list[Any]]:
    return {name(number).encode(): clip(number) for number in range(CLIPS)}


def test_quality_weight_is_that_of_the_report() -> None:
    values = [-30, -0.1, 0, 19.9, 20, 29.9, 30, 39.9, 40, 200]
    assert [quality_weight(value) for value in values] == [0, 0, 0.2, 0.2, 0.3, 0.3, 0.6, 0.6, 1, 1]


def test_convert_writes_the_faces_of_each_clip_in_the_order_of_the_list(work: Work) -> None:
    assert work.convert(work.pickle(all_clips())) == Converted(CLIPS, 1, sum(range(CLIPS)), 0)
    items, weights, embeddings = (
        load_matrices(folder / f"{kind}.scp")
        for folder, kind in ((work.items, "faces"), (work.items, "weights"), (work.embeddings, "embed"))
    )
    assert list(items) == list(weights) == list(embeddings) == [f"s{place}" for place in range(CLIPS)]
    for place, number in enumerate([3, 1, 0, 2, 6, 5, 4]):
        segment, frames = f"s{place}", [8.0 * k for k in range(number)]
        share = 0.75 * [0.2, 0.2, 0.3, 0.6, 1, 1, 1][number]
        expected = [[f, np.float32(f / 25), 1, 2.5, 30, 40, 0.75, *[0] * 10] for f in frames]
        assert items[segment].tolist() == expected
        assert weights[segment].tolist() == [[np.float32(share)]] * number
        assert embeddings[segment].tolist() == [[number + k] * 4 for k in range(number)]
    for folder in (work.items, work.embeddings):
        statuses = read_scp(checked(folder / "status"))
        assert statuses == {f"s{n}": "no_face" if n == 2 else "ok" for n in range(CLIPS)}
        record = read_record(folder)
        assert record and all(checked(folder / output).is_file() for output in record.outputs)


@pytest.mark.parametrize("protocol", [0, 1, 3, 5])
def test_convert_gives_the_same_bytes_of_any_protocol_order_and_division(tmp_path: Path, protocol: int) -> None:
    one, two = Work(tmp_path / "1"), Work(tmp_path / "2")
    one.convert(one.pickle(all_clips()))
    clips = dict(reversed(all_clips().items()))
    parts = [{key.decode() + ".mp4": value for key, value in list(clips.items())[n::2]} for n in range(2)]
    two.convert(*(two.pickle(part, f"{n}.pickle", protocol) for n, part in enumerate(parts)))
    assert len(one.files()) == len(FILES) and one.files() == two.files()


def test_convert_counts_clips_that_are_missing_on_either_side(work: Work) -> None:
    clips = all_clips()
    del clips[name(3).encode()]
    clips[b"another"] = clip(2)
    assert work.convert(work.pickle(clips)) == Converted(CLIPS, 2, sum(range(CLIPS)) - 3, 1)
    assert read_scp(work.items / "status")["s0"] == "no_face"


def test_convert_orders_faces_by_frame_and_leaves_out_what_is_not_finite(work: Work) -> None:
    bad = [face("16"), face(b"8", value=np.inf), face(24, score=float("nan")), face("0", score=-0.5), face("4")]
    found = clip_faces(bad)
    assert found.rows[:, 0].tolist() == [0, 4, 16] and found.weights.tolist() == [[0], [0.75], [0.75]]
    assert found.status == "damaged: 2 of 5 faces have values that are not finite"
    work.list([0])
    work.convert(work.pickle({name(0): bad}))
    assert read_scp(work.embeddings / "status") == {"s0": found.status}
    assert load_matrices(work.embeddings / "embed.scp")["s0"].shape == (3, 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(512, np.float32), r"expected a list of .*, found an array of 512 values \(float32\)"),
        ({"frames": 1}, "found something of the type dict"),
        ([np.zeros((3, 512), np.float16)], "found an array of 3 x 512 values"),
        ([face()[:4]], "found 4 entries"),
        ([face("x")], "expected the number of a frame, found 'x'"),
        ([face(-1)], "expected the number of a frame, found '-1'"),
        ([face(score="0.9")], "expected a number, found '0.9'"),
        ([face(score=True)], "expected a number, found 'True'"),
        ([["8", [1.0, 2.0, 3.0], 0.9, 80.0, np.zeros(4, np.float16)]], "expected a box .*, found 3 entries"),
        ([["8", [1.0] * 4, 0.9, 80.0, [1.0, 2.0]]], "expected a feature, .* found 2 entries"),
        ([["8", [1.0] * 4, 0.9, 80.0, np.zeros((2, 4), np.float16)]], "expected a feature, .* found an array of 2 x 4"),
        ([["8", [1.0] * 4, 0.9, 80.0, np.zeros(4, np.int16)]], r"expected a feature, .* \(int16\)"),
        ([face(), face(size=5)], "expected features of one size, found 4 and 5 values"),
    ],
)
def test_convert_something_else_is_refused_with_the_clip_and_nothing_is_written(
    work: Work, value: Any, message: str
) -> None:
    with pytest.raises(DataError, match=rf"a\.pickle: clip '{name(2)}': .*{message}"):
        work.convert(work.pickle({name(1): clip(1), name(2): value}))
    assert work.files() == {}


def test_convert_mistakes_in_files_are_named_and_nothing_is_written(work: Work) -> None:
    good = work.pickle(all_clips())
    again = work.pickle({name(1): clip(1)}, "b.pickle")
    with pytest.raises(DataError, match=rf"b\.pickle: clip '{name(1)}' is there twice, or in an earlier pickle"):
        work.convert(good, again)
    with pytest.raises(DataError, match="expected features of 4 values as in the clips before, found 5"):
        work.convert(work.pickle({name(1): clip(1), name(2): [face(size=5)]}, "c.pickle"))
    with pytest.raises(DataError, match=rf"none of the 7 clips of .*, first '{name(3)}'; its own begin with 'x'"):
        work.convert(work.pickle({"x": clip(1)}, "d.pickle"))
    with pytest.raises(DataError, match="it is empty"):
        work.convert(work.pickle({}, "e.pickle"))
    with pytest.raises(DataError, match="expected the name of a clip, found '7'"):
        work.convert(work.pickle({7: clip(1)}, "f.pickle"))
    work.list([3, 3])
    with pytest.raises(DataError, match=rf"'s0' and 's1' are the same clip, {name(3)}"):
        work.convert(good)
    work.list([])
    with pytest.raises(DataError, match=r"vid\.scp: expected '<segment> <path>' of each clip, found no line"):
        work.convert(good)
    assert work.files() == {}


def test_convert_again_keeps_what_is_there_and_refuses_other_files(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    source = work.pickle(all_clips())
    assert work.convert(source)
    made = work.files()
    with monkeypatch.context() as patched:
        patched.setattr(iqiyi_features, "read_items", lambda path: pytest.fail("it was read again"))
        assert work.convert(source) is None
    other = work.pickle({name(1): clip(1)}, "other.pickle")
    with pytest.raises(DataError, match="made of other files or by other means.*\n(.*\n)*--force true replaces it"):
        work.convert(other)
    broken = work.pickle({name(1): [face()[:2]]}, "broken.pickle")
    with pytest.raises(DataError, match="found 2 entries"):
        work.convert(broken, force=True)
    assert work.files() == made and work.convert(source) is None
    assert work.convert(other, force=True) and work.files() != made
    (work.embeddings / "embed.ark").write_bytes(b"edited")
    assert work.convert(other) == Converted(CLIPS, CLIPS - 1, 1, 0)


@pytest.mark.parametrize("killed_in", ["_clips", "merge", "save_record"])
def test_convert_killed_and_run_again_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    class Killed(BaseException):
        pass

    def kill(*arguments: Any) -> Any:
        raise Killed

    def kill_in_the_middle(pickles: Sequence[Path]) -> Any:
        for count, found in enumerate(clips_of(pickles)):
            if count == 4:
                raise Killed
            yield found

    clips_of = iqiyi_features._clips
    one, two = Work(tmp_path / "1"), Work(tmp_path / "2")
    one.convert(one.pickle(all_clips()))
    with monkeypatch.context() as patched:
        patched.setattr(iqiyi_features, killed_in, kill_in_the_middle if killed_in == "_clips" else kill)
        patched.setattr(shutil, "rmtree", lambda *arguments, **options: None)  # as if by SIGKILL
        with pytest.raises(Killed):
            two.convert(two.pickle(all_clips()))
    assert two.convert(two.folder / "a.pickle") == Converted(CLIPS, 1, sum(range(CLIPS)), 0)
    assert one.files() == two.files()


def test_program_with_a_hostile_pickle_says_so_and_exits_with_1(work: Work, repo: Path) -> None:
    hostile = work.folder / "x.pickle"
    hostile.write_bytes(b"\x80\x02}X\x01\x00\x00\x00acos\nsystem\nX\x02\x00\x00\x00ls\x85Rs.")
    call = [
        sys.executable,
        "local/iqiyi_vid/convert_features.py",
        "--data-dir",
        str(work.data),
        "--pickle",
        str(hostile),
    ]
    done = subprocess.run([*call, "--exp-dir", f"{work.folder}/exp"], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 1 and "'os.system', which is refused" in done.stderr and "(byte 9)" in done.stderr
    assert "Traceback" not in done.stderr and not list((work.folder / "exp").rglob("*.ark"))


def test_stages_4_and_5_search_with_converted_features_and_no_network_and_no_stage_before_them(
    tmp_path: Path, repo: Path
) -> None:
    """Person x has 4 faces in each clip; in the clips to search 2 faces of no use, which weigh nothing, show z."""
    rng = np.random.default_rng(3)
    persons = dict(zip("xyz", rng.normal(size=(3, 16)), strict=True))

    def faces(person: str, count: int, quality: float) -> list[Any]:
        features = (persons[person] + rng.normal(size=(count, 16)) / 3).astype(np.float16)
        return [[str(8 * k), [0.0, 0.0, 9.0, 9.0], 0.9, quality, feature] for k, feature in enumerate(features)]

    clips = {f"{person}-{n}": faces(person, 4, 60.0) for person in persons for n in range(4)}
    clips |= {f"x-{n}": clips[f"x-{n}"][:2] + faces("z", 4, -1.0)[2:] for n in (2, 3)}
    sets = {name: sorted(f"{person}-{n}" for person in persons for n in (first, first + 1)) for name, first in SETS}
    for name, ids in sets.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "vid.scp").write_text("".join(f"{i} clips/{i}.mp4\n" for i in ids))
    (tmp_path / "data/train/utt2spk").write_text("".join(f"{i} {i[0]}\n" for i in sets["train"]))
    (tmp_path / "data/test/search").write_text("".join(f"{person} all\n" for person in persons))
    (tmp_path / "data/test/utt2group").write_text("".join(f"{i} all\n" for i in sets["test"]))
    (tmp_path / "data/test/relevant").write_text("".join(f"{i[0]} {i}\n" for i in sets["test"]))
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(clips, 2))
    recipe = Recipe(repo, tmp_path, "iqiyi_vid", "iqiyi_vid", "iqiyi_vid")
    for name in sets:
        folders = recipe.faces(name), recipe.embeddings(name)
        convert_features([tmp_path / "x.pickle"], tmp_path / "data" / name, *folders)
    options = ("--trial-sets", "train:test", "--calibration-set", "", "--search-backends", "class-mean")
    recipe.run("004_score", *options)
    scores = read_scored_ranks(recipe.systems("class-mean") / "test_ranks")
    assert {person: sorted(name for name, _ in listed[:2]) for person, listed in scores.items()} == {
        person: [f"{person}-2", f"{person}-3"] for person in persons
    }
    assert min(score for _, score in scores["x"][:2]) > 0.9
    assert recipe.run("005_eval", *options).stdout.splitlines()[-1].startswith("report: ")
