"""Pages from the templates in ``templates/``: HTML files that hold all they need and ask no other machine for anything.

``base.html.j2`` gives every page its style, script, dark mode, print form and landmarks. A template of a page extends
it. Each value that a template shows is escaped: names come from the user's lists and folders.
"""

from __future__ import annotations

import base64
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson.report.tables import MOST_LISTED, number_columns

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """The page of a template with these values, ends with a newline.

    Raises jinja2.UndefinedError for a value that the template uses and nobody gave.
    """
    return environment().get_template(template).render(values)


def part(template: str, **values: Any) -> Markup:
    """A part of a page, from a template; another template shows it as it is.

    Raises KeyError for a value that the template uses and nobody gave.
    """
    from jinja2 import UndefinedError
    from markupsafe import Markup

    try:
        return Markup(render(template, **values))
    except UndefinedError as error:
        raise KeyError(str(error)) from None


@functools.cache
def environment() -> Environment:
    """The templates, with what they may call.

    ``data_uri(content)``: a PNG, JPEG or WAV file as the page holds it; ``encoded_uri(text)``: likewise of its Base64.
    ``inline(name)``: a file beside the templates, as it is: style and script. ``number_columns(table)`` and
    ``most_listed``: those of ``tables``. ``name | breakable``: may be broken behind its signs.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    made.globals.update(data_uri=data_uri, encoded_uri=encoded_uri, inline=inline)
    made.globals.update(number_columns=number_columns, most_listed=MOST_LISTED)
    made.filters["breakable"] = breakable
    return made


def data_uri(content: bytes) -> str:
    """A PNG, JPEG or WAV file as the page holds it."""
    kinds = {b"\x89PNG": "image/png", b"RIFF": "audio/wav"}
    return f"data:{kinds.get(content[:4], 'image/jpeg')};base64,{base64.b64encode(content).decode()}"


def encoded_uri(text: str) -> str:
    """A PNG, JPEG or WAV file that is given in Base64, as the page holds it. Raises ValueError for other text."""
    return data_uri(base64.b64decode(text, validate=True))


@functools.cache
def inline(name: str) -> Markup:
    """A file beside the templates as markup that is not escaped: our own style and script, never what a user gave."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def breakable(name: str) -> Markup:
    """A name as markup that a line may break behind ``/``, ``_``, ``-`` and ``.``, too."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=[/_.-])(?=\w)", "<wbr>", str(escape(name))))
