"""Classes of images, from their labels or their folders."""

import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from latentd.models.files import printable
from latentd.training.data.file_names import are_splits

_MAX_DIGITS = 18


class Group(BaseModel, frozen=True):
    """What an image says of its class: a folder, and a label if it has one."""

    folder: str
    label: str | None


@dataclass(frozen=True)
class Classes:
    """Labels [N], indices into `names`; None if the images have no classes, and then the reason."""

    labels: NDArray[np.int64] | None
    names: tuple[str, ...] = ()
    why_none: str = ""
    note: str = ""


class GroupCounter:
    """Collects the groups of images in their order."""

    def __init__(self) -> None:
        self._numbers = dict[Group, int]()
        self.of_images = array("i")
        """For each image, an index into `groups`."""

    @property
    def groups(self) -> list[Group]:
        return list(self._numbers)

    def add(self, folder: str, label: str | None) -> None:
        group = Group(folder=valid_text(folder), label=None if label is None else valid_text(label))
        self.of_images.append(self._numbers.setdefault(group, len(self._numbers)))


def valid_text(name: str) -> str:
    """Return a name as valid Unicode. On disk a name may be any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def hashed_groups(
    groups: Sequence[Group], of_images: Sequence[int], are_shards: bool
) -> "tuple[array[int], list[str]]":
    """Return what the data's sha256 is made of: for each image the index of a text, and the texts.

    These are folders; in shards labels. Saved runs depend on it.
    """
    texts = [printable((group.label or "") if are_shards else group.folder) for group in groups]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return array("i", (numbers[texts[group]] for group in of_images)), list(numbers)


def classes_of(groups: Sequence[Group], of_images: NDArray[np.int32]) -> Classes:
    """Return the classes. If any image has a label, labels are the classes; otherwise folders are.

    Then the class is the first folder below the folders that all paths share; `train`, `val` and so on are no classes.
    Names are compared and returned in Unicode's form NFC.
    """
    note = ""
    if any(group.label is not None for group in groups):
        found = [group.label or "" for group in groups]
    else:
        paths = _below_shared([tuple(filter(None, group.folder.split("/"))) for group in groups])
        first = {path[0] for path in paths if path}
        if are_splits(first) and all(paths):
            note = f"{', '.join(sorted(first))} are read as parts of one data set; to use one of them, name its folder"
            paths = _below_shared([path[1:] for path in paths])
        found = [path[0] if path else "" for path in paths]
    found = [unicodedata.normalize("NFC", name) for name in found]
    names = sorted(set(found) - {""}, key=_numbers_first)
    if not names:
        return Classes(None, (), "all images are in one folder, or have the same label or none", note)
    if "" in found:
        without = int(np.isin(of_images, [index for index, name in enumerate(found) if not name]).sum())
        shown = ", ".join(map(printable, names[:5]))
        return Classes(None, (), f"{without} images have no label, or lie beside the class folders {shown}", note)
    if len(names) == 1:
        return Classes(None, (), "all images are in one folder, or have the same label or none", note)
    number = {name: index for index, name in enumerate(names)}
    return Classes(np.array([number[name] for name in found])[of_images], tuple(names), "", note)


def _below_shared(paths: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return paths without the folders that all of them begin with."""
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))))
    return [path[shared:] for path in paths]


def _numbers_first(name: str) -> tuple[bool, int, str]:
    """Sort key: numbers by their value, then other names."""
    is_number = name.isdecimal() and len(name) <= _MAX_DIGITS
    return not is_number, int(name) if is_number else 0, name
