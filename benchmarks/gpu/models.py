"""The models to measure: a shipped one, and larger ones with random weights."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.rivals.work import MODEL
from latentd.models.card import Card, DataCard
from latentd.models.checkpoint import write_checkpoint
from latentd.models.conditions.none import NoCondition
from latentd.models.families import build_generator, families
from latentd.models.family import TwoStageGenerator
from latentd.models.file_names import SHIPPED
from latentd.models.inputs.latent import LatentInput
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.image import ImageOutput
from latentd.models.sampling import generate_rows
from latentd.models.spec import GeneratorSpec

_SPREAD = 0.5
"""Standard deviation of the pixels, in [-1, 1], about as of photographs: random weights give gray images, which are
encoded much faster."""


Write = Callable[[Path], Path]
"""Return a checkpoint file. It may be written into the folder."""


def models(smallest: bool) -> dict[str, Write]:
    """Return for each model a function that returns its file. The most wanted come first."""
    if smallest:
        return {"tiny": partial(write_random, image_spec("dcgan", 32, width=8))}
    found: dict[str, Write] = {MODEL: lambda _: SHIPPED / f"{MODEL}.safetensors"}
    found["dcgan-128"] = partial(write_random, image_spec("dcgan", 128))
    for name, family in families().items():
        if issubclass(family.generator, TwoStageGenerator):
            found[f"{name}-256"] = partial(write_random, image_spec(name, 256))
    return found


def write_random(spec: GeneratorSpec, folder: Path) -> Path:
    """Write a generator with random weights, whose images have about the contrast of photographs."""
    torch.manual_seed(0)
    generator = build_generator(spec).eval()
    spread = float(generate_rows(generator, seeds_to_rows(spec, range(16))).std())
    tensors = generator.state_dict()
    last = [name for name in tensors if name.endswith("weight")][-1]
    tensors[last] = tensors[last] * (_SPREAD / spread)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{folder.name}.safetensors"
    write_checkpoint(file, _card(spec), tensors)
    return file


def image_spec(family: str, side: int, **config: Any) -> GeneratorSpec:
    """Return the spec of square color images. `config`: what differs from the family's defaults."""
    return GeneratorSpec(
        family=family,
        config=families()[family].generator_config(**config).model_dump(mode="json"),
        input=LatentInput(dim=128, distribution="normal"),
        condition=NoCondition(),
        output=ImageOutput(channels=3, height=side, width=side),
    )


def _card(spec: GeneratorSpec) -> Card:
    return Card(
        spec=spec,
        recipe="none",
        description="random weights, for measurements",
        settings={},
        data=DataCard(name="none", size=0, sha256=None, licence="CC0-1.0"),
        steps=0,
        images_seen=0,
        seed=0,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=0.0,
        hardware="none",
        versions={},
        metrics={},
        licence="CC0-1.0",
    )
