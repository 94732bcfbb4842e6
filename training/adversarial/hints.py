"""What to try with a GAN: advice that reads its recipe, so that it names no setting that is in force already."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentd.training.algorithms.gan import GanRecipe

_FEW_IMAGES = 5000


def collapse_hints(recipe: "GanRecipe") -> dict[str, str]:
    """Return kind of collapse → what to try. The settings in the texts are written as `--set` takes them."""
    raise_lr = f"raise generator_lr (now {recipe.generator_lr:g})"
    lower_lr = f"lower discriminator_lr (now {recipe.discriminator_lr:g})"
    detail = "look for a detail in the data by which it recognizes real samples"
    advice = {
        "modes lost": [_several_at_once(recipe), _noise(recipe), _r1(recipe, 0.1)],
        "frozen generator": [raise_lr, _hinge(recipe)],
        "discriminator won": [_spectral_norm(recipe), _r1(recipe, 1.0), _augmentation(recipe), lower_lr, detail],
        "far from the data": [raise_lr, "train for more steps if the distance is falling"],
        "oscillation": ["lower both learning rates", _betas(recipe), _decay(recipe)],
    }
    return {kind: _any_of(filter(None, texts)) for kind, texts in advice.items()}


def small_data_advice(recipe: "GanRecipe", images: int) -> str | None:
    """Return what to do if there are few images and the discriminator sees them as they are; else None."""
    if images >= _FEW_IMAGES or recipe.augment or recipe.data.output.picture_size is None:
        return None
    return (
        f"{images:,} images are few: the discriminator may memorize them. To augment what it sees, begin another run "
        "with --set \"augment.views=['translation', 'brightness', 'saturation', 'contrast', 'cutout']\" "
        "--set augment.target=0.6"
    )


def _several_at_once(recipe: "GanRecipe") -> str:
    settings = []
    if recipe.packing == 1 and not recipe.generator.conditional:
        settings.append("packing=2")
    if "minibatch_std" in _known(recipe) and not recipe.discriminator.config.get("minibatch_std"):
        settings.append("discriminator.config.minibatch_std=4")
    return f"show the discriminator several samples at once ({', '.join(settings)})" if settings else ""


def _noise(recipe: "GanRecipe") -> str:
    return "" if recipe.noise else "add noise to what it sees at first (noise.start=1.0)"


def _r1(recipe: "GanRecipe", weight: float) -> str:
    if table := recipe.penalties.get("r1"):
        return f"regularize the discriminator more (raise penalties.r1.weight, now {table.weight:g})"
    return f"regularize the discriminator (penalties.r1.weight={weight})"


def _hinge(recipe: "GanRecipe") -> str:
    return "" if recipe.objective == "hinge" else "keep its gradient from vanishing (objective=hinge)"


def _spectral_norm(recipe: "GanRecipe") -> str:
    if "norm" not in _known(recipe) or recipe.discriminator.config.get("norm") == "spectral":
        return ""
    return "bound the discriminator's layers (discriminator.config.norm=spectral)"


def _augmentation(recipe: "GanRecipe") -> str:
    if recipe.augment or recipe.data.output.picture_size is None:
        return ""
    return "augment the images that it sees (augment.views=['translation', 'cutout'])"


def _betas(recipe: "GanRecipe") -> str:
    return "set betas=[0.0, 0.9]" if recipe.betas[0] else ""


def _decay(recipe: "GanRecipe") -> str:
    return "let them decay (schedule.decay=linear)" if recipe.schedule.decay == "none" else ""


def _known(recipe: "GanRecipe") -> Collection[str]:
    """Return the names of the settings that the discriminator's config may have."""
    return recipe.config_class("discriminator").model_fields


def _any_of(advice: Iterable[str]) -> str:
    *others, last = advice
    return f"{', '.join(others)}, or {last}" if others else last
