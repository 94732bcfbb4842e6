"""Detection of how images are stored: a folder, a zip, tar files or Parquet files."""

import re
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

from latentd.training.data.file_names import IMAGE_SUFFIXES, is_image, suffix_of
from latentd.training.data.image_files import Folder, ImageCollection, ReadOptions, walk
from latentd.training.data.parquet_files import Parquet
from latentd.training.data.shards import ShardFile, Shards, require_fetched
from latentd.training.data.source import DataError
from latentd.training.data.tar_files import Tars
from latentd.training.data.zip_files import Zip

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
_SPLIT_ARCHIVE = re.compile(r".*\.(tar|tar\.\w+|tgz|zip)\.?(part)?[-_]?([a-z]{2}|\d{1,4})|.*\.z\d\d", re.IGNORECASE)
_SHOWN = 5


def open_collection(path: Path, options: ReadOptions) -> ImageCollection:
    """Return the images at `path`. Raises DataError if the format is unknown, or if a folder mixes several."""
    try:
        if path.is_dir():
            return _open_folder(path, options)
        return _open_file(path, options)
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def no_images(path: Path) -> DataError:
    """Return the error for a collection without images. It says what is there instead."""
    found = _other_files(path)
    split = next((name for name in found if _SPLIT_ARCHIVE.fullmatch(name)), None)
    if split:
        return DataError(f"{path} has no images, but parts of an archive ({split}): join them first, by `cat`")
    kinds = Counter(suffix_of(name) or "without a suffix" for name in found)
    shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN))
    there = f"; it has {shown}" if shown else ""
    return DataError(
        f"{path} has no images (files ending in {', '.join(sorted(IMAGE_SUFFIXES))}, also in subfolders){there}"
    )


def _open_file(path: Path, options: ReadOptions) -> ImageCollection:
    require_fetched(path)
    kind = _kind_of_shard(path.name)
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        kind = Parquet
    if start == b"PK\3\4" or (kind is None and zipfile.is_zipfile(path)):
        return Zip(path, options)
    if kind is None and _is_tar(path):
        kind = Tars
    if kind:
        return kind(path, [ShardFile(path, path.name)], options)
    if path.name.lower().endswith(".zip"):
        raise DataError(f"{path} is not a valid zip file; copy or download it again")
    if _SPLIT_ARCHIVE.fullmatch(path.name):
        raise DataError(f"{path} is a part of an archive: join the parts first, by `cat`")
    known = ", ".join((*_TAR_SUFFIXES, *_PARQUET_SUFFIXES))
    raise DataError(f"{path} is not a folder, a zip of images or a shard of images ({known})")


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError, ValueError):
        return False


def _kind_of_shard(name: str) -> type[Shards] | None:
    lower = name.lower()
    if lower.endswith(_TAR_SUFFIXES):
        return Tars
    return Parquet if lower.endswith(_PARQUET_SUFFIXES) else None


def _open_folder(path: Path, options: ReadOptions) -> ImageCollection:
    shards = dict[type[Shards], list[ShardFile]]()
    image = ""
    notes = dict[str, None]()
    for file, name, folder in walk(path, notes.setdefault):
        is_record = any(part.startswith("_") for part in name.split("/"))  # _metadata.parquet, _delta_log/
        kind = None if is_record else _kind_of_shard(file.name)
        if kind and file.is_file():
            shards.setdefault(kind, []).append(ShardFile(file, name, folder))
        elif not image and is_image(file.name):
            image = name
    examples = [files[0].name for files in shards.values()]
    at_top = any(not shard.folder for files in shards.values() for shard in files)
    if image and examples and not at_top:
        return _folder_beside_shards(path, options, examples)
    if image:
        examples.append(image)
    if len(examples) > 1:
        raise DataError(
            f"{path} holds images in several formats ({', '.join(examples)}): name one of them, or move them apart"
        )
    for kind, files in shards.items():
        collection = kind(path, files, options)
        collection.notes.update(notes)
        return collection
    return Folder(path, options)


def _folder_beside_shards(path: Path, options: ReadOptions, shards: list[str]) -> Folder:
    folder = Folder(path, options)
    folder.note(f"shards in subfolders are left out, because there are image files too: {', '.join(shards)}")
    return folder


def _other_files(path: Path) -> list[str]:
    try:
        if path.is_dir():
            return [file.name for file, _, _ in walk(path, lambda _: None)]
        if zipfile.is_zipfile(path):
            return [name for name in zipfile.ZipFile(path).namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile):
        pass
    return []
