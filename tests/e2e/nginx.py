"""A real nginx with the example's configuration in front of servers."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import eventually, free_port
from tests.e2e.conftest import ROOT, Server

NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")
_PORTS_IN_EXAMPLE = (3001, 3002, 3003)


@contextmanager
def balancing(folder: Path, ports: Sequence[int]) -> Iterator[Server]:
    """Run nginx with deploy/nginx/latentd.conf in front of three replicas at `ports`, which may be the same."""
    assert NGINX is not None
    folder.mkdir()
    port = free_port()
    text = (ROOT / "deploy" / "nginx" / "latentd.conf").read_text()
    addresses = {"listen 127.0.0.1:8080": f"listen 127.0.0.1:{port}"}
    for old, new in zip(_PORTS_IN_EXAMPLE, ports, strict=True):
        addresses[f"127.0.0.1:{old} "] = f"127.0.0.1:{new} "
    for example, own in addresses.items():
        assert text.count(example) == 1
        text = text.replace(example, own)
    (folder / "latentd.conf").write_text(text)
    spools = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"user {pwd.getpwuid(os.getuid()).pw_name};\npid {folder}/pid;\nevents {{ }}\nhttp {{\n"
        f"add_header X-Replica $upstream_addr;\nlog_format tries $upstream_addr;\naccess_log {folder}/tries tries;\n"
        f"client_body_temp_path {folder}/body;\n{spools}include {folder}/latentd.conf;\n}}\n"
    )
    command = [NGINX, "-p", folder, "-e", folder / "log", "-c", folder / "nginx.conf", "-g", "daemon off;"]
    with subprocess.Popen(command) as process:
        balancer = Server(f"http://127.0.0.1:{port}", folder / "log", process.pid)
        try:
            eventually(lambda: process.poll() is not None or _answers(balancer))
            assert process.poll() is None, balancer.log.read_text()
            yield balancer
        finally:
            process.terminate()


def _answers(server: Server) -> bool:
    try:
        return server.call("/livez").status == 200
    except OSError:
        return False
