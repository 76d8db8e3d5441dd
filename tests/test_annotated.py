"""Copies of videos and images with boxes and names, read by PyAV and Pillow."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Picture

from vidperson.answers import Appearance, Track, VideoAnswer
from vidperson.errors import MediaError
from vidperson.io.answers import Names
from vidperson.media import lettering
from vidperson.media.annotated import annotate_video
from vidperson.media.lettering import label_image, undrawable
from vidperson.who.files import annotate_videos, remove_annotated

RATE, GREEN = 10, (30, 150, 60)


def film(path: Path, frames: int = 20, size: tuple[int, int] = (160, 120), sound: str = "", rate: int = 16_000) -> Path:
    """A grey film of 10 frames a second, with a tone where a codec of sound is named."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4" if path.suffix != ".avi" else "mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p" if path.suffix != ".avi" else "yuvj420p"
        track = output.add_stream(sound, rate=rate, layout="mono") if sound else None
        for number in range(frames):
            image = np.full((size[1], size[0], 3), 120, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        if track:
            tone = (8000 * np.sin(np.arange(rate * frames // RATE) / 8)).astype(np.int16)[None]
            piece = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = rate, 0, Fraction(1, rate)
            parts = av.AudioResampler(track.format.name, "mono", rate, track.frame_size or None).resample(piece)
            output.mux([packet for part in [*parts, None] for packet in track.encode(part)])
        output.mux(stream.encode(None))
    return path


def moving(begin_s: float = 0.5, end_s: float = 1.6) -> Appearance:
    """A box that moves by 40 pixels a second from 0.5 s to 1.5 s, and is there until 1.6 s."""
    boxes = ((0.5, 20.0, 60.0, 60.0, 100.0), (1.5, 60.0, 60.0, 100.0, 100.0))
    track = Track("face", begin_s, end_s, (0, 1), boxes, 0)
    return Appearance("ann", "yes", 0.97, 5.0, begin_s, end_s, (track,))


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def sound_of(path: Path) -> tuple[str, list[bytes], float]:
    """Codec, packets and length of the sound."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        seconds = sum(packet.duration * packet.time_base for packet in packets)
        return stream.codec_context.name, [bytes(packet) for packet in packets], float(seconds)


def has_colour(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() < 25)


def test_a_box_moves_evenly_between_its_times_and_is_gone_outside_of_them(tmp_path) -> None:
    path = film(tmp_path / "a.mp4")
    assert annotate_video(path, tmp_path / "b", [(moving(), "Ann (97 %)")]) is None
    frames = decoded(tmp_path / "b")
    assert [round(time, 3) for time, _ in frames] == [number / RATE for number in range(20)]
    with av.open(str(tmp_path / "b")) as copy:
        assert copy.streams.video[0].duration * copy.streams.video[0].time_base == 2
    assert has_colour(frames[0][1][10, 10], (120, 120, 120))
    for time, image in frames:
        left = 20 + 40 * (min(time, 1.5) - 0.5)
        there = 0.5 <= time < 1.6
        assert has_colour(image[80, round(left)], GREEN) == there, time
        assert has_colour(image[52, round(left) + 1], GREEN) == there, time  # the ground of the name
        assert not has_colour(image[80, round(left) + 20], GREEN)


def test_names_of_what_is_only_heard_are_written_in_the_corner(tmp_path) -> None:
    heard = Appearance("bob", "unsure", 0.6, 1.0, 0.0, 1.0, (Track("speaker", 0.0, 1.0, (0,), (), 0),))
    annotate_video(film(tmp_path / "a.mp4"), tmp_path / "b", [(heard, "Bob?")])
    frames = decoded(tmp_path / "b")
    assert has_colour(frames[5][1][-5, 4], (200, 120, 0))
    assert not has_colour(frames[15][1][-5, 4], (200, 120, 0))


def test_an_appearance_with_two_boxes_and_a_voice_has_its_name_once(tmp_path) -> None:
    face, body = (
        Track(modality, 0.0, 2.0, (0,), ((0.0, *box),), 0)
        for modality, box in (("face", (20, 40, 40, 60)), ("body", (100, 40, 140, 110)))
    )
    heard = Track("speaker", 0.0, 2.0, (0,), (), 0)
    found = Appearance("ann", "yes", 0.9, 3.0, 0.0, 2.0, (face, body, heard))
    annotate_video(film(tmp_path / "a.mp4", frames=3), tmp_path / "b", [(found, "Ann")])
    image = decoded(tmp_path / "b")[1][1]
    assert has_colour(image[50, 20], GREEN) and has_colour(image[80, 100], GREEN)
    assert has_colour(image[32, 21], GREEN)
    assert not has_colour(image[32, 101], GREEN) and not has_colour(image[-5, 4], GREEN)


@pytest.mark.parametrize(("name", "encoder"), [("a.mp4", "aac"), ("a.mkv", "libmp3lame")])
def test_sound_that_mp4_may_hold_is_copied_packet_by_packet(tmp_path, name, encoder) -> None:
    path = film(tmp_path / name, sound=encoder)
    annotate_video(path, tmp_path / "b", [(moving(), "Ann")])
    codec, packets, _ = sound_of(path)
    copied, copies, _ = sound_of(tmp_path / "b")
    assert codec == copied
    assert copies == packets[-len(copies) :] and len(packets) - len(copies) <= 2  # what is before the first frame


@pytest.mark.parametrize("rate", [16_000, 11_024])  # AAC has no 11,024 samples a second
def test_other_sound_is_encoded_and_lasts_as_long(tmp_path, rate) -> None:
    path = film(tmp_path / "a.avi", sound="pcm_s16le", rate=rate)
    annotate_video(path, tmp_path / "b", [(moving(), "Ann")])
    codec, _, seconds = sound_of(tmp_path / "b")
    assert codec == "aac"
    assert seconds == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(("size", "shape"), [((97, 61), (62, 98, 3)), ((64, 48), (48, 64, 3))])  # even sides
def test_a_copy_is_the_same_every_time(tmp_path, size, shape) -> None:
    path = film(tmp_path / "a.mp4", size=size, sound="aac")
    for name in "bcde":
        annotate_video(path, tmp_path / name, [(moving(), "Ann")])
    assert len({(tmp_path / name).read_bytes() for name in "bcde"}) == 1
    assert decoded(tmp_path / "b")[0][1].shape == shape


def test_a_film_that_was_turned_is_upright_in_the_copy(shared, tmp_path) -> None:
    path = shared / "data/video/robustness/phone_upright_via_matrix.mp4"
    annotate_video(path, tmp_path / "b", [])
    (_, first), *rest = decoded(tmp_path / "b")
    assert first.shape == (288, 360, 3) and len(rest) == 74
    with av.open(str(path)) as source:
        stored = next(source.decode(video=0)).to_ndarray(format="rgb24")
    candidates = [np.rot90(stored, turns) for turns in (1, 3)]
    assert min(np.abs(turned.astype(int) - first).mean() for turned in candidates) < 4


def test_a_film_that_ends_early_is_copied_as_far_as_it_goes(shared, tmp_path) -> None:
    path = shared / "data/video/robustness/truncated_faststart.mp4"
    assert "the file ends early" in (annotate_video(path, tmp_path / "b", []) or "")
    assert len(decoded(tmp_path / "b")) == 84
    with pytest.raises(MediaError):
        annotate_video(shared / "data/video/robustness/random_bytes.mp4", tmp_path / "c", [])


def test_a_target_that_cannot_be_written_is_named(tmp_path) -> None:
    with pytest.raises(OSError) as error:
        annotate_video(film(tmp_path / "a.mp4", frames=2), tmp_path / "none/b", [])
    assert error.value.filename == str(tmp_path / "none/b")


# --- all videos of a set


def answers(*segments: str) -> list[VideoAnswer]:
    still = Appearance("ann", "yes", 0.9, 3.0, 0.0, 0.0, (Track("face", 0.0, 0.0, (0,), ((0.0, 20, 60, 60, 100),), 0),))
    return [VideoAnswer(one, "ok", 0.0, 160, 120, (still if one == "photo" else moving(),)) for one in segments]


def test_copies_are_kept_while_the_answer_is_the_same_and_removed_when_it_is_gone(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    media = {"a": film(tmp_path / "a.mp4"), "photo": tmp_path / "p.png", "bad": tmp_path / "bad.mp4"}
    Picture.new("RGB", (160, 120), (120, 120, 120)).save(media["photo"])
    media["bad"].write_bytes(b"no film")
    media["wide"] = film(tmp_path / "wide.avi", frames=1, size=(20_000, 16))  # H.264 has no frames as wide as that
    names = Names(
        {"ann": "Ann"}, {"a": "a.mp4", "photo": "my/p.png", "bad": "bad.mp4", "wide": "wide.avi", "none": "none.mp4"}
    )
    copies = annotate_videos(answers("a", "bad", "wide", "photo", "none"), names, media, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in copies] == ["annotated/a.mp4", "annotated/my/p.jpg"]
    assert "bad.mp4: no copy with names" in caplog.text and "2 copies with names, 2 failed" in caplog.text
    assert "wide.avi: no copy with names: cannot be copied as MP4" in caplog.text
    with Picture.open(copies[1]) as image:
        assert has_colour(np.asarray(image)[80, 20], GREEN)
    before = [path.stat().st_mtime_ns for path in copies]
    assert annotate_videos(answers("a", "photo"), names, media, tmp_path) == copies
    assert [path.stat().st_mtime_ns for path in copies] == before
    (tmp_path / "annotated/mine.mp4").write_bytes(b"")
    (tmp_path / "annotated/killed.mp4.tmp").write_bytes(b"")
    (tmp_path / "annotated/folder.tmp").mkdir()  # the user's own
    renamed = Names({"ann": "Anna"}, names.videos)
    remove_annotated(tmp_path, annotate_videos(answers("a"), renamed, media, tmp_path))
    assert copies[0].stat().st_mtime_ns > before[0]
    assert sorted(path.name for path in (tmp_path / "annotated").rglob("*") if path.is_file()) == [
        *("a.mp4", "a.mp4.record.json", "mine.mp4")
    ]


def test_copy_is_made_again_once_there_is_a_font_for_its_letters(tmp_path, monkeypatch, caplog) -> None:
    media, names = {"a": film(tmp_path / "a.mp4", frames=2)}, Names({"ann": "李"}, {"a": "a.mp4"})
    written = []
    for letters in ("李", "李", "", ""):
        caplog.clear()
        monkeypatch.setattr(lettering, "undrawable", lambda text, letters=letters: letters)
        (copy,) = annotate_videos(answers("a"), names, media, tmp_path)
        written.append(copy.stat().st_mtime_ns)
        assert ("has the letters 李: install one" in caplog.text) == bool(letters)
    assert written[0] == written[1] < written[2] == written[3]


def test_copy_that_a_killed_run_made_but_did_not_note_is_removed_by_one_without_copies(tmp_path, monkeypatch) -> None:
    def dying(copy: object) -> None:
        raise KeyboardInterrupt

    media, names = {"a": film(tmp_path / "a.mp4", frames=2)}, Names({"ann": "Ann"}, {"a": "a.mp4"})
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("vidperson.who.files.Planned.note", dying)
        annotate_videos(answers("a"), names, media, tmp_path)
    assert (tmp_path / "annotated/a.mp4").is_file()
    remove_annotated(tmp_path)
    assert not list((tmp_path / "annotated").iterdir())


def test_copy_that_a_killed_run_had_removed_in_part_is_removed_by_the_next(tmp_path, monkeypatch) -> None:
    unlink = Path.unlink

    def dying(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    annotate_videos(answers("a"), Names({}, {"a": "a.mp4"}), {"a": film(tmp_path / "a.mp4", frames=2)}, tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", dying)
        remove_annotated(tmp_path)
    remove_annotated(tmp_path)
    assert not list((tmp_path / "annotated").iterdir())


# --- letters


@pytest.mark.parametrize("text", ["Zoë", "Ωмега", "أحمد\u200e (97 %)", "x" * 300, "", "\x00\n", "李"])
def test_any_text_becomes_an_image_of_one_line(text) -> None:
    image = label_image(text, 20, (255, 255, 255), GREEN)
    assert 20 < image.shape[0] < 50 and image.shape[1] < 1000
    assert has_colour(image[0, 0], GREEN)
    if text.isalpha():
        assert (image > 200).all(axis=2).sum() > 20


def test_letters_without_a_font_are_told(monkeypatch) -> None:
    monkeypatch.setattr(lettering, "_fonts", list)
    lettering._font_of.cache_clear()
    assert undrawable("Zoë Ωмега\n\u200e (97 %)") == ""
    assert undrawable("a李b李明") == "李明"
    lettering._font_of.cache_clear()
