"""A service in this process, with a real catalog of untrained models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient

from latentd.models.checkpoint import write_checkpoint
from latentd.models.families import build_generator
from latentd.models.spec import GeneratorSpec
from latentd.service.catalog import Catalog, Loader
from latentd.service.engine import Engine
from latentd.service.gateway import Gateway
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.conftest import card_of


@contextmanager
def serving(folder: Path, specs: Mapping[str, GeneratorSpec]) -> Iterator[TestClient]:
    """Serve a model for each spec from files in `folder`. The first one is the default."""
    for name, spec in specs.items():
        torch.manual_seed(1)
        write_checkpoint(folder / f"{name}.safetensors", card_of(spec), build_generator(spec).state_dict())
    telemetry = Telemetry()
    engine = Engine(max_queue=64, parallel=1, observer=telemetry)
    engine.start()
    default = next(iter(specs))
    catalog = Catalog(lambda: [folder], Loader(torch.device("cpu"), engine, True), default, 2**30, telemetry)
    catalog.start()
    assert not catalog.failures, catalog.failures
    runtime = Runtime(Settings(max_samples=16, max_frames=200, max_queue=64), catalog, engine, telemetry)
    try:
        yield TestClient(Gateway(Starlette(), lambda: runtime), raise_server_exceptions=False)
    finally:
        catalog.close()
        engine.close()
