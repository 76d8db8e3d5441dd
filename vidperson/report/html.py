"""One HTML file that holds everything, and asks no other machine for anything."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; }
body { max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1em 0; } .scroll { overflow-x: auto; }
th, td { padding: .25em .8em; text-align: left; border-bottom: 1px solid #e3e3e3; white-space: nowrap; }
th { border-bottom: 2px solid #888; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.wide { white-space: normal; overflow-wrap: anywhere; }
figure { margin: 1em 0; } img { max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: .9em; }
"""


@dataclass
class Section:
    """A part of the report.

    table: heads and lines of cells.
    images: caption -> PNG or JPEG file.
    details: segment -> status, folded away.
    """

    title: str
    note: str = ""
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    images: Mapping[str, bytes] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole file. Every text is escaped: names in it come from the user's lists."""
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.note:
        parts.append(f'<p class="note">{escape(section.note)}</p>')
    if section.table:
        parts.append(_table(*section.table))
    for caption, content in section.images.items():
        kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
        data = base64.b64encode(content).decode()
        text = escape(caption)
        parts.append(
            f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}"><figcaption>{text}</figcaption></figure>'
        )
    if section.details:
        parts.append(f"<details><summary>{len(section.details)} segments that are not ok</summary>")
        parts.append(_table(("segment", "status"), list(section.details.items())))
        parts.append("</details>")
    return "\n".join(parts)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def cell(text: str) -> str:
        number = text == "-" or text.replace(".", "", 1).removeprefix("-").isdigit()
        kind = ' class="number"' if number else ' class="wide"' if len(text) > 60 else ""
        return f"<td{kind}>{escape(text)}</td>"

    rows = [
        "".join(f"<th>{escape(text)}</th>" for text in head),
        *("".join(map(cell, line)) for line in lines),
    ]
    return '<div class="scroll"><table>\n' + "\n".join(f"<tr>{row}</tr>" for row in rows) + "\n</table></div>"
