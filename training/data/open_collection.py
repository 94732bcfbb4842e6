"""Detection of how images are stored: a folder, a zip, tar files or Parquet files."""

import zipfile
from pathlib import Path

from latentd.training.data.image_files import Folder, ImageCollection, Zip
from latentd.training.data.shards import Parquet, WebDataset
from latentd.training.data.source import DataError

_SHARDS = {".tar": WebDataset, ".tar.gz": WebDataset, ".tgz": WebDataset, ".parquet": Parquet}


def open_collection(path: Path) -> ImageCollection:
    """Return the images at `path`. Raises DataError if the format is unknown, or if a folder mixes several."""
    if path.is_dir():
        return _open_folder(path)
    for suffix, kind in _SHARDS.items():
        if path.name.endswith(suffix):
            return kind(path, [path])
    if zipfile.is_zipfile(path):
        return Zip(path)
    if path.name.lower().endswith(".zip"):
        raise DataError(f"{path} is not a valid zip file")
    raise DataError(f"{path} is not a folder, a zip of images or a shard of images ({', '.join(_SHARDS)})")


def _open_folder(path: Path) -> ImageCollection:
    shards = {suffix: sorted(path.glob(f"*{suffix}")) for suffix in _SHARDS}
    shards = {suffix: files for suffix, files in shards.items() if files}
    examples = [files[0].name for files in shards.values()]
    if shards and (image := next(iter(Folder(path)), None)):
        examples.append(image.name)
    if len(examples) > 1:
        raise DataError(
            f"{path} holds images in several formats ({', '.join(examples)}): name one of them, or move them apart"
        )
    for suffix, files in shards.items():
        return _SHARDS[suffix](path, files)
    return Folder(path)
