"""Real clips from folder to report: is every clip of a person ranked before all clips of strangers?

Inputs:  the real media that tests use (VIDPERSON_SHARED, see docs/develop.md): 17 persons with two to ten clips,
         speakers and films of other people, damaged and odd files without a face.
Outputs: <out-dir>/corpus with the folders of the corpus `clips`, <out-dir>/data, <out-dir>/exp with the report, and
         on stdout the figures, a line per clip that is not ranked before all strangers, CPU and wall seconds.

Of a person with n videos, n // 2 (at least 1) are to learn from; the others are validated on and tested in turn, the
first one is tested. Talks are cut into pieces of 4 s that do not overlap; all pieces of a talk stay on one side. Every
other video of strangers, in the order of their names, is to learn from. Other videos are links to the originals.
The man of robustness/base.mp4 is one of the persons (cosine 0.96): that folder is left out.

Exit status 1 where a clip is ranked behind a stranger and its faces were found.

Example:
  VIDPERSON_SHARED=../shared python benchmarks/real_clips.py --out-dir /tmp/real_clips
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from vidperson import cli
from vidperson.errors import DataError

PIECE_S = 4
TALKS = {"Obama_": "Obama", "feifeili_": "Fei-Fei Li", "andrew_": "Andrew Ng"}
LEFT_OUT = {
    "GRID_bbaf2n.mpg",  # the same file as s1_bbaf2n.mpg
    "id2_vcd_swwp2s.mpg",  # perhaps one of the speakers GRID_*
}
ROOT = Path(__file__).resolve().parents[1]
IDENTIFIER = "real_clips"
VALID = "0.34"  # of three videos one, of two one, of a single one none
OPTIONS = (
    "--config-file", "global_conf/config_clips.sh", "--clips-valid", VALID,
    "--trial-sets", "clips_train:clips_valid clips_train+clips_valid:clips_test",
    "--face-detector", "retinaface_tiny", "--face-embedder", "arcface_tiny",
    "--search-backends", "class-mean class-mean-whitened", "--identifiers", IDENTIFIER,
    "--search-fusion", f"class-mean-whitened {IDENTIFIER}", "--calibration-set", "clips_valid", "--second-look", "20",
)  # fmt: skip
TRAINING = ("--train-name", IDENTIFIER, "--train-sets", "clips_train", "--valid-set", "clips_valid")


class Source(NamedTuple):
    """A video of a person, or of strangers. cut_s: up to where it is cut into pieces, in seconds; 0: whole."""

    path: Path
    person: str = ""
    cut_s: float = 0.0


def sources(shared: Path) -> Iterator[Source]:
    """All videos, in the order of their names."""
    video = shared / "data/video"
    for path in sorted((shared / "data/clips").glob("asl_*/*.mkv")):
        yield Source(path, path.parent.name)
    for path in sorted(video.glob("avspeech/*.mp4")):
        yield Source(path, re.split(r"(_co)?_\d+_$", path.stem)[0])
    for path in sorted(video.glob("grid/*.mpg")):
        if path.name not in LEFT_OUT:
            yield Source(path, "s1" if path.name.startswith("s1_") else "")
    for path in sorted(video.glob("mead/*.mp4")):
        yield Source(path, path.name.split("_")[0])
    for path in sorted(video.glob("talks/*.mp4")):
        person = next((name for start, name in TALKS.items() if path.name.startswith(start)), "")
        yield Source(path, person, 60.0)
    yield Source(video / "hamilton/short_hamilton_clip.mp4", cut_s=7.0)  # after that Obama is in the audience
    yield Source(video / "titanic/test.mp4", cut_s=60.0)
    for path in sorted([*video.glob("odd/*.*"), video / "robustness/black_silent_noface.mp4"]):
        yield Source(path)


def lay_out(found: Sequence[Source], corpus: Path) -> None:
    """Make the folders of the corpus `clips`, and `search.key`, lines `<person><tab><clip>`."""
    by_person: dict[str, list[Source]] = defaultdict(list)
    for source in found:
        by_person[source.person].append(source)
    key: list[str] = []
    for person, own in sorted(by_person.items()):
        others = own[max(1, len(own) // 2) :]
        tested = set(others[::2]) if person else set(own[1::2])
        for source in own:
            if source in tested:
                key += [f"{person}\t{clip}\n" for clip in put(source, corpus / "search", False) if person]
            else:
                put(source, corpus / "persons" / person if person else corpus / "strangers", True)
    (corpus / "search.key").write_text("".join(sorted(key)))


def put(source: Source, folder: Path, own_folder: bool) -> list[str]:
    """Link a video into a folder, or cut it into pieces there; returns the names of the clips.

    own_folder: pieces get a folder of their own, which tells that they are of one video.
    """
    name = f"{source.path.parent.name}_{source.path.name}"
    if not source.cut_s:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(source.path.resolve())
        return [name]
    stem = Path(name).stem
    return cut(source, folder / stem if own_folder else folder, stem)


def cut(source: Source, folder: Path, stem: str) -> list[str]:
    """Cut a video into pieces of ``PIECE_S`` without sound; the rest of less than half a piece is left out."""
    import av

    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    with av.open(str(source.path)) as container:
        video = container.streams.video[0]
        rate = video.average_rate or Fraction(25)
        frames = round(PIECE_S * rate)
        pictures = [
            frame.reformat(format="yuv420p")
            for frame in container.decode(video)
            if frame.time is not None and frame.time < source.cut_s
        ]
    for begin in range(0, len(pictures) - frames // 2, frames):
        names.append(f"{stem}_{len(names):02d}.mp4")
        encode(pictures[begin : begin + frames], folder / names[-1], rate)
    return names


def encode(pictures: Sequence[Any], path: Path, rate: Fraction) -> None:
    """Write frames of PyAV as H.264, hardly with loss."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        for index, picture in enumerate(pictures):
            picture.pts, picture.time_base = index, 1 / rate
            picture.pict_type = 0
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def run_stages(work: Path, fps: float) -> dict[str, tuple[float, float]]:
    """Run the stages on `corpus`; returns the stage -> wall seconds, CPU seconds with those of all processes."""
    corpus = work / "corpus"
    given = [
        *OPTIONS, "--data-dir", f"{work}/data", "--exp-dir", f"{work}/exp",
        "--clips-persons", f"{corpus}/persons", "--clips-strangers", f"{corpus}/strangers",
        "--clips-search", f"{corpus}/search", "--clips-key", f"{corpus}/search.key", "--fps", str(fps),
    ]  # fmt: skip
    stages = {
        "000_get_pretrained_models": (), "001_prepare_data": (), "002_detect_faces": ("--stop-stage", "3"),
        "014_train_identifier": TRAINING, "004_score": (), "005_eval": (),
    }  # fmt: skip
    spent: dict[str, tuple[float, float]] = {}
    for stage, own in stages.items():
        begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {"VIDPERSON_PYTHON": sys.executable, **os.environ}
        done = subprocess.run([f"./run_{stage}.sh", *given, *own], cwd=ROOT, env=environment, stdout=sys.stderr)
        if done.returncode:
            raise DataError(f"run_{stage}.sh gave {done.returncode}; see its output above")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent[stage] = time.monotonic() - begin, cpu
    return spent


