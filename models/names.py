"""The names of a catalog's models, and the files to which they refer.

- The name of a file is its stem. The name of `NAME@VERSION.safetensors` is NAME. The files of a run have the name
  `runs/NAME`.
- A plain name refers to its promoted version. Without one, it refers to the last file of that name in the order of the
  catalog; files with a version in their name do not count. The name of a run refers to the run's main checkpoint.
- `name@version` refers to any file of that version. In such a reference, a file of a run also has its stem as a name,
  because samples that were made without a service contain it. A promoted version keeps each name that it ever had.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from latentd.models.card import CARD_KEY, VERSION_KEY, open_safetensors
from latentd.models.errors import CheckpointError
from latentd.models.file_names import SHIPPED, name_and_version
from latentd.models.promotions import PROMOTED, Promotions
from latentd.models.run_folder import RUNS, checkpoints_in, main_checkpoint, model_name, run_folders


class CatalogFile(NamedTuple):
    """A checkpoint file of a catalog. A file may be in it twice: by itself, and as a part of its run."""

    path: Path
    run: str | None = None
    """The name of the file's run, `runs/NAME`; None if it is not in a run."""

    @property
    def stem(self) -> str:
        """The file's stem, without a version."""
        return self.path.stem.partition("@")[0]

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.run or self.stem

    @property
    def is_lazy(self) -> bool:
        """Whether the file is loaded only if a request names it, or if it is promoted: runs, and `NAME@VERSION`."""
        return self.run is not None or "@" in self.path.stem


class VersionedFile(NamedTuple):
    """A file and its version."""

    file: CatalogFile
    version: str


Reference = tuple[str, str]
"""A name and a version."""


@dataclass(frozen=True)
class ResolvedNames:
    """The file to which each name refers."""

    models: Mapping[str, VersionedFile]
    """For each name of a model."""
    runs: Mapping[str, VersionedFile]
    """For each name of a run."""
    versions: Mapping[Reference, VersionedFile]
    """For each name with a version."""
    missing: Mapping[str, str]
    """For each name whose promoted version is in no file: that version. Such a name refers to nothing."""

    @classmethod
    def of(cls, files: Sequence[VersionedFile], promotions: Promotions) -> "ResolvedNames":
        """Resolve the names of `files`, which are in the order of the catalog."""
        models = {each.file.name: each for each in files if not each.file.is_lazy}
        versions = _further_names(files, promotions) | {(each.file.name, each.version): each for each in files}
        missing: dict[str, str] = {}
        for name, version in promotions.current.items():
            models.pop(name, None)
            if (name, version) in versions:
                models[name] = versions[name, version]
            else:
                missing[name] = version
        return cls(models, _main_files(files), versions, missing)

    def find(self, reference: str) -> VersionedFile | None:
        """Return the file that `name` or `name@version` refers to."""
        name, at, version = reference.partition("@")
        return self.versions.get((name, version)) if at else self.models.get(name) or self.runs.get(name)


def _further_names(files: Sequence[VersionedFile], promotions: Promotions) -> dict[Reference, VersionedFile]:
    """Return the references whose names are not those of their files."""
    found = {(each.file.stem, each.version): each for each in files if each.file.run}
    by_version = {each.version: each for each in files}
    for name, versions in promotions.all_versions.items():
        found |= {(name, version): by_version[version] for version in versions & by_version.keys()}
    return found


def _main_files(files: Sequence[VersionedFile]) -> dict[str, VersionedFile]:
    """Return the main checkpoint of each run. Of two folders with the same name, the later one counts."""
    by_run: dict[str, dict[Path, VersionedFile]] = {}
    for each in files:
        if each.file.run is not None:
            by_path = by_run.setdefault(each.file.run, {})
            if by_path and next(iter(by_path)).parent != each.file.path.parent:
                by_path.clear()
            by_path[each.file.path] = each
    return {run: by_path[main_checkpoint(list(by_path))] for run, by_path in by_run.items()}


def default_paths() -> list[Path]:
    """Return the folders of the catalog if the settings name none: the shipped models, runs/ and promoted/."""
    return [SHIPPED, *(path for path in (RUNS, PROMOTED) if path.is_dir())]


def read_files(paths: Iterable[Path]) -> list[VersionedFile]:
    """Return the checkpoint files in a catalog's `paths`, with the versions in their headers.

    Files and folders that cannot be read, or that are no checkpoints, are left out.
    """
    found: dict[CatalogFile, str] = {}
    for path in paths:
        of_runs = [CatalogFile(file, model_name(run)) for run in run_folders(path) for file in _files_of(run)]
        for file in [*map(CatalogFile, _files_of(path)), *of_runs]:
            found.pop(file, None)  # a file that is named twice takes its later position
            if version := _written_version(file.path):
                found[file] = version
    return [VersionedFile(file, version) for file, version in found.items()]


def _files_of(path: Path) -> list[Path]:
    try:
        return checkpoints_in(path) if path.is_dir() else [path]
    except OSError:
        return []


def read_promotions(paths: Iterable[Path]) -> Promotions:
    """Return the promotions in a catalog's `paths`. Raises PromotionError if a file of them cannot be read."""
    return Promotions.merged(Promotions.read(path) for path in paths if path.is_dir())


def resolve_names(paths: Iterable[Path]) -> ResolvedNames:
    """Resolve the names of a catalog. Raises PromotionError if its promotions cannot be read."""
    paths = list(paths)
    return ResolvedNames.of(read_files(paths), read_promotions(paths))


def _written_version(path: Path) -> str | None:
    try:
        name_and_version(path)
        with open_safetensors(path, framework="np") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
        if CARD_KEY in metadata and VERSION_KEY not in metadata:
            from latentd.models.checkpoint import Checkpoint  # loads PyTorch; new files name their version

            return Checkpoint.read(path).version
    except CheckpointError:
        return None
    return metadata.get(VERSION_KEY)
