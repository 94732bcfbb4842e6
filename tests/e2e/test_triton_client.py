"""NVIDIA's client for the Open Inference Protocol, unchanged, against the shipped models."""

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from latentd.models.checkpoint import Checkpoint
from latentd.models.latents import seed_to_row
from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Server, serving

CONDITIONAL = "fashion-dcgan-conditional"
CLIENT = "client-0123456789abcdef"


@pytest.fixture(scope="module")
def client(server: Server) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(server.url.removeprefix("http://"))


def tensor(name: str, values: np.ndarray, datatype: str, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(values.shape), datatype)
    return made.set_data_from_numpy(values, binary_data=binary)


def seeds(*values: int, binary: bool = True) -> triton.InferInput:
    return tensor("seeds", np.array(values, np.uint32), "UINT32", binary)


def rows(server: Server, **fields: Any) -> np.ndarray:
    """Return the array that `/generate` answers as npy."""
    answer = server.generate("application/x-npy", **fields)
    assert answer.status == 200, answer.body
    return np.asarray(np.load(io.BytesIO(answer.body), allow_pickle=False))


def latents(*of: int) -> np.ndarray:
    spec = Checkpoint.read(ROOT / "models" / "checkpoints" / "fashion-dcgan.safetensors").card.spec
    return np.stack([seed_to_row(spec, seed).input for seed in of])


def test_metadata_of_server_and_models(client: Any, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    extensions = client.get_server_metadata()["extensions"]
    assert extensions == ["binary_tensor_data", "model_configuration", "statistics"]
    version = server.call("/models/fashion-dcgan").json["version"]
    assert client.is_model_ready("fashion-dcgan")
    assert client.is_model_ready("fashion-dcgan", version)
    assert not client.is_model_ready("fashion-dcgan", "0123456789ab")
    assert not client.is_model_ready("nope")
    metadata = client.get_model_metadata(CONDITIONAL)
    assert metadata["versions"] == [server.call(f"/models/{CONDITIONAL}").json["version"]]
    assert [(each["name"], each["datatype"], each["shape"]) for each in metadata["inputs"]] == [
        ("seeds", "UINT32", [-1]),
        ("latents", "FP32", [-1, 64]),
        ("labels", "INT32", [-1]),
    ]
    assert metadata["outputs"] == [{"name": "samples", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]
    assert len(client.get_model_metadata("ring-gan", "")["inputs"]) == 2


def test_the_configuration_says_what_the_metadata_says(client: Any, server: Server) -> None:
    """perf_analyzer makes its requests from both."""
    version = server.call(f"/models/{CONDITIONAL}").json["version"]
    metadata, config = client.get_model_metadata(CONDITIONAL), client.get_model_config(CONDITIONAL, version)
    assert (config["name"], config["max_batch_size"]) == (CONDITIONAL, 0)
    for kind in ("input", "output"):
        described = [(each["name"], each["data_type"], each["dims"]) for each in config[kind]]
        assert described == [(each["name"], f"TYPE_{each['datatype']}", each["shape"]) for each in metadata[f"{kind}s"]]
    assert [each["name"] for each in config["input"] if not each["optional"]] == ["seeds"]


def test_statistics_count_requests_samples_and_their_time(client: Any) -> None:
    def statistics() -> dict[str, Any]:
        (one,) = client.get_inference_statistics("ring-gan")["model_stats"]
        assert one in client.get_inference_statistics()["model_stats"]
        return dict(one)

    before = statistics()
    client.infer("ring-gan", [seeds(1, 2, 3)])
    with pytest.raises(InferenceServerException):
        client.infer("ring-gan", [seeds(1), seeds(1)])
    eventually(lambda: statistics()["inference_stats"]["success"]["count"] > 0)
    after = statistics()
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] > before["execution_count"]
    for part in ("success", "queue", "compute_infer", "compute_output"):
        now, then = after["inference_stats"][part], before["inference_stats"][part]
        assert now["count"] > then["count"]
        assert now["ns"] > then["ns"]
    assert abs(after["last_inference"] / 1000 - time.time()) < 600


@pytest.mark.parametrize("binary", [True, False])
def test_seeds_and_labels_may_have_a_dimension_of_one(client: Any, server: Server, binary: bool) -> None:
    columns = [
        tensor("seeds", np.array([[7], [8], [9]], np.uint32), "UINT32", binary),
        tensor("labels", np.array([[1], [2], [3]], np.int32), "INT32", binary),
    ]
    samples = client.infer(CONDITIONAL, columns).as_numpy("samples")
    assert np.array_equal(samples, rows(server, model=CONDITIONAL, seeds=[7, 8, 9], label=[1, 2, 3]))


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("got_binary", [True, False])
def test_samples_are_bitwise_those_of_generate(
    client: Any, server: Server, sent_binary: bool, got_binary: bool
) -> None:
    wanted = [triton.InferRequestedOutput("samples", binary_data=got_binary)]
    for model in ("fashion-dcgan", "ring-gan"):
        answer = client.infer(model, [seeds(7, 3, 2**32 - 1, binary=sent_binary)], outputs=wanted, request_id="mine")
        samples = answer.as_numpy("samples")
        assert samples.dtype == np.float32
        assert samples.tobytes() == rows(server, model=model, seeds=[7, 3, 2**32 - 1]).tobytes()
        assert answer.get_response()["id"] == "mine"
        assert answer.get_response()["model_name"] == model
        assert ("data" in answer.get_output("samples")) is not got_binary
    given = tensor("latents", latents(7, 3), "FP32", sent_binary)
    answer = client.infer("fashion-dcgan", [given], outputs=wanted)
    assert answer.as_numpy("samples").tobytes() == rows(server, seeds=[7, 3]).tobytes()


def test_outputs_that_are_not_named_are_binary(client: Any, server: Server) -> None:
    answer = client.infer("fashion-dcgan", [seeds(5)])
    assert "data" not in answer.get_output("samples")
    assert np.array_equal(answer.as_numpy("samples"), rows(server, seed=5))


def test_labels_truncation_and_versions(client: Any, server: Server) -> None:
    labels = tensor("labels", np.array([8, 3], np.int32), "INT32")
    version = server.call(f"/models/{CONDITIONAL}").json["version"]
    answer = client.infer(CONDITIONAL, [labels, seeds(1, 2)], version, parameters={"truncation": 0.5})
    expected = rows(server, model=CONDITIONAL, seeds=[1, 2], label=["Bag", "Dress"], truncation=0.5)
    assert np.array_equal(answer.as_numpy("samples"), expected)
    assert answer.get_response()["model_version"] == version


def test_many_requests_at_once(server: Server) -> None:
    client = triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=8)
    waiting = [client.async_infer("fashion-dcgan", [seeds(seed)]) for seed in range(32)]
    samples = [each.get_result().as_numpy("samples")[0] for each in waiting]
    assert np.array_equal(samples, rows(server, seed=0, num_samples=32))


