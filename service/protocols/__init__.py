"""Protocols of other servers, whose clients work here without changes. They only translate requests and answers."""
