"""The published protocol, on a stand-in for torch-fidelity's extractor that has its interface."""

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
from latentd.models.latents import seeds_to_latents
from latentd.models.outputs.image import to_pixels
from latentd.models.sampling import generate
from latentd.training.data.source import DataError
from latentd.training.evaluation import metrics
from latentd.training.evaluation.command import evaluate
from latentd.training.evaluation.inception import load_inception
from tests.conftest import image_spec, points_spec
from tests.training.test_idx import empty_places, idx_bytes

__all__ = ["empty_places"]  # a fixture that holds here too
TRAIN, TEST = 150, 120
URL = "https://example.org/weights-1234abcd.pth"


class StandIn(nn.Module):
    """Has the signature of torch_fidelity 0.4's FeatureExtractorInceptionV3, and remembers what it is shown."""

    shown: list[Tensor]

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
        StandIn.shown.append(images.clone())
        values = self.features_of(images)
        return tuple({"2048": values, "logits_unbiased": values[:, :5]}[name] for name in self.features_list)

    def features_of(self, images: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(images.float() / 255, 4)
        return torch.tanh(small.flatten(1) @ self.directions)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = StandIn  # type: ignore[attr-defined]
    module.URL_INCEPTION_V3 = URL  # type: ignore[attr-defined]
    package.feature_extractor_inceptionv3 = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    StandIn.shown = []


def write_set(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    pixels = {}
    for number, (split, count) in enumerate((("train", TRAIN), ("t10k", TEST))):
        pixels[split] = np.random.RandomState(seed + number).randint(0, 256, (count, 28, 28)).astype(np.uint8)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(pixels[split]))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes((np.arange(count) % 10).astype(np.uint8)))
    return pixels


def in_colour(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels)[:, None].repeat(1, 3, 1, 1)


def judge(checkpoint: Path, data: Path | None, *more: str) -> Result:
    arguments = [str(checkpoint), "--features", "inception", "--rounds", "1", "--json", *more]
    return CliRunner().invoke(evaluate, arguments + (["--data", str(data)] if data else []))


def figures_of(answer: Result) -> dict[str, Any]:
    assert answer.exit_code == 0, answer.exception
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


@pytest.fixture
def mnist(write: Callable[..., Checkpoint], tmp_path: Path) -> Path:
    write(image_spec(), settings={"data": {"name": "mnist"}})
    return tmp_path / "model.safetensors"


def served(checkpoint: Path, count: int) -> np.ndarray:
    generator = Checkpoint.read(checkpoint).build()
    return to_pixels(generate(generator, *seeds_to_latents(generator.spec, range(count))))


def test_what_is_served_is_shown_and_the_figures_are_of_its_features(mnist: Path, tmp_path: Path) -> None:
    pixels = write_set(tmp_path / "data")
    figures = figures_of(judge(mnist, tmp_path / "data"))
    real, fake = in_colour(pixels["t10k"]), in_colour(served(mnist, TEST)[..., 0])
    shown = torch.cat(StandIn.shown)
    assert torch.equal(shown[:TEST], real)
    assert torch.equal(shown[TEST : 2 * TEST], fake)
    others = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(0))[:TEST]
    assert torch.equal(shown[2 * TEST :], in_colour(pixels["train"])[others])
    extractor = StandIn("", [])
    features, fakes = extractor.features_of(real), extractor.features_of(fake)
    assert figures["measured_on"] == "Inception-v3 features (torch-fidelity)"
    assert figures["samples"] == TEST
    assert figures["frechet_distance"] == pytest.approx(metrics.frechet_distance(features, fakes))
    assert figures["kernel_distance"] == pytest.approx(metrics.kernel_distance(features, fakes))
    assert (figures["precision"], figures["recall"]) == pytest.approx(metrics.precision_recall(features, fakes))
    density, covered = metrics.density_coverage(features, fakes)
    assert (figures["density"], figures["coverage"]) == pytest.approx((density, float(covered.double().mean())))
    assert figures["inception_score"] == pytest.approx(metrics.inception_score(fakes[:, :5].softmax(dim=1)))
    assert "least_class" not in figures  # nobody here knows digits
    assert figures["frechet_distance"] > figures["floor"]
    card = Checkpoint.read(mnist).card
    assert card.measured == f"1 set of {TEST} samples, Inception-v3 features (torch-fidelity)"
    assert card.metrics["frechet_distance"] == figures["frechet_distance"]


