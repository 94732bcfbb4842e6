"""The counters and histograms of the service. Label values come from the service, never from a client's text."""

from collections.abc import Collection, Iterator
from http import HTTPStatus

from prometheus_client.core import Metric

from latentd.service.engine import BatchReport
from latentd.service.telemetry.instruments import Counter, Histogram
from latentd.service.telemetry.model_statistics import ModelStatistics

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_STATUS_CLASSES = {hundred: f"{hundred}xx" for hundred in range(1, 6)}
_NO_MODEL = ""


class Telemetry:
    """All counters and histograms. An observer of the engine, and a collector for prometheus_client."""

    def __init__(self, sample_endpoints: Collection[str] = ()) -> None:
        """`sample_endpoints`: endpoints whose error counts are 0, and not absent, before the first error."""
        self._sample_endpoints = sample_endpoints
        self._served: Collection[str] = frozenset()
        self.model_statistics = ModelStatistics()
        self._requests = Counter(
            "latentd_requests",
            "Requests that were answered, or abandoned by their client (4xx).",
            "endpoint",
            "model",
            "status",
        )
        self._request_seconds = Histogram(
            "latentd_request_seconds", "Time from a request's headers to the end of its answer.", _SECONDS, "endpoint"
        )
        self.own_deadlines = Counter(
            "latentd_own_deadlines", "Requests answered 504 at the deadline of their X-Request-Timeout header."
        )
        self.rejections = Counter("latentd_rejections", "Refused requests by error code.", "reason")
        self.expired_samples = Counter("latentd_expired_samples", "Samples not sent because their request timed out.")
        self.abandoned_samples = Counter(
            "latentd_abandoned_samples", "Samples not sent because their client had disconnected."
        )
        self._samples = Counter("latentd_samples", "Samples computed and encoded.", "model")
        self._queue_wait = Histogram(
            "latentd_queue_wait_seconds",
            "Time from a request's arrival in the queue to the start of its forward pass.",
            _SECONDS,
        )
        self._forward = Histogram(
            "latentd_forward_seconds", "Time of a batch's forward passes.", _SECONDS, "model", "stage"
        )
        self._copy = Histogram("latentd_copy_seconds", "Time to copy a batch from a GPU to memory.", _SECONDS)
        self._encode = Histogram("latentd_encode_seconds", "Time to encode a batch's samples.", _SECONDS)
        self._batch_samples = Histogram("latentd_batch_samples", "Samples in a batch.", _SAMPLES)
        self._batch_fill = Histogram(
            "latentd_batch_fill_ratio", "Samples in a batch divided by the capacity of its forward passes.", _RATIOS
        )
        self.model_loads = Counter(
            "latentd_model_loads", "Models loaded, including those loaded again after an eviction."
        )
        self.model_swaps = Counter("latentd_model_swaps", "Served models replaced by another version.")
        self.model_evictions = Counter("latentd_model_evictions", "Models evicted from the device to free memory.")
        self.model_load_failures = Counter("latentd_model_load_failures", "Model files that failed to load.")

    def count_request(self, endpoint: str, model: str, status: int, seconds: float) -> None:
        """Count a finished request. `endpoint` is a route, not a path; `model` is empty if none was found."""
        self._requests.add(endpoint, self._known(model), _STATUS_CLASSES[status // 100])
        self._request_seconds.observe(seconds, labels=(endpoint,))
        if self._known(model) != _NO_MODEL:
            self.model_statistics.count_request(model, status < HTTPStatus.BAD_REQUEST, seconds)

    def batch_done(self, batch: BatchReport) -> None:
        """Count a batch."""
        model = self._known(batch.executor.model)
        if model != _NO_MODEL:
            self.model_statistics.batch_done(batch)
        if batch.executor.stage == "synthesis":
            self._samples.add(model, amount=batch.encoded)
        self._queue_wait.observe(*batch.waited_seconds)
        self._forward.observe(batch.forward_seconds, labels=(model, batch.executor.stage))
        if batch.copy_seconds is not None:
            self._copy.observe(batch.copy_seconds)
        self._encode.observe(batch.encode_seconds)
        self._batch_samples.observe(batch.samples)
        self._batch_fill.observe(batch.samples / batch.capacity)

    def set_served(self, models: Collection[str], also: Collection[str] = ()) -> None:
        """Set the names of the served models, and remove the series of others.

        `also`: names that answer and are seldom asked for. They have no series before the first request.
        """
        self._served = frozenset({_NO_MODEL, *models, *also})
        for instrument in (self._requests, self._samples, self._forward):
            instrument.retain("model", self._served)
        self.model_statistics.retain(self._served)
        for model in models:
            self._samples.add(model, amount=0)  # so that rates work from the first sample on
        for model in {_NO_MODEL, *models}:
            for endpoint in self._sample_endpoints:
                self._requests.add(endpoint, model, "5xx", amount=0)  # and from the first error on

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics for prometheus_client."""
        for instrument in vars(self).values():
            if isinstance(instrument, Counter | Histogram):
                yield from instrument.collect()

    def _known(self, model: str) -> str:
        return model if model in self._served else _NO_MODEL
