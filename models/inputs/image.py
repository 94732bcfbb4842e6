"""A picture that is read from a file."""

import hashlib
from typing import Any, Literal

import numpy as np
from pydantic import Field

from latentd.models.inputs.base import InputKind, Operation
from latentd.models.provenance import Provenance
from latentd.models.stage_input import Rows

_OPERATIONS: frozenset[Operation] = frozenset({"translate"})


class ImageInput(InputKind):
    """A gray (1 channel) or RGB (3 channels) picture of one size; -1 is black, 1 is full brightness."""

    kind: Literal["image"] = "image"
    channels: Literal[1, 3]
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    other_sizes: Literal["crop", "refuse"] = "crop"
    """`crop`: a picture of another size is scaled until it covers this one, and its middle is used."""

    @property
    def operations(self) -> frozenset[Operation]:
        return _OPERATIONS

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def draw(self, stream: np.random.RandomState) -> Rows:
        return stream.uniform(-1.0, 1.0, self.shape).astype(np.float32)

    def count_pixels(self, file: bytes) -> int:
        from latentd.models.encoding.image_decoder import count_pixels

        return count_pixels(file)

    def read(self, file: bytes) -> tuple[Rows, Provenance]:
        from latentd.models.encoding.image_decoder import decode_image

        pixels = decode_image(file, self.channels, self.height, self.width, crop=self.other_sizes == "crop")
        row = (pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)  # [C, H, W]
        return np.ascontiguousarray(row), {"image_sha256": hashlib.sha256(file).hexdigest()}

    def describe(self) -> dict[str, Any]:
        picture = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
        return {"images": {"type": "array", "items": picture}}


KIND = ImageInput
