"""The command `latentd`."""
