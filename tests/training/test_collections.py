"""Users' own images: folders, zips and shards, with damaged files among them."""

import io
import json
import logging
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from latentd.training.data.image_cache import decode_images
from latentd.training.data.sets.images import ImageFolder
from latentd.training.data.source import DataError, DataSource, TaskProgress
from tests.training.runs import run_config, train


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def fill_with_images(folder: Path) -> None:
    """Write nine images of various modes, four unreadable ones, and two files to ignore."""
    (folder / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (100, 60), (255, 0, 0)).save(folder / "red.png")
    Image.new("RGB", (30, 90), (255, 0, 0)).save(folder / "tall.JPG")
    Image.new("L", (10, 10), 128).save(folder / "deep" / "grey.png")
    Image.new("1", (64, 64), 1).save(folder / "deep" / "er" / "bit.png")
    Image.new("P", (20, 20), 3).save(folder / "palette.gif")
    Image.new("CMYK", (20, 20), (0, 0, 0, 0)).save(folder / "print.jpg")
    Image.fromarray(np.full((20, 20), 32768, dtype=np.uint16)).save(folder / "deep16.png")
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(folder / "clear.png")
    turned = Image.new("RGB", (20, 10), (0, 0, 255))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.full((20, 20), 0.5, dtype=np.float32)).save(folder / "float.tiff")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    (folder / "torn.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_bytes(b"")


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_or_zip_of_mixed_images(
    pack: bool, channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "photos"
    fill_with_images(folder)
    path = zipped(folder) if pack else folder
    with caplog.at_level(logging.WARNING):
        source = ImageFolder(name="image-folder", resolution=28, channels=channels).load(path, lambda _: None)
    assert source.card.size == 9
    for name in ("empty.png", "text.jpg", "torn.png", "float.tiff"):
        assert f"{name}: skipped" in caplog.text
    assert "4 of 13 images could not be read" in caplog.text
    samples, labels = next(source.draw(9, 0))
    assert samples.shape == (9, channels, 28, 28)
    assert labels is None
    means = {round(float(image.float().mean())) for image in samples}
    assert 255 in means  # the transparent one, on white
    assert 128 in means  # 16 bits became 8


def test_images_are_decoded_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "photos"
    fill_with_images(folder)
    settings = ImageFolder(name="image-folder", resolution=28)
    reports: list[TaskProgress] = []
    first = settings.load(folder, reports.append)
    assert (reports[-1].task, reports[-1].done, reports[-1].total) == ("decoding photos", 13, 13)
    reports.clear()
    assert settings.load(folder, reports.append).card == first.card
    assert {progress.task for progress in reports} == {"indexing photos"}
    assert reports[-1].done == 13
    assert caplog.text.count("torn.png: skipped") == 2
    (manifest,) = (tmp_path / "cache" / "latentd" / "image-folder").glob("*.json")
    manifest.write_text("")  # as after a crash
    assert settings.load(folder, reports.append).card == first.card
    assert reports[-1].task == "decoding photos"
    Image.new("RGB", (100, 60), (0, 255, 0)).save(folder / "green.png")
    reports.clear()
    assert settings.load(folder, reports.append).card.size == 10
    assert reports[-1].task == "decoding photos"


def test_paths_without_readable_images_are_refused(tmp_path: Path) -> None:
    settings = ImageFolder(name="image-folder")
    with pytest.raises(DataError, match=r"`data` or `--data PATH`"):
        settings.load(None, lambda _: None)
    with pytest.raises(DataError, match="has no images"):
        settings.load(tmp_path, lambda _: None)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of its 1 images could be read"):
        settings.load(tmp_path, lambda _: None)
    with pytest.raises(DataError, match="is not a folder, a zip of images or a shard"):
        settings.load(tmp_path / "bad.png", lambda _: None)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=r"bad\.zip is not a valid zip file"):
        settings.load(tmp_path / "bad.zip", lambda _: None)


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    fill_with_images(tmp_path / "photos")
    source = ImageFolder(name="image-folder", resolution=28).load(tmp_path / "photos", lambda _: None)
    with pytest.raises(DataError, match=r"9 images, fewer than a batch of 64.*batch_size=4"):
        next(source.draw(64, 0))


def test_a_zip_of_jpegs_with_macos_metadata(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 255, 0)).save(buffer, "JPEG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index in range(3):
            archive.writestr(f"class/{index}.jpeg", buffer.getvalue())
        archive.writestr("__MACOSX/._0.jpeg", b"junk")
    source = ImageFolder(name="image-folder", resolution=28).load(tmp_path / "a.zip", lambda _: None)
    assert source.card.size == 3


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), shade).save(buffer, "PNG")
    return buffer.getvalue()


# Twelve images whose shade gives the class: 0, 20, ... "cat"; 1, 21, ... "dog".
SHADES = [20 * number + kind for kind in (0, 1) for number in range(6)]


def as_folder(root: Path, below: str = "") -> Path:
    for shade in SHADES:
        path = root / "pets" / below / ("cat", "dog")[shade % 20] / f"{shade:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(shade))
    return root / "pets"


