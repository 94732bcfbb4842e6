"""Recipes: the shipped ones, settings, and errors that name the field."""

import logging
from pathlib import Path

import pytest

from latentd.models.conditions.classes import ClassCondition
from latentd.training.adversarial.penalties import PENALTIES
from latentd.training.recipes.files import RECIPE_DIRECTORY, RecipeError, recipe_names
from latentd.training.recipes.load import load_recipe

REQUIRED = {
    "gaussian-gan",
    "ring-gan",
    "grid-gan",
    "mnist-mlp-gan",
    "fashion-dcgan",
    "fashion-dcgan-conditional",
    "fashion-lsgan",
    "fashion-wgan",
    "fashion-wgan-gp",
    "fashion-r3gan",
    "fashion-autoencoder",
    "fashion-vae",
    "fashion-gaussian",
    "image-folder-dcgan",
}


def test_all_shipped_recipes_load() -> None:
    assert set(recipe_names()) >= REQUIRED
    for name in recipe_names():
        assert load_recipe(name)[0] == name


def test_recipes_have_the_settings_of_their_papers() -> None:
    _, gaussian = load_recipe("gaussian-gan")
    assert gaussian.spec().input.size == 100
    assert gaussian.spec().config["hidden"] == [256]
    _, mnist = load_recipe("mnist-mlp-gan")
    assert mnist.discriminator.config == {
        "hidden": [1024, 512, 256],
        "leaky_slope": 0.2,
        "dropout": 0.3,
        "norm": "none",
        "minibatch_std": 0,  # defaults are written out
        "frequencies": 0,
        "bandwidth": 1.0,
    }
    assert (mnist.generator_lr, mnist.betas) == (2e-4, (0.5, 0.999))


def test_conditional_recipes_have_the_classes_of_the_data() -> None:
    condition = load_recipe("fashion-dcgan-conditional")[1].spec().condition
    assert isinstance(condition, ClassCondition)
    assert "Dress" in condition.names
    assert load_recipe("fashion-dcgan")[1].spec().condition.kind == "none"


