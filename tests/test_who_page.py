"""The pages that say who is in which video, and when: what they hold, and what a browser makes of them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
import numpy as np
import pytest

from steps.make_who_page import WhoPageOptions, make_who_page
from tests.drawn_answers import PERSONS, appearance, drawn_face, family, video, write_faces
from vidperson import cli
from vidperson.errors import DataError
from vidperson.io.answers import Names, answer_line
from vidperson.io.record import write_record
from vidperson.networks.install import install_model
from vidperson.report import who
from vidperson.report.who import Made, Network, Skipped, clock, percent, seconds_text, span_text
from vidperson.who.pages import PageSource, media_link, networks_of, write_who_page

MADE = Made(
    "27 November 2026",
    "./run_who.sh persons videos",
    {"fps": "5"},
    {"vidperson": "0.1.0"},
    [Network("arcface_tiny", "face embedder", "ab" * 32, "Apache-2.0")],
)
NOTES = [Skipped("portrait", "Ben", "the photo of Ben shows 3 persons: the largest counts")]


class Links(HTMLParser):
    """Targets of the links, and texts, of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if tag == "a" and name == "href"]

    def handle_data(self, data):
        self.words.append(data)


def write(folder, answers, persons=PERSONS, skipped=(), made=MADE):
    """The pages of answers. videos: name -> answer; the files are said to be in media/ beside the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = Names(persons, {answer.segment: name for name, answer in answers.items()})
    media = {answer.segment: folder.parent / "media" / name for name, answer in answers.items()}
    return write_who_page([PageSource(answers.values(), names, media)], folder, skipped, made)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder with the pages of the family's answer."""
    folder = tmp_path_factory.mktemp("who") / "results"
    write_faces(folder, family().values())
    (folder / "who.csv").write_text("")
    write(folder, family(), skipped=NOTES)
    return folder


@pytest.fixture
def report(pages, browser):
    page = browser.open(pages / "report.html")
    yield page
    page.close()


def test_first_page_tells_persons_times_and_what_was_skipped(report):
    text = " ".join(report.texts("body"))
    assert "5 persons and 2 unknown persons in 6 videos and 2 photos." in text
    assert report.texts("#persons .card h3")[:2] == ["Anna", "Grandpa Otto"]
    assert report.texts("#unknown h3") == ["unknown 1", "unknown 2"]
    anna = " ".join(report.texts("#persons .card")[0].split())
    assert "0:03 – 0:41 98 %" in anna and "2:30 – 2:43 perhaps, 60 %" in anna and "2 videos · 1 photo" in anna
    skipped = [" ".join(row.split()) for row in report.texts("#skipped tbody tr")]
    assert skipped[0] == "video old tape.avi it cannot be read (the file ends after 12 of 4096 bytes)"
    assert [row.split()[0] for row in skipped] == ["video", "video", "portrait"] and "largest counts" in skipped[2]


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        ("report.html", 1400, False),
        ("report.html", 400, True),
        ("persons/Anna.html", 400, False),
        ("videos/birthday party.html", 1400, True),
        ("unknown/1.html", 1400, False),
    ],
)
def test_page_in_a_browser_has_no_finding_asks_for_nothing_and_is_not_too_wide(pages, browser, name, width, dark):
    page = browser.open(pages / name, width=width, dark=dark)
    assert (page.troubles(), page.findings("minor"), page.broken_images()) == ([], [], [])
    assert page.count("img") > 0 and not page.is_wide()
    page.close()


def test_search_leaves_the_persons_and_videos_with_all_words(report):
    cards = "[data-item]"
    every = len(report.texts(cards))
    report.type("input[type=search]", "OTTO")
    assert report.texts(f"#persons {cards} h3") == ["Grandpa Otto"]
    assert report.texts(f"#videos {cards} h3") == ["birthday party.mp4", "holiday.mts"]
    assert report.texts("#unknown") == [] and "4 of" in report.texts(".search .note")[0]
    report.type("input[type=search]", "otto beach")
    assert report.texts(f"#persons {cards} h3") == ["Grandpa Otto"] and report.texts("#videos") == []
    assert report.texts(f"#pictures {cards} h3") == ["beach/IMG_0001.JPG"]
    report.type("input[type=search]", "")
    assert len(report.texts(cards)) == every


