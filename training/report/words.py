"""What the names of losses, vitals and figures mean, for people."""

from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["less", "more", "near real"]


@dataclass(frozen=True)
class Words:
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
    "generator": Words("Generator"),
    "discriminator": Words("Discriminator"),
    "reconstruction": Words("Reconstruction"),
    "divergence": Words(
        "Divergence",
        "KL of where samples lie around the modes against the target: lost modes, low quality, spread",
        "less",
    ),
    # vitals
    "diversity": Words("Diversity", "Share of what the data gathers around that samples reach", "more", _SHARE),
    "distance": Words(
        "Distance",
        "How much farther from the data samples lie than real ones, over how far these lie apart",
        "less",
        mark=(0.0, "real samples"),
    ),
    "movement": Words("Movement", "How far samples went since the last look, over how far real ones lie apart"),
    "certainty": Words(
        "Certainty",
        "Share of pairs, real and generated, that the discriminator tells apart",
        None,
        _SHARE,
        (0.5, "a draw"),
    ),
    # figures
    "frechet_distance": Words(
        "Fréchet distance", "Between the features of samples and of real ones, each taken as one Gaussian", "less"
    ),
    "kernel_distance": Words(
        "Kernel distance", "Maximum mean discrepancy of the features; no Gaussian assumed", "less"
    ),
    "precision": Words("Precision", "Share of samples that lie among real ones: quality", "more"),
    "recall": Words("Recall", "Share of real samples that lie among generated ones: variety", "more"),
    "density": Words("Density", "How many real neighbourhoods a sample lies in, on average: quality", "more"),
    "coverage": Words("Coverage", "Share of real samples with a generated one nearby: variety", "more"),
    "inception_score": Words("Inception score", "Clear classes, and many of them", "more"),
    "nearest_training": Words(
        "Nearest training image", "Median distance to it; much below that of real samples means memorised", "near real"
    ),
    "least_class": Words("Smallest class", "Share of samples that fall to the rarest class", "near real"),
    "most_class": Words("Largest class", "Share of samples that fall to the commonest class", "near real"),
    "label_accuracy": Words("Label accuracy", "Samples recognised as the class that was asked for", "near real"),
    "modes": Words("Modes", "Modes of the target with at least 20 samples near them", "more"),
    "high_quality": Words("High quality", "Share of samples within 3σ of a mode", "near real"),
    "reverse_kl": Words("Reverse KL", "Of the modes' shares against equal ones, in nats", "less"),
    "least_spread": Words("Least spread", "Width of the narrowest mode over the target's", "near real"),
    "most_spread": Words("Most spread", "Width of the widest mode over the target's", "near real"),
}


def words_for(name: str) -> Words:
    """Of a name that metrics.jsonl has; one that nobody described is its own title."""
    whole, of, part = name.partition(" of ")
    if of and whole in _WORDS:
        return replace(_WORDS[whole], title=part, part_of=whole)
    return _WORDS.get(name) or Words(name.replace("_", " ").capitalize())
