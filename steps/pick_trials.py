#!/usr/bin/env python3
"""Pick the most instructive trials of a test set, and the faces that show why they scored as they did.

Inputs:
  SCORES, TRIALS              <model> <segment> <score>; <model> <segment> [target|nontarget], the same pairs
  ENROLL_DATA/spk2utt         <model> <segment> <segment> ...
  ENROLL_EMBED, TEST_EMBED, FALLBACK_EMBED
                              folders with embed.scp, as steps/score.py reads them: an (N, dim) float32
                              matrix per segment
  ENROLL_FACES, TEST_FACES, FALLBACK_FACES
                              folders of stage 2 with faces.scp, the (N, 17) float32 faces that the rows are of, and
                              crops.scp, N pictures per segment
Output:
  OUTPUT                      JSON: the COUNT highest non-target and the COUNT lowest target trials, of a list
                              without key the COUNT highest; for each the pair of faces with the largest cosine between
                              enrolment and test (docs/formats.md). What is missing is said in place.

Example:
  steps/pick_trials.py --scores exp/scores/r100/max/sre19_test_scores --trials data/sre19_test/trials \\
    --backend max --enroll-data data/sre19_enroll --enroll-embed exp/face_embed/r100/sre19_enroll_ref \\
    --enroll-faces exp/face_det/retinaface/sre19_enroll_ref --test-embed exp/face_embed/r100/sre19_test \\
    --test-faces exp/face_det/retinaface/sre19_test --output exp/results/r100/trials/sre19_test.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass
class FaceSet:
    """What stages 2 and 3 wrote for a set. ``embed``, ``faces``: their folders; without the files, it has no faces."""

    embed: Path | None
    faces: Path | None

    @cached_property
    def embeddings(self) -> Mapping[str, NDArray[np.float32]]:
        """Per segment (N, dim) float32."""
        return self._matrices(self.embed, "embed.scp")

    @cached_property
    def rows(self) -> Mapping[str, NDArray[np.float32]]:
        """Per segment (N, 17) float32, a face per row."""
        return self._matrices(self.faces, "faces.scp")

    @cached_property
    def crops(self) -> Mapping[str, str]:
        """Per segment with faces, where its first crop is."""
        from vidperson.io.lists import read_paths

        path = None if self.faces is None else self.faces / "crops.scp"
        return read_paths(path) if path and path.is_file() else {}

    @staticmethod
    def _matrices(folder: Path | None, name: str) -> Mapping[str, NDArray[np.float32]]:
        from vidperson.io.matrices import load_matrices

        return load_matrices(folder / name) if folder is not None and (folder / name).is_file() else {}

    def face(self, segment: str, row: int) -> dict[str, Any]:
        """Where a face is, and its picture, or why there is none."""
        from base64 import b64encode

        from vidperson.errors import DataError
        from vidperson.io.crops import read_tar_files
        from vidperson.report.pictures import shrunken_jpeg

        face: dict[str, Any] = {"segment": segment, "time_s": None, "jpeg": None, "why": None}
        rows = self.rows.get(segment)
        if rows is not None and row < len(rows):
            face["time_s"] = round(float(rows[row, 1]), 3)
        if segment not in self.crops:
            return face | {"why": "the picture is not there: stage 2's crops are missing"}
        try:
            *_, (_, png) = read_tar_files(self.crops[segment], row + 1)
            face["jpeg"] = b64encode(shrunken_jpeg(png, 112, 90)).decode()
        except (DataError, OSError) as error:
            face["why"] = f"the picture cannot be read: {error}"
        return face


def pick_trials(
    scores: Path,
    trials: Path,
    enroll_data: Path,
    enroll_embed: Path,
    test_embed: Path,
    output: Path,
    backend: str,
    snorm_cohort: str | None = None,
    calibrated_on: str | None = None,
    enroll_faces: Path | None = None,
    test_faces: Path | None = None,
    fallback_embed: Path | None = None,
    fallback_faces: Path | None = None,
    count: int = 6,
) -> None:
    """See the top of this file.

    Raises ScoringError when scores and trials are not the same pairs; DataError for malformed lists and matrices.
    """
    import json

    import numpy as np

    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import read_scores_of, read_spk2utt, read_trials

    trial_list = read_trials(trials)
    values = read_scores_of(scores, trial_list)
    spk2utt = read_spk2utt(enroll_data / "spk2utt")
    enrolment = [FaceSet(enroll_embed, enroll_faces), FaceSet(fallback_embed, fallback_faces)]
    tested = FaceSet(test_embed, test_faces)

    def highest(rows: NDArray[np.int64], sign: int) -> list[int]:
        """Among equal scores the trials that are first in the list."""
        chosen: list[int] = rows[np.argsort(-sign * values[rows], kind="stable")[:count]].tolist()
        return chosen

    if trial_list.targets is None:
        groups = {"highest scores": highest(np.arange(len(values)), 1)}
    else:
        groups = {
            "highest non-targets": highest(np.flatnonzero(~trial_list.targets), 1),
            "lowest targets": highest(np.flatnonzero(trial_list.targets), -1),
        }
    content: dict[str, Any] = {"backend": backend, "snorm_cohort": snorm_cohort, "calibrated_on": calibrated_on}
    # Only there is the score that of one pair of faces, and the largest cosine's.
    content["pair_gave_score"] = backend in ("max", "v1") and not snorm_cohort
    content["groups"] = {
        title: [
            {
                "model": trial_list.model_ids[trial_list.model_index[row]],
                "segment": trial_list.segment_ids[trial_list.segment_index[row]],
                "score": float(values[row]),
            }
            for row in rows
        ]
        for title, rows in groups.items()
    }
    for picked in content["groups"].values():
        for trial in picked:
            trial |= _most_similar(spk2utt.get(trial["model"], []), trial["segment"], enrolment, tested)
    with atomic_write(output) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _most_similar(
    members: Sequence[str], segment: str, enrolment: Sequence[FaceSet], tested: FaceSet
) -> dict[str, Any]:
    """The pair of faces with the largest cosine, the first of equals.

    members: the model's segments; of each, the first of the sets of ``enrolment`` that has faces counts. Of the second
    the mean of a segment's faces was enrolled, not each of them.
    """
    import numpy as np

    from vidperson.backends.exact import length_normalise

    best: tuple[float, FaceSet, str, int, int] | None = None
    no_enrolment = True
    test = tested.embeddings.get(segment, np.zeros((0, 0), np.float32))
    for member in members:
        for faces in enrolment:
            rows = faces.embeddings.get(member, test[:0])
            if not len(rows):
                continue
            no_enrolment = False
            if len(test):
                cosines = length_normalise(rows) @ length_normalise(test).T
                i, j = divmod(int(cosines.argmax()), cosines.shape[1])
                if best is None or cosines[i, j] > best[0]:
                    best = float(cosines[i, j]), faces, member, i, j
            break
    if best is not None:
        cosine, faces, member, i, j = best
        shown = {"cosine": cosine, "enrolment": faces.face(member, i), "test": tested.face(segment, j), "why": None}
        return shown | {"mean_enrolled": faces is not enrolment[0]}
    missing = [where for where, none in (("enrolment", no_enrolment), ("test video", not len(test))) if none]
    why = f"no face in the {' and the '.join(missing)}"
    return {"cosine": None, "enrolment": None, "test": None, "why": why, "mean_enrolled": False}


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="score file")
    parser.add_argument("--trials", type=Path, required=True, help="trial list")
    parser.add_argument("--backend", required=True, help="back-end that made the scores, or fusion")
    parser.add_argument("--snorm-cohort", help="set that normalised them")
    parser.add_argument("--calibrated-on", help="set that their calibration was trained on")
    parser.add_argument("--enroll-data", type=Path, required=True, help="data folder with spk2utt")
    parser.add_argument("--enroll-embed", type=Path, required=True, help="folder with the reference faces' embed.scp")
    parser.add_argument("--enroll-faces", type=Path, help="stage 2's folder of the reference faces")
    parser.add_argument("--fallback-embed", type=Path, help="folder with the embed.scp of all detected faces")
    parser.add_argument("--fallback-faces", type=Path, help="stage 2's folder of all detected faces")
    parser.add_argument("--test-embed", type=Path, required=True, help="folder with the test faces' embed.scp")
    parser.add_argument("--test-faces", type=Path, help="stage 2's folder of the test faces")
    parser.add_argument("--count", type=cli.whole(1), default=6, help="trials of each kind")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    cli.main(pick_trials, parser.parse_args())
