"""The folder of shards. Its `_bulk/` holds the arguments, `order.json`, and the finished shards, `shards.jsonl`.

A shard is finished once shards.jsonl lists it. The shard is written atomically, and its line after it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from latentd.cli.bulk.shard import Shard
from latentd.cli.bulk.spec import BulkSpec, ShardRange
from latentd.models.files import atomic_write
from latentd.models.json_lines import JsonLinesAppender, read_json_lines, write_json_lines
from latentd.training.run.directory import OutputError

_CONTROL, _SPEC, _DONE = "_bulk", "order.json", "shards.jsonl"


class _ShardRecord(BaseModel):
    """A finished shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    seed: int
    samples: int
    bytes: int
    sha256: str
    fingerprint: str


def control_folder(folder: Path) -> Path:
    """Return the folder for everything that is no shard. Readers of Parquet skip names that begin with `_`."""
    return folder / _CONTROL


class BulkFolder:
    """Writes shards to a folder, and knows which are finished."""

    def __init__(self, path: Path, spec: BulkSpec) -> None:
        """Open `path`. Raises OutputError if it holds something else, or cannot be written."""
        self._path = path
        self._control = control_folder(path)
        self._spec = spec
        self._require_own()
        self._done = {line.file: line for line in self._read() if self._is_intact(line)}
        self.samples = sum(line.samples for line in self._done.values())
        try:
            with atomic_write(self._control / _SPEC) as temporary:
                temporary.write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
            self._write_lines()
            self._lines = JsonLinesAppender(self._control / _DONE, durable=True)
        except OSError as problem:
            raise self._cannot_write(problem) from problem

    @property
    def fingerprints(self) -> set[str]:
        """The fingerprints of the finished shards."""
        return {line.fingerprint for line in self._done.values()}

    def missing(self) -> Iterator[ShardRange]:
        """Yield the ranges that are not finished."""
        return (each for each in self._spec.ranges() if each.file not in self._done)

    def add(self, shard: Shard) -> None:
        """Write a shard. Raises OutputError if the disk is full; finished shards stay."""
        file, seeds = shard.range.file, shard.range.seeds
        digest = hashlib.sha256(shard.content).hexdigest()
        line = _ShardRecord(
            file=file,
            seed=seeds[0],
            samples=len(seeds),
            bytes=len(shard.content),
            sha256=digest,
            fingerprint=shard.fingerprint,
        )
        try:
            with atomic_write(self._path / file) as temporary:
                temporary.write_bytes(shard.content)
            self._lines.append(line.model_dump_json())
        except OSError as problem:
            raise self._cannot_write(problem) from problem
        self._done[file] = line
        self.samples += line.samples

    def samples_on_disk(self) -> int:
        """Count the samples on disk: equal to `samples`, even if Ctrl-C came between a line and its count."""
        return sum(line.samples for line in self._read())

    def finish(self) -> None:
        """Sort the lines by seed, so that the folder has the same content however it was made."""
        try:
            self._lines.close()
            self._write_lines()
        except OSError as problem:
            raise self._cannot_write(problem) from problem

    def _write_lines(self) -> None:
        lines = sorted(self._done.values(), key=lambda line: line.seed)
        write_json_lines(self._control / _DONE, (line.model_dump_json() for line in lines))

    def _require_own(self) -> None:
        if not (self._control / _SPEC).exists():
            for other in self._path.iterdir():
                if other != self._control:
                    raise OutputError(f"{self._path} contains other files ({other.name}); choose a new folder")
            return
        try:
            before = BulkSpec.model_validate_json((self._control / _SPEC).read_bytes())
        except (OSError, ValidationError) as problem:
            raise OutputError(f"{self._control / _SPEC} cannot be read; choose a new folder") from problem
        if not any(self._read()):
            return  # no shard was ever finished
        there, here = before.model_dump(), self._spec.model_dump()
        differing = [f"{name} is {there[name]} there, {here[name]} here" for name in here if there[name] != here[name]]
        if differing:
            raise OutputError(f"{self._path} holds other samples ({'; '.join(differing)}); choose a new folder")

    def _read(self) -> Iterator[_ShardRecord]:
        """Yield the shards that are done. A shard whose line is torn is made again."""
        return read_json_lines(self._control / _DONE, _ShardRecord.model_validate_json)

    def _is_intact(self, line: _ShardRecord) -> bool:
        try:
            with (self._path / line.file).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == line.sha256
        except OSError:
            return False

    def _cannot_write(self, problem: OSError) -> OutputError:
        return OutputError(
            f"{self._path} cannot be written ({problem.strerror}); finished shards stay, and the same command continues"
        )
