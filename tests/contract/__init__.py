"""What must not change while the code inside does: names, the wire and the bytes of samples, as tables in JSON."""
