"""`latentd evaluate`."""

import json
from functools import partial
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.training.data import DataConfig
from latentd.training.data.source import DataError, DataSettings, TaskProgress
from latentd.training.directory import OutputError
from latentd.training.evaluation.evaluate import MetricResult, evaluate_generator, sets, with_metrics
from latentd.training.evaluation.inception import load_inception
from latentd.training.progress import Display
from latentd.training.tables import print_table


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Where the data is.")
@click.option(
    "--features",
    type=click.Choice(["embedded", "inception"]),
    default="embedded",
    show_default=True,
    help="What figures of images are measured on; inception is the published protocol.",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Sets of samples to judge.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Write the figures into CHECKPOINT's card.")
def evaluate(checkpoint: Path, data: Path | None, features: str, rounds: int, as_json: bool, keep: bool) -> None:
    """Say how well CHECKPOINT's generator covers its data: figures, how far they vary, and the floor of real samples.

    The figures go into the card; the version stays, because it names the samples.
    """
    read = Checkpoint.read(checkpoint)
    settings = _data_settings(read)
    with Display(hidden=False) as display:

        def on_progress(progress: TaskProgress) -> None:
            display.update(progress.task, progress.done, progress.total, progress.unit, note=str)

        network = partial(load_inception, on_progress) if features == "inception" else None
        evaluator = settings.evaluator(data, on_progress, network)
        figures = evaluate_generator(read.build(), evaluator, rounds, on_progress)
    if as_json:
        facts = {
            "checkpoint": read.name,
            "version": read.version,
            "data": settings.name,
            "measured_on": evaluator.measured_on,
            "samples": evaluator.num_samples,
            "rounds": rounds,
        }
        click.echo(json.dumps(facts | _as_json(figures), indent=2))
    else:
        alone = "; of a single set there is no deviation" if rounds == 1 else ""
        _print(f"{sets(rounds)} of {evaluator.num_samples} samples, judged on {evaluator.measured_on}{alone}", figures)
    if keep:
        try:
            write_checkpoint(checkpoint, with_metrics(read.card, figures, evaluator, rounds), read.tensors)
        except OSError as problem:
            raise OutputError(f"{checkpoint} could not be written ({problem}); --no-keep leaves it alone") from problem


def _data_settings(read: Checkpoint) -> DataSettings:
    try:
        settings: DataSettings = TypeAdapter(DataConfig).validate_python(read.card.settings.get("data"))
    except ValidationError as problem:
        raise DataError(f"{read.name} does not say what data it learnt from, so nothing can judge it") from problem
    return settings


def _as_json(figures: dict[str, MetricResult]) -> dict[str, object]:
    """Values by name; `floor` is that of the Fréchet distance, `floors` has all."""
    return {
        **{name: figure.value for name, figure in figures.items()},
        "floor": figures["frechet_distance"].floor,
        "floors": {name: figure.floor for name, figure in figures.items()},
        "deviation": {name: figure.deviation for name, figure in figures.items()},
        "floor_deviation": {name: figure.floor_deviation for name, figure in figures.items()},
    }


def _print(caption: str, figures: dict[str, MetricResult]) -> None:
    table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    for heading in ("figure", "generated", "±", "real", "±"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, figure in figures.items():
        values = (figure.value, figure.deviation, figure.floor, figure.floor_deviation)
        table.add_row(name, *("–" if value is None else f"{value:.4g}" for value in values))
    print_table(table)
