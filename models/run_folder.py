"""The folder of a training run, as far as serving uses it: the model's name, the run's status, the checkpoints."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from latentd.models.file_names import SUFFIX, is_sidecar

RUNS = Path("runs")
"""The default folder of training runs."""
_PREFIX = "runs/"
_RUN_JSON = "run.json"
_UNKNOWN = "unknown"


def is_run_folder(folder: Path) -> bool:
    """Return whether `folder` is that of a run: it has a `run.json`, or is in a folder with the name `runs`."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return folder.parent.name == RUNS.name or run_json(folder).is_file()


def run_json(folder: Path) -> Path:
    """Return the path of the file with the facts about a run, whether it exists or not."""
    return folder / _RUN_JSON


def model_name(folder: Path) -> str:
    """Return the name under which a run's generator is served: `runs/` and the folder's own name."""
    return f"{_PREFIX}{folder.name}"


def is_run_name(name: str) -> bool:
    """Return whether a model's name is that of a run."""
    return name.startswith(_PREFIX)


@dataclass(frozen=True)
class RunFacts:
    """The facts in `run.json`. If it cannot be read, they have their defaults."""

    status: str = _UNKNOWN
    """`running`, `finished`, `stopped` or `failed`. A run that was killed stays `running`."""
    name: str | None = None
    """The recipe's name, which is the stem of the last checkpoint."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the facts about the run in `folder`."""
        try:
            facts = json.loads(run_json(folder).read_bytes())
            status, name = facts.get("status", _UNKNOWN), facts.get("name")
        except (OSError, ValueError, AttributeError, RecursionError):
            return cls()
        return cls(status if isinstance(status, str) else _UNKNOWN, name if isinstance(name, str) else None)

    @property
    def is_finished(self) -> bool:
        """Whether the run has made all of its steps."""
        return self.status == "finished"


def run_folders(path: Path) -> list[Path]:
    """Return the folders of runs in `path`, by name; none if it is a file or cannot be read."""
    try:
        return [folder for folder in sorted(path.iterdir()) if is_run_folder(folder)]
    except OSError:
        return []


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoint files in a folder, by name, without their sidecars and hidden files. Raises OSError."""
    return [
        file
        for file in sorted(folder.iterdir())
        if file.suffix == SUFFIX and not file.name.startswith(".") and not is_sidecar(file)
    ]


def main_checkpoint(files: Sequence[Path]) -> Path:
    """Return a run's last generator, NAME.safetensors: the shortest name, beside NAME-best and NAME-step100.

    While the run is in progress, NAME-best may be its only checkpoint.
    """
    return min(files, key=lambda file: (len(file.stem), file.stem))
