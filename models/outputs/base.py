"""What every output kind offers to the code that trains, serves and draws samples."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import orjson
from numpy.typing import NDArray

from latentd.models.encoding.animation import MEDIA_TYPES as ANIMATION_TYPES
from latentd.models.encoding.animation import Frame
from latentd.models.encoding.metadata import embed_metadata
from latentd.models.encoding.npy import encode_npy
from latentd.models.kind import Kind
from latentd.models.stage_input import Rows

Samples = Rows
"""[N, *shape]."""
FrameData = NDArray[Any]
"""What an output kind needs of one sample to draw its frame."""

_PREVIEW_DIGITS = 3


class OutputKind(Kind, ABC):
    """The shape of one sample, and the formats that it can be encoded in.

    The bytes of an encoded sample depend only on its values and the format. Subclasses import their encoders on use, so
    that a spec can be read without them.
    """

    media_types: ClassVar[dict[str, str]]
    """Format name → media type, in order of preference."""
    default_format: ClassVar[str]
    bounded: ClassVar[bool]
    """Whether a generator's values lie in [-1, 1]."""
    quantized: ClassVar[str | None] = None
    """The dtype of quantized samples, by its name in NumPy and torch; None if samples cannot be quantized."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch dimension."""

    def stacked(self, count: int) -> Self:
        """Return the kind of `count` samples concatenated along dimension 0, for a packed discriminator."""
        raise ValueError(f"{self.kind} samples cannot be packed")

    @property
    def picture_size(self) -> tuple[int, int] | None:
        """Height and width of samples that are pictures, [channels, height, width]; else None."""
        return None

    # quantized samples: the integers that files hold, which a device copies faster than floats

    def quantize(self, samples: Any) -> Any:
        """Round samples [N, *shape] to the integers that files hold, but keep their dtype.

        Works for NumPy arrays and for torch tensors on any device, with the same bits. Samples are finite.
        """
        raise ValueError(f"{self.kind} samples cannot be quantized")

    def as_quantized(self, samples: Samples) -> Samples:
        """Return samples [N, *shape] with the dtype `quantized`; unchanged if they have it already."""
        if samples.dtype == self.quantized:
            return samples
        quantized: Samples = self.quantize(samples).astype(self.quantized)
        return quantized

    def accepts_quantized(self, format: str) -> bool:
        """Return whether `encode` and `combine` give the same file of `format` for quantized samples."""
        return False

    # one file for each sample

    @abstractmethod
    def encode(self, samples: Samples, format: str) -> list[bytes]:
        """Encode each of the samples [N, *shape] in `format`, one of `media_types`."""

    def embed(self, file: bytes, format: str, text: str) -> bytes:
        """Return an encoded file with `text` (ASCII) as metadata; unchanged if its format cannot hold it."""
        return embed_metadata(file, format, text)

    def json_value(self, file: bytes, format: str) -> bytes:
        """Return an encoded file as a value of a JSON answer: base64, or the JSON itself for format `json`."""
        return file if format == "json" else b'"' + base64.b64encode(file) + b'"'

    # one file for several samples

    def layouts(self, format: str) -> tuple[str, ...]:
        """Return the ways to put several samples into one file of `format`. The first is the default of raw answers."""
        return ("rows",) if format == "npy" else ()

    def combine(self, samples: Samples, format: str, layout: str) -> bytes:
        """Encode samples [N, *shape] as one file of `format` in one of its `layouts`: `rows` is an array of all."""
        if layout != "rows":
            raise ValueError(f"{self.kind} samples in format {format} have no layout {layout}")
        return encode_npy(samples)

    # animations

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width of a frame in an animation of samples; None if samples have no frames."""
        return None

    @property
    def animation_types(self) -> Mapping[str, str]:
        """Format name → media type of animations; empty if samples have no frames."""
        return ANIMATION_TYPES if self.frame_size else {}

    def frame_data(self, samples: Samples) -> list[FrameData]:
        """Return what `frames` needs of each of the samples [N, *shape]. It may take less memory than the sample.

        Raises ValueError if samples have no frames.
        """
        raise ValueError(f"{self.kind} samples have no frames")

    def frames(self, frame_data: Sequence[FrameData]) -> Iterator[Frame]:
        """Yield a frame of `frame_size` for each item of `frame_data`. Raises ValueError if samples have no frames."""
        raise ValueError(f"{self.kind} samples have no frames")

    # training

    def features(self, samples: Samples) -> Samples:
        """Return features [N, F], whose distances probes and evaluators compare. F is limited for large samples."""
        return samples.reshape(len(samples), -1)

    def preview(self, samples: Samples) -> tuple[bytes, str]:
        """Return a file that shows samples [N, *shape] in a report, and its suffix: here JSON with rounded numbers."""
        rows = [[round(value, _PREVIEW_DIGITS) for value in row] for row in samples.reshape(len(samples), -1).tolist()]
        return orjson.dumps({"samples": rows}), "json"
