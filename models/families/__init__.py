"""The generator families and the registry that finds them.

Each module in this folder is a family: its file name is the family's name, and it defines `FAMILY`.
"""

from functools import cache
from typing import Any

import torch

from latentd.models.family import Control, Discriminator, Encoder, Family, Generator
from latentd.models.kind import members
from latentd.models.spec import GeneratorSpec
from latentd.models.suggestions import unknown


@cache
def families() -> dict[str, Family]:
    """Return every family by name."""
    return members(__name__, "FAMILY")


def get_family(name: str) -> Family:
    """Return the family of this name. Raises ValueError if there is none."""
    try:
        return families()[name]
    except KeyError:
        raise ValueError(unknown("family", name, families())) from None


def build_generator(spec: GeneratorSpec) -> Generator:
    """Build a generator with newly initialized weights. Raises ValueError if its family does not support `spec`."""
    family = get_family(spec.family)
    generator: Generator = family.generator(spec, family.generator_config.model_validate(spec.config))
    generator.controls = family.controls(spec)
    return generator


def controls_of(spec: GeneratorSpec) -> tuple[Control, ...]:
    """Return the controls of `spec`'s generator: the numbers that a request may set for its samples."""
    return get_family(spec.family).controls(spec)


def build_discriminator(spec: GeneratorSpec, config: dict[str, Any], pack_size: int = 1) -> Discriminator:
    """Build the family's discriminator with newly initialized weights, for samples of `spec`.

    `pack_size`: number of samples that one logit judges (PacGAN), concatenated along the first dimension. Raises
    ValueError if the family has no discriminator, or does not support such samples.
    """
    family = get_family(spec.family)
    if family.discriminator_config is None:
        raise ValueError(f"family {spec.family} has no discriminator")
    packed = spec.model_copy(update={"output": spec.output.stacked(pack_size)})
    discriminator: Discriminator = family.discriminator(packed, family.discriminator_config.model_validate(config))
    return discriminator


def build_encoder(spec: GeneratorSpec, config: dict[str, Any], outputs: int) -> Encoder:
    """Build the family's encoder with newly initialized weights, from samples of `spec` to `outputs` numbers.

    Raises ValueError if the family has no encoder, or does not support such samples.
    """
    family = get_family(spec.family)
    if family.encoder_config is None:
        raise ValueError(f"family {spec.family} has no encoder")
    encoder: Encoder = family.encoder(spec, family.encoder_config.model_validate(config), outputs)
    return encoder


def generator_shapes(spec: GeneratorSpec) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return name → shape and dtype of every tensor of `spec`'s generator, without memory for the tensors.

    Raises ValueError if the family does not support `spec`.
    """
    with torch.device("meta"):
        return {name: (tensor.shape, tensor.dtype) for name, tensor in build_generator(spec).state_dict().items()}
