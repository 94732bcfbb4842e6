"""Generators: spec, networks, latents, samples and checkpoint files.

This package imports nothing from training/, service/ or cli/. See docs/architecture.md.
"""
