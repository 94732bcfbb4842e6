"""The command `latentd evaluate`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentd.models.protected_files import protection
from latentd.training.evaluation.verdict import judge
from latentd.training.program import CHECKPOINT
from latentd.training.run.interrupt import exit_on_ctrl_c

if TYPE_CHECKING:
    from latentd.training.evaluation.evaluate import MetricResult
    from latentd.training.evaluation.held_out import Features


@click.command()
@click.argument("checkpoint", type=CHECKPOINT)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Where the data is.")
@click.option(
    "--features",
    type=click.Choice(["embedded", "inception"]),
    default="embedded",
    show_default=True,
    help="Features on which metrics of images are computed; inception is the published protocol.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Sets of samples to evaluate."
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Write the metrics into CHECKPOINT's card. "
    "[default: keep, unless the file comes with latentd or git tracks it]",
)
def evaluate(
    checkpoint: Path, data: Path | None, features: "Features", rounds: int, as_json: bool, keep: bool | None
) -> None:
    """Measure how well CHECKPOINT's generator matches its data.

    CHECKPOINT is a .safetensors file, a run, or the name of a model.
    Prints each metric with its deviation, the same of real samples as a baseline, and for images a verdict in words.
    The metrics are also written into the checkpoint's card. The version does not change, because it names the samples.
    """
    with exit_on_ctrl_c():
        from latentd.models.checkpoint import Checkpoint, write_checkpoint
        from latentd.training.evaluation.evaluate import count_sets, evaluate_generator, with_metrics
        from latentd.training.evaluation.held_out import build_evaluator, data_settings
        from latentd.training.run.directory import OutputError
        from latentd.training.run.progress import Display

    read = Checkpoint.read(checkpoint)
    settings = data_settings(read)
    with Display(hidden=False) as display:
        evaluator = build_evaluator(settings, data, features, display.update)
        results = evaluate_generator(read.build(), evaluator, rounds, display.update)
    verdict = judge(
        {name: result.value for name, result in results.items()},
        {name: result.baseline for name, result in results.items()},
    )
    if as_json:
        facts = {
            "checkpoint": read.name,
            "version": read.version,
            "data": settings.name,
            "measured_on": evaluator.measured_on,
            "samples": evaluator.num_samples,
            "rounds": rounds,
            "verdict": asdict(verdict) if verdict else None,
        }
        click.echo(json.dumps(facts | _as_json(results), indent=2))
    else:
        single = "; a single set has no deviation" if rounds == 1 else ""
        samples = f"{count_sets(rounds)} of {evaluator.num_samples} samples"
        _print(f"{samples}, measured on {evaluator.measured_on}{single}", results)
        if verdict:
            click.echo(f"{verdict.kind}: {verdict.words}")
    if keep is None and (reason := protection(checkpoint)):
        click.echo(f"{checkpoint} {reason}: its card is as before; --keep writes the metrics into it", err=True)
    elif keep is not False:
        try:
            write_checkpoint(checkpoint, with_metrics(read.card, results, evaluator, rounds), read.tensors)
        except OSError as problem:
            raise OutputError(
                f"{checkpoint} could not be written ({problem}); use --no-keep to only print"
            ) from problem


def _as_json(results: "dict[str, MetricResult]") -> dict[str, object]:
    """`floor` and `floors` are the baselines: of the Fréchet distance, and of all metrics."""
    return {
        **{name: result.value for name, result in results.items()},
        "floor": results["frechet_distance"].baseline,
        "floors": {name: result.baseline for name, result in results.items()},
        "deviation": {name: result.std for name, result in results.items()},
        "floor_deviation": {name: result.baseline_std for name, result in results.items()},
    }


def _print(caption: str, results: "dict[str, MetricResult]") -> None:
    from rich.table import Table

    from latentd.training.report.tables import print_table

    table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    for heading in ("metric", "generated", "±", "real", "±"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, result in results.items():
        values = (result.value, result.std, result.baseline, result.baseline_std)
        table.add_row(name, *("–" if value is None else f"{value:.4g}" for value in values))
    print_table(table)
