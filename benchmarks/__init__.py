"""Measurements of latentd, and of what it is compared with. Each program is run by hand; see README.md."""
