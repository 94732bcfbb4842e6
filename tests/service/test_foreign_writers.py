"""Bodies and token files as other languages and editors write them."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Response
from starlette.applications import Starlette
from starlette.testclient import TestClient

from latentd.service.gateway import Gateway
from latentd.service.guard.tokens import Tokens
from latentd.service.openapi_document import document
from latentd.service.routes import ROUTES
from tests.service.test_endpoints import running

CLIENT = "client-0123456789abcdef"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with running(tmp_path_factory.mktemp("models")) as runtime:
        yield TestClient(Gateway(Starlette(), lambda: runtime), raise_server_exceptions=False)


def with_decimals(value: Any) -> Any:
    """Write every integer as Lua, R and MATLAB write it: 7.0 for 7."""
    if isinstance(value, dict):
        return {name: with_decimals(each) for name, each in value.items()}
    if isinstance(value, list):
        return list(map(with_decimals, value))
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


SEEDS = {"name": "seeds", "datatype": "UINT32", "shape": [2], "data": [7, 4294967295]}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"seed": 4294967294, "num_samples": 2, "model": "classes", "label": [1, 0]}),
    ("/generate", {"seeds": [3, 4], "model": "classes", "label": 2}),
    ("/interpolate", {"keyframes": [{"seed": 1}, {"seed": 2, "label": 1}], "model": "classes", "steps": 3}),
    (
        "/interpolate",
        {"keyframes": [{"seed": 1}, {"seed": 2}], "layout": "animation", "fps": 10, "scale": 2, "steps": 3},
    ),
    ("/mix", {"sources": [{"seed": 1, "weight": 2}, {"seed": 2}], "model": "styled", "layers": None}),
    ("/mix", {"sources": [{"seed": 1}, {"seed": 2}], "model": "styled", "layers": [0, 1, 0, 1]}),
    ("/neighbors", {"seed": 1, "num_samples": 2, "neighbor_seed": 5, "angle": 10}),
    ("/v1/images/generations", {"prompt": "", "n": 2, "seed": 4, "model": "grey"}),
    ("/v2/models/points/infer", {"inputs": [SEEDS]}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_integers_may_be_written_with_a_decimal_point(client: TestClient, path: str, body: dict[str, Any]) -> None:
    expected, answer = client.post(path, json=body), client.post(path, json=with_decimals(body))
    assert (answer.status_code, without_time(answer)) == (expected.status_code, without_time(expected))
    if "layers" not in body:
        assert answer.status_code == 200


def without_time(answer: Response) -> Any:
    return {name: value for name, value in answer.json().items() if name != "created"}


@pytest.mark.parametrize("value", ["7.5", "1e400", "true", '"7"', "-1.0", "4294967296.0"])
def test_other_numbers_are_still_refused(client: TestClient, value: str) -> None:
    for body in (f'{{"seed": {value}}}', f'{{"seeds": [{value}]}}'):
        assert client.post("/generate", content=body).status_code == 400


def test_the_document_describes_integers() -> None:
    """In JSON Schema 7.0 is an integer."""
    schema = document(ROUTES)["components"]["schemas"]["GenerateRequest"]["properties"]
    assert {"type": "integer", "minimum": 1} in schema["num_samples"]["anyOf"]
    assert {"type": "integer", "minimum": 0, "maximum": 2**32 - 1} in schema["seed"]["anyOf"]


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_byte_order_mark_before_the_body_is_ignored(client: TestClient, path: str, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    plain, marked = client.post(path, content=text), client.post(path, content=codecs.BOM_UTF8 + text)
    assert (marked.status_code, without_time(marked)) == (plain.status_code, without_time(plain))


@pytest.mark.parametrize(
    "encoding",
    ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1", "gb18030", "shift-jis"],
)
def test_bodies_in_other_encodings_are_refused_in_words(client: TestClient, encoding: str) -> None:
    text = json.dumps({"seed": 1, "model": "é" if encoding == "latin-1" else "柴犬"}, ensure_ascii=False)
    answer = client.post("/generate", content=text.encode(encoding))
    assert answer.status_code == 400
    assert "UTF-8" in answer.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["", "identity", "Identity, identity", ","])
def test_a_body_is_not_compressed_if_the_header_names_no_coding(client: TestClient, encoding: str) -> None:
    assert client.post("/generate", json={"seed": 1}, headers={"Content-Encoding": encoding}).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "identity, br", "DEFLATE"])
def test_a_compressed_body_is_refused_with_what_is_accepted(client: TestClient, encoding: str) -> None:
    answer = client.post("/generate", json={"seed": 1}, headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_token_file_may_begin_with_a_byte_order_mark(tmp_path: Path, newline: str) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(codecs.BOM_UTF8 + f"ci {CLIENT}{newline}other {CLIENT[::-1]}{newline}".encode())
    found = Tokens.of_file(file).client_of(CLIENT.encode())
    assert found is not None
    assert found.name == "ci"


def test_a_token_file_in_utf16_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(f"ci {CLIENT}\n".encode("utf-16"))
    with pytest.raises(ValueError, match="not UTF-8"):
        Tokens.of_file(file)
