"""What a generator is: its spec, its networks, its latents, its samples and the file that keeps it.

This package knows nothing of training or serving. See docs/architecture.md.
"""
