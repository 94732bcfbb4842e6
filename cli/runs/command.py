"""`latentd runs`."""

from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER ...]", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything about the runs as JSON.")
def runs(folders: tuple[Path, ...], as_json: bool) -> None:
    """List the runs in runs/, or those in the given FOLDERs, newest first. Several run FOLDERs are compared."""
    from latentd.cli.runs.listing import print_runs

    print_runs(folders, as_json)
