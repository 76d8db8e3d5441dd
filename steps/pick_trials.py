#!/usr/bin/env python3
"""Pick the most instructive trials of a test set, and the items that show why they scored so.

Inputs:
  SCORES                      <model> <segment> <score>, exactly the pairs of the trials
  TEST_DATA/trials            <model> <segment> [target|nontarget]
  ENROLL_DATA/spk2utt         <model> <segment> <segment> ...
  EMBED_DIR/<part>/embed.scp  an (N, dim) float32 matrix per segment, as steps/score.py reads them
  ITEMS_DIR/<part>            what stage 2 found: (N, 17) float32 items that the rows are of, and
                              crops.scp, N images per segment; of speech the stretches that were
                              embedded, start_s end_s level_db ... each
  ENROLL_DATA, TEST_DATA      wav.scp, of what is heard: the spectrogram of its beginning is shown
Output:
  OUTPUT                      JSON: the COUNT highest non-target and the COUNT lowest target
                              trials, of a list without key the COUNT highest. For each, the pair
                              of items with the largest cosine between enrolment and test
                              (docs/formats.md). What is missing is said in place

Example:
  steps/pick_trials.py --modality face --embed-dir exp/face_embed/arcface_tiny \\
    --enroll-parts "demo_dev_enroll_ref demo_dev_enroll_facedet" --backend max \\
    --enroll-data data/demo_dev_enroll --items-dir exp/face_det/retinaface_tiny \\
    --test-part demo_dev_test --test-data data/demo_dev_test --output picked.json \\
    --scores exp/scores/arcface_tiny/max/demo_dev_test_scores
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.score import PairOptions, checked_matrices, items_of, refuse_damaged
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PickOptions:
    scores: Path = cli.option(help="score file")
    backend: str = cli.option(help="back-end that made the scores, or fusion")
    output: Path = cli.option(help="JSON file to write")
    pair: PairOptions = cli.group(PairOptions)
    snorm_cohort: str = cli.option("", "part that normalised them; empty: none")
    calibrated_on: str = cli.option("", "set that their calibration was trained on; empty: none")
    count: int = cli.option(6, "trials of each kind", convert=cli.whole(1))


@dataclass
class ItemSet:
    """What stages 2 and 3 wrote for a part; without their files it has no items.

    items: name of the archive of stage 2. data: the data folder, where what is heard is shown.
    """

    embed: Path
    folder: Path | None
    items: str
    data: Path | None = None

    @cached_property
    def embeddings(self) -> Mapping[str, NDArray[np.float32]]:
        """Per segment (N, dim) float32."""
        return self._matrices(self.embed, "embed")

    @cached_property
    def rows(self) -> Mapping[str, NDArray[np.float32]]:
        """Per segment (N, 17) float32, an item per row."""
        return self._matrices(self.folder, self.items)

    @cached_property
    def crops(self) -> Mapping[str, str]:
        """Per segment with items, where its first crop is."""
        from vidperson.io.lines import read_paths
        from vidperson.io.record import checked

        if self.folder is None or not (self.folder / "crops.scp").is_file():
            return {}
        refuse_damaged(self.folder)  # the archive of the images is large, and few of them are read
        return read_paths(checked(self.folder / "crops.scp"))

    @cached_property
    def sounds(self) -> Mapping[str, str]:
        """Per segment, its sound file."""
        from vidperson.io.lines import read_paths

        return read_paths(self.data / "wav.scp") if self.data and (self.data / "wav.scp").is_file() else {}

    @staticmethod
    def _matrices(folder: Path | None, name: str) -> Mapping[str, NDArray[np.float32]]:
        if folder is None or not (folder / f"{name}.scp").is_file():
            return {}
        return checked_matrices(folder, name)

    def item(self, segment: str, row: int) -> dict[str, Any]:
        """Where an item is, and its image, or why there is none."""
        from vidperson.report.pictures import shrunken_jpeg
        from vidperson.types import HEARD

        if self.items in HEARD:
            return self._heard(segment)
        item: dict[str, Any] = {"segment": segment, "time_s": None}
        rows = self.rows.get(segment)
        if rows is not None and row < len(rows):
            item["time_s"] = round(float(rows[row, 1]), 3)
        return item | self.picture(segment, row, lambda png: shrunken_jpeg(png, 112, 90))

    def _heard(self, segment: str) -> dict[str, Any]:
        """What was embedded of the sound of a segment: from when on, how much, how loud; and its spectrogram."""
        from base64 import b64encode

        import numpy as np

        from vidperson.errors import MediaError
        from vidperson.media.audio import SoundReader
        from vidperson.report.sounds import SHOWN_S, spectrogram_png

        item: dict[str, Any] = {"segment": segment, "time_s": None, "about": "", "jpeg": None, "why": None}
        start, stretches = 0.0, self.rows.get(segment)
        if stretches is not None and len(stretches):
            start, lengths = float(stretches[0, 0]), stretches[:, 1] - stretches[:, 0]
            level = float(np.average(stretches[:, 2], weights=np.maximum(lengths, 1e-3)))
            item |= {"time_s": round(start, 3), "about": f"{lengths.sum():.1f} s of sound, {level:.0f} dB"}
        if segment not in self.sounds:
            return item | {"why": "the sound is not there: wav.scp does not name it"}
        blocks, wanted = [np.zeros(0, np.float32)], SHOWN_S
        try:
            with SoundReader(self.sounds[segment], block_s=1.0) as reader:
                for second, block in enumerate(reader):
                    if second + 1 > start:
                        blocks.append(block[round(max(0.0, start - second) * 16000) :])
                    if sum(map(len, blocks)) >= wanted * 16000:
                        break
        except (MediaError, OSError) as error:
            return item | {"why": f"the sound cannot be read: {error}"}
        shown = np.concatenate(blocks)[: round(wanted * 16000)]
        return item | {"jpeg": b64encode(spectrogram_png(shown, 16000)).decode()}

    def picture(self, segment: str, row: int, shrink: Callable[[bytes], bytes]) -> dict[str, Any]:
        """The image of an item, "jpeg" in base64, or "why" there is none. shrink: a PNG file to a JPEG file."""
        from base64 import b64encode

        from vidperson.errors import DataError
        from vidperson.io.crops import read_tar_files

        if segment not in self.crops:
            return {"jpeg": None, "why": "the image is not there: stage 2's crops are missing"}
        try:
            *_, (_, png) = read_tar_files(self.crops[segment], row + 1)
            return {"jpeg": b64encode(shrink(png)).decode(), "why": None}
        except (DataError, OSError) as error:
            return {"jpeg": None, "why": f"the image cannot be read: {error}"}


def pick_trials(options: PickOptions) -> None:
    """See the top of this file.

    Raises ScoringError when scores and trials are not the same pairs; DataError for malformed or
    edited lists and matrices.
    """
    import json

    from vidperson.io.atomic import atomic_write
    from vidperson.io.lines import read_spk2utt
    from vidperson.io.lists import read_scores_of, read_trials
    from vidperson.io.record import checked

    pair = options.pair
    trials = read_trials(pair.trials)
    values = read_scores_of(checked(options.scores), trials)
    spk2utt = read_spk2utt(pair.enroll_data / "spk2utt")
    data = [*(pair.enroll_data for _ in pair.parts[1:]), pair.test_data]
    sets = [
        ItemSet(pair.embeddings(part), pair.items(part), items_of(pair.modality), folder)
        for part, folder in zip(pair.parts, data, strict=True)
    ]
    content: dict[str, Any] = {"modality": pair.modality, "backend": options.backend}
    content |= {"snorm_cohort": options.snorm_cohort or None, "calibrated_on": options.calibrated_on or None}
    # Only there is the score that of one pair of items, and the largest cosine's.
    content["pair_gave_score"] = options.backend in ("max", "v1") and not options.snorm_cohort
    content["groups"] = {
        title: [
            {
                "model": trials.model_ids[trials.model_index[row]],
                "segment": trials.segment_ids[trials.segment_index[row]],
                "score": float(values[row]),
            }
            for row in rows
        ]
        for title, rows in _groups(values, trials.targets, options.count).items()
    }
    for picked in content["groups"].values():
        for trial in picked:
            members = spk2utt.get(trial["model"], [])
            trial |= _most_similar(members, trial["segment"], sets[:-1], sets[-1], pair.modality)
    with atomic_write(options.output) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _groups(values: NDArray[np.float64], targets: NDArray[np.bool_] | None, count: int) -> dict[str, list[int]]:
    """Rows of the trials to show, by the title of their group; of equal scores the first ones."""
    import numpy as np

    def highest(rows: NDArray[np.int64], sign: int) -> list[int]:
        chosen: list[int] = rows[np.argsort(-sign * values[rows], kind="stable")[:count]].tolist()
        return chosen

    if targets is None:
        return {"highest scores": highest(np.arange(len(values)), 1)}
    return {
        "highest non-targets": highest(np.flatnonzero(~targets), 1),
        "lowest targets": highest(np.flatnonzero(targets), -1),
    }


def _most_similar(
    members: Sequence[str], segment: str, enrolment: Sequence[ItemSet], tested: ItemSet, modality: str
) -> dict[str, Any]:
    """The pair of items with the largest cosine, the first of equals.

    members: the model's segments; of each, the first of the sets of ``enrolment`` that has items
    counts. Of the second the mean of a segment's items was enrolled, not each of them.
    """
    import numpy as np

    from vidperson.backends.exact import length_normalise

    best: tuple[float, ItemSet, str, int, int] | None = None
    no_enrolment = True
    test = tested.embeddings.get(segment, np.zeros((0, 0), np.float32))
    for member in members:
        for items in enrolment:
            rows = items.embeddings.get(member, test[:0])
            if not len(rows):
                continue
            no_enrolment = False
            if len(test):
                cosines = length_normalise(rows) @ length_normalise(test).T
                i, j = divmod(int(cosines.argmax()), cosines.shape[1])
                if best is None or cosines[i, j] > best[0]:
                    best = float(cosines[i, j]), items, member, i, j
            break
    if best is not None:
        cosine, items, member, i, j = best
        shown = {"cosine": cosine, "enrolment": items.item(member, i), "test": tested.item(segment, j), "why": None}
        return shown | {"mean_enrolled": items is not enrolment[0]}
    missing = [where for where, none in (("enrolment", no_enrolment), ("test video", not len(test))) if none]
    why = f"no {modality} in the {' and the '.join(missing)}"
    return {"cosine": None, "enrolment": None, "test": None, "why": why, "mean_enrolled": False}


if __name__ == "__main__":
    cli.run(pick_trials, PickOptions, __doc__)
