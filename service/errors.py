"""The errors that a client sees, and their one body."""

import math
from collections.abc import Mapping
from typing import NoReturn

from pydantic import ValidationError
from starlette.responses import JSONResponse

from latentd.models.validation import first_problem
from latentd.service.observability.context import current_entry

_LONGEST_MESSAGE = 2000
_LONGEST_FIELD = 100


class ApiError(Exception):
    """An answer other than success: status, a code for programs, a message for people, the field at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = headers

    def response(self) -> JSONResponse:
        """`{"error": {"code", "message", "field"}}`; what it quotes of the request is cut short."""
        current_entry().code = self.code
        field = self.field and self.field[:_LONGEST_FIELD]
        body = {"error": {"code": self.code, "message": self.message[:_LONGEST_MESSAGE], "field": field}}
        return JSONResponse(body, self.status, headers=self.headers)


def invalid(field: str | None, message: str) -> ApiError:
    """400: the request is not one that the API takes."""
    return ApiError(400, "invalid_request", message, field)


def too_busy(message: str, retry_after: float, code: str = "queue_full") -> ApiError:
    """429: there may be room in `retry_after` seconds, which the header says in whole ones."""
    return ApiError(429, code, message, headers={"Retry-After": str(max(1, math.ceil(retry_after)))})


def raise_invalid(problem: ValidationError) -> NoReturn:
    """400, naming the outermost field that pydantic found wrong, and the place within it."""
    found = first_problem(problem)
    field, _, inside = (found.field or "").partition(".")
    message = f"{found.message} (at {inside})" if inside else found.message
    raise invalid(field or None, message) from problem
