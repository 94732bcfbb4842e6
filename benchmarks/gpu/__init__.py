"""Checks and measurements on a GPU: whether samples are right, the speed of serving and training, and short runs.

`python -m benchmarks.gpu` runs the parts one after another, each in a process of its own.
"""
