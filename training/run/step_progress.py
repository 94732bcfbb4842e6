"""Shows how far training is."""

from latentd.training.data.source import OnProgress, TaskProgress
from latentd.training.run.callback import ActiveRun, Callback


class StepProgress(Callback):
    """Tells a display each step, with the losses."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress

    def on_step(self, run: ActiveRun) -> None:
        def losses() -> str:
            return " ".join(f"{name[0].upper()} {loss:.3f}" for name, loss in run.losses.items())

        self._on_progress(TaskProgress(f"training {run.card.recipe}", run.step, run.steps, "steps", losses))
