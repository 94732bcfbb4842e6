"""Evaluation on Inception features, with a fake of torch-fidelity's extractor."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor, nn

from latentd.models.checkpoint import Checkpoint
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.image import to_pixels
from latentd.models.sampling import generate_rows
from latentd.training.data.source import DataError
from latentd.training.evaluation import metrics
from latentd.training.evaluation.command import evaluate
from latentd.training.evaluation.inception import load_inception
from tests.conftest import image_spec, points_spec
from tests.training.test_idx import idx_bytes, no_installed_data

__all__ = ["no_installed_data"]  # an autouse fixture, which applies here too
TRAIN, TEST = 150, 120
URL = "https://example.org/weights-1234abcd.pth"


class FakeInception(nn.Module):
    """Has the interface of torch_fidelity 0.4's FeatureExtractorInceptionV3, and records its inputs."""

    inputs: list[Tensor]

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | None = None,
        feature_extractor_internal_dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.features_list = features_list
        self.directions = torch.randn(3 * 4 * 4, 12, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        assert images.dtype == torch.uint8
        assert images.dim() == 4
        assert images.shape[1] == 3
        FakeInception.inputs.append(images.clone())
        values = self.features_of(images)
        return tuple({"2048": values, "logits_unbiased": values[:, :5]}[name] for name in self.features_list)

    def features_of(self, images: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(images.float() / 255, 4)
        return torch.tanh(small.flatten(1) @ self.directions)


@pytest.fixture(autouse=True)
def fake_torch_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = FakeInception  # type: ignore[attr-defined]
    module.URL_INCEPTION_V3 = URL  # type: ignore[attr-defined]
    package.feature_extractor_inceptionv3 = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    FakeInception.inputs = []


def write_set(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    pixels = {}
    for number, (split, count) in enumerate((("train", TRAIN), ("t10k", TEST))):
        pixels[split] = np.random.RandomState(seed + number).randint(0, 256, (count, 28, 28)).astype(np.uint8)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(pixels[split]))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes((np.arange(count) % 10).astype(np.uint8)))
    return pixels


def as_rgb(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels)[:, None].repeat(1, 3, 1, 1)


def run_evaluate(checkpoint: Path, data: Path | None, *more: str) -> Result:
    arguments = [str(checkpoint), "--features", "inception", "--rounds", "1", "--json", *more]
    return CliRunner().invoke(evaluate, arguments + (["--data", str(data)] if data else []))


def printed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.exception
    values: dict[str, Any] = json.loads(result.stdout)
    return values


@pytest.fixture
def mnist(write: Callable[..., Checkpoint], tmp_path: Path) -> Path:
    write(image_spec(), settings={"data": {"name": "mnist"}})
    return tmp_path / "model.safetensors"


def served_pixels(checkpoint: Path, count: int) -> np.ndarray:
    generator = Checkpoint.read(checkpoint).build()
    return to_pixels(generate_rows(generator, seeds_to_rows(generator.spec, range(count))))


def test_metrics_are_computed_on_features_of_the_served_bytes(mnist: Path, tmp_path: Path) -> None:
    pixels = write_set(tmp_path / "data")
    values = printed(run_evaluate(mnist, tmp_path / "data"))
    real, fake = as_rgb(pixels["t10k"]), as_rgb(served_pixels(mnist, TEST)[..., 0])
    inputs = torch.cat(FakeInception.inputs)
    assert torch.equal(inputs[:TEST], real)
    assert torch.equal(inputs[TEST : 2 * TEST], fake)
    baseline = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(0))[:TEST]
    assert torch.equal(inputs[2 * TEST :], as_rgb(pixels["train"])[baseline])
    extractor = FakeInception("", [])
    features, fakes = extractor.features_of(real), extractor.features_of(fake)
    assert values["measured_on"] == "Inception-v3 features (torch-fidelity)"
    assert values["samples"] == TEST
    assert values["frechet_distance"] == pytest.approx(metrics.frechet_distance(features, fakes))
    assert values["kernel_distance"] == pytest.approx(metrics.kernel_distance(features, fakes))
    assert (values["precision"], values["recall"]) == pytest.approx(metrics.precision_recall(features, fakes))
    density, covered = metrics.density_coverage(features, fakes)
    assert (values["density"], values["coverage"]) == pytest.approx((density, float(covered.double().mean())))
    assert values["inception_score"] == pytest.approx(metrics.inception_score(fakes[:, :5].softmax(dim=1)))
    assert "least_class" not in values  # the embedded classifier does not know digits
    assert values["frechet_distance"] > values["floor"]
    card = Checkpoint.read(mnist).card
    assert card.measured == f"1 set of {TEST} samples, Inception-v3 features (torch-fidelity)"
    assert card.metrics["frechet_distance"] == values["frechet_distance"]


