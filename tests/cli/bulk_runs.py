"""`latentd bulk` as a process, and readers of its folder."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.families import build_generator
from latentd.models.spec import GeneratorSpec
from tests.conftest import card_of, eventually

LATENTD = Path(sys.executable).with_name("latentd")


def write_untrained(path: Path, spec: GeneratorSpec, seed: int = 0, scale: float = 1.0) -> Checkpoint:
    torch.manual_seed(seed)
    tensors = build_generator(spec).state_dict()
    tensors = {name: (tensor * scale).to(tensor.dtype) for name, tensor in tensors.items()}
    return write_checkpoint(path, card_of(spec), tensors)


@dataclass(frozen=True)
class Bulk:
    """A command, and the folder that it fills."""

    checkpoint: Path
    out: Path
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str | Path]:
        return [LATENTD, "bulk", self.checkpoint, "--out", self.out, *self.arguments]

    def run(self, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command, capture_output=True, text=True, timeout=300, check=False, **options)

    def done(self) -> str:
        """Run the command to its end, and return its output."""
        done = self.run()
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def begun(self, shards: int) -> Iterator[subprocess.Popen[str]]:
        """Yield the process when `shards` shards are done and others are not. It has ended when the block ends."""
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # a process group, as a terminal's Ctrl-C goes to
        )
        try:
            eventually(lambda: len(self.lines()) >= shards or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.kill()
            process.communicate()

    def lines(self) -> list[dict[str, Any]]:
        """Return the entries of the shards that are done."""
        path = self.out / "_bulk" / "shards.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def files(self) -> dict[str, bytes]:
        """Return the content of all files in the folder, except the lock."""
        paths = sorted(path for path in self.out.rglob("*") if path.is_file() and path.name != "lock")
        return {str(path.relative_to(self.out)): path.read_bytes() for path in paths}


def members(path: Path) -> dict[str, bytes]:
    """Return the members of a tar file."""
    with tarfile.open(path) as archive:
        infos = archive.getmembers()
        assert {info.mtime for info in infos} == {0}
        return {info.name: archive.extractfile(info).read() for info in infos}  # type: ignore[union-attr]


def rows(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder of Parquet files, read without latentd."""
    from pyarrow import parquet

    found: list[dict[str, Any]] = parquet.read_table(out).to_pylist()
    return found


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that make samples for the command."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)
