"""Training of the embedded picture network: `python -m latentd.training.evaluation.train_picture_network`.

The pictures come from packages (`pip install 'latentd[pictures]'`, and icons by `--icons`): see picture_collections.py.
The network learns two things at once: to recognize a picture in two different views of it, among others of the same
collection (SimCLR, https://arxiv.org/abs/2002.05709), so that its features tell what is in a picture; and to name what
is wrong with a picture, so that they tell how well it is made.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, cross_entropy, grid_sample, interpolate, normalize

from latentd.models.tensor_files import write_tensors
from latentd.training.evaluation.picture_collections import Collection, load_collections
from latentd.training.evaluation.picture_network import PICTURE_WEIGHTS_FILE, PictureNetwork
from latentd.training.randomness import generator_for, seed_default, seed_for
from latentd.training.schedule import schedule

_TEMPERATURE = 0.2
_PROJECTED = 128
_FAULTY = 4
"""One of so many pictures of a batch is shown with a fault."""

Fault = Callable[[Tensor], Tensor]
"""Pictures [N, 3, H, W] in [-1, 1] → the same with a fault that generators have."""


def _view(pictures: Tensor) -> Tensor:
    """Mirror, move, scale and tint each picture at random."""
    count = len(pictures)
    scale = torch.empty(count).uniform_(0.6, 1.1)
    aspect = torch.empty(count).uniform_(0.9, 1.1)
    mirror = torch.randint(2, (count,)) * 2.0 - 1.0
    shift = (torch.rand(count, 2) - 0.5) * 0.5
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * aspect * mirror, scale / aspect, shift
    moved = grid_sample(
        pictures,
        affine_grid(theta, list(pictures.shape), align_corners=False),
        padding_mode="border",
        align_corners=False,
    )
    gain = torch.empty(count, 3, 1, 1).uniform_(0.7, 1.2) * torch.empty(count, 1, 1, 1).uniform_(0.7, 1.2)
    return (moved * gain + torch.empty(count, 1, 1, 1).uniform_(-0.2, 0.2)).clamp(-1, 1)


def _sizes(pictures: Tensor, least: float, most: float) -> Tensor:
    return torch.empty(len(pictures), 1, 1, 1).uniform_(least, most)


def _blurred(pictures: Tensor) -> Tensor:
    soft = avg_pool2d(avg_pool2d(pictures, 5, 1, 2, count_include_pad=False), 3, 1, 1, count_include_pad=False)
    return pictures.lerp(soft, _sizes(pictures, 0.6, 1.0))


def _noisy(pictures: Tensor) -> Tensor:
    return (pictures + torch.randn_like(pictures) * _sizes(pictures, 0.05, 0.3)).clamp(-1, 1)


def _checkered(pictures: Tensor) -> Tensor:
    """Add the pattern of transposed convolutions."""
    rows, columns = (torch.arange(side) % 2 * 2.0 - 1.0 for side in pictures.shape[2:])
    return (pictures + _sizes(pictures, 0.05, 0.25) * rows[:, None] * columns).clamp(-1, 1)


def _coarse(pictures: Tensor) -> Tensor:
    return interpolate(avg_pool2d(pictures, 4), scale_factor=4.0, mode="bilinear")


def _blended(pictures: Tensor) -> Tensor:
    """Mix each picture with another one."""
    return pictures.lerp(pictures.roll(1, 0), _sizes(pictures, 0.3, 0.5))


def _bent(pictures: Tensor) -> Tensor:
    """Move pixels by smooth random amounts."""
    count, side = len(pictures), pictures.shape[2]
    amounts = torch.randn(count, 2, 6, 6) * _sizes(pictures, 0.06, 0.16)
    field = interpolate(amounts, (side, side), mode="bicubic").permute(0, 2, 3, 1)
    plain = affine_grid(torch.eye(2, 3).expand(count, 2, 3), list(pictures.shape), align_corners=False)
    return grid_sample(pictures, plain + field, padding_mode="border", align_corners=False)


def _pieced(pictures: Tensor) -> Tensor:
    """Take a quarter from another picture, at a random place."""
    side = pictures.shape[2]
    place = torch.randint(side // 2, (len(pictures), 2, 1, 1))
    rows, columns = torch.arange(side)[:, None], torch.arange(side)
    inside = (rows >= place[:, :1]) & (rows < place[:, :1] + side // 2)
    inside = inside & (columns >= place[:, 1:]) & (columns < place[:, 1:] + side // 2)
    return torch.where(inside, pictures.roll(1, 0), pictures)


FAULTS: dict[str, Fault] = {
    "none": lambda pictures: pictures,
    "blurred": _blurred,
    "noisy": _noisy,
    "checkered": _checkered,
    "coarse": _coarse,
    "blended": _blended,
    "bent": _bent,
    "pieced": _pieced,
}


def train_picture_network(
    collections: Mapping[str, Collection], steps: int, seed: int, batch_size: int = 128, width: int = 32
) -> tuple[PictureNetwork, dict[str, float]]:
    """Return the network in evaluation mode, and the mean losses and accuracies of the last tenth of the steps.

    The same `seed` gives the same weights on the same machine.
    """
    seed_default(seed_for(seed, "picture network"))
    network = PictureNetwork(width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    project = nn.Sequential(nn.Linear(network.num_features, 256), nn.ReLU(), nn.Linear(256, _PROJECTED))
    name_fault = nn.Linear(network.num_features, len(FAULTS))
    parameters = [parameter for part in (network, project, name_fault) for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.02, fused=True)
    factor = schedule(steps, "cosine", warmup=min(100, steps // 4))
    random = generator_for(seed, "batches")
    last: list[dict[str, float]] = []
    names = list(collections)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = 2e-3 * factor(step)
        pictures = collections[names[step % len(names)]].draw(batch_size, random)
        faulty, faults = _with_faults(pictures[: batch_size // _FAULTY * 2])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = network(torch.cat([_view(pictures), _view(pictures), faulty]))
            views, fault_logits = project(features[: 2 * batch_size]), name_fault(features[2 * batch_size :])
        recognition, recognized = _recognition(views.float())
        naming = cross_entropy(fault_logits.float(), faults)
        optimizer.zero_grad()
        (recognition + naming).backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        optimizer.step()
        facts = {
            "recognition_loss": float(recognition.detach()),
            "recognized": recognized,
            "fault_loss": float(naming.detach()),
            "faults_named": float((fault_logits.argmax(dim=1) == faults).float().mean()),
        }
        if step > steps * 0.9:
            last.append(facts)
        if step % 20 == 0:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in facts.items())
            click.echo(f"step {step} of {steps}: {shown}", err=True)
    means = {name: sum(each[name] for each in last) / len(last) for name in facts}
    return network.eval(), means


def _with_faults(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return pictures with faults, and the number of each one's fault."""
    parts = pictures.chunk(len(FAULTS))
    changed = [fault(part) for fault, part in zip(FAULTS.values(), parts, strict=True)]
    return torch.cat(changed), torch.repeat_interleave(torch.arange(len(FAULTS)), torch.tensor([*map(len, parts)]))


