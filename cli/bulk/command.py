"""`latentd bulk`."""

from pathlib import Path
from typing import get_args

import click

from latentd.cli.bulk import ShardFormat
from latentd.models.seeds import MAX_SEED
from latentd.training.program import CHECKPOINT
from latentd.training.run.interrupt import exit_on_ctrl_c


@click.command()
@click.argument("checkpoint", type=CHECKPOINT)
@click.option("--num", type=click.IntRange(1), required=True, help="Number of samples.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the shards.")
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Seed of the first sample."
)
@click.option("--label", help="Class of all samples, by name or index. [default: each seed's own]")
@click.option("--truncation", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option(
    "--form",
    type=click.Choice(get_args(ShardFormat)),
    default="parquet",
    show_default=True,
    help="File format of the shards, which hold many samples each. Not --format.",
)
@click.option(
    "--format",
    help="Encoding of each sample in the shards: png, webp, jpeg, npy, json. Not --form. "
    "[default: png for images, json for points]",
)
@click.option("--shard-samples", type=click.IntRange(1), default=10_000, show_default=True, help="Samples per shard.")
@click.option("--ray", "address", metavar="ADDRESS", help="Use a Ray cluster; `auto` is the one on this machine.")
def bulk(
    checkpoint: Path,
    num: int,
    out: Path,
    seed: int,
    label: str | None,
    truncation: float,
    form: ShardFormat,
    format: str | None,
    shard_samples: int,
    address: str | None,
) -> None:
    """Write samples of CHECKPOINT into a folder, as Parquet files or WebDataset tar files.

    CHECKPOINT is a .safetensors file, a run, or the name of a model. Sample i has the seed SEED + i. If the folder is
    unfinished, the same command continues it.
    """
    if seed + num - 1 > MAX_SEED:
        raise click.BadParameter(
            f"the last seed would be {seed + num - 1}, the largest is {MAX_SEED}", param_hint="--num"
        )
    with exit_on_ctrl_c():
        from latentd.cli.bulk.fill import bulk_spec, fill

    spec = bulk_spec(
        checkpoint,
        seed=seed,
        num=num,
        label=label,
        truncation=truncation,
        form=form,
        format=format,
        shard_samples=shard_samples,
    )
    fingerprints = fill(out, checkpoint, spec, address)
    if len(fingerprints) > 1:
        click.echo(
            f"the shards have several fingerprints ({', '.join(sorted(fingerprints))}): "
            "their last bits may differ from those of one machine"
        )
    click.echo(f"{out}: {num} samples of {spec.model}@{spec.version}")
