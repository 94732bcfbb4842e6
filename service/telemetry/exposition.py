"""All metrics in Prometheus's text format: what was counted, and what is looked up when it is asked for."""

import platform
from collections.abc import Iterator
from importlib.metadata import version

import bentoml
import torch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from latentd.models.hardware import describe_device, memory_bytes, used_memory_bytes
from latentd.service.guard.auth import Access
from latentd.service.runtime import Runtime


def exposition(runtime: Runtime, access: Access, device: torch.device) -> str:
    """For /metrics."""
    registry = CollectorRegistry()
    registry.register(runtime.telemetry)
    registry.register(_Now(runtime, access, device))
    return generate_latest(registry).decode()


class _Now:
    """What is so at this moment."""

    def __init__(self, runtime: Runtime, access: Access, device: torch.device) -> None:
        self._runtime = runtime
        self._access = access
        self._device = device

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        device, runtime = self._device, self._runtime
        settings, catalog = runtime.settings, runtime.catalog
        yield _gauge("latentd_queued_samples", "Samples that wait for a pass.", runtime.engine.queued)
        yield _gauge("latentd_queue_capacity_samples", "Samples that may wait.", settings.max_queue)
        yield _gauge(
            "latentd_requests_under_way",
            "Requests whose bodies are there and whose answers were not handed over yet.",
            runtime.places.taken,
        )
        yield _gauge("latentd_requests_capacity", "Requests that may be under way.", settings.max_requests)
        yield _gauge("latentd_tokens_current", "Whether the tokens are those of their file.", self._access.current)
        yield _gauge(
            "latentd_failed_model_files", "Model files that cannot be served as they are.", len(catalog.failures)
        )
        yield _gauge(
            "latentd_device_memory_bytes",
            "Memory that the service has taken: of the GPU, or of the machine.",
            used_memory_bytes(device),
        )
        yield _gauge("latentd_device_memory_capacity_bytes", "All of that memory.", memory_bytes(device))
        weights = GaugeMetricFamily(
            "latentd_model_weights_bytes", "Weights on the device; 0 while a model makes room.", labels=["model"]
        )
        facts = GaugeMetricFamily("latentd_model_info", "The models served.", labels=["model", "version", "family"])
        for model in catalog.models.values():
            weights.add_metric([model.name], model.weight_bytes if model.deployment else 0)
            facts.add_metric([model.name, model.version, model.card.spec.family], 1)
        yield weights
        yield facts
        yield _build(device)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)


def _build(device: torch.device) -> Metric:
    facts = {
        "version": version("latentd"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bentoml": bentoml.__version__,
        "device": describe_device(device),
    }
    family = GaugeMetricFamily("latentd_build_info", "What runs, and on what.", labels=list(facts))
    family.add_metric(list(facts.values()), 1)
    return family
