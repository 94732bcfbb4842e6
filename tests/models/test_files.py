"""Atomic writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.models.files import atomic_write


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "before"


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    killed = (
        "import os, sys; from pathlib import Path; from latentd.models.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary: temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / "a")], check=False)
        assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(tmp_path / "a") as mine:
        mine.write_text("whole")
        with atomic_write(tmp_path / "b") as other:
            other.write_text("whole")
        assert mine.exists()
        assert str(os.getpid()) in mine.name
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]
