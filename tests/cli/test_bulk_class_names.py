"""Training reads what `latentd bulk` wrote with the same class names, whatever text they have."""

import unicodedata
from pathlib import Path

import pytest

from latentd.models.conditions.classes import ClassCondition
from latentd.models.latents import seeds_to_rows
from latentd.training.data.image_cache import decode_images
from tests.cli.bulk_runs import Bulk, write_untrained
from tests.conftest import image_spec

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

NAMES = (
    "T-shirt/top",
    "T-shirt/long",
    ".net",
    "two\nlines",
    " blanks ",
    "0",
    "00",
    "cafe\u0301",
    "猫",
    "👩‍👩‍👧",
    "../up",
)


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_class_names_come_back(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = image_spec(conditional=True).model_copy(update={"condition": ClassCondition(names=NAMES)})
    write_untrained(tmp_path / "animals.safetensors", spec)
    bulk = Bulk(tmp_path / "animals.safetensors", tmp_path / "out", ("--num", "60", "--form", form))
    bulk.done()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    classes = decode_images(bulk.out, 28, 1, lambda _: None).classes
    assert classes.labels is not None
    labels = spec.condition.labels(seeds_to_rows(spec, range(60)).condition)
    assert labels is not None
    assert [classes.names[label] for label in classes.labels] == [
        unicodedata.normalize("NFC", NAMES[label]) for label in labels
    ]
