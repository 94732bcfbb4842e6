"""HTTP answers that are no samples."""

from starlette.responses import JSONResponse

from latentd.service.errors import ApiError
from latentd.service.observability.context import current_entry


def error_response(problem: ApiError) -> JSONResponse:
    """Return the answer that tells a client of `problem`, and note its code for the log and the traces."""
    current_entry().code = problem.code
    return JSONResponse(problem.body(), problem.status, headers=problem.headers)
