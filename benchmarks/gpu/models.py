"""The models to measure: a shipped one, and larger ones with random weights."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.rivals.work import MODEL
from latentd.models.card import Card, DataCard
from latentd.models.checkpoint import Checkpoint, write_checkpoint
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


def write_models(folder: Path, smallest: bool) -> dict[str, Path]:
    """Write each checkpoint into a folder of its own. Return the files by name, the most important first."""
    shipped = Checkpoint.read(SHIPPED / f"{MODEL}.safetensors")
    found = {MODEL: write_checkpoint(_file(folder, MODEL), shipped.card, shipped.tensors)}
    for name, spec in () if smallest else _specs():
        found[name] = write_random(_file(folder, name), spec)
    return {name: _file(folder, name) for name in found}


def write_random(file: Path, spec: GeneratorSpec) -> Checkpoint:
    """Write a checkpoint of a generator with random weights, whose images have the contrast of photographs."""
    torch.manual_seed(0)
    generator = build_generator(spec).eval()
    spread = float(generate_rows(generator, seeds_to_rows(spec, range(16))).std())
    tensors = generator.state_dict()
    last = list(tensors)[-2 if list(tensors)[-1].endswith("bias") else -1]  # the weights of the last layer
    tensors[last] = tensors[last] * (_SPREAD / spread)
    return write_checkpoint(file, _card(spec), tensors)


def _file(folder: Path, name: str) -> Path:
    path = folder / name / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _specs() -> Iterator[tuple[str, GeneratorSpec]]:
    yield "dcgan-128", image_spec("dcgan", 128)
    for name, family in families().items():
        if issubclass(family.generator, TwoStageGenerator):
            yield f"{name}-256", image_spec(name, 256)


def image_spec(family: str, side: int, channels: int = 3) -> GeneratorSpec:
    """Return the spec of square images, with the family's defaults."""
    return GeneratorSpec(
        family=family,
        config=families()[family].generator_config().model_dump(mode="json"),
        input=LatentInput(dim=128, distribution="normal"),
        condition=NoCondition(),
        output=ImageOutput(channels=channels, height=side, width=side),  # type: ignore[arg-type]  # 1 or 3
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
