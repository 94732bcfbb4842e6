"""Images in Parquet files, with columns as on the Hugging Face Hub or as anybody named them."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote

from latentd.training.data.image_files import ImageFile
from latentd.training.data.shards import ShardFile, Shards
from latentd.training.data.source import DataError

_ROWS = 64
"""Rows read at once."""
_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes", "content")
_LABEL_NAMES = (
    *("label", "labels", "class", "classes", "cls", "category", "target", "class_label", "class_name", "label_name"),
    *("fine_label", "coarse_label"),
)
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

_Text = Callable[[Any], str | None]


class Parquet(Shards):
    """Parquet files with a column of image files (bytes, or a struct with `bytes`) and perhaps a column of labels."""

    def _images(self, shard: ShardFile) -> Iterator[ImageFile]:
        try:
            from pyarrow import parquet  # an optional dependency, because it is large
        except ImportError as problem:
            raise DataError(f"{shard.path}: Parquet files need pyarrow: pip install 'latentd[parquet]'") from problem
        with parquet.ParquetFile(shard.path) as table:
            schema = table.schema_arrow
            image = self._image_column(shard, schema)
            partitions = _partitions(shard)
            label = self._label_column(shard, image, [*schema.names, *partitions])
            columns = [image] if label is None or label in partitions else [image, label]
            to_text = _to_text(_class_names(schema, label), f"{shard.name}: column `{label}`")
            number = 0
            for rows in table.iter_batches(_ROWS, columns=columns):
                for row in rows.to_pylist():
                    text = partitions.get(label) if label in partitions else to_text(row.get(label))
                    yield _image_of_row(f"{shard.name}/{number}", _folder(shard), row[image], text)
                    number += 1

    def _image_column(self, shard: ShardFile, schema: Any) -> str:
        names: list[str] = schema.names
        if wanted := self.options.image_column:
            if wanted not in names:
                raise DataError(f"{shard.path} has no column `{wanted}`; it has {', '.join(names)}")
            return wanted
        binary = [name for name in names if _holds_bytes(schema.field(name).type)]
        if len(binary) == 1:
            return binary[0]
        if found := next((name for name in _IMAGE_NAMES if name in binary), None):
            return found
        if binary:
            raise DataError(
                f"{shard.path} has several columns of bytes ({', '.join(binary)}); name that of the images by "
                "--set data.image_column=NAME"
            )
        if found := next((name for name in _IMAGE_NAMES if name in names), None):
            raise DataError(
                f"{shard.path}: column `{found}` holds {schema.field(found).type}, not the bytes of image files; "
                "if these are paths, use the folder of the files"
            )
        raise DataError(f"{shard.path} has no column of images; it has {', '.join(names)}")

    def _label_column(self, shard: ShardFile, image: str, names: list[str]) -> str | None:
        if wanted := self.options.label_column:
            if wanted not in names:
                raise DataError(f"{shard.path} has no column `{wanted}`; it has {', '.join(names)}")
            return wanted
        found = [name for name in _LABEL_NAMES if name in names and name != image]
        if len(found) > 1 and "label" not in found:
            self.note(
                f"several columns may be the labels ({', '.join(found)}) and none is used; name one by "
                "--set data.label_column=NAME"
            )
            return None
        return found[0] if found else None


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(kind) for test in tests)


def _partitions(shard: ShardFile) -> dict[str, str | None]:
    """Return the columns that Hive folders such as `label=cat/` stand for."""
    pairs = [part.partition("=") for part in shard.folder.split("/") if "=" in part]
    return {unquote(key): None if value == _HIVE_NULL else unquote(value) for key, _, value in pairs}


def _folder(shard: ShardFile) -> str:
    return "/".join(part for part in shard.folder.split("/") if "=" not in part)


def _class_names(schema: Any, column: str | None) -> list[str] | None:
    """Return the names that the `datasets` library stores for a column of class numbers; None if there are none."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _to_text(names: list[str] | None, column: str) -> _Text:
    """Return a function from a value of the column to a label."""

    def to_text(value: Any) -> str | None:
        if names and isinstance(value, int) and value < len(names):
            return names[value] if value >= 0 else None  # -1: without a label
        if isinstance(value, bytes):
            return value.decode("utf-8", "surrogateescape") or None
        if isinstance(value, list | dict):
            raise DataError(f"{column} holds several values for an image; name another by --set data.label_column=NAME")
        if isinstance(value, float):  # pandas makes floats of integers if one is missing
            return None if value != value else str(int(value)) if value.is_integer() else str(value)
        return None if value is None else str(value) or None

    return to_text


def _image_of_row(name: str, folder: str, image: Any, label: str | None) -> ImageFile:
    content = image.get("bytes") if isinstance(image, dict) else image
    if content is None and isinstance(image, dict) and image.get("path"):
        return ImageFile(name, folder, 0, "", partial(_only_a_path, image["path"]), label)
    content = b"" if content is None else content
    if not isinstance(content, bytes):
        raise DataError(f"{name}: the column of images holds {type(content).__name__}, not the bytes of image files")
    return ImageFile(name, folder, len(content), "", partial(bytes, content), label)


def _only_a_path(path: str) -> bytes:
    raise ValueError(f"the file is not in the Parquet file, only its path ({path}); use the folder of the files")
