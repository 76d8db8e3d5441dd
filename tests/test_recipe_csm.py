"""The recipe on a release in the layout of CSM with bad entries: stages 1 to 5, and the answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from PIL import Image
from test_body import write_network

from vidperson.corpora import demo_cast
from vidperson.corpora.csm import format_submission
from vidperson.io.lines import read_scp
from vidperson.io.ranks import read_reasons

HERE = ("--face-detector", "retinaface_tiny", "--face-embedder", "arcface_tiny", "--experiment", "csm")


@dataclass
class Csm:
    """What the stages made of the release. content: its list; said: stage 1's standard error."""

    work: Path
    content: dict[str, Any]
    said: str

    def ids(self, kind: str) -> list[str]:
        return [entry["id"] for film in self.content.values() for entry in film[kind]]

    def status(self, modality: str, name: str) -> dict[str, str]:
        detector = "retinaface_tiny" if modality == "face" else "given"
        return read_scp(self.work / f"exp/{modality}_det/{detector}/{name}/status")

    def result(self, system: str) -> dict[str, Any]:
        return json.loads((self.work / f"exp/results/csm/{system}/csm_val_candidates.json").read_text())


def stage(repo: Path, work: Path, name: str, *options: str) -> str:
    words = [f"./run_{name}.sh", "--config-file", "global_conf/config_csm.sh", *HERE, *options, "--csm-dir"]
    words += [str(work / "CSM"), "--data-dir", str(work / "data"), "--exp-dir", str(work / "exp")]
    words += ["--trial-sets", "csm_val_cast:csm_val_candidates", "--max-size", "640", "--nj", "1"]
    environment = {**os.environ, "VIDPERSON_PYTHON": sys.executable}
    ran = subprocess.run(words, cwd=repo, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return ran.stderr


def spoil(root: Path) -> dict[str, Any]:
    """A release of three films of which much is wrong; returns its list.

    A portrait without a face, one in grey, a film of six candidates, a frame in CMYK, a frame that is not there, and
    a box that exceeds its frame.
    """
    content = json.loads((root / "val.json").read_text())
    first, second, _ = content.values()
    second["candidates"] = second["candidates"][:6]
    Image.new("RGB", (200, 240), (90, 120, 60)).save(root / "val" / first["cast"][0]["img"])
    frames = list(dict.fromkeys(entry["img"] for entry in first["candidates"]))
    for image, mode in ((first["cast"][1]["img"], "L"), (frames[0], "CMYK")):
        Image.open(root / "val" / image).convert(mode).save(root / "val" / image)
    (root / "val" / frames[1]).unlink()
    x, y, width, height = first["candidates"][-1]["bbox"]
    first["candidates"][-1]["bbox"] = [x, y, width, height + 500]
    (root / "val_label.json").unlink()  # it names candidates that are left out
    (root / "val.json").write_text(json.dumps(content))
    return content


@pytest.fixture(scope="module")
def csm(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Csm:
    """The frames of the third film are removed between stages 1 and 2."""
    work = tmp_path_factory.mktemp("csm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_cast, "PARTS", {"val": 3})
        demo_cast.build(work / "CSM", frames=demo_cast.FEWEST_FRAMES)
    content = spoil(work / "CSM")
    write_network(work)
    stage(repo, work, "000_get_pretrained_models", "--body-embedder", str(work / "means.yaml"))
    said = stage(repo, work, "001_prepare_data")
    shutil.rmtree(work / "CSM/val" / list(content)[2] / "candidates")
    stage(repo, work, "002_detect_faces", "--stop-stage", "3", "--body-embedder", "means")
    for name in ("004_score", "005_eval"):
        stage(repo, work, name, "--body-embedder", "means")
    return Csm(work, content, said)


def test_what_is_wrong_with_a_release_is_named_and_the_stages_go_on(csm: Csm) -> None:
    first, second, third = csm.content
    assert f"1 films have fewer than 10 candidates: {second}" in csm.said
    assert (
        f"1 boxes exceed their frames, and are kept so: {first}.candidates[{len(csm.content[first]['candidates']) - 1}]"
        in csm.said
    )
    lost = [entry["id"] for entry in csm.content[first]["candidates"] if entry["img"].endswith("shot_0000_img_1.jpg")]
    assert f"images of {len(lost)} entries are missing or cannot be read" in csm.said
    lost += [entry["id"] for entry in csm.content[third]["candidates"]]
    for modality in ("face", "body"):
        statuses = csm.status(modality, "csm_val_candidates")
        assert statuses.keys() == set(csm.ids("candidates"))
        assert {name for name, status in statuses.items() if status.startswith("unreadable")} == set(lost)
        counted = csm.result("original/csm")["statuses"][modality]
        assert counted["unreadable"] == len(lost) and sum(counted.values()) == len(statuses)
    portraits = csm.status("face", "csm_val_cast")
    faceless, grey = (entry["id"] for entry in csm.content[first]["cast"][:2])
    assert portraits.pop(f"{faceless}-portrait") == "no_face" and set(portraits.values()) == {"ok"}
    assert csm.result("original/csm")["models_without_items"] == [faceless]
    in_cmyk = csm.content[first]["candidates"][0]["id"]
    assert csm.status("body", "csm_val_candidates")[in_cmyk] == "ok" and f"{grey}-portrait" in portraits


@pytest.mark.parametrize("system", ["original", "propagation", "calibrated"])
def test_answer_of_a_cast_search_has_all_candidates_of_each_film_and_the_map_of_stage_5(
    csm: Csm, repo: Path, tmp_path: Path, system: str
) -> None:
    ranks = csm.work / f"exp/scores/{system}/csm/csm_val_candidates_ranks"
    answer = tmp_path / "val_result.txt"
    format_submission(ranks, answer)
    lines = [line.split(" ") for line in answer.read_text().splitlines()]
    films = {cast["id"]: film for film, parts in csm.content.items() for cast in parts["cast"]}
    assert len(lines) == len(films)
    for cast, candidates in lines:
        expected = [entry["id"] for entry in csm.content[films[cast]]["candidates"]]
        assert sorted(candidates.split(",")) == sorted(expected)
    precisions = []
    for parts in csm.content.values():
        for cast in parts["cast"]:
            right = {entry["id"] for entry in parts["candidates"] if entry["label"] == cast["label"]}
            if right:
                listed = dict(lines)[cast["id"]].split(",")
                places = [place for place, candidate in enumerate(listed, 1) if candidate in right]
                precisions.append(fmean(hit / place for hit, place in enumerate(places, 1)))
    assert csm.result(f"{system}/csm")["mAP"] == pytest.approx(fmean(precisions))
    reasons = read_reasons(ranks.with_name("csm_val_candidates_reasons"))
    assert {cast: set(found) for cast, found in reasons.items()} == {cast: set(c.split(",")) for cast, c in lines}


def test_films_with_faces_are_searched_and_shown_with_pictures(csm: Csm) -> None:
    found = {
        system: csm.result(system) for system in ("arcface_tiny/class-mean", "means/class-mean", "propagation/csm")
    }
    assert found["propagation/csm"]["mAP"] > max(found[name]["mAP"] for name in list(found)[:2])
    picked = json.loads((csm.work / "exp/results/csm/casts/csm_val_candidates.json").read_text())
    assert [group["group"] for group in picked["groups"]] == list(csm.content)
    cases = [case for group in picked["groups"][:2] for model in group["models"] for case in model["best"]]
    assert sum(case["jpeg"] is not None for case in cases) > 40 and any(case["boxes"] for case in cases)
    lost = [case for model in picked["groups"][2]["models"] for case in model["best"]]
    assert lost and all(case["jpeg"] is None and case["why"].startswith("no bodies: unreadable: ") for case in lost)
