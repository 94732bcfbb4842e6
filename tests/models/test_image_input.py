"""How pictures of any kind become the rows of a generator."""

import io

import numpy as np
import pytest
from PIL import Image

from latentd.models.inputs.image import ImageInput

GREY = ImageInput(channels=1, height=2, width=2)
RGB = ImageInput(channels=3, height=2, width=2)


def file_of(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels_of(kind: ImageInput, file: bytes) -> list[object]:
    row, _ = kind.read(file)
    pixels: list[object] = np.rint((row + 1) * 127.5).astype(int).tolist()
    return pixels


def test_a_row_has_minus_one_for_black_and_one_for_white() -> None:
    row, name = GREY.read(file_of(Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8))))
    assert row.tolist() == [[[-1, 1], [1, -1]]]
    assert list(name) == ["image_sha256"]
    assert row.dtype == np.float32


def test_exif_turns_the_picture() -> None:
    image = Image.fromarray(np.array([[1, 2], [3, 4]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    assert pixels_of(GREY, file_of(image, exif=exif)) == [[[3, 1], [4, 2]]]


def test_sixteen_bits_become_eight() -> None:
    image = Image.fromarray(np.array([[0, 65535], [257, 128 * 257]], dtype=np.uint16))
    assert pixels_of(GREY, file_of(image)) == [[[0, 255], [1, 128]]]


def test_transparent_parts_are_white() -> None:
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    assert pixels_of(RGB, file_of(image)) == [[[255, 255], [255, 255]], [[0, 255], [255, 255]], [[0, 255], [255, 255]]]
    palette = image.convert("RGB").convert("P")
    index = palette.getpixel((1, 1))
    assert pixels_of(GREY, file_of(palette, transparency=index)) == [[[255, 255], [255, 255]]]


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))  # no cyan: red
    (red,), (green,), (blue,) = (np.unique(channel) for channel in pixels_of(RGB, file_of(image, "TIFF")))
    assert red > 200 > 60 > max(green, blue)


def test_other_sizes_are_cut_to_the_middle_or_refused() -> None:
    wide = np.zeros((2, 6), dtype=np.uint8)
    wide[:, 2:4] = 255
    assert pixels_of(GREY, file_of(Image.fromarray(wide))) == [[[255, 255], [255, 255]]]
    with pytest.raises(ValueError, match="is 6 × 2 pixels; this model takes 2 × 2"):
        GREY.model_copy(update={"other_sizes": "refuse"}).read(file_of(Image.fromarray(wide)))


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("L", (2, 2), value) for value in (10, 200)]
    assert pixels_of(GREY, file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])) == [[[10, 10], [10, 10]]]


@pytest.mark.parametrize(
    "file", [b"", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"%PDF-1.4", file_of(Image.new("F", (2, 2)), "TIFF")]
)
def test_files_that_cannot_be_read_are_a_value_error(file: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not a picture|is damaged|floating-point"):
        GREY.read(file)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow
def test_damaged_files_are_a_value_error_or_a_picture() -> None:
    """Every byte of small files changed and cut off, one after another."""
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP"):
        good = file_of(image, kind)
        for index in range(0, len(good), max(1, len(good) // 60)):
            for file in (good[:index], good[:index] + bytes([good[index] ^ 0xFF]) + good[index + 1 :]):
                try:
                    row, _ = RGB.read(file)
                except ValueError:
                    continue
                assert row.shape == RGB.shape
