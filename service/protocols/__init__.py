"""Protocols of other servers, whose clients are to work unchanged: each translates, and computes nothing itself."""
