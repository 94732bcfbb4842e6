"""`latentd promote`, `latentd rollback` and `latentd promotions`: which version a model's name means."""

import click

from latentd.training.run.interrupt import exit_on_ctrl_c

_models_option = click.option(
    "--models",
    help="The catalog, as LATENTD_MODELS. [default: LATENTD_MODELS, or the shipped models, runs/ and promoted/]",
)


@click.command()
@click.argument("run")
@click.option("--as", "name", help="The model's name. [default: the run's recipe, or the file's own name]")
@click.option("--force", is_flag=True, help="Promote it even if its metric on held-out data is worse than now.")
@_models_option
def promote(run: str, name: str | None, force: bool, models: str | None) -> None:
    """Make the generator of RUN the one that a model's name means.

    RUN is a run's folder, a checkpoint file, or NAME@VERSION. The file is copied into the last folder of the catalog,
    promoted/ by default. Running services follow within two seconds.
    """
    with exit_on_ctrl_c():
        from latentd.cli.promote import work

    work.promote(run, name, force, models)


@click.command()
@click.argument("name")
@_models_option
def rollback(name: str, models: str | None) -> None:
    """Undo the last promotion of the model NAME.

    NAME then means what it meant before: the version promoted before, or what the files of the catalog say.
    """
    with exit_on_ctrl_c():
        from latentd.cli.promote import work

    work.rollback(name, models)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the history as JSON.")
@_models_option
def promotions(name: str | None, as_json: bool, models: str | None) -> None:
    """Show who promoted what and when, newest first: of all models, or of NAME."""
    with exit_on_ctrl_c():
        from latentd.cli.promote import work

    work.print_promotions(name, as_json, models)
