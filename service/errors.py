"""The errors that a client sees, as plain values. `service/json_responses.py` makes HTTP responses of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NoReturn, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from latentd.models.errors import LatentdError
from latentd.models.validation import first_problem

_MAX_MESSAGE = 2000
_MAX_FIELD = 100


class ApiError(LatentdError):
    """An answer other than success: a status, a code for programs, a message for people, and the wrong field.

    Message and field may quote the request. Long ones are cut.
    """

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
        self.message = message[:_MAX_MESSAGE]
        self.field = field and field[:_MAX_FIELD]
        self.headers = headers

    def message_for(self, field: str | None) -> str:
        """Return the message with the field in it, for clients that show nothing else. `field`: its name there."""
        return f"{field}: {self.message}" if field else self.message


class ErrorBody(BaseModel, ABC):
    """The JSON body of an error. Each protocol has its own shape."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    @abstractmethod
    def of(cls, problem: ApiError) -> Self:
        """Return the body for `problem`."""


class ErrorFields(BaseModel):
    """An error: `code` is for programs, `message` for people, `field` names what to change in the request."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    field: str | None


class ErrorAnswer(ErrorBody):
    """The body of errors in our own API."""

    error: ErrorFields

    @classmethod
    def of(cls, problem: ApiError) -> Self:
        return cls(error=ErrorFields(code=problem.code, message=problem.message, field=problem.field))


def invalid(field: str | None, message: str) -> ApiError:
    """Return a 400: the request is wrong, and `field` must be changed."""
    return ApiError(400, "invalid_request", message, field)


def too_busy(message: str, retry_after: float, code: str = "queue_full") -> ApiError:
    """Return a 429 whose Retry-After header has `retry_after` rounded up to whole seconds, at least 1."""
    return ApiError(429, code, message, headers={"Retry-After": str(max(1, math.ceil(retry_after)))})


def timed_out(seconds: float) -> ApiError:
    """Return a 504: the request was not answered within `seconds`."""
    return ApiError(504, "timeout", f"not done within {seconds:g} seconds")


def raise_invalid(problem: ValidationError, body_type: type[BaseModel]) -> NoReturn:
    """Raise a 400 for the first wrong field: `field` names the outermost one, the message the path inside it.

    `body_type`: what was validated. The message for an unknown field lists its fields.
    """
    found = first_problem(problem, body_type)
    field, _, inside = (found.field or "").partition(".")
    message = f"{found.message} (at {inside})" if inside else found.message
    raise invalid(field or None, message) from problem
