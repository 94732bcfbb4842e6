"""The published OpenAPI document: schemathesis sends what it allows and what it forbids, and checks the answers."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote
from zlib import crc32

import pytest
import requests
from schemathesis import Case, Config, Response
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from latentd.service.openapi_document import document
from latentd.service.routes import ROUTES
from tests.e2e.conftest import Server
from tests.fuzz.cases import TRIED, cases
from tests.fuzz.conftest import CLIENT

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
    negative_data_rejection,
]
SECONDS = 60
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
OPEN = {
    "/v2/health/live",
    "/v2/health/ready",
    "/livez",
    "/readyz",
    "/healthz",
    "/metrics",
    "/docs.json",
    "/explore",
    "/explore/{build}/{name}",
    "/",
    "/schema.json",
}
"""Paths that need no client's token. /metrics has a token of its own, which these servers do not ask for."""

DOCUMENT = document(ROUTES)
ACCEPTS = ["*/*", "text/html", *DOCUMENT["paths"]["/interpolate"]["post"]["responses"]["200"]["content"]]
schema = from_dict(DOCUMENT, config=Config.from_dict({"generation": {"mode": "all"}}))
EXAMPLES = cases(short=6, share=0.01)


def test_the_published_document_is_this_one(open_server: Server) -> None:
    assert open_server.call("/docs.json").json == DOCUMENT


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[..., Response]]:
    """Sends a case on a kept connection, with `token` or with the Authorization header of the case."""
    with requests.Session() as session:

        def send(server: Server, case: Case, token: str | None = None) -> Response:
            headers = {"Accept": accept_of(case)} | ({"Authorization": f"Bearer {token}"} if token else {})
            answer = case.call(server.url, session=session, headers=headers, timeout=SECONDS)
            TRIED[f"requests by the document, answered {answer.status_code}"] += 1
            return answer

        yield send


def accept_of(case: Case) -> str:
    """Choose an Accept header, known or unknown. OpenAPI allows no parameter of that name."""
    return ACCEPTS[crc32(repr((case.body, case.path_parameters)).encode()) % len(ACCEPTS)]


def check(case: Case, answer: Response) -> None:
    own_deadline = answer.status_code == 504 and "X-Request-Timeout" in case.headers
    case.validate_response(answer, checks=CHECKS[1:] if own_deadline else CHECKS)


@schema.parametrize()
@EXAMPLES
def test_answers_are_as_described(case: Case, open_server: Server, ask: Callable[..., Response]) -> None:
    check(case, ask(open_server, case))


@schema.parametrize()
@EXAMPLES
def test_answers_to_clients_with_a_token_are_as_described(
    case: Case, guarded_server: Server, ask: Callable[..., Response]
) -> None:
    answer = ask(guarded_server, case, CLIENT)
    assert answer.status_code not in (401, 403)
    check(case, answer)


@schema.parametrize()
@EXAMPLES
def test_without_a_token_only_open_routes_answer(
    case: Case, guarded_server: Server, ask: Callable[..., Response]
) -> None:
    answer = ask(guarded_server, case)
    if CONTROL.search(unquote(str(answer.request.url))):
        assert answer.status_code == 404  # no route has such a path
    else:
        assert case.path in OPEN or answer.status_code in (401, 405)
    case.validate_response(answer, checks=CHECKS[:-1])
