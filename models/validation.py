"""What pydantic found wrong, in words for the person who has to mend it."""

from typing import NamedTuple

from pydantic import ValidationError


class Problem(NamedTuple):
    """The field (dotted, None where it is the whole input) and what is wrong with it."""

    field: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def first_problem(error: ValidationError) -> Problem:
    """The first of the problems; unknown fields are called so."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"])) or None
    message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return Problem(field, message)
