"""What a recipe of a GAN may ask for beside two networks of one family: growth, penalties of the generator, first
weights of other runs, pairs that do not match, captions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from latentd.models.checkpoint import Checkpoint
from latentd.models.conditions.text import TextCondition
from latentd.models.family import Discriminator
from latentd.models.outputs.points import PointsOutput
from latentd.training.adversarial.growth import GrowthTable
from latentd.training.adversarial.objectives import OBJECTIVES
from latentd.training.adversarial.penalties import PathLength
from latentd.training.algorithms.gan import GanAlgorithm
from latentd.training.data.loader import load_batches
from latentd.training.data.source import Annotations, Batch, DataCard, DataSource, SelectRows
from latentd.training.ema import Ema
from latentd.training.loop import train as train_loop
from latentd.training.recipes.files import RecipeError
from latentd.training.recipes.load import load_recipe
from latentd.training.run.runner import RunConfig
from latentd.training.world import World
from tests import growing, two_stage
from tests.training.runs import run_config, train
from tests.training.test_idx import write_idx
from tests.training.test_loop import Shift, with_sgd
from tests.training.test_resume import stop_at

RECIPE = """
description = "A test"
objective = "non-saturating"
steps = 9
batch_size = 8
[data]
name = "fashion-mnist"
[generator]
family = "{family}"
latent = {latent}
[discriminator]
{discriminator}
"""


def recipe_file(folder: Path, family: str, latent: str, discriminator: str = "") -> Path:
    path = folder / "slots.toml"
    path.write_text(RECIPE.format(family=family, latent=latent, discriminator=discriminator))
    return path


# growth


@pytest.fixture
def growing_recipe(tmp_path: Path) -> Iterator[Path]:
    write_idx(tmp_path / "data")
    with growing.registered():
        yield recipe_file(tmp_path, "tiny_growing", "{ dim = 8 }")


def growing_config(recipe: Path, out: str, *settings: str) -> RunConfig:
    growth = ("growth.hold=16", "growth.fade=32")
    return run_config(str(recipe), recipe.parent / out, *growth, *settings, data=recipe.parent / "data")


def test_the_level_follows_the_images_seen() -> None:
    level = GrowthTable(hold=16, fade=32).schedule(8)
    assert [level(step) for step in range(1, 14)] == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1.25, 1.5, 1.75, 2]


@pytest.mark.parametrize("stops", [(2,), (4, 5), (7,)])
def test_a_run_resumes_in_the_middle_of_growing(growing_recipe: Path, stops: tuple[int, ...]) -> None:
    whole = train(growing_config(growing_recipe, "whole"))
    config = growing_config(growing_recipe, "parts")
    for step in stops:
        stop_at(config, step)
    assert train(config).version == whole.version


def test_a_checkpoint_is_served_at_the_level_of_its_step(growing_recipe: Path) -> None:
    """After 5 steps resolution 1 has faded in by a half, and the finest layer plays no part."""
    checkpoint = train(growing_config(growing_recipe, "run", "steps=5"))
    generator = Checkpoint.read(growing_recipe.parent / "run" / "slots.safetensors").build()
    assert isinstance(generator, growing.TinyGrowing)
    assert generator.level == 0.5
    assert checkpoint.tensors["_extra_state"].item() == 0.5
    latents = torch.randn(2, 8)
    before = generator(latents)
    with torch.no_grad():
        generator.images[2].bias += 1.0
        assert torch.equal(generator(latents), before)
        generator.images[1].bias += 1.0
        assert not torch.equal(generator(latents), before)


def test_growth_needs_networks_that_grow() -> None:
    with pytest.raises(RecipeError, match="growth does not work on family dcgan"):
        load_recipe("fashion-dcgan", ["growth.hold=100", "growth.fade=100"])


# penalties of the generator, and a discriminator of another family


def test_path_length_by_hand() -> None:
    """A generator that is linear in w has one Jacobian J for all w. Its penalty is (‖Jᵀy‖ - a)² of the same y."""
    generator = two_stage.TinyStyled(two_stage.spec(), None)  # type: ignore[arg-type]
    generator.synthesize = lambda w: sum(  # type: ignore[assignment, method-assign, return-value]
        layer(w[:, index]) for index, layer in enumerate(generator.layers)
    ).view(-1, 1, 28, 28)  # type: ignore[union-attr]
    penalty = PathLength(weight=2.0, every=4)
    torch.manual_seed(0)
    value = penalty(generator, torch.randn(6, 8), None, lambda mean: mean)
    torch.manual_seed(0)
    torch.randn(6, 8)
    noise = torch.randn(3, 1, 28, 28).flatten(1) / 28
    lengths = torch.stack(
        [torch.stack([noise @ layer.weight for layer in generator.layers])]  # type: ignore[operator]
    ).squeeze(0)
    expected = lengths.square().sum(dim=2).mean(dim=0).sqrt()  # [3]
    average = 0.01 * expected.mean()
    assert penalty.average.item() == pytest.approx(average.item(), rel=1e-4)
    assert value.item() == pytest.approx(8.0 * (expected - average).square().mean().item(), rel=1e-4)


def test_a_run_with_path_length_resumes_exactly(tmp_path: Path) -> None:
    write_idx(tmp_path / "data")
    styled = f"{{ dim = 8, w = {{ layers = {two_stage.LAYERS}, dim = {two_stage.DIM} }} }}"
    settings = ("generator_penalties.path_length.weight=2.0", "generator_penalties.path_length.every=2")
    with two_stage.registered():
        recipe = str(recipe_file(tmp_path, "tiny_styled", styled, 'family = "dcgan"\nconfig = { width = 8 }'))
        whole = train(run_config(recipe, tmp_path / "whole", *settings, data=tmp_path / "data"))
        without = train(run_config(recipe, tmp_path / "without", data=tmp_path / "data"))
        config = run_config(recipe, tmp_path / "parts", *settings, data=tmp_path / "data")
        stop_at(config, 4)
        state = max((tmp_path / "parts" / "state").iterdir(), key=lambda file: file.stat().st_mtime)
        assert load_file(state)["path_length/average"] > 0
        assert train(config).version == whole.version
    assert whole.version != without.version


def test_path_length_needs_styles() -> None:
    with pytest.raises(RecipeError, match=r"generator_penalties\.path_length does not work on family dcgan"):
        load_recipe("fashion-dcgan", ["generator_penalties.path_length.weight=1.0"])


# weights of other runs


def test_a_run_begins_from_the_weights_of_another(tmp_path: Path) -> None:
    first = train(run_config("gaussian-gan", tmp_path / "first", "steps=30"))
    checkpoint = tmp_path / "first" / "gaussian-gan.safetensors"
    begin = (f"begin_from.generator={checkpoint}", f"begin_from.discriminator={tmp_path / 'first'}")
    config = run_config("gaussian-gan", tmp_path / "second", "steps=1", "generator_lr=1e-12", *begin)
    second = train(config)
    assert second.tensors.keys() == first.tensors.keys()
    for name, tensor in second.tensors.items():
        assert torch.allclose(tensor, first.tensors[name], atol=1e-6)
    state = load_file(next((tmp_path / "second" / "state").iterdir()))
    before = load_file(max((tmp_path / "first" / "state").iterdir(), key=lambda file: file.stat().st_mtime))
    name = next(key for key in state if key.startswith("discriminator/") and key.endswith("weight"))
    assert (state[name] - before[name]).abs().max() < 0.01
    checkpoint.unlink()  # a run that resumes does not need it again
    longer = run_config("gaussian-gan", tmp_path / "second", "steps=3", "generator_lr=1e-12", *begin)
    assert train(longer).card.steps == 3


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("begin_from.generator=missing.safetensors", r"begin_from\.generator: missing\.safetensors"),
        ("begin_from.encoder=FIRST", r"begin_from\.encoder: objective \S+ has no such network"),
        ("begin_from.generator=FIRST/gaussian-gan.safetensors", r"tensor \S+ is \[.*\], but this run wants \["),
        ("begin_from.generator.nothing=FIRST", r"begin_from\.generator\.nothing: .*nothing"),
        ("begin_from.discriminator=EMPTY", "holds no state of a run"),
    ],
)
def test_first_weights_that_do_not_fit_are_named(setting: str, named: str, tmp_path: Path) -> None:
    train(run_config("gaussian-gan", tmp_path / "first", "steps=1"))
    setting = setting.replace("FIRST", str(tmp_path / "first")).replace("EMPTY", str(tmp_path))
    wider = ("generator.config.hidden=[100]", "steps=1")
    with pytest.raises(RecipeError, match=named):
        train(run_config("gaussian-gan", tmp_path / "second", *wider, setting))


def test_a_fitted_generator_takes_no_first_weights() -> None:
    with pytest.raises(RecipeError, match=r"begin_from: the generator is fitted to the data"):
        load_recipe("fashion-gaussian", ["begin_from.generator=other.safetensors"])


# pairs that do not match


class Agreement(Discriminator):
    """The sample times the condition's first number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        return self.scale * samples.squeeze(1) * condition[:, 0]


