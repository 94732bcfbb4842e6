"""Twenty-four more things that lie on people's disks, of the kinds of the other tests here."""

import io
import struct
import tarfile
import unicodedata
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tifffile
from PIL import Image

from latentd.training.data.decode import decode_square
from latentd.training.data.source import DataError
from tests.training.data.image_sets import (
    GRADIENT,
    chunk,
    decoded,
    file_of,
    png,
    shades,
    shades_by_class,
    with_chunk,
    write_folder,
    write_tar,
    write_zip,
)

RGB = Image.fromarray(GRADIENT).convert("RGB")


def is_gradient(content: bytes, tolerance: int = 4) -> bool:
    return int(np.abs(decode_square(content, 64, 3).pixels.astype(int) - GRADIENT[..., None]).max()) <= tolerance


def test_a_zip_of_java_with_utf_8_and_no_flag(tmp_path: Path) -> None:
    members = [(f"data/{name}/0.png".encode(), png(index)) for index, name in enumerate(("猫", "犬"))]
    assert shades_by_class(decoded(write_zip(tmp_path / "a.zip", members))) == {"犬": [1], "猫": [0]}


def test_a_zip_of_macos_with_decomposed_names(tmp_path: Path) -> None:
    names = [unicodedata.normalize("NFD", name) for name in ("café", "thé")]
    members = [(f"{name}/0.png".encode(), png(index)) for index, name in enumerate(names)]
    members += [(f"__MACOSX/{names[0]}/._0.png".encode(), b"\0\5\x16\7"), (b".DS_Store", b"")]
    assert shades_by_class(decoded(write_zip(tmp_path / "a.zip", members, system=3))) == {"café": [0], "thé": [1]}


def test_a_zip_with_names_in_info_zips_extra_field(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = directory = b""
    for index, name in enumerate(("猫", "犬")):
        raw, utf8, content = f"{name}/0.png".encode("gbk"), f"{name}/0.png".encode(), png(index)
        extra = struct.pack("<HHBI", 0x7075, 5 + len(utf8), 1, zlib.crc32(raw)) + utf8
        sizes = struct.pack("<III", zlib.crc32(content), len(content), len(content))
        head = struct.pack("<HHHHH", 20, 0, 0, 0, 0x21) + sizes + struct.pack("<HH", len(raw), len(extra))
        directory += b"PK\1\2\x14\0" + head + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + raw + extra
        body += b"PK\3\4" + head + raw + extra + content
    end = struct.pack("<HHHHIIH", 0, 0, 2, 2, len(directory), len(body), 0)
    (tmp_path / "a.zip").write_bytes(body + directory + b"PK\5\6" + end)
    assert shades_by_class(decoded(tmp_path / "a.zip")) == {"犬": [1], "猫": [0]}
    assert "names_encoding" not in caplog.text


def test_a_member_with_a_wrong_sum_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_zip(tmp_path / "a.zip", [(b"0.png", png(0)), (b"1.png", png(1))])
    content = path.read_bytes()
    at = content.index(b"IDAT") + 6
    path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    assert shades(decoded(path)) == [1]
    assert "0.png: skipped: Bad CRC-32" in caplog.text


def test_archives_under_each_others_names(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.zip", [("0.png", png(0))])
    write_zip(tmp_path / "a.tar", [(b"1.png", png(1))])
    assert shades(decoded(tmp_path / "a.zip")) == [0]
    assert shades(decoded(tmp_path / "a.tar")) == [1]


def test_a_tar_of_macos_with_its_own_headers(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (
            ("./._cats", b"\0"),
            ("./cats/._0.png", b"\0"),
            ("./cats/0.png", png(0)),
            ("./dogs/1.png", png(1)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.pax_headers = {"LIBARCHIVE.xattr.com.apple.quarantine": "MDA4MQ", "SCHILY.xattr.x": "\x01\x02"}
            archive.addfile(info, io.BytesIO(content))
    assert shades_by_class(decoded(tmp_path / "a.tar")) == {"cats": [0], "dogs": [1]}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_very_long_names_in_a_tar(form: int, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for index, name in enumerate(("猫" * 60, "犬" * 60)):
            info = tarfile.TarInfo(f"data/{name}/{'x' * 150}.png")
            info.size = len(png(index))
            archive.addfile(info, io.BytesIO(png(index)))
    assert shades_by_class(decoded(tmp_path / "a.tar")) == {"犬" * 60: [1], "猫" * 60: [0]}


def test_a_tar_with_backslashes(tmp_path: Path) -> None:
    members = [(rf"data\{name}\{index}.png", png(index)) for index, name in enumerate(("cats", "dogs"))]
    assert shades_by_class(decoded(write_tar(tmp_path / "a.tar", members))) == {"cats": [0], "dogs": [1]}


def test_labels_in_upper_case_and_with_ends_of_lines_of_windows(tmp_path: Path) -> None:
    members = [("0.PNG", png(0)), ("0.CLS", b"\xef\xbb\xbfcat\r\n"), ("1.PNG", png(1)), ("1.CLS", b"dog\r\n")]
    assert shades_by_class(decoded(write_tar(tmp_path / "a.tar", members))) == {"cat": [0], "dog": [1]}


def test_a_class_folder_that_is_a_broken_link_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path / "data", {"cat/0.png": png(0), "dog/1.png": png(1)})
    (root / "owl").symlink_to("/mnt/gone/owl")
    assert shades(decoded(root)) == [0, 1]
    assert "owl" in caplog.text


def write_parquet(path: Path, shade: int, **columns: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"image": [png(shade)], **columns}), path)


def test_what_spark_writes(tmp_path: Path) -> None:
    root = tmp_path / "pets.parquet"
    for index, label in enumerate(("cat", "dog")):
        write_parquet(root / f"part-0000{index}-uuid.c000.snappy.parquet", index, label=[label])
        write_folder(root, {f".part-0000{index}-uuid.c000.snappy.parquet.crc": b"crc"})
    write_folder(root, {"_SUCCESS": b"", "._SUCCESS.crc": b""})
    assert shades_by_class(decoded(root)) == {"cat": [0], "dog": [1]}


def test_what_delta_lake_writes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "pets" / "part-0.parquet", 3)
    log = tmp_path / "pets" / "_delta_log"
    log.mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"add": ["x"]}), log / "00000000000000000010.checkpoint.parquet")
    assert shades(decoded(tmp_path / "pets")) == [3]


