"""The code in "Add a modality" of docs/architecture.md: it is served, and used from the command line."""

import base64
import importlib
import io
import json
import re
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from latentd.cli.sample import sample
from latentd.models.families import families
from latentd.models.inputs.latent import LatentInput
from latentd.models.kind import kinds
from latentd.models.spec import GeneratorSpec
from tests.service.in_process import serving

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
RATE, LENGTH = 16_000, 4000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the page shows. The packages look for their modules there too."""
    folder = tmp_path_factory.mktemp("sound")
    blocks = re.findall(r"```python\n# models/(\w+/\w+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [path for path, _ in blocks] == ["outputs/sound.py", "families/sine.py"]
    assert sum(len(code.splitlines()) for _, code in blocks) < 100
    with pytest.MonkeyPatch.context() as patch:
        for path, code in blocks:
            file = folder / path
            file.parent.mkdir()
            file.write_text(code, encoding="utf-8")
            package = importlib.import_module(f"latentd.models.{file.parent.name}")
            patch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
        families.cache_clear()
        yield folder
    families.cache_clear()


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    sound = kinds("latentd.models.outputs")["sound"](sample_rate=RATE, length=LENGTH)
    spec = GeneratorSpec(family="sine", config={}, input=LatentInput(dim=2), output=sound)
    (folder / "served").mkdir()
    with serving(folder / "served", {"sine": spec}) as client:
        yield client


def heard(file: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(file)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32767


def pitch(sound: np.ndarray) -> float:
    """Return the loudest frequency, in Hz."""
    return float(np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound))


def test_a_latent_is_a_sine_of_its_pitch(client: TestClient) -> None:
    for octaves in (0.0, 1.0, -0.5):
        answer = client.post("/generate", json={"latents": [[octaves, 5.0]]}, headers={"Accept": "audio/wav"})
        assert answer.headers["content-type"] == "audio/wav"
        sound = heard(answer.content)
        assert len(sound) == LENGTH
        assert pitch(sound) == pytest.approx(440 * 2**octaves, abs=RATE / LENGTH)


def test_a_seed_gives_the_same_bytes_alone_and_with_others(client: TestClient) -> None:
    samples = client.post("/generate", json={"seed": 3, "num_samples": 4}).json()["samples"]
    alone = client.post("/generate", json={"seed": 5}, headers={"Accept": "audio/wav"})
    assert base64.b64decode(samples[2]["data"]) == alone.content


def test_several_sounds_are_joined_with_gaps(client: TestClient) -> None:
    answer = client.post("/generate", json={"seed": 3, "num_samples": 2}, headers={"Accept": "audio/wav"})
    first, second = (
        heard(base64.b64decode(each["data"]))
        for each in client.post("/generate", json={"seed": 3, "num_samples": 2}).json()["samples"]
    )
    sound, gap = heard(answer.content), RATE // 10
    assert np.array_equal(sound, np.concatenate([first, np.zeros(gap), second, np.zeros(gap)]))
    assert json.loads(answer.headers["x-latentd-request"])["request"]["layout"] == "sequence"


def test_every_operation_works_and_impossible_formats_are_a_400(client: TestClient) -> None:
    keyframes = {"keyframes": [{"seed": 1}, {"seed": 2}], "steps": 3}
    assert len(client.post("/interpolate", json=keyframes).json()["samples"]) == 3
    assert len(client.post("/mix", json={"sources": [{"seed": 1}, {"seed": 2}]}).json()["samples"]) == 1
    assert len(client.post("/neighbors", json={"seed": 1, "num_samples": 2}).json()["samples"]) == 2
    for wrong in ({"layout": "grid"}, {"format": "png"}, {"label": 1}):
        assert client.post("/generate", json=wrong).status_code == 400
    assert client.post("/interpolate", json=keyframes | {"layout": "animation"}).status_code == 400
    told = client.get("/models/sine").json()
    assert told["media_types"] == {"wav": "audio/wav", "npy": "application/x-npy"}
    assert told["layouts"] == {"wav": ["sequence"], "npy": ["rows"]}


def test_the_command_line_writes_sounds(client: TestClient, folder: Path) -> None:
    file = folder / "sounds.wav"
    done = CliRunner().invoke(sample, [str(folder / "served" / "sine.safetensors"), "--seeds", "3-4", "-o", str(file)])
    assert done.exit_code == 0, done.output
    assert (
        file.read_bytes()
        == client.post("/generate", json={"seed": 3, "num_samples": 2}, headers={"Accept": "audio/wav"}).content
    )
