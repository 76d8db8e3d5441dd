"""Files that are neither videos nor images are named as what they are; broken videos are not."""

from __future__ import annotations

import gzip
import io
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from naive_decoder import numbered, write_video

from vidperson.errors import MediaError
from vidperson.media.other_files import other_kind
from vidperson.media.video import FrameReader, UniformSampling, probe

DASH = '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>\n'


def in_memory(write: Callable[[io.BytesIO], None]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def write_zip(stream: io.BytesIO) -> None:
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "text")


def write_tar(stream: io.BytesIO) -> None:
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))


def write_wav(stream: io.BytesIO) -> None:
    with wave.open(stream, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        sound.writeframes(bytes(8000))


def sound(container_format: str, codec: str, cover: bool = False, brand: str | None = None) -> bytes:
    """Half a second of silence, with a cover picture where it is asked for."""

    def write(stream: io.BytesIO) -> None:
        options = {"brand": brand} if brand else {}
        with av.open(stream, "w", format=container_format, container_options=options) as container:
            track = container.add_stream(codec, rate=16000, layout="mono")
            picture: list[av.Packet] = []
            if cover:
                image = container.add_stream("mjpeg", rate=1)
                image.width, image.height, image.pix_fmt = 320, 48, "yuvj420p"
                image.disposition = Disposition.attached_pic
                shown = av.VideoFrame.from_ndarray(numbered(1), format="rgb24").reformat(format="yuvj420p")
                picture = image.encode(shown) + image.encode()
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16000
            for packets in (track.encode(frame), picture, track.encode()):
                container.mux(packets)

    return in_memory(write)


@pytest.mark.parametrize("name", ["x.mp4", "x.txt", "x"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"To whom it may concern:\r\n" * 20, "a text file"),
        ("Größe und Maß\n".encode() * 99, "a text file"),
        ("Größe und Maß, in einer alten Kodierung\n".encode("latin-1") * 9, "a text file"),
        ("mit Marke am Anfang\n".encode("utf-16"), "a text file"),
        (b"1\n00:00:00,000 --> 00:00:02,000\nhello\n", "a text file"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "a PDF file"),
        (in_memory(write_zip), "a ZIP archive"),
        (in_memory(write_tar), "a tar archive"),
        (gzip.compress(b"text", mtime=0), "a gzip archive"),
        (in_memory(write_wav), "a sound file (WAV)"),
        (sound("flac", "flac"), "a sound file (FLAC)"),
        (sound("mp3", "mp3"), "a sound file (MP3)"),
        (sound("ipod", "aac"), "a sound file (M4A)"),
        (sound("ogg", "libopus"), "a sound file (Ogg)"),
        (sound("adts", "aac"), "a sound file (AAC)"),
        (sound("mp3", "mp3", cover=True), "a sound file (MP3)"),
        (sound("flac", "flac", cover=True), "a sound file (FLAC)"),
        (sound("mp4", "aac", cover=True, brand="M4A "), "a sound file (M4A)"),
        (sound("mp4", "aac", cover=True, brand="M4B "), "a sound file (M4B)"),
        (DASH.encode(), "a DASH list of other files"),
        (b"\xef\xbb\xbf\n" + DASH.encode(), "a DASH list of other files"),
        (DASH.replace("<MPD", "<!--" + "licence " * 300 + "--><MPD").encode(), "a DASH list of other files"),
        (DASH.replace("MPD", "d:MPD").replace("xmlns", "xmlns:d").encode(), "a DASH list of other files"),
        (b'<?xml version="1.0"?><SmoothStreamingMedia/>', "a Smooth Streaming list of other files"),
        (b"\xef\xbb\xbf#EXTM3U\r\n#EXTINF:4,\r\nx.ts\r\n", "an HLS list of other files"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:4,\nx.ts\n", "an HLS list of other files"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
        (b"\n<HTML><svg></svg></HTML>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>', "an SVG drawing"),
        (b'<?xml version="1.0"?>\n<list/>', "an XML file"),
        (b"#!/usr/bin/env python\nprint(1)\n", "a text file"),
    ],
)
def test_file_of_another_kind_is_refused_as_what_it_is(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    for open_it in (lambda path: FrameReader(path, UniformSampling(1)), probe):
        with pytest.raises(MediaError) as error:
            open_it(tmp_path / name)
        assert str(error.value) == f"this is {kind}, not a video or image"


def test_sound_in_a_container_of_videos_is_said_to_be_no_video(tmp_path: Path) -> None:
    (tmp_path / "x.mka").write_bytes(sound("matroska", "aac"))
    with pytest.raises(MediaError, match="^the file has no video stream, only sound$"):
        FrameReader(tmp_path / "x.mka", UniformSampling(1))


@pytest.mark.parametrize("kept", [12, 40, 300])
def test_video_cut_short_keeps_its_message(tmp_path: Path, kept: int) -> None:
    path = write_video(tmp_path / "v.mp4", (numbered(i) for i in range(5)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(MediaError, match="not a media file, or its header is damaged"):
        FrameReader(path, UniformSampling(1))


@pytest.mark.parametrize(
    "head", [b"", b"\0", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3", bytes(range(256)), b"G" + bytes(187)]
)
def test_beginning_of_a_video_or_of_nothing_known_is_no_other_file(head: bytes) -> None:
    assert other_kind(head) is None


def test_video_with_a_header_of_text_is_read(tmp_path: Path) -> None:
    """YUV4MPEG2 begins with a line of text."""
    frame = b"FRAME\n" + b"a" * (64 * 64 * 3 // 2)
    (tmp_path / "v.y4m").write_bytes(b"YUV4MPEG2 W64 H64 F25:1\n" + frame * 3)
    with FrameReader(tmp_path / "v.y4m", UniformSampling(1)) as reader:
        assert len(list(reader)) == 1


def test_list_is_refused_before_libav_opens_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr("vidperson.media.decoder.av.open", lambda *args, **_: opened.append(args))
    for content in (DASH, "#EXTM3U\n#EXTINF:4,\nx.ts\n", "\ufeff#EXTM3U\nx.ts\n", "ffconcat version 1.0\nfile x.ts\n"):
        (tmp_path / "x.mpd").write_text(content, encoding="utf-8")
        for open_it in (lambda path: FrameReader(path, UniformSampling(1)), probe):
            with pytest.raises(MediaError, match="list of other files"):
                open_it(tmp_path / "x.mpd")
    assert opened == []
