"""Recognise persons in photos and videos.

vidperson who persons/ videos/      who is in these videos, and when?
vidperson compare a.jpg b.jpg       is it the same person?
vidperson faces photo.jpg           the faces in an image or a video
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vidperson import __version__, cli

if TYPE_CHECKING:
    from vidperson.app import App, Face

WHO = """Who is in these videos, and when? Prints a table, and writes it with more into --output-dir.

PERSONS is a folder with one folder per person, with photos or videos in it. Without any, or empty ('')
everybody is unknown: the same person has the same number in all videos. VIDEOS is a folder of videos and
images, or one file. A second run does only what is new."""
COMPARE = """Is it the same person? Prints `cosine`, `llr` and `probability`, one a line.

cosine is that of the two embeddings, -1 to 1. llr is the natural log-likelihood ratio, one person or
two, by the calibration in the embedder's card. probability is that of one person, by llr and --prior.
Of several faces in an image the largest is taken, and that is said."""
FACES = """Print the faces of images and videos: a line per face, columns separated by tabs.

time_s is 0 for images. x1 y1 x2 y2 is the box, and eyes the distance of the eyes, in pixels."""
FACE_COLUMNS = ("file", "time_s", "x1", "y1", "x2", "y2", "score", "eyes")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command ``vidperson``. Leaves the process with the outcome; see :func:`vidperson.cli.main`."""
    made, commands = _parsers()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        made.print_help(sys.stderr)
        sys.exit(2)
    found, unknown = made.parse_known_args(arguments)
    given = vars(found)
    if unknown:
        commands[given["name"]].error(f"unrecognized arguments: {' '.join(unknown)}")
    del given["name"]
    command, verbose = given.pop("command"), given.pop("verbose")
    if command is who:
        given["call"] = shlex.join(["vidperson", *arguments])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, stream=sys.stderr, format=cli.LOG_FORMAT)
    cli.main(command, argparse.Namespace(**given))


def who(
    persons: str, videos: str, output_dir: Path, annotate: bool, most_rows: int, call: str, **settings: Any
) -> None:
    """Answer for folders, and print the table. Raises as :func:`~vidperson.who.folders.find_in_folders`."""
    from vidperson.app import Settings
    from vidperson.io.answers import read_who_csv
    from vidperson.report.who_table import who_table
    from vidperson.who.folders import find_in_folders
    from vidperson.who.summary import summarise

    def tell(what: str) -> None:
        print(f"{what} ...", file=sys.stderr)

    for note in find_in_folders(Settings(**settings), persons, videos, output_dir, tell, call, annotate):
        print(note, file=sys.stderr)
    for line in who_table(read_who_csv(output_dir / "who.csv"), most_rows):
        print(line)
    print("", *summarise(output_dir / "who.json").lines(), "", sep="\n")
    print(output_dir / "who.csv", output_dir / "report.html", sep="\n")


def compare(first: str, second: str, prior: float, **settings: Any) -> None:
    """Print the comparison of two images. Raises as :meth:`~vidperson.app.App.compare`."""
    found = _load(settings).compare(first, second, prior)
    for note in found.notes:
        print(note, file=sys.stderr)
    print(f"cosine       {found.cosine:.4f}\nllr          {found.llr:.2f}\nprobability  {found.probability:.4f}")


def faces(files: Sequence[str], as_json: bool, **settings: Any) -> None:
    """Print the faces of images and videos.

    What cannot be read is said, and the rest goes on. Raises DataError at the end, where there was such a file.
    """
    from vidperson.errors import DataError

    app, failed = _load(settings), 0
    if not as_json:
        print(*FACE_COLUMNS, sep="\t")
    for file in files:
        try:
            found = app.faces(file)
        except DataError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            failed += 1
            continue
        for line in _as_json(file, found) if as_json else _as_table(file, found):
            print(line)
    if failed:
        raise DataError(f"{failed} of {len(files)} files cannot be read")


def _as_table(file: str, found: Sequence[Face]) -> Iterator[str]:
    shown = json.dumps(file, ensure_ascii=False)[1:-1]  # a name may hold tabs and line ends
    for face in found:
        box = "\t".join(f"{side:.1f}" for side in face.box)
        yield f"{shown}\t{face.time_s:.3f}\t{box}\t{face.score:.3f}\t{face.eye_distance:.1f}"


def _as_json(file: str, found: Sequence[Face]) -> Iterator[str]:
    for face in found:
        values = {
            "file": file, "frame": face.frame, "time_s": face.time_s, "box": face.box, "score": face.score,
            "landmarks": face.landmarks, "eye_distance": face.eye_distance, "embedding": face.embedding.tolist(),
        }  # fmt: skip
        yield json.dumps(values, ensure_ascii=False)


def _load(settings: dict[str, Any]) -> App:
    """Says which networks it opens."""
    from vidperson.app import load

    app = load(**settings)
    print(f"networks: {app.networks}", file=sys.stderr)
    return app


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The whole parser, and that of each command."""
    from vidperson.app import FaceSettings, Settings

    made = cli.parser(__doc__, epilog="vidperson <command> --help shows the options of a command.")
    made.prog = "vidperson"
    made.add_argument("--version", action="version", version=f"vidperson {__version__}")
    commands = made.add_subparsers(required=True, metavar="command", dest="name")

    def add(name: str, run: Any, help_text: str, settings: type) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=help_text.partition("\n")[0], description=help_text, formatter_class=cli.Help, allow_abbrev=False
        )
        command.set_defaults(command=run)
        cli.add_options(command, settings)
        command.add_argument("--verbose", type=cli.flag, default=False, help="true: say what runs the networks")
        return command

    folders = add("who", who, WHO, Settings)
    folders.add_argument("persons", help="folder with one folder per person")
    folders.add_argument("videos", help="folder of videos and images, or one of them")
    folders.add_argument("--output-dir", type=Path, default=Path("who"), help="folder of the answer")
    folders.add_argument(
        "--annotate", type=cli.flag, default=False, help="true: copy each video with boxes and names drawn in"
    )
    folders.add_argument("--most-rows", type=cli.whole(1), default=100, help="lines of the table that is printed")
    two = add("compare", compare, COMPARE, FaceSettings)
    two.add_argument("first", help="image or video")
    two.add_argument("second", help="likewise")
    two.add_argument("--prior", type=cli.prior, default=0.5, help="probability that it is one person, beforehand")
    many = add("faces", faces, FACES, FaceSettings)
    many.add_argument("files", nargs="+", help="images, videos, or folders of images that are one video each")
    many.add_argument("--as-json", type=cli.flag, default=False, help="true: a JSON object per face, with embedding")
    return made, commands.choices


if __name__ == "__main__":
    main()
