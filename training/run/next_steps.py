"""What to do with a run that has ended, for people to read."""

import shlex
from pathlib import Path

from latentd.models.card import Card
from latentd.models.run_folder import RUNS, model_name
from latentd.training.report.page import report_path


def next_steps(path: Path, card: Card, data: Path | None) -> str:
    """Return lines that say where the report is, and how to evaluate, open and promote the generator.

    `path`: the run's checkpoint file. `card`: that of the generator that was saved. `data`: where the data is, if the
    command named it.
    """
    folder = path.parent
    in_runs = folder.parent == RUNS
    run = model_name(folder) if in_runs else str(folder)
    lines = {"report": str(report_path(folder))}
    if card.metrics:  # otherwise no data is held out
        lines["evaluate"] = _command("evaluate", run, *(["--data", str(data)] if data else []))
    serve = _command("serve", *([] if in_runs else ["--models", run]))
    lines["open"] = f"{serve}, then {run if in_runs else path.stem} in http://localhost:3000/explore"
    lines["promote"] = _command("promote", run)
    best = path.with_stem(f"{path.stem}-best")
    if best.is_file():
        lines["best"] = f"{best} has a better metric than the last generator: evaluate or promote this file"
    width = max(map(len, lines)) + 1
    return "\n".join(f"{f'{name}:':<{width}} {text}" for name, text in lines.items())


def _command(*words: str) -> str:
    return shlex.join(["latentd", *words])
