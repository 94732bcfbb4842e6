"""The services that a run can be logged to, by the names of their extras."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentd.training.run.tracker import Tracker

TRACKERS = ("mlflow", "wandb")


def make_trackers(names: Iterable[str]) -> "list[Tracker]":
    """Return a tracker for each of `names`, from TRACKERS. Raises TrackerMissing if a library is not installed."""
    from latentd.training.run.mlflow_tracker import MlflowTracker
    from latentd.training.run.wandb_tracker import WandbTracker

    known: dict[str, type[Tracker]] = {tracker.name: tracker for tracker in (MlflowTracker, WandbTracker)}
    return [known[name]() for name in dict.fromkeys(names)]
