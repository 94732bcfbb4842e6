"""Titles and explanations of losses, probes and metrics, by the names that metrics.jsonl has."""

from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["lower", "higher", "near real"]


@dataclass(frozen=True)
class MetricInfo:
    """How the report shows a value."""

    title: str
    meaning: str = ""
    better: Better | None = None
    """None if neither direction is better."""
    range: tuple[float, float] | None = None
    """The smallest and the largest possible value."""
    reference: tuple[float, str] | None = None
    """A value for comparison, and its name."""
    part_of: str | None = None
    """The name of the metric of which this is the value for one class."""


_FRACTION = (0.0, 1.0)

_METRICS = {
    # losses
    "generator": MetricInfo("Generator"),
    "discriminator": MetricInfo("Discriminator"),
    "reconstruction": MetricInfo("Reconstruction"),
    "divergence": MetricInfo(
        "Divergence",
        "KL divergence of the samples from the target mixture; grows with lost modes, low quality and wrong spread",
        "lower",
    ),
    # probes
    "diversity": MetricInfo("Diversity", "Fraction of the data's clusters that samples reach", "higher", _FRACTION),
    "distance": MetricInfo(
        "Distance to the data",
        "How much farther from the data samples lie than real ones, in units of the data's spread",
        "lower",
        reference=(0.0, "real samples"),
    ),
    "movement": MetricInfo("Movement", "How far samples moved since the last probe, in units of the data's spread"),
    "certainty": MetricInfo(
        "Discriminator AUC",
        "Fraction of real-generated pairs that the discriminator ranks correctly",
        None,
        _FRACTION,
        (0.5, "chance"),
    ),
    # metrics
    "frechet_distance": MetricInfo(
        "Fréchet distance", "Between Gaussians fitted to the features of samples and of real ones", "lower"
    ),
    "kernel_distance": MetricInfo(
        "Kernel distance", "Maximum mean discrepancy of the features; assumes no Gaussian", "lower"
    ),
    "precision": MetricInfo("Precision", "Fraction of samples that lie among real ones: quality", "higher"),
    "recall": MetricInfo("Recall", "Fraction of real samples that lie among generated ones: variety", "higher"),
    "density": MetricInfo("Density", "Mean number of real neighbourhoods that a sample lies in: quality", "higher"),
    "coverage": MetricInfo("Coverage", "Fraction of real samples with a generated one nearby: variety", "higher"),
    "inception_score": MetricInfo("Inception score", "High if classes are clear and varied", "higher"),
    "nearest_training": MetricInfo(
        "Nearest training image", "Median distance to it; much lower than real samples' means memorisation", "near real"
    ),
    "least_class": MetricInfo("Smallest class", "Fraction of samples in the rarest class", "near real"),
    "most_class": MetricInfo("Largest class", "Fraction of samples in the most frequent class", "near real"),
    "label_accuracy": MetricInfo(
        "Label accuracy", "Fraction of samples recognised as the class that was requested", "near real"
    ),
    "modes": MetricInfo("Modes", "Modes of the target with at least 20 samples nearby", "higher"),
    "high_quality": MetricInfo("High quality", "Fraction of samples within 3σ of a mode", "near real"),
    "reverse_kl": MetricInfo(
        "Reverse KL", "KL divergence of the modes' fractions of samples from equal ones, in nats", "lower"
    ),
    "least_spread": MetricInfo("Least spread", "Width of the narrowest mode, relative to the target", "near real"),
    "most_spread": MetricInfo("Most spread", "Width of the widest mode, relative to the target", "near real"),
}


def metric_info(name: str) -> MetricInfo:
    """Return the description of a name in metrics.jsonl. An unknown name becomes its own title."""
    whole, of, part = name.partition(" of ")
    if of and whole in _METRICS:
        return replace(_METRICS[whole], title=part, part_of=whole)
    return _METRICS.get(name) or MetricInfo(name.replace("_", " ").capitalize())
