"""Fashion-MNIST and MNIST: search of their idx files, downloads, and damaged files."""

import dataclasses
import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from latentd.training.data.idx import IDX_SETS, read_idx
from latentd.training.data.sets.images import IdxImages
from latentd.training.data.source import DataError, DataSource, TaskProgress

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
def no_installed_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide data sets installed on this machine, and download nothing from the internet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LATENTD_DATA", raising=False)
    for name, idx_set in IDX_SETS.items():
        changed = dataclasses.replace(idx_set, folders=(tmp_path / "os" / name,), url="http://127.0.0.1:9/")
        monkeypatch.setitem(IDX_SETS, name, changed)


def load(name: str = "mnist", path: Path | None = None) -> DataSource:
    return IdxImages(name=name).load(path, lambda _: None)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("folder", ["given", "given/mnist", "env/mnist", "env", "os/mnist", "cache/latentd/mnist"])
def test_idx_files_are_found(folder: str, compress: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / folder, compress=compress)
    monkeypatch.setenv("LATENTD_DATA", str(tmp_path / "env"))
    source = load(path=tmp_path / "given" if folder.startswith("given") else None)
    content = gzip.decompress((tmp_path / folder / f"{IMAGES}.gz").read_bytes()) if compress else None
    assert source.card.size == 19  # one of 20 is held out
    if content:
        assert source.card.sha256 == hashlib.sha256(content).hexdigest()


def test_an_epoch_contains_each_image_once_with_its_label(tmp_path: Path) -> None:
    write_idx(tmp_path, count=21)  # one of them is held out
    pixels = np.random.RandomState(0).randint(0, 256, (21, 28, 28)).astype(np.uint8)
    batches = load(path=tmp_path).draw(5, 0)
    seen = []
    for _ in range(4):
        samples, labels = next(batches)
        assert samples.shape == (5, 1, 28, 28)
        assert labels is not None
        for image, label in zip(samples[:, 0].numpy(), labels, strict=True):
            index = next(i for i in range(20) if np.array_equal(pixels[i], image))
            assert index % 10 == label
            seen.append(index)
    assert sorted(seen) == list(range(20))


def test_the_error_without_network_names_the_files_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not be downloaded.*train-images-idx3-ubyte\.gz and .*cache.*--data"):
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


def test_downloads_are_checked_and_cached(file_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "web", compress=True)
    sums = {
        name: hashlib.sha256(gzip.decompress((tmp_path / "web" / f"{name}.gz").read_bytes())).hexdigest()
        for name in (IMAGES, LABELS)
    }
    monkeypatch.setitem(IDX_SETS, "mnist", dataclasses.replace(IDX_SETS["mnist"], url=file_server, sha256=sums))
    reports: list[TaskProgress] = []
    assert IdxImages(name="mnist").load(None, reports.append).card.size == 19
    assert reports[0].unit == "bytes"
    (tmp_path / "web" / f"{IMAGES}.gz").unlink()
    assert load().card.size == 19  # from the cache


def test_a_wrong_download_is_discarded(file_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "web", compress=True)
    monkeypatch.setitem(IDX_SETS, "mnist", dataclasses.replace(IDX_SETS["mnist"], url=file_server))
    with pytest.raises(DataError, match="is not the expected file"):
        load()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_the_error_names_a_damaged_idx_file(tmp_path: Path) -> None:
    path = tmp_path / IMAGES
    whole = idx_bytes(np.zeros((2, 28, 28), dtype=np.uint8))
    for content in (b"", b"\0\0", whole[:100], whole + b"\0", gzip.compress(whole)[:-10], b"PK\x03\x04 nonsense"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=IMAGES):
            read_idx(path)
    path.write_bytes(whole[:2] + b"\x0d" + whole[3:])
    with pytest.raises(DataError, match="unsigned bytes"):
        read_idx(path)


def test_files_of_another_data_set_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "given")
    actual = hashlib.sha256((tmp_path / "given" / IMAGES).read_bytes()).hexdigest()
    known = dataclasses.replace(IDX_SETS["fashion-mnist"], sha256={IMAGES: actual, LABELS: ""})
    monkeypatch.setitem(IDX_SETS, "fashion-mnist", known)
    with pytest.raises(DataError, match="a file of fashion-mnist, not of mnist"):
        load(path=tmp_path / "given")
