"""Output kinds: what a generator's samples are. Each module but `base` is a kind and defines `KIND`."""
