"""HTTP answers that are no samples."""

from starlette.responses import JSONResponse

from latentd.service.context import current_context
from latentd.service.errors import ApiError


def error_response(problem: ApiError) -> JSONResponse:
    """Return the answer that tells a client of `problem`, and note its code for the log and the traces."""
    current_context().code = problem.code
    return JSONResponse(problem.body(), problem.status, headers=problem.headers)
