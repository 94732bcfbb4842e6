import io

import numpy as np
import orjson
import pytest
from PIL import Image

from latentd.models.outputs.image import ImageOutput, make_grid, pixel_features, to_pixels
from latentd.models.outputs.points import PointsOutput

GREY = ImageOutput(channels=1, height=2, width=3)
COLOUR = ImageOutput(channels=3, height=2, width=3)


def ramp(output: ImageOutput, count: int) -> np.ndarray:
    size = count * output.channels * 6
    return np.linspace(-1, 1, size, dtype=np.float32).reshape(count, *output.shape)


def test_minus_one_is_black_and_one_is_white() -> None:
    values = np.array([-1.0, 0.0, 1.0, -5.0, 5.0, 0.5], dtype=np.float32).reshape(1, 1, 2, 3)
    assert to_pixels(values).reshape(-1).tolist() == [0, 128, 255, 0, 255, 191]


@pytest.mark.parametrize("output", [GREY, COLOUR])
@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_formats_hold_every_pixel(output: ImageOutput, format: str) -> None:
    sample = ramp(output, 1)
    image = Image.open(io.BytesIO(output.encode(sample, format)[0]))
    assert image.size == (3, 2)
    decoded = np.asarray(image.convert("L" if output.channels == 1 else "RGB")).reshape(2, 3, output.channels)
    assert np.array_equal(decoded, to_pixels(sample)[0])


def test_jpeg_is_close() -> None:
    sample = np.full((3, 16, 16), 0.3, dtype=np.float32)
    image = Image.open(io.BytesIO(ImageOutput(channels=3, height=16, width=16).encode(sample[None], "jpeg")[0]))
    assert image.format == "JPEG"
    assert np.abs(np.asarray(image).astype(int) - 166).max() <= 2


def test_npy_holds_the_exact_sample() -> None:
    sample = ramp(COLOUR, 1)[0]
    assert np.array_equal(np.load(io.BytesIO(COLOUR.encode(sample[None], "npy")[0]), allow_pickle=False), sample)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (5, 3, 2), (16, 4, 4)])
def test_grid_is_filled_row_by_row(count: int, columns: int, rows: int) -> None:
    pixels = to_pixels(ramp(GREY, count))
    picture = make_grid(pixels)
    assert picture.shape == (2 * rows, 3 * columns, 1)
    for index in range(count):
        row, column = divmod(index, columns)
        assert np.array_equal(picture[2 * row : 2 * row + 2, 3 * column : 3 * column + 3], pixels[index])
    assert picture.sum() == pixels.sum()  # what is left is black


def test_json_keeps_every_bit_of_points() -> None:
    output = PointsOutput(dim=3)
    sample = np.array([0.1, -2.5e-8, 1 / 3], dtype=np.float32)
    assert np.array_equal(np.array(orjson.loads(output.encode(sample[None], "json")[0]), dtype=np.float32), sample)


def test_features_of_images_up_to_64_pixels_are_the_pixels() -> None:
    samples = np.random.RandomState(0).uniform(-1, 1, (3, 3, 64, 28)).astype(np.float32)
    features = ImageOutput(channels=3, height=64, width=28).features(samples)
    assert np.array_equal(features, samples.reshape(3, -1))


def test_features_of_larger_images_are_means_of_cells() -> None:
    samples = np.random.RandomState(0).uniform(-1, 1, (2, 3, 256, 128)).astype(np.float32)
    cells = samples.reshape(2, 3, 64, 4, 64, 2).mean(axis=(3, 5))
    assert np.allclose(pixel_features(samples), cells.reshape(2, -1), atol=1e-6)


def test_a_feature_takes_a_share_of_a_pixel_that_it_covers_in_part() -> None:
    row = np.zeros((1, 1, 1, 96), np.float32)
    row[..., 1] = 1.0  # the second pixel: half of it in the first feature, half in the second
    features = pixel_features(row)
    assert features.shape == (1, 64)
    assert features[0, :3] == pytest.approx([1 / 3, 1 / 3, 0])
