"""The callbacks of a run, and their order."""

from collections.abc import Sequence

from latentd.training.data.source import OnProgress
from latentd.training.recipes.base import Recipe
from latentd.training.run.callback import ActiveRun, Callback
from latentd.training.run.checkpoint_manager import CheckpointManager
from latentd.training.run.collapse_detector import CollapseDetector
from latentd.training.run.evaluation import Evaluation
from latentd.training.run.generator_probe import GeneratorProbe
from latentd.training.run.loss_logger import LossLogger
from latentd.training.run.other_generators import OtherGenerators
from latentd.training.run.probe_reader import ProbeReader
from latentd.training.run.recorder import Recorder
from latentd.training.run.report_writer import ReportWriter
from latentd.training.run.snapshots import Snapshots
from latentd.training.run.state import StateDirectory
from latentd.training.run.state_saver import StateSaver
from latentd.training.run.step_progress import StepProgress
from latentd.training.run.tensorboard import TensorBoard
from latentd.training.run.time_estimate import TimeEstimate


def make_callbacks(
    recipe: Recipe, run: ActiveRun, states: StateDirectory, on_progress: OnProgress, more: Sequence[Callback]
) -> list[Callback]:
    """Return all callbacks of `run` in the order in which they are called. `more`: those that the caller adds.

    The state comes first, so that no failure of another callback loses it. What measures comes before what writes: at
    the end of the run, all is measured when the checkpoint is written, and the checkpoint's version is known to those
    below it. The report is made from the files of all others.
    """
    probe = GeneratorProbe(run.algorithm, run.source)
    return [
        StepProgress(on_progress),
        TimeEstimate(),
        StateSaver(states, recipe.save_seconds),
        LossLogger(),
        ProbeReader(probe),
        CollapseDetector(recipe.steps, run.algorithm.collapse_hints),
        Snapshots(probe.reach),
        Evaluation(run.source.evaluator(), on_progress),
        CheckpointManager(run.path, run.card, recipe.images_per_step, run.steps_done, probe.reach),
        OtherGenerators(),
        *more,
        Recorder(),
        TensorBoard(),
        ReportWriter(),
    ]
