"""`POST /interpolate` over real HTTP: animations and streams; and files of all endpoints that are made again."""

import base64
import http.client
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import bentoml
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageSequence

from latentd.cli.main import latentd
from latentd.models.encoding.metadata import embed_metadata, read_metadata
from tests.e2e.conftest import Answer, Server

KEYFRAMES = [{"seed": 7}, {"seed": 12}, {"seed": 99}]


def interpolate(server: Server, accept: str = "*/*", **fields: Any) -> Answer:
    body = json.dumps({"keyframes": KEYFRAMES, "steps": 5} | fields).encode()
    return server.call("/interpolate", body, content_type="application/json", accept=accept)


def frames_of(server: Server, **fields: Any) -> list[np.ndarray]:
    """Return the frames, each from its own lossless file."""
    samples = interpolate(server, **fields).json["samples"]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["data"])))) for sample in samples]


@pytest.mark.parametrize("accept", ["image/gif", "image/apng", "image/webp"])
def test_lossless_animations_show_the_frames(server: Server, accept: str) -> None:
    answer = interpolate(server, accept, layout="animation", fps=20)
    assert answer.headers["content-type"] == accept
    with Image.open(io.BytesIO(answer.body)) as animation:
        shown = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(animation)]
    expected = frames_of(server)
    assert len(shown) == len(expected) == 9
    assert all(np.array_equal(*pair) for pair in zip(shown, expected, strict=True))


def test_an_mp4_shows_nearly_the_same_frames(server: Server) -> None:
    answer = interpolate(server, "video/mp4", fps=12, scale=4, loop=True)
    expected = frames_of(server, loop=True)
    with av.open(io.BytesIO(answer.body)) as animation:
        shown = [frame.to_ndarray(format="gray") for frame in animation.decode(video=0)]
    assert len(shown) == len(expected) == 12
    for frame, picture in zip(shown, expected, strict=True):
        large = np.kron(picture, np.ones((4, 4)))
        assert frame.shape == large.shape
        assert np.abs(frame - large).mean() < 6


