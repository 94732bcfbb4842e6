"""Which other generators of a run are kept: those of the same steps as the run's own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from latentd.models.checkpoint import Checkpoint
from latentd.models.families import build_generator
from latentd.training.ema import Ema
from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult
from latentd.training.run.callback_handler import CallbackHandler
from latentd.training.run.checkpoint_manager import CheckpointManager
from latentd.training.run.other_generators import OtherGenerators
from tests.conftest import card_of, points_spec

STEPS = 100


class Measured(Callback):
    """Evaluates the generators at the steps in `values`."""

    def __init__(self, values: dict[int, float]) -> None:
        self._values = values

    def on_step(self, run: ActiveRun) -> None:
        if run.step in self._values:
            metrics = {"divergence": self._values[run.step]}
            run.tell(Callback.on_evaluation, EvaluationResult(run.step, metrics, metrics, "divergence", "by hand"))


def train(folder: Path, values: dict[int, float], first: int, last: int) -> None:
    """Do the steps `first` to `last` of a run with two generators. All weights of both are the number of the step."""
    own, back = (Ema(build_generator(points_spec()), 0.0) for _ in range(2))
    algorithm = cast(Any, SimpleNamespace(ema=own, other_emas={"back": back}, logits=lambda batch: None))
    path, card, done = folder / "two.safetensors", card_of(points_spec()), first - 1
    run = ActiveRun(path, card, algorithm, cast(Any, None), STEPS, done, done)
    manager = CheckpointManager(path, card, images_per_step=1, steps_done=done, reach=1.0)
    handler = CallbackHandler([Measured(values), manager, OtherGenerators()], run)
    handler.start()
    for step in range(first, last + 1):
        for ema in (own, back):
            for parameter in ema.generator.parameters():
                torch.nn.init.constant_(parameter, step)
        handler.step(step, {})
    handler.end(last)


def steps_in(folder: Path) -> dict[str, int]:
    """Return the step of each checkpoint, by its name. The step in its card is that of its weights."""
    steps = {}
    for file in folder.glob("*.safetensors"):
        read = Checkpoint.read(file)
        weights = {value for tensor in read.tensors.values() for value in tensor.flatten().tolist()}
        assert weights == {read.card.steps}, file
        steps[read.name] = read.card.steps
    return steps


def test_the_best_of_all_generators_are_of_one_step(tmp_path: Path) -> None:
    train(tmp_path, {10: 0.5, 20: 0.2, 30: 0.9}, 1, 40)
    assert steps_in(tmp_path) == {"two": 40, "two-back": 40, "two-best": 20, "two-back-best": 20}


def test_the_last_ones_are_kept_when_a_run_resumes_and_they_were_the_best(tmp_path: Path) -> None:
    train(tmp_path, {10: 0.5, 20: 0.2}, 1, 20)
    assert steps_in(tmp_path) == {"two": 20, "two-back": 20}
    train(tmp_path, {30: 0.9}, 21, 40)
    assert steps_in(tmp_path) == {"two": 40, "two-back": 40, "two-best": 20, "two-back-best": 20}
    train(tmp_path, {50: 0.1}, 41, 50)
    assert steps_in(tmp_path) == {"two": 50, "two-back": 50}


def test_a_run_that_starts_again_and_stops_early_replaces_none_that_was_trained_longer(tmp_path: Path) -> None:
    train(tmp_path, {}, 1, 40)
    train(tmp_path, {}, 1, 5)
    assert steps_in(tmp_path) == {"two": 40, "two-back": 40, "two-step5": 5, "two-back-step5": 5}
