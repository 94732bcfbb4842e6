"""The errors that latentd raises on purpose. This module imports nothing of latentd."""

from typing import ClassVar


class LatentdError(Exception):
    """Base class: a problem that a user can fix. The message says what is wrong, and what to do."""

    every_rank_reports: ClassVar[bool] = False
    """Whether each process of a training run prints this error. If not, only the main process does."""


class UsageError(LatentdError):
    """A name, a path or a setting that the user gave is wrong. Nothing was done."""


class CheckpointError(LatentdError):
    """A checkpoint or a sidecar file cannot be used. The message names the file and the reason."""
