"""Files that a command changes only if it is told to: those that come with latentd, and those that git tracks."""

import shutil
import subprocess
from pathlib import Path

from latentd.models.file_names import SHIPPED


def protection(path: Path) -> str | None:
    """Return why a file must not be changed without being asked for, as a predicate of its name; None if it may be.

    The file need not exist: any file in the folder of shipped models counts as one of them.
    """
    if path.resolve().parent == SHIPPED.resolve():
        return "comes with latentd"
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(path.parent), "ls-files", "--error-unmatch", "--", path.name]
    found = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # no shell; the name is one argument
    return "is tracked by git" if found.returncode == 0 else None