@pytest.mark.parametrize(
    ("model", "inputs", "how", "status", "said"),
    [
        ("nope", [seeds(1)], {}, 404, "model: there is no model 'nope'"),
        ("fashion-dcgan", [], {}, 400, "seeds or latents"),
        ("fashion-dcgan", [seeds(*range(257))], {}, 400, "seeds: 257 samples"),
        ("fashion-dcgan", [seeds(1), seeds(1)], {}, 400, "the input seeds is there twice"),
        ("fashion-dcgan", [seeds(1), tensor("latents", latents(1), "FP32")], {}, 400, "cannot be combined"),
        ("fashion-dcgan", [tensor("seeds", np.array([1], np.int64), "INT64")], {}, 400, "datatype of seeds is UINT32"),
        (
            "fashion-dcgan",
            [tensor("seeds", np.array([[1, 2]], np.uint32), "UINT32")],
            {},
            400,
            r"shape of seeds is \[n\]",
        ),
        ("fashion-dcgan", [tensor("noise", np.array([1], np.uint32), "UINT32")], {}, 400, "unknown input 'noise'"),
        ("fashion-dcgan", [tensor("latents", np.zeros((1, 3), np.float32), "FP32")], {}, 400, "this model takes 64"),
        ("fashion-dcgan", [tensor("latents", latents(1) * np.nan, "FP32")], {}, 400, "latents: .*finite"),
        ("fashion-dcgan", [seeds(1), tensor("labels", np.array([1], np.int32), "INT32")], {}, 400, "labels: "),
        (CONDITIONAL, [seeds(1), tensor("labels", np.array([10], np.int32), "INT32")], {}, 400, "labels: "),
        (CONDITIONAL, [tensor("latents", latents(1), "FP32")], {}, 400, "labels: .*a label"),
        ("fashion-dcgan", [seeds(1)], {"parameters": {"truncation": 2}}, 400, "truncation: "),
        ("fashion-dcgan", [seeds(1)], {"parameters": {"psi": 1}}, 400, "unknown parameter 'psi'"),
        ("fashion-dcgan", [seeds(1)], {"sequence_id": 1}, 400, "unknown parameter 'sequence_end'"),
        (
            "fashion-dcgan",
            [seeds(1)],
            {"outputs": [triton.InferRequestedOutput("logits")]},
            400,
            "unknown output 'logits'",
        ),
        (
            "fashion-dcgan",
            [seeds(1)],
            {"outputs": [triton.InferRequestedOutput("samples", class_count=3)]},
            400,
            "unknown parameter 'classification'",
        ),
        ("fashion-dcgan", [seeds(1)], {"request_compression_algorithm": "gzip"}, 415, "compressed"),
    ],
)
def test_the_client_raises_our_error_messages(
    client: Any, model: str, inputs: list[Any], how: dict[str, Any], status: int, said: str
) -> None:
    with pytest.raises(InferenceServerException, match=said) as refusal:
        client.infer(model, inputs, **how)
    assert refusal.value.status() == str(status)


