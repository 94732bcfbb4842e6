"""Generators: spec, networks, latents, samples and checkpoint files.

This package imports nothing of training or serving. See docs/architecture.md.
"""
