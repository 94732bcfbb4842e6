"""Shards: files with many images, read sequentially."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latentd.models.files import placeholder
from latentd.training.data.file_names import split_of
from latentd.training.data.image_files import ImageCollection, ImageFile, ReadOptions
from latentd.training.data.source import DataError


@dataclass(frozen=True)
class ShardFile:
    """A shard on the disk. `name` and `folder` are relative to the collection."""

    path: Path
    name: str
    folder: str = ""


class Shards(ImageCollection):
    """Shards in the order of their names."""

    are_shards = True

    def __init__(self, path: Path, files: list[ShardFile], options: ReadOptions) -> None:
        super().__init__(path, options)
        self._shards = files
        splits = sorted({split for file in files if (split := split_of(file.path.name))})
        if len(splits) > 1:
            self.note(f"shards of {', '.join(splits)} are read as one data set; to use one of them, move it apart")

    def etags(self) -> Iterator[str]:
        for shard in self._shards:
            try:
                status = shard.path.stat()
            except OSError as problem:
                raise _unreadable(shard.path, problem) from problem
            yield f"{shard.name}\t{shard.path.resolve()} {status.st_size} {status.st_mtime_ns}"

    def _files(self) -> Iterator[ImageFile]:
        for shard in self._shards:
            try:
                require_fetched(shard.path)
                yield from self._images(shard)
            except DataError:
                raise
            except PermissionError as problem:
                raise _unreadable(shard.path, problem) from problem
            except Exception as problem:  # the libraries raise errors of many kinds
                raise DataError(f"{shard.path} is damaged or incomplete: {problem}") from problem

    @abstractmethod
    def _images(self, shard: ShardFile) -> Iterator[ImageFile]: ...


def _unreadable(path: Path, problem: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {problem.strerror}")


def require_fetched(path: Path) -> None:
    """Raise DataError if `path` is a Git LFS pointer or a web page in place of the file."""
    with path.open("rb") as file:
        start = file.read(512)
    if instead := placeholder(start):
        raise DataError(f"{path} is {instead}")
