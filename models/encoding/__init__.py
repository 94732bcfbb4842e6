"""Encoders and what is written into files, which the output kinds share. They are imported on use."""
