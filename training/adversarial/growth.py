"""Networks whose resolution grows while they train. Karras et al. 2017, https://arxiv.org/abs/1710.10196, section 2."""

from collections.abc import Iterable

from pydantic import PositiveInt
from torch import nn

from latentd.models.family import GrowingNetwork
from latentd.training.recipes.base import Table
from latentd.training.schedule import Schedule


class GrowthTable(Table):
    """The `[growth]` table: how many images the networks see at each resolution."""

    hold: PositiveInt
    """Number of real images at a resolution before the next one begins."""
    fade: PositiveInt
    """Number of real images in which a new resolution fades in."""

    def schedule(self, images_per_step: int) -> Schedule:
        """Return the networks' level by step. The level depends on the step alone, so there is nothing to save."""

        def level(step: int) -> float:
            resolution, images = divmod((step - 1) * images_per_step, self.hold + self.fade)
            return resolution + max(0, images - self.hold) / self.fade

        return level


def grow(networks: Iterable[nn.Module], level: float) -> None:
    """Set the level of those of `networks` that grow, up to the top level of each."""
    for network in networks:
        if isinstance(network, GrowingNetwork):
            network.level = min(level, network.top_level)
