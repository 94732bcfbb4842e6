"""Zips and tars of other systems and programs: damaged, encrypted, joined, with links, compressed in other ways."""

import bz2
import gzip
import lzma
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from latentd.training.data.source import DataError
from tests.training.data.image_sets import decoded, png, shades, shades_by_class, write_folder, write_tar, write_zip

DIGITS = [(f"{index}.png", png(index)) for index in range(4)]


def damage_directory(content: bytes) -> bytes:
    return content.replace(b"PK\1\2", b"XXXX", 1)


def damage_directory_name(content: bytes) -> bytes:
    place = content.index(b"PK\1\2")
    return content[: place + 8] + b"\0\x08" + content[place + 10 : place + 46] + b"\xff\xfe" + content[place + 48 :]


def damage_directory_size(content: bytes) -> bytes:
    return content[:-10] + struct.pack("<I", 2**31) + content[-6:]


def cut_front(content: bytes) -> bytes:
    return content[40:]


def cut_end(content: bytes) -> bytes:
    return content[:-60]


@pytest.mark.parametrize("damage", [damage_directory, damage_directory_name, damage_directory_size, cut_end])
def test_a_damaged_zip_is_named(damage: object, tmp_path: Path) -> None:
    assert callable(damage)
    path = write_zip(tmp_path / "a.zip", [(name.encode(), content) for name, content in DIGITS])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"a\.zip is not a valid zip file.*copy or download it again"):
        decoded(path)


def test_a_zip_without_its_beginning_gives_what_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_zip(tmp_path / "a.zip", [(name.encode(), content) for name, content in DIGITS])
    path.write_bytes(cut_front(path.read_bytes()))
    assert shades(decoded(path)) == [1, 2, 3]
    assert "0.png: skipped: its place in the zip is damaged" in caplog.text


def test_a_zip_behind_a_program(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.exe", [(name.encode(), content) for name, content in DIGITS])
    path.write_bytes(b"MZ" + bytes(5000) + path.read_bytes())
    assert shades(decoded(path)) == [0, 1, 2, 3]


def test_encrypted_members_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_zip(tmp_path / "a.zip", [(name.encode(), content) for name, content in DIGITS], flags=1)
    with pytest.raises(DataError, match="none of its 4 images could be read"):
        decoded(path)
    assert "0.png: skipped: it is encrypted; unpack the zip with its password" in caplog.text


def test_compression_that_python_lacks_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_zip(tmp_path / "a.zip", [(name.encode(), content) for name, content in DIGITS], method=9)
    with pytest.raises(DataError, match="none of its 4 images could be read"):
        decoded(path)
    assert "0.png: skipped: it is compressed by Deflate64; unpack the zip" in caplog.text


def test_links_in_a_zip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    links = [
        (b"cats/link.png", b"../dogs/1.png"),
        (b"cats/again.png", b"link.png"),
        (b"cats/out.png", b"/etc/passwd"),
        (b"cats/circle.png", b"circle.png"),
        (b"birds", b"cats"),
    ]
    path = write_zip(tmp_path / "a.zip", [(b"cats/0.png", png(0)), (b"dogs/1.png", png(1))], system=3, links=links)
    assert sorted(shades_by_class(decoded(path))["cats"]) == [0, 1, 1]
    assert "cats/out.png: skipped: it is a link to /etc/passwd, which is not in the zip" in caplog.text
    assert "cats/circle.png: skipped: it is a link in a circle" in caplog.text
    assert "birds: links to folders in a zip are not followed" in caplog.text


def test_names_that_lead_out_of_an_archive(tmp_path: Path) -> None:
    members = [("/abs/cats/0.png", png(0)), ("../abs/cats/1.png", png(1)), ("C:/abs/dogs/2.png", png(2))]
    expected = {"cats": [0, 1], "dogs": [2]}
    zipped = write_zip(tmp_path / "a.zip", [(name.encode(), content) for name, content in members])
    assert {name: sorted(found) for name, found in shades_by_class(decoded(zipped)).items()} == expected
    assert shades_by_class(decoded(write_tar(tmp_path / "a.tar", members))) == expected


@pytest.mark.parametrize(
    "name", ["X.TAR", "x.tar.gz", "x.TGZ", "x.tar.bz2", "x.tbz2", "x.tar.xz", "x.txz", "x.tar.zst", "x.tar", "x.data"]
)
def test_compressed_tars(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "plain", DIGITS)
    content = (tmp_path / "plain").read_bytes()
    lower = name.lower()
    if lower.endswith((".tar.gz", ".tgz")):
        content = gzip.compress(content)
    elif lower.endswith(("bz2",)):
        content = bz2.compress(content)
    elif lower.endswith(("xz", ".data")):
        content = lzma.compress(content)
    elif lower.endswith("zst"):
        import pyarrow

        content = pyarrow.compress(content, codec="zstd", asbytes=True)
    (tmp_path / name).write_bytes(content)
    assert shades(decoded(tmp_path / name)) == [0, 1, 2, 3]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_joined_tars_are_read_to_the_end(compress: object, tmp_path: Path) -> None:
    assert callable(compress)
    parts = [write_tar(tmp_path / f"{index}", DIGITS[index : index + 1]).read_bytes() for index in range(3)]
    (tmp_path / "a.tar").write_bytes(b"".join(compress(part) for part in parts))
    assert shades(decoded(tmp_path / "a.tar")) == [0, 1, 2]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_damaged_header_in_a_tar_is_named(compress: object, tmp_path: Path) -> None:
    assert callable(compress)
    content = bytearray(write_tar(tmp_path / "a.tar", DIGITS).read_bytes())
    content[1024 + 3] ^= 0xFF  # in the name of the second member
    (tmp_path / "a.tar").write_bytes(compress(bytes(content)))
    with pytest.raises(DataError, match=r"a\.tar is damaged or incomplete: bad checksum"):
        decoded(tmp_path / "a.tar")


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_compressed_tar_is_named(module: object, share: float, tmp_path: Path) -> None:
    write_tar(tmp_path / "a", DIGITS)
    content = module.compress((tmp_path / "a").read_bytes())  # type: ignore[attr-defined]  # a module
    (tmp_path / "a.tar.gz").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"a\.tar\.gz is damaged or incomplete"):
        decoded(tmp_path / "a.tar.gz")


