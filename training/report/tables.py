"""Tables as commands print them."""

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 200
"""Columns of output that is no terminal. Wide enough that no description wraps."""
_MIN_WIDTH = 80
"""Columns that a table has at least. On a narrower terminal its lines wrap."""


def print_table(table: Table) -> None:
    """Print `table`, as wide as the terminal. Text that does not fit wraps, and nothing is cut off."""
    console = Console()
    console.width = max(console.width, _MIN_WIDTH) if console.file.isatty() else _PIPED_WIDTH
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)