def test_settings_change_values_and_tables() -> None:
    _, recipe = load_recipe(
        "fashion-dcgan", ["steps=7", "betas=[0.1, 0.2]", "generator.latent.dim=16", "objective=least-squares"]
    )
    assert (recipe.steps, recipe.betas, recipe.objective) == (7, (0.1, 0.2), "least-squares")
    assert recipe.spec().input.size == 16


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("stepz=7", r"stepz: unknown field \(did you mean steps\?\); the fields are description, objective, steps, "),
        ("steps=many", "steps: "),
        ("steps=0", "steps: "),
        ("steps=true", "steps: "),
        ('steps="8000"', "steps: "),
        ("objective=hinges", r"objective: unknown objective .hinges. \(did you mean hinge\?\)"),
        ("generator_lr=nan", "generator_lr: "),
        ("generator.family=gan", "generator.family: .*dcgan, linear, mlp"),
        (
            "generator.config.widht=3",
            r"generator\.config\.widht: unknown field \(did you mean width\?\); the fields are ",
        ),
        ("discriminator.config.norm=batches", "discriminator.config.norm: "),
        ("data.name=cifar", "data: "),
        ("penalties.r3.weight=1", "penalties: .*unknown penalty 'r3'; known are gradient, r1, r2, consistency"),
        ("penalties.r1.weight=-1", "penalties.r1.weight: "),
        ("augment.views=['blur']", "augment.views: .*unknown view 'blur'; known are flip"),
        ("label_smoothing=0.1", "label_smoothing: relativistic: it has no labels"),
        ("microbatches=3", "batch_size=64 .* is not a multiple of microbatches=3 ·"),
        ("schedule.decay=slow", "schedule.decay: "),
        ("compile=fast", "compile: "),
        ("data.resolution=64", r"data\.resolution: unknown field; the fields are name"),
        (
            "schedule.warmpu=1",
            r"schedule\.warmpu: unknown field \(did you mean warmup\?\); the fields are warmup, decay, ",
        ),
        ("batch_size=100000000000000000000000", "batch_size: "),
        ("discriminator.config.minibatch_std=7", "not a multiple of discriminator.config.minibatch_std=7"),
        ("beta=2", "beta: unknown field"),
        ("objective=7", "objective: "),
        ("steps", "key=value"),
        ("steps.more=1", "steps is a value"),
    ],
)
def test_the_error_names_the_wrong_setting(setting: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe("fashion-dcgan", [setting])


@pytest.mark.parametrize(
    ("setting", "read", "write"),
    [
        ("data.flip=True", 'the text "True"', "true"),
        ("data.flip=no", 'the text "no"', "false"),
        ("compile=7", "7", "true or false"),
        ("generator_lr=.0001", 'the text ".0001"', "0.0001"),
        ("generator_lr=1.", 'the text "1."', "1.0"),
        ("generator_lr=fast", 'the text "fast"', "a number, as 0.0001"),
        ("steps=1e3", "1000.0", "1000"),
        ("steps=1,000", 'the text "1,000"', "1000"),
        ("steps=1.5", "1.5", "a whole number, as 1000"),
        ("steps=true", "true", "a whole number, as 1000"),
        ("betas=0.5,0.9", 'the text "0.5,0.9"', "[0.5, 0.9]"),
        ("betas=(0.5, 0.9)", 'the text "(0.5, 0.9)"', "[0.5, 0.9]"),
        ("augment.views=flip,translation", 'the text "flip,translation"', '["flip", "translation"]'),
        ("augment.views=7", "7", "a list, as [0.5, 0.9]"),
        ("description=5", "5", '"5"'),
        ("augment=null", 'the text "null"', "its settings one by one, as KEY.NAME=VALUE"),
        ("data=pictures", 'the text "pictures"', "its settings one by one, as KEY.NAME=VALUE"),
        ("discriminator.config.width=wide", 'the text "wide"', "a whole number, as 1000"),
        ("generator_lr=nan", "nan", None),
        ("schedule.decay=slow", 'the text "slow"', None),
        ("steps=-1", "-1", None),
    ],
)
def test_the_error_shows_what_was_read_and_how_to_write_it(setting: str, read: str, write: str | None) -> None:
    with pytest.raises(RecipeError) as problem:
        load_recipe("image-folder-dcgan", [setting])
    ending = f"; it was read as {read}" + (f"; write {write}" if write else "")
    assert str(problem.value).endswith(ending)
    assert setting.partition("=")[0] in str(problem.value)
    if write and "as" not in write.split() and "or" not in write.split():
        load_recipe("image-folder-dcgan", [f"{setting.partition('=')[0]}={write}", *_fitting(setting)])


def _fitting(setting: str) -> list[str]:
    """A learning rate of 1.0 is well written, and too large."""
    return ["generator_lr=0.5"] if setting == "generator_lr=1." else []


def test_the_penalties_of_an_objective_can_be_changed() -> None:
    def weights(*settings: str) -> list[tuple[float, int]]:
        penalties = load_recipe("fashion-wgan-gp", settings)[1].make_penalties()
        return [(penalty.weight, penalty.every) for penalty in penalties]

    assert weights() == [(10.0, 1)]
    assert weights("penalties.gradient.weight=2", "penalties.gradient.every=4") == [(2.0, 4)]
    assert weights("penalties.r1.weight=3") == [(10.0, 1), (3.0, 1)]


def test_the_r3gan_recipe_is_relativistic_with_r1_and_r2() -> None:
    _, recipe = load_recipe("fashion-r3gan")
    assert recipe.make_objective().relative
    assert [penalty.function for penalty in recipe.make_penalties()] == [PENALTIES["r1"], PENALTIES["r2"]]


def test_the_error_names_settings_that_do_not_go_together() -> None:
    with pytest.raises(RecipeError, match="discriminator: family linear has no discriminator"):
        load_recipe("fashion-gaussian", ["objective=hinge"])
    with pytest.raises(RecipeError, match="encoder: family linear has no encoder"):
        load_recipe("fashion-gaussian", ["objective=elbo"])
    with pytest.raises(RecipeError, match="augment: works on images alone"):
        load_recipe("ring-gan", ["augment.views=['flip']"])
    with pytest.raises(RecipeError, match=r"penalties\.consistency: works on images alone"):
        load_recipe("ring-gan", ["penalties.consistency.weight=1"])
    with pytest.raises(RecipeError, match="packing: samples of several classes"):
        load_recipe("fashion-dcgan-conditional", ["packing=2"])
    with pytest.raises(RecipeError, match="no classes"):
        load_recipe("ring-gan", ["generator.conditional=true"])
    with pytest.raises(RecipeError, match="generator: family dcgan makes square images"):
        load_recipe("image-folder-dcgan", ["data.resolution=100"])


@pytest.mark.parametrize(
    ("recipe", "setting", "named"),
    [
        ("fashion-vae", "discriminator_lr=1e-3", "discriminator_lr: unknown field"),
        ("fashion-vae", "beta=0", "beta: "),
        ("fashion-vae", "encoder.config.widht=3", r"encoder\.config\.widht: unknown field"),
        ("fashion-vae", "generator.latent.distribution=uniform", "distribution: elbo needs normal latents"),
        ("fashion-vae", "generator.family=linear", "generator.config.width: unknown field"),
        ("fashion-autoencoder", "beta=2", "beta: unknown field"),
        ("fashion-autoencoder", "generator.conditional=true", "generator.conditional: a plain autoencoder's codes"),
        (
            "fashion-autoencoder",
            "microbatches=32",
            r"batch_size=128 .* parts of 4, .*inputs of 16 numbers needs at least 32 at once",
        ),
        ("fashion-gaussian", "generator.family=mlp", "generator: family mlp cannot be fitted"),
        ("fashion-gaussian", "generator.latent.dim=785", "generator: a latent of 785 numbers is more than the 784"),
        ("fashion-gaussian", "generator.conditional=true", "generator: family linear takes no condition"),
        ("fashion-gaussian", "ema_decay=0.5", "ema_decay: unknown field"),
        ("fashion-gaussian", "precision=bfloat16", "precision: unknown field"),
    ],
)
def test_the_error_names_settings_that_the_algorithm_does_not_have(recipe: str, setting: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe(recipe, [setting])


@pytest.mark.parametrize(
    ("recipe", "objective", "instead"),
    [
        ("fashion-dcgan", "elbo", "fashion-vae"),
        ("fashion-dcgan", "evidence", "fashion-vae"),
        ("fashion-vae", "wasserstein", "fashion-wgan"),
        ("fashion-dcgan", "gaussian", "fashion-gaussian"),
    ],
)
def test_the_objective_of_another_kind_of_recipe_leads_to_such_a_recipe(
    recipe: str, objective: str, instead: str
) -> None:
    with pytest.raises(
        RecipeError, match=rf"objective: \w+ belongs to another kind of .*; begin with {instead}\. Otherwise, "
    ):
        load_recipe(recipe, [f"objective={objective}"])


def test_a_recipe_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((RECIPE_DIRECTORY / "ring-gan.toml").read_text())
    assert load_recipe(str(path))[0] == "mine"
    for wrong in ("steps = ", "a = " + "[" * 10_000, "\0"):
        path.write_text(wrong)
        with pytest.raises(RecipeError, match=r"mine\.toml cannot be read"):
            load_recipe(str(path))
    path.write_text((RECIPE_DIRECTORY / "ring-gan.toml").read_text(), encoding="utf-8-sig")
    assert load_recipe(str(path))[0] == "mine"
    path.write_text((RECIPE_DIRECTORY / "ring-gan.toml").read_text())
    with pytest.raises(RecipeError, match="cannot be a model's name"):
        load_recipe(str(path.rename(tmp_path / "my own.toml")))
    with pytest.raises(RecipeError, match=r"there is no recipe 'nope'.*ring-gan"):
        load_recipe("nope")


@pytest.mark.parametrize(
    ("recipe", "old", "new"), [("fashion-vae", "evidence", "elbo"), ("fashion-gaussian", "moments", "gaussian")]
)
def test_the_old_names_of_objectives_are_read_with_a_warning(
    recipe: str, old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_recipe(recipe, [f"objective={old}"]) == load_recipe(recipe)
    (warning,) = caplog.messages
    assert warning.startswith(f"{recipe}.toml: objective '{old}' is called '{new}' now")