def not_first(
    ranks: Mapping[str, Sequence[str]], relevant: Mapping[str, Sequence[str]], status: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Model, segment and reason of each segment that is not ranked before all strangers for its model.

    The reason begins with `status` where the segment has no face.
    """
    known = {segment for segments in relevant.values() for segment in segments}
    for model, segments in sorted(relevant.items()):
        listed = ranks.get(model, ())
        for segment in sorted(segments):
            if segment in listed:
                before = [other for other in listed[: listed.index(segment)] if other not in known]
                if before:
                    yield model, segment, f"behind {' '.join(before)}"
            elif status[segment].startswith("ok"):
                yield model, segment, "has a face and is not listed"
            else:
                yield model, segment, f"status {status[segment]}"


def real_clips(out_dir: str, shared: str, fps: float) -> None:
    from vidperson.io.lines import read_scp
    from vidperson.io.ranks import read_ranks, read_relevant
    from vidperson.metrics.ranking import mean_average_precision

    work = Path(out_dir).resolve()
    if (work / "corpus").exists():
        raise DataError("expected a folder without a corpus; remove it, or choose another one", work)
    found = list(sources(Path(shared).resolve()))
    begin = time.process_time()
    lay_out(found, work / "corpus")
    print(f"folders of clips: {time.process_time() - begin:.1f} CPU seconds")
    spent = run_stages(work, fps)
    for stage, (wall, cpu) in spent.items():
        print(f"run_{stage}.sh: {wall:.1f} s, {cpu:.1f} CPU seconds")
    print(
        f"all stages: {sum(wall for wall, _ in spent.values()):.1f} s, {sum(cpu for _, cpu in spent.values()):.1f} CPU"
    )
    relevant = read_relevant(work / "data/clips_test/relevant")
    status = read_scp(work / "exp/face_det/retinaface_tiny/clips_test/status")
    print(f"{len(relevant)} persons, {sum(map(len, relevant.values()))} clips of them, {len(status)} clips searched")
    failed = False
    for path in sorted((work / "exp/scores").glob("*/*/clips_test_ranks")):
        ranks = read_ranks(path)
        late = list(not_first(ranks, relevant, status))
        print(f"{path.parent.name}: mAP@100 {mean_average_precision(ranks, relevant, 100):.4f}")
        for model, segment, reason in late:
            print(f"  {model}: {segment}: {reason}")
        failed = failed or any(not reason.startswith("status") for _, _, reason in late)
    if failed:
        raise DataError("clips with a face are ranked behind strangers, see above")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--out-dir", required=True, help="new folder for the corpus, data and results")
    parser.add_argument(
        "--shared", default=os.environ.get("VIDPERSON_SHARED", "../shared"), help="folder of the real media"
    )
    parser.add_argument("--fps", type=cli.positive, default=4.0, help="frames per second of video that are searched")
    cli.main(real_clips, parser.parse_args())
