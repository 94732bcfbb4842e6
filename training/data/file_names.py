"""Which files and folders are images, which are passed over, and what their names say."""

import os
import re
from collections.abc import Iterable

IMAGE_SUFFIXES = {
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
_UNREAD_SUFFIXES = {
    *(".arw", ".cr2", ".cr3", ".dcm", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".ico", ".jxl", ".jxr"),
    *(".nef", ".orf", ".pcx", ".pfm", ".psd", ".raf", ".rw2", ".svg", ".xcf"),
}
"""Images too, but latentd does not read them."""
_SYSTEM_FOLDERS = {"lost+found", "$recycle.bin", "system volume information", "@eadir", "#recycle", "#snapshot"}
"""Of Linux, Windows and network disks: what was deleted, and thumbnails."""
_NO_DATA = {
    *(".git", ".hg", ".svn", ".ipynb_checkpoints", ".cache", ".huggingface", ".thumbnails", ".dvc", ".venv", ".idea"),
    *(".vscode", ".spotlight-v100", ".fseventsd", ".trashes", ".temporaryitems", ".documentrevisions-v100"),
    *(".appledouble", ".apdisk", ".pytest_cache", ".directory", "__macosx"),
}
"""Hidden folders that nobody keeps images in, or only copies."""
_SPLIT = re.compile(
    r"(train|training|val|valid|validation|test|testing|dev|eval|evaluation|holdout)"
    r"([-_ ]?(set|split|data|images|imgs|\d+))?",
    re.IGNORECASE,
)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, is metadata of macOS or belongs to the system."""
    return name.startswith((".", "__MACOSX")) or name.lower() in _SYSTEM_FOLDERS


def may_hold_data(hidden_folder: str) -> bool:
    """Return whether a hidden folder may be a class that is called so, and not one of a program."""
    name = hidden_folder.lower()
    return name.startswith(".") and name not in _NO_DATA and not name.startswith((".trash", "._"))


def suffix_of(name: str) -> str:
    """Return the suffix in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # a million times


def is_image(name: str) -> bool:
    """Return whether a file of this name is read as an image."""
    return not is_hidden(name) and suffix_of(name) in IMAGE_SUFFIXES


def is_unread_image(name: str) -> bool:
    """Return whether a file of this name is an image of a format that latentd does not read."""
    return not is_hidden(name) and suffix_of(name) in _UNREAD_SUFFIXES


def parts_of(member: str) -> tuple[str, ...]:
    """Return the folders and the file of a member's name. An archive may have absolute names, drives, `.` and `..`."""
    parts = [part for part in member.split("/") if part not in ("", ".", "..")]
    return tuple(parts[1:] if parts and re.fullmatch("[A-Za-z]:", parts[0]) else parts)


def are_splits(names: Iterable[str]) -> bool:
    """Return whether two or more folders are parts of one data set, such as `train` and `val`, and not classes."""
    found = set(names)
    return len(found) > 1 and all(_SPLIT.fullmatch(name) for name in found)


def split_of(file: str) -> str | None:
    """Return `train` of `train-00000-of-00001.parquet`, and so on; None if the name begins otherwise."""
    first = re.split(r"[-_.]", file)[0]
    return first if _SPLIT.fullmatch(first) else None