def as_zip(root: Path) -> Path:
    with zipfile.ZipFile(root / "pets.zip", "w") as archive:
        for shade in SHADES:
            archive.writestr(f"pets/{('cat', 'dog')[shade % 20]}/{shade:03}.png", png(shade))
    return root / "pets.zip"


def as_webdataset(root: Path) -> Path:
    (root / "shards").mkdir()
    for number in range(3):
        with tarfile.open(root / "shards" / f"{number:05}.tar", "w") as archive:
            for shade in SHADES[number::3]:
                fields = {"png": png(shade), "cls": str(shade % 20).encode(), "json": b"{}"}
                for kind in sorted(fields, reverse=bool(shade % 2)):
                    member = tarfile.TarInfo(f"pets/{shade:03}.{kind}")
                    member.size = len(fields[kind])
                    archive.addfile(member, io.BytesIO(fields[kind]))
    return root / "shards"


def as_parquet(root: Path) -> Path:
    (root / "parquet").mkdir()
    for number in range(2):
        shades = SHADES[number::2]
        table = {
            "image": [{"bytes": png(shade), "path": None} for shade in shades],
            "label": [shade % 20 for shade in shades],
        }
        pyarrow.parquet.write_table(pyarrow.table(table), root / "parquet" / f"{number}.parquet")
    return root / "parquet"


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (as_folder, ("cat", "dog")),
        (lambda root: as_folder(root, below="train/small"), ("cat", "dog")),
        (as_zip, ("cat", "dog")),
        (as_webdataset, ("0", "1")),
        (as_parquet, ("0", "1")),
    ],
)
def test_labels_match_their_images(write: object, names: tuple[str, ...], tmp_path: Path) -> None:
    assert callable(write)
    source = ImageFolder(name="image-folder", resolution=8, channels=1).load(write(tmp_path), lambda _: None)
    assert source.card.size == 12
    assert source.condition.class_names == names
    samples, labels = next(source.draw(12, 0))
    assert labels is not None
    shades = samples[:, 0, 4, 4]
    assert sorted(shades.tolist()) == sorted(SHADES)
    assert torch.equal(shades % 20, labels)


def test_numeric_class_names_are_sorted_by_value(tmp_path: Path) -> None:
    for label in ("10", "9", "b", "a"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "0.png").write_bytes(png(0))
    decoded = decode_images(tmp_path / "data", 8, 1, lambda _: None)
    assert decoded.classes.names == ("9", "10", "a", "b")


