"""Folders as they lie on disks: what others leave in them, what cannot be read, links, splits, shards in subfolders."""

import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from latentd.training.data.image_cache import decode_images
from latentd.training.data.image_files import ReadOptions
from latentd.training.data.source import DataError
from tests.training.data.image_sets import decoded, png, settings, shades, shades_by_class, write_folder, write_tar

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000)
PETS = {"cat/0.png": png(0), "dog/1.png": png(1)}


def write_parquet(path: Path, shade: int, **columns: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"image": [png(shade)], **columns}), path)
    return path


def test_what_macos_leaves_beside_shards(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-0.parquet", 0)
    write_folder(tmp_path / "data", {"._train-0.parquet": APPLE_DOUBLE, ".DS_Store": b"x", "_SUCCESS": b""})
    assert shades(decoded(tmp_path / "data")) == [0]
    write_folder(tmp_path / "tars", {"._0.tar": APPLE_DOUBLE})
    write_tar(tmp_path / "tars" / "0.tar", [("0.png", png(3))])
    assert shades(decoded(tmp_path / "tars")) == [3]


@pytest.mark.parametrize("name", ["lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "#recycle"])
def test_folders_of_the_system_are_passed_over(name: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "disk", {**PETS, f"{name}/9.png": png(9)})
    assert shades_by_class(decoded(root)) == {"cat": [0], "dog": [1]}


def unreadable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make os.scandir and reading refuse these files and folders, also where the tests run as root."""
    scandir, read = os.scandir, Path.read_bytes

    def refuse(path: object) -> None:
        if Path(os.fspath(path)).name in names:  # type: ignore[call-overload]  # a path
            raise PermissionError(13, "Permission denied", str(path))

    def refusing_scandir(path: str) -> object:
        refuse(path)
        return scandir(path)

    def refusing_read(path: Path) -> bytes:
        refuse(path)
        return read(path)

    monkeypatch.setattr(os, "scandir", refusing_scandir)
    monkeypatch.setattr(Path, "read_bytes", refusing_read)


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "disk", {**PETS, "private/9.png": png(9)})
    with monkeypatch.context() as patch:
        unreadable(patch, "private")
        for _ in range(2):  # decoded, and from the cache
            assert shades(decoded(root)) == [0, 1]
            assert "private: the folder cannot be read and was left out: Permission denied" in caplog.text
            caplog.clear()
    assert shades(decoded(root)) == [0, 1, 9]
    with monkeypatch.context() as patch:
        unreadable(patch, "disk")
        with pytest.raises(DataError, match="disk cannot be read: Permission denied"):
            decoded(root)


def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "kept", {f"{shade}.png": png(shade) for shade in range(4)})
    with monkeypatch.context() as patch:
        unreadable(patch, "1.png")
        for _ in range(2):
            assert shades(decoded(root)) == [0, 2, 3]
            assert "1.png: skipped: [Errno 13] Permission denied" in caplog.text
            caplog.clear()
    assert shades(decoded(root)) == [0, 1, 2, 3]


def test_images_are_decoded_again_by_a_new_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    root = write_folder(tmp_path / "data", {**PETS, "dog/broken.png": png(0)[:45]})
    decoded(root)
    (manifest,) = (own_cache / "latentd" / "image-folder").glob("*.json")
    saved = json.loads(manifest.read_text())
    times = manifest.stat().st_mtime_ns
    decoded(root)
    assert manifest.stat().st_mtime_ns == times
    manifest.write_text(json.dumps(saved | {"decoders": "Pillow 1"}))  # a file was left out, by an older Pillow
    decoded(root)
    assert json.loads(manifest.read_text()) == saved
    monkeypatch.setattr("latentd.training.data.image_cache.DECODER_VERSION", 99)
    decoded(root)
    assert len(list((own_cache / "latentd" / "image-folder").glob("*.json"))) == 2


def test_linked_class_folders_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "real", PETS)
    (tmp_path / "links").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "links" / name).symlink_to(tmp_path / "real" / name)
    assert shades_by_class(decoded(tmp_path / "links")) == {"cat": [0], "dog": [1]}
    (tmp_path / "links" / "again").symlink_to(tmp_path / "real" / "cat")
    (tmp_path / "links" / "up").symlink_to(tmp_path)
    (tmp_path / "links" / "self").symlink_to("self")
    assert shades(decoded(tmp_path / "links")) == [0, 1]
    assert "up: the link was not followed" in caplog.text


def test_a_link_to_a_folder_that_is_read_already(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path / "data", PETS)
    (root / "kitten").symlink_to(root / "cat")
    (root / "cat" / "up").symlink_to(root)
    assert shades_by_class(decoded(root)) == {"cat": [0], "dog": [1]}
    assert "kitten: the link was not followed" in caplog.text


@pytest.mark.parametrize("splits", [("train", "val"), ("Train", "Test", "valid"), ("train2017", "val2017")])
def test_splits_are_no_classes(splits: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {f"{split}/{name}": content for split in splits for name, content in PETS.items()}
    found = shades_by_class(decoded(write_folder(tmp_path / "data", files)))
    assert found == {"cat": [0] * len(splits), "dog": [1] * len(splits)}
    assert "are read as parts of one data set" in caplog.text


def test_classes_that_are_called_like_a_split(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train/0.png": png(0), "bus/1.png": png(1), "car/2.png": png(2)})
    assert shades_by_class(decoded(root)) == {"bus": [1], "car": [2], "train": [0]}


def test_shards_in_subfolders(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    write_parquet(root / "data" / "train-00000-of-00001.parquet", 0)
    write_folder(root, {"README.md": b"# data", ".gitattributes": b"x"})
    assert shades(decoded(root)) == [0]
    write_parquet(root / "data" / "part.PARQUET", 1)
    assert shades(decoded(root)) == [0, 1]


def test_hive_folders_are_classes(tmp_path: Path) -> None:
    for shade, name in enumerate(("cat", "dog", "__HIVE_DEFAULT_PARTITION__")):
        write_parquet(tmp_path / "data" / "year=2020" / f"label={name}" / "part-0.parquet", shade)
    images = decoded(tmp_path / "data")
    assert images.classes.why_none.startswith("1 images have no label")
    write_parquet(tmp_path / "more" / "breed=cat" / "part-0.parquet", 0)
    write_parquet(tmp_path / "more" / "breed=dog" / "part-0.parquet", 1)
    assert shades_by_class(decoded(tmp_path / "more", label_column="breed")) == {"cat": [0], "dog": [1]}


def test_folders_of_shards_are_classes(tmp_path: Path) -> None:
    for shade, name in enumerate(("cat", "dog")):
        write_parquet(tmp_path / "data" / name / "part-0.parquet", shade)
    assert shades_by_class(decoded(tmp_path / "data")) == {"cat": [0], "dog": [1]}


def test_shards_of_several_splits_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for shade, name in enumerate(("train-00000-of-00001", "test-00000-of-00001")):
        write_parquet(tmp_path / "data" / f"{name}.parquet", shade)
    assert shades(decoded(tmp_path / "data")) == [0, 1]
    assert "shards of test, train are read as one data set" in caplog.text


def test_shards_in_a_subfolder_beside_images_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path / "data", PETS)
    write_parquet(root / "backup" / "old.parquet", 9)
    assert shades(decoded(root)) == [0, 1]
    assert "shards in subfolders are left out, because there are image files too: backup/old.parquet" in caplog.text


def test_pointers_in_place_of_images_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    root = write_folder(tmp_path / "data", {**PETS, "cat/2.png": pointer, "dog/3.jpg": b"<html>sign in</html>"})
    assert shades(decoded(root)) == [0, 1]
    assert "cat/2.png: skipped: it is a Git LFS pointer in place of the file" in caplog.text
    assert "dog/3.jpg: skipped: it is a web page" in caplog.text


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a.heic": b"", "b.HEIC": b"", "c.zip": b"", "notes": b""})
    with pytest.raises(DataError, match=r"has no images .*; it has 2 \.heic, 1 \.zip, 1 without a suffix"):
        decoded(root)


def test_the_options_are_settings_of_a_recipe(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", 0, shape=["round"])
    source = settings(label_column="shape").load(tmp_path / "a.parquet", lambda _: None)
    assert source.card.size == 1
    with pytest.raises(DataError, match="has no column `color`; it has image, shape"):
        settings(label_column="color").load(tmp_path / "a.parquet", lambda _: None)


def test_the_hash_of_data_is_that_of_earlier_versions(tmp_path: Path) -> None:
    """Saved runs name their data by it."""
    root = write_folder(tmp_path / "data", {**PETS, "deep/er/2.png": png(2)})
    members = [("x/0.png", png(0)), ("x/0.cls", b"7"), ("y/1.png", png(1)), ("y/1.cls", b"8")]
    tar = write_tar(tmp_path / "a.tar", members)
    bare = write_tar(tmp_path / "b.tar", [members[0], members[2]])
    pyarrow.parquet.write_table(pyarrow.table({"image": [png(0), png(1)], "label": [3, 4]}), tmp_path / "a.parquet")
    found = [
        decode_images(path, 8, 1, lambda _: None, ReadOptions()).sha256[:12]
        for path in (root, tar, bare, tmp_path / "a.parquet")
    ]
    assert found == ["c35d1bdcfb73", "98a56eddf947", "e0fdf3299c46", "52ef8256e0d4"]