def test_real_samples_with_the_conditions_of_others_count_as_fake() -> None:
    """Conditions are 1, 1, 2; real samples 3. Pairs that differ: (3, 2) and (3, 1). The second pair is the same."""
    condition = torch.tensor([[1.0], [1.0], [2.0]])
    real = torch.full((3, 1), 3.0)
    generator = Shift()
    losses = {}
    for mismatched in (False, True):
        algorithm = GanAlgorithm(
            generator=with_sgd(generator, 0.0),
            discriminator=with_sgd(Agreement(), 0.0),
            objective=OBJECTIVES["hinge"],
            ema=Ema(generator, 0.5),
            batches=iter([Batch(real, condition)]),
            draw_latents=lambda count, *_: torch.zeros(count, 1),
            seed=0,
            mismatched_pairs=mismatched,
        )
        train_loop(algorithm, 1, lambda _, each, kept=mismatched: losses.__setitem__(kept, each["discriminator"]))
    on_real, on_fake = 0.0, 1.0  # relu(1 - 3), relu(1 + 0)
    on_mismatched = (1 + 3 * 2 + 1.0 + 1 + 3 * 1) / 3  # sample 1 has the condition 2, sample 2 its own, sample 3 has 1
    assert losses[False] == pytest.approx(on_real + on_fake)
    assert losses[True] == pytest.approx(on_real + (on_fake + on_mismatched) / 2)


