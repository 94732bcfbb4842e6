"""The names of the served models, resolved by the rules of models/names.py."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentd.models.files import printable
from latentd.models.names import CatalogFile, Reference, ResolvedNames, VersionedFile
from latentd.models.promotions import Promotions
from latentd.models.run_folder import RunFacts, is_run_name
from latentd.models.suggestions import did_you_mean
from latentd.service.catalog.served import ServedModel
from latentd.service.errors import ApiError

Why = Literal["file", "run", "promoted"]
"""Why a name refers to a version: it is in the last file of the name, in a run's main checkpoint, or promoted."""


@dataclass(frozen=True)
class ListedVersion:
    """A version under one name, as `GET /models` lists it."""

    model: ServedModel
    files: Sequence[Path]
    """The files with this version, in the order of the catalog."""
    also: Sequence[str]
    """Other names that can be used together with this version: `also@version`."""
    run: RunFacts | None
    current: ServedModel | None
    """The model to which the plain name refers; None if it refers to none."""
    why: Why | None
    """Why the plain name refers to `current`."""


@dataclass(frozen=True)
class Names:
    """The model of every name. It is never modified, so readers need no lock."""

    models: Mapping[str, ServedModel] = field(default_factory=dict)
    """For each plain name: the model. It has models and finished runs."""
    unfinished: Mapping[str, ServedModel] = field(default_factory=dict)
    """For each name of an unfinished run: its model. It is not listed among the models, but can be requested."""
    versions: Mapping[Reference, ServedModel] = field(default_factory=dict)
    """For each name and version: the model."""
    listed: Sequence[ListedVersion] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """For each name whose promoted version is in no file of the catalog: that version."""

    @classmethod
    def of(cls, *models: ServedModel) -> "Names":
        """Return the names of these models, each of which has a file."""
        return cls({each.name: each for each in models}, {}, {(each.name, each.version): each for each in models})

    def default(self, configured: str) -> ServedModel | None:
        """Return the model of requests that name none: the configured one, or else the first one by name.

        A run is never the first one, because clients must not get the model of a training run by accident.
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
            message = f"{name} refers to version {self.missing[name]}, and no file of the catalog has it"
        elif at and known:
            message = f"{name} is served in version {' and '.join(known)}, not {version!r}"
        elif known:
            message = f"{name} has no version of its own; ask for {name}@{known[0]}"
        else:
            suggested, served = did_you_mean(name, sorted(self.models)), ", ".join(sorted(self.models))
            message = f"there is no model {name!r}{suggested}; the models are {served}"
            raise ApiError(404, "unknown_model", message, "model")
        raise ApiError(404, "version_not_served", message, "model")

    def versions_of(self, name: str) -> list[str]:
        """Return the versions that can be requested under `name`."""
        return sorted(version for each, version in self.versions if each == name)

    @property
    def plain(self) -> set[str]:
        """The names of models, without those of runs."""
        return {name for name in self.models if not is_run_name(name)}

    @property
    def all(self) -> set[str]:
        """Every name that can be requested, with or without a version."""
        return {*self.models, *self.unfinished, *(name for name, _ in self.versions)}


class NameTable:
    """Resolves the names of the catalog's models. It keeps copies of models under other names between two calls."""

    def __init__(self) -> None:
        self._aliases: dict[tuple[CatalogFile, str], tuple[ServedModel, ServedModel]] = {}
        """For each file and name: the file's model, and the same model under that name."""

    @property
    def aliases(self) -> list[ServedModel]:
        """The models under names that are not those of their files."""
        return [alias for _, alias in self._aliases.values()]

    def resolve(
        self,
        files: Mapping[CatalogFile, ServedModel],
        runs: Mapping[str, RunFacts],
        promotions: Promotions,
        before: Names,
        unknown: Collection[str] = (),
    ) -> Names:
        """Resolve the names of `files`, which are in the order of the catalog.

        `before`: the names until now. If the promoted version of a name is not loaded, the name stays as it was.
        `unknown`: names that may have a promoted version, which cannot be known. They are not served without a version.
        """
        self._forget(files)
        names = ResolvedNames.of([VersionedFile(file, model.version) for file, model in files.items()], promotions)
        versions = {key: self._model(files, each.file, key[0]) for key, each in names.versions.items()}
        models = {name: self._model(files, each.file, name) for name, each in names.models.items()}
        for name in unknown:
            models.pop(name, None)
        for name in promotions.current:
            if (model := models.pop(name, None)) is None or not model.was_loaded:
                model = before.models.get(name)
            if model is not None:
                models[name] = versions[name, model.version] = model
        run_models = {name: files[each.file] for name, each in names.runs.items()}
        finished = {name: model for name, model in run_models.items() if name in runs and runs[name].is_finished}
        unfinished = {name: model for name, model in run_models.items() if name not in finished}
        listed = _list(files, versions, models | run_models, runs, promotions.current)
        return Names(models | finished, unfinished, versions, listed, names.missing)

    def _model(self, files: Mapping[CatalogFile, ServedModel], file: CatalogFile, name: str) -> ServedModel:
        """Return the model in `file` under `name`."""
        model = files[file]
        if model.name == name:
            return model
        if (file, name) not in self._aliases:
            self._aliases[file, name] = model, model.under_name(name)
        return self._aliases[file, name][1]

    def _forget(self, files: Mapping[CatalogFile, ServedModel]) -> None:
        """Forget the aliases of models that are gone."""
        self._aliases = {key: both for key, both in self._aliases.items() if files.get(key[0]) is both[0]}


def _list(
    files: Mapping[CatalogFile, ServedModel],
    versions: Mapping[Reference, ServedModel],
    by_name: Mapping[str, ServedModel],
    runs: Mapping[str, RunFacts],
    promoted: Collection[str],
) -> list[ListedVersion]:
    """Return each version under the names of its files, and under each name that refers to it, sorted."""
    paths: dict[Reference, list[Path]] = {}
    for file, model in files.items():
        paths.setdefault((model.name, model.version), []).append(file.path)
    for name, model in by_name.items():
        if (name, model.version) not in paths:  # a promoted version in files of other names
            others = [file.path for file, each in files.items() if each.version == model.version]
            paths[name, model.version] = others
    further: dict[str, set[str]] = {}
    for name, version in versions.keys() - paths.keys():
        further.setdefault(version, set()).add(name)
    listed = []
    for name, version in sorted(paths):
        why: Why = "run" if name in runs else "promoted" if name in promoted else "file"
        current = by_name.get(name)
        model = versions[name, version]
        shown = why if current else None
        listed.append(
            ListedVersion(model, paths[name, version], sorted(further.get(version, ())), runs.get(name), current, shown)
        )
    return listed


def changes(before: Names, now: Names) -> list[str]:
    """Return lines for the log: which names are gone, which refer to another version, and which files are hidden."""
    gone = before.models.keys() - now.models.keys() - now.unfinished.keys()
    lines = [f"{name} is no longer served: its file is gone" for name in sorted(gone)]
    for name, model in now.models.items():
        was = before.models.get(name)
        if was is not None and was.version != model.version:
            lines.append(f"{name} refers to {model.version} now, not to {was.version}")
    for each in now.listed:
        current = each.current
        is_new = current is not None and before.models.get(current.name) is not current
        if current is not None and is_new and each.run is None and current is not each.model:
            lines.append(f"{printable(str(current.file))} hides {printable(str(each.model.file))}")
    return lines
