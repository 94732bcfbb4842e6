"""The services that a run can be logged to, by the names of their extras."""

from collections.abc import Iterable

from latentd.training.run.mlflow_tracker import MlflowTracker
from latentd.training.run.tracker import Tracker
from latentd.training.run.wandb_tracker import WandbTracker

TRACKERS: dict[str, type[Tracker]] = {tracker.name: tracker for tracker in (MlflowTracker, WandbTracker)}


def make_trackers(names: Iterable[str]) -> list[Tracker]:
    """Return a tracker for each of `names`. Raises TrackerMissing if a library is not installed."""
    return [TRACKERS[name]() for name in dict.fromkeys(names)]