def _recognition(views: Tensor) -> tuple[Tensor, float]:
    """Return the loss NT-Xent of views [2 N, values], and the fraction of views whose other view is the nearest."""
    count = len(views) // 2
    unit = normalize(views)
    logits = (unit @ unit.T / _TEMPERATURE).fill_diagonal_(-torch.inf)
    others = torch.arange(2 * count).roll(count)
    return cross_entropy(logits, others), float((logits.argmax(dim=1) == others).float().mean())


@click.command()
@click.option(
    "--icons",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Folder with the npm packages @iconify-json/noto and @iconify-json/fluent-emoji-flat, unpacked.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).with_name(PICTURE_WEIGHTS_FILE))
@click.option("--steps", type=click.IntRange(10), default=400, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(icons: Path, out: Path, steps: int, seed: int) -> None:
    """Train the embedded picture network, and write it with a card of how it was trained."""
    collections = load_collections(icons)
    network, facts = train_picture_network(collections, steps, seed)
    card = {
        "steps": steps,
        "seed": seed,
        "torch": torch.__version__,
        "last_tenth": facts,
        "collections": {name: each.facts() for name, each in collections.items()},
        "licence": "Apache-2.0",
    }
    state = network.state_dict()
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_tensors(out, halves, {"latentd.picture_network": json.dumps(card)})
    click.echo(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