@pytest.mark.parametrize(
    ("changed", "length", "said"),
    [
        ({}, "x", "Inference-Header-Content-Length is"),
        ({}, "999999", "Inference-Header-Content-Length is"),
        ({"parameters": {"binary_data_size": 8}}, None, "is 4 bytes; binary_data_size says 8"),
        ({"shape": [2], "parameters": {"binary_data_size": 8}}, None, "and 4 bytes arrived"),
        ({"shape": [1, 10**30]}, None, "shape"),
        ({"shape": [-1]}, None, "greater than or equal to 0"),
        ({"parameters": None, "data": [1]}, None, "4 bytes after the JSON"),
        ({"data": [1]}, None, "needs either data or"),
        ({"parameters": {"shared_memory_region": "x"}}, None, "unknown parameter 'shared_memory_region'"),
        ({"color": 1}, None, "unknown field; the fields are parameters, name, datatype, shape, data (at 0.color)"),
    ],
)
def test_malformed_bodies_are_refused(server: Server, changed: dict[str, Any], length: str | None, said: str) -> None:
    input_ = {"name": "seeds", "datatype": "UINT32", "shape": [1], "parameters": {"binary_data_size": 4}} | changed
    head = json.dumps({"inputs": [input_]}).encode()
    answer = server.call(
        "/v2/models/fashion-dcgan/infer",
        head + b"\x07\0\0\0",
        content_type="application/octet-stream",
        inference_header_content_length=length or str(len(head)),
    )
    assert answer.status == 400
    assert set(answer.json) == {"error"}
    assert said in answer.json["error"]


def test_errors_below_v2_have_the_protocols_shape(server: Server) -> None:
    for path, body, status in [
        ("/v2/nope", None, 404),
        ("/v2/models/nope/config", None, 404),
        ("/v2/models/fashion-dcgan/infer", None, 405),
        ("/v2/models/fashion-dcgan/infer", b"nonsense", 400),
        ("/v2/models/fashion-dcgan/infer", b"[" * 100_000, 400),
    ]:
        answer = server.call(path, body)
        assert answer.status == status
        assert isinstance(answer.json["error"], str)
        assert answer.headers["content-length"] == str(len(answer.body))


def test_the_answer_names_the_request_that_repeats_it(server: Server) -> None:
    body = {"inputs": [{"name": "seeds", "datatype": "UINT32", "shape": [2], "data": [5, 6]}]}
    answer = server.call("/v2/models/fashion-dcgan/infer", json.dumps(body).encode())
    again = json.loads(answer.headers["x-latentd-request"])
    assert again["endpoint"] == "/generate"
    numbers = np.array(answer.json["outputs"][0]["data"], np.float32)
    assert np.array_equal(numbers, rows(server, **again["request"]).reshape(-1))


def test_requests_are_counted_under_their_route(server: Server) -> None:
    text = server.call("/metrics").body.decode()
    assert 'latentd_requests_total{endpoint="/v2/models/{name}/infer",model="fashion-dcgan",status="2xx"}' in text
    assert 'endpoint="/v2/health/live"' in text


def test_tokens_and_their_limits_apply(tmp_path: Path) -> None:
    environment = {"LATENTD_TOKENS": f"ci {CLIENT} rate=0.1 burst=4"}
    with serving(tmp_path, LATENTD_MODELS=str(ROOT / "models" / "checkpoints"), **environment) as server:
        client = triton.InferenceServerClient(server.url.removeprefix("http://"))
        assert client.is_server_live()
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="a token is needed"):
            client.infer("fashion-dcgan", [seeds(1)])
        headers = {"Authorization": f"Bearer {CLIENT}"}
        first = client.infer("fashion-dcgan", [seeds(1, 2, 3, 4)], headers=headers)
        assert first.as_numpy("samples").shape[0] == 4
        with pytest.raises(InferenceServerException, match="samples per second") as refusal:
            client.infer("fashion-dcgan", [seeds(1, 2, 3, 4)], headers=headers)
        assert refusal.value.status() == "429"


def test_a_service_without_models_is_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path / "home", probe="/livez", LATENTD_MODELS=str(tmp_path)) as server:
        client = triton.InferenceServerClient(server.url.removeprefix("http://"))
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert set(server.call("/v2/health/ready").json) == {"error"}