def test_time_line_has_each_appearance_where_it_is(report):
    places = report.value(
        "[...document.querySelectorAll('#videos .bar')].map(bar => [...bar.children].map(span => {"
        "const [all, own] = [bar, span].map(each => each.getBoundingClientRect());"
        "return [(own.left - all.left) / all.width, (own.right - all.left) / all.width]}))"
    )
    party = [found for found in family()["birthday party.mp4"].appearances if found.person == "Anna"]
    expected = [[found.start_s / 200, found.end_s / 200] for found in party]
    assert np.allclose(places[0], expected, atol=0.002)


def test_click_on_a_time_opens_the_video_at_that_second(tmp_path, browser):
    name = 'fête #1 "new" (50%).webm'
    media = tmp_path / "media" / name
    media.parent.mkdir()
    with av.open(str(media), "w") as container:
        stream = container.add_stream("libvpx", rate=5)
        stream.width = stream.height = 64
        for number in range(40):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    write(tmp_path / "results", {name: video("v", 8, appearance("Anna", 3.2, 6))})
    page = browser.open(tmp_path / "results" / "report.html")
    links = set(page.value("[...document.querySelectorAll('.times a, .bar a')].map(link => link.href)"))
    page.close()
    assert links == {f"{media.as_uri()}#t=3.2"}
    page = browser.open(media, fragment="#t=3.2")
    assert 3.2 <= page.value("document.querySelector('video').currentTime") < 6  # it may have begun to play
    page.close()


def test_video_with_a_later_first_frame_opens_as_much_later(tmp_path):
    answers = [video(segment, 9, appearance("Anna", 1.25, 6)) for segment in ("a", "b")]
    lines = [b'{"test_set": "", "segment": "a", "first_frame_s": 0.852},', b'{"test_set": "", "segment": "b"}']
    (tmp_path / "who.json").write_bytes(b"\n".join([b'{"persons": [],', b'"videos": [', *lines, b"]}", b""]))
    media = {"a": Path("/m/a.mp4"), "b": Path("/m/b.mp4")}
    write_who_page([PageSource(answers, Names({}, {}), media)], tmp_path)
    links = {link for link in Links((tmp_path / "report.html").read_text()).links if link.startswith("file:")}
    assert links == {"file:///m/a.mp4#t=2.102", "file:///m/b.mp4#t=1.25"}


def test_every_link_of_every_page_leads_to_a_file(pages):
    written = [pages / "report.html", *pages.rglob("*/*.html")]
    assert len(written) == 1 + 5 + 2 + 7  # first page, persons, unknown persons, videos and pictures with somebody
    for page in written:
        for link in map(urlsplit, Links(page.read_text()).links):
            path = Path(unquote(link.path)) if link.scheme else page.parent / unquote(link.path)
            assert not link.path or path.is_file() or path.parent.name in ("media", "beach"), (page, link)


def test_print_shows_what_is_folded(report):
    assert "Uncle Tom" not in " ".join(report.texts("#persons"))
    late = "58:30 – 59:40"
    assert late not in " ".join(report.texts("#videos")) and "9 more" in " ".join(report.texts("#videos"))
    report.show(dark=False, media="print")
    assert "Uncle Tom" in " ".join(report.texts("#persons"))
    assert late in " ".join(report.texts("#videos")) and "9 more" not in " ".join(report.texts("#videos"))
    text = " ".join(report.texts("#made"))
    assert "./run_who.sh persons videos" in text and "ab" * 32 in text and "27 November 2026" in text


def test_names_with_markup_are_shown_as_typed(tmp_path, browser):
    evil = '"><img src=x onerror=document.title=1> & \'</script><script>document.title="hit"</script>'
    answers = {evil + ".mp4": video("v", 9, appearance("a", 1, 2, 0.6, "unsure", {"b": 0.3}))}
    write(tmp_path / "r", answers, {"a": evil, "b": evil}, [Skipped("portrait", evil, evil)], Made(command=evil))
    written = list((tmp_path / "r").rglob("*.html"))
    assert len(written) == 3
    for path in written:
        page = browser.open(path)
        assert page.value("document.title") in ("Who is in these videos?", evil, evil + ".mp4")
        assert page.troubles() == [] and page.count("img") == 0 and evil in " ".join(page.texts("body"))
        page.close()


