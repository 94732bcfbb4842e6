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


def write_models(folder: Path, specs: Mapping[str, GeneratorSpec]) -> None:
    """Write an untrained model for each spec."""
    for name, spec in specs.items():
        torch.manual_seed(1)
        write_checkpoint(folder / f"{name}.safetensors", card_of(spec), build_generator(spec).state_dict())


@contextmanager
def runtime_of(
    *paths: Path, default: str = "model", parallel: int = 1, memory: int = 2**30, settings: Settings | None = None
) -> Iterator[Runtime]:
    """Serve the models in `paths`. `parallel`: forward passes at a time. `memory`: bytes for models on the device."""
    telemetry = Telemetry()
    engine = Engine(max_queue=100, parallel=parallel, observer=telemetry)
    engine.start()
    catalog = Catalog(lambda: paths, Loader(torch.device("cpu"), engine, True), default, memory, telemetry)
    catalog.start()
    try:
        yield Runtime(settings or Settings(), catalog, engine, telemetry)
    finally:
        catalog.close()
        engine.close()


SMALL_LIMITS = Settings(max_samples=16, max_frames=200, max_queue=64)


def client_of(runtime: Runtime) -> TestClient:
    """Return a client whose failed requests are answers, not exceptions."""
    return TestClient(Gateway(Starlette(), lambda: runtime), raise_server_exceptions=False)


@contextmanager
def serving(folder: Path, specs: Mapping[str, GeneratorSpec]) -> Iterator[TestClient]:
    """Serve a model for each spec from files in `folder`. The first one is the default."""
    write_models(folder, specs)
    with runtime_of(folder, default=next(iter(specs)), settings=SMALL_LIMITS) as runtime:
        assert not runtime.catalog.failures, runtime.catalog.failures
        yield client_of(runtime)
