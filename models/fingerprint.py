"""The fingerprint: everything that a sample's bytes depend on, apart from the sample's provenance."""

import hashlib
import json

import torch

from latentd.models.hardware import describe_device, driver_version
from latentd.models.packages import package_version

Fingerprint = dict[str, str | int]


def fingerprint_of(version: str, device: torch.device, determinism: str) -> Fingerprint:
    """Return the fingerprint of a checkpoint's `version` on `device`, with torch as it is configured in this process.

    `determinism`: `bitwise` if samples have the same bits in every batch, else `off`.
    """
    return {
        "weights": version,
        "dtype": "float32",
        "memory_format": "channels_last",
        "device": describe_device(device),
        "driver": driver_version(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "determinism": determinism,
        # encoders; their versions are read without importing them
        "imagecodecs": package_version("imagecodecs"),
        "pillow": package_version("pillow"),
        "av": package_version("av"),
    }


def fingerprint_id(fingerprint: Fingerprint) -> str:
    """Return 12 hex digits that identify a fingerprint."""
    text = json.dumps(fingerprint, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
