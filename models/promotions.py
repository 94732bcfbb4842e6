"""The version to which a model's name refers: `promoted.json` in a folder of the catalog, with its history.

The file is a list of promotions and rollbacks, the oldest first. Nothing is ever removed from it. A name refers to the
version that was promoted last and not rolled back. Without such a version, it refers to the last file of that name.
"""

import getpass
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentd.models.errors import LatentdError
from latentd.models.files import atomic_write
from latentd.models.validation import first_problem

PROMOTED = Path("promoted")
"""The folder of promoted versions, if LATENTD_MODELS names no other."""
_FILE = "promoted.json"
_LOCK = ".promoted.lock"
_LOCK_SECONDS = 10.0


class PromotionError(LatentdError):
    """A file of promotions that cannot be read or written."""


class Promotion(BaseModel):
    """One change of the version to which a name refers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    action: Literal["promote", "rollback"]
    name: str = Field(max_length=128)
    version: str | None = Field(pattern="^[0-9a-f]{12}$")
    """The version to which the name refers from then on. None: the last file of that name."""
    before: str | None = Field(pattern="^[0-9a-f]{12}$")
    """The version to which the name referred before; None if there was none."""
    source: str | None = None
    """The file that was promoted, as it was given to the command."""
    by: str
    at: str
    """UTC, ISO 8601."""
    forced: bool = False
    """Whether the version was promoted although its metrics are worse."""
    metrics: dict[str, float] = {}
    """The metrics of the version on held-out data, from its card."""
    measured: str = ""
    """How they were measured, and on what."""


class Promotions(BaseModel):
    """All promotions and rollbacks, the oldest first: the content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    history: tuple[Promotion, ...] = ()

    @property
    def current(self) -> dict[str, str]:
        """The promoted version of each name that has one."""
        return {name: versions[-1] for name, versions in self._promoted().items() if versions}

    @classmethod
    def merged(cls, parts: Iterable[Self]) -> Self:
        """Return the promotions of several folders together. Those of a later folder count more."""
        return cls(history=tuple(entry for part in parts for entry in part.history))

    @property
    def all_versions(self) -> dict[str, set[str]]:
        """For each name, every version to which it ever referred. `name@version` can be requested for all of them."""
        found: dict[str, set[str]] = {}
        for each in self.history:
            found.setdefault(each.name, set()).update(version for version in (each.version, each.before) if version)
        return found

    def before_current(self, name: str) -> str | None:
        """Return the version to which a rollback of `name` leads; None if that is the last file of this name."""
        versions = self._promoted().get(name, [])
        return versions[-2] if len(versions) > 1 else None

    def _promoted(self) -> Mapping[str, list[str]]:
        """Return for each name the promoted versions that were not rolled back, the oldest first."""
        promoted: dict[str, list[str]] = {}
        for each in self.history:
            versions = promoted.setdefault(each.name, [])
            if each.action == "promote" and each.version is not None:
                versions.append(each.version)
            elif versions:
                versions.pop()
        return promoted

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the promotions in `folder`, none if there is no file. Raises PromotionError if it cannot be read."""
        path = promotions_file(folder)
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except OSError as problem:
            raise PromotionError(f"{path.name}: {problem.strerror}") from problem
        except ValidationError as problem:
            raise PromotionError(f"{path.name}: it is no list of promotions: {first_problem(problem)}") from problem

    def write(self, folder: Path) -> None:
        """Write the promotions to `folder` atomically. Raises OSError if they cannot be written."""
        with atomic_write(promotions_file(folder)) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def with_entry(self, entry: Promotion) -> Self:
        """Return the promotions with one more entry."""
        return self.model_copy(update={"history": (*self.history, entry)})


def promotions_file(folder: Path) -> Path:
    """Return the path of a folder's file of promotions, whether it exists or not."""
    return folder / _FILE


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock on the promotions of `folder` until the block ends. Missing folders are made.

    Raises PromotionError if the folder cannot be written to, or if another command takes too long.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=_LOCK_SECONDS)
        lock.acquire()
    except Timeout:
        raise PromotionError(f"another command is changing the promotions in {folder}; try again") from None
    except OSError as problem:
        raise PromotionError(f"{folder} cannot be written to: {problem.strerror or problem}") from problem
    try:
        yield
    finally:
        lock.release()


def now() -> str:
    """Return the time for an entry."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def author() -> str:
    """Return the user of this process: `user@host`."""
    user = "unknown"
    with suppress(OSError, KeyError, ImportError):  # no such user in this container
        user = getpass.getuser()
    return f"{user}@{platform.node() or 'unknown'}"
