"""What is counted while the service works. Every label has values that the service knows, never a client's text."""

from collections.abc import Collection, Iterator

from prometheus_client.core import Metric

from latentd.service.engine import BatchReport
from latentd.service.telemetry.instruments import Counter, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_STATUS_CLASSES = {hundred: f"{hundred}xx" for hundred in range(1, 6)}
_NO_MODEL = ""


class Telemetry:
    """All counters and histograms of a service; prometheus_client collects them, the engine reports to it."""

    def __init__(self, sampling: Collection[str] = ()) -> None:
        """`sampling`: the endpoints whose errors are counted from 0 on."""
        self._sampling = sampling
        self._served: Collection[str] = frozenset()
        self._requests = Counter(
            "latentd_requests", "Requests answered, or left by their clients (4xx).", "endpoint", "model", "status"
        )
        self._request_seconds = Histogram(
            "latentd_request_seconds", "Time from a request's headers to the end of its answer.", _SECONDS, "endpoint"
        )
        self.own_deadlines = Counter(
            "latentd_own_deadlines", "Requests answered 504 at a deadline that they had set themselves."
        )
        self.rejections = Counter("latentd_rejections", "Requests refused, by their error's code.", "reason")
        self.expired_samples = Counter(
            "latentd_expired_samples", "Samples that were not sent because their request's time was over."
        )
        self.abandoned_samples = Counter(
            "latentd_abandoned_samples", "Samples that were not sent because their client had left."
        )
        self._samples = Counter("latentd_samples", "Samples computed and encoded.", "model")
        self._queue_wait = Histogram(
            "latentd_queue_wait_seconds", "Time that a request's part of a batch waited for its pass.", _SECONDS
        )
        self._forward = Histogram(
            "latentd_forward_seconds", "Time of a batch's forward passes.", _SECONDS, "model", "stage"
        )
        self._copy = Histogram("latentd_copy_seconds", "Time to copy a batch from a GPU to memory.", _SECONDS)
        self._encode = Histogram("latentd_encode_seconds", "Time to encode a batch's samples.", _SECONDS)
        self._batch_samples = Histogram("latentd_batch_samples", "Samples in a batch.", _SAMPLES)
        self._batch_fill = Histogram(
            "latentd_batch_fill_ratio", "Samples in a batch, of those that its passes had room for.", _SHARES
        )
        self.model_loads = Counter("latentd_model_loads", "Times that a model was loaded, again included.")
        self.model_swaps = Counter("latentd_model_swaps", "Times that another version took a served model's place.")
        self.model_evictions = Counter("latentd_model_evictions", "Times that a model left the device to make room.")
        self.model_load_failures = Counter("latentd_model_load_failures", "Times that a model could not be loaded.")

    def count_request(self, endpoint: str, model: str, status: int, seconds: float) -> None:
        """A request that is over. `endpoint` is a route and not a path; `model` is empty where none was found."""
        self._requests.add(endpoint, self._known(model), _STATUS_CLASSES[status // 100])
        self._request_seconds.observe(seconds, labels=(endpoint,))

    def batch_done(self, batch: BatchReport) -> None:
        """As the engine says it."""
        model = self._known(batch.executor.model)
        if batch.executor.stage == "synthesis":
            self._samples.add(model, amount=batch.encoded)
        self._queue_wait.observe(*batch.waited_seconds)
        self._forward.observe(batch.forward_seconds, labels=(model, batch.executor.stage))
        if batch.copy_seconds is not None:
            self._copy.observe(batch.copy_seconds)
        self._encode.observe(batch.encode_seconds)
        self._batch_samples.observe(batch.samples)
        self._batch_fill.observe(batch.samples / batch.capacity)

    def set_served(self, models: Collection[str]) -> None:
        """These are the models from now on; series of others are forgotten."""
        self._served = frozenset({_NO_MODEL, *models})
        for instrument in (self._requests, self._samples, self._forward):
            instrument.keep("model", self._served)
        for model in models:
            self._samples.add(model, amount=0)  # a rate needs a number before the first sample
        for model in self._served:
            for endpoint in self._sampling:
                self._requests.add(endpoint, model, "5xx", amount=0)  # and one before the first error

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        for instrument in vars(self).values():
            if isinstance(instrument, Counter | Histogram):
                yield from instrument.collect()

    def _known(self, model: str) -> str:
        return model if model in self._served else _NO_MODEL
