"""The catalog and the files that it watches, with real checkpoints."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SHIPPED
from latentd.models.names import CatalogFile
from latentd.service.catalog import Catalog, Loader
from latentd.service.catalog.files import ChangeDetector
from latentd.service.engine import Engine
from latentd.service.errors import ApiError
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.conftest import eventually, image_spec, points_spec
from tests.directions_of import write_directions

Write = Callable[..., Checkpoint]


@contextmanager
def catalog_of(*paths: Path, default: str = "model", memory: int = 2**30) -> Iterator[Catalog]:
    engine = Engine(max_queue=100, parallel=1)
    engine.start()
    catalog = Catalog(
        lambda: paths, Loader(torch.device("cpu"), engine, deterministic=True), default, memory, Telemetry()
    )
    catalog.start()
    try:
        yield catalog
    finally:
        catalog.close()
        engine.close()


def version_of(catalog: Catalog, name: str = "model") -> str | None:
    model = catalog.models.get(name)
    return model and model.version


def test_the_default_paths_are_the_shipped_models_runs_and_promoted_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().catalog_paths() == [SHIPPED]
    for name in ("promoted", "runs"):
        (tmp_path / name).mkdir()
    assert Settings().catalog_paths() == [SHIPPED, Path("runs"), Path("promoted")]


def test_latentd_models_names_folders_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTD_MODELS", os.pathsep.join(["/models", "one.safetensors"]))
    assert Settings().catalog_paths() == [Path("/models"), Path("one.safetensors")]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MAX_SAMPLES", "0"), ("MAX_SAMPLES", "5000"), ("TIMEOUT", "-1"), ("DEVICE", "tpu"), ("MAX_QUEUE", "x")],
)
def test_invalid_settings_are_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LATENTD_{variable}", value)
    with pytest.raises(ValidationError, match=f"(?i){variable}"):
        Settings()


def test_a_later_path_hides_an_earlier_one_and_the_log_says_so(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(points_spec())
    (tmp_path / "old").mkdir()
    old = (tmp_path / "model.safetensors").rename(tmp_path / "old" / "model.safetensors")
    new = write(points_spec(), seed=1)
    with caplog.at_level(logging.INFO), catalog_of(old.parent, tmp_path) as catalog:
        assert version_of(catalog) == new.version
        assert f"{tmp_path / 'model.safetensors'} hides {old}" in caplog.text
    with catalog_of(tmp_path, old) as catalog:
        assert version_of(catalog) == Checkpoint.read(old).version


def test_a_bad_later_file_does_not_hide_a_good_one(write: Write, tmp_path: Path) -> None:
    version = write(points_spec()).version
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "model.safetensors").write_bytes(b"torn")
    with catalog_of(tmp_path, tmp_path / "later") as catalog:
        assert version_of(catalog) == version
        assert [failure.file for failure in catalog.failures] == ["model.safetensors"]


def test_the_default_model(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b", "a"):
        write(points_spec(), name=name)
    with catalog_of(tmp_path, default="b") as catalog:
        assert catalog.find(None).name == "b"
    with caplog.at_level(logging.WARNING), catalog_of(tmp_path, default="c") as catalog:
        assert catalog.find(None).name == "a"
    assert "there is no model 'c'; a is the default" in caplog.text


def test_an_empty_catalog_logs_it_and_serves_models_that_arrive(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    with catalog_of(folder) as catalog:
        assert "no model is served" in caplog.text
        assert [failure.file for failure in catalog.failures] == ["folder"]
        with pytest.raises(ApiError) as caught:
            catalog.find(None)
        assert caught.value.status == 404
        version = write(points_spec()).version
        folder.mkdir()
        (tmp_path / "model.safetensors").rename(folder / "model.safetensors")
        eventually(lambda: version_of(catalog) == version and not catalog.failures)


def test_a_new_a_changed_and_a_removed_file_are_noticed(write: Write, tmp_path: Path) -> None:
    first = write(points_spec())
    with catalog_of(tmp_path) as catalog:
        served = catalog.models["model"]
        second = write(points_spec(), seed=1)
        eventually(lambda: version_of(catalog) == second.version)
        assert served.version == first.version  # for requests that still use it
        assert served.deployment is not None
        added = write(points_spec(), name="added")
        eventually(lambda: version_of(catalog, "added") == added.version)
        (tmp_path / "added.safetensors").unlink()
        eventually(lambda: "added" not in catalog.models)
        assert version_of(catalog) == second.version


def test_a_file_that_became_bad_changes_only_the_failures(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = write(points_spec()).version
    file = tmp_path / "model.safetensors"
    with catalog_of(tmp_path) as catalog:
        file.write_bytes(b"torn")
        eventually(lambda: bool(catalog.failures))
        assert version_of(catalog) == version
        assert f"model@{version} is still served" in caplog.text
        better = write(points_spec(), seed=1)
        eventually(lambda: version_of(catalog) == better.version and not catalog.failures)


def test_a_file_is_loaded_when_it_stops_changing(tmp_path: Path) -> None:
    changes = ChangeDetector(lambda: [tmp_path])
    file = tmp_path / "model.safetensors"
    for size in (10, 20, 30):  # while it is being copied
        file.write_bytes(b"x" * size)
        assert changes.scan()[1] == []
    assert changes.scan()[1] == [CatalogFile(file)]
    assert changes.scan()[1] == []
    file.write_bytes(b"x" * 40)
    assert changes.scan(wait_until_stable=False)[1] == [CatalogFile(file)]


def test_a_file_that_disappears_during_a_scan_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for file in files:
        file.write_bytes(b"x")
    stat = Path.stat

    def vanishing(path: Path, **options: Any) -> os.stat_result:
        if path == files[0]:
            path.unlink(missing_ok=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", vanishing)
    scan, _ = ChangeDetector(lambda: [tmp_path]).scan()
    assert ([file.path for file in scan.stamps], scan.unreadable) == (files[1:], {})


def test_a_path_that_cannot_be_read_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    changes = ChangeDetector(lambda: [tmp_path])
    changes.scan()

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    scan, _ = changes.scan()
    assert list(scan.stamps) == [CatalogFile(file)]
    assert scan.unreadable == {tmp_path: "Permission denied"}


def test_an_exception_in_the_loader_does_not_affect_other_files(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write(points_spec(), name=name)
    load = Loader.load

    def breaking(self: Loader, file: CatalogFile, known: Any = None) -> Any:
        if file.stem == "a":
            raise TypeError("unexpected")
        return load(self, file, known)

    monkeypatch.setattr(Loader, "load", breaking)
    with catalog_of(tmp_path) as catalog:
        assert set(catalog.models) == {"b"}
        assert [failure.file for failure in catalog.failures] == ["a.safetensors"]


def test_the_same_weights_written_again_keep_their_deployment(write: Write, tmp_path: Path) -> None:
    write(points_spec())
    with catalog_of(tmp_path) as catalog:
        before = catalog.models["model"]
        write(points_spec(), metrics={"fid": 1.0})
        eventually(lambda: catalog.models["model"].card.metrics == {"fid": 1.0})
        assert catalog.models["model"].deployment is before.deployment


def test_the_least_recently_used_model_is_evicted_and_loaded_again(write: Write, tmp_path: Path) -> None:
    for index, name in enumerate("abc"):
        write(image_spec(), name=name, seed=index)
    size = sum(tensor.nbytes for tensor in Checkpoint.read(tmp_path / "a.safetensors").tensors.values())
    with catalog_of(tmp_path, memory=2 * size) as catalog:

        def resident() -> set[str]:
            return {name for name, model in catalog.models.items() if model.deployment is not None}

        assert resident() == {"b", "c"}
        asyncio.run(catalog.ensure_deployed(catalog.find("b")))
        deployment = asyncio.run(catalog.ensure_deployed(catalog.find("a")))
        assert resident() == {"a", "b"}
        assert asyncio.run(catalog.ensure_deployed(catalog.find("a"))) is deployment
        assert [each.executor.calibration for each in deployment.stages] == catalog.find("a").calibrations


def test_an_evicted_model_is_loaded_again_after_its_file_was_replaced(write: Write, tmp_path: Path) -> None:
    for index, name in enumerate("ab"):
        write(image_spec(), name=name, seed=index)
    with catalog_of(tmp_path, memory=1) as catalog:
        assert catalog.models["a"].deployment is None
        torn = tmp_path / "torn"
        torn.write_bytes(b"torn")
        torn.rename(tmp_path / "a.safetensors")
        eventually(lambda: [failure.file for failure in catalog.failures] == ["a.safetensors"])
        assert asyncio.run(catalog.ensure_deployed(catalog.find("a"))) is catalog.models["a"].deployment


def test_an_evicted_model_whose_file_was_modified_in_place_is_refused(write: Write, tmp_path: Path) -> None:
    for index, name in enumerate("ab"):
        write(image_spec(), name=name, seed=index)
    with catalog_of(tmp_path, memory=1) as catalog:
        (tmp_path / "a.safetensors").write_bytes(b"torn")
        with pytest.raises(ApiError, match="was evicted from the device, and cannot be loaded again") as caught:
            asyncio.run(catalog.ensure_deployed(catalog.find("a")))
        assert caught.value.status == 503


def test_a_model_larger_than_the_memory_is_served_alone(write: Write, tmp_path: Path) -> None:
    for name in "ab":
        write(image_spec(), name=name)
    with catalog_of(tmp_path, memory=1) as catalog:
        for name in ("a", "b", "a"):
            asyncio.run(catalog.ensure_deployed(catalog.find(name)))
            assert [model.name for model in catalog.models.values() if model.deployment is not None] == [name]


def test_the_fingerprint_names_everything_that_bytes_depend_on(write: Write, tmp_path: Path) -> None:
    first = write(points_spec())
    with catalog_of(tmp_path) as catalog:
        model = catalog.find(None)
        assert model.fingerprint["weights"] == first.version
        assert model.fingerprint["torch"] == torch.__version__
        assert set(model.fingerprint) >= {"dtype", "memory_format", "device", "driver", "threads", "imagecodecs"}
        before = model.fingerprint_id
        write(points_spec(), seed=1)
        eventually(lambda: catalog.find(None).fingerprint_id != before)


def test_a_served_model_describes_its_checkpoint(write: Write, tmp_path: Path) -> None:
    checkpoint = write(image_spec())
    with catalog_of(tmp_path) as catalog:
        model = catalog.find(None)
        (calibration,) = model.calibrations
        assert calibration.mode == "bitwise"
        assert 16 in model.batch_sizes
        assert model.weight_bytes == sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        assert np.isfinite(list(calibration.seconds.values())).all()


def test_directions_are_added_changed_and_removed_without_reloading_the_weights(write: Write, tmp_path: Path) -> None:
    version = write(image_spec()).version
    path, beside = tmp_path / "model.safetensors", tmp_path / "model.directions.safetensors"
    with catalog_of(tmp_path) as catalog:
        before = catalog.models["model"]
        assert before.directions_version is None
        for seed in (0, 1):
            found = write_directions(path, seed)
            eventually(lambda found=found: catalog.models["model"].directions_version == found.version)
        beside.unlink()
        eventually(lambda: catalog.models["model"].directions_version is None)
        assert (set(catalog.models), version_of(catalog), catalog.failures) == ({"model"}, version, [])
        assert catalog.models["model"].deployment is before.deployment


def test_bad_or_foreign_directions_are_reported_and_the_model_is_served(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(image_spec())
    path, beside = tmp_path / "model.safetensors", tmp_path / "model.directions.safetensors"
    beside.write_bytes(b"torn")
    with catalog_of(path) as catalog:
        assert [failure.file for failure in catalog.failures] == [beside.name]
        assert f"{beside} is not served" in caplog.text
        write_directions(path)
        eventually(lambda: catalog.models["model"].directions is not None and not catalog.failures)
        new = write(image_spec(), seed=1)
        eventually(lambda: version_of(catalog) == new.version)
        assert catalog.models["model"].directions is None
        assert "made for version" in catalog.failures[0].error
        path.unlink()
        eventually(lambda: [failure.file for failure in catalog.failures] == [path.name])
