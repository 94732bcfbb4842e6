"""The service's Prometheus metrics. docs/operations.md explains each of them."""

from latentd.service.telemetry.telemetry import Telemetry

__all__ = ["Telemetry"]
