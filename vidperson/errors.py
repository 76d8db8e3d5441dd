"""Errors that a user can cause; a step prints their message without a stack trace and exits with 1."""

from __future__ import annotations

import os


class VidPersonError(Exception):
    """Base of all errors meant for the user's eyes: what was expected, what was found, what to do."""


_LONGEST_MESSAGE = 10_000


class DataError(VidPersonError):
    """A list, table or archive is malformed.

    ``path`` and ``line`` (1-based) are put in front of the message when they are given. What a file holds may be part
    of the message: one that is longer than any page is cut.
    """

    def __init__(self, message: str, path: str | os.PathLike[str] | None = None, line: int | None = None) -> None:
        where = "" if path is None else f"{os.fspath(path)}: " if line is None else f"{os.fspath(path)}:{line}: "
        if len(message) > _LONGEST_MESSAGE:
            message = message[:_LONGEST_MESSAGE] + " ..."
        super().__init__(where + message)


class MediaError(VidPersonError):
    """A video, image or audio file cannot be read at all; the message is the reason, without the path."""


class ModelError(VidPersonError):
    """A model card, a network file or its output is not what it should be."""


class EngineError(VidPersonError):
    """An engine or a device that was asked for is not there."""


class ScoringError(VidPersonError):
    """Scores and trials do not fit together, or cannot be evaluated."""


class TrainingError(VidPersonError):
    """Training cannot begin with these settings, or cannot go on."""


def os_error_text(error: OSError) -> str:
    """One line of an error that the system gave: the file and the reason."""
    return f"{error.filename or 'file'}: {error.strerror or error}"
