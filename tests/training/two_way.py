"""A small algorithm with two generators, two discriminators and two domains, in the place of CycleGAN.

It also has a family of its own, whose input is a picture.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from latentd import models
from latentd.models.families import build_discriminator, build_generator
from latentd.models.family import Discriminator, Family, FamilyConfig, Generator
from latentd.models.inputs.image import ImageInput
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import StageInput
from latentd.training.adversarial.objectives import OBJECTIVES
from latentd.training.algorithms.base import Algorithm, Trainable
from latentd.training.build import BuildContext
from latentd.training.data.loader import as_batch
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.evaluation.evaluate import generate_set
from latentd.training.evaluation.evaluator import EvaluationSet
from latentd.training.recipes.base import LearningRate, NetworkTable, OptimizedRecipe


class TinyTranslator(Generator):
    """A convolution of the picture."""

    def __init__(self, spec: GeneratorSpec, config: FamilyConfig) -> None:
        super().__init__(spec)
        del config
        self.convolution = nn.Conv2d(spec.input.shape[0], spec.output.shape[0], 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        samples: Tensor = self.convolution(z).tanh()
        return samples


class TwoWayRecipe(OptimizedRecipe):
    """`two-way`: pictures of domain `a` become pictures of domain `b`, and the other way round."""

    lr: LearningRate = 1e-3
    discriminator: NetworkTable = NetworkTable()

    @property
    def input(self) -> ImageInput:
        channels, height, width = self.data.output.shape
        return ImageInput(channels=channels, height=height, width=width)  # type: ignore[arg-type]

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        return super().builders | {"discriminator": self.build_discriminator}

    def build_discriminator(self, spec: GeneratorSpec) -> Discriminator:
        family = self.discriminator.family or spec.family
        return build_discriminator(spec.model_copy(update={"family": family}), self.discriminator.config)

    def build(self, context: BuildContext) -> "TwoWayAlgorithm":
        forth, back = (context.network(self, name, build_generator(context.spec)) for name in ("forth", "back"))
        of_a, of_b = (context.network(self, name, self.build_discriminator(context.spec)) for name in ("of_a", "of_b"))
        pictures, _ = next(context.source.domain("a").draw(self.batch_size, context.seed))  # the same after a resume
        return TwoWayAlgorithm(
            ema=Ema(forth, self.ema_decay),
            other_emas={"back": Ema(back, self.ema_decay)},
            batches=context.batches(self, "a"),
            batches_of_b=context.batches(self, "b"),
            forth=context.trainable(self, forth, self.lr),
            back=context.trainable(self, back, self.lr),
            of_a=context.trainable(self, of_a, self.lr),
            of_b=context.trainable(self, of_b, self.lr),
            pictures=as_batch(pictures, None, context.spec.condition, context.device).samples,
            seed=context.seed,
            world=context.world,
        )


@dataclass(kw_only=True)
class TwoWayAlgorithm(Algorithm):
    """Each generator deceives the discriminator of its target, and undoes what the other one does."""

    batches_of_b: Iterator[Batch]
    forth: Trainable[Generator]
    back: Trainable[Generator]
    of_a: Trainable[Discriminator]
    of_b: Trainable[Discriminator]
    pictures: Tensor
    """Pictures of domain a [N, C, H, W]: the inputs by which the run is watched."""

    divergence_hint = "lower lr"

    @property
    def trainables(self) -> dict[str, Trainable[Any]]:
        return {"forth": self.forth, "back": self.back, "of_a": self.of_a, "of_b": self.of_b}

    def probe_inputs(self, count: int, seed: int) -> Tensor:
        return self.pictures[torch.arange(count) % len(self.pictures)]

    def evaluation_set(self, seeds: range) -> EvaluationSet:
        def to_rows(numbers: range) -> StageInput:
            return StageInput(self.pictures[torch.tensor(numbers) % len(self.pictures)].numpy())

        return generate_set(self.ema.generator, seeds, to_rows)

    def step(self, step: int) -> dict[str, Tensor]:
        a, b = next(self.batches).samples, next(self.batches_of_b).samples
        losses = {}
        for name, source, target, there, back_again, judge in (
            ("forth", a, b, self.forth, self.back, self.of_b),
            ("back", b, a, self.back, self.forth, self.of_a),
        ):
            losses[f"of_{name}"] = judge.update([lambda: self._judge_loss(judge, there, source, target)])  # noqa: B023  # called at once
            with judge.frozen(), back_again.frozen():
                losses[name] = there.update([lambda: self._loss(judge, there, back_again, source)])  # noqa: B023  # called at once
        return losses

    @staticmethod
    def _judge_loss(judge: Trainable[Any], there: Trainable[Any], source: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            fake = there.network(source)
        return OBJECTIVES["least-squares"].discriminator_loss(judge.wrapped(target), judge.wrapped(fake))

    @staticmethod
    def _loss(judge: Trainable[Any], there: Trainable[Any], back_again: Trainable[Any], source: Tensor) -> Tensor:
        fake = there.wrapped(source)
        cycle = (back_again.network(fake) - source).abs().mean()
        return OBJECTIVES["least-squares"].generator_loss(judge.network(fake)) + cycle


RECIPES = {"two-way": TwoWayRecipe}


@contextmanager
def registered(folder: Path) -> Iterator[None]:
    """Register family and algorithm while the block runs. `folder` gets a file that stands for the algorithm's."""
    (folder / "two_way.py").write_text("from tests.training.two_way import RECIPES\n")
    families = models.families.families() | {"tiny_translator": Family(FamilyConfig, TinyTranslator)}
    package = importlib.import_module("latentd.training.algorithms")
    with (
        mock.patch.object(models.families, "families", return_value=families),
        mock.patch.object(package, "__path__", [*package.__path__, str(folder)]),
    ):
        yield
