"""A response that is a stream of server-sent events."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from latentd.service.content_negotiation import EVENTS
from latentd.service.context import RequestContext
from latentd.service.errors import ApiError, timed_out
from latentd.service.runtime import Runtime
from latentd.service.samples.job import SampleJob, error_event

logger = logging.getLogger("latentd.http")

_HEADERS = {"Content-Type": EVENTS, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""X-Accel-Buffering tells nginx to pass on each event at once."""


class EventStream(StreamingResponse):
    """The events of a job. The stream ends if the client does not read the next event within the request's timeout."""

    def __init__(self, job: SampleJob, runtime: Runtime, context: RequestContext, headers: dict[str, str]) -> None:
        super().__init__(_events(job, runtime, context), headers=headers | _HEADERS)
        self._seconds = context.timeout

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            logger.info("a client read nothing of its stream for %g seconds", self._seconds)


async def _events(job: SampleJob, runtime: Runtime, context: RequestContext) -> AsyncIterator[bytes]:
    """Yield the events of `job`. Each may take as long as a request. If there is an error, it is the last event."""
    telemetry = runtime.telemetry
    try:
        async with aclosing(job.events()) as events:
            while True:
                async with asyncio.timeout(context.timeout):
                    event = await anext(events)
                yield event
    except StopAsyncIteration:
        return
    except (asyncio.CancelledError, GeneratorExit):
        telemetry.abandoned_samples.add(amount=job.samples_left)
        raise
    except TimeoutError:
        telemetry.expired_samples.add(amount=job.samples_left)
        yield error_event(timed_out(context.timeout))
    except ApiError as problem:
        telemetry.rejections.add(problem.code)
        yield error_event(problem)
    except Exception:
        logger.exception("a stream failed")
        yield error_event(ApiError(500, "internal_server_error", "the samples could not be computed"))
