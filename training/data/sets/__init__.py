"""The data sets that a recipe can name. Each module in this folder defines `DATA_SETS`, a tuple of their settings."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from latentd.models.kind import members
from latentd.training.data.source import DataSettings

if TYPE_CHECKING:
    DataConfig = DataSettings
else:
    _settings = [settings for found in members(__name__, "DATA_SETS").values() for settings in found]
    DataConfig = Annotated[reduce(or_, _settings), Field(discriminator="name")]
