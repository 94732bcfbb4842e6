"""Debian's buildah and podman, with an image store of their own: containers without Docker or another daemon."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CONF = """\
[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
_READY_SECONDS = 180.0


def tool(name: str) -> str:
    """Return the path of a program. Exits if it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise SystemExit(
            f"{name} is not installed: apt-get install --no-install-recommends buildah podman runc debootstrap"
        )
    return path


@dataclass(frozen=True)
class RunningContainer:
    """A running container that uses the network of this machine."""

    name: str
    url: str
    engine: "ContainerEngine"

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `command` in the container, as its user."""
        return self.engine.podman("exec", self.name, *command, check=False)

    def ask(self, path: str, body: bytes | None = None, accept: str = "*/*") -> bytes:
        """Return the body of an answer. Raises `urllib.error.HTTPError` if it is not a success."""
        headers = {"Content-Type": "application/json", "Accept": accept}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)  # noqa: S310  # loopback
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  # loopback
            return bytes(answer.read())


class ContainerEngine:
    """Builds images and runs containers; both are stored in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        storage = folder / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder / "images"}"\nrunroot = "{folder / "running"}"\n'
        )
        (folder / "containers.conf").write_text(_CONF)
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_FORMAT": "docker",  # the OCI format has no health checks
            "CONTAINERS_STORAGE_CONF": str(storage),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
        }

    def buildah(self, *arguments: str | Path, quiet: bool = True) -> None:
        """Run buildah. Raises `subprocess.CalledProcessError` if it fails."""
        output = subprocess.DEVNULL if quiet else None
        subprocess.run([tool("buildah"), *arguments], env=self._environment, check=True, stdout=output, stderr=output)

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman, and return its output. Raises `subprocess.CalledProcessError` if it fails and `check` is true."""
        return subprocess.run(
            [tool("podman"), *arguments], env=self._environment, capture_output=True, text=True, check=check
        )

    def has(self, image: str) -> bool:
        """Return whether `image` is in the store."""
        return self.podman("image", "exists", image, check=False).returncode == 0

    @contextmanager
    def created(self, image: str, name: str, port: int, *options: str) -> Iterator[None]:
        """Create a container as in production: without capabilities, and read-only except for /tmp."""
        self.podman("rm", "--force", "--ignore", name)
        locked = ("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--cap-drop", "all")  # noqa: S108  # its own
        loopback = ("--network", "host", "--env", "BENTOML_HOST=127.0.0.1", "--env", f"BENTOML_PORT={port}")
        self.podman(
            *("create", "--name", name, "--ulimit", "host", "--security-opt", "no-new-privileges"),
            *(*locked, *loopback, *options, image),
        )
        try:
            yield
        finally:
            self.podman("rm", "--force", name)

    @contextmanager
    def running(self, name: str, port: int, cold: bool = False) -> Iterator[tuple[RunningContainer, float]]:
        """Start a container; yield it and the seconds until /readyz. Then stop it, and exit unless its status is 0.

        `cold`: empty the page cache first.
        """
        self.podman("init", name)  # with this kind of store it copies the image, which is not a part of starting
        if cold:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
        started = time.perf_counter()
        self.podman("start", name)
        container = RunningContainer(name, f"http://127.0.0.1:{port}", self)
        try:
            self._wait(container, started)
            yield container, time.perf_counter() - started
        finally:
            self.podman("stop", "--time", "60", name)
        code = self.podman("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
        if code != "0":
            raise SystemExit(f"{name} ended with {code}:\n{self.podman('logs', name).stdout}")

    def _wait(self, container: RunningContainer, started: float) -> None:
        while time.perf_counter() - started < _READY_SECONDS:
            try:
                container.ask("/readyz")
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"not ready after {_READY_SECONDS:g} s:\n{self.podman('logs', container.name).stdout}")
