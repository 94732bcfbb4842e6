"""Protocols of other servers, whose clients work unchanged here. Each one translates, and computes nothing itself."""
