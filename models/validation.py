"""Pydantic's errors as messages for people."""

from typing import NamedTuple

from pydantic import ValidationError


class Problem(NamedTuple):
    """A wrong field and what is wrong with it."""

    field: str | None
    """Its path, joined by dots; None for the whole input."""
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def first_problem(error: ValidationError) -> Problem:
    """Return the first of the problems."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"])) or None
    message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return Problem(field, message)
