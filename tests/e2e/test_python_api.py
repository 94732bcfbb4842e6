"""`latentd.load` and a running service give the same bytes."""

import base64
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import latentd
from latentd.models.checkpoint import Checkpoint
from tests.e2e.conftest import Server

CONDITIONAL = "fashion-dcgan-conditional"


@pytest.fixture(scope="module")
def model() -> latentd.Model:
    return latentd.load(CONDITIONAL, device="cpu")


def files_of(server: Server, path: str, **fields: object) -> list[bytes]:
    answer = server.call(path, json.dumps({"model": CONDITIONAL, **fields}).encode(), content_type="application/json")
    assert answer.status == 200, answer.body
    return [base64.b64decode(sample["data"]) for sample in answer.json["samples"]]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "npy"])
def test_samples_have_the_bytes_of_generate(server: Server, model: latentd.Model, format: str) -> None:
    theirs = files_of(server, "/generate", seeds=[7, 3, 4294967295], format=format, truncation=0.7)
    assert model.sample([7, 3, 4294967295], truncation=0.7).encode(format) == theirs


def test_labels_have_the_bytes_of_generate(server: Server, model: latentd.Model) -> None:
    theirs = files_of(server, "/generate", seed=5, num_samples=2, label=["Bag", 9])
    assert model.sample(range(5, 7), labels=["Bag", 9]).encode() == theirs


def test_frames_have_the_bytes_of_interpolate(server: Server, model: latentd.Model) -> None:
    keyframes = [{"seed": 3, "label": "Dress"}, {"seed": 14, "label": "Bag"}]
    theirs = files_of(server, "/interpolate", keyframes=keyframes, steps=5, loop=True, easing="smooth")
    ours = model.interpolate([3, 14], steps=5, labels=["Dress", "Bag"], loop=True, easing="smooth")
    assert ours.seeds == [3, None, None, None, 14, None, None, None]
    assert ours.encode() == theirs


def test_samples_are_an_array_that_notebooks_show_as_a_grid(model: latentd.Model) -> None:
    samples = model.sample(range(5), labels="Dress")
    assert samples.shape == (5, 1, 28, 28)
    assert samples.dtype == np.float32
    assert samples[1:3].encode() == samples.encode()[1:3]
    assert samples[np.array([4, 0])].seeds == [4, 0]
    assert (samples * 0.5).seeds == [None] * 5
    with Image.open(io.BytesIO(samples.encode()[2])) as stored:
        assert np.array_equal(np.asarray(stored), np.asarray(samples.images()[2]))
    page = samples._repr_html_()
    grid = page.partition("base64,")[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(grid))) as picture:
        assert picture.size == (84, 56)


def test_points_are_numbers() -> None:
    points = latentd.load("ring-gan", device="cpu").sample([1, 2])
    assert points.shape == (2, 2)
    with pytest.raises(TypeError, match="not images"):
        points.images()
    assert "Samples" in points._repr_html_()


def test_invalid_arguments_are_reported(model: latentd.Model, tmp_path: Path) -> None:
    with pytest.raises(latentd.LatentdError, match="one of fashion-dcgan, fashion-dcgan-conditional, ring-gan"):
        latentd.load("nothing-like-it")
    with pytest.raises(latentd.LatentdError, match=r"there is no file .*missing"):
        latentd.load(tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match="unknown label"):
        model.sample(0, labels="Hat")
    with pytest.raises(ValueError, match="2 labels for 3 seeds"):
        model.sample([1, 2, 3], labels=["Bag", "Bag"])
    with pytest.raises(ValueError, match="truncation"):
        model.sample(0, truncation=0.0)
    with pytest.raises(ValueError, match="has no classes"):
        latentd.load("fashion-dcgan", device="cpu").sample(0, labels="Bag")
    with pytest.raises(ValueError, match="two seeds"):
        model.interpolate([1])
    for wrong in (1.5, None, "7", ["7"], [1.0], True, -1, 2**32, [], np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match="seed"):
            model.sample(wrong)  # type: ignore[arg-type]  # on purpose
    for arguments in ({"method": "x"}, {"easing": "x"}, {"steps": 2.5}, {"steps": 1}, {"truncation": "1"}):
        with pytest.raises(ValueError, match=r"method|easing|steps|truncation"):
            model.interpolate([1, 2], **arguments)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="device"):
        latentd.load("ring-gan", "tpu")
    with pytest.raises(ValueError, match="rounds"):
        latentd.evaluate("ring-gan", rounds=0)
    with pytest.raises(ValueError, match="features"):
        latentd.evaluate("ring-gan", features="x")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="seed"):
        latentd.train("ring-gan", out=tmp_path / "run", seed=-1)


def test_arguments_are_taken_from_numpy_and_samples_survive_pickle(model: latentd.Model) -> None:
    samples = model.sample(np.arange(3), labels=np.int64(3))
    assert samples.encode() == model.sample([0, 1, 2], labels="Dress").encode()
    assert model.sample(np.int64(2), labels=3).encode() == samples.encode()[2:]
    assert pickle.loads(pickle.dumps(samples)).encode() == samples.encode()  # noqa: S301  # our own bytes, as multiprocessing sends them


def test_weights_of_classes_have_the_bytes_of_generate(server: Server, model: latentd.Model) -> None:
    weights = {"Bag": 0.5, "Dress": 0.5}
    assert model.sample(5, labels=weights).encode() == files_of(server, "/generate", seed=5, label=weights)


def test_a_run_is_trained_loaded_and_evaluated(tmp_path: Path) -> None:
    run = latentd.train(
        "ring-gan", out=tmp_path / "first", device="cpu", steps=4, batch_size=16, generator={"latent": {"dim": 8}}
    )
    assert run.is_complete
    assert run.checkpoint == tmp_path / "first" / "ring-gan.safetensors"
    assert Checkpoint.read(run.checkpoint).card.spec.input.size == 8
    assert run.load(device="cpu").sample(3).shape == (1, 2)
    assert latentd.load(tmp_path / "first" / "ring-gan.safetensors", device="cpu").version == run.load().version
    result = latentd.evaluate(run.checkpoint, rounds=1)
    assert result["modes"].baseline == 8
    with pytest.raises(latentd.LatentdError, match="stepz"):
        latentd.train("ring-gan", out=tmp_path / "second", stepz=3)
