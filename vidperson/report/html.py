"""One HTML file that holds everything, and asks no other machine for anything.

The functions return markup, in which every text that they were given is escaped: names come from the user's lists.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from vidperson.report.tables import Table, is_number

MOST_LISTED = 1000
"""Lines of a folded list beyond which it is cut off, with a word on where the rest is."""

# The page itself may run its script, show pictures and play sounds that it holds; nothing else is allowed to happen.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --dim: #626a73; --line: #dfe3e8; --strong: #9aa3ad; --back: #fff;
  --soft: #f5f7f9; --link: #1f5f9f; --right: #257a37; --wrong: #b2452c; --missed: #8a6400; }
@media (prefers-color-scheme: dark) { :root { --text: #dde2e8; --dim: #98a2ad; --line: #30363d; --strong: #68727d;
  --back: #14181d; --soft: #1c2127; --link: #7fb4ea; --right: #6cc47f; --wrong: #ee8f77; --missed: #d9b356; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; color: var(--text);
  background: var(--back); max-width: 1180px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; font-weight: 600; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 3rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; font-weight: 600; margin: 1.75rem 0 .5rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav { margin: .75rem 0 0; } nav a { margin-right: 1.25rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; } .note, figcaption, summary { color: var(--dim); font-size: .875rem; }
.note { max-width: 75ch; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .3rem .5rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { border-bottom-color: var(--strong); font-weight: 600; vertical-align: bottom; white-space: normal; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.wide { white-space: normal; overflow-wrap: anywhere; min-width: 20rem; }
tbody tr:hover { background: var(--soft); }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--link); }
th button::after { content: "\\a0\\2195"; opacity: .35; font-weight: 400; }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; opacity: 1; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; vertical-align: top; }
figure.plot img, figure.sheet img { background: #fff; border-radius: 4px; border: 1px solid var(--line); }
.figures { display: flex; flex-wrap: wrap; gap: 0 1.5rem; } .figures figure { flex: 1 1 330px; max-width: 540px; }
figcaption { margin-top: .35rem; max-width: 75ch; }
details { margin: .5rem 0; } summary { cursor: pointer; }
.trials { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 1rem; }
.trial { border: 1px solid var(--line); border-radius: 6px; padding: .75rem; background: var(--soft); }
.trial p { margin: 0 0 .5rem; font-size: .875rem; overflow-wrap: anywhere; } .trial p.note { margin: 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; }
.pair figure { margin: 0; min-width: 0; }
.pair figcaption { font-size: .78rem; line-height: 1.35; overflow-wrap: anywhere; }
.pair img { width: 112px; border-radius: 4px; } .pair img.sound { width: 100%; }
.pair audio { width: 100%; height: 2rem; }
.missing { width: 112px; height: 112px; border: 1px dashed var(--strong); border-radius: 4px; padding: .4rem;
  font-size: .72rem; line-height: 1.3; color: var(--dim); overflow: hidden; }
.searchable .scroll { max-height: 34rem; overflow: auto; margin-top: .4rem; }
.searchable thead th { position: sticky; top: 0; background: var(--back); box-shadow: inset 0 -1px var(--strong); }
.searchable td.wide { min-width: 26rem; }
.search { display: flex; align-items: baseline; gap: .75rem; margin: .5rem 0 0; flex-wrap: wrap; }
.search input { font: inherit; font-size: .875rem; padding: .25rem .5rem; width: 22rem; max-width: 100%;
  color: var(--text); background: var(--back); border: 1px solid var(--strong); border-radius: 4px; }
.search input:focus-visible { outline: 2px solid var(--link); outline-offset: -1px; }
.person .trials { grid-template-columns: repeat(auto-fill, minmax(262px, 1fr)); gap: .75rem; }
h4 { font-size: .95rem; font-weight: 600; margin: 1.25rem 0 .5rem; overflow-wrap: anywhere; }
.facts { font-weight: 400; font-size: .875rem; color: var(--dim); margin-left: .4rem; }
.kind { display: inline-block; font-size: .75rem; padding: 0 .4rem; margin-right: .5rem; border-radius: 3px;
  border: 1px solid currentColor; }
.kind.right { color: var(--right); } .kind.wrong { color: var(--wrong); } .kind.missed { color: var(--missed); }
details.group { margin: 1rem 0; padding-top: .4rem; border-top: 1px solid var(--line); }
details.group > summary { font-size: .95rem; font-weight: 600; color: var(--text); }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: .6rem .5rem; }
.strip figure { margin: 0; border-top: 3px solid var(--line); padding-top: 3px; }
.strip figure.right { border-color: var(--right); } .strip figure.wrong { border-color: var(--wrong); }
.strip figure.missed { border-color: var(--missed); } .strip figure.portrait { border-color: var(--link); }
.strip figcaption { font-size: .75rem; line-height: 1.3; margin-top: .2rem; overflow-wrap: anywhere; }
.strip figcaption b { color: var(--text); } .strip .id { opacity: .75; }
.boxed { position: relative; display: inline-block; overflow: hidden; border-radius: 3px; vertical-align: top; }
.boxed img { display: block; height: auto; }
.boxed i { position: absolute; border: 2px solid #2fd45a; box-shadow: 0 0 0 1px #0007; }
@media print { th button::after { content: none; } details { break-inside: avoid; } }
"""

