"""NumPy's .npy, version 1.0."""

import io

import numpy as np
from numpy.typing import NDArray


def encode_npy(values: NDArray[np.float32]) -> bytes:
    """Encode as little-endian float32 in C order."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def decode_npy(file: bytes) -> NDArray[np.float32]:
    """Return the array that `encode_npy` encoded, without a copy."""
    buffer = io.BytesIO(file)
    np.lib.format.read_magic(buffer)
    shape, _, _ = np.lib.format.read_array_header_1_0(buffer)
    return np.frombuffer(file, "<f4", offset=buffer.tell()).reshape(shape)
