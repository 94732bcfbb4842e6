"""`latentd reproduce`."""
