"""The embedded feature extractor, and metrics of images."""

import math
from importlib.resources import files

import pytest
import torch

from latentd.training.data.idx import load_idx_set
from latentd.training.data.pixels import normalize
from latentd.training.evaluation.classifier import CLASSIFIER_DATASET, WEIGHTS_FILE, Classifier, load_classifier
from latentd.training.evaluation.evaluator import EvaluationSet, SamplesNotFinite
from latentd.training.evaluation.images import ImageEvaluator, RealImages
from latentd.training.evaluation.train_classifier import accuracy, train_classifier
from tests.conftest import needs_fashion


def stripes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noisy images of ten classes; the brightness of stripes gives the class."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=random)
    images = 0.2 * torch.randn(count, 1, 28, 28, generator=random) - 0.5
    images[:, 0, ::4] += 0.2 * labels[:, None, None]
    return images, labels


def train_tiny(seed: int, images: int, epochs: int) -> Classifier:
    return train_classifier(*(each[:images] for each in stripes(512)), epochs, seed, batch_size=32, width=4)


def test_training_learns() -> None:
    trained = train_tiny(seed=3, images=512, epochs=4)
    assert not trained.training
    assert accuracy(trained, *stripes(200, seed=1)) > 0.3  # chance is 0.1


def test_training_depends_on_the_seed_alone() -> None:
    first, same, other = (train_tiny(seed, images=64, epochs=1).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["logits.weight"], other["logits.weight"])


def test_the_shipped_classifier_takes_any_number_of_images() -> None:
    assert len(files("latentd.training.evaluation").joinpath(WEIGHTS_FILE).read_bytes()) < 2e6
    classifier = load_classifier()
    images = torch.rand(501, 1, 28, 28) * 2 - 1  # more than one forward pass
    features, probabilities = classifier.extract(images)
    assert features.shape == (501, 128)
    assert probabilities.sum(dim=1) == pytest.approx(torch.ones(501), abs=1e-5)
    alone = classifier.extract(images[500:])[0]
    assert torch.allclose(alone, features[500:], atol=1e-4)


@needs_fashion
def test_the_shipped_classifier_recognises_test_images() -> None:
    loaded = load_idx_set(CLASSIFIER_DATASET, None, lambda _: None, "test")
    images, labels = torch.tensor(loaded.images[:2000])[:, None], torch.tensor(loaded.labels[:2000].astype(int))
    assert accuracy(load_classifier(), normalize(images), labels) >= 0.92


def real(images: torch.Tensor, labels: torch.Tensor) -> RealImages:
    return RealImages(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8), labels)


@pytest.fixture(scope="module")
def evaluator() -> ImageEvaluator:
    torch.manual_seed(0)
    reference, train = stripes(600), stripes(900, seed=1)
    classifier = Classifier(width=8).eval()
    return ImageEvaluator(classifier, real(*reference), real(*train), 600, classifier, tuple("0123456789"))


def test_real_images_score_better_than_noise(evaluator: ImageEvaluator) -> None:
    baseline = evaluator.metrics(evaluator.real_samples(0))
    noise = evaluator.metrics(EvaluationSet.of(torch.rand(600, 1, 28, 28) * 2 - 1))
    assert baseline["frechet_distance"] < noise["frechet_distance"] / 10
    assert baseline["coverage"] > 0.8 > noise["coverage"]
    assert baseline["precision"] > 0.8
    assert baseline["recall"] > 0.8
    assert baseline.keys() >= {
        *("kernel_distance", "density", "inception_score", "least_class", "most_class", "label_accuracy"),
    }


def test_collapse_shows_in_the_metrics(evaluator: ImageEvaluator) -> None:
    one = stripes(1)[0].repeat(600, 1, 1, 1)
    collapsed = evaluator.metrics(EvaluationSet.of(one))
    assert collapsed["coverage"] < 0.05
    assert collapsed["inception_score"] == pytest.approx(1.0, abs=1e-3)
    assert (collapsed["least_class"], collapsed["most_class"]) == (0.0, 1.0)
    assert "label_accuracy" not in collapsed


def test_memorised_images_show_in_the_metrics(evaluator: ImageEvaluator) -> None:
    train, _ = evaluator.real_samples(0).read(slice(50))
    noisy = (train + 0.01 * torch.randn(train.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    distances, nearest = evaluator.nearest_training(noisy)
    assert torch.equal(nearest, train)
    assert distances == pytest.approx((noisy - train).square().mean(dim=(1, 2, 3)).sqrt().double(), rel=1e-4)
    baseline = evaluator.metrics(evaluator.real_samples(0))["nearest_training"]
    assert evaluator.metrics(EvaluationSet.of(noisy))["nearest_training"] < baseline / 10


def test_a_missing_class_has_the_lowest_coverage(evaluator: ImageEvaluator) -> None:
    images, labels = evaluator.real_samples(0).read(slice(None))
    assert labels is not None
    without = EvaluationSet.of(images[labels != 3])
    metrics = evaluator.metrics(without)
    coverage = {name: value for name, value in metrics.items() if name.startswith("coverage of ")}
    assert min(coverage, key=lambda name: coverage[name]) == "coverage of 3"
    assert set(evaluator.quick_metrics(without)) < set(metrics)


def test_sets_are_read_a_chunk_at_a_time(evaluator: ImageEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = stripes(600, seed=2)
    whole = evaluator.metrics(EvaluationSet.of(images, labels))
    monkeypatch.setattr("latentd.training.data.chunks._BYTES", 1)
    read: list[int] = []

    def count(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        read.append(len(images[rows]))
        return images[rows], labels[rows]

    in_chunks = evaluator.metrics(EvaluationSet(600, (1, 28, 28), count))
    assert read == [16] * 37 + [8]
    assert in_chunks == pytest.approx(whole, rel=1e-4)


def test_samples_that_are_not_finite_are_refused(evaluator: ImageEvaluator) -> None:
    images, _ = stripes(600)
    images[7, 0, 3, 3] = math.nan
    with pytest.raises(SamplesNotFinite, match="not finite"):
        evaluator.quick_metrics(EvaluationSet.of(images))


def test_a_part_of_real_images_is_read_in_its_order() -> None:
    pixels = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    part = RealImages(pixels, torch.arange(6))[torch.tensor([4, 0, 5, 2])][1:]
    images, labels = part.read(slice(None))
    assert labels is not None
    assert labels.tolist() == [0, 5, 2]
    assert torch.equal(images, normalize(pixels[[0, 5, 2]]))
