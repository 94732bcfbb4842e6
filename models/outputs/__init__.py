"""Output kinds: the shape of a generator's samples and how they become bytes, one file for each modality."""

from typing import Annotated

from pydantic import Field

from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.points import PointsOutput

Output = Annotated[ImageOutput | PointsOutput, Field(discriminator="kind")]

__all__ = ["ImageOutput", "Output", "PointsOutput"]
