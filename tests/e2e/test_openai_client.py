"""OpenAI's Python package, unchanged, against the shipped models."""

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from tests.e2e.conftest import ROOT, Server, serving
from tests.e2e.test_interpolate import reproduce

CONDITIONAL = "fashion-dcgan-conditional"
CLIENT = "client-0123456789abcdef"


def client_of(server: Server, api_key: str = "none is needed") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=api_key, max_retries=0)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with client_of(server) as made:
        yield made


def files(answer: Any) -> list[bytes]:
    return [base64.b64decode(image.b64_json) for image in answer.data]


def ours(server: Server, **fields: Any) -> list[bytes]:
    """Return the files that `/generate` answers."""
    return [base64.b64decode(sample["data"]) for sample in server.generate(**fields).json["samples"]]


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_images_are_those_of_generate(client: openai.OpenAI, server: Server) -> None:
    answer = client.images.generate(model=CONDITIONAL, prompt="Bag", n=3, extra_body={"seed": 7})
    assert files(answer) == ours(server, model=CONDITIONAL, label="Bag", num_samples=3, seed=7)
    assert [image.revised_prompt for image in answer.data] == ["Bag"] * 3
    assert [image.seed for image in answer.data] == [7, 8, 9]
    assert (answer.size, answer.output_format) == ("28x28", "png")
    assert answer.created > 1_700_000_000


def test_a_prompt_is_enough_and_the_seed_is_answered(client: openai.OpenAI, server: Server) -> None:
    first, second = (client.images.generate(prompt="something nice") for _ in range(2))
    assert files(first) != files(second)
    assert files(first) == ours(server, seed=first.data[0].seed)
    assert first.data[0].revised_prompt is None


def test_the_asynchronous_client(server: Server) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="-") as client:
            tasks = [client.images.generate(prompt="", extra_body={"seed": seed}) for seed in range(8)]
            return await asyncio.gather(*tasks)

    assert [files(answer)[0] for answer in asyncio.run(ask())] == ours(server, seed=0, num_samples=8)


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("ankle BOOT", "Ankle boot"),
        ("A photo of a red dress, studio light", "Dress"),
        ("a T-shirt/top and another t-shirt/top", "T-shirt/top"),
        ("a shirt.", "Shirt"),
    ],
)
def test_a_prompt_names_a_class(client: openai.OpenAI, prompt: str, label: str) -> None:
    (image,) = client.images.generate(model=CONDITIONAL, prompt=prompt).data
    assert image.revised_prompt == label


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "names no class of this model"),
        ("a cat", "exactly one of T-shirt/top, Trouser"),
        ("a t-shirt", "names no class"),
        ("handbags", "names no class"),
        ("a bag and a coat", "names Coat and Bag"),
    ],
)
def test_a_prompt_with_no_class_or_several_is_refused(client: openai.OpenAI, prompt: str, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as refusal:
        client.images.generate(model=CONDITIONAL, prompt=prompt)
    assert (refusal.value.param, refusal.value.code) == ("prompt", "invalid_request")
    assert refusal.value.type == "invalid_request_error"


def test_sizes_are_whole_factors(client: openai.OpenAI, server: Server, tmp_path: Path) -> None:
    (small,) = ours(server, seed=5)
    for kind in ("png", "webp"):
        answer = client.images.generate(prompt="-", size="112x112", output_format=kind, extra_body={"seed": 5})
        (large,) = files(answer)
        assert answer.size == "112x112"
        first = pixels(large) if kind == "png" else pixels(large)[..., 0]
        assert np.array_equal(first, pixels(small).repeat(4, 0).repeat(4, 1))
    assert files(client.images.generate(prompt="-", size="auto", extra_body={"seed": 5})) == [small]
    assert files(client.images.generate(prompt="-", size="28x28", extra_body={"seed": 5})) == [small]
    (tmp_path / "large.png").write_bytes(large)
    told = reproduce(tmp_path / "large.png", server.url)
    assert told.exit_code == 2
    assert "enlarged 4 times" in told.stderr


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"size": "1024x1024"}, "size", "28x28, 56x56"),
        ({"size": "28x56"}, "size", "whole factors"),
        ({"size": "0x0"}, "size", "match pattern"),
        ({"size": "448x448", "n": 256}, None, None),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 257}, "n", "257 samples"),
        ({"response_format": "url"}, "response_format", "no URL"),
        ({"response_format": "b64_json"}, None, None),
        ({"stream": True}, "stream", "False"),
        ({"background": "transparent"}, "background", "opaque"),
        ({"output_format": "gif"}, "output_format", "png"),
        ({"quality": "hd", "style": "vivid", "user": "me", "background": "auto", "moderation": "low"}, None, None),
        ({"extra_body": {"seed": -1}}, "seed", "greater than or equal to 0"),
        ({"extra_body": {"truncation": 2}}, "truncation", "less than or equal to 1"),
        ({"extra_body": {"truncation": 0.5}}, None, None),
        ({"extra_body": {"negative_prompt": "x"}}, "negative_prompt", "unknown field"),
        ({"model": "ring-gan"}, "model", "makes points, not images"),
    ],
)
def test_accepted_and_refused_fields(
    client: openai.OpenAI, fields: dict[str, Any], param: str | None, said: str | None
) -> None:
    if said is None:
        assert client.images.generate(prompt="-", **fields).data
        return
    with pytest.raises(openai.BadRequestError, match=said) as refusal:
        client.images.generate(prompt="-", **fields)
    assert refusal.value.param == param


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["fashion-dcgan", CONDITIONAL, "ring-gan"]
    assert client.models.retrieve("ring-gan").created > 1_700_000_000
    with pytest.raises(openai.NotFoundError, match="there is no model 'dall-e-3'") as refusal:
        client.images.generate(model="dall-e-3", prompt="a dress")
    assert (refusal.value.param, refusal.value.code) == ("model", "unknown_model")


def test_errors_below_v1_have_openais_shape(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="x", input="y")
    for path, body, status in [("/v1", None, 404), ("/v1/images/generations", None, 405), ("/v1/models", b"{}", 405)]:
        answer = server.call(path, body)
        assert answer.status == status
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


def test_requests_are_counted_under_their_route(client: openai.OpenAI, server: Server) -> None:
    client.images.generate(prompt="-")
    text = server.call("/metrics").body.decode()
    assert 'latentd_requests_total{endpoint="/v1/images/generations",model="fashion-dcgan",status="2xx"}' in text


def test_the_key_is_a_token(tmp_path: Path) -> None:
    environment = {"LATENTD_TOKENS": f"ci {CLIENT} rate=0.1 burst=4"}
    with serving(tmp_path, LATENTD_MODELS=str(ROOT / "models" / "checkpoints"), **environment) as server:
        with pytest.raises(openai.AuthenticationError, match="token is unknown"):
            client_of(server, "other-0123456789abcdef").images.generate(prompt="-")
        client = client_of(server, CLIENT)
        assert len(client.images.generate(prompt="-", n=4).data) == 4
        with pytest.raises(openai.RateLimitError, match="samples per second") as refusal:
            client.images.generate(prompt="-", n=4)
        assert refusal.value.type == "rate_limit_error"
        assert int(refusal.value.response.headers["retry-after"]) > 10
