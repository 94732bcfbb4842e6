"""Protected files: those that come with latentd, and those that git tracks. Commands change them only with --force."""

import shutil
import subprocess
from pathlib import Path

from latentd.models.file_names import SHIPPED


def protection(path: Path) -> str | None:
    """Return why a file is protected, as the rest of a sentence after its name; None if it is not.

    The file need not exist. Every file in the folder of shipped models is protected.
    """
    if path.resolve().parent == SHIPPED.resolve():
        return "comes with latentd"
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(path.parent), "ls-files", "--error-unmatch", "--", path.name]
    found = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # no shell; the name is one argument
    return "is tracked by git" if found.returncode == 0 else None
