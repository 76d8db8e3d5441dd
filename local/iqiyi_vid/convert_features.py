#!/usr/bin/env python3
"""The official face features of iQIYI-VID -> outputs of stages 2 and 3, which need not be run then.

inputs:  <data-dir>/vid.scp (or frames.scp): the last part of each path names a clip, without .mp4
         pickles such as face_train_v2.pickle: clip -> list of [frame number, [x1, y1, x2, y2],
         detection score, quality, 512 values]. Nothing in them is run: numbers, strings, plain
         containers and arrays of numbers are read, anything else is refused
outputs: <exp-dir>/face_det/<name>/<set>    faces.{ark,scp} with landmarks of 0, weights.{ark,scp}
         (N, 1): detection score times a weight by quality, status, record
         <exp-dir>/face_embed/<name>/<set>  embed.{ark,scp}, status, record
         A clip that is in no pickle has the status no_face.

example: python local/iqiyi_vid/convert_features.py --data-dir data/iqiyi_vid_train \\
             --pickle /corpora/iqiyi/face_train_v2.pickle
"""

from __future__ import annotations

import os
from pathlib import Path

from vidperson import cli


def convert(data_dir: Path, pickle: list[Path], exp_dir: Path, name: str, force: bool) -> None:
    from vidperson.corpora.iqiyi_features import convert_features

    data_set = os.path.basename(os.path.abspath(data_dir))
    items, embeddings = (exp_dir / kind / name / data_set for kind in ("face_det", "face_embed"))
    counts = convert_features(pickle, data_dir, items, embeddings, force)
    if counts is None:
        print(f"{items} and {embeddings}: done already (--force true makes them again)")
        return
    print(f"{items}: {counts.clips} clips, {counts.without} of them without a face; {counts.faces} faces")
    if counts.others:
        print(f"{counts.others} clips of the pickles are not in {data_dir}")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="data folder with the list of clips")
    parser.add_argument("--pickle", type=Path, nargs="+", required=True, help="the official feature files")
    parser.add_argument("--exp-dir", type=Path, default=Path("exp"), help="folder of everything that stages compute")
    parser.add_argument("--name", default="iqiyi_vid", help="name that stages know detector and embedder by")
    parser.add_argument("--force", type=cli.flag, default=False, help="true: replace what is there")
    cli.main(convert, parser.parse_args())
