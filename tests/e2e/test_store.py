"""BentoML's model store: publish, export, import, serve and follow models, with a BENTOML_HOME for each store."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from latentd.models.checkpoint import Checkpoint
from tests.conftest import eventually
from tests.e2e.conftest import ROOT, serving

SHIPPED = ROOT / "models" / "checkpoints"


def run(command: str, home: Path, *arguments: Any, status: int = 0) -> str:
    """Run `latentd` or `bentoml` with `home` as BENTOML_HOME; return its output."""
    ran = subprocess.run(
        [Path(sys.executable).with_name(command), *arguments],
        env=os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_a_model_is_published_exported_imported_served_and_replaced(tmp_path: Path) -> None:
    here, there, folder = tmp_path / "here", tmp_path / "there", tmp_path / "folder"
    version = Checkpoint.read(SHIPPED / "fashion-dcgan.safetensors").version
    tag = run("latentd", here, "publish", SHIPPED / "fashion-dcgan.safetensors").strip()
    assert tag == f"fashion-dcgan:{version}"
    shown = json.loads(run("bentoml", here, "models", "get", tag, "-o", "json"))
    assert shown["labels"]["data"] == "fashion-mnist"
    assert shown["metadata"]["spec"]["family"] == "dcgan"
    again = run("latentd", here, "publish", SHIPPED / "fashion-dcgan.safetensors", status=1)
    assert "already exists" in again
    run("bentoml", here, "models", "export", tag, tmp_path / "model.bentomodel")
    run("bentoml", there, "models", "import", tmp_path / "model.bentomodel")
    folder.mkdir()
    shutil.copy(SHIPPED / "ring-gan.safetensors", folder)
    models = os.pathsep.join([str(folder), "bento:fashion-dcgan:latest", "bento:nope:latest"])
    with serving(there, LATENTD_MODELS=models) as server:
        listed = server.call("/models").json
        assert listed["models"][0]["version"] == version
        assert [each["name"] for each in listed["models"]] == ["fashion-dcgan", "ring-gan"]
        assert [each["file"] for each in listed["failures"]] == ["bento:nope:latest"]
        assert server.call("/models/fashion-dcgan/directions").json["directions"]  # published with the model
        # another version of the same name, as a later training would publish it
        shutil.copy(SHIPPED / "ring-gan.safetensors", tmp_path / "fashion-dcgan.safetensors")
        newer = run("latentd", there, "publish", tmp_path / "fashion-dcgan.safetensors").strip().partition(":")[2]
        statuses = set()

        def newer_is_served() -> bool:
            answer = server.generate(model="fashion-dcgan", seed=1)
            statuses.add(answer.status)
            return bool(answer.json.get("version") == newer)

        eventually(newer_is_served)
        assert statuses <= {200}  # never without the model


def test_names_that_bentoml_does_not_allow_are_refused(tmp_path: Path) -> None:
    shutil.copy(SHIPPED / "ring-gan.safetensors", tmp_path / "Ring.safetensors")
    assert "lower case" in run("latentd", tmp_path / "home", "publish", tmp_path / "Ring.safetensors", status=1)


def test_a_version_can_be_pinned(tmp_path: Path) -> None:
    missing = "bento:ring-gan:0123456789ab"
    tag = run("latentd", tmp_path, "publish", SHIPPED / "ring-gan.safetensors").strip()
    with serving(tmp_path, LATENTD_MODELS=f"{missing}{os.pathsep}bento:{tag}") as server:
        assert [each["name"] for each in server.call("/models").json["models"]] == ["ring-gan"]
        assert [each["file"] for each in server.call("/models").json["failures"]] == [missing]
