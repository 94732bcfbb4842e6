"""The objects of deploy/kubernetes, rendered by kustomize, and without it as the files have them."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tests.deploy.expressions import KUBERNETES

Object = dict[str, Any]

_WRITTEN = "as written"
_WITH_ALL = ("tokens", "models", "tracing", "ingress")
_COMPONENTS = {"": (), "with all": _WITH_ALL, "with a bucket": ("tracing", "bucket")}
NAMES = (_WRITTEN, "cpu", "gpu", "cpu with all", "gpu with all", "cpu with a bucket")
"""The base and its usual components without kustomize; the overlays; the overlays with optional components."""


@dataclass(frozen=True)
class Manifests:
    """Objects for a cluster."""

    name: str
    objects: list[Object]

    def one(self, kind: str) -> Object:
        (found,) = (each for each in self.objects if each["kind"] == kind)
        return found

    @property
    def components(self) -> tuple[str, ...]:
        """The optional components that these objects were rendered with."""
        return _components(self.name)

    @cached_property
    def deployment(self) -> Object:
        spec: Object = self.one("Deployment")["spec"]
        return spec

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pods."""
        labels: dict[str, str] = self.deployment["template"]["metadata"]["labels"]
        return labels

    @property
    def pod(self) -> Object:
        spec: Object = self.deployment["template"]["spec"]
        return spec

    @property
    def container(self) -> Object:
        (found,) = self.pod["containers"]
        return dict(found)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the container. Those from a Secret are tokens."""
        (source,) = self.container["envFrom"]
        settings = self.one("ConfigMap")
        assert source == {"configMapRef": {"name": settings["metadata"]["name"]}}
        secret = {each["name"]: "a-token-of-many-letters" for each in self.container.get("env", [])}
        return dict(settings["data"]) | secret

    @property
    def mounts(self) -> dict[str, Object]:
        """Volumes by the path that they are mounted at."""
        volumes = {each["name"]: each for each in self.pod["volumes"]}
        assert len(volumes) == len(self.container["volumeMounts"]) == len(self.pod["volumes"])
        return {each["mountPath"]: volumes[each["name"]] | {"mount": each} for each in self.container["volumeMounts"]}

    @property
    def triggers(self) -> list[Object]:
        return list(self.one("ScaledObject")["spec"]["triggers"])


@cache
def manifests(name: str) -> Manifests:
    """Return the objects of a name in NAMES. Skip the test if that needs kustomize and it is not installed."""
    if name == _WRITTEN:
        return Manifests(name, _written())
    return Manifests(name, rendered(name[:3], _components(name)))


def _written() -> list[Object]:
    folders = ("base", "components/monitoring", "components/autoscaling")
    files = [file for folder in folders for file in sorted((KUBERNETES / folder).glob("*.yaml"))]
    lines = (KUBERNETES / "base" / "settings.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "latentd"}, "data": settings},
        *(yaml.safe_load(file.read_text()) for file in files if file.name != "kustomization.yaml"),
    ]


def _components(name: str) -> tuple[str, ...]:
    return _COMPONENTS[name.partition(" ")[2]] if name != _WRITTEN else ()


def rendered(overlay: str, components: tuple[str, ...] = ()) -> list[Object]:
    """Return the objects that kustomize makes of a folder with components. Skip the test if it is not installed."""
    with TemporaryDirectory() as folder:
        above = os.path.relpath(KUBERNETES, Path(folder).resolve())
        whole = {
            "resources": [f"{above}/{overlay}"],
            "components": [f"{above}/components/{each}" for each in components],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(whole))
        done = subprocess.run([*_kustomize(), folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def _kustomize() -> list[str]:
    """Return the command that renders a folder. Versions before 4, as in Debian's kubectl, have no components."""
    if program := shutil.which("kustomize"):
        said = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
        command = [program, "build"]
    elif program := shutil.which("kubectl"):
        asked = [program, "version", "--client", "--output", "json"]
        said = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout).get("kustomizeVersion", "")
        command = [program, "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is installed")
    found = re.search(r"v(\d+)\.\d", said)
    if found is None or int(found[1]) < 4:
        pytest.skip(f"{program} renders as kustomize {said or 'before 4'} does; 4 or newer is needed")
    return command