# Without it the tables are as they are; with it a click on a head sorts by that column, a second one turns it round,
# and what is typed above a long table leaves only the lines with all of its words.
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const key = row => row.cells[column].textContent;
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "-" || b === "-") return (a === "-") - (b === "-");
        const [x, y] = [Number(a), Number(b)];
        return turn * (isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", {numeric: true}) : x - y);
      });
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
      body.append(...rows);
    });
  });
}
for (const box of document.querySelectorAll(".searchable")) {
  const groups = [...box.querySelectorAll("details.group")];
  const rows = [...box.querySelectorAll(groups.length ? ".person" : "tbody tr")];
  const texts = rows.map(row => row.textContent.toLowerCase());
  const line = document.createElement("div"), input = document.createElement("input");
  const count = document.createElement("span");
  line.className = "search";
  count.className = "note";
  input.type = "search";
  input.placeholder = "search, such as a name";
  input.setAttribute("aria-label", "show only lines with these words");
  const show = () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      row.hidden = !words.every(word => texts[at].includes(word));
      shown += !row.hidden;
    });
    for (const group of groups) {
      group.hidden = words.length > 0 && !rows.some(row => group.contains(row) && !row.hidden);
      group.open = group.open || (words.length > 0 && !group.hidden);
    }
    count.textContent = words.length ? `${shown} of ${rows.length}` : "";
  };
  input.addEventListener("input", show);
  line.append(input, count);
  box.prepend(line);
}
"""


@dataclass
class Section:
    """A part of the report. ``parts``: markup, as the functions below return it."""

    title: str
    parts: list[str] = field(default_factory=list)


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole file."""
    links = "\n".join(f'<a href="#part{i}">{escape(section.title)}</a>' for i, section in enumerate(sections))
    body = "\n".join(
        "\n".join([f'<section id="part{i}">', f"<h2>{escape(section.title)}</h2>", *section.parts, "</section>"])
        for i, section in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="note">{escape(subtitle)}</p>\n<nav>\n{links}\n</nav>\n{body}\n'
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def note(text: str) -> str:
    """A paragraph of small print."""
    return f'<p class="note">{escape(text)}</p>'


def table(content: Table) -> str:
    """A table that a click on a column's head sorts."""
    head, lines = content
    numeric = [all(is_number(line[i]) for line in lines) for i in range(len(head))]

    def cell(tag: str, text: str, number: bool) -> str:
        kind = ' class="number"' if number else ' class="wide"' if len(text) > 60 else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    def row(tag: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(cell(tag, text, right) for text, right in zip(texts, numeric, strict=True)) + "</tr>"

    rows = "\n".join(row("td", line) for line in lines)
    return f'<div class="scroll"><table>\n<thead>{row("th", head)}</thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def figure(caption: str, content: bytes, kind: str = "plot") -> str:
    """A PNG or JPEG file with a caption. ``kind``: plot or sheet."""
    text = escape(caption)
    width = min(_png_width(content) * 2 // 3, 1040) if content.startswith(b"\x89PNG") else None
    size = f' width="{width}"' if width else ""
    return (
        f'<figure class="{kind}"><img alt="{text}"{size} src="{data_uri(content)}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def side_by_side(figures: Sequence[str]) -> str:
    """Figures in a row where there is room for it."""
    return '<div class="figures">' + "\n".join(figures) + "</div>"


def _png_width(content: bytes) -> int:
    return int.from_bytes(content[16:20], "big")


def data_uri(content: bytes) -> str:
    """A PNG, JPEG or WAV file as the page holds it."""
    kinds = {b"\x89PNG": "image/png", b"RIFF": "audio/wav"}
    return f"data:{kinds.get(content[:4], 'image/jpeg')};base64,{base64.b64encode(content).decode()}"


def sound(content: bytes) -> str:
    """A WAV file to be played."""
    return f'<audio controls preload="none" src="{data_uri(content)}"></audio>'


def folded_parts(summary: str, parts: Sequence[str]) -> str:
    """Markup that is shown when one clicks on its summary."""
    return "\n".join([f"<details><summary>{escape(summary)}</summary>", *parts, "</details>"])


def folded(summary: str, content: Table) -> str:
    """A table that is shown when one clicks on its summary; a very long one is cut off and says so."""
    head, lines = content
    parts = [table((head, lines[:MOST_LISTED]))]
    if len(lines) > MOST_LISTED:
        parts.append(note(f"The first {MOST_LISTED} of {len(lines)}; results.json has all."))
    return folded_parts(summary, parts)


def searchable(title: str, content: Table, total: int, rest: str) -> str:
    """A table with a heading and a box that shows only the lines with what is typed into it.

    total: lines that there are; beyond ``MOST_LISTED`` they are cut off, with a word on where the rest is.
    """
    head, lines = content
    parts = [heading(title), f'<div class="searchable">{table((head, lines[:MOST_LISTED]))}</div>']
    if total > min(len(lines), MOST_LISTED):
        parts.append(note(f"The first {min(len(lines), MOST_LISTED)} of {total}; {rest} has all."))
    return "\n".join(parts)


def trials(picked: Sequence[Mapping[str, Any]]) -> str:
    """Trials with their most similar items side by side, as steps/pick_trials.py writes them."""
    return '<div class="trials">\n' + "\n".join(map(_trial, picked)) + "\n</div>"


def _trial(trial: Mapping[str, Any]) -> str:
    figures = f"score <b>{trial['score']:.3f}</b>"
    if trial["cosine"] is not None:
        figures += f" \N{MIDDLE DOT} cosine {trial['cosine']:.3f}"
    names = f"{escape(trial['model'])} in {escape(trial['segment'])}"
    if trial["why"]:
        content = note(trial["why"])
    else:
        content = '<div class="pair">' + item("enrolled", trial["enrolment"]) + item("tested", trial["test"]) + "</div>"
    if trial["mean_enrolled"]:
        content += note("Nothing labelled was found: the mean of all that was found in the video was enrolled.")
    return f'<article class="trial"><p>{names}<br>{figures}</p>{content}</article>'


def item(side: str, content: Mapping[str, Any]) -> str:
    """A picked item: its image, or why there is none, with segment and time. side: such as enrolled.

    Of what is heard, ``about`` says more, and the image is wide.
    """
    where = escape(content["segment"]) + ("" if content["time_s"] is None else f", {content['time_s']:g} s")
    where += f"; {escape(content['about'])}" if content.get("about") else ""
    if content["jpeg"] is None:
        picture = f'<div class="missing">{escape(content["why"])}</div>'
    else:
        wide = ' class="sound"' if "about" in content else ""
        picture = f'<img{wide} alt="{side}: {where}" src="{data_uri(base64.b64decode(content["jpeg"]))}">'
    return f"<figure>{picture}<figcaption>{side}: {where}</figcaption></figure>"
