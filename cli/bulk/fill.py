"""The work of `latentd bulk`: what a folder of shards is to hold, and filling it."""

import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from latentd.cli.bulk import ShardFormat
from latentd.cli.bulk.cluster import run_on_ray
from latentd.cli.bulk.folder import BulkFolder, control_folder
from latentd.cli.bulk.local import run_local
from latentd.cli.bulk.shard import BulkError
from latentd.cli.bulk.spec import BulkSpec
from latentd.cli.sample import condition_row
from latentd.models.checkpoint import Checkpoint
from latentd.models.errors import UsageError
from latentd.models.suggestions import did_you_mean
from latentd.training.data.source import TaskProgress
from latentd.training.program import INTERRUPTED
from latentd.training.run.lock import locked
from latentd.training.run.progress import Display


def bulk_spec(
    checkpoint: Path,
    *,
    seed: int,
    num: int,
    label: str | None,
    truncation: float,
    form: ShardFormat,
    format: str | None,
    shard_samples: int,
) -> BulkSpec:
    """Return what the shards are to hold. Raises UsageError if `checkpoint` has no such class or format."""
    read = Checkpoint.read(checkpoint)
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise click.ClickException("Parquet needs pyarrow: pip install 'latentd[parquet]', or --form webdataset")
    return BulkSpec(
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


def fill(out: Path, checkpoint: Path, spec: BulkSpec, address: str | None) -> set[str]:
    """Make the shards that `out` lacks, on the Ray cluster at `address` if there is one. Return all fingerprints."""
    with locked(control_folder(out)):
        folder = BulkFolder(out, spec)
        if folder.samples < spec.num:
            _make_missing(folder, checkpoint, spec, address)
    return folder.fingerprints


def _make_missing(folder: BulkFolder, checkpoint: Path, spec: BulkSpec, address: str | None) -> None:
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
        sys.exit(INTERRUPTED)


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
        raise UsageError(
            f"--format: {read.name} has no format {requested!r}{did_you_mean(requested, output.media_types)}; "
            f"it has {', '.join(output.media_types)}"
        )
    return requested or output.default_format


def _class_index(checkpoint: Checkpoint, label: str) -> int:
    if not checkpoint.card.spec.condition.class_names:
        raise UsageError(f"--label: {checkpoint.name} has no classes")
    return int(condition_row(checkpoint, label).argmax())
