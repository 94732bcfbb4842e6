"""What latentd does on a GPU: is it right, how fast does it serve and train, and what does it learn in some minutes.

`python -m benchmarks.gpu` runs the parts one after another, each in a process of its own.
"""
