"""What the names of the served models mean, by the rules of models/names.py."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentd.models.files import printable
from latentd.models.names import CatalogFile, Meanings, Reference, VersionedFile
from latentd.models.promotions import Promotions
from latentd.models.run_folder import RunFacts, is_run_name
from latentd.service.catalog.served import ServedModel
from latentd.service.errors import ApiError

Why = Literal["file", "run", "promoted"]
"""Why a name means a version: it is in the last file of that name, in the main checkpoint of the run, or promoted."""


@dataclass(frozen=True)
class ListedVersion:
    """A version under its name, as `GET /models` lists it."""

    model: ServedModel
    files: Sequence[Path]
    """The files that have it, in the order of the catalog."""
    also: Sequence[str]
    """Other names under which the version answers, always together with the version."""
    run: RunFacts | None
    current: ServedModel | None
    """What the name means; None if it means nothing."""
    why: Why | None
    """Why the name means what it does."""


@dataclass(frozen=True)
class Names:
    """What every name means. Never modified, so readers need no lock."""

    models: Mapping[str, ServedModel] = field(default_factory=dict)
    """By name, without version: the models, and the runs that are finished."""
    unfinished: Mapping[str, ServedModel] = field(default_factory=dict)
    """The runs that are not finished. They are not listed among the models, and answer when they are asked for."""
    versions: Mapping[Reference, ServedModel] = field(default_factory=dict)
    """By name and version."""
    listed: Sequence[ListedVersion] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """Names whose promoted version is in no file of the catalog, and that version."""

    @classmethod
    def of(cls, *models: ServedModel) -> "Names":
        """Return the names of models of which each has a file."""
        return cls({each.name: each for each in models}, {}, {(each.name, each.version): each for each in models})

    def default(self, configured: str) -> ServedModel | None:
        """Return the model of requests that name none: the configured one, or else the first by name.

        A run is never the first, because a training run must not become what clients get.
        """
        first = min(self.plain, default="")
        return self.models.get(configured) or self.unfinished.get(configured) or self.models.get(first)

    def find(self, reference: str) -> ServedModel:
        """Return the model that `name` or `name@version` refers to. Raises ApiError 404."""
        name, at, version = reference.partition("@")
        found = self.versions.get((name, version)) if at else self.models.get(name) or self.unfinished.get(name)
        if found is not None:
            return found
        known = sorted(each for of, each in self.versions if of == name)
        if not at and name in self.missing:
            message = f"{name} means version {self.missing[name]}, and no file of the catalog has it"
        elif at and known:
            message = f"{name} is served in version {' and '.join(known)}, not {version!r}"
        elif known:
            message = f"{name} has no version of its own; ask for {name}@{known[0]}"
        else:
            served = ", ".join(sorted(self.models))
            raise ApiError(404, "unknown_model", f"there is no model {name!r}; the models are {served}", "model")
        raise ApiError(404, "version_not_served", message, "model")

    def versions_of(self, name: str) -> list[str]:
        """Return the versions that answer under `name`."""
        return sorted(version for each, version in self.versions if each == name)

    @property
    def plain(self) -> set[str]:
        """The names of models, without those of runs."""
        return {name for name in self.models if not is_run_name(name)}

    @property
    def all(self) -> set[str]:
        """Every name under which something answers."""
        return {*self.models, *self.unfinished, *(name for name, _ in self.versions)}


class NameTable:
    """Makes the Names of the catalog's models, and keeps models under further names between two calls."""

    def __init__(self) -> None:
        self._aliases: dict[tuple[CatalogFile, str], tuple[ServedModel, ServedModel]] = {}
        """By file and name: the file's model, and the same under that name."""

    @property
    def aliases(self) -> list[ServedModel]:
        """The models under further names."""
        return [alias for _, alias in self._aliases.values()]

    def resolve(
        self,
        files: Mapping[CatalogFile, ServedModel],
        runs: Mapping[str, RunFacts],
        promotions: Promotions,
        before: Names,
    ) -> Names:
        """Return the names of `files`, which are in the order of the catalog.

        `before`: the names until now. A name whose promoted version is not loaded keeps what it meant.
        """
        self._forget(files)
        meanings = Meanings.of([VersionedFile(file, model.version) for file, model in files.items()], promotions)
        versions = {key: self._model(files, each.file, key[0]) for key, each in meanings.versions.items()}
        models = {name: self._model(files, each.file, name) for name, each in meanings.models.items()}
        for name in promotions.current:
            if (model := models.pop(name, None)) is None or not model.was_loaded:
                model = before.models.get(name)
            if model is not None:
                models[name] = versions[name, model.version] = model
        meant = {name: files[each.file] for name, each in meanings.runs.items()}
        finished = {name: model for name, model in meant.items() if name in runs and runs[name].is_finished}
        unfinished = {name: model for name, model in meant.items() if name not in finished}
        listed = _list(files, versions, models | meant, runs, promotions.current)
        return Names(models | finished, unfinished, versions, listed, meanings.missing)

    def _model(self, files: Mapping[CatalogFile, ServedModel], file: CatalogFile, name: str) -> ServedModel:
        """Return the model in `file` under `name`."""
        model = files[file]
        if model.name == name:
            return model
        _, alias = self._aliases.setdefault((file, name), (model, model.under_name(name)))
        return alias

    def _forget(self, files: Mapping[CatalogFile, ServedModel]) -> None:
        """Forget the aliases of models that are gone."""
        self._aliases = {key: both for key, both in self._aliases.items() if files.get(key[0]) is both[0]}


def _list(
    files: Mapping[CatalogFile, ServedModel],
    versions: Mapping[Reference, ServedModel],
    meant: Mapping[str, ServedModel],
    runs: Mapping[str, RunFacts],
    promoted: Collection[str],
) -> list[ListedVersion]:
    """Return each version under the names of its files, and under each name that means it, sorted."""
    paths: dict[Reference, list[Path]] = {}
    for file, model in files.items():
        paths.setdefault((model.name, model.version), []).append(file.path)
    for name, model in meant.items():  # a promoted version may be in files of other names
        others = [file.path for file, each in files.items() if each.version == model.version]
        paths.setdefault((name, model.version), others)
    listed = []
    for name, version in sorted(paths):
        also = {each for each, of in versions if of == version} - {each for each, of in paths if of == version}
        why: Why = "run" if name in runs else "promoted" if name in promoted else "file"
        current = meant.get(name)
        model = versions[name, version]
        shown = why if current else None
        listed.append(ListedVersion(model, paths[name, version], sorted(also), runs.get(name), current, shown))
    return listed


def changes(before: Names, now: Names) -> list[str]:
    """Return lines for the log: which names mean something else, which are gone, and which files are hidden."""
    gone = before.models.keys() - now.models.keys() - now.unfinished.keys()
    lines = [f"{name} is no longer served: its file is gone" for name in sorted(gone)]
    for name, model in now.models.items():
        was = before.models.get(name)
        if was is not None and was.version != model.version:
            lines.append(f"{name} means {model.version} now, not {was.version}")
    for each in now.listed:
        current = each.current
        is_new = current is not None and before.models.get(current.name) is not current
        if current is not None and is_new and each.run is None and current is not each.model:
            lines.append(f"{printable(str(current.file))} hides {printable(str(each.model.file))}")
    return lines
