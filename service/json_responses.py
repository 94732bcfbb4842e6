"""HTTP answers that are no samples: errors, and models as JSON."""

from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel
from starlette.responses import Response

from latentd.service.context import current_context
from latentd.service.errors import ApiError


def error_response(problem: ApiError) -> Response:
    """Return the answer that tells of `problem` in the shape of the request's route. Note its code in the context."""
    context = current_context()
    context.code = problem.code
    return json_response(context.error_body.of(problem), problem.status, problem.headers)


def json_response(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `answer` as JSON."""
    return Response(answer.model_dump_json(), status, headers, "application/json")


def status_error(status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """Return the error for a status that says all there is to say."""
    phrase = HTTPStatus(status)
    return ApiError(status, phrase.name.lower(), phrase.description or phrase.phrase, headers=headers)