def test_bentomls_client_interpolates_mixes_and_finds_neighbors(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        frames = client.interpolate(keyframes=KEYFRAMES, steps=3)
        mixed = client.mix(sources=[{"seed": 1}, {"seed": 2, "weight": 2}])
        near = client.neighbors(seed=1, num_samples=2, neighbor_seed=5)
    assert len(frames["samples"]) == 5
    assert len(mixed["samples"]) == 1
    assert [sample["neighbor_seed"] for sample in near["samples"]] == [5, 6]


def test_the_api_page_describes_every_endpoint(server: Server) -> None:
    paths = server.call("/docs.json").json["paths"]
    assert {"/generate", "/interpolate", "/mix", "/neighbors"} <= set(paths)


def test_a_stream_has_all_its_frames(server: Server) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=300)
    body = json.dumps({"keyframes": KEYFRAMES[:2], "steps": 1000})
    connection.request("POST", "/interpolate", body, {"Accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.read().count(b"event: frame\n") == 1000
    connection.close()


def test_disconnected_clients_leave_nothing_in_the_queue(server: Server) -> None:
    for _ in range(30):  # together more frames than the queue and the limits admit
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=300)
        body = json.dumps({"keyframes": KEYFRAMES[:2], "steps": 1000})
        connection.request("POST", "/interpolate", body, {"Accept": "text/event-stream"})
        assert connection.getresponse().readline() == b"event: start\n"
        connection.close()
    assert interpolate(server).status == 200


@pytest.fixture(scope="module")
def files(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of every kind, with its provenance in it."""
    folder = tmp_path_factory.mktemp("files")

    def ask(name: str, path: str, accept: str, **fields: Any) -> Path:
        answer = server.call(path, json.dumps(fields).encode(), content_type="application/json", accept=accept)
        assert answer.status == 200, answer.body
        file = folder / name
        file.write_bytes(answer.body)
        return file

    conditional = {"model": "fashion-dcgan-conditional"}
    return {
        "sample": ask("sample.png", "/generate", "image/png", seed=7),
        "drawn": ask("drawn.webp", "/generate", "image/webp", truncation=0.7, **conditional),
        "mixture": ask(
            "mixture.jpg", "/generate", "image/jpeg", label={"Bag": 0.5, "Sandal": 0.5}, seed=3, **conditional
        ),
        "latent": ask("latent.png", "/generate", "image/png", latents=[[0.1] * 64]),
        "edited": ask("edited.png", "/generate", "image/png", seed=7, truncation=0.8, directions={"trouser": 2.5}),
        "edited gif": ask("edited.gif", "/interpolate", "image/gif", keyframes=KEYFRAMES, directions={"size": -1}),
        "mix": ask("mix.png", "/mix", "image/png", sources=[{"seed": 1}, {"seed": 2}]),
        "grid": ask("grid.png", "/neighbors", "image/png", seed=5, num_samples=4),
        "gif": ask("animation.gif", "/interpolate", "image/gif", keyframes=KEYFRAMES, steps=3),
        "apng": ask("animation.png", "/interpolate", "image/apng", keyframes=KEYFRAMES, steps=3),
        "webp": ask("animation.webp", "/interpolate", "image/webp", keyframes=KEYFRAMES, steps=3, layout="animation"),
        "mp4": ask("animation.mp4", "/interpolate", "video/mp4", keyframes=KEYFRAMES, steps=3, fps=10),
        "npy": ask("sample.npy", "/generate", "application/x-npy", seed=7),
    }


def reproduce(file: Path, url: str) -> Result:
    return CliRunner().invoke(latentd, ["reproduce", str(file), "--url", url])


@pytest.mark.parametrize(
    "kind",
    ["sample", "drawn", "mixture", "latent", "edited", "edited gif", "mix", "grid", "gif", "apng", "webp", "mp4"],
)
def test_files_are_reproduced(server: Server, files: dict[str, Path], kind: str) -> None:
    done = reproduce(files[kind], server.url)
    assert done.exit_code == 0, done.stderr
    assert "fashion-dcgan" in done.stdout
    assert done.stdout.endswith("the same bytes\n")


def test_the_same_pixels_in_other_bytes_have_an_exit_status_of_their_own(
    server: Server, files: dict[str, Path], tmp_path: Path
) -> None:
    """As after another machine has made the file: its fingerprint is part of its bytes."""
    provenance = json.loads(read_metadata(files["sample"].read_bytes()) or "")
    with Image.open(files["sample"]) as picture:
        picture.save(tmp_path / "plain.png")
    other = tmp_path / "other.png"
    elsewhere = json.dumps(provenance | {"fingerprint": "f" * 12})
    other.write_bytes(embed_metadata((tmp_path / "plain.png").read_bytes(), "png", elsewhere))
    done = reproduce(other, server.url)
    assert done.exit_code == 3, done.output
    assert "\nthe same pixels, in other bytes: the file was made with the fingerprint ffffffffffff" in done.stdout
    assert done.stderr == ""


def test_reproduce_explains_why_it_fails(server: Server, files: dict[str, Path], tmp_path: Path) -> None:
    assert "contains no provenance" in reproduce(files["npy"], server.url).stderr
    assert "cannot be reached" in reproduce(files["sample"], "http://127.0.0.1:9").stderr
    plain = tmp_path / "plain.png"
    Image.new("L", (28, 28)).save(plain)
    foreign = tmp_path / "foreign.png"
    foreign.write_bytes(embed_metadata(plain.read_bytes(), "png", '{"prompt":"a cat"}'))
    assert "contains no request" in reproduce(foreign, server.url).stderr
    for change, said in (
        ({"version": "0" * 12}, "version_not_served"),
        ({"directions": {"trouser": 1}, "directions_version": "0" * 12}, "version_not_served"),
        ({"fingerprint": "f" * 12}, "the pixels differ: the file was made with the fingerprint ffffffffffff"),
        ({}, "the pixels differ: the service has the file's fingerprint"),
    ):
        name = json.loads(server.call("/models/fashion-dcgan").body)
        carried = {
            "model": "fashion-dcgan",
            "version": name["version"],
            "fingerprint": name["determinism"]["fingerprint_id"],
            "seed": 7,
        }
        other = tmp_path / "other.png"
        other.write_bytes(embed_metadata(plain.read_bytes(), "png", json.dumps(carried | change)))
        done = reproduce(other, server.url)
        assert done.exit_code == 1
        assert said in done.stderr
        assert "largest difference of a pixel is" in done.stderr or "version_not_served" in said
