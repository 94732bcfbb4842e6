"""The errors that latentd raises on purpose. This module imports nothing of latentd."""

from typing import ClassVar


class LatentdError(Exception):
    """Base class: a problem that a user can fix. The message says what is wrong, and what to do."""

    every_rank_reports: ClassVar[bool] = False
    """Of the processes of one training run, whether each prints this error. Otherwise only the main one does."""


class UsageError(LatentdError):
    """A name, a path or a setting that was given is wrong. Another one is needed; nothing was done."""


class CheckpointError(LatentdError):
    """A checkpoint or a sidecar file cannot be used. The message names the file and the reason."""