def test_answer_without_videos_persons_and_faces_is_a_page(tmp_path):
    for answers, persons, text in (
        ({}, {}, "0 persons in 0 videos."),
        ({"a.mp4": video("a", 5)}, PERSONS, "0 persons in 1 video."),
        ({"a.mp4": video("a", 5, appearance("unknown 1", 0, 5, 1, "unknown"))}, {}, "1 unknown person in 1 video."),
        ({"a.jpg": video("a", 0, appearance("Anna", 0, 0))}, PERSONS, "1 person in 1 photo."),
    ):
        write(tmp_path / "r", answers, persons)
        assert text in (tmp_path / "r" / "report.html").read_text()


def test_voice_without_a_face_is_said_to_be_heard_only(tmp_path):
    write(tmp_path / "r", {"a.mp4": video("a", 60, appearance("Ben", 1, 50, modality="speaker"))})
    assert "only heard" in (tmp_path / "r" / "persons" / "Ben.html").read_text()


def test_pages_are_the_same_bytes_again_and_those_of_who_is_gone_are_removed(pages, tmp_path):
    folder = tmp_path / "r"
    write_faces(folder, family().values())
    first = {path.relative_to(folder): path.read_bytes() for path in write(folder, family())}
    second = {path.relative_to(folder): path.read_bytes() for path in write(folder, family())}
    assert first == second and Path("persons/Ben.html") in first
    left = {name: answer for name, answer in family().items() if "Ben" not in name and "play" not in name}
    write(folder, left)
    assert not (folder / "persons/Ben.html").exists() and not (folder / "pages.partial").exists()


def test_more_videos_and_persons_than_a_page_shows_are_listed_and_have_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(who, "MOST_CARDS", 3)
    answers = {f"{number}.mp4": video(f"v{number}", 9, appearance(f"p{number}", 1, 2)) for number in range(12)}
    write(tmp_path / "r", answers, {f"p{number}": f"Person {number}" for number in range(12)})
    links = Links((tmp_path / "r" / "report.html").read_text()).links
    for number in range(12):
        assert f"videos/{number}.html" in links and f"persons/p{number}.html" in links
        assert (tmp_path / "r" / "videos" / f"{number}.html").is_file()
    assert sum(link.startswith("file:") for link in links) == 2 * 2 * 3  # bar and time, of persons and of videos


def test_person_in_many_videos_has_further_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(who, "MOST_VIDEOS", 5)
    answers = {f"{number:02d}.mp4": video(f"v{number:02d}", 9, appearance("Anna", 1, 2)) for number in range(12)}
    write(tmp_path / "r", answers)
    found = []
    for name in ("Anna.html", "Anna/2.html", "Anna/3.html"):
        page = tmp_path / "r" / "persons" / name
        links = Links(page.read_text()).links
        found += [link.rpartition("/")[2] for link in links if "/videos/" in link]
        assert all((page.parent / link).is_file() for link in links if not link.startswith(("#", "file:")))
        assert len([link for link in links if "persons/" in link]) == 3
    assert found == [f"{number:02d}.html" for number in range(12)] and not (page.parent / "4.html").exists()


def test_more_names_than_a_list_shows_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(who, "MOST_LISTED", 4)
    write(tmp_path / "r", {"a.mp4": video("a", 5)}, {f"p{number}": f"Person {number}" for number in range(9)})
    text = (tmp_path / "r" / "report.html").read_text()
    assert "Not found in any video: 9 of" in text and "The first 4 of 9" in text and text.count("<li>Person") == 4


def test_name_that_is_no_utf8_is_shown_with_a_sign_in_its_place(tmp_path):
    write(tmp_path / "r", {"caf\udce9.mp4": video("a", 5, appearance("Anna", 1, 2))}, {"Anna": "Ann\udce9"})
    text = (tmp_path / "r" / "report.html").read_text()
    assert "Ann\N{REPLACEMENT CHARACTER}" in text and "caf%E9.mp4#t=1" in text


def test_face_that_is_no_image_is_left_out(tmp_path):
    folder = tmp_path / "r"
    write_faces(folder, family().values())
    (folder / "faces" / "hall_002.jpg").write_bytes(b"no image")
    write(folder, {"hall.mkv": family()["hall.mkv"]})
    assert (folder / "videos" / "hall.html").read_text().count("<img") == 2  # of Zoë: small and large


