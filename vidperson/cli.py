"""What every step's command line shares: parsing, logging, and errors without a stack trace."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from vidperson.errors import VidPersonError, os_error_text


class _Parser(argparse.ArgumentParser):
    """Refuses an unknown or shortened option and names the valid ones."""

    def error(self, message: str) -> NoReturn:
        valid = " ".join(sorted(o for a in self._actions for o in a.option_strings if o.startswith("--")))
        self.exit(2, f"{self.prog}: {message}\nvalid options: {valid}\n")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the step's docstring, with the defaults shown per option."""

    class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
        pass

    epilog = "Run it from the repository root after `. ./path.sh`."
    return _Parser(description=doc, epilog=epilog, formatter_class=_Help, allow_abbrev=False)


def flag(value: str) -> bool:
    """``true`` / ``false`` as the recipe's configs write them.

    Raises argparse.ArgumentTypeError for anything else.
    """
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found '{value}'")
    return value == "true"


def whole(least: int) -> Callable[[str], int]:
    """A type for options that take a whole number, ``least`` or more."""

    def convert(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, found {value}")
        return number

    return convert


def share(value: str) -> float:
    """A number above 0 and up to 1. Raises argparse.ArgumentTypeError for anything else."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1, found {value}")
    return number


def positive(value: str) -> float:
    """A finite number above 0. Raises argparse.ArgumentTypeError for anything else."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {value}")
    return number


def not_negative(value: str) -> float:
    """A finite number from 0 on. Raises argparse.ArgumentTypeError for anything else."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, found {value}")
    return number


def main(function: Callable[..., Any], arguments: argparse.Namespace) -> NoReturn:
    """Call ``function(**arguments)`` with logging set up and leave the process with its outcome.

    Exit status 0 when it returns, 1 with a one-line message for a :class:`VidPersonError` or an OSError.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        function(**vars(arguments))
    except VidPersonError as error:
        sys.exit(f"ERROR: {error}")
    except OSError as error:
        sys.exit(f"ERROR: {os_error_text(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
