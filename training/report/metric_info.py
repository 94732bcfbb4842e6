"""What the names of losses, vitals and figures mean, for people."""

from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["less", "more", "near real"]


@dataclass(frozen=True)
class MetricInfo:
    """Of one name."""

    title: str
    meaning: str = ""
    better: Better | None = None
    """None where neither less nor more is."""
    span: tuple[float, float] | None = None
    """The values that there can be."""
    mark: tuple[float, str] | None = None
    """A value to compare with, and what it is."""
    part_of: str | None = None
    """The figure of which this is the part that falls to one class."""


_SHARE = (0.0, 1.0)

_WORDS = {
    # losses
    "generator": MetricInfo("Generator"),
    "discriminator": MetricInfo("Discriminator"),
    "reconstruction": MetricInfo("Reconstruction"),
    "divergence": MetricInfo(
        "Divergence",
        "KL of where samples lie around the modes against the target: lost modes, low quality, spread",
        "less",
    ),
    # vitals
    "diversity": MetricInfo("Diversity", "Share of what the data gathers around that samples reach", "more", _SHARE),
    "distance": MetricInfo(
        "Distance",
        "How much farther from the data samples lie than real ones, over how far these lie apart",
        "less",
        mark=(0.0, "real samples"),
    ),
    "movement": MetricInfo("Movement", "How far samples went since the last look, over how far real ones lie apart"),
    "certainty": MetricInfo(
        "Certainty",
        "Share of pairs, real and generated, that the discriminator tells apart",
        None,
        _SHARE,
        (0.5, "a draw"),
    ),
    # figures
    "frechet_distance": MetricInfo(
        "Fréchet distance", "Between the features of samples and of real ones, each taken as one Gaussian", "less"
    ),
    "kernel_distance": MetricInfo(
        "Kernel distance", "Maximum mean discrepancy of the features; no Gaussian assumed", "less"
    ),
    "precision": MetricInfo("Precision", "Share of samples that lie among real ones: quality", "more"),
    "recall": MetricInfo("Recall", "Share of real samples that lie among generated ones: variety", "more"),
    "density": MetricInfo("Density", "How many real neighbourhoods a sample lies in, on average: quality", "more"),
    "coverage": MetricInfo("Coverage", "Share of real samples with a generated one nearby: variety", "more"),
    "inception_score": MetricInfo("Inception score", "Clear classes, and many of them", "more"),
    "nearest_training": MetricInfo(
        "Nearest training image", "Median distance to it; much below that of real samples means memorised", "near real"
    ),
    "least_class": MetricInfo("Smallest class", "Share of samples that fall to the rarest class", "near real"),
    "most_class": MetricInfo("Largest class", "Share of samples that fall to the commonest class", "near real"),
    "label_accuracy": MetricInfo("Label accuracy", "Samples recognised as the class that was asked for", "near real"),
    "modes": MetricInfo("Modes", "Modes of the target with at least 20 samples near them", "more"),
    "high_quality": MetricInfo("High quality", "Share of samples within 3σ of a mode", "near real"),
    "reverse_kl": MetricInfo("Reverse KL", "Of the modes' shares against equal ones, in nats", "less"),
    "least_spread": MetricInfo("Least spread", "Width of the narrowest mode over the target's", "near real"),
    "most_spread": MetricInfo("Most spread", "Width of the widest mode over the target's", "near real"),
}


def metric_info(name: str) -> MetricInfo:
    """Of a name that metrics.jsonl has; one that nobody described is its own title."""
    whole, of, part = name.partition(" of ")
    if of and whole in _WORDS:
        return replace(_WORDS[whole], title=part, part_of=whole)
    return _WORDS.get(name) or MetricInfo(name.replace("_", " ").capitalize())
