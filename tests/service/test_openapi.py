"""The published OpenAPI document says what is there."""

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from latentd.service.endpoints import ENDPOINTS
from latentd.service.gateway import Gateway
from latentd.service.openapi import document
from latentd.service.protocols import kserve, openai


def test_every_endpoint_is_described_with_its_errors() -> None:
    paths = document()["paths"]
    for endpoint in ENDPOINTS:
        responses = paths[endpoint.path]["post"]["responses"]
        assert {"200", "400", "404", "406", "413", "429", "504"} <= set(responses)
        assert "image/png" in responses["200"]["content"]
    assert "text/event-stream" in paths["/interpolate"]["post"]["responses"]["200"]["content"]
    assert "text/event-stream" not in paths["/generate"]["post"]["responses"]["200"]["content"]


def test_every_route_of_other_protocols_is_described() -> None:
    paths = document()["paths"]
    for protocol, error in ((kserve, "InferError"), (openai, "ImagesError")):
        for path in protocol.SAMPLES:
            refused = paths[path]["post"]["responses"]["default"]["content"]["application/json"]["schema"]
            assert refused == {"$ref": f"#/components/schemas/{error}"}
            assert "requestBody" in paths[path]["post"]
        assert all("get" in paths[path] for path in protocol.SHOWN)
    parameters = paths["/v2/models/{name}/versions/{version}/infer"]["post"]["parameters"]
    assert {each["name"] for each in parameters if each["in"] == "path"} == {"name", "version"}
    operations = [each["operationId"] for methods in paths.values() for each in methods.values()]
    assert len(set(operations)) == len(operations)


def test_every_route_is_described() -> None:
    gateway = Gateway(Starlette(), lambda: pytest.fail("nobody asks"))
    ours = {route.path for route in gateway._router.routes if isinstance(route, Route)}
    assert ours < set(document()["paths"])


def test_what_any_request_can_come_to_is_described() -> None:
    for operations in document()["paths"].values():
        for operation in operations.values():
            assert {"400", "408", "414", "431"} <= set(operation["responses"])
            assert all("X-Request-Id" in answer["headers"] for answer in operation["responses"].values())


def test_what_needs_no_token_says_so() -> None:
    paths = document()["paths"]
    opened = {
        path for path, operations in paths.items() if any(each.get("security") == [] for each in operations.values())
    }
    assert {"/livez", "/docs.json", "/explore"} <= opened
    assert not opened & {"/metrics", "/models", *(endpoint.path for endpoint in ENDPOINTS)}


def test_any_field_of_a_body_may_be_null() -> None:
    schemas = document()["components"]["schemas"]
    for endpoint in ENDPOINTS:
        for name, field in schemas[endpoint.body.__name__]["properties"].items():
            assert {"type": "null"} in field["anyOf"], (endpoint.path, name)


def test_all_that_is_referred_to_is_there() -> None:
    described = document()

    def references(part: object) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*map(references, part.values()))
        return set().union(*map(references, part)) if isinstance(part, list) else set()

    known = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert references(described) <= known