def test_several_sets_keep_their_unknown_persons_apart(tmp_path):
    sources = []
    for test_set in ("one", "two"):
        answers = [video("a", 5, appearance("unknown 1", 0, 5, 1, "unknown"), appearance("Anna", 1, 2))]
        sources.append(PageSource(answers, Names({"Anna": "Anna"}, {"a": "a.mp4"}), {}, test_set))
    (tmp_path / "faces" / "two").mkdir(parents=True)
    (tmp_path / "faces" / "two" / "a_001.jpg").write_bytes(drawn_face("Anna"))
    write_who_page(sources, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "1 person and 2 unknown persons in 2 videos." in text and "unknown 1 of two" in text
    assert "<img" in (tmp_path / "unknown/two/1.html").read_text()
    assert "<img" not in (tmp_path / "unknown/one/1.html").read_text()
    assert "../../report.html" in Links((tmp_path / "videos/one/a.html").read_text()).links


def photos(**taken):
    """Name of a photo -> answer with Anna in it; taken: by name of the photo, when it was taken."""
    return {f"x/{name}.jpg": replace(video(name, 0, appearance("Anna", 0, 0)), taken=at) for name, at in taken.items()}


def test_persons_with_like_ids_have_pages_of_their_own(tmp_path):
    persons = ("a/b", "a_b", "a%2Fb")
    answers = [video("v", 9, *(appearance(person, at, at + 1) for at, person in enumerate(persons)))]
    write_who_page(
        [PageSource(answers, Names({person: person.upper() for person in persons}, {"v": "v.mp4"}))], tmp_path
    )
    pages = {path.name: path.read_text() for path in (tmp_path / "persons").iterdir()}
    assert sorted(text.partition("<h1>")[2].partition("</h1>")[0] for text in pages.values()) == sorted(
        map(str.upper, persons)
    )
    links = {unquote(link) for link in Links((tmp_path / "report.html").read_text()).links}
    assert {f"persons/{name}" for name in pages} <= links


def test_photos_are_in_the_order_in_which_they_were_taken(tmp_path):
    write(tmp_path / "r", photos(a="", b="2024-05-02T10:00:00", c="2024-05-01T10:00:00"))
    text = (tmp_path / "r" / "report.html").read_text()
    assert re.findall(r"videos/x/(\w)\.html", text.partition('id="pictures"')[2]) == ["c", "b", "a"]


def test_photos_that_were_taken_at_once_are_one_burst(tmp_path):
    times = {"a": "10:00:00", "b": "10:00:00.6", "c": "10:00:01.5", "d": "10:00:03", "e": "10:00:03.5+02:00"}
    answers = photos(**{name: f"2024-05-01T{time}" for name, time in times.items()}, f="", g="")
    answers["x/b.jpg"] = replace(answers["x/b.jpg"], appearances=(appearance("Ben", 0, 0), appearance("Anna", 0, 0)))
    answers["y/z.jpg"] = photos(z="2024-05-01T10:00:00.3")["x/z.jpg"]
    write(tmp_path / "r", answers)
    text = (tmp_path / "r" / "report.html").read_text().partition('id="pictures"')[2]
    assert text.count("<article") == 8 - 2 and "burst of 3 photos" in text
    titles = re.findall(r'<h3><a href="videos/(\w/\w)\.html', text)
    assert titles == ["x/b", "y/z", "x/d", "x/e", "x/f", "x/g"]


@pytest.mark.parametrize(
    ("path", "link"),
    [
        (Path("/m/a b#1.mp4"), "file:///m/a%20b%231.mp4"),
        (Path("media/x?.mp4"), "../media/x%3F.mp4"),
        (Path("results/c:d.mp4"), "c%3Ad.mp4"),
    ],
)
def test_media_link_quotes_and_keeps_relative_paths_relative(path, link):
    assert media_link(path, Path("results")) == link


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (clock(0), "0:00"),
        (clock(59.96, 1), "1:00.0"),
        (clock(3725.4), "1:02:05"),
        (span_text(2.04, 5), "0:02.0 – 0:05.0"),
        (span_text(59.7, 75), "1:00 – 1:15"),
        (seconds_text(0.2), "1 s"),
        (seconds_text(125), "2 min 5 s"),
        (seconds_text(3725), "1 h 2 min"),
        (percent(0.97), "97\xa0%"),
        (percent(0.9999), ">\xa099\xa0%"),
        (percent(0.001), "<\xa01\xa0%"),
    ],
)
def test_times_and_shares_are_written_as_people_read_them(made, expected):
    assert made == expected


