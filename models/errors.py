"""The errors that latentd raises on purpose. This module imports nothing."""


class LatentdError(Exception):
    """Base class: a problem that a user can fix. The message says what is wrong, and what to do."""


class CheckpointError(LatentdError):
    """A checkpoint or a sidecar file cannot be used. The message names the file and the reason."""
