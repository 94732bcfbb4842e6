"""Kinds that the service does not have: prompts, and an output of which a file holds only one."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner
from httpx import Response
from starlette.testclient import TestClient

import latentd.models.outputs
from latentd.cli.main import latentd as command
from latentd.models.conditions.text import TextCondition
from latentd.models.encoding.metadata import read_metadata
from latentd.models.kind import kinds
from latentd.models.outputs.image import ImageOutput
from latentd.models.spec import GeneratorSpec
from tests.conftest import image_spec, spec_of
from tests.models.test_kinds import WORD
from tests.service.in_process import serving

PROMPTS = TextCondition(vocabulary=("red", "blue", "hair", "hat"), length=3, examples=("red hair", "blue hat"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "word.py").write_text(WORD)
    (folder / "models").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latentd.models.outputs, "__path__", [*latentd.models.outputs.__path__, str(folder)])
        word = kinds("latentd.models.outputs")["word"](length=4)
        specs: dict[str, GeneratorSpec] = {
            "prompts": spec_of("dcgan", ImageOutput(channels=1, height=28, width=28), PROMPTS, width=8),
            "words": spec_of("mlp", word, hidden=(16,)),
            "classes": image_spec(conditional=True),
        }
        with serving(folder / "models", specs) as client:
            yield client


def post(client: TestClient, path: str, accept: str = "*/*", **body: Any) -> Response:
    return client.post(path, json=body, headers={"Accept": accept})


def samples(client: TestClient, path: str = "/generate", **body: Any) -> list[dict[str, Any]]:
    answer = post(client, path, **body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["samples"]
    return found


def refused(answer: Response) -> tuple[int, str]:
    error = answer.json()["error"]
    return answer.status_code, f"{error['field']}: {error['message']}"


def test_a_prompt_changes_the_sample_and_is_answered(client: TestClient) -> None:
    (red,), (blue,) = (samples(client, seed=7, prompt=prompt) for prompt in ("Red hair", "blue hair"))
    assert (red["prompt"], blue["prompt"]) == ("red hair", "blue hair")
    assert red["data"] != blue["data"]
    listed = samples(client, seeds=[7, 7], prompt=["red hair", "blue hair"])
    assert [sample["data"] for sample in listed] == [red["data"], blue["data"]]
    name = json.loads(read_metadata(base64.b64decode(red["data"])) or "")
    assert (name["seed"], name["prompt"]) == (7, "red hair")


def test_a_seed_draws_an_example(client: TestClient) -> None:
    prompts = {sample["prompt"] for sample in samples(client, seed=0, num_samples=16)}
    assert prompts == {"red hair", "blue hat"}


def test_a_frame_between_prompts_is_made_again_from_what_the_answer_says(client: TestClient) -> None:
    keyframes = [{"seed": 1, "prompt": "red hair"}, {"seed": 1, "prompt": "blue hair hat"}]
    first, middle, _ = samples(client, "/interpolate", keyframes=keyframes, steps=3)
    assert first["prompt"] == "red hair"
    assert middle["prompt"] == {"words": [{"red": 0.5, "blue": 0.5}, {"hair": 1.0}, {"hat": 0.5}]}
    (again,) = samples(client, seed=1, prompt=middle["prompt"], format="npy")
    frames = samples(client, "/interpolate", keyframes=keyframes, steps=3, format="npy")
    assert again["data"] == frames[1]["data"]


def test_openais_prompt_is_the_prompt(client: TestClient) -> None:
    answer = client.post("/v1/images/generations", json={"prompt": "red hat", "seed": 3, "model": "prompts"})
    assert answer.json()["data"][0]["revised_prompt"] == "red hat"
    assert answer.json()["data"][0]["b64_json"] == samples(client, seed=3, prompt="red hat")[0]["data"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/generate", {"prompt": "green hair, long nose"}, "prompt: prompt: unknown words green, long, nose"),
        ("/generate", {"prompt": "red red red red"}, "prompt: prompt: 4 words; this model takes at most 3"),
        ("/generate", {"prompt": 7}, "prompt: prompt: a prompt is a text"),
        ("/generate", {"label": "cat"}, "label: label is wrong here: this model takes prompt, and no label"),
        (
            "/generate",
            {"prompt": "hat", "model": "classes"},
            "prompt: unknown field; the fields are model, truncation, ",
        ),
        ("/generate", {"latents": [[0.0] * 8]}, "prompt: prompt needs a prompt"),
        ("/generate", {"prompt": ["hat"], "seeds": [1, 2]}, "prompt: 1 prompts for 2 samples"),
        ("/mix", {"sources": [{"seed": 1, "prompt": "nose"}]}, "sources: sources[0]: unknown words nose"),
        ("/mix", {"sources": [{"seed": 1, "colour": "red"}]}, "sources: unknown field; the fields are seed, "),
        ("/generate", {"promt": "red hat"}, "promt: unknown field (did you mean prompt?); the fields are model, "),
        ("/generate", {"format": "pgn"}, "format: image samples cannot be 'pgn' (did you mean png?); they can be "),
        ("/generate", {"prompt": {"words": [{"red": 2}]}}, "prompt: prompt: a weight is a number from 0 to 1"),
    ],
)
def test_wrong_prompts_name_the_field(client: TestClient, path: str, body: Any, said: str) -> None:
    status, message = refused(post(client, path, **body))
    assert status == 400
    assert message.startswith(said)


def test_samples_of_a_new_kind_are_answered(client: TestClient) -> None:
    one = post(client, "/generate", accept="text/plain", model="words", seed=1)
    assert one.headers["content-type"].startswith("text/plain")
    (in_json,) = samples(client, model="words", seed=1)
    assert base64.b64decode(in_json["data"]) == one.content


def test_samples_that_no_file_can_hold_are_a_400(client: TestClient) -> None:
    status, message = refused(post(client, "/generate", accept="text/plain", model="words", num_samples=2))
    assert (status, message) == (
        400,
        "num_samples: one txt file cannot hold several word samples; accept application/json",
    )
    for layout in ("grid", "rows", "lines"):
        status, message = refused(post(client, "/generate", model="words", layout=layout))
        assert (status, message.partition(":")[0]) == (400, "layout")
    frames = {"keyframes": [{"seed": 1}, {"seed": 2}], "model": "words"}
    assert refused(post(client, "/interpolate", accept="image/gif", **frames))[0] == 406
    assert refused(post(client, "/interpolate", layout="animation", **frames))[0] == 400
    assert len(samples(client, "/interpolate", steps=3, **frames)) == 3


def test_the_document_and_the_explorer_know_the_model(client: TestClient) -> None:
    told = {model["name"]: model for model in client.get("/models").json()["models"]}
    assert set(told["prompts"]["fields"]) == {"latent", "latents", "truncation", "prompt"}
    assert told["words"]["media_types"] == {"txt": "text/plain"}
    assert told["words"]["layouts"] == {"txt": []}


def test_reproduce_sends_the_fields_of_the_model_again(client: TestClient, tmp_path: Path) -> None:
    file = tmp_path / "sample.png"
    file.write_bytes(base64.b64decode(samples(client, seed=7, prompt="red hat", truncation=0.5)[0]["data"]))
    with mock.patch("latentd.cli.client.post", lambda _, path, body, accept, __: post(client, path, accept, **body)):
        done = CliRunner().invoke(command, ["reproduce", str(file)])
    assert done.exit_code == 0, done.output
    assert '"prompt": "red hat"' in done.output
    assert done.output.endswith("the same bytes\n")
