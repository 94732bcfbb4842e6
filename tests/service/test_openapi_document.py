"""The published OpenAPI document says what the table of routes says."""

from typing import Any

from latentd.service.openapi_document import document
from latentd.service.routes import ROUTES

DOCUMENT = document(ROUTES)


def operations() -> list[dict[str, Any]]:
    return [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]


def test_every_route_is_described() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_names_are_unique() -> None:
    names = [operation["operationId"] for operation in operations()]
    assert len(set(names)) == len(names)


def test_samples_are_described_with_their_media_types_and_errors() -> None:
    for path in ("/generate", "/interpolate", "/mix", "/neighbors"):
        responses = DOCUMENT["paths"][path]["post"]["responses"]
        assert {"200", "400", "401", "403", "404", "406", "413", "415", "429", "500", "503", "504"} <= set(responses)
        assert "image/png" in responses["200"]["content"]
        assert ("text/event-stream" in responses["200"]["content"]) == (path == "/interpolate")


def test_other_protocols_have_their_own_errors() -> None:
    for path, error in (("/v2/models/{name}/infer", "InferError"), ("/v1/images/generations", "ImagesError")):
        responses = DOCUMENT["paths"][path]["post"]["responses"]
        own = {"$ref": f"#/components/schemas/{error}"}
        assert responses["404"]["content"]["application/json"]["schema"] == own
        assert responses["default"]["content"]["application/json"]["schema"] == own
        # the connection refuses with our error, because it does not know the route
        either = responses["431"]["content"]["application/json"]["schema"]["anyOf"]
        assert either == [own, {"$ref": "#/components/schemas/ErrorAnswer"}]


def test_parameters_of_paths_are_described() -> None:
    parameters = DOCUMENT["paths"]["/v2/models/{name}/versions/{version}/infer"]["post"]["parameters"]
    assert [each["name"] for each in parameters if each["in"] == "path"] == ["name", "version"]


def test_errors_of_the_connection_are_described_everywhere() -> None:
    for operation in operations():
        assert {"400", "408", "414", "431"} <= set(operation["responses"])
        assert all("X-Request-Id" in answer["headers"] for answer in operation["responses"].values())


def test_open_routes_need_no_token() -> None:
    is_open = {
        path
        for path, methods in DOCUMENT["paths"].items()
        if any(each.get("security") == [] for each in methods.values())
    }
    assert is_open == {route.path for route in ROUTES if route.access == "open"}
    assert {"/livez", "/docs.json", "/explore", "/v2/health/live"} <= is_open
    assert not is_open & {"/metrics", "/models", "/generate"}


def test_fields_with_a_default_may_be_null() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name in ("GenerateRequest", "InterpolateRequest", "MixRequest", "NeighborsRequest", "LatentPoint", "MixSource"):
        schema = schemas[name]
        for field, described in schema["properties"].items():
            may_be_null = {"type": "null"} in described.get("anyOf", [])
            assert may_be_null == (field not in schema.get("required", [])), (name, field)


def test_fields_that_may_be_absent_are_not_described_as_null() -> None:
    entry = DOCUMENT["components"]["schemas"]["SampleEntry"]
    assert entry["required"] == ["index", "data"]
    assert entry["properties"]["neighbor_seed"]["type"] == "integer"
    assert all("default" not in described for described in entry["properties"].values())


def test_every_reference_leads_to_a_schema() -> None:
    def references(part: object) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*map(references, part.values()))
        return set().union(*map(references, part)) if isinstance(part, list) else set()

    assert references(DOCUMENT) <= {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
