"""The ways to train a generator, one file each."""
