"""The data sets that a recipe can name."""

from typing import Annotated

from pydantic import Field

from latentd.training.data.images import IdxImages, ImageFolder
from latentd.training.data.points import GaussianMixture

DataConfig = Annotated[GaussianMixture | IdxImages | ImageFolder, Field(discriminator="name")]

__all__ = ["DataConfig", "GaussianMixture", "IdxImages", "ImageFolder"]
