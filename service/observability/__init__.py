"""What the service reports about requests: the log, request ids, and OpenTelemetry spans. See docs/operations.md."""
