"""What the service tells of its requests: the log, request ids, and OpenTelemetry spans. See docs/operations.md."""
