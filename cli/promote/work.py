"""The work of `latentd promote`, `latentd rollback` and `latentd promotions`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from latentd.cli.promote.comparison import compare, deciding_metric
from latentd.models.checkpoint import Checkpoint
from latentd.models.errors import LatentdError, UsageError
from latentd.models.file_names import check_model_name, name_and_version
from latentd.models.files import printable
from latentd.models.names import ResolvedNames, read_files, read_promotions
from latentd.models.promote import promote_copy
from latentd.models.promotions import Promotion, PromotionError, Promotions, author, locked, now
from latentd.models.run_folder import RUNS, RunFacts, checkpoints_in, is_run_folder, main_checkpoint, run_folders
from latentd.models.suggestions import did_you_mean
from latentd.service.settings import Settings
from latentd.training.report.tables import print_table

_NONE = "–"
_OF_STEP = re.compile(r"(-best|-step\d+)$")
"""How the files of a run end whose generator is not the last one."""


class Refused(LatentdError):
    """A promotion or a rollback that is not carried out. The message says why and what to do."""


@dataclass(frozen=True)
class _Source:
    """The file to promote."""

    path: Path
    name: str
    """The name that it is for, if no other is given."""


def promote(run: str, name: str | None, force: bool, models: str | None) -> None:
    """Make the generator of `run` the one that `name` means (None: the run's recipe, or the file's own name).

    Raises Refused if its metric on held-out data is worse and `force` is false, and UsageError if there is no such run.
    """
    settings = _settings(models)
    folder = _folder(settings)
    names, promotions = _read(settings)
    source = _find(run, names)
    name = name or source.name
    check_model_name(name)
    read = Checkpoint.read(source.path)
    current = names.models.get(name)
    if promotions.current.get(name) == read.version and current is not None:
        click.echo(f"{name} means {read.version} already")
        return
    before = Checkpoint.read(current.file.path) if current else None
    comparison = compare(read, before) if before else None
    if comparison and comparison.is_worse and not force:
        raise Refused(f"{name} stays as it is: {comparison.text}; --force promotes {read.version} all the same")
    entry = Promotion(
        action="promote",
        name=name,
        version=read.version,
        before=before.version if before else None,
        source=printable(str(source.path)),
        by=author(),
        at=now(),
        forced=comparison is not None and comparison.is_worse,
        metrics=read.card.metrics,
        measured=read.card.measured,
    )
    copy = promote_copy(source.path, entry, folder)
    click.echo(f"{name} means {read.version} now{_instead_of(before)}: {copy}")
    for line in ([comparison.text] if comparison else []) + _notes(source.path):
        click.echo(line)


def rollback(name: str, models: str | None) -> None:
    """Undo the last promotion of `name`. Raises Refused if there is none, or if no file has the version before."""
    settings = _settings(models)
    names, promotions = _read(settings)
    folders = [path for path in settings.catalog_paths() if path.is_dir() and name in Promotions.read(path).current]
    if not folders:
        promoted = ", ".join(sorted(promotions.current)) or "none"
        raise Refused(f"{name} has no promotion to undo; promoted are: {promoted}")
    undone = promotions.current[name]
    try:
        with locked(folders[-1]):
            there = Promotions.read(folders[-1])
            version = there.before_current(name)
            if version is not None and (name, version) not in names.versions:
                raise Refused(f"{name} meant {version} before, and no file of the catalog has it; put one back first")
            entry = Promotion(action="rollback", name=name, version=version, before=undone, by=author(), at=now())
            there.with_entry(entry).write(folders[-1])
    except OSError as problem:
        raise PromotionError(f"{folders[-1]} cannot be written to: {problem.strerror or problem}") from problem
    after = _read(settings)[0].models.get(name)
    meaning = (
        f"{after.version} again: {after.file.path}" if after else "nothing now: no file of the catalog has this name"
    )
    click.echo(f"{name} means {meaning}")


def print_promotions(name: str | None, as_json: bool, models: str | None) -> None:
    """Print who promoted what and when, newest first: of all models, or of `name`."""
    _, found = _read(_settings(models))
    history = [each for each in reversed(found.history) if name in (None, each.name)]
    if as_json:
        click.echo(json.dumps([each.model_dump(mode="json") for each in history], indent=2))
        return
    if not history:
        click.echo(f"nothing was promoted{f' as {name}' if name else ''}")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("when", "who", "name", "means", "before", "metric", "from"):
        table.add_column(heading)
    for each in history:
        is_current = each is next(other for other in history if other.name == each.name)
        table.add_row(*(Text(text, style="bold" if is_current else "") for text in _row(each)))
    print_table(table)


def _row(entry: Promotion) -> list[str]:
    how = {"promote": entry.source or _NONE, "rollback": "rollback"}[entry.action] + (
        " (forced)" if entry.forced else ""
    )
    metric = deciding_metric(entry.metrics)
    shown = f"{metric[0]} {metric[1]:.4g}" if metric else _NONE
    return [entry.at, entry.by, entry.name, entry.version or "the files' own", entry.before or _NONE, shown, how]


def _settings(models: str | None) -> Settings:
    return Settings() if models is None else Settings(models=models)


def _folder(settings: Settings) -> Path:
    folder = settings.promotions_folder()
    if folder is None:
        raise Refused(
            "the catalog has no folder to write the promotion to; add one at the end of LATENTD_MODELS or --models"
        )
    return folder


def _read(settings: Settings) -> tuple[ResolvedNames, Promotions]:
    paths = settings.catalog_paths()
    promotions = read_promotions(paths)
    return ResolvedNames.of(read_files(paths), promotions), promotions


def _find(run: str, names: ResolvedNames) -> _Source:
    """Return the file that RUN refers to: as a path, or as a name of the catalog."""
    path = Path(run)
    if not path.exists() and is_run_folder(RUNS / path):
        path = RUNS / path
    if path.is_dir():
        files = checkpoints_in(path)
        if not files:
            raise Refused(f"{run} has no checkpoint yet")
        path = main_checkpoint(files)
    if path.exists():
        name, _ = name_and_version(path)
        return _Source(path, _OF_STEP.sub("", name) if is_run_folder(path.parent) else name)
    if (found := names.find(run)) is None:
        known = [*names.models, *names.runs, *(folder.name for folder in run_folders(RUNS))]
        raise UsageError(
            f"there is no run, no file and no version {run!r}{did_you_mean(run, known)}; `latentd runs` lists runs"
        )
    return _Source(found.file.path, run.partition("@")[0])


def _instead_of(before: Checkpoint | None) -> str:
    return f", before that {before.version}" if before else ""


def _notes(source: Path) -> list[str]:
    """Return what is worth knowing about the run that was promoted."""
    notes = []
    facts = RunFacts.read(source.parent)
    if is_run_folder(source.parent) and not facts.is_finished:
        notes.append(f"the run is not finished: {facts.status}")
    best = source.with_stem(f"{source.stem}-best")
    if best.exists():
        notes.append(f"the best generator of the run is another one: latentd promote {best}")
    return notes
