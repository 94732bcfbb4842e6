"""Measurements of latentd, and of what it is compared with. README.md lists the programs."""
