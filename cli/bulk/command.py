"""`latentd bulk`."""

import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import get_args

import click

from latentd.cli.bulk.cluster import run_on_ray
from latentd.cli.bulk.folder import BulkFolder, control_folder
from latentd.cli.bulk.local import run_local
from latentd.cli.bulk.shard import BulkError
from latentd.cli.bulk.spec import BulkSpec, ShardFormat
from latentd.cli.sample import condition_row
from latentd.models.checkpoint import Checkpoint
from latentd.models.seeds import MAX_SEED
from latentd.training.data.source import TaskProgress
from latentd.training.run.lock import locked
from latentd.training.run.progress import Display

_INTERRUPTED = 130


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--num", type=click.IntRange(1), required=True, help="Number of samples.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the shards.")
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Seed of the first sample."
)
@click.option("--label", help="Class of all samples, by name or index. [default: each seed's own]")
@click.option("--truncation", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option("--form", type=click.Choice(get_args(ShardFormat)), default="parquet", show_default=True)
@click.option("--format", help="Format of a sample: png, webp, jpeg, npy, json. [default: by the kind of output]")
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

    Sample i has the seed SEED + i. If the folder is unfinished, the same command continues it.
    """
    read = Checkpoint.read(checkpoint)
    if seed + num - 1 > MAX_SEED:
        raise click.BadParameter(
            f"the last seed would be {seed + num - 1}, the largest is {MAX_SEED}", param_hint="--num"
        )
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise click.ClickException("Parquet needs pyarrow: pip install 'latentd[parquet]', or --form webdataset")
    spec = BulkSpec(
        model=read.name,
        version=read.version,
        seed=seed,
        num=num,
        label=None if label is None else _class_index(read, label),
        truncation=truncation,
        form=form,
        format=_format(read, format),
        shard_samples=shard_samples,
    )
    with locked(control_folder(out)):
        folder = BulkFolder(out, spec)
        if folder.samples < num:
            _fill(folder, checkpoint, spec, address)
    if len(folder.fingerprints) > 1:
        click.echo(
            f"the shards have several fingerprints ({', '.join(sorted(folder.fingerprints))}): "
            "their last bits may differ from those of one machine"
        )
    click.echo(f"{out}: {num} samples of {read.name}@{read.version}")


def _fill(folder: BulkFolder, checkpoint: Path, spec: BulkSpec, address: str | None) -> None:
    missing = folder.missing()
    shards = run_on_ray(address, checkpoint, spec, missing) if address else run_local(checkpoint, spec, missing)
    try:
        with _sigterm_as_ctrl_c(), Display(hidden=False) as display, closing(shards):
            task = f"sampling {spec.model}"
            display.update(TaskProgress(task, folder.samples, spec.num, "samples"))
            for shard in shards:
                folder.add(shard)
                display.update(TaskProgress(task, folder.samples, spec.num, "samples"))
        folder.finish()
    except BulkError as problem:
        raise click.ClickException(f"{problem} ({_progress(folder, spec)})") from problem
    except KeyboardInterrupt:
        click.echo(f"\nstopped: {_progress(folder, spec)}", err=True)
        sys.exit(_INTERRUPTED)


def _progress(folder: BulkFolder, spec: BulkSpec) -> str:
    return f"{folder.samples_on_disk()} of {spec.num} samples are finished; repeat the command to continue"


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the block."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _format(read: Checkpoint, requested: str | None) -> str:
    output = read.card.spec.output
    if requested is not None and requested not in output.media_types:
        raise click.BadParameter(f"{read.name} has the formats {', '.join(output.media_types)}", param_hint="--format")
    return requested or output.default_format


def _class_index(checkpoint: Checkpoint, label: str) -> int:
    if not checkpoint.card.spec.condition.class_names:
        raise click.BadParameter(f"{checkpoint.name} has no classes", param_hint="--label")
    return int(condition_row(checkpoint, label).argmax())
