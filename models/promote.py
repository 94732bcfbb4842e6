"""Promote a checkpoint: copy it to a folder of the catalog, and make its name refer to the copy."""

import shutil
from pathlib import Path

from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SUFFIX
from latentd.models.files import atomic_write
from latentd.models.promotions import Promotion, PromotionError, Promotions, locked
from latentd.models.sidecars import copy_sidecars


def copy_path(folder: Path, name: str, version: str | None) -> Path:
    """Return the path of the copy of a promoted version, whether it exists or not."""
    return folder / f"{name}@{version}{SUFFIX}"


def promote_copy(source: Path, entry: Promotion, folder: Path) -> Path:
    """Copy `source` to `folder` with its sidecar files, add `entry` to the promotions there, and return the copy.

    Raises PromotionError if the folder cannot be written to, and CheckpointError if `source` has another version than
    `entry` says.
    """
    copy = copy_path(folder, entry.name, entry.version)
    try:
        with locked(folder):
            _copy(source, copy)
            Promotions.read(folder).with_entry(entry).write(folder)
    except OSError as problem:
        raise PromotionError(f"{folder} cannot be written to: {problem.strerror or problem}") from problem
    return copy


def _copy(source: Path, copy: Path) -> None:
    if copy.exists() and copy.samefile(source):
        return
    with atomic_write(copy) as temporary:
        shutil.copyfile(source, temporary)
        read = Checkpoint.read(copy, temporary)
    copy_sidecars(source, read.version, copy)
