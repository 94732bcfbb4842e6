"""The Bento and its Dockerfile. `make container-test` builds and runs an image; these tests need none."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.container.image import DOCKERFILE, ROOT, build_bento

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LEFT_OUT = {
    "tensorboardx",
    "tifffile",
    "mypy",
    "openai",
    "playwright",
    "pyarrow",
    "pytest",
    "ray",
    "ruff",
    "tritonclient",
}


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bento(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def final(bento: Path) -> list[tuple[str, str]]:
    """The last stage of the Dockerfile, as pairs of an instruction and its arguments."""
    text = (bento / DOCKERFILE).read_text().replace("\\\n", " ")
    return re.findall(r"^([A-Z]+) (.+)$", text[text.rindex("\nFROM ") :], re.MULTILINE)


def versions(requirements: Path) -> set[str]:
    """Return `name==version` of each line, without the markers that say where it is needed."""
    return {line.split(";")[0].strip() for line in requirements.read_text().splitlines() if line}


def test_the_bento_contains_what_serves_and_nothing_else(bento: Path) -> None:
    inside = {path.name for path in (bento / "src").iterdir()}
    assert inside == {"latentd", "models", "service", "bentofile.yaml", "pyproject.toml", "README.md", "LICENSE"}
    shipped = {path.name for path in (ROOT / "models" / "checkpoints").iterdir()}
    assert {path.name for path in (bento / "src" / "models" / "checkpoints").iterdir()} == shipped
    assert (bento / "src" / "service" / "explorer" / "page").is_dir()


def test_the_service_is_imported_from_the_bento(bento: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import latentd.service.app; print(latentd.service.app.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"BENTOML_HOME": str(tmp_path), "PYTHONPATH": str(bento / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == bento / "src" / "service" / "app.py"


def test_the_packages_are_the_locked_ones_without_those_for_development_and_training(bento: Path) -> None:
    inside = versions(bento / "env" / "python" / "requirements.txt")
    assert inside <= versions(ROOT / "requirements.lock"), "make lock"
    names = {each.split("==")[0] for each in inside}
    assert not names & LEFT_OUT
    wanted = {re.split(r"[=<>~;\[ ]", each)[0].lower() for each in PROJECT["dependencies"]}
    assert wanted - names == {"tensorboardx", "tifffile"}, "make lock"


def test_the_service_does_not_import_what_is_left_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, latentd.service.app; print(*sys.modules)"],
        cwd=ROOT,
        env=os.environ | {"BENTOML_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    names = done.stdout.split()
    loaded = {name.split(".")[0].lower() for name in names}
    assert {"torch", "bentoml"} <= loaded
    assert not loaded & LEFT_OUT
    assert not [name for name in names if name.startswith(("latentd.training", "latentd.cli", "latentd._"))]


def test_it_does_not_run_as_root_or_behind_a_shell(final: list[tuple[str, str]]) -> None:
    words = [word for word, _ in final]
    (user,) = (rest for word, rest in final if word == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert "RUN" not in words[words.index("USER") :]
    (entry,) = (json.loads(rest) for word, rest in final if word == "ENTRYPOINT")  # a list: no shell before it
    assert entry == ["/home/bentoml/bento/env/docker/entrypoint.sh"]


def test_its_labels_describe_the_project(final: list[tuple[str, str]]) -> None:
    (labels,) = (
        dict(re.findall(r'org\.opencontainers\.image\.(\w+)="(.*?)"', rest)) for word, rest in final if word == "LABEL"
    )
    description = labels.pop("description")
    assert labels == {"title": PROJECT["name"], "version": PROJECT["version"], "licenses": PROJECT["license"]}
    assert description


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_asks_readyz(final: list[tuple[str, str]], status: int | None, healthy: bool) -> None:
    asked = []

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

    (check,) = (json.loads(rest.split(" CMD ")[1]) for word, rest in final if word == "HEALTHCHECK")
    assert check[0] == "python"
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        environment = os.environ | {"BENTOML_PORT": str(server.server_port)}
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.handle_request, daemon=True).start()
        done = subprocess.run([sys.executable, *check[1:]], env=environment, capture_output=True, check=False)
    assert (done.returncode == 0) is healthy
    assert asked == ([] if status is None else ["/readyz"])