def test_lists_of_images_are_named(tmp_path: Path) -> None:
    images = [[{"bytes": png(0), "path": "0.png"}, {"bytes": png(1), "path": "1.png"}]]
    pyarrow.parquet.write_table(pyarrow.table({"images": images, "texts": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has no column of images; it has images, texts"):
        decoded(tmp_path / "a.parquet")


def test_a_cache_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"decoded images cannot be written to .*XDG_CACHE_HOME"):
        decoded(write_folder(tmp_path / "data", {"0.png": png(0)}))


def test_a_jpeg_whose_colors_are_rgb() -> None:
    content = imagecodecs.jpeg8_encode(np.asarray(RGB), level=98, colorspace="RGB", outcolorspace="RGB")
    assert is_gradient(content, 6)


def test_a_photo_with_a_film_behind_it() -> None:
    film = b"\0\0\0\x18ftypmp42" + bytes(200_000)
    assert is_gradient(file_of(RGB, "JPEG", quality=95) + film)
    assert is_gradient(b"".join([file_of(RGB, "JPEG", quality=95)] * 2))


def test_16_bits_with_alpha() -> None:
    deep = GRADIENT.astype(np.uint16) * 257
    for alpha, expected in ((65535, True), (0, False)):
        grey = imagecodecs.png_encode(np.stack([deep, np.full_like(deep, alpha)], -1))
        color = imagecodecs.png_encode(np.stack([deep] * 3 + [np.full_like(deep, alpha)], -1))
        for content in (grey, color):
            assert is_gradient(content) == expected
            assert expected or decode_square(content, 64, 3).pixels.min() == 255


def test_a_transparency_longer_than_the_palette() -> None:
    content = file_of(Image.fromarray(GRADIENT).convert("P"))
    at = content.index(b"IDAT") - 4
    assert is_gradient(content[:at] + chunk(b"tRNS", b"\xff" * 300) + content[at:], 8)
    assert is_gradient(with_chunk(file_of(RGB), chunk(b"tRNS", b"\xff")), 0)


def bmp(bits: int, data: bytes, compression: int, extra: bytes = b"", height: int = 64) -> bytes:
    offset = 54 + len(extra)
    info = struct.pack("<IiiHHIIiiII", 40, 64, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset) + info + extra + data


def test_bmps_of_16_bits_and_from_the_top() -> None:
    five = (GRADIENT >> 3).astype(np.uint16)
    rgb565 = ((five << 11) | ((GRADIENT >> 2).astype(np.uint16) << 5) | five).astype("<u2").tobytes()
    assert is_gradient(bmp(16, rgb565, 3, struct.pack("<III", 0xF800, 0x7E0, 0x1F)), 9)
    assert is_gradient(bmp(24, np.asarray(RGB).tobytes(), 0, height=-64), 0)


def test_a_cut_webp_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = file_of(RGB, "WEBP", lossless=True)
    root = write_folder(tmp_path / "data", {"0.png": png(50), "cut.webp": content[: len(content) // 2]})
    assert len(decoded(root).images) == 1
    assert "cut.webp: skipped: " in caplog.text


@pytest.mark.parametrize("bits", [10, 14])
def test_tiffs_of_10_and_14_bits(bits: int) -> None:
    deep = (GRADIENT.astype(np.uint16) * 257) >> (16 - bits)
    packed = b"".join(
        int("".join(f"{value:0{bits}b}" for value in row), 2).to_bytes(64 * bits // 8) for row in deep.tolist()
    )
    tags = [(256, 64), (257, 64), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 64), (279, len(packed))]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    content = b"MM\0*" + struct.pack(">I", 8 + len(packed)) + packed + struct.pack(">H", len(tags)) + entries + bytes(4)
    assert is_gradient(content, 1)


def test_half_floats_with_a_range() -> None:
    buffer = io.BytesIO()
    ranges = [(280, 11, 1, 0.0, True), (281, 11, 1, 1.0, True)]
    tifffile.imwrite(buffer, (GRADIENT / 255).astype(np.float16), extratags=ranges)
    assert is_gradient(buffer.getvalue(), 1)


def test_a_float_picture_with_nan() -> None:
    values = (GRADIENT / 255).astype(np.float32)
    values[0, 0] = np.nan
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, extratags=[(340, 11, 1, 0.0, True), (341, 11, 1, 1.0, True)])
    assert is_gradient(buffer.getvalue(), 1)


def test_pgms_of_12_bits_in_ascii_and_binary() -> None:
    deep = (GRADIENT.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    binary = b"P5\n# of a camera\n64 64\n4095\n" + deep.astype(">u2").tobytes()
    ascii_ = b"P2\n64 64\n4095\n" + b"\n".join(b" ".join(b"%d" % value for value in row) for row in deep.tolist())
    assert is_gradient(binary, 1)
    assert is_gradient(ascii_, 1)
