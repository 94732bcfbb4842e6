"""Output kinds: what a generator's samples are and how they become bytes, one file a modality."""

from typing import Annotated

from pydantic import Field

from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.points import PointsOutput

Output = Annotated[ImageOutput | PointsOutput, Field(discriminator="kind")]

__all__ = ["ImageOutput", "Output", "PointsOutput"]
