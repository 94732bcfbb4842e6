"""What `latentd bulk` writes is what the service answers."""

import base64
from pathlib import Path

import pytest

from tests.cli.bulk_runs import Bulk, members, rows
from tests.e2e.conftest import ROOT, Server

CHECKPOINT = ROOT / "models" / "checkpoints" / "fashion-dcgan-conditional.safetensors"


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_the_bytes_are_those_of_the_service(form: str, server: Server, tmp_path: Path) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arguments = ("--num", "20", "--seed", "100", "--truncation", "0.8", "--form", form, "--format", "webp")
    bulk = Bulk(CHECKPOINT, tmp_path / "out", arguments)
    bulk.done()
    asked = server.generate(model=CHECKPOINT.stem, num_samples=20, seed=100, truncation=0.8, format="webp")
    expected = [base64.b64decode(sample["data"]) for sample in asked.json["samples"]]
    if form == "parquet":
        assert [row["image"] for row in rows(bulk.out)] == expected
    else:
        found = members(bulk.out / "part-00000-of-00001.tar")
        assert [content for name, content in found.items() if name.endswith(".webp")] == expected