def test_images_beside_class_folders_disable_classes(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    (folder / "stray.png").write_bytes(png(0))
    source = ImageFolder(name="image-folder", resolution=8, channels=1).load(folder, lambda _: None)
    assert (source.card.size, source.condition.class_names) == (13, ())
    assert source.why_no_classes == "1 images have no label, or lie beside the class folders cat, dog"


def test_the_hash_depends_on_class_names(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    before = decode_images(folder, 8, 1, lambda _: None).sha256
    (folder / "dog").rename(folder / "wolf")
    assert decode_images(folder, 8, 1, lambda _: None).sha256 != before


def test_the_error_names_a_damaged_shard(tmp_path: Path) -> None:
    shards = as_webdataset(tmp_path)
    whole = (shards / "00001.tar").read_bytes()
    (shards / "00001.tar").write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"00001\.tar is damaged or incomplete"):
        decode_images(shards, 8, 1, lambda _: None)
    for end in (512 * 9, 512 * 3):  # between members: only the end marker is missing
        (shards / "00001.tar").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"00001\.tar is damaged or incomplete"):
            decode_images(shards, 8, 1, lambda _: None)
    parquet = as_parquet(tmp_path)
    (parquet / "1.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match=r"1\.parquet is damaged or incomplete"):
        decode_images(parquet, 8, 1, lambda _: None)
    pyarrow.parquet.write_table(pyarrow.table({"shade": [1]}), parquet / "1.parquet")
    with pytest.raises(DataError, match=r"1\.parquet has no column of images; it has shade"):
        decode_images(parquet, 8, 1, lambda _: None)


def test_a_tar_sample_has_one_image(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, content in (("7.seg.png", png(255)), ("7.cls", "a Häuschen".encode()), ("7.png", png(7))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    decoded = decode_images(tmp_path / "a.tar.gz", 8, 1, lambda _: None)
    assert decoded.images[:, 0, 0, 0].tolist() == [7]


def test_parquet_rows_without_image_bytes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": [png(3), None, b"text"]}), path)
    assert len(decode_images(path, 8, 1, lambda _: None).images) == 1
    assert "a.parquet/1: skipped: the file is empty" in caplog.text
    assert "a.parquet/2: skipped: the file is not an image in a supported format" in caplog.text
    pyarrow.parquet.write_table(pyarrow.table({"image": ["cat.png"]}), path)
    with pytest.raises(DataError, match="column `image` holds str"):
        decode_images(path, 8, 1, lambda _: None)


def test_broken_links_and_pipes_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = as_folder(tmp_path)
    (folder / "cat" / "link.png").symlink_to("nothing")
    os.mkfifo(folder / "cat" / "pipe.png")
    assert len(decode_images(folder, 8, 1, lambda _: None).images) == 12
    for name in ("link", "pipe"):
        assert f"cat/{name}.png: skipped: it is a broken link or not a regular file" in caplog.text


def test_a_too_large_file_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = as_folder(tmp_path)
    with (folder / "cat" / "giant.png").open("wb") as file:
        file.truncate(2**28 + 1)
    assert len(decode_images(folder, 8, 1, lambda _: None).images) == 12
    assert "cat/giant.png: skipped: it has 268,435,457 bytes" in caplog.text


def test_flips_mirror_a_new_half_of_the_images_in_each_epoch(tmp_path: Path) -> None:
    half = np.zeros((8, 8), dtype=np.uint8)
    half[:, :4] = 255
    (tmp_path / "data").mkdir()
    for number in range(250):
        Image.fromarray(half).save(tmp_path / "data" / f"{number}.png")
    # 50 of 250 are held out
    source = ImageFolder(name="image-folder", resolution=8, channels=1, flip=True).load(
        tmp_path / "data", lambda _: None
    )
    batches = source.draw(200, 0)
    epochs = [next(batches)[0] for _ in range(2)]
    for samples in epochs:
        unchanged = (samples == torch.from_numpy(half)).all(dim=(1, 2, 3))
        mirrored = (samples == torch.from_numpy(half[:, ::-1].copy())).all(dim=(1, 2, 3))
        assert bool((unchanged ^ mirrored).all())
        assert 60 < int(mirrored.sum()) < 140
    assert not torch.equal(epochs[0], epochs[1])
    later = next(source.draw(200, 0, first=1))[0]
    assert torch.equal(epochs[1], later)


def test_each_rank_gets_its_part_of_a_batch(tmp_path: Path) -> None:
    source: DataSource = ImageFolder(name="image-folder", resolution=8).load(as_folder(tmp_path), lambda _: None)
    whole, labels = next(source.draw(8, 0))
    assert labels is not None
    for rank in range(2):
        part, part_labels = next(source.draw(8, 0, 0, lambda rows, rank=rank: rows.chunk(2)[rank]))
        assert part_labels is not None
        assert torch.equal(part, whole.chunk(2)[rank])
        assert torch.equal(part_labels, labels.chunk(2)[rank])


def test_an_incomplete_cache_is_rebuilt(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    first = decode_images(folder, 8, 1, lambda _: None)
    (manifest,) = (tmp_path / "cache" / "latentd" / "image-folder").glob("*.json")
    assert json.loads(manifest.read_text())["count"] == 12
    for suffix in (".groups", ".raw"):
        file = manifest.with_suffix(suffix)
        for torn in (None, file.read_bytes()[:-1]):
            file.unlink()
            if torn is not None:
                file.write_bytes(torn)
            again = decode_images(folder, 8, 1, lambda _: None)
            assert again.sha256 == first.sha256
            assert again.classes.names == ("cat", "dog")


def test_images_beside_shards_are_refused(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    (folder / "backup.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"images in several formats \(backup.tar, cat/000.png\)"):
        decode_images(folder, 8, 1, lambda _: None)


def test_macos_metadata_in_a_tar_is_ignored(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("._a.cls", b"\0\5\x16\x07"), ("._a.png", b"\0"), ("a.cls", b"1"), ("a.png", png(0))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert len(decode_images(tmp_path / "a.tar", 8, 1, lambda _: None).images) == 1


def write_noise(path: Path, count: int) -> Path:
    """Write a zip of small images that all differ."""
    drawn = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for number, pixels in enumerate(drawn):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "BMP")
            archive.writestr(f"{number:05d}.bmp", buffer.getvalue())
    return path


def training_images(source: DataSource) -> set[bytes]:
    assert source.card.size is not None
    images, _ = next(source.draw(source.card.size, 0))
    return {image.numpy().tobytes() for image in images}


def test_a_twelfth_of_small_grey_images_is_held_out(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "noise.zip", 2400)
    settings = ImageFolder(name="image-folder", resolution=28, channels=1)
    source = settings.load(path, lambda _: None)
    train = training_images(source)
    assert len(train) == source.card.size == 2200
    assert training_images(settings.load(path, lambda _: None)) == train  # the same split again
    evaluator = source.evaluator()
    assert evaluator is not None
    assert evaluator.num_samples == 200
    assert {image.numpy().tobytes() for image in all_images(path)} > train


def all_images(path: Path) -> torch.Tensor:
    return torch.tensor(decode_images(path, 28, 1, lambda _: None).images).permute(0, 3, 1, 2)


def test_a_run_on_user_images_is_evaluated_on_held_out_images(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "noise.zip", 2400)
    small = ("data.resolution=28", "data.channels=1", "generator.config.width=8", "discriminator.config.width=8")
    checkpoint = train(run_config("image-folder-dcgan", tmp_path / "run", *small, "steps=2", "batch_size=8", data=path))
    assert checkpoint.card.measured.startswith("200 samples against held-out data, features of the embedded")
    assert checkpoint.card.metrics["frechet_distance"] > checkpoint.card.floors["frechet_distance"]
    assert (tmp_path / "run" / "nearest.png").exists()
