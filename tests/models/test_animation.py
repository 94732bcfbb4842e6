"""Animations and embedded metadata, read back from the encoded files."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from latentd.models.encoding.animation import MEDIA_TYPES, AnimationOptions, encode_animation
from latentd.models.encoding.metadata import embed_metadata, read_metadata
from latentd.models.outputs.base import Frame
from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.points import PointsOutput

NAME = '{"model":"m","seed":7,"label":"T-shirt/top & <b>"}'


def moving_gradient(count: int = 7, side: int = 28, channels: int = 1) -> list[Frame]:
    """Return frames of a moving gradient."""
    across = np.linspace(0, 255, side)
    frames = [np.add.outer(np.roll(across, 3 * index), across) / 2 for index in range(count)]
    grey = [frame.astype(np.uint8)[..., None] for frame in frames]
    return grey if channels == 1 else [np.concatenate([f, 255 - f, f[::-1]], axis=2) for f in grey]


def decoded(file: bytes, mode: str) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(io.BytesIO(file)) as picture:
        frames = [(np.asarray(each.convert(mode)), each.info["duration"]) for each in ImageSequence.Iterator(picture)]
    return [frame for frame, _ in frames], [int(duration) for _, duration in frames]


@pytest.mark.parametrize(("format", "channels"), [("gif", 1), ("apng", 1), ("apng", 3), ("webp", 1), ("webp", 3)])
def test_lossless_formats_keep_every_pixel(format: str, channels: int) -> None:
    frames = moving_gradient(channels=channels)
    file = encode_animation(frames, format, AnimationOptions(fps=25, scale=2), NAME)
    got, durations = decoded(file, "L" if channels == 1 else "RGB")
    assert len(got) == 7
    for frame, expected in zip(got, frames, strict=True):
        assert np.array_equal(frame, np.kron(expected.squeeze(), np.ones((2, 2) + (1,) * (channels == 3))))
    assert durations == [40] * 7
    assert read_metadata(file) == NAME


def test_gif_colours_are_close() -> None:
    frames = moving_gradient(channels=3)
    got, _ = decoded(encode_animation(frames, "gif", AnimationOptions(fps=25), NAME), "RGB")
    errors = [np.abs(frame.astype(int) - expected).mean() for frame, expected in zip(got, frames, strict=True)]
    assert max(errors) < 8


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (27, 3), (25, 3), (1, 1)])
def test_mp4_has_the_codec_and_layout_that_browsers_play(side: int, channels: int) -> None:
    frames = moving_gradient(side=side, channels=channels)
    file = encode_animation(frames, "mp4", AnimationOptions(fps=24), NAME)
    with av.open(io.BytesIO(file)) as opened:
        stream = opened.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width % 2, stream.height % 2) == (0, 0)
        assert stream.average_rate == Fraction(24)
        got = [frame.to_ndarray(format="rgb24")[:side, :side] for frame in opened.decode(video=0)]
    assert len(got) == 7
    if side > 1:
        errors = [np.abs(frame.astype(int) - expected).mean() for frame, expected in zip(got, frames, strict=True)]
        assert max(errors) < (3 if channels == 1 else 25)  # 4:2:0 halves the resolution of colors
    assert file.index(b"moov") < file.index(b"mdat")  # so that it plays while it loads
    assert read_metadata(file) == NAME


@pytest.mark.parametrize("format", sorted(MEDIA_TYPES))
def test_the_same_frames_give_the_same_bytes(format: str) -> None:
    frames = moving_gradient(channels=3)
    assert encode_animation(frames, format, AnimationOptions(fps=30), NAME) == encode_animation(
        iter(frames), format, AnimationOptions(fps=30), NAME
    )


@pytest.mark.parametrize("format", ["gif", "apng", "webp"])
@pytest.mark.parametrize("fps", [1, 7, 24, 60])
def test_frame_durations_add_up(format: str, fps: int) -> None:
    _, durations = decoded(encode_animation(moving_gradient(30, side=8), format, AnimationOptions(fps), NAME), "L")
    assert sum(durations) == pytest.approx(30_000 / fps, abs=10)


def test_lanczos_enlarges_smoothly_and_nearest_does_not() -> None:
    board = np.tile(np.uint8([[[0], [255]], [[255], [0]]]), (4, 4, 1))
    (sharp, _), _ = decoded(encode_animation([board, 255 - board], "apng", AnimationOptions(10, 4), NAME), "L")
    (smooth, _), _ = decoded(
        encode_animation([board, 255 - board], "apng", AnimationOptions(10, 4, "lanczos"), NAME), "L"
    )
    assert sharp.shape == smooth.shape == (32, 32)
    assert len(np.unique(sharp)) == 2
    assert len(np.unique(smooth)) > 20


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_embedded_metadata_changes_no_pixel(format: str, channels: int) -> None:
    output = ImageOutput(channels=channels, height=28, width=27)
    samples = np.random.RandomState(0).uniform(-1, 1, (1, *output.shape)).astype(np.float32)
    (plain,) = output.encode(samples, format)
    named = embed_metadata(plain, format, NAME)
    assert read_metadata(named) == NAME
    assert read_metadata(plain) is None
    with Image.open(io.BytesIO(plain)) as before, Image.open(io.BytesIO(named)) as after:
        assert after.format == before.format
        assert np.array_equal(np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB")))


def test_formats_without_metadata_are_left_unchanged() -> None:
    assert embed_metadata(b"bytes", "npy", NAME) == b"bytes"
    (jpeg,) = ImageOutput(channels=1, height=8, width=8).encode(np.zeros((1, 1, 8, 8), np.float32), "jpeg")
    assert embed_metadata(jpeg, "jpeg", "x" * 70_000) == jpeg


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"not a picture at all" * 100])
def test_files_that_are_no_image_have_no_metadata(file: bytes) -> None:
    assert read_metadata(file) is None


def test_frames_of_points_show_the_current_and_earlier_points() -> None:
    output = PointsOutput(dim=2)
    points = np.float32([[1, 0], [0, 1], [-1, 0]])
    frames = list(output.frames(output.frame_data(points)))
    assert {frame.shape for frame in frames} == {(256, 256, 3)}
    right, top, left = (128 + 118, 128), (128, 128 - 118), (128 - 118, 128)

    def color(frame: Frame, place: tuple[int, int]) -> tuple[int, ...]:
        return tuple(int(value) for value in frame[place[1], place[0]])

    now, past, paper = (20, 60, 140), (150, 180, 220), (255, 255, 255)
    assert color(frames[0], right) == now
    assert [color(frames[2], place) for place in (right, top, left)] == [past, past, now]
    assert color(frames[0], (10, 10)) == paper
    assert PointsOutput(dim=3).frame_size is None
    assert next(output.frames(output.frame_data(np.zeros((1, 2), np.float32)))).shape == (256, 256, 3)
