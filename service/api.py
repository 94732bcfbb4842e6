"""What the HTTP API answers: a function a route. Everything about samples is elsewhere."""

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from service.catalog import Catalog, ServedModel
from service.engine import Engine, EngineClosedError, QueueFullError
from service.errors import ApiError, invalid, raise_invalid, too_busy
from service.generation import Answer, carry_out, make_plan
from service.schemas import GenerateRequest
from service.settings import Settings


@dataclass(frozen=True)
class Runtime:
    """What the routes work with, once the service has started."""

    settings: Settings
    catalog: Catalog
    engine: Engine


async def generate(runtime: Runtime, request: Request) -> Response:
    """Samples from seeds or latents, as JSON or as the bytes themselves."""
    seconds = _seconds_allowed(request, runtime.settings.timeout)
    try:
        async with asyncio.timeout(seconds):
            body = await _read_body(request, runtime.settings.max_body_bytes)
            try:
                asked = GenerateRequest.model_validate_json(body)
            except ValidationError as problem:
                raise_invalid(problem)
            accept = ", ".join(request.headers.getlist("accept"))
            answer = await _while_connected(request, answer_generate(runtime, asked, accept))
    except TimeoutError as problem:
        raise ApiError(504, "timeout", f"not done within {seconds:g} seconds") from problem
    return Response(answer.body, media_type=answer.plan.shape.media_type, headers=_headers(answer))


async def answer_generate(runtime: Runtime, asked: GenerateRequest, accept: str) -> Answer:
    """The answer to a request; ApiError says what is in its way."""
    plan = make_plan(asked, accept, runtime.catalog, runtime.settings.max_samples)
    try:
        return await carry_out(plan, runtime.catalog, runtime.engine)
    except QueueFullError as problem:
        raise too_busy(str(problem), problem.retry_after) from problem
    except EngineClosedError as problem:
        raise ApiError(503, "shutting_down", str(problem)) from problem


async def list_models(runtime: Runtime, request: Request) -> Response:
    """What is served, and which files are not."""
    del request
    catalog = runtime.catalog
    return JSONResponse(
        {
            "default": catalog.default.name if catalog.default else None,
            "models": [_describe(catalog.models[name], runtime.settings) for name in sorted(catalog.models)],
            "failures": [{"file": failure.file, "error": failure.error} for failure in catalog.failures],
        }
    )


async def show_model(runtime: Runtime, request: Request) -> Response:
    """A model's card, limits and determinism."""
    return JSONResponse(_describe(runtime.catalog.find(request.path_params["name"]), runtime.settings))


def _describe(model: ServedModel, settings: Settings) -> dict[str, Any]:
    calibration = (model.replica or model).calibration
    return {
        "name": model.name,
        "version": model.version,
        "formats": list(model.card.spec.output.media_types),
        "limits": {"max_samples": settings.max_samples},
        "determinism": {
            "mode": calibration.mode,
            "sizes": calibration.sizes,
            "fingerprint": model.fingerprint,
            "fingerprint_id": model.fingerprint_id,
        },
        "card": model.card.model_dump(mode="json"),
    }


def _seconds_allowed(request: Request, most: float) -> float:
    """What X-Request-Timeout asks for, in seconds, if it is less than `most`."""
    asked = request.headers.get("x-request-timeout")
    if asked is None:
        return most
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise invalid(None, f"X-Request-Timeout is a number of seconds above 0, not {asked!r}")
    return min(seconds, most)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do `work`, or stop it where the client leaves; its rows then leave the queue. Raises ClientDisconnect."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # we are in a coroutine
    left = finished = False

    def stop(_: object) -> None:
        nonlocal left
        if not finished:
            left = True
            task.cancel()

    leaving = asyncio.ensure_future(request.receive())  # the body was read, so the next message is that
    leaving.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:  # not cancelled by anyone else
            raise ClientDisconnect from None
        raise
    finally:
        finished = True
        leaving.cancel()


def _headers(answer: Answer) -> dict[str, str]:
    model = answer.plan.model
    headers = {
        "X-Latentd-Model": model.name,
        "X-Latentd-Version": model.version,
        "X-Latentd-Fingerprint": model.fingerprint_id,
    }
    if answer.plan.seeds is not None:
        headers["X-Latentd-Seeds"] = ",".join(map(str, answer.plan.seeds))
    return headers


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ApiError(413, "body_too_large", f"the body is larger than {limit} bytes")
    return bytes(body)
