"""Evaluation of generators: metrics, and the feature extractors that they are computed on."""
