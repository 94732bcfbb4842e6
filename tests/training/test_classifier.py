"""The embedded feature network and what is measured on it."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from latentd.training.data import IdxImages
from latentd.training.data.idx import load_idx_set
from latentd.training.data.pixels import normalize
from latentd.training.evaluation.classifier import CLASSIFIER_DATASET, SHIPPED, Classifier, load_classifier
from latentd.training.evaluation.evaluator import EvaluationSet
from latentd.training.evaluation.images import ImageEvaluator, RealImages
from latentd.training.evaluation.train_classifier import accuracy, train_classifier
from tests.conftest import needs_fashion


def stripes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of ten classes: stripes whose brightness tells the class, in noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=random)
    images = 0.2 * torch.randn(count, 1, 28, 28, generator=random) - 0.5
    images[:, 0, ::4] += 0.2 * labels[:, None, None]
    return images, labels


def test_it_learns_and_a_seed_names_it() -> None:
    images, labels = stripes(1280)
    classifiers = [train_classifier(images, labels, epochs=3, seed=3) for _ in range(2)]
    for one, other in zip(*(each.state_dict().values() for each in classifiers), strict=True):
        assert torch.equal(one, other)
    assert not classifiers[0].training
    assert accuracy(classifiers[0], *stripes(200, seed=1)) > 0.3


def test_what_is_shipped_is_small_and_looks_at_any_number_of_images() -> None:
    assert len(files("latentd.training.evaluation").joinpath(SHIPPED).read_bytes()) < 2e6
    classifier = load_classifier()
    images = torch.rand(1001, 1, 28, 28) * 2 - 1
    features, probabilities = classifier.extract(images)
    assert features.shape == (1001, 128)
    assert probabilities.sum(dim=1) == pytest.approx(torch.ones(1001), abs=1e-5)
    alone = classifier.extract(images[700:701])[0]
    assert torch.allclose(alone, features[700:701], atol=1e-4)


@needs_fashion
def test_what_is_shipped_knows_garments_that_it_was_not_shown() -> None:
    loaded = load_idx_set(CLASSIFIER_DATASET, None, lambda _: None, "test")
    labels = torch.tensor(loaded.labels, dtype=torch.int64)
    assert accuracy(load_classifier(), normalize(torch.tensor(loaded.images)[:, None]), labels) >= 0.92


def real(images: torch.Tensor, labels: torch.Tensor) -> RealImages:
    return RealImages(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8), labels)


@pytest.fixture(scope="module")
def evaluator() -> ImageEvaluator:
    torch.manual_seed(0)
    reference, others = stripes(600), stripes(900, seed=1)
    classifier = Classifier().eval()
    return ImageEvaluator(classifier, real(*reference), real(*others), 600, classifier, tuple("0123456789"))


def test_real_images_set_the_floor(evaluator: ImageEvaluator) -> None:
    floor = evaluator.metrics(evaluator.real_samples(0))
    noise = evaluator.metrics(EvaluationSet(torch.rand(600, 1, 28, 28) * 2 - 1))
    assert floor["frechet_distance"] < noise["frechet_distance"] / 10
    assert floor["coverage"] > 0.8 > noise["coverage"]
    assert floor["precision"] > 0.8
    assert floor["recall"] > 0.8
    assert {"kernel_distance", "density", "inception_score", "least_class", "most_class", "label_accuracy"} <= set(
        floor
    )


def test_collapse_is_seen(evaluator: ImageEvaluator) -> None:
    one = stripes(1)[0].repeat(600, 1, 1, 1)
    collapsed = evaluator.metrics(EvaluationSet(one))
    assert collapsed["coverage"] < 0.05
    assert collapsed["inception_score"] == pytest.approx(1.0, abs=1e-3)
    assert (collapsed["least_class"], collapsed["most_class"]) == (0.0, 1.0)
    assert "label_accuracy" not in collapsed


def test_digits_are_not_counted_by_garment_classes(tmp_path: Path) -> None:
    assert IdxImages(name="mnist").class_names == tuple("0123456789")
    measure = ImageEvaluator(Classifier().eval(), real(*stripes(50)), real(*stripes(60)), 60)
    assert "least_class" not in measure.metrics(measure.real_samples(0))


def test_memorised_images_are_seen(evaluator: ImageEvaluator) -> None:
    train = evaluator.real_samples(0).samples[:50]
    noisy = (train + 0.01 * torch.randn(train.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    distances, nearest = evaluator.nearest_training(noisy)
    assert torch.equal(nearest, train)
    assert distances == pytest.approx((noisy - train).square().mean(dim=(1, 2, 3)).sqrt().double(), rel=1e-4)
    of_real = evaluator.metrics(evaluator.real_samples(0))["nearest_training"]
    assert evaluator.metrics(EvaluationSet(noisy))["nearest_training"] < of_real / 10


def test_a_class_that_is_missing_is_named(evaluator: ImageEvaluator) -> None:
    real_images = evaluator.real_samples(0)
    assert real_images.labels is not None
    without = EvaluationSet(real_images.samples[real_images.labels != 3])
    figures = evaluator.metrics(without)
    coverage = {name: value for name, value in figures.items() if name.startswith("coverage of ")}
    assert min(coverage, key=lambda name: coverage[name]) == "coverage of 3"
    assert set(evaluator.quick_metrics(without)) < set(figures)
