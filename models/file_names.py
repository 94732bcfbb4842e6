"""The names of models, of their checkpoint files and of sidecar files. Importing this module takes little time."""

import re
from pathlib import Path

from latentd.models.errors import CheckpointError
from latentd.models.files import printable

SHIPPED = Path(__file__).with_name("checkpoints")
"""The folder of the models that come with latentd."""
SUFFIX = ".safetensors"
DIRECTIONS_ENDING, SURFACE_ENDING = ".directions", ".surface"
SIDECAR_ENDINGS = (DIRECTIONS_ENDING, SURFACE_ENDING)
"""Reserved endings of file stems: models/sidecars.py uses them, so no model's name may end in one."""
PICKLED_FILE = (
    "a pickled file, which can run code when it is read; latentd never reads pickles. It reads the "
    f"{SUFFIX} files that `latentd train` writes"
)
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[0-9a-f]{12}")
_PICKLE_SUFFIXES = {".pth", ".pt", ".ckpt", ".pkl", ".pickle"}


def name_and_version(path: Path) -> tuple[str, str | None]:
    """Return the model's name, and the version if it is in the file's name: `NAME@VERSION.safetensors`.

    Raises CheckpointError if `path` cannot be the name of a checkpoint.
    """
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise CheckpointError(f"{printable(path.name)}: by its name this is {PICKLED_FILE}")
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{printable(path.name)}: a checkpoint's name ends in {SUFFIX}")
    name, at, version = path.stem.partition("@")
    check_model_name(name)
    if at and not _VERSION.fullmatch(version):
        raise CheckpointError(f"{printable(path.name)}: a version, 12 hex digits, follows the @")
    return name, version or None


def check_model_name(name: str) -> None:
    """Raise CheckpointError if `name` cannot name a model. In requests, `@version` may follow a name."""
    if not _MODEL_NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} cannot be a model's name; use at most 128 letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    if name.endswith(SIDECAR_ENDINGS):
        raise CheckpointError(
            f"{name!r} cannot be a model's name: this ending is reserved for the files beside a checkpoint"
        )


def sidecar_path(checkpoint: Path, ending: str) -> Path:
    """Return the path of `checkpoint`'s sidecar file with this ending, one of SIDECAR_ENDINGS."""
    return checkpoint.with_suffix(f"{ending}{checkpoint.suffix}")


def is_sidecar(path: Path) -> bool:
    """Return whether `path` has the name of a sidecar file, and so is no checkpoint."""
    return path.stem.endswith(SIDECAR_ENDINGS)