# -- the step -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path):
    """Options of the step on what stages 1, 4 and 5 would have written of the family's videos."""
    data, enrolled, folder = tmp_path / "data" / "test", tmp_path / "data" / "enroll", tmp_path / "results"
    answers = family()
    for each in (data, enrolled, folder):
        each.mkdir(parents=True)
    listed = sorted((answer.segment, name) for name, answer in answers.items())
    (data / "vid.scp").write_text("".join(f"{segment} /media/{name}\n" for segment, name in listed))
    (data / "names").write_text("".join(f"{segment} {name}\n" for segment, name in listed))
    (enrolled / "spk2utt").write_text("".join(f"{person} {person}-1\n" for person in sorted(PERSONS)))
    (enrolled / "names").write_text("".join(f"{person} {PERSONS[person]}\n" for person in sorted(PERSONS)))
    lines = tmp_path / "test_who.jsonl"
    lines.write_bytes(b"".join(answer_line(answer) for answer in answers.values()))
    write_record(lines, ["python", "steps/find_persons.py", "--fps", "5"], [], [lines])
    write_faces(folder, answers.values())
    (folder / "who.csv").write_text("")
    write_record(folder / "who.csv", ["x"], [lines], [folder / "who.csv", *(folder / "faces").iterdir()])
    word = f"--answers {lines} --test-data {data} --enroll-data {enrolled}"
    return cli.fill(WhoPageOptions, sources=[word], output_dir=folder)


def test_step_writes_the_pages_once_with_names_as_typed(stage):
    make_who_page(stage)
    report = stage.output_dir / "report.html"
    text = " ".join(Links(report.read_text()).words)
    assert "Grandpa Otto" in text and "steps/find_persons.py --fps 5" in text
    assert "file:///media/birthday%20party.mp4#t=3.2" in Links(report.read_text()).links
    before = report.stat().st_mtime_ns
    make_who_page(stage)
    assert report.stat().st_mtime_ns == before
    (stage.output_dir / "videos" / "hall.html").unlink()
    make_who_page(stage)
    assert (stage.output_dir / "videos" / "hall.html").is_file()


def test_step_links_to_copies_with_names_once_they_are_there_and_no_longer(stage):
    page, copy = stage.output_dir / "videos" / "hall.html", stage.output_dir / "annotated" / "hall.mp4"
    for content, linked in ((None, False), (b"video", True), (None, False)):
        if content:
            copy.parent.mkdir()
            copy.write_bytes(content)
        else:
            copy.unlink(missing_ok=True)
        make_who_page(stage)
        assert ("../annotated/hall.mp4" in Links(page.read_text()).links) == linked
        assert ("annotated" in Links((stage.output_dir / "report.html").read_text()).links) == linked


def test_step_refuses_an_edited_list_and_a_lost_face_by_name(stage):
    face = stage.output_dir / "faces" / "hall_001.jpg"
    content = face.read_bytes()
    face.unlink()
    with pytest.raises(DataError, match=r"hall_001\.jpg"):
        make_who_page(stage)
    face.write_bytes(content)
    lines = stage.output_dir.parent / "test_who.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b"Otto", b"Ottx"))
    with pytest.raises(DataError, match=r"test_who\.jsonl"):
        make_who_page(stage)
    assert not (stage.output_dir / "report.html").exists()


def test_step_without_answer_files_names_the_step_that_writes_them(stage):
    (stage.output_dir / "who.csv.record.json").unlink()
    with pytest.raises(DataError, match=r"write_answers\.py"):
        make_who_page(stage)


def test_networks_tell_licence_and_hash_of_what_is_installed(tmp_path):
    installed = install_model("arcface_tiny", tmp_path)
    folders = [tmp_path / "energy", tmp_path / "arcface_tiny", tmp_path / "arcface_tiny"]
    digest = hashlib.sha256(installed.network.read_bytes()).hexdigest()
    assert networks_of(folders) == [Network("arcface_tiny", "face embedder", digest, installed.card.licence)]
