"""Data as users bring it: idx files in several places, downloads that fail, folders with all sorts of images."""

import dataclasses
import gzip
import hashlib
import io
import logging
import struct
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data import IdxImages, ImageFolder, Mixture
from training.data.idx import IDX_SETS, read_idx
from training.data.source import DataError, DataSource, Progress

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(folder: Path, count: int = 20, compress: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(0).randint(0, 256, (count, 28, 28)).astype(np.uint8)
    for name, values in ((IMAGES, pixels), (LABELS, (np.arange(count) % 10).astype(np.uint8))):
        content = idx_bytes(values)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data on this machine counts but what a test puts there, and nothing is fetched from outside."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LATENTD_DATA", raising=False)
    for name, idx_set in IDX_SETS.items():
        changed = dataclasses.replace(idx_set, folders=(tmp_path / "os" / name,), url="http://127.0.0.1:9/")
        monkeypatch.setitem(IDX_SETS, name, changed)


def load(name: str = "mnist", path: Path | None = None) -> DataSource:
    return IdxImages(name=name).load(path, lambda _: None)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("place", ["given", "given/mnist", "env/mnist", "env", "os/mnist", "cache/latentd/mnist"])
def test_idx_files_are_found(place: str, compress: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / place, compress=compress)
    monkeypatch.setenv("LATENTD_DATA", str(tmp_path / "env"))
    source = load(path=tmp_path / "given" if place.startswith("given") else None)
    content = gzip.decompress((tmp_path / place / f"{IMAGES}.gz").read_bytes()) if compress else None
    assert source.card.size == 20
    if content:
        assert source.card.sha256 == hashlib.sha256(content).hexdigest()


def test_batches_cover_an_epoch_and_keep_labels_with_their_images(tmp_path: Path) -> None:
    write_idx(tmp_path)
    pixels = np.random.RandomState(0).randint(0, 256, (20, 28, 28)).astype(np.uint8)
    batches = load(path=tmp_path).draw(5, 0)
    seen = []
    for _ in range(4):
        samples, labels = next(batches)
        assert samples.shape == (5, 1, 28, 28)
        assert labels is not None
        back = ((samples + 1) * 127.5).round().to(torch.uint8).numpy()[:, 0]
        for image, label in zip(back, labels, strict=True):
            index = next(i for i in range(20) if np.array_equal(pixels[i], image))
            assert index % 10 == label
            seen.append(index)
    assert sorted(seen) == list(range(20))


def test_offline_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not be fetched.*train-images-idx3-ubyte\.gz and .*cache.*--data"):
        load()
    assert not list((tmp_path / "cache").rglob("*.gz"))
    with pytest.raises(DataError, match="does not have train-images"):
        load(path=tmp_path)


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_downloads_are_checked_and_kept(file_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "web", compress=True)
    sums = {
        name: hashlib.sha256(gzip.decompress((tmp_path / "web" / f"{name}.gz").read_bytes())).hexdigest()
        for name in (IMAGES, LABELS)
    }
    monkeypatch.setitem(IDX_SETS, "mnist", dataclasses.replace(IDX_SETS["mnist"], url=file_server, sha256=sums))
    heard: list[Progress] = []
    assert IdxImages(name="mnist").load(None, heard.append).card.size == 20
    assert heard[0].unit == "bytes"
    (tmp_path / "web" / f"{IMAGES}.gz").unlink()
    assert load().card.size == 20  # from the cache


def test_a_wrong_download_is_not_kept(file_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "web", compress=True)
    monkeypatch.setitem(IDX_SETS, "mnist", dataclasses.replace(IDX_SETS["mnist"], url=file_server))
    with pytest.raises(DataError, match="is not the file it should be"):
        load()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_broken_idx_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / IMAGES
    whole = idx_bytes(np.zeros((2, 28, 28), dtype=np.uint8))
    for content in (b"", b"\0\0", whole[:100], whole + b"\0", gzip.compress(whole)[:-10], b"PK\x03\x04 nonsense"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=IMAGES):
            read_idx(path)
    path.write_bytes(whole[:2] + b"\x0d" + whole[3:])
    with pytest.raises(DataError, match="unsigned bytes"):
        read_idx(path)


def test_another_sets_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "given")
    actual = hashlib.sha256((tmp_path / "given" / IMAGES).read_bytes()).hexdigest()
    known = dataclasses.replace(IDX_SETS["fashion-mnist"], sha256={IMAGES: actual, LABELS: ""})
    monkeypatch.setitem(IDX_SETS, "fashion-mnist", known)
    with pytest.raises(DataError, match="a file of fashion-mnist, not of mnist"):
        load(path=tmp_path / "given")