def test_garments_are_counted_by_the_embedded_classifier(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write(image_spec(conditional=True), settings={"data": {"name": "fashion-mnist"}})
    write_set(tmp_path / "data")
    path = tmp_path / "model.safetensors"
    inception = figures_of(judge(path, tmp_path / "data"))
    embedded = figures_of(judge(path, tmp_path / "data", "--features", "embedded"))
    for name in ("least_class", "most_class", "label_accuracy"):
        assert inception[name] == embedded[name]
    assert inception["frechet_distance"] != embedded["frechet_distance"]


def test_real_images_are_shown_once(mnist: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "data")
    first = figures_of(judge(mnist, tmp_path / "data"))
    assert sum(map(len, StandIn.shown)) == 3 * TEST
    StandIn.shown = []
    again = figures_of(judge(mnist, tmp_path / "data"))
    assert torch.equal(torch.cat(StandIn.shown), in_colour(served(mnist, TEST)[..., 0]))
    assert again == first
    kept = list((tmp_path / "cache" / "latentd" / "features").iterdir())
    assert len(kept) == 2
    kept[0].write_bytes(kept[0].read_bytes()[:-10])
    StandIn.shown = []
    assert figures_of(judge(mnist, tmp_path / "data")) == first
    assert sum(map(len, StandIn.shown)) == 2 * TEST


def test_other_images_are_not_taken_for_those_that_are_known(mnist: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "data")
    first = figures_of(judge(mnist, tmp_path / "data"))
    write_set(tmp_path / "data", seed=7)
    StandIn.shown = []
    assert figures_of(judge(mnist, tmp_path / "data"))["frechet_distance"] != first["frechet_distance"]
    assert sum(map(len, StandIn.shown)) == 3 * TEST


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir()
    for number, pixels in enumerate(np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_images_of_ones_own_are_judged_half_against_half(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 201)
    write(image_spec(32, 3), settings={"data": {"name": "image-folder", "resolution": 32}})
    path = tmp_path / "model.safetensors"
    figures = figures_of(judge(path, tmp_path / "photos", "--rounds", "2"))
    assert figures["samples"] == 100
    assert figures["frechet_distance"] > figures["floor"] > 0
    reference, fakes, others = torch.split(torch.cat(StandIn.shown), 100)[:3]
    assert torch.equal(fakes, torch.from_numpy(served(path, 100)).permute(0, 3, 1, 2))
    whole = {image.numpy().tobytes() for image in torch.cat([reference, others])}
    assert len(whole) == 200
    assert sum(map(len, StandIn.shown)) == 400  # the other half is the floor of both rounds


def test_images_of_ones_own_that_are_too_few(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 20)
    write(image_spec(32, 3), settings={"data": {"name": "image-folder", "resolution": 32}})
    problem = judge(tmp_path / "model.safetensors", tmp_path / "photos").exception
    assert isinstance(problem, DataError)
    assert "20 images; at least 200" in str(problem)
    problem = judge(tmp_path / "model.safetensors", tmp_path / "photos", "--features", "embedded").exception
    assert isinstance(problem, DataError)
    assert "--features inception" in str(problem)


def test_points_have_no_such_features(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write(points_spec(), settings={"data": {"name": "ring"}})
    problem = judge(tmp_path / "model.safetensors", None).exception
    assert isinstance(problem, DataError)
    assert "leave --features away" in str(problem)


@pytest.mark.parametrize("problem", [ImportError("No module named 'torchvision'"), RuntimeError("no nms\nat all")])
def test_what_is_missing_is_said_in_a_line(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise problem

    monkeypatch.setitem(sys.modules, "torch_fidelity", Broken("torch_fidelity"))
    with pytest.raises(DataError, match=r"pip install torch-fidelity torchvision") as raised:
        load_inception(lambda _: None)
    assert "\n" not in str(raised.value)


class Opened:
    """Makes a file when it is unpickled by a reader that runs what it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("harmful", [False, True])
def test_weights_are_read_as_tensors_alone(harmful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, opened = tmp_path / "weights.pth", tmp_path / "opened"
    torch.save({"x": Opened(opened) if harmful else torch.ones(2)}, weights)

    def init(self: nn.Module, name: str, features_list: list[str], **_: Any) -> None:
        nn.Module.__init__(self)
        torch.load(weights, weights_only=False)

    monkeypatch.setattr(StandIn, "__init__", init)
    if harmful:
        with pytest.raises(
            DataError, match=r"weights could not be .* put https://example\.org/.*1234abcd\.pth"
        ) as raised:
            load_inception(lambda _: None)
        assert "\n" not in str(raised.value)
    else:
        load_inception(lambda _: None)
    assert not opened.exists()
    torch.load(weights, weights_only=False)  # nobody else is bound by that
    assert opened.exists() == harmful
