#!/usr/bin/env python3
"""The names of the clips in the official feature files: where there are no clips, who the strangers are.

inputs:  pickles such as face_val_v2.pickle: clip -> its faces. Nothing in them is run
outputs: a list of clips, one <clip>.mp4 a line, in the order of the C locale. Called IQIYI_VID.txt and put beside the
         other lists, it gives iqiyi_vid_val its strangers and iqiyi_vid_test its clips

example: python local/iqiyi_vid/list_clips.py --output /corpora/iqiyi/IQIYI_VID.txt \\
             --pickle /corpora/iqiyi/face_val_v2.pickle /corpora/iqiyi/face_test.pickle
"""

from __future__ import annotations

from pathlib import Path

from vidperson import cli


def list_clips(pickle: list[Path], output: Path) -> None:
    from vidperson.corpora.iqiyi_features import clip_names
    from vidperson.io.lines import sort_key, write_lines

    names = sorted({f"{clip}.mp4" for clip in clip_names(pickle)}, key=sort_key)
    write_lines(output, names)
    print(f"{output}: {len(names)} clips")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--pickle", type=Path, nargs="+", required=True, help="the official feature files")
    parser.add_argument("--output", type=Path, required=True, help="list to write")
    cli.main(list_clips, parser.parse_args())
