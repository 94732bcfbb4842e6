"""The evaluator of a checkpoint: held-out samples of the data set that its card names."""

from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from latentd.models.checkpoint import Checkpoint
from latentd.training.data.sets import DataConfig
from latentd.training.data.source import DataError, DataSettings, OnProgress
from latentd.training.evaluation.evaluator import Evaluator
from latentd.training.evaluation.inception import load_inception

Features = Literal["embedded", "inception"]


def data_settings(checkpoint: Checkpoint) -> DataSettings:
    """Return the data settings in the card. Raises DataError if there are none."""
    try:
        settings: DataSettings = TypeAdapter(DataConfig).validate_python(checkpoint.card.settings.get("data"))
    except ValidationError as problem:
        raise DataError(f"{checkpoint.name} cannot be evaluated: its card does not name the data set") from problem
    return settings


def build_evaluator(
    settings: DataSettings, data: Path | None, features: Features, on_progress: OnProgress = lambda _: None
) -> Evaluator:
    """Load the data and return its evaluator.

    `data`: where the data is, if not at its usual places. Raises DataError if it is not there.
    """
    load_extractor = partial(load_inception, on_progress) if features == "inception" else None
    return settings.evaluator(data, on_progress, load_extractor)
