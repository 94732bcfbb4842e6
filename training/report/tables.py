"""Tables as commands print them."""

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 200
"""Columns of output that is no terminal. Wide enough that no description wraps."""


def print_table(table: Table) -> None:
    """Print `table`, as wide as the terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    console.print(table)
