"""What is counted, for /metrics: our routes are answered in front of BentoML's own counters."""

from functools import cache

from prometheus_client import Counter, Histogram

REQUESTS = Counter("latentd_requests", "Requests answered.", ["endpoint", "status"])
REQUEST_SECONDS = Histogram(
    "latentd_request_seconds",
    "Time from a request's headers to the end of its answer.",
    ["endpoint"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)


def count_request(endpoint: str, status: int, seconds: float) -> None:
    """One request of `endpoint`, which is a route and not a path, so that nobody can make up new ones."""
    counter, histogram = _of(endpoint, status)
    counter.inc()
    histogram.observe(seconds)


@cache  # to look them up anew takes longer than to count
def _of(endpoint: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(endpoint, status), REQUEST_SECONDS.labels(endpoint)