def test_mismatched_pairs_need_a_condition() -> None:
    with pytest.raises(RecipeError, match=r"mismatched_pairs: needs a generator with generator\.conditional=true"):
        load_recipe("ring-gan", ["mismatched_pairs=true"])


# captions


class Captioned(DataSource):
    """Points at 1, which are red, and at 2, which are blue."""

    card = DataCard(name="captioned", size=2, sha256=None, licence="CC0-1.0")
    condition = TextCondition(vocabulary=("blue", "red"), length=2, examples=("red",))

    def draw(
        self, batch_size: int, seed: int, first: int = 0, select: SelectRows = lambda rows: rows
    ) -> Iterator[tuple[Tensor, Annotations | None]]:
        while True:
            rows = select(torch.arange(batch_size) % 2)
            yield 1.0 + rows[:, None], [("red", "blue")[row] for row in rows.tolist()]


def test_captions_become_the_rows_of_a_text_condition() -> None:
    source = Captioned()
    for rank in range(2):
        world = World(rank, 2)
        batch = next(load_batches(source, source.condition, 4, 0, 0, torch.device("cpu"), world))
        assert batch.samples.tolist() == [[1.0], [2.0]]
        assert batch.condition is not None
        assert batch.condition.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_a_recipe_takes_the_condition_of_its_data() -> None:
    recipe = load_recipe("fashion-dcgan-conditional")[1]
    assert recipe.spec(Captioned.condition).condition == Captioned.condition
    assert load_recipe("ring-gan")[1].spec(Captioned.condition).condition.kind == "none"
    assert recipe.spec().output != PointsOutput(dim=2)
