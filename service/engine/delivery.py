"""From computed samples to the results of futures: check, encode, assemble, deliver. A failure affects one request."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate, groupby
from typing import Any

import numpy as np

from latentd.models.outputs.base import Samples
from latentd.service.context import RequestContext
from latentd.service.engine.encoder_threads import EncoderThreads
from latentd.service.engine.executor import ForwardResult, NotFiniteError
from latentd.service.engine.fair_queue import Encode, Slice, Submission

logger = logging.getLogger("latentd.engine")

ComputedSlice = tuple[Slice, Samples]
EncodedSlice = tuple[Slice, list[Any]]
Outcome = tuple[Submission, Any]
"""A submission, and its answer or the exception that replaces it."""


class BatchFailedError(Exception):
    """The generator or an encoder raised an exception, which is the cause of this one."""


def split_finite(slices: list[Slice], result: ForwardResult) -> tuple[list[ComputedSlice], list[Outcome]]:
    """Return the slices with their samples, and a NotFiniteError for each submission with a non-finite sample."""
    computed = _split(slices, result.samples)
    is_finite = np.isfinite(result.samples) if result.finite is None else result.finite
    if is_finite.all():
        return computed, []
    finite: list[ComputedSlice] = []
    failed: list[Outcome] = []
    for (part, values), (_, flags) in zip(computed, _split(slices, is_finite), strict=True):
        if flags.all():
            finite.append((part, values))
        else:
            failed.append((part.submission, NotFiniteError("a sample is not finite")))
    return finite, failed


def encode_slices(computed: list[ComputedSlice], threads: EncoderThreads) -> tuple[list[EncodedSlice], list[Outcome]]:
    """Encode adjacent slices with the same encoder together. Return their results, and the submissions that failed.

    Slices of canceled submissions are left out. If encoding them together fails, each slice is encoded separately.
    """
    encoded: list[EncodedSlice] = []
    failed: list[Outcome] = []
    for encode, group in groupby(computed, key=lambda each: each[0].submission.encode):
        active = [each for each in group if not each[0].submission.future.cancelled()]
        try:
            encoded += _encode_together(encode, active, threads)
        except Exception:
            contexts = log_contexts(part.submission for part, _ in active)
            logger.exception("samples could not be encoded together", extra=contexts)
            for each in active:
                try:
                    encoded += _encode_together(encode, [each], threads)
                except Exception as problem:  # noqa: BLE001  # logged above
                    failed.append((each[0].submission, failure(problem)))
    return encoded, failed


def assemble(submission: Submission) -> Outcome:
    """Make the answer of a submission whose results are complete."""
    try:
        return submission, submission.assemble(submission.results)
    except Exception as problem:
        logger.exception("an answer could not be assembled", extra=log_contexts([submission]))
        return submission, failure(problem)


def deliver(outcomes: Iterable[Outcome]) -> None:
    """Give the submissions' futures their results, with one call to each event loop."""
    for loop, group in groupby(outcomes, key=lambda each: each[0].future.get_loop()):
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
            loop.call_soon_threadsafe(_settle, list(group))


def failure(cause: Exception) -> BatchFailedError:
    """Return a BatchFailedError for one submission; each one needs its own exception object."""
    problem = BatchFailedError(str(cause))
    problem.__cause__ = cause
    return problem


def log_contexts(submissions: Iterable[Submission]) -> dict[str, list[RequestContext | None]]:
    """Return the extra fields of a log record that name the requests it is about."""
    return {"request_contexts": [submission.context for submission in submissions]}


def _split(slices: list[Slice], values: Any) -> list[tuple[Slice, Any]]:
    """Return each slice with its part of `values`, which are in the order of the slices."""
    ends = accumulate(map(len, slices))
    return [(part, values[end - len(part) : end]) for part, end in zip(slices, ends, strict=True)]


def _encode_together(encode: Encode, computed: list[ComputedSlice], threads: EncoderThreads) -> list[EncodedSlice]:
    if not computed:
        return []
    samples = np.concatenate([values for _, values in computed])
    return _split([part for part, _ in computed], threads.encode(encode, samples))


def _settle(outcomes: list[Outcome]) -> None:
    for submission, outcome in outcomes:
        future = submission.future
        if future.done():  # canceled in the meantime
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
