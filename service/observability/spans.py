"""OpenTelemetry spans of requests, and of the batches that they share, if an exporter is configured.

The environment variables are OpenTelemetry's own: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from latentd.service.context import RequestContext
from latentd.service.engine import BatchReport

logger = logging.getLogger("latentd.tracing")

_NAME = "latentd"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_LAST_SPANS_SECONDS = 2.0
_PARENT = TraceContextTextMapPropagator()
_PARENT_HEADERS = (b"traceparent", b"tracestate")
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""The names of exporters by protocol."""


class Tracing:
    """Sends spans to one processor as they end. It is an observer of the engine."""

    def __init__(self, processor: SpanProcessor) -> None:
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)  # its warnings quote clients' headers
        resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", _NAME)})
        requests = TracerProvider(resource=resource, shutdown_on_exit=False)  # sampled as the environment says
        # a batch is traced if any of its requests is, and has a link to each of them
        limits = SpanLimits(max_links=SpanLimits.UNSET)
        batches = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, span_limits=limits)
        self._processor = processor
        for provider in (requests, batches):
            provider.add_span_processor(processor)
        self._requests = requests.get_tracer(_NAME)
        self._batches = batches.get_tracer(_NAME)

    def begin(self, context: RequestContext, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Start a request's span, as a child of its `traceparent` header if it has one."""
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in _PARENT_HEADERS}
        context.span = self._requests.start_span("request", _PARENT.extract(carrier), SpanKind.SERVER)

    def end(self, context: RequestContext) -> None:
        """End a request's span, with attributes from its context."""
        span = context.span
        if span is None:
            return
        span.update_name(f"{context.method} {context.label}")
        facts: dict[str, Any] = {
            "http.request.method": context.method,
            "http.route": context.label,
            "http.response.status_code": context.status,
            "latentd.request_id": context.id,
            "latentd.model": context.model,
            "latentd.samples": context.samples,
            "error.type": context.code,
        }
        span.set_attributes({name: value for name, value in facts.items() if value is not None})
        if context.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        span.end()

    def batch_done(self, batch: BatchReport) -> None:
        requests = [
            (context.span, waited)
            for context, waited in zip(batch.contexts, batch.waited_seconds, strict=True)
            if context is not None and context.span is not None and context.span.is_recording()
        ]
        if not requests:
            return
        clock = time.time_ns() - time.monotonic_ns()
        batch_span = self._batches.start_span(
            f"batch {batch.executor.stage}",
            Context(),  # it has no parent, because it has several requests
            links=[Link(span.get_span_context()) for span, _ in requests],
            attributes={
                "latentd.model": batch.executor.name,
                "latentd.samples": batch.samples,
                "latentd.room": batch.capacity,
            },
            start_time=_nanoseconds(batch.forward_started, clock),
        )
        for span, waited in requests:
            self._record_steps(span, Link(batch_span.get_span_context()), batch, waited, clock)
        batch_span.end(_nanoseconds(batch.encode_started + batch.encode_seconds, clock))

    def close(self) -> None:
        """Send the last spans. Wait at most two seconds, so that a slow collector does not delay the end."""
        sending = threading.Thread(target=self._processor.shutdown, name="latentd-last-spans", daemon=True)
        sending.start()
        sending.join(_LAST_SPANS_SECONDS)
        if sending.is_alive():
            logger.warning("the last spans could not be sent within %g seconds and are lost", _LAST_SPANS_SECONDS)

    def _record_steps(self, request: Span, batch_link: Link, batch: BatchReport, waited: float, clock: int) -> None:
        """Record the steps of a request's rows as children of its span."""
        parent = trace.set_span_in_context(request, Context())
        computed = batch.forward_started + batch.forward_seconds
        steps = [
            ("queue", batch.forward_started - waited, waited),
            ("forward", batch.forward_started, batch.forward_seconds),
        ]
        if batch.copy_seconds is not None:
            steps.append(("copy", computed, batch.copy_seconds))
        steps.append(("encode", batch.encode_started, batch.encode_seconds))
        for name, began, seconds in steps:
            step = self._requests.start_span(name, parent, links=[batch_link], start_time=_nanoseconds(began, clock))
            step.end(_nanoseconds(began + seconds, clock))


def tracing_from_environment() -> Tracing | None:
    """Return the tracing that the environment configures; None if there is no exporter, or if it is not installed."""
    name = _exporter_name()
    if name is None:
        return None
    try:
        exporter = _exporter(name)
    except Exception as problem:  # noqa: BLE001  # the service works without traces
        logger.error("no spans are sent: %s", problem)
        return None
    logger.info("spans go to the exporter %s", name)
    return Tracing(BatchSpanProcessor(exporter))


def _exporter_name() -> str | None:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not exporter and any(os.environ.get(name) for name in _ENDPOINTS):
        exporter = "otlp"
    if exporter in ("", "none"):
        return None
    if exporter == "otlp":
        protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "http/protobuf")
        return _OTLP.get(protocol, protocol)
    return exporter


def _exporter(name: str) -> SpanExporter:
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        hint = ": pip install 'latentd[otlp]'" if name in _OTLP.values() else ""
        raise LookupError(f"the exporter {name!r} is not installed{hint}")
    make: Any = found[0].load()
    exporter: SpanExporter = make()
    return exporter


def _nanoseconds(monotonic: float, clock: int) -> int:
    return int(monotonic * 1e9) + clock
