"""What every step's command line shares: parsing, logging, and errors without a stack trace."""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import math
import os
import stat
import sys
import types
import typing
from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, NoReturn, TypeVar

from vidperson.errors import VidPersonError, os_error_text

T = TypeVar("T")
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Parser(argparse.ArgumentParser):
    """Refuses an unknown or shortened option and names the valid ones."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        known = {option for action in self._actions for option in action.option_strings}
        unknown = [word for word in self._words if word.startswith("--") and word.partition("=")[0] not in known]
        if unknown and "required" in message:  # what is missing may be misspelt
            message += f"; unknown: {' '.join(unknown)}"
        valid = " ".join(sorted(option for option in known if option.startswith("--")))
        self.exit(2, f"{self.prog}: {message}\nvalid options: {valid}\n")


class Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it is, with the defaults shown per option."""


def parser(
    doc: str | None, epilog: str = "Run it from the repository root after `. ./path.sh`."
) -> argparse.ArgumentParser:
    """A parser. Its help is the step's docstring, with the defaults shown per option."""
    return _Parser(description=doc, epilog=epilog, formatter_class=Help, allow_abbrev=False)


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


def _number(expected: str, is_valid: Callable[[float], bool]) -> Callable[[str], float]:
    """A type for options that take a number. ``is_valid`` is False for what is not expected, such as NaN."""

    def convert(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not is_valid(number):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {value}")
        return number

    return convert


share = _number("a number above 0 and up to 1", lambda number: 0 < number <= 1)
prior = _number("a number above 0 and below 1", lambda number: 0 < number < 1)
unit = _number("a number from 0 to 1", lambda number: 0 <= number <= 1)
cosine = _number("a number from -1 to 1", lambda number: -1 <= number <= 1)
finite = _number("a finite number", math.isfinite)
positive = _number("a number above 0", lambda number: 0 < number < math.inf)
not_negative = _number("a number from 0 on", lambda number: 0 <= number < math.inf)


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    convert: Callable[[str], Any] | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A field of a dataclass of options, see :func:`parse`; without ``default`` the option is required.

    convert: from the text; by default the field's type does it. A list takes one or more words, each converted.
    """
    metadata = {"help": help, "convert": convert, "choices": choices}
    if isinstance(default, tuple):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(options: type) -> Any:
    """A field that holds another dataclass of options, which has its own options beside the others."""
    return field(default_factory=options)


def parse(options: type[T], doc: str | None, arguments: Sequence[str] | None = None) -> T:
    """The command line as a dataclass: each field is an option, `--max-size` for ``max_size``.

    Types: str, int, float, bool (``true`` or ``false``), Path, any of these or None, a list of them, and :func:`group`.
    Leaves the process with a message and status 2 for a wrong command line.
    """
    made = parser(doc)
    add_options(made, options)
    return fill(options, **vars(made.parse_args(arguments)))


def fill(options: type[T], **values: Any) -> T:
    """A dataclass of options from Python: ``values`` go to whichever group has them, the others keep their defaults.

    Raises TypeError for a value that no group has, and without one that is required.
    """
    made = _take(options, values)
    if values:
        raise TypeError(f"{options.__name__} has no option {' '.join(values)}")
    return made


def add_options(made: argparse.ArgumentParser, options: type) -> None:
    """The fields of a dataclass as options of a parser; see :func:`parse`."""
    hints = typing.get_type_hints(options)
    for item in fields(options):
        hint = hints[item.name]
        if is_dataclass(hint):
            add_options(made, typing.cast(type, hint))
            continue
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        many = typing.get_origin(hint) is list
        kind = typing.get_args(hint)[0] if many else hint
        required = item.default is MISSING and item.default_factory is MISSING
        default = item.default if item.default_factory is MISSING else item.default_factory()
        made.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=item.metadata["convert"] or (flag if kind is bool else kind),
            choices=item.metadata["choices"],
            nargs="+" if many and required else "*" if many else None,
            required=required,
            default=SUPPRESS if required else default,
            help=item.metadata["help"],
        )


def _take(options: type[T], values: dict[str, Any]) -> T:
    """The dataclass with its own values, which are taken out of ``values``."""
    hints = typing.get_type_hints(options)
    found: dict[str, Any] = {}
    for item in fields(typing.cast(Any, options)):
        if is_dataclass(hints[item.name]):
            found[item.name] = _take(typing.cast(type, hints[item.name]), values)
        elif item.name in values:
            found[item.name] = values.pop(item.name)
    return options(**found)


def run(function: Callable[[T], Any], options: type[T], doc: str | None) -> NoReturn:
    """Call ``function`` with the options of the command line; see :func:`parse` and :func:`main`.

    A dataclass may check its values when it is made: a :class:`VidPersonError` of it is a message, too.
    """
    main(lambda: function(parse(options, doc)), argparse.Namespace())


def load(*modules: str) -> None:
    """Import modules, in a process that is about to be forked: the forks need not do so, each for itself."""
    gc.disable()  # hundreds of modules have much to visit, and nothing to free
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # nor have forks
    gc.enable()


def _is_file(stream: typing.TextIO) -> bool:
    """Whether a stream is written into a file, such as the log of a job."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return False


def main(function: Callable[..., Any], arguments: argparse.Namespace) -> NoReturn:
    """Call ``function(**arguments)`` with logging set up and leave the process with its outcome.

    Exit status 0 when it returns, 1 with a one-line message for a :class:`VidPersonError` or an OSError. With
    VIDPERSON_QUIET=true only warnings are shown, without the time; files get all.
    """
    quiet = os.environ.get("VIDPERSON_QUIET") == "true" and not _is_file(sys.stderr)
    level, form = (logging.WARNING, "%(message)s") if quiet else (logging.INFO, LOG_FORMAT)
    logging.basicConfig(level=level, stream=sys.stderr, format=form)
    try:
        function(**vars(arguments))
    except VidPersonError as error:
        sys.exit(f"ERROR: {error}")
    except OSError as error:
        sys.exit(f"ERROR: {os_error_text(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
