"""One rank of test_ranks: trains networks in a given dtype and writes their weights and gradients to a file.

`python -m tests.training.one_rank FOLDER STEPS DTYPE`, alone or under torchrun.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from latentd.models.families import build_discriminator, build_generator
from latentd.training.adversarial.objectives import OBJECTIVES
from latentd.training.adversarial.penalties import PENALTIES, Penalty
from latentd.training.algorithms.base import Network, Trainable
from latentd.training.algorithms.gan import GanAlgorithm
from latentd.training.build import draw_latents
from latentd.training.data.loader import load_batches
from latentd.training.data.sets.points import GaussianMixture
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.loop import train
from latentd.training.world import World, join_world
from tests.conftest import points_spec

CPU = torch.device("cpu")
BATCH = 16


def train_points(world: World, steps: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Train networks without batch statistics. Return their weights, and the gradients of the last step."""
    torch.manual_seed(0)
    spec = points_spec()
    generator = build_generator(spec).to(dtype)
    discriminator = build_discriminator(spec, {"hidden": (16,)}).to(dtype)

    def with_adam(network: Network) -> Trainable[Network]:
        return Trainable(network, torch.optim.Adam(network.parameters()), world.wrap(network, CPU), 1e-2)

    source = GaussianMixture(name="ring").load(None, lambda _: None)
    latents = partial(draw_latents, spec, 0, CPU, world)
    algorithm = GanAlgorithm(
        generator=with_adam(generator),
        discriminator=with_adam(discriminator),
        objective=OBJECTIVES["relativistic"],
        ema=Ema(generator, 0.9),
        batches=(
            Batch(batch.samples.to(dtype)) for batch in load_batches(source, spec.condition, BATCH, 0, 0, CPU, world)
        ),
        draw_latents=lambda *purpose: latents(*purpose).to(dtype),
        seed=0,
        penalties=[Penalty(PENALTIES["r1"], 0.1), Penalty(PENALTIES["r2"], 0.1, every=2)],
        microbatches=2,
        world=world,
    )
    train(algorithm, steps, lambda *_: None)
    result = {}
    for name, network in (
        ("generator", generator),
        ("discriminator", discriminator),
        ("average", algorithm.ema.generator),
    ):
        result |= {f"{name}/{key}": value.detach().clone() for key, value in network.state_dict().items()}
        result |= {f"{name}/{key}.grad": p.grad for key, p in network.named_parameters() if p.grad is not None}
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    with join_world(CPU) as (its_world, _):
        tensors = train_points(its_world, int(sys.argv[2]), getattr(torch, sys.argv[3]))
    save_file(tensors, Path(sys.argv[1]) / f"rank{its_world.rank}.safetensors")
