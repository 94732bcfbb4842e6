"""The folder of shards. In `_bulk/` stand what was ordered, `order.json`, and what is done, `shards.jsonl`.

A shard is done when its line is there. It is written whole or not at all, and its line after it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from latentd.cli.bulk.shard import Shard
from latentd.cli.bulk.spec import BulkSpec, ShardRange
from latentd.models.files import atomic_write
from latentd.models.json_lines import JsonLinesAppender, read_json_lines, write_json_lines
from latentd.training.directory import OutputError

_NOTES, _ORDER, _DONE = "_bulk", "order.json", "shards.jsonl"


class _Line(BaseModel):
    """A shard that is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    seed: int
    samples: int
    bytes: int
    sha256: str
    fingerprint: str


def notes_of(folder: Path) -> Path:
    """Where a folder of shards keeps what is no shard: what begins with `_` is passed over by readers of Parquet."""
    return folder / _NOTES


class BulkFolder:
    """Keeps shards. OutputError where `path` holds something else, or cannot be written to."""

    def __init__(self, path: Path, order: BulkSpec) -> None:
        self._path = path
        self._notes = notes_of(path)
        self._order = order
        self._require_own()
        self._done = {line.file: line for line in self._read() if self._is_whole(line)}
        self.samples = sum(line.samples for line in self._done.values())
        try:
            with atomic_write(self._notes / _ORDER) as temporary:
                temporary.write_text(order.model_dump_json(indent=2) + "\n")
            self._write_lines()
            self._lines = JsonLinesAppender(self._notes / _DONE, durable=True)
        except OSError as problem:
            raise self._unwritable(problem) from problem

    @property
    def fingerprints(self) -> set[str]:
        """Those of the shards."""
        return {line.fingerprint for line in self._done.values()}

    def missing(self) -> Iterator[ShardRange]:
        """The parts that are not done."""
        return (part for part in self._order.parts() if part.file not in self._done)

    def keep(self, shard: Shard) -> None:
        """Write it. OutputError where there is no room; what was kept before stays."""
        file, seeds = shard.part.file, shard.part.seeds
        digest = hashlib.sha256(shard.content).hexdigest()
        line = _Line(
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
            raise self._unwritable(problem) from problem
        self._done[file] = line
        self.samples += line.samples

    def samples_on_disk(self) -> int:
        """The same as `samples`, also where Ctrl-C came between a line and the count."""
        return sum(line.samples for line in self._read())

    def finish(self) -> None:
        """Put the lines in the order of their seeds, so that the whole folder is the same however it came to be."""
        try:
            self._lines.close()
            self._write_lines()
        except OSError as problem:
            raise self._unwritable(problem) from problem

    def _write_lines(self) -> None:
        lines = sorted(self._done.values(), key=lambda line: line.seed)
        write_json_lines(self._notes / _DONE, (line.model_dump_json() for line in lines))

    def _require_own(self) -> None:
        if not (self._notes / _ORDER).exists():
            for other in self._path.iterdir():
                if other != self._notes:
                    raise OutputError(f"{self._path} has other things in it ({other.name}); choose a new folder")
            return
        try:
            before = BulkSpec.model_validate_json((self._notes / _ORDER).read_bytes())
        except (OSError, ValidationError) as problem:
            raise OutputError(f"{self._notes / _ORDER} cannot be read; choose a new folder") from problem
        if not any(self._read()):
            return  # nothing of it was ever made
        there, here = before.model_dump(), self._order.model_dump()
        differing = [f"{word} is {there[word]} there, {here[word]} here" for word in here if there[word] != here[word]]
        if differing:
            raise OutputError(f"{self._path} holds other samples ({'; '.join(differing)}); choose a new folder")

    def _read(self) -> Iterator[_Line]:
        """Yield the shards that are done. A shard whose line is torn is made again."""
        return read_json_lines(self._notes / _DONE, _Line.model_validate_json)

    def _is_whole(self, line: _Line) -> bool:
        try:
            with (self._path / line.file).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == line.sha256
        except OSError:
            return False

    def _unwritable(self, problem: OSError) -> OutputError:
        return OutputError(
            f"{self._path} cannot be written to ({problem.strerror}); what is finished stays there, "
            "and the same command goes on from it"
        )
