"""The helper that opens pages in Chromium: what is wrong with a page is found."""

from __future__ import annotations

import pytest

GOOD = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>t</title></head><body><main><h1>One</h1>
<button onclick="document.title = 'pressed'">press</button><label>name <input></label></main></body></html>"""


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page of this markup."""
    pages = []

    def open_markup(markup, **how):
        path = tmp_path / f"{len(pages)}.html"
        path.write_text(markup)
        pages.append(browser.open(path, **how))
        return pages[-1]

    yield open_markup
    for page in pages:
        page.close()


def test_page_without_faults_has_no_troubles_and_no_findings(opened):
    page = opened(GOOD)
    page.click("button")
    page.type("input", "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS} <b>")
    assert page.value("document.title") == "pressed" and page.texts("h1") == ["One"]
    assert page.value("document.querySelector('input').value") == "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS} <b>"
    assert page.troubles() == page.findings("minor") == page.broken_images() == [] and not page.is_wide()


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("<script>there.is.no(such)</script>", "there is not defined"),
        ("<script>console.error('oh', 1)</script>", "oh 1"),
        ('<img alt="" src="http://127.0.0.1:9/x.png">', "request: http://127.0.0.1:9/x.png"),
        ('<link rel="stylesheet" href="other.css">', "other.css"),
    ],
)
def test_trouble_of_a_page_is_told(opened, added, told):
    assert told in " ".join(opened(GOOD.replace("</main>", f"{added}</main>")).troubles())


def test_picture_without_words_wide_page_and_broken_picture_are_found(opened):
    page = opened(
        GOOD.replace("</main>", '<img src="data:image/png;base64,AAAA"><p style="width:900px">x</p></main>'), width=400
    )
    assert page.is_wide() and page.broken_images() == ["data:image/png;base64,AAAA"]
    assert any(finding.startswith("image-alt (critical)") for finding in page.findings())


def test_dark_and_print_are_what_the_page_is_told(opened, tmp_path):
    page = opened(GOOD, dark=True)
    media = "['(prefers-color-scheme: dark)', 'print'].map(query => matchMedia(query).matches)"
    assert page.value(media) == [True, False]
    page.show(media="print")
    assert page.value(media) == [False, True]
    assert page.screenshot(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert page.pdf(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
