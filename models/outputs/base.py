"""What every output kind offers to those who train, serve and draw samples."""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from latentd.models.outputs.animation import Frame

Samples = NDArray[np.float32]
FrameData = NDArray[Any]


class OutputKind(BaseModel, ABC):
    """The shape of one sample and the formats it can be encoded in.

    An encoded sample depends on the sample's values and the format alone, so the same sample is the same bytes in
    any answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    media_types: ClassVar[dict[str, str]]
    """Format name → media type of its bytes, in order of preference."""
    default_format: ClassVar[str]
    grid_formats: ClassVar[frozenset[str]] = frozenset()
    """Formats in which several samples can be laid out as one picture."""
    bounded: ClassVar[bool]
    """Whether a generator's values lie in [-1, 1]."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch dimension."""

    @abstractmethod
    def stacked(self, count: int) -> Self:
        """The shape of `count` samples beside one another along the first dimension, as networks may see them."""

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width of a film whose frames are samples; None where they cannot be that."""
        return None

    @abstractmethod
    def encode(self, samples: Samples, format: str) -> list[bytes]:
        """Encode samples [N, *shape] in one of `media_types`, each by itself."""

    def encode_grid(self, samples: Samples, format: str) -> bytes:
        """Encode samples [N, *shape] as one picture in one of `grid_formats`."""
        raise ValueError(f"a {format} grid of these samples does not exist")

    def frame_data(self, samples: Samples) -> list[FrameData]:
        """Samples [N, *shape] → what `draw` needs of each, which may be kept in the place of the sample."""
        raise ValueError(f"{self.kind} samples have no frames")

    def frames(self, frame_data: Sequence[FrameData]) -> Iterator[Frame]:
        """The frames of a film whose samples were sketched, all of a size."""
        raise ValueError(f"{self.kind} samples have no frames")


def encode_npy(values: Samples) -> bytes:
    """NumPy's .npy format, version 1.0, little-endian float32 in C order."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def decode_npy(file: bytes) -> Samples:
    """What `encode_npy` encoded, without a copy."""
    buffer = io.BytesIO(file)
    np.lib.format.read_magic(buffer)
    shape, _, _ = np.lib.format.read_array_header_1_0(buffer)
    return np.frombuffer(file, "<f4", offset=buffer.tell()).reshape(shape)
