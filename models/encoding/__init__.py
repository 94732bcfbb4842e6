"""Encoders, decoders and embedded metadata, which the kinds share. The heavy ones are imported on use."""
