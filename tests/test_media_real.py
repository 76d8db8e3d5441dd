"""The frame reader on real and on broken files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from naive_decoder import decode_all, nearest, pick_constant, pick_nearest, pick_windows

from vidperson.errors import MediaError
from vidperson.media.picture import to_rgb
from vidperson.media.video import FrameReader, UniformSampling, WindowSampling, probe
from vidperson.types import Frame

# name: frames at one per second, height, width
SOUND = {
    "robustness/av1.mkv": (2, 256, 256),
    "robustness/av_offset_500ms.mp4": (6, 256, 256),
    "robustness/base.gif": (7, 256, 256),
    "robustness/base.mp4": (6, 256, 256),
    "robustness/black_silent_noface.mp4": (3, 240, 320),
    "robustness/faststart.mp4": (6, 256, 256),
    "robustness/gray.mp4": (6, 256, 256),
    "robustness/hevc10.mp4": (6, 256, 256),
    "robustness/interlaced_mpeg2.mpg": (6, 576, 720),
    "robustness/mjpeg_pcm.avi": (6, 256, 256),
    "robustness/name with spaces é 名.mp4": (6, 256, 256),
    "robustness/nonsquare_base.mp4": (3, 288, 360),
    "robustness/odd_dims_444.mp4": (6, 127, 127),
    "robustness/one_fps.mp4": (6, 256, 256),
    "robustness/one_frame.mp4": (1, 256, 256),
    "robustness/phone_upright_via_matrix.mp4": (3, 288, 360),
    "robustness/rot_meta_180.mp4": (6, 256, 256),
    "robustness/rot_meta_270.mp4": (6, 256, 256),
    "robustness/rot_meta_90.mp4": (6, 256, 256),
    "robustness/rot_pixels_90_nometa.mp4": (6, 256, 256),
    "robustness/sar2.mp4": (6, 256, 512),
    "robustness/vfr.mp4": (6, 256, 256),
    "robustness/video_no_audio.mp4": (6, 256, 256),
    "robustness/vp9_opus.webm": (6, 256, 256),
    "odd/decord_unordered.mov": (1, 50, 50),
    "odd/decord_video_0.mov": (1, 320, 568),
    "odd/decord_video_180.mov": (1, 320, 568),
    "odd/decord_video_270.mov": (1, 568, 320),
    "odd/decord_video_90.mov": (1, 568, 320),
    "odd/moviepy_-video-with-dash-.mp4": (5, 1, 1),
    "odd/moviepy_big_buck_bunny_432_433.webm": (1, 720, 1280),
    "odd/moviepy_bitmap.mp4": (5, 1, 1),
    "odd/moviepy_example.mp4": (2, 480, 640),
    "odd/moviepy_example2.mp4": (2, 720, 1280),
    "odd/moviepy_example3.mp4": (2, 480, 854),
    "odd/moviepy_example_mask.mp4": (10, 200, 200),
    "odd/moviepy_no_duration.webm": (5, 720, 1280),
    "odd/moviepy_result.mp4": (10, 480, 640),
    "odd/moviepy_smpte-2997.mp4": (11, 1080, 1920),
    "odd/moviepy_test_video.mp4": (5, 1, 1),
    "odd/moviepy_transparent.webm": (5, 200, 200),
    "odd/moviepy_video_with_failing_audio.mp4": (12, 360, 640),
    "odd/mp4parse_av1-clearkey-cbcs-video.mp4": (
        1,
        90,
        160,
    ),  # only what follows this clear part is encrypted
    "odd/mp4parse_bbb_sunflower_QCIF_30fps_mp4v_noaudio_1f.mp4": (1, 144, 256),
    "odd/mp4parse_h264_white_frame_sar_16_9.mp4": (1, 480, 1138),
    "odd/mp4parse_hevc_white_frame.mp4": (1, 480, 640),
    "odd/mp4parse_metadata.mp4": (1, 240, 320),  # has a cover picture besides
    "odd/mp4parse_metadata_gnre.mp4": (1, 240, 320),
    "odd/mp4parse_minimal.mp4": (1, 240, 320),
    "odd/mp4parse_tiny_av1.mp4": (1, 64, 64),
    "odd/mp4parse_video_colr_nclx_and_icc.mp4": (1, 2, 2),
    "odd/mp4parse_video_colr_nclx_hdr10.mp4": (1, 2, 2),
    "odd/mp4parse_video_colr_nclx_hdr10_full_range.mp4": (1, 2, 2),
    "odd/mp4parse_video_colr_nclx_hlg.mp4": (1, 2, 2),
    "odd/mp4parse_video_colr_nclx_hlg_full_range.mp4": (1, 2, 2),
    "odd/mp4parse_video_colr_nclx_rgb.mp4": (1, 2, 2),
    "odd/mp4parse_video_colr_nclx_two_colr.mp4": (1, 2, 2),
    "odd/mp4parse_video_rotation_90.mp4": (1, 100, 60),
    "odd/mp4parse_white.mp4": (10, 240, 320),
}

# name: frames at one per second, message
DAMAGED = {
    "robustness/corrupt_middle.mp4": (2, "32 of 150 frames decoded, the first loss is at 1.28 s"),
    "robustness/truncated_faststart.mp4": (
        4,
        "84 of 150 frames decoded, the first loss is at 3.36 s, the file ends early, at 3.48 s",
    ),
    "odd/decord_corrupted.mp4": (3, "25 of 50 frames decoded, the first loss is at 2.50 s"),
}

UNREADABLE = {
    "robustness/audio_only.mp4": "no video stream, only sound",
    "robustness/random_bytes.mp4": "not a media file",
    "robustness/text.mp4": "this is a text file, not a video or image",
    "robustness/truncated_moov_at_end.mp4": "not a media file",
    "robustness/zero_bytes.mp4": "empty",
    "odd/moviepy_result.webm": "empty",
    "odd/mp4parse_afconvert-aac-0.5s.mp4": "no video stream",
    "odd/mp4parse_bipbop-cenc-audioinit.mp4": "no video stream",
    "odd/mp4parse_bipbop_480wp_1001kbps-cenc-video-key1-init.mp4": "no video data",
    "odd/mp4parse_bipbop_audioinit.mp4": "no video stream",
    "odd/mp4parse_bipbop_cbcs_audio_init.mp4": "no video stream",
    "odd/mp4parse_bipbop_cbcs_video_init.mp4": "no video data",
    "odd/mp4parse_bipbop_nonfragment_header.mp4": "no video data",
    "odd/mp4parse_chunk_out_of_range.mp4": "not a media file",
    "odd/mp4parse_invalid_userdata.mp4": "no video data",
    "odd/mp4parse_no_timescale.mp4": "no frame",
    "odd/mp4parse_opus_audioinit.mp4": "no video stream",
    "odd/mp4parse_opus_audioinit_two_desc.mp4": "no video stream",
    "odd/mp4parse_short-cenc.mp4": "encrypted",
    "odd/mp4parse_sine-3s-xhe-aac-44khz-mono.mp4": "no video stream",
    "odd/mp4parse_test_case_1185230.mp4": "no frame",
    "odd/mp4parse_zero_empty_stsc.mp4": "no frame",
}


@pytest.fixture(scope="session")
def video(shared: Path) -> Path:
    return shared / "data" / "video"


def read(path: Path, sampling: UniformSampling | WindowSampling | None = None) -> list[Frame]:
    with FrameReader(path, sampling or UniformSampling(1)) as reader:
        return list(reader)


def test_tables_of_expected_outcomes_cover_every_file(video: Path) -> None:
    there = {f"{folder}/{path.name}" for folder in ("robustness", "odd") for path in (video / folder).iterdir()}
    assert there == SOUND.keys() | DAMAGED.keys() | UNREADABLE.keys()


@pytest.mark.parametrize("name", SOUND)
def test_reader_sound_file_gives_its_frames_without_damage(video: Path, name: str) -> None:
    with FrameReader(video / name, UniformSampling(1)) as reader:
        frames = list(reader)
    assert reader.damage is None
    count, height, width = SOUND[name]
    assert [f.image.shape for f in frames] == [(height, width, 3)] * count
    if name != "odd/moviepy_no_duration.webm":
        assert abs(probe(video / name).duration_s - frames[-1].time_s) <= 2


@pytest.mark.parametrize("name", DAMAGED)
def test_reader_damaged_file_gives_what_is_sound_and_says_so(video: Path, name: str) -> None:
    with FrameReader(video / name, UniformSampling(1)) as reader:
        frames = list(reader)
    assert (len(frames), reader.damage) == DAMAGED[name]


@pytest.mark.parametrize("name", UNREADABLE)
def test_reader_unreadable_file_gives_a_reason(video: Path, name: str) -> None:
    with pytest.raises(MediaError, match=UNREADABLE[name]) as error:
        FrameReader(video / name, UniformSampling(1))
    assert "/" not in str(error.value)


@pytest.mark.parametrize("folder", ["grid", "mead", "talks", "avspeech", "hamilton", "titanic"])
def test_reader_every_file_of_a_sound_corpus_is_sound(video: Path, folder: str) -> None:
    for path in sorted((video / folder).iterdir()):
        with FrameReader(path, UniformSampling(0.5)) as reader:
            assert list(reader)
        assert reader.damage is None, path.name


def test_reader_damaged_file_gives_the_same_pictures_up_to_the_loss(video: Path) -> None:
    whole = read(video / "robustness/base.mp4", UniformSampling(25))
    broken = read(video / "robustness/corrupt_middle.mp4", UniformSampling(25))
    assert [f.index for f in broken] == list(range(32))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(whole, broken, strict=False))


@pytest.mark.parametrize(("name", "quarters"), [("rot_meta_90", 1), ("rot_meta_180", 2), ("rot_meta_270", 3)])
def test_reader_rotated_file_equals_the_original_turned(video: Path, name: str, quarters: int) -> None:
    upright = read(video / "robustness/base.mp4")
    turned = read(video / f"robustness/{name}.mp4")
    for a, b in zip(upright, turned, strict=True):
        assert np.array_equal(np.rot90(a.image, quarters), b.image)


def test_reader_phone_video_is_upright(video: Path) -> None:
    for a, b in zip(
        read(video / "robustness/nonsquare_base.mp4"),
        read(video / "robustness/phone_upright_via_matrix.mp4"),
        strict=True,
    ):
        assert np.abs(a.image.astype(int) - b.image).mean() < 3


@pytest.mark.parametrize("fps", [3, 10, 30])
@pytest.mark.parametrize(
    "name",
    [
        "robustness/base.mp4",
        "robustness/vp9_opus.webm",
        "robustness/av1.mkv",
        "robustness/mjpeg_pcm.avi",
        "grid/GRID_bbaf2n.mpg",
        "avspeech/3DsHHfu4_co_106_.mp4",
        "odd/moviepy_no_duration.webm",
    ],
)
def test_reader_constant_rate_gives_the_frames_of_the_formula(video: Path, name: str, fps: float) -> None:
    with av.open(str(video / name)) as container:
        stream = container.streams.video[0]
        n, rate = sum(1 for _ in container.decode(stream)), Fraction(stream.average_rate)
    assert [f.index for f in read(video / name, UniformSampling(fps))] == pick_constant(n, rate, fps)


@pytest.mark.parametrize("fps", [0.5, 2.5, 10, 60])
@pytest.mark.parametrize("name", ["robustness/vfr.mp4", "robustness/base.gif"])
def test_reader_variable_rate_gives_the_nearest_frames(video: Path, name: str, fps: float) -> None:
    times, pictures, rate = decode_all(video / name)
    frames = read(video / name, UniformSampling(fps))
    assert [f.index for f in frames] == pick_nearest(times, rate, fps)
    assert [f.time_s for f in frames] == pytest.approx([float(times[f.index]) for f in frames])
    plain = pictures[frames[-1].index].to_ndarray(format="rgb24")
    assert np.abs(frames[-1].image.astype(int) - plain).mean() < 2


def test_reader_windows_equal_the_plain_rule(video: Path) -> None:
    times, _, _ = decode_all(video / "robustness/vfr.mp4")
    positions = (5.0, 0.1, 2.34, 2.5)
    frames = read(video / "robustness/vfr.mp4", WindowSampling(positions, "seconds", 11))
    centres = [nearest(times, Fraction(str(p))) for p in positions]
    assert [(f.index, f.label) for f in frames] == pick_windows(len(times), centres, 11)
    frames = read(video / "robustness/base.mp4", WindowSampling((148, 3, 30, 33), "frames", 21))
    assert [(f.index, f.label) for f in frames] == pick_windows(150, (148, 3, 30, 33), 21)


def test_reader_interlaced_file_is_smoother_than_its_woven_frames(video: Path) -> None:
    path = video / "robustness/interlaced_mpeg2.mpg"
    _, pictures, _ = decode_all(path)
    for frame in read(path):
        woven = pictures[frame.index].to_ndarray(format="gray").astype(int)
        shown = frame.image[..., 1].astype(int)
        steps = [np.abs(2 * image[1:-1] - image[:-2] - image[2:]).mean() for image in (shown, woven)]
        assert steps[0] < 0.8 * steps[1]


def test_picture_mpeg4_with_square_pixels_is_converted_as_libav_does(video: Path) -> None:
    _, pictures, _ = decode_all(video / "robustness/base.mp4")
    shown = to_rgb(pictures[50], Fraction(1), VideoReformatter())
    plain = pictures[50].to_ndarray(format="rgb24")
    assert np.abs(shown.astype(int) - plain).mean() < 2
