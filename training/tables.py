"""Tables as commands print them."""

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 200
"""Wide enough that no description wraps."""


def print_table(table: Table) -> None:
    """As wide as the terminal, or as nobody's where the output is piped."""
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    console.print(table)
