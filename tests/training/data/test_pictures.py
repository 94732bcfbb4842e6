"""Pictures: nothing beside the pixels costs a picture, and none comes out black, inverted or dark without a word."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from latentd.training.data.decode import decode_square
from tests.training.data.image_sets import GRADIENT, chunk, decoded, file_of, png, with_chunk, write_folder

DEEP = GRADIENT.astype(np.uint16) * 257
PNG = file_of(Image.fromarray(GRADIENT))
JPEG = file_of(Image.fromarray(GRADIENT).convert("RGB"), "JPEG", quality=95)


def is_gradient(content: bytes, tolerance: int = 4) -> bool:
    pixels = decode_square(content, 64, 3).pixels.astype(int)
    return int(np.abs(pixels - GRADIENT[..., None]).max()) <= tolerance


def app(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"eXIf", b"garbage"),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(9_000_000))),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(9_000_000))),
        chunk(b"tEXt", b"workflow\0" + b"x" * 9_000_000),
        chunk(b"tEXt", b"x") * 100_000,
        chunk(b"tEXt", b"a\0b")[:-1] + b"?",
        chunk(b"iCCP", b"no profile"),
        chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(9_000_000))),
        chunk(b"gAMA", b"\0"),
        chunk(b"gAMA", bytes(4)),
        chunk(b"pHYs", b"1"),
        chunk(b"tIME", b""),
        chunk(b"acTL", b"?"),
        chunk(b"caBX", bytes(100_000)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation='broken'"),
    ],
)
def test_what_stands_beside_the_pixels_of_a_png(extra: bytes) -> None:
    assert is_gradient(with_chunk(PNG, extra), 0)
    assert is_gradient(PNG[:-12] + extra + PNG[-12:], 0)


def test_what_comes_after_the_end_of_a_png() -> None:
    assert is_gradient(PNG + b"\0garbage" * 1000, 0)
    assert is_gradient(PNG[:-12], 0)


@pytest.mark.parametrize(
    "segment",
    [
        app(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        app(0xE1, b"Exif\0\0garbage"),
        app(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
        app(0xE1, b"http://ns.adobe.com/xap/1.0/\0<broken"),
        app(0xE2, b"ICC_PROFILE\0\1\1garbage"),
        app(0xE2, b"ICC_PROFILE\0\7\3garbage"),
        app(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
        app(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\xff\xff\xff\xff"),
        app(0xEE, b"Adobe"),
        app(0xFE, b"\xff" * 60_000),
        app(0xE5, bytes(65_000)) * 20,
    ],
)
def test_what_stands_beside_the_pixels_of_a_jpeg(segment: bytes) -> None:
    assert is_gradient(JPEG[:2] + segment + JPEG[2:])


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "TIFF"])
def test_broken_metadata_of_other_files(kind: str) -> None:
    image = Image.fromarray(GRADIENT).convert("RGB")
    exif = image.getexif()
    exif[0x010E] = "description"
    content = file_of(image, kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {}))
    assert is_gradient(content.replace(b"description", b"\xff" * 11))
    if kind != "TIFF":  # there it is the whole file
        assert is_gradient(content.replace(b"MM\0*", b"XX\0*"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "deep TIFF"])
def test_pictures_are_turned_upright_once(kind: str, orientation: int) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:16, :32], pixels[:16, 32:] = 255, 128  # neither turns nor mirrors leave it as it is
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels.T[:, ::-1],
        7: pixels.T[::-1, ::-1],
        8: pixels.T[::-1],
    }
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    if kind == "deep TIFF":
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels.astype(np.uint16) * 257, extratags=[(274, 3, 1, orientation, True)])
        content = buffer.getvalue()
    else:
        content = file_of(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    found = decode_square(content, 64, 1).pixels[..., 0].astype(int)
    assert np.abs(found - upright[orientation]).max() < 40


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_end_marker_only(progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = file_of(Image.fromarray(noise), "JPEG", quality=90, progressive=progressive)
    whole = decode_square(content, 64, 3).pixels
    assert np.array_equal(decode_square(content[:-2], 64, 3).pixels, whole)
    assert np.array_equal(decode_square(content[:-1], 64, 3).pixels, whole)
    for cut in (30, 300, len(content) // 2):
        with pytest.raises(OSError, match=r"truncated|Truncated"):
            decode_square(content[:-cut], 64, 3)


def tiff(values: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def ranged(kind: int, low: float, high: float) -> list[tuple[int, int, int, float, bool]]:
    """Tags SMinSampleValue and SMaxSampleValue."""
    return [(340, kind, 1, low, True), (341, kind, 1, high, True)]


RGB16 = np.stack([DEEP] * 3, -1)
LAB = np.stack([GRADIENT, np.zeros_like(GRADIENT), np.zeros_like(GRADIENT)], -1)


@pytest.mark.parametrize(
    "content",
    [
        tiff(GRADIENT),
        tiff(DEEP),
        tiff(DEEP, byteorder=">"),
        tiff(DEEP, compression="lzw", predictor=True),
        tiff(DEEP, bigtiff=True),
        tiff(255 - GRADIENT, photometric="miniswhite"),
        tiff(65535 - DEEP, photometric="miniswhite"),
        tiff(RGB16, photometric="rgb"),
        tiff(RGB16.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        tiff(np.stack([GRADIENT] * 3), photometric="rgb", planarconfig="separate"),
        tiff(np.stack([DEEP, np.full_like(DEEP, 65535)], -1), photometric="minisblack", extrasamples=["unassalpha"]),
        tiff(np.stack([DEEP] * 3, 0), photometric="minisblack"),  # the first of three pages
        tiff(DEEP.astype(np.float32) / 65535, extratags=ranged(11, 0.0, 1.0)),
        tiff(DEEP.astype(np.int32) - 32768, extratags=ranged(9, -32768, 32767)),
        tiff(DEEP.astype(np.float32), imagej=True, metadata={"min": 0.0, "max": 65535.0}),
        tiff(DEEP >> 4, extratags=[(281, 3, 1, 4095, True)]),
        tiff(GRADIENT, compression="jpegxl"),
        tiff(GRADIENT, compression="zstd"),
        tiff(DEEP, tile=(32, 32)),
    ],
)
def test_tiffs_of_many_kinds(content: bytes) -> None:
    assert is_gradient(content, 1)
    assert decode_square(content, 64, 3).note == ""


def packed_12_bits() -> bytes:
    """A TIFF of 12 bits a pixel, two in three bytes."""
    values = (DEEP >> 4).astype(np.uint32)
    pairs = (values[:, ::2] << 12) | values[:, 1::2]
    data = np.stack([pairs >> 16, pairs >> 8, pairs], -1).astype(np.uint8).tobytes()
    tags = [(256, 64), (257, 64), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 64), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_of_12_bits() -> None:
    assert is_gradient(packed_12_bits(), 1)


@pytest.mark.parametrize("kind", ["cielab", "icclab"])
@pytest.mark.parametrize("bits", [8, 16])
def test_lab(kind: str, bits: int) -> None:
    values = LAB.astype(np.uint16)
    if kind == "icclab":
        values[..., 1:] = 128
    values = values.astype(np.uint8) if bits == 8 else values << 8
    found = decode_square(tiff(values, photometric=kind), 64, 3).pixels.astype(int)
    assert np.ptp(found, axis=-1).max() <= 3  # grey
    assert (np.diff(found[32, :, 0]) >= 0).all()
    assert found[32, 0, 0] < 5 < 250 < found[32, -1, 0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (DEEP.astype(np.int32), "signed integers of 32 bits"),
        (DEEP.astype(np.uint32), "integers of 32 bits"),
        (DEEP.astype(np.int16), "signed integers of 16 bits"),
        (GRADIENT.astype(np.int8), "signed integers of 8 bits"),
        ((DEEP / 65535).astype(np.float16), "floating-point numbers of 16 bits"),
        (DEEP.astype(np.float32), "floating-point numbers of 32 bits"),
        (DEEP.astype(np.float64), "floating-point numbers of 64 bits"),
    ],
)
def test_numbers_of_unknown_range_are_refused_in_words(
    values: NDArray[np.generic], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "data", {"good.png": png(200), "bad.tif": tiff(values, photometric="minisblack")})
    assert len(decoded(root).images) == 1
    assert f"bad.tif: skipped: its pixels are {said}" in caplog.text
    assert "save it with 8 or 16 unsigned bits" in caplog.text


def test_bands_that_are_no_colors_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bands = tiff(np.stack([GRADIENT] * 5, -1), photometric="minisblack", planarconfig="contig")
    with pytest.raises(ValueError, match=r"its colors .* are none of grey, RGB, CMYK, LAB"):
        decode_square(bands, 64, 3)


def png_of(bits: int, kind: int, rows: bytes, width: int, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0))
    return PNG[:8] + header + extra + chunk(b"IDAT", zlib.compress(b"\0" + rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "kind", "row", "transparent"),
    [
        (1, 0, bytes([0b01000000]), struct.pack(">H", 0)),
        (2, 0, bytes([0b01110000]), struct.pack(">H", 1)),
        (4, 0, bytes([0x3F]), struct.pack(">H", 3)),
        (8, 0, bytes([3, 255]), struct.pack(">H", 3)),
        (16, 0, struct.pack(">HH", 0, 65535), struct.pack(">H", 0)),
        (8, 2, bytes([1, 2, 3, 255, 255, 255]), struct.pack(">HHH", 1, 2, 3)),
        (16, 2, struct.pack(">HHHHHH", 3, 4, 5, 65535, 65535, 65535), struct.pack(">HHH", 3, 4, 5)),
    ],
)
def test_a_transparent_color_is_put_on_white(bits: int, kind: int, row: bytes, transparent: bytes) -> None:
    content = png_of(bits, kind, row, 2, chunk(b"tRNS", transparent))
    assert decode_square(content, 8, 3).pixels.min() > 250
    assert decode_square(png_of(bits, kind, row, 2), 8, 3).pixels.min() < 120


@pytest.mark.parametrize("bits", [8, 16])
def test_linear_light_is_brightened(bits: int) -> None:
    row = bytes([55] * 3) if bits == 8 else struct.pack(">HHH", *[55 * 257] * 3)
    linear = png_of(bits, 2, row, 1, chunk(b"gAMA", struct.pack(">I", 100_000)))
    assert abs(int(decode_square(linear, 8, 3).pixels.max()) - 127) <= 2
    usual = png_of(bits, 2, row, 1, chunk(b"gAMA", struct.pack(">I", 45_455)))
    both = png_of(bits, 2, row, 1, chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 100_000)))
    for content in (usual, both):
        assert decode_square(content, 8, 3).pixels.max() == 55


def profile(curve: bytes) -> bytes:
    """A color profile with one curve."""
    return bytes(128) + struct.pack(">I4sII", 1, b"gTRC", 144, len(curve)) + curve


LINEAR = [
    profile(b"curv" + bytes(8)),
    profile(b"curv" + bytes(4) + struct.pack(">IH", 1, 0x100)),
    profile(b"para" + bytes(4) + struct.pack(">HHi", 0, 0, 0x10000)),
]
USUAL = [
    profile(b"curv" + bytes(4) + struct.pack(">IH", 1, 0x233)),
    profile(b"curv" + bytes(4) + struct.pack(">I", 1024) + bytes(2048)),
    profile(b"para" + bytes(4) + struct.pack(">HHi", 3, 0, 0x10000)),
    profile(b""),
]


@pytest.mark.parametrize(("icc", "expected"), [*((icc, 127) for icc in LINEAR), *((icc, 55) for icc in USUAL)])
def test_profiles_of_linear_light(icc: bytes, expected: int) -> None:
    iccp = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))
    dark = np.full((8, 8), 55 * 257, np.uint16)
    files = [
        png_of(8, 2, bytes([55] * 3), 1, iccp),
        png_of(16, 2, struct.pack(">HHH", *[55 * 257] * 3), 1, iccp),
        tiff(dark, iccprofile=icc),
    ]
    for content in files:
        assert abs(int(decode_square(content, 8, 3).pixels.max()) - expected) <= 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    assert is_gradient(file_of(Image.fromarray(GRADIENT).convert("RGB").convert("CMYK"), kind), 6)


@pytest.mark.parametrize("kind", ["TGA", "BMP"])
def test_alpha_that_is_0_everywhere_is_none(kind: str) -> None:
    image = Image.merge("RGBA", [*[Image.fromarray(GRADIENT)] * 3, Image.new("L", (64, 64), 0)])
    assert is_gradient(file_of(image, kind))


def test_dark_pictures_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {
        "mask.png": file_of(Image.fromarray((GRADIENT // 32).astype(np.uint8))),
        "camera.tif": tiff(DEEP >> 4),
        "camera.png": file_of(Image.fromarray((DEEP >> 2).astype(np.uint16))),
        "good.png": PNG,
        "black.png": png(0),
    }
    root = write_folder(tmp_path / "data", files)
    for _ in range(2):  # decoded, and from the cache
        decoded(root, side=64)
        assert "mask.png: it is nearly black, its brightest value is 7 of 255" in caplog.text
        assert "camera.tif: it is nearly black, its brightest value is 15 of 255; values of 10, 12 or 14" in caplog.text
        assert "camera.png: it is nearly black" in caplog.text
        assert "good.png" not in caplog.text
        assert "black.png" not in caplog.text
        caplog.clear()


def test_warnings_of_decoders_name_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    image = Image.fromarray(GRADIENT)
    content = file_of(image, "TIFF")
    at = content.index(struct.pack("<HH", 262, 3))  # a tag with a pointer to nowhere
    broken = content[:at] + struct.pack("<HHII", 305, 2, 500, 1 << 24) + content[at + 12 :]
    files = {"good.png": PNG, "broken.tif": broken, "large.jpg": file_of(Image.new("L", (10_000, 9_500)), "JPEG")}
    decoded(write_folder(tmp_path / "data", files))
    assert not recwarn.list
    assert "large.jpg" not in caplog.text
    assert "broken.tif: " in caplog.text
