"""The promotions in the folders of a catalog. They are read again when their files change."""

import logging
from pathlib import Path

from latentd.models.file_stamp import FileStamp
from latentd.models.promotions import PromotionError, Promotions, promotions_file

logger = logging.getLogger("latentd.catalog")


class PromotionFiles:
    """The promotions of all folders. If a file cannot be read, its promotions stay as they were."""

    def __init__(self) -> None:
        self.promotions = Promotions()
        """The promotions of all folders together. Those of a later folder count more."""
        self.errors: dict[Path, str] = {}
        """The files that cannot be read, and why."""
        self.never_read: set[Path] = set()
        """The folders whose file could not be read at the start or since. What was promoted there is unknown."""
        self._is_start = True
        self._stamps: dict[Path, FileStamp] = {}
        self._read: dict[Path, Promotions] = {}

    def update(self, stamps: dict[Path, FileStamp]) -> bool:
        """Read the files that have changed, and return whether there are any. `stamps`: as in Scan.promotions."""
        is_start, self._is_start = self._is_start, False
        if list(stamps.items()) == list(self._stamps.items()):
            return False
        read: dict[Path, Promotions] = {}
        for folder, stamp in stamps.items():
            read[folder] = self._read.get(folder, Promotions())
            if stamp != self._stamps.get(folder):
                read[folder] = self._read_again(folder, read[folder], is_start)
        self.never_read &= stamps.keys()
        self._stamps, self._read = dict(stamps), read
        self.errors = {path: error for path, error in self.errors.items() if path.parent in stamps}
        self._merge()
        return True

    def _read_again(self, folder: Path, before: Promotions, is_start: bool) -> Promotions:
        path = promotions_file(folder)
        self.errors.pop(path, None)
        try:
            found = Promotions.read(folder)
        except PromotionError as problem:
            self.errors[path] = str(problem)
            if is_start:
                self.never_read.add(folder)
            return before
        self.never_read.discard(folder)
        return found

    def _merge(self) -> None:
        before = self.promotions.current
        self.promotions = Promotions.merged(self._read.values())
        now = self.promotions.current
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                logger.info("%s is to refer to %s", name, now.get(name, "the last file of this name"))
