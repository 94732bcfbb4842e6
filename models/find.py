"""Finds the checkpoint file of a path or a name, for commands and for Python. The service has a catalog of its own."""

from collections.abc import Iterable
from pathlib import Path

from latentd.models.errors import CheckpointError, UsageError
from latentd.models.file_names import SUFFIX, name_and_version
from latentd.models.files import printable
from latentd.models.names import ResolvedNames, default_paths, resolve_names
from latentd.models.run_folder import RUNS, checkpoints_in, main_checkpoint
from latentd.models.suggestions import did_you_mean


class UnknownModelError(UsageError, CheckpointError):
    """There is no model of this name, no file at this path, or a file whose name is not that of a checkpoint."""


def find_checkpoint(path_or_name: str | Path) -> Path:
    """Return the checkpoint file to which a path or a name refers.

    `path_or_name`: a .safetensors file, the folder of a run, or a name as the service knows it: a promoted or shipped
    model, `NAME@VERSION`, `runs/NAME` or the name of a run in runs/; a name is looked up in that order.

    Raises UnknownModelError if there is no such file, or if the file cannot be a checkpoint by its name.
    """
    path, name = Path(path_or_name), str(path_or_name)
    try:
        if path.suffix == SUFFIX and path.is_file():
            return path
        if path.is_file():
            name_and_version(path)  # says what is wrong with it
        if path.is_dir() and (files := checkpoints_in(path)):
            return main_checkpoint(files)
    except CheckpointError as problem:
        raise UnknownModelError(str(problem)) from problem
    except OSError as problem:
        raise UnknownModelError(f"{printable(name)} cannot be read: {problem.strerror}") from problem
    names = _resolve()
    if found := names.find(name) or names.find(f"{RUNS}/{name}"):
        return found.file.path
    raise UnknownModelError(_nothing_found(path, printable(name), names))


def model_names() -> list[str]:
    """Return the names that `find_checkpoint` knows, without versions."""
    return _known_names(_resolve())


def _resolve() -> ResolvedNames:
    return resolve_names(default_paths())


def _known_names(names: ResolvedNames) -> list[str]:
    runs = [name.removeprefix(f"{RUNS}/") for name in names.runs]
    return sorted({*names.models, *names.runs, *runs})


def _nothing_found(path: Path, name: str, names: ResolvedNames) -> str:
    if path.is_dir():
        return f"the folder {name} has no {SUFFIX} file; a run saves one when it ends or is stopped"
    if path.suffix == SUFFIX:
        return f"there is no file {name}"
    if name in names.missing:
        return f"{name} refers to version {names.missing[name]}, which is promoted; no file has it"
    model, at, version = name.partition("@")
    if at and (versions := list(_versions(model, names))):
        return f"{model} is here in version {', '.join(versions)}, not in {version!r}"
    known = ", ".join(sorted({*names.models, *names.runs}))
    return (
        f"there is no model {name!r}{did_you_mean(name, _known_names(names))}; "
        f"give a {SUFFIX} file, a run, or one of {known}"
    )


def _versions(model: str, names: ResolvedNames) -> Iterable[str]:
    """Return the versions of a model or of a run."""
    return dict.fromkeys(version for name, version in names.versions if name in (model, f"{RUNS}/{model}"))
