"""All metrics in Prometheus's text format: counters, histograms, and gauges that are read at each scrape."""

import platform
from collections.abc import Iterator

import bentoml
import torch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from latentd.models.hardware import describe_device, memory_bytes, used_memory_bytes
from latentd.models.packages import package_version
from latentd.service.guard.auth import Access
from latentd.service.runtime import Runtime


def exposition(runtime: Runtime, access: Access, device: torch.device) -> str:
    """Return the text of /metrics."""
    registry = CollectorRegistry()
    registry.register(runtime.telemetry)
    registry.register(_Gauges(runtime, access, device))
    return generate_latest(registry).decode()


class _Gauges:
    """The state of the service at the time of the scrape."""

    def __init__(self, runtime: Runtime, access: Access, device: torch.device) -> None:
        self._runtime = runtime
        self._access = access
        self._device = device

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, as prometheus_client asks for them."""
        device, runtime = self._device, self._runtime
        settings, catalog = runtime.settings, runtime.catalog
        yield _gauge("latentd_queued_samples", "Samples that wait for a forward pass.", runtime.engine.queued)
        yield _gauge("latentd_queue_capacity_samples", "Samples that may wait.", settings.max_queue)
        yield _gauge(
            "latentd_requests_under_way",
            "Requests whose body was read and whose answer is not sent yet.",
            runtime.admission.requests.used,
        )
        yield _gauge("latentd_requests_capacity", "Requests that may be under way.", settings.max_requests)
        yield _gauge(
            "latentd_tokens_current",
            "1 if the tokens are those of the file, 0 if it cannot be used.",
            self._access.tokens_current,
        )
        yield _gauge(
            "latentd_failed_model_files", "Model files that cannot be served as they are.", len(catalog.failures)
        )
        yield _gauge(
            "latentd_device_memory_bytes",
            "Memory of the device that the service uses: the GPU's, or the machine's.",
            used_memory_bytes(device),
        )
        yield _gauge("latentd_device_memory_capacity_bytes", "Memory of the device.", memory_bytes(device))
        weights = GaugeMetricFamily(
            "latentd_model_weights_bytes",
            "Weights on the device; 0 while another model has their memory.",
            labels=["model"],
        )
        facts = GaugeMetricFamily(
            "latentd_model_info", "What the models' names mean.", labels=["model", "version", "family"]
        )
        for name, size in sorted(catalog.weights_on_device().items()):
            weights.add_metric([name], size)
        for model in catalog.models.values():
            facts.add_metric([model.name, model.version, model.card.spec.family], 1)
        yield weights
        yield facts
        yield _build(device)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)


def _build(device: torch.device) -> Metric:
    facts = {
        "version": package_version("latentd"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bentoml": bentoml.__version__,
        "device": describe_device(device),
    }
    family = GaugeMetricFamily("latentd_build_info", "Versions of the software, and the device.", labels=list(facts))
    family.add_metric(list(facts.values()), 1)
    return family
