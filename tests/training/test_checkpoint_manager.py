"""Which generators of a run are kept."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.conditions.classes import ClassCondition
from latentd.models.decision_surface import DecisionSurface
from latentd.models.outputs.points import PointsOutput
from latentd.training.run.callback import EvaluationResult
from latentd.training.run.checkpoint_manager import CheckpointManager, Progress
from latentd.training.run.snapshots import decision_surface
from tests.conftest import CLASSES, spec_of
from tests.training.runs import logged, run_config, train


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring")
    train(run_config("ring-gan", folder, "steps=1"))
    return folder


def test_the_best_generator_is_saved_beside_a_worse_last_one(tmp_path: Path) -> None:
    train(run_config("ring-gan", tmp_path, "steps=1200", "batch_size=16", "discriminator.config.frequencies=0"))
    divergence = {step: metrics["divergence"] for step, metrics in logged(tmp_path, "figures").items()}
    assert list(divergence) == [500, 1000, 1200]
    best = min(divergence, key=lambda step: divergence[step])
    kept = tmp_path / "ring-gan-best.safetensors"
    if best == 1200:
        assert not kept.exists()
    else:
        card = Checkpoint.read(kept).card
        assert (card.steps, card.metrics["divergence"]) == (best, divergence[best])


def result(step: int, value: float) -> EvaluationResult:
    return EvaluationResult(step, {"divergence": value}, {"divergence": 0.1}, "divergence", "by hand")


@pytest.fixture
def manager(ring: Path, tmp_path: Path) -> Callable[[int], CheckpointManager]:
    """Makes the checkpoint manager of a run that resumed after so many steps."""
    card = Checkpoint.read(ring / "ring-gan.safetensors").card
    fresh = card.model_copy(update={"metrics": {}, "floors": {}, "measured": ""})
    return lambda done: CheckpointManager(tmp_path / "ring-gan.safetensors", fresh, 256, done, 1.0)


def test_the_best_generator_is_found_when_a_run_resumes(
    ring: Path, tmp_path: Path, manager: Callable[[int], CheckpointManager]
) -> None:
    generator = Checkpoint.read(ring / "ring-gan.safetensors").build()
    best = tmp_path / "ring-gan-best.safetensors"
    first = manager(0)
    first.save_if_best(generator, result(10, 0.5), Progress(10, 1.0))
    first.save_if_best(generator, result(20, 0.7), Progress(20, 2.0))
    first.save_last(generator, Progress(20, 2.0), planned=20)
    assert first.best == {"name": best.stem, "step": 10, "value": 0.5, "version": Checkpoint.read(best).version}
    again = manager(20)
    again.save_if_best(generator, result(30, 0.6), Progress(30, 3.0))
    assert Checkpoint.read(best).card.steps == 10
    again.save_if_best(generator, result(40, 0.4), Progress(40, 4.0))
    assert again.save_last(generator, Progress(40, 4.0), planned=40).card.metrics == {"divergence": 0.4}
    assert again.best is None  # the last one is
    assert not best.exists()


def test_decision_surfaces_belong_to_their_checkpoints(
    ring: Path, tmp_path: Path, manager: Callable[[int], CheckpointManager]
) -> None:
    generator = Checkpoint.read(ring / "ring-gan.safetensors").build()
    last, best = tmp_path / "ring-gan.safetensors", tmp_path / "ring-gan-best.safetensors"

    def surface(value: float) -> DecisionSurface:
        return DecisionSurface(torch.full((2, 2), value), (-1.0, 1.0, -1.0, 1.0))

    def saved(path: Path) -> float:
        return float(DecisionSurface.read(path, Checkpoint.read(path).version).logits[0, 0])

    first = manager(0)
    first.save_if_best(generator, result(10, 0.2), Progress(10, 1.0), surface(1.0))
    first.save_last(generator, Progress(10, 1.0), 40, surface(1.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == [last.name, "ring-gan.surface.safetensors"]
    again = manager(10)
    again.save_if_best(generator, result(40, 0.9), Progress(40, 4.0), surface(2.0))
    again.save_last(generator, Progress(40, 4.0), 40, surface(2.0))
    assert (saved(best), saved(last)) == (1.0, 2.0)


def test_a_discriminator_that_needs_a_condition_has_no_decision_surface() -> None:
    spec = spec_of("mlp", PointsOutput(dim=2), ClassCondition(names=CLASSES), hidden=(16,))
    generator = SimpleNamespace(spec=spec, parameters=lambda: iter([torch.zeros(1)]))
    algorithm = SimpleNamespace(ema=SimpleNamespace(generator=generator), logits=pytest.fail)
    assert decision_surface(cast(Any, algorithm), 1.0) is None


def test_the_last_generator_is_copied_when_a_run_resumes_and_it_was_the_best(
    ring: Path, tmp_path: Path, manager: Callable[[int], CheckpointManager]
) -> None:
    generator = Checkpoint.read(ring / "ring-gan.safetensors").build()
    first = manager(0)
    first.save_if_best(generator, result(10, 0.2), Progress(10, 1.0))
    first.save_last(generator, Progress(10, 1.0), planned=40)
    again = manager(10)
    again.save_if_best(generator, result(40, 0.9), Progress(40, 4.0))
    again.save_last(generator, Progress(40, 4.0), planned=40)
    assert Checkpoint.read(tmp_path / "ring-gan.safetensors").card.metrics == {"divergence": 0.9}
    assert Checkpoint.read(tmp_path / "ring-gan-best.safetensors").card.metrics == {"divergence": 0.2}


def test_metrics_measured_in_another_way_do_not_choose_the_best(
    ring: Path, tmp_path: Path, manager: Callable[[int], CheckpointManager]
) -> None:
    generator = Checkpoint.read(ring / "ring-gan.safetensors").build()
    first = manager(0)
    first.save_if_best(generator, result(10, 0.5), Progress(10, 1.0))
    first.save_last(generator, Progress(10, 1.0), planned=40)
    path = tmp_path / "ring-gan.safetensors"
    read = Checkpoint.read(path)
    evaluated = read.card.model_copy(update={"metrics": {"divergence": 0.01}, "measured": "on the test split"})
    write_checkpoint(path, evaluated, read.tensors)  # as `latentd evaluate` does
    again = manager(10)
    again.save_if_best(generator, result(30, 0.6), Progress(30, 3.0))
    assert again.best is not None
    assert again.best["step"] == 30
