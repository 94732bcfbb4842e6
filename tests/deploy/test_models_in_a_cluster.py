"""How models reach a cluster: the Job that pulls from BentoML's store, and the pods that copy from a bucket."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bentoml
import kubernetes_validate
import pytest
from click.testing import CliRunner, Result

from latentd.cli.main import latentd
from latentd.models.checkpoint import Checkpoint
from latentd.models.names import ResolvedNames, read_files, read_promotions
from latentd.models.promotions import Promotions
from latentd.service.pull import main
from tests.conftest import points_spec
from tests.deploy.manifests import Manifests, manifests, rendered
from tests.deploy.test_kubernetes import OLDEST
from tests.e2e.conftest import ROOT

Export = Callable[[int], tuple[str, str]]
NAME = "spiral-in-a-cluster"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address where it is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    (folder := tmp_path / "bucket").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def export(bucket: tuple[Path, str], tmp_path: Path, write: Callable[..., Checkpoint]) -> Iterator[Export]:
    """A function that publishes a model to the store, exports it to the bucket, and returns its version and URL."""
    tags = []

    def export_to_bucket(seed: int) -> tuple[str, str]:
        version = write(points_spec(), NAME, seed).version
        done = CliRunner().invoke(latentd, ["publish", str(tmp_path / f"{NAME}.safetensors")])
        tags.append(done.output.strip())
        assert tags[-1] == f"{NAME}:{version}"
        bentoml.models.export_model(tags[-1], str(bucket[0] / f"{version}.bentomodel"))
        return version, f"{bucket[1]}/{version}.bentomodel?signature=secret"

    yield export_to_bucket
    for tag in tags:
        bentoml.models.delete(tag)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENTD_MODELS", str(tmp_path / "volume"))
    return tmp_path / "volume"


def pull(*urls: str) -> Result:
    return CliRunner().invoke(main, urls)


def test_the_job_promotes_a_model_of_the_store_in_the_volume(export: Export, volume: Path) -> None:
    first, url = export(0)
    (job,) = (each for each in rendered("pull") if each["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "models")
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["LATENTD_MODELS"] == mount["mountPath"]
    command = [{"python": sys.executable}.get(word, word) for word in container["command"]]
    here = {"LATENTD_MODELS": str(volume), "BENTOML_HOME": str(volume.parent / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, url], env=os.environ | environment | here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    copy = volume / f"{NAME}@{first}.safetensors"
    assert done.stdout == f"{NAME} means {first} now: {copy}\n"
    assert Checkpoint.read(copy).version == first
    (entry,) = Promotions.read(volume).history
    assert (entry.name, entry.version, entry.before) == (NAME, first, None)
    assert entry.source == url.partition("?")[0]  # a signature is a secret


def test_another_version_follows_and_the_first_one_comes_back(export: Export, volume: Path) -> None:
    (first, url), (second, later) = export(1), export(2)
    assert pull(url, later).exit_code == 0
    assert Promotions.read(volume).current == {NAME: second}
    assert pull(later).output == f"{NAME} means {second} already\n"
    assert pull(url).exit_code == 0
    assert [each.version for each in Promotions.read(volume).history] == [first, second, first]
    names = ResolvedNames.of(read_files([volume]), read_promotions([volume]))  # as the service resolves them
    assert names.models[NAME].version == first
    assert {version for _, version in names.versions} == {first, second}
    assert {each.name for each in volume.glob("[!.]*.safetensors")} == {
        f"{NAME}@{version}.safetensors" for version in (first, second)
    }


def test_a_relative_path_is_read_from_the_current_folder(
    export: Export, bucket: tuple[Path, str], volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, _ = export(3)
    monkeypatch.chdir(bucket[0])
    assert pull(f"{version}.bentomodel").exit_code == 0
    assert Promotions.read(volume).current == {NAME: version}


def test_a_copy_that_was_lost_is_put_back(export: Export, volume: Path) -> None:
    version, url = export(3)
    copy = volume / f"{NAME}@{version}.safetensors"
    assert pull(url).exit_code == 0
    copy.unlink()
    assert pull(url).exit_code == 0
    assert Checkpoint.read(copy).version == version
    assert Promotions.read(volume).current == {NAME: version}


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no archive", "it cannot be read"), (b"", "it cannot be read"), (None, "there is no such file")],
    ids=["damaged", "empty", "missing"],
)
def test_a_model_that_cannot_be_read_changes_nothing(
    bucket: tuple[Path, str], volume: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (bucket[0] / "wrong.bentomodel").write_bytes(content)
    done = pull(f"{bucket[1]}/wrong.bentomodel?signature=secret")
    said = str(done.exception)
    assert said.startswith(f"error: {bucket[1]}/wrong.bentomodel: {says}"), done.output
    assert "secret" not in said
    assert not volume.exists()


def test_the_job_fits_the_schemas_and_the_pods() -> None:
    objects = rendered("pull")
    for each in objects:
        for version in (OLDEST, kubernetes_validate.latest_version()):
            kubernetes_validate.validate(each, version, strict=True)
    claim, job = sorted(objects, key=lambda each: str(each["kind"]) == "Job")
    serving = manifests("cpu with all")
    pod, container = job["spec"]["template"]["spec"], job["spec"]["template"]["spec"]["containers"][0]
    claimed = {"claimName": claim["metadata"]["name"]}
    assert [each["persistentVolumeClaim"] for each in pod["volumes"] if each["name"] == "models"] == [claimed]
    assert serving.mounts["/models"]["persistentVolumeClaim"] == claimed | {"readOnly": True}
    assert {each["metadata"]["namespace"] for each in objects} == {serving.one("Deployment")["metadata"]["namespace"]}
    assert pod["securityContext"] == serving.pod["securityContext"]
    assert container["securityContext"] == serving.container["securityContext"]
    assert container["image"] == serving.container["image"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    selectors = [serving.one(kind)["spec"] for kind in ("Service", "NetworkPolicy", "Deployment")]
    for each in (selectors[0]["selector"], selectors[1]["podSelector"]["matchLabels"]):
        assert not each.items() <= labels.items()  # the Job gets no requests, and may open connections


def copier(given: Manifests) -> dict[str, Any]:
    (found,) = given.pod["initContainers"]
    return dict(found)


def test_a_pod_copies_the_bucket_to_the_folder_that_it_serves(tmp_path: Path) -> None:
    program = shutil.which("rclone")
    if program is None:
        pytest.skip("rclone is not installed: apt-get install rclone")
    given = manifests("cpu with a bucket")
    (remote := tmp_path / "models" / "promoted").mkdir(parents=True)
    (remote / "promoted.json").write_text(json.dumps({"history": []}))
    (remote / "ring@0123456789ab.safetensors").write_bytes(b"weights")
    served = given.environment["LATENTD_MODELS"]
    # an alias is a remote that needs no server; the Secret of a cluster names a bucket in the same way
    secret = {
        "RCLONE_CONFIG_MODELS_TYPE": "alias",
        "RCLONE_CONFIG_MODELS_REMOTE": str(tmp_path / "models"),
        "BUCKET": "promoted",
    }
    written = {each["name"]: each["value"] for each in copier(given)["env"]}
    arguments = [each.replace("$(BUCKET)", secret["BUCKET"]) for each in copier(given)["args"]]
    assert arguments[-1] == served
    command = [program, *arguments[:-1], tmp_path / "served"]
    done = subprocess.run(command, env=os.environ | written | secret, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {each.name for each in (tmp_path / "served").iterdir()} == {each.name for each in remote.iterdir()}
    nowhere = subprocess.run(command, env=os.environ | written | secret | {"RCLONE_CONFIG_MODELS_REMOTE": "/nowhere"})
    assert nowhere.returncode != 0  # the pod does not start, and the old pods continue to serve


def test_the_copier_writes_what_the_service_only_reads() -> None:
    given = manifests("cpu with a bucket")
    assert copier(given)["securityContext"] == given.container["securityContext"]
    assert copier(given)["volumeMounts"][0] == {"name": "models", "mountPath": "/models"}
    assert given.mounts["/models"]["mount"]["readOnly"] is True
    assert "emptyDir" in given.mounts["/models"]
    ports = [port for each in given.one("NetworkPolicy")["spec"]["egress"] for port in each["ports"]]
    assert {"port": 443, "protocol": "TCP"} in ports
    assert {"port": 4318, "protocol": "TCP"} in ports  # both components add to the policy
