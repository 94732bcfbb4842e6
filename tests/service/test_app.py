"""The BentoML service in this process. BentoML's metrics allow one such app in a process, so there is one test."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

import latentd.service.app
from latentd.models.checkpoint import Checkpoint
from latentd.service.routes import ROUTES
from latentd.service.settings import Settings
from tests.conftest import points_spec


def test_the_service_answers_over_http_and_in_process_and_stops(
    write: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(points_spec())
    monkeypatch.setattr(latentd.service.app, "settings", Settings(models=str(tmp_path)))
    app = latentd.service.app.Latentd.to_asgi()
    bentomls = {route.path for route in app._bentoml_app.routes if isinstance(route, Route)}
    assert bentomls <= {route.path for route in ROUTES}
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200
        over_http = client.post("/generate", json={"seed": 3}).json()
        assert over_http["samples"][0]["seed"] == 3
        engine = latentd.service.app._started[-1].engine
        assert client.get("/livez").status_code == 200
        engine.abort()  # the engine does not come back; a supervisor should restart the process
        assert client.get("/livez").status_code == 503
    assert not engine.alive

    instance = latentd.service.app.Latentd()
    assert asyncio.run(instance.generate.local(seed=3)) == over_http
    instance.close()
