"""Condition kinds: what a generator takes beside its input. Each module but `base` is a kind and defines `KIND`."""
