"""Counters, histograms and /metrics, without a server around them."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest

from latentd.models.checkpoint import Checkpoint
from latentd.models.outputs.base import Samples
from latentd.service.catalog import Catalog, Loader
from latentd.service.engine import BatchReport, Engine
from latentd.service.guard.auth import OPEN
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from latentd.service.telemetry.exposition import exposition
from latentd.service.telemetry.instruments import Counter, Histogram
from tests.conftest import eventually, image_spec, points_spec
from tests.service.fakes import BlockingRunner, executor, rows

Write = Callable[..., Checkpoint]


def text_of(collector: Any) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def numbers(collector: Any, name: str) -> dict[str, float]:
    """Return one metric as Prometheus reads it: label values → number."""
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        ",".join(sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_bounds_of_buckets_are_inclusive() -> None:
    histogram = Histogram("h_seconds", "Help.", (0.1, 1.0), "kind")
    histogram.observe(0.1, 0.5, labels=("a",))
    histogram.observe(1.5, labels=("a",))
    assert text_of(histogram).splitlines() == [
        "# HELP h_seconds Help.",
        "# TYPE h_seconds histogram",
        'h_seconds_bucket{kind="a",le="0.1"} 1.0',
        'h_seconds_bucket{kind="a",le="1.0"} 2.0',
        'h_seconds_bucket{kind="a",le="+Inf"} 3.0',
        'h_seconds_count{kind="a"} 3.0',
        'h_seconds_sum{kind="a"} 2.1',
    ]


def test_metrics_without_labels_begin_at_0() -> None:
    assert numbers(Counter("c", "Help."), "c_total") == {"": 0.0}
    assert numbers(Histogram("h", "Help.", (1.0,)), "h_count") == {"": 0.0}


def test_threads_lose_no_count() -> None:
    counter, histogram = Counter("c", "Help.", "kind"), Histogram("h", "Help.", (1.0,))

    def count() -> None:
        for _ in range(5000):
            counter.add("a")
            histogram.observe(1.0, 2.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(counter, "c_total") == {"a": 20000.0}
    assert numbers(histogram, "h_bucket") == {"1.0": 20000.0, "+Inf": 40000.0}


def test_unknown_models_share_one_series_and_series_of_old_models_are_dropped() -> None:
    telemetry = Telemetry()
    for number in range(100):
        telemetry.set_served([f"model-{number}"])
        for asked in (f"model-{number}", f"random-{number}"):
            telemetry.count_request("/generate", asked, 200, 0.1)
    assert numbers(telemetry, "latentd_requests_total") == {"/generate,,2xx": 100.0, "/generate,model-99,2xx": 1.0}
    assert numbers(telemetry, "latentd_samples_total") == {"model-99": 0.0}


def test_error_counts_begin_at_0() -> None:
    paths = ("/generate", "/mix")
    telemetry = Telemetry(paths)
    telemetry.set_served(["m"])
    expected = {f"{path},{model},5xx": 0.0 for path in paths for model in ("", "m")}
    assert numbers(telemetry, "latentd_requests_total") == expected
    telemetry.count_request("/mix", "m", 500, 0.1)
    telemetry.set_served(["m"])
    assert numbers(telemetry, "latentd_requests_total") == expected | {"/mix,m,5xx": 1.0}


@pytest.mark.parametrize("status", [200, 307, 404, 499, 503])
def test_requests_are_counted_by_status_class(status: int) -> None:
    telemetry = Telemetry()
    telemetry.count_request("/generate", "", status, 0.1)
    assert numbers(telemetry, "latentd_requests_total") == {f"/generate,,{status // 100}xx": 1.0}


def test_the_engine_reports_batches() -> None:
    telemetry = Telemetry()
    telemetry.set_served(["gan"])
    runner = BlockingRunner()

    async def two_batches() -> None:
        engine = Engine(max_queue=100, parallel=1, observer=telemetry)
        engine.start()
        model = executor(runner)
        first = engine.submit(model, rows(1), list, len)
        await asyncio.to_thread(runner.wait_for_pass)
        later = [engine.submit(model, rows(*range(3)), list, len), engine.submit(model, rows(float("inf")), list, len)]
        await asyncio.sleep(0.3)
        runner.release()
        await asyncio.gather(first, *later, return_exceptions=True)
        await asyncio.to_thread(engine.close)

    asyncio.run(two_batches())
    assert numbers(telemetry, "latentd_samples_total") == {"gan": 4.0}  # samples that are not finite do not count
    assert numbers(telemetry, "latentd_batch_samples_sum") == {"": 5.0}
    assert numbers(telemetry, "latentd_batch_samples_count") == {"": 2.0}
    assert numbers(telemetry, "latentd_batch_fill_ratio_sum") == {"": 1 / 16 + 4 / 16}
    assert numbers(telemetry, "latentd_forward_seconds_sum") == {"gan,synthesis": 0.5}  # what the runner reports
    assert numbers(telemetry, "latentd_queue_wait_seconds_count") == {"": 3.0}
    assert numbers(telemetry, "latentd_queue_wait_seconds_sum")[""] >= 0.6
    assert numbers(telemetry, "latentd_copy_seconds_count") == {"": 0.0}
    assert numbers(telemetry, "latentd_encode_seconds_count") == {"": 2.0}


def test_encoding_has_a_time_of_its_own() -> None:
    telemetry = Telemetry()
    runner = BlockingRunner()
    runner.release()

    def slow(samples: Samples) -> list[Any]:
        threading.Event().wait(0.1)
        return list(samples)

    async def one() -> None:
        engine = Engine(max_queue=100, parallel=1, observer=telemetry)
        engine.start()
        await engine.submit(executor(runner), rows(1), slow, len)
        await asyncio.to_thread(engine.close)

    asyncio.run(one())
    assert 0.1 <= numbers(telemetry, "latentd_encode_seconds_sum")[""] < 300


def test_mapping_batches_count_no_samples() -> None:
    telemetry = Telemetry()
    telemetry.set_served(["gan"])
    mapping = executor(BlockingRunner())
    mapping.stage = "mapping"
    telemetry.batch_done(BatchReport(mapping, 4, 4, 16, [0.1], 0.2, 0.3, 0.4, [None], 1.0, 1.6))
    assert numbers(telemetry, "latentd_samples_total") == {"gan": 0.0}
    assert numbers(telemetry, "latentd_forward_seconds_sum") == {"gan,mapping": 0.2}
    assert numbers(telemetry, "latentd_copy_seconds_sum") == {"": 0.3}
    assert numbers(telemetry, "latentd_encode_seconds_sum") == {"": 0.4}


def test_catalog_events_are_counted(write: Write, tmp_path: Path) -> None:
    telemetry = Telemetry()
    engine = Engine(max_queue=100, parallel=1)
    engine.start()
    first = write(points_spec())
    write(image_spec(), name="other")
    loader = Loader(torch.device("cpu"), engine, deterministic=True)
    catalog = Catalog(lambda: [tmp_path], loader, "model", 1, telemetry)  # one model on the device at a time
    catalog.start()

    def is_counted(what: str) -> float:
        return numbers(telemetry, f"latentd_model_{what}_total")[""]

    try:
        assert (is_counted("loads"), is_counted("evictions"), is_counted("swaps")) == (2, 1, 0)
        runtime = Runtime(Settings(), catalog, engine, telemetry)
        text = exposition(runtime, OPEN, torch.device("cpu"))
        assert f'latentd_model_info{{family="mlp",model="model",version="{first.version}"}} 1.0' in text
        assert text.count("latentd_model_weights_bytes{") == 2
        assert text.count("latentd_build_info{") == 1
        assert "latentd_queue_capacity_samples 4096.0" in text
        assert "latentd_requests_capacity 256.0" in text
        assert "latentd_failed_model_files 0.0" in text
        away = next(model for model in catalog.models.values() if model.deployment is None)
        asyncio.run(catalog.ensure_deployed(away))
        assert (is_counted("loads"), is_counted("evictions")) == (3, 2)
        second = write(points_spec(), seed=2)
        eventually(lambda: catalog.models["model"].version == second.version)
        assert is_counted("swaps") == 1
        assert first.version not in exposition(runtime, OPEN, torch.device("cpu"))
        (tmp_path / "bad.safetensors").write_bytes(b"no checkpoint")
        eventually(lambda: is_counted("load_failures") == 1)
        eventually(lambda: "latentd_failed_model_files 1.0" in exposition(runtime, OPEN, torch.device("cpu")))
        (tmp_path / "other.safetensors").unlink()
        eventually(lambda: numbers(telemetry, "latentd_samples_total") == {"model": 0.0})
    finally:
        catalog.close()
        engine.close()