def test_links_in_a_tar(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    links = [
        ("dogs/hard.png", "cats/0.png", tarfile.LNKTYPE),
        ("dogs/soft.png", "../cats/0.png", tarfile.SYMTYPE),
        ("dogs/gone.png", "../birds/0.png", tarfile.SYMTYPE),
        ("birds", "cats", tarfile.SYMTYPE),
    ]
    path = write_tar(tmp_path / "a.tar", [("cats/0.png", png(0)), ("dogs/1.png", png(1))], links=links)
    assert shades_by_class(decoded(path)) == {"cats": [0], "dogs": [1, 0, 0]}
    assert "1 links were left out, such as dogs/gone.png: birds/0.png is no image in it" in caplog.text
    assert "birds: links to folders in a tar are not followed" in caplog.text


def test_photos_with_dots_in_their_names_are_samples_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = [(f"Screenshot 2021-05-03 at 10.15.{index:02}.png", png(index)) for index in range(8)]
    assert shades(decoded(write_tar(tmp_path / "a.tar", members))) == list(range(8))
    labels = [(name[:-3] + "cls", name[-5:-4].encode()) for name, _ in members]
    labelled = [member for pair in zip(members, labels, strict=True) for member in pair]
    assert shades_by_class(decoded(write_tar(tmp_path / "b.tar", labelled))) == {str(i): [i] for i in range(8)}
    assert "not used" not in caplog.text


def test_fields_of_a_sample_are_not_used_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [("7.left.png", png(1)), ("7.right.png", png(2)), ("8.png", png(3)), ("8.mask.png", png(4))]
    assert shades(decoded(write_tar(tmp_path / "a.tar", members))) == [1, 3]
    assert "a.tar: 2 images are further fields of a sample and not used: 7.right.png" in caplog.text


def test_labels_that_are_beside_no_image_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [*DIGITS, *((f"{index}.cls", b"1") for index in (0, 1))]
    decoded(write_tar(tmp_path / "a.tar", members))
    assert "a.tar: 2 labels are beside no image of their name: 0.cls" in caplog.text


@pytest.mark.parametrize("name", ["x.tar.001", "x.tar.gz.aa", "x.zip.002", "x.z01", "x.tar.part1"])
def test_parts_of_an_archive_are_to_be_joined(name: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "parts", {name: b"anything"})
    with pytest.raises(DataError, match="join"):
        decoded(tmp_path / "parts" / name)
    with pytest.raises(DataError, match="parts of an archive"):
        decoded(tmp_path / "parts")


def test_the_last_part_of_a_split_zip_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [(name.encode(), content) for name, content in DIGITS])
    content = path.read_bytes()
    path.write_bytes(content[:-18] + b"\1\0\1\0" + content[-14:])  # the second disk
    with pytest.raises(DataError, match=r"a\.zip is the last part of a split zip.*zip -s 0"):
        decoded(path)


def test_an_archive_without_images_says_what_it_has(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train.parquet", b"")
        archive.writestr("photo.HEIC", b"")
    with pytest.raises(DataError, match=r"has no images .*; it has 1 \.parquet, 1 \.heic"):
        decoded(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.parquet", "a.tar.gz"])
def test_pointers_and_pages_in_place_of_an_archive(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(DataError, match=r"Git LFS pointer.*git lfs pull"):
        decoded(tmp_path / name)
    (tmp_path / name).write_bytes(b"\n<!DOCTYPE html>\n<html>sign in</html>")
    with pytest.raises(DataError, match="is a web page in place of the file"):
        decoded(tmp_path / name)


def test_pictures_of_other_kinds_in_archives_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [*DIGITS, ("a.HEIC", b"x"), ("b.heic", b"x"), ("c.jxl", b"x")]
    decoded(write_zip(tmp_path / "a.zip", [(name.encode(), content) for name, content in members]))
    decoded(write_tar(tmp_path / "a.tar", members))
    assert caplog.text.count("images of other formats were left out: 2 .heic, 1 .jxl; convert them") == 2
