"""`latentd serve` from an empty folder."""

from pathlib import Path

from tests.e2e.conftest import ROOT, serving


def test_it_serves_the_shipped_models_from_any_folder(tmp_path: Path) -> None:
    command = ("latentd", "serve")
    with serving(tmp_path / "home", command=command, folder=tmp_path, PYTHONPATH=str(ROOT)) as server:
        assert "fashion-dcgan" in {model["name"] for model in server.call("/models").json["models"]}
        assert f"{server.url.replace('127.0.0.1', 'localhost')}/explore" in server.log.read_text()
