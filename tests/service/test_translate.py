"""Pictures go in: `POST /translate` and `POST /v1/images/edits`, in-process with a tiny image-to-image family."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from httpx import Response
from PIL import Image
from starlette.testclient import TestClient

from latentd.models.checkpoint import Checkpoint
from latentd.models.encoding.metadata import read_metadata
from latentd.models.sampling import generate_rows
from latentd.models.stage_input import StageInput
from tests import image_to_image
from tests.conftest import image_spec
from tests.image_to_image import SIDE
from tests.service.in_process import serving

SPECS = {
    "translator": image_to_image.spec(),
    "classes": image_to_image.spec(conditional=True),
    "grey": image_spec(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with image_to_image.registered(), serving(folder, SPECS) as client:
        yield client


def picture(seed: int = 0, size: tuple[int, int] = (SIDE, SIDE), format: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def coded(*files: bytes) -> list[str]:
    return [base64.b64encode(file).decode() for file in files]


def translate(client: TestClient, *files: bytes, accept: str = "*/*", **fields: Any) -> Response:
    return client.post("/translate", json={"images": coded(*files)} | fields, headers={"Accept": accept})


def samples(client: TestClient, *files: bytes, **fields: Any) -> list[dict[str, Any]]:
    answer = translate(client, *files, **fields)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["samples"]
    return found


def array(sample: dict[str, Any]) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(base64.b64decode(sample["data"]))))


def error(answer: Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"]["field"]


def row_of(file: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(np.float32)
    return (pixels / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)


def test_samples_are_those_of_the_generator_and_are_named_by_their_pictures(client: TestClient, folder: Path) -> None:
    files = [picture(seed) for seed in range(3)]
    generator = Checkpoint.read(folder / "translator.safetensors").build()
    expected = generate_rows(generator, StageInput(np.stack([row_of(file) for file in files])))
    found = samples(client, *files, format="npy")
    assert np.array_equal(np.stack([array(sample) for sample in found]), expected)
    assert [sample["image_sha256"] for sample in found] == [hashlib.sha256(file).hexdigest() for file in files]
    assert "seed" not in found[0]
    (alone,) = samples(client, files[1])
    together = samples(client, *files)[1]
    assert alone["data"] == together["data"]


def test_a_form_gives_the_same_as_json(client: TestClient) -> None:
    files = [picture(1), picture(2)]
    form: Any = [("image", ("one.png", files[0], "image/png")), ("image", ("two.png", files[1], "image/png"))]
    answer = client.post("/translate", files=form, data={"strength": "0.5", "format": "webp"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == translate(client, *files, strength=0.5, format="webp").json()


def test_raw_answers_and_grids(client: TestClient) -> None:
    one = translate(client, picture(1), accept="image/png")
    assert one.headers["content-type"] == "image/png"
    provenance = json.loads(read_metadata(one.content) or "")
    assert provenance["image_sha256"] == hashlib.sha256(picture(1)).hexdigest()
    request = json.loads(one.headers["x-latentd-request"])
    assert request["request"]["images"] == [{"image_sha256": provenance["image_sha256"]}]
    many = translate(client, *(picture(seed) for seed in range(16)), accept="application/x-npy")
    assert re.fullmatch("sha256:[0-9a-f]{64}", many.headers["x-latentd-request"])  # without the names of 16 pictures
    grid = translate(client, picture(1), picture(2), accept="image/png")
    assert Image.open(io.BytesIO(grid.content)).size == (2 * SIDE, SIDE)
    (in_json,) = samples(client, picture(1), picture(2), layout="grid")
    assert len(in_json["image_sha256s"]) == 2


def test_a_control_changes_the_sample_and_is_in_its_provenance(client: TestClient) -> None:
    (full,), (same,), (none,) = (
        samples(client, picture(1), **fields) for fields in ({}, {"strength": 1}, {"strength": 0})
    )
    assert full == same
    assert full["data"] != none["data"]
    assert json.loads(read_metadata(base64.b64decode(none["data"])) or "")["strength"] == 0
    assert "strength" not in json.loads(read_metadata(base64.b64decode(full["data"])) or "")
    for wrong in (1.5, -0.1, "much", True, [0.5]):
        assert error(translate(client, picture(1), strength=wrong)) == (400, "strength")


def test_the_condition_must_be_given(client: TestClient) -> None:
    assert error(translate(client, picture(1), model="classes")) == (400, "label")
    found = samples(client, picture(1), picture(1), model="classes", label=["cat", 2])
    assert [sample["label"] for sample in found] == ["cat", "owl"]
    assert found[0]["data"] != found[1]["data"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/generate", {"seed": 1}, "model"),
        ("/neighbors", {"seed": 1}, "model"),
        ("/interpolate", {"keyframes": [{"seed": 1}, {"seed": 2}]}, "model"),
        ("/mix", {"sources": [{"seed": 1}]}, "model"),
        ("/translate", {"images": coded(picture()), "truncation": 0.5}, "truncation"),
        ("/translate", {"images": coded(picture()), "directions": {"first": 1}}, "directions"),
        ("/translate", {"images": coded(picture()), "colour": 1}, "colour"),
        ("/translate", {"images": coded(picture()), "label": "cat"}, "label"),
        ("/translate", {"images": []}, "images"),
        ("/translate", {"images": coded(picture()) * 17}, "images"),
        ("/translate", {"images": ["not base64"]}, "images"),
        ("/translate", {"images": coded(b"GIF89a")}, "images"),
        ("/translate", {"images": coded(picture()[:80])}, "images"),
        ("/translate", {"images": coded(b"<svg xmlns='http://www.w3.org/2000/svg'/>")}, "images"),
        ("/translate", {"images": coded(picture()), "model": "grey"}, "model"),
        ("/translate", {}, "images"),
    ],
)
def test_fields_that_a_model_does_not_have_are_a_400(client: TestClient, path: str, body: Any, field: str) -> None:
    answer = client.post(path, json={"model": "translator"} | body)
    assert error(answer) == (400, field), answer.text


def test_a_missing_operation_is_refused_with_those_that_there_are(client: TestClient) -> None:
    message = client.post("/generate", json={"seed": 1}).json()["error"]["message"]
    assert message == "translator does not have the operation seed; it has translate"
    message = translate(client, picture(), model="grey").json()["error"]["message"]
    assert "it has directions, interpolate, mix, neighbors, seed, truncate" in message


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG file of many pixels."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_too_many_pixels_are_refused_before_they_are_decoded(client: TestClient) -> None:
    answer = translate(client, bomb(30_000, 1))
    assert error(answer) == (400, "images")
    assert "30000 × 1 pixels" in answer.json()["error"]["message"]
    assert error(translate(client, bomb(8192, 8192))) == (400, "images")
    assert "pixels; a request may ask for" in translate(client, *[bomb(4096, 4096)] * 5).json()["error"]["message"]


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_common_formats_are_read(client: TestClient, format: str) -> None:
    assert len(samples(client, picture(1, format=format))) == 1


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"image": ("x.png", b"nothing")}},
        {"files": {"other": ("x.png", picture())}},
        {"data": {"strength": "1"}, "files": {"strength": ("x", b"1")}},
        {"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_broken_forms_are_a_400(client: TestClient, form: dict[str, Any]) -> None:
    assert client.post("/translate", **form).status_code == 400


def test_openais_client_edits_pictures(client: TestClient) -> None:
    theirs: Any = openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=client, max_retries=0)  # type: ignore[arg-type]  # Starlette's client is httpx's
    files = [picture(1), picture(2)]
    answer = theirs.images.edit(image=[("a.png", files[0]), ("b.png", files[1])], prompt="", model="translator")
    assert [image.b64_json for image in answer.data] == [sample["data"] for sample in samples(client, *files)]
    assert answer.data[0].image_sha256 == hashlib.sha256(files[0]).hexdigest()
    large = theirs.images.edit(image=files[0], prompt="", model="translator", size="16x16")
    assert Image.open(io.BytesIO(base64.b64decode(large.data[0].b64_json))).size == (16, 16)
    wrong: list[dict[str, Any]] = [{"n": 2}, {"mask": files[0]}, {"response_format": "url"}, {"model": "grey"}]
    for fields in wrong:
        with pytest.raises(openai.BadRequestError):
            theirs.images.edit(**{"image": files[0], "prompt": "", "model": "translator"} | fields)
    assert client.post("/v1/images/edits", json={"image": [], "prompt": ""}).status_code == 415


def test_models_describe_their_fields_and_operations(client: TestClient) -> None:
    told = {model["name"]: model for model in client.get("/models").json()["models"]}
    assert told["translator"]["operations"] == ["translate"]
    assert set(told["translator"]["fields"]) == {"images", "strength"}
    assert told["translator"]["fields"]["strength"] == {"type": "number", "minimum": 0, "maximum": 1, "default": 1}
    assert set(told["classes"]["fields"]) == {"images", "label", "strength"}
    assert set(told["grey"]["fields"]) == {"latent", "latents", "truncation"}
    assert told["grey"]["layouts"] == {"png": ["grid"], "webp": ["grid"], "jpeg": ["grid"], "npy": ["rows"]}
    assert next(iter(told["grey"]["media_types"].items())) == ("png", "image/png")
    assert client.get("/models/translator/directions").json()["space"] is None
    assert client.get("/v2/models/translator").json()["inputs"] == []
