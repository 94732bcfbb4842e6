import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from models.checkpoint import Checkpoint
from service.catalog import Catalog, load_catalog
from service.errors import ApiError
from service.settings import SHIPPED, Settings
from tests.conftest import points_spec

Write = Callable[..., Checkpoint]


def load(*paths: Path, default: str = "model") -> Catalog:
    return load_catalog(paths, default, torch.device("cpu"))


def test_by_default_the_shipped_models_and_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a"):
        (tmp_path / "runs" / name / "state").mkdir(parents=True)
    (tmp_path / "runs" / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert Settings().catalog_paths() == [SHIPPED, Path("runs/a"), Path("runs/b")]


def test_latentd_models_names_folders_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTD_MODELS", os.pathsep.join(["/models", "one.safetensors"]))
    assert Settings().catalog_paths() == [Path("/models"), Path("one.safetensors")]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MAX_SAMPLES", "0"), ("MAX_SAMPLES", "5000"), ("TIMEOUT", "-1"), ("DEVICE", "tpu"), ("MAX_QUEUE", "x")],
)
def test_settings_that_do_not_fit_are_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LATENTD_{variable}", value)
    with pytest.raises(ValidationError, match=f"(?i){variable}"):
        Settings()


def test_a_later_entry_wins(write: Write, tmp_path: Path) -> None:
    write(points_spec())
    (tmp_path / "old").mkdir()
    old = (tmp_path / "model.safetensors").rename(tmp_path / "old" / "model.safetensors")
    new = write(points_spec(), seed=1)
    assert load(old.parent, tmp_path).find("model").version == new.version
    assert load(tmp_path, old).find("model").version == Checkpoint.read(old).version


def test_a_bad_later_file_leaves_the_good_one(write: Write, tmp_path: Path) -> None:
    version = write(points_spec()).version
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "model.safetensors").write_bytes(b"torn")
    catalog = load(tmp_path, tmp_path / "later")
    assert catalog.find("model").version == version
    assert [failure.file for failure in catalog.failures] == ["model.safetensors"]


def test_the_default_model(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b", "a"):
        write(points_spec(), name=name)
    assert load(tmp_path, default="b").find(None).name == "b"
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, default="c").find(None).name == "a"
    assert "there is no model 'c'; a is the default" in caplog.text


def test_an_empty_catalog_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog = load(tmp_path)
    assert "no model is served" in caplog.text
    with pytest.raises(ApiError) as caught:
        catalog.find(None)
    assert caught.value.status == 404


def test_fingerprint_names_what_bytes_depend_on(write: Write, tmp_path: Path) -> None:
    first = write(points_spec())
    model = load(tmp_path).find(None)
    assert model.fingerprint["weights"] == first.version
    assert model.fingerprint["torch"] == torch.__version__
    assert set(model.fingerprint) >= {"dtype", "device", "threads"}
    write(points_spec(), seed=1)
    assert load(tmp_path).find(None).fingerprint_id != model.fingerprint_id
