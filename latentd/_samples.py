"""Samples as an array that can show itself."""

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentd.models.encoding.animation import Frame
from latentd.models.outputs.base import OutputKind
from latentd.models.provenance import Provenance, ascii_json

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_PREVIEW = 256
"""Samples that a notebook shows; a larger array shows its first ones."""


class Samples(np.ndarray[Any, np.dtype[np.float32]]):
    """Samples [N, *shape], float32, as the generator gave them: images are in [-1, 1].

    It is an ordinary array. Indexing the first axis keeps the samples' provenance; arithmetic drops it.
    """

    output: OutputKind
    """The kind of the samples: an image, a point."""
    provenance: Sequence[Provenance] | None
    """What identifies each sample: model, version, fingerprint, seed or latent, label, truncation."""

    def __new__(
        cls, values: NDArray[np.float32], output: OutputKind, provenance: Sequence[Provenance] | None = None
    ) -> "Samples":
        samples = np.asarray(values, dtype=np.float32).view(cls)
        samples.output, samples.provenance = output, provenance
        return samples

    def __array_finalize__(self, parent: Any) -> None:
        self.output = getattr(parent, "output", None)  # type: ignore[assignment]  # __new__ sets it
        self.provenance = None

    def __reduce__(self) -> Any:
        return type(self), (np.asarray(self), self.output, self.provenance)

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, Samples) and self.provenance is not None and part.shape[1:] == self.shape[1:]:
            kept = np.arange(len(self))[key[0] if isinstance(key, tuple) else key]
            part.provenance = [self.provenance[index] for index in kept]
        return part

    @property
    def seeds(self) -> list[int | None]:
        """The seed of each sample; None for a sample between two seeds, and without provenance."""
        return [each.get("seed") for each in self.provenance or [{}] * len(self)]

    def images(self) -> "list[Image]":
        """Return a Pillow image for each sample. Raises TypeError if the samples are not images."""
        from PIL import Image

        return [Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels) for pixels in self._pixels()]

    def encode(self, format: str | None = None) -> list[bytes]:
        """Return each sample as a file: the bytes that the service sends, provenance included.

        `format`: one of the output kind's, for example png, webp, jpeg, npy; default: the kind's own.
        Raises ValueError for another format.
        """
        encoding = format or self.output.default_format
        if encoding not in self.output.media_types:
            raise ValueError(f"format is one of {', '.join(self.output.media_types)}, not {encoding!r}")
        files = self.output.encode(self._rows(), encoding)
        if self.provenance is None:
            return files
        texts = map(ascii_json, self.provenance)
        return [self.output.embed(file, encoding, text) for file, text in zip(files, texts, strict=True)]

    def _pixels(self) -> list[Frame]:
        if self.output.picture_size is None:
            raise TypeError(f"{self.output.kind} samples are not images; use the array itself")
        return self.output.frame_data(self._rows())

    def _rows(self) -> NDArray[np.float32]:
        """Return the plain array [N, *shape], also of a single sample."""
        return np.asarray(self).reshape(-1, *self.output.shape)

    def _repr_html_(self) -> str:
        """Return a grid of pictures for a notebook."""
        if self.output.picture_size is None:
            return f"<pre>{html.escape(repr(self))}</pre>"
        shown = self._rows()[:_MAX_PREVIEW]
        grid = base64.b64encode(self.output.combine(shown, "png", "grid")).decode()
        more = len(self._rows()) - len(shown)
        note = f"<br>and {more} more" if more else ""
        return f'<img src="data:image/png;base64,{grid}" alt="{len(shown)} samples">{note}'
