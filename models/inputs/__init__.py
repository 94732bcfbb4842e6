"""Input kinds: what a generator's first stage takes. Each module but `base` is a kind and defines `KIND`."""
