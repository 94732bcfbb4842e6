"""What must not change when the code changes: names, the wire and the bytes of samples, recorded as JSON."""