def test_garments_are_counted_by_the_embedded_classifier(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write(image_spec(conditional=True), settings={"data": {"name": "fashion-mnist"}})
    write_set(tmp_path / "data")
    path = tmp_path / "model.safetensors"
    inception = printed(run_evaluate(path, tmp_path / "data"))
    embedded = printed(run_evaluate(path, tmp_path / "data", "--features", "embedded"))
    for name in ("least_class", "most_class", "label_accuracy"):
        assert inception[name] == embedded[name]
    assert inception["frechet_distance"] != embedded["frechet_distance"]


def test_features_of_real_images_are_cached(mnist: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "data")
    first = printed(run_evaluate(mnist, tmp_path / "data"))
    assert sum(map(len, FakeInception.inputs)) == 3 * TEST
    FakeInception.inputs = []
    again = printed(run_evaluate(mnist, tmp_path / "data"))
    assert torch.equal(torch.cat(FakeInception.inputs), as_rgb(served_pixels(mnist, TEST)[..., 0]))
    assert again == first
    cached = list((tmp_path / "cache" / "latentd" / "features").iterdir())
    assert len(cached) == 2
    cached[0].write_bytes(cached[0].read_bytes()[:-10])
    FakeInception.inputs = []
    assert printed(run_evaluate(mnist, tmp_path / "data")) == first
    assert sum(map(len, FakeInception.inputs)) == 2 * TEST


def test_other_images_do_not_hit_the_cache(mnist: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "data")
    first = printed(run_evaluate(mnist, tmp_path / "data"))
    write_set(tmp_path / "data", seed=7)
    FakeInception.inputs = []
    assert printed(run_evaluate(mnist, tmp_path / "data"))["frechet_distance"] != first["frechet_distance"]
    assert sum(map(len, FakeInception.inputs)) == 3 * TEST


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir()
    for number, pixels in enumerate(np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_user_images_are_evaluated_one_half_against_the_other(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 201)
    write(image_spec(32, 3), settings={"data": {"name": "image-folder", "resolution": 32}})
    path = tmp_path / "model.safetensors"
    values = printed(run_evaluate(path, tmp_path / "photos", "--rounds", "2"))
    assert values["samples"] == 100
    assert values["frechet_distance"] > values["floor"] > 0
    reference, fakes, others = torch.split(torch.cat(FakeInception.inputs), 100)[:3]
    assert torch.equal(fakes, torch.from_numpy(served_pixels(path, 100)).permute(0, 3, 1, 2))
    whole = {image.numpy().tobytes() for image in torch.cat([reference, others])}
    assert len(whole) == 200
    assert sum(map(len, FakeInception.inputs)) == 400  # the baseline of both rounds is the other half


def test_too_few_user_images_are_refused(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 20)
    write(image_spec(32, 3), settings={"data": {"name": "image-folder", "resolution": 32}})
    problem = run_evaluate(tmp_path / "model.safetensors", tmp_path / "photos").exception
    assert isinstance(problem, DataError)
    assert "20 images; an evaluation needs at least 200" in str(problem)
    problem = run_evaluate(tmp_path / "model.safetensors", tmp_path / "photos", "--features", "embedded").exception
    assert isinstance(problem, DataError)
    assert "20 images; an evaluation needs at least 100" in str(problem)


def test_points_cannot_be_evaluated_on_inception_features(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write(points_spec(), settings={"data": {"name": "ring"}})
    problem = run_evaluate(tmp_path / "model.safetensors", None).exception
    assert isinstance(problem, DataError)
    assert "leave out `features` or `--features`" in str(problem)


@pytest.mark.parametrize("problem", [ImportError("No module named 'torchvision'"), RuntimeError("no nms\nat all")])
def test_a_missing_package_is_reported_in_one_line(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise problem

    monkeypatch.setitem(sys.modules, "torch_fidelity", Broken("torch_fidelity"))
    with pytest.raises(DataError, match=r"pip install torch-fidelity torchvision") as raised:
        load_inception(lambda _: None)
    assert "\n" not in str(raised.value)


class CreatesFile:
    """Creates a file when it is unpickled without restrictions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("harmful", [False, True])
def test_pickled_code_does_not_run(harmful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, created = tmp_path / "weights.pth", tmp_path / "created"
    torch.save({"x": CreatesFile(created) if harmful else torch.ones(2)}, weights)

    def init(self: nn.Module, name: str, features_list: list[str], **_: Any) -> None:
        nn.Module.__init__(self)
        torch.load(weights, weights_only=False)

    monkeypatch.setattr(FakeInception, "__init__", init)
    if harmful:
        with pytest.raises(
            DataError, match=r"weights could not be .* put https://example\.org/.*1234abcd\.pth"
        ) as raised:
            load_inception(lambda _: None)
        assert "\n" not in str(raised.value)
    else:
        load_inception(lambda _: None)
    assert not created.exists()
    torch.load(weights, weights_only=False)  # the restriction has ended
    assert created.exists() == harmful
