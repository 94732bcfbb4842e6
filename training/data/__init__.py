"""The data sets that a recipe can name."""

from typing import Annotated

from pydantic import Field

from latentd.training.data.images import IdxImages, ImageFolder
from latentd.training.data.points import Mixture

DataConfig = Annotated[Mixture | IdxImages | ImageFolder, Field(discriminator="name")]

__all__ = ["DataConfig", "IdxImages", "ImageFolder", "Mixture"]