def fill_with_images(folder: Path) -> None:
    """Nine good images of all sorts, three that are not, and files that nobody meant as images."""
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
def test_a_folder_or_zip_of_all_sorts(
    pack: bool, channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "photos"
    fill_with_images(folder)
    path = zipped(folder) if pack else folder
    with caplog.at_level(logging.WARNING):
        source = ImageFolder(name="image-folder", resolution=28, channels=channels).load(path, lambda _: None)
    assert source.card.size == 9
    for name in ("empty.png", "text.jpg", "torn.png"):
        assert f"{name}: left out" in caplog.text
    assert "3 of 12 images could not be read" in caplog.text
    samples, labels = next(source.draw(9, 0))
    assert samples.shape == (9, channels, 28, 28)
    assert labels is None
    means = {round((float(image.mean()) + 1) * 127.5) for image in samples}
    assert 255 in means  # the transparent one, on white
    assert 128 in means  # 16 bits became 8


def test_images_are_decoded_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "photos"
    fill_with_images(folder)
    settings = ImageFolder(name="image-folder", resolution=28)
    heard: list[Progress] = []
    first = settings.load(folder, heard.append)
    assert (heard[-1].done, heard[-1].total) == (12, 12)
    heard.clear()
    assert settings.load(folder, heard.append).card == first.card
    assert not heard
    assert caplog.text.count("torn.png: left out") == 2
    (note,) = (tmp_path / "cache" / "latentd" / "image-folder").glob("*.json")
    note.write_text("")  # as after a crash
    assert settings.load(folder, heard.append).card == first.card
    assert heard
    Image.new("RGB", (100, 60), (0, 255, 0)).save(folder / "green.png")
    assert settings.load(folder, heard.append).card.size == 10
    assert heard


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    settings = ImageFolder(name="image-folder")
    with pytest.raises(DataError, match="--data PATH"):
        settings.load(None, lambda _: None)
    with pytest.raises(DataError, match="has no images"):
        settings.load(tmp_path, lambda _: None)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of its 1 images could be read"):
        settings.load(tmp_path, lambda _: None)
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        settings.load(tmp_path / "bad.png", lambda _: None)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        settings.load(tmp_path / "bad.zip", lambda _: None)


def test_too_few_images_for_a_batch(tmp_path: Path) -> None:
    fill_with_images(tmp_path / "photos")
    source = ImageFolder(name="image-folder", resolution=28).load(tmp_path / "photos", lambda _: None)
    with pytest.raises(DataError, match=r"9 images, fewer than a batch of 64.*batch_size=4"):
        next(source.draw(64, 0))


def mixture(name: str) -> DataSource:
    return Mixture(name=name).load(None, lambda _: None)


@pytest.mark.parametrize(("name", "modes"), [("gaussian", 1), ("ring", 8), ("grid", 25)])
def test_a_mixture_judges_itself_as_the_theory_says(name: str, modes: int) -> None:
    source = mixture(name)
    draws = source.draw(2500, 0)
    figures = source.judge(lambda count: next(draws)[0][:count].numpy())
    assert figures["modes"] == modes
    assert figures["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # 0.989: within 3σ in two dimensions


def test_collapse_is_seen() -> None:
    one_point = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (2500, 1))
    assert mixture("ring").judge(lambda _: one_point) == {"modes": 1.0, "high_quality": 1.0}
    # nineteen samples do not make a mode
    one_point[:19] = [0.0, 1.0]
    assert mixture("ring").judge(lambda _: one_point)["modes"] == 1.0
    one_point[19] = [0.0, 1.0]
    assert mixture("ring").judge(lambda _: one_point)["modes"] == 2.0


def test_mixtures_are_where_the_literature_has_them() -> None:
    ring, _ = next(mixture("ring").draw(20000, 0))
    assert ring.norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-3)
    grid, _ = next(mixture("grid").draw(20000, 0))
    assert sorted({round(value) for value in grid.flatten().tolist()}) == [-4, -2, 0, 2, 4]
    with pytest.raises(DataError, match="leave --data away"):
        Mixture(name="ring").load(Path(), lambda _: None)


def test_a_zip_may_hold_jpegs_in_memory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 255, 0)).save(buffer, "JPEG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index in range(3):
            archive.writestr(f"class/{index}.jpeg", buffer.getvalue())
        archive.writestr("__MACOSX/._0.jpeg", b"junk")
    source = ImageFolder(name="image-folder", resolution=28).load(tmp_path / "a.zip", lambda _: None)
    assert source.card.size == 3
