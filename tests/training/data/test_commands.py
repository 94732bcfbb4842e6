"""`latentd train`, as it is typed, on what a disk may hold: one line that names the file, and never a traceback."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.data.image_sets import png, write_folder, write_zip

LATENTD = Path(sys.executable).with_name("latentd")
SMALL = "steps=1", "batch_size=2", "data.resolution=32", "generator.config.width=8", "discriminator.config.width=8"
IS_ROOT = os.geteuid() == 0
SETPRIV = shutil.which("setpriv")
# Root reads everything, unless it loses these rights.
BOUND = (SETPRIV, "--bounding-set", "-dac_override,-dac_read_search") if IS_ROOT and SETPRIV else ()
# A user that is in no list of users, as `docker run --user 12345` makes one. It may read Python, wherever that is.
STRANGER = (
    *(SETPRIV or "", "--reuid", "12345", "--regid", "12345", "--clear-groups"),
    *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
)
needs_rights = pytest.mark.skipif(IS_ROOT and not SETPRIV, reason="root reads everything, and there is no setpriv")
needs_root = pytest.mark.skipif(not IS_ROOT or not SETPRIV, reason="only root may become another user, by setpriv")


def train(
    data: Path, out: Path, rights: tuple[str, ...] = (), home: str | None = None, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    environment |= {name: str(value) for name, value in (("HOME", home), ("XDG_CACHE_HOME", cache)) if value}
    settings = [argument for setting in SMALL for argument in ("--set", setting)]
    command = [*rights, LATENTD, "train", "image-folder-dcgan", "--device", "cpu", "--data", data, "--out", out]
    return subprocess.run(
        [*command, *settings], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def anywhere() -> Iterator[Path]:
    """A folder that every user may write to. pytest's own are for one user only."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_a_damaged_zip_is_one_line(anywhere: Path) -> None:
    path = write_zip(anywhere / "a.zip", [(b"0.png", png(0))])
    path.write_bytes(path.read_bytes().replace(b"PK\1\2", b"XXXX", 1))
    done = train(path, anywhere / "out", cache=anywhere / "cache")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"{path} is not a valid zip file" in done.stderr


@needs_rights
def test_a_disk_with_a_folder_of_root(anywhere: Path) -> None:
    disk = write_folder(anywhere / "disk", {f"pics/{shade}.png": png(shade) for shade in range(100, 104)})
    for name in ("lost+found", "private"):
        (disk / name).mkdir()
        (disk / name).chmod(0)
    (disk / "pics" / "secret.png").write_bytes(png(107))
    (disk / "pics" / "secret.png").chmod(0)
    done = train(disk, anywhere / "out", BOUND, cache=anywhere / "cache")
    assert done.returncode == 0, done.stderr
    assert "private: the folder cannot be read and was left out: Permission denied" in done.stderr
    assert "pics/secret.png: skipped: [Errno 13] Permission denied" in done.stderr
    (disk / "pics" / "secret.png").chmod(0o644)
    again = train(disk, anywhere / "again", BOUND, cache=anywhere / "cache")
    assert "secret.png" not in again.stderr
    assert again.returncode == 0, again.stderr


@needs_root
def test_a_user_without_a_home(anywhere: Path) -> None:
    pictures = write_folder(anywhere / "pics", {f"{shade}.png": png(shade) for shade in range(100, 104)})
    done = train(pictures, anywhere / "out", STRANGER)
    assert done.returncode == 1
    assert "this user has no home folder for the cache; name a folder" in done.stderr
    assert "XDG_CACHE_HOME" in done.stderr
    assert "Traceback" not in done.stderr
    unwritable = train(pictures, anywhere / "out", STRANGER, home="/")
    assert unwritable.returncode == 1
    assert "decoded images cannot be written to /.cache/latentd/image-folder" in unwritable.stderr
    assert "XDG_CACHE_HOME" in unwritable.stderr
    assert "Traceback" not in unwritable.stderr
    named = train(pictures, anywhere / "out", STRANGER, cache=anywhere / "cache")
    assert named.returncode == 0, named.stderr


@needs_rights
def test_data_that_may_not_be_read_is_one_line(anywhere: Path) -> None:
    (anywhere / "locked").mkdir()
    path = write_zip(anywhere / "locked" / "a.zip", [(b"0.png", png(0))])
    (anywhere / "locked").chmod(0)
    for data in (path, anywhere / "locked"):
        done = train(data, anywhere / "out", BOUND, cache=anywhere / "cache")
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert str(data) in done.stderr.replace("\n", "")
