"""The generator families, one file each, and the registry that finds them.

A module in this folder is a family: it defines `FAMILY`, and its own file name is the family's name.
"""

import importlib
import pkgutil
from functools import cache
from typing import Any

import torch

from latentd.models.family import Discriminator, Encoder, Family, Generator
from latentd.models.spec import GeneratorSpec


@cache
def families() -> dict[str, Family]:
    """Every family by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").FAMILY for name in names}


def get_family(name: str) -> Family:
    """The family of this name; ValueError where there is none."""
    try:
        return families()[name]
    except KeyError:
        raise ValueError(f"unknown family {name!r}; known are {', '.join(families())}") from None


def build_generator(spec: GeneratorSpec) -> Generator:
    """A generator with freshly drawn weights; ValueError where the family cannot be what `spec` says."""
    family = get_family(spec.family)
    generator: Generator = family.generator(spec, family.generator_config.model_validate(spec.config))
    return generator


def build_discriminator(spec: GeneratorSpec, config: dict[str, Any], pack_size: int = 1) -> Discriminator:
    """The family's discriminator with freshly drawn weights, for samples of `spec`, or for so many `together`.

    ValueError where it has none, or none for such samples.
    """
    family = get_family(spec.family)
    if family.discriminator_config is None:
        raise ValueError(f"family {spec.family} has none")
    judged = spec.model_copy(update={"output": spec.output.stacked(pack_size)})
    discriminator: Discriminator = family.discriminator(judged, family.discriminator_config.model_validate(config))
    return discriminator


def build_encoder(spec: GeneratorSpec, config: dict[str, Any], outputs: int) -> Encoder:
    """The family's encoder with freshly drawn weights, of samples of `spec`; ValueError where it has none for them."""
    family = get_family(spec.family)
    if family.encoder_config is None:
        raise ValueError(f"family {spec.family} has none")
    encoder: Encoder = family.encoder(spec, family.encoder_config.model_validate(config), outputs)
    return encoder


def generator_shapes(spec: GeneratorSpec) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Name → shape and dtype of every tensor of `spec`'s generator, found without taking memory for one."""
    with torch.device("meta"):
        return {name: (tensor.shape, tensor.dtype) for name, tensor in build_generator(spec).state_dict().items()}
