"""What every output kind offers to the code that trains, serves and draws samples."""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Samples = NDArray[np.float32]
"""[N, *shape]."""
Frame = NDArray[np.uint8]
"""[H, W, C] with C = 1 (grey) or 3 (RGB)."""
FrameData = NDArray[Any]
"""What an output kind needs of one sample to draw its frame."""


class OutputKind(BaseModel, ABC):
    """The shape of one sample, and the formats that it can be encoded in.

    The bytes of an encoded sample depend on its values and the format alone. Subclasses import their encoders on use,
    so that a spec can be read without them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    media_types: ClassVar[dict[str, str]]
    """Format name → media type, in order of preference."""
    default_format: ClassVar[str]
    grid_formats: ClassVar[frozenset[str]] = frozenset()
    """Formats that can show several samples as one grid."""
    bounded: ClassVar[bool]
    """Whether a generator's values lie in [-1, 1]."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch dimension."""

    @abstractmethod
    def stacked(self, count: int) -> Self:
        """Return the kind of `count` samples concatenated along dimension 0, as a discriminator may see them."""

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width of a frame in an animation of samples; None if samples have no frames."""
        return None

    @abstractmethod
    def encode(self, samples: Samples, format: str) -> list[bytes]:
        """Encode each of the samples [N, *shape] in `format`, one of `media_types`."""

    def encode_grid(self, samples: Samples, format: str) -> bytes:
        """Encode samples [N, *shape] as one grid in `format`. Raises ValueError unless it is in `grid_formats`."""
        raise ValueError(f"{self.kind} samples have no {format} grid")

    def frame_data(self, samples: Samples) -> list[FrameData]:
        """Return what `frames` needs of each of the samples [N, *shape]. It may take less memory than the sample.

        Raises ValueError if samples have no frames.
        """
        raise ValueError(f"{self.kind} samples have no frames")

    def frames(self, frame_data: Sequence[FrameData]) -> Iterator[Frame]:
        """Yield a frame of `frame_size` for each item of `frame_data`. Raises ValueError if samples have no frames."""
        raise ValueError(f"{self.kind} samples have no frames")


def encode_npy(values: Samples) -> bytes:
    """Encode as NumPy's .npy, version 1.0: little-endian float32 in C order."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def decode_npy(file: bytes) -> Samples:
    """Return the array that `encode_npy` encoded, without a copy."""
    buffer = io.BytesIO(file)
    np.lib.format.read_magic(buffer)
    shape, _, _ = np.lib.format.read_array_header_1_0(buffer)
    return np.frombuffer(file, "<f4", offset=buffer.tell()).reshape(shape)
