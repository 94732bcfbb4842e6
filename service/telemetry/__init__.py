"""What the service counts of itself, in Prometheus's terms. docs/operations.md tells what each metric means."""

from latentd.service.telemetry.telemetry import Telemetry

__all__ = ["Telemetry"]
