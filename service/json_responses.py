"""Responses whose body is a pydantic model as JSON: errors, and answers about models."""

from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel
from starlette.responses import Response

from latentd.service.context import current_context
from latentd.service.errors import ApiError


def error_response(problem: ApiError) -> Response:
    """Return the response for `problem`, in the shape of errors that the route has. Put its code into the context."""
    context = current_context()
    context.code = problem.code
    return json_response(context.error_body.of(problem), problem.status, problem.headers)


def json_response(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with `answer` as JSON."""
    return Response(answer.model_dump_json(), status, headers, "application/json")


def status_error(status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """Return the error for a status that needs no other explanation, with the status's name as its code.

    If `headers` has `allow`, the message names these methods, too.
    """
    phrase = HTTPStatus(status)
    methods = (headers or {}).get("allow")
    message = (phrase.description or phrase.phrase) if methods is None else f"the path has the methods {methods}"
    return ApiError(status, phrase.name.lower(), message, headers=headers)
