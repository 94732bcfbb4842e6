"""`latentd runs`."""
