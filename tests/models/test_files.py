"""Files that take another's place whole, or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.models.files import atomic_write


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
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


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
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
