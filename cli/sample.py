"""`latentd sample`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentd.models.errors import UsageError
from latentd.models.seeds import MAX_SEED
from latentd.training.program import CHECKPOINT
from latentd.training.run.interrupt import exit_on_ctrl_c

if TYPE_CHECKING:
    from latentd.models.checkpoint import Checkpoint
    from latentd.models.outputs.base import OutputKind
    from latentd.models.stage_input import Rows

_SUFFIX_FORMATS = {"jpg": "jpeg"}


class Seeds(click.ParamType[list[int]]):
    """Seeds as `7`, `0-63`, or several of these separated by commas."""

    name = "seeds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Return the seeds in the order given."""
        seeds: list[int] = []
        for part in str(value).split(","):
            match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if not first <= last <= MAX_SEED:
                self.fail(f"{part!r} is not a seed or a range of seeds from 0 to {MAX_SEED}", param, ctx)
            if len(seeds) + last - first >= _MOST_SEEDS:
                self.fail(f"at most {_MOST_SEEDS} seeds at a time", param, ctx)
            seeds.extend(range(first, last + 1))
        return seeds


_MOST_SEEDS = 4096  # a grid of these fits every format


@click.command()
@click.argument("checkpoint", type=CHECKPOINT)
@click.option("--seeds", type=Seeds(), default="0-63", show_default=True, help="For example 7 or 0-63 or 1,5,9.")
@click.option("--label", help="Class of all samples, by name or index, for a conditional generator.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
def sample(checkpoint: Path, seeds: list[int], label: str | None, output: Path) -> None:
    """Write samples of CHECKPOINT to one file. The ending is the format: .png, .webp, .jpg (grids), .npy.

    CHECKPOINT is a .safetensors file, a run, or the name of a model.
    """
    with exit_on_ctrl_c():
        import numpy as np
        import torch

        from latentd.models.checkpoint import Checkpoint
        from latentd.models.hardware import use_serving_threads
        from latentd.models.latents import seeds_to_rows
        from latentd.models.sampling import generate_rows

    read = Checkpoint.read(checkpoint)
    spec = read.card.spec
    format_name = _format(spec.output, output)
    rows = seeds_to_rows(spec, seeds)
    if label is not None:
        rows = replace(rows, condition=np.stack([condition_row(read, label)] * len(seeds)))
    use_serving_threads(torch.device("cpu"))
    samples = generate_rows(read.build(), rows)
    try:
        output.write_bytes(spec.output.combine(samples, format_name, spec.output.layouts(format_name)[0]))
    except OSError as problem:
        raise click.ClickException(f"{output} cannot be written: {problem}") from problem
    click.echo(f"{output}: {len(seeds)} samples of {read.name}@{read.version}")


def condition_row(checkpoint: "Checkpoint", label: str) -> "Rows":
    """Return the condition that `--label` names. Raises UsageError if there is none."""
    condition = checkpoint.card.spec.condition
    is_index = label.isdecimal() and condition.class_names and label not in condition.class_names
    try:
        return condition.parse(int(label) if is_index else label)
    except ValueError as problem:
        raise UsageError(f"--label: {checkpoint.name}: {problem}") from problem


def _format(kind: "OutputKind", output: Path) -> str:
    ending = output.suffix.lstrip(".").lower()
    format_name = _SUFFIX_FORMATS.get(ending, ending)
    possible = [name for name in kind.media_types if kind.layouts(name)]
    if format_name not in possible:
        endings = ", ".join(f".{name}" for name in sorted(possible))
        raise UsageError(f"--output: {output.name} must end in one of {endings}")
    return format_name
