"""The fingerprint: everything that a sample's bytes depend on, besides what names the sample."""

import hashlib
import json

import av
import imagecodecs
import PIL
import torch

from latentd.models.hardware import describe_device, driver_version

Fingerprint = dict[str, str | int]


def fingerprint_of(version: str, device: torch.device, determinism: str) -> Fingerprint:
    """That of a checkpoint's `version` on `device`, as torch is set up in this process.

    `determinism`: `bitwise` where samples are the same to the bit in any batch, else `off`.
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
        "imagecodecs": imagecodecs.__version__,
        "pillow": PIL.__version__,
        "av": av.__version__,
    }


def fingerprint_id(fingerprint: Fingerprint) -> str:
    """12 hex digits that stand for it."""
    text = json.dumps(fingerprint, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
