"""The manifests agree with the schemas of Kubernetes, with each other, and with the service."""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from latentd.models.checkpoint import Checkpoint
from latentd.service import drain
from latentd.service.settings import Settings
from tests.conftest import eventually, points_spec
from tests.deploy.expressions import KUBERNETES, rules
from tests.deploy.manifests import NAMES, Manifests, manifests
from tests.e2e.conftest import ROOT, serving

OLDEST = "1.30"
"""The first version of Kubernetes that has `preStop.sleep`."""
WITHOUT_SCHEMA = {"ScaledObject", "ServiceMonitor"}
PROBES = ("startup", "liveness", "readiness")


@pytest.fixture(params=NAMES)
def given(request: pytest.FixtureRequest) -> Manifests:
    return manifests(request.param)


def settings_of(given: Manifests, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings that the service reads in the pod."""
    for name in [name for name in os.environ if name.startswith("LATENTD_")]:
        monkeypatch.delenv(name)
    for name, value in given.environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


def fits(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted: dict[str, str] = selector.get("matchLabels", selector)
    return bool(wanted) and wanted.items() <= labels.items()


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_objects_fit_the_schemas(given: Manifests, version: str) -> None:
    assert {each["kind"] for each in given.objects} > WITHOUT_SCHEMA
    for each in given.objects:
        if each["kind"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(each, version, strict=True)


def test_the_service_knows_all_settings(given: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {name for name in given.environment if name.startswith("LATENTD_")}
    assert ours <= {f"LATENTD_{name.upper()}" for name in Settings.model_fields}
    assert settings_of(given, monkeypatch).device == {"cpu": "cpu", "gpu": "cuda"}.get(given.name[:3], "auto")


def test_a_pod_may_finish_before_it_is_killed(given: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = given.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drained = asleep + settings_of(given, monkeypatch).drain + drain._LAST_ANSWERS_SECONDS
    assert 0 < asleep < drained < given.pod["terminationGracePeriodSeconds"]


def test_all_objects_select_the_same_pods(given: Manifests) -> None:
    deployment, entry, monitor = given.one("Deployment"), given.one("Service"), given.one("ServiceMonitor")["spec"]
    selectors = [
        deployment["spec"]["selector"],
        entry["spec"]["selector"],
        given.one("PodDisruptionBudget")["spec"]["selector"],
        given.one("NetworkPolicy")["spec"]["podSelector"],
        *(each["labelSelector"] for each in given.pod["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert fits(selector, given.labels), selector
    assert fits(monitor["selector"], entry["metadata"]["labels"])
    assert entry["metadata"]["labels"][monitor["jobLabel"]] == "latentd"  # the rules select by this label
    assert given.one("ScaledObject")["spec"]["scaleTargetRef"] == {"name": deployment["metadata"]["name"]}
    assert len({each["metadata"].get("namespace") for each in given.objects}) == 1


def test_all_objects_name_the_same_port(given: Manifests) -> None:
    (port,) = given.container["ports"]
    (offered,) = given.one("Service")["spec"]["ports"]
    (scraped,) = given.one("ServiceMonitor")["spec"]["endpoints"]
    (entry,) = given.one("NetworkPolicy")["spec"]["ingress"]
    assert port["containerPort"] == 3000  # BentoML's
    assert offered["targetPort"] == entry["ports"][0]["port"] == port["name"]
    assert scraped["port"] == offered["name"]
    for name in PROBES:
        assert given.container[f"{name}Probe"]["httpGet"]["port"] == port["name"]


def test_a_pod_without_models_gets_no_requests_and_is_not_restarted(
    tmp_path: Path, write: Callable[..., Checkpoint]
) -> None:
    given = manifests(NAMES[0])
    startup, alive, ready = (given.container[f"{name}Probe"]["httpGet"]["path"] for name in PROBES)
    (folder := tmp_path / "models").mkdir()
    environment = given.environment | {"BENTOML_HOME": str(tmp_path / "home"), "LATENTD_MODELS": str(folder)}
    with serving(tmp_path / "home", probe=startup, **environment) as server:
        assert [server.call(path).status for path in (startup, alive, ready)] == [200, 200, 503]
        assert server.call(given.one("ServiceMonitor")["spec"]["endpoints"][0]["path"]).status == 200
        write(points_spec(), "new")
        (tmp_path / "new.safetensors").rename(folder / "new.safetensors")
        eventually(lambda: server.call(ready).status == 200, "the model is not served")


def test_a_pod_has_no_needless_permissions(given: Manifests) -> None:
    """The restricted profile of https://kubernetes.io/docs/concepts/security/pod-security-standards/, and more."""
    of_pod, of_container = given.pod["securityContext"], given.container["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["runAsUser"] == of_pod["runAsGroup"] == of_pod["fsGroup"] == 1034  # `bentoml` in its images
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container["allowPrivilegeEscalation"] is False
    assert of_container["capabilities"] == {"drop": ["ALL"]}
    assert of_container["readOnlyRootFilesystem"] is True
    assert given.pod["automountServiceAccountToken"] is False
    assert given.pod["enableServiceLinks"] is False  # otherwise the cluster would set LATENTD_PORT and others


def test_folders_that_are_read_or_written_are_mounted(given: Manifests) -> None:
    mounts = given.mounts
    for path in (given.environment["BENTOML_HOME"], "/tmp"):  # noqa: S108  # where Python puts temporary files
        assert any(Path(path).is_relative_to(at) and "emptyDir" in mounts[at] for at in mounts), path
    if tokens := given.environment.get("LATENTD_TOKENS_FILE"):
        volume = mounts[str(Path(tokens).parent)]
        assert [item["path"] for item in volume["secret"]["items"]] == [Path(tokens).name]
        assert "subPath" not in volume["mount"]  # a subPath is never updated, so new tokens would not arrive
        assert volume["secret"]["defaultMode"] == 0o440
    if models := given.environment.get("LATENTD_MODELS"):
        assert mounts[models]["mount"]["readOnly"] is True
    assert all("emptyDir" in volume or volume["mount"]["readOnly"] for volume in mounts.values())
    assert all(
        volume["persistentVolumeClaim"]["readOnly"] for volume in mounts.values() if "persistentVolumeClaim" in volume
    )
    assert bool(tokens) == ("tokens" in given.components)
    assert bool(models) == bool({"models", "bucket"} & set(given.components))


def test_prometheus_sends_the_token_that_the_service_expects(given: Manifests) -> None:
    asked = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in given.container.get("env", [])}
    (scraped,) = given.one("ServiceMonitor")["spec"]["endpoints"]
    shown = scraped.get("authorization", {}).get("credentials")
    assert asked.get("LATENTD_METRICS_TOKEN") == shown
    assert bool(shown) == ("tokens" in given.components)


def test_images_are_tagged_with_the_version(given: Manifests) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    suffix = {"cpu": "-cpu", "gpu": "-cuda"}.get(given.name[:3], "")
    assert given.container["image"] == f"latentd:{version}{suffix}"


def test_resources_fit_the_measured_memory(given: Manifests) -> None:
    requests, limits = (given.container["resources"][each] for each in ("requests", "limits"))
    assert requests == {name: limits[name] for name in ("cpu", "memory")}
    assert limits["cpu"].isdecimal()  # each core runs one forward pass
    assert limits.get("nvidia.com/gpu") == ("1" if given.name.startswith("gpu") else None)
    size, unit = re.fullmatch(r"(\d+)([MG])i", limits["memory"]).groups()
    measured = json.loads((ROOT / "benchmarks" / "results" / "footprint.json").read_text())["loads"].values()
    assert int(size) * 2 ** {"M": 20, "G": 30}[unit] > 2 * 1e6 * max(each["resident_mb"] for each in measured)


def test_a_rollout_keeps_replicas_or_needs_no_second_gpu(given: Manifests) -> None:
    assert "replicas" not in given.deployment  # the autoscaler sets them
    surge, missing = (0, 1) if given.name.startswith("gpu") else (1, 0)
    assert given.deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing},
    }
    assert given.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert bool(given.pod.get("tolerations")) == given.name.startswith("gpu")


def test_the_network_policy_admits_clients_and_prometheus_only(given: Manifests) -> None:
    policy = given.one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    clients, prometheus = policy["ingress"][0]["from"]
    assert list(clients) == ["namespaceSelector"]
    assert clients["namespaceSelector"]["matchLabels"]
    monitoring = prometheus["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    addresses = {each["metadata"]["serverAddress"] for each in given.triggers if each["type"] == "prometheus"}
    assert {urlsplit(each).hostname.partition(".")[2] for each in addresses} == {monitoring}
    assert policy["egress"] == [] or {"tracing", "bucket"} & set(given.components)


def test_the_network_policy_lets_spans_reach_the_collector(given: Manifests) -> None:
    endpoint = given.environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    assert (endpoint is not None) == ("tracing" in given.components)
    if endpoint is not None:
        names, spans, *_ = given.one("NetworkPolicy")["spec"]["egress"]
        assert {(each["port"], each["protocol"]) for each in names["ports"]} == {(53, "UDP"), (53, "TCP")}
        address = urlsplit(endpoint)
        name, namespace = address.hostname.split(".")
        (to,) = spans["to"]
        assert [each["port"] for each in spans["ports"]] == [address.port]
        assert to["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
        assert to["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}


def test_an_ingress_with_tls_leads_to_the_service(given: Manifests) -> None:
    assert ("ingress" in given.components) == any(each["kind"] == "Ingress" for each in given.objects)
    if "ingress" in given.components:
        assert "tokens" in given.components  # everybody who reaches the host could use the service
        found = given.one("Ingress")
        (tls,), (rule,) = found["spec"]["tls"], found["spec"]["rules"]
        assert tls["hosts"] == [rule["host"]]
        assert tls["secretName"]
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/", "Prefix")
        entry = given.one("Service")
        (port,) = entry["spec"]["ports"]
        assert path["backend"] == {"service": {"name": entry["metadata"]["name"], "port": {"name": port["name"]}}}


def test_the_ingress_lets_through_what_the_service_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    given = manifests("cpu with all")
    prefix = "nginx.ingress.kubernetes.io/proxy-"
    annotations = given.one("Ingress")["metadata"]["annotations"]
    assert all(name.startswith(prefix) and isinstance(value, str) for name, value in annotations.items())
    settings = settings_of(given, monkeypatch)
    assert int(annotations[f"{prefix}body-size"].removesuffix("m")) * 2**20 == settings.max_body
    assert int(annotations[f"{prefix}read-timeout"]) > settings.timeout
    nginx = (ROOT / "deploy" / "nginx" / "latentd.conf").read_text()
    for name in ("read-timeout", "buffer-size", "next-upstream", "next-upstream-tries", "next-upstream-timeout"):
        (written,) = re.findall(rf"^ *proxy_{name.replace('-', '_')} (.+?)s?;", nginx, re.MULTILINE)
        assert annotations[prefix + name] == written


def test_the_operator_gets_all_rules() -> None:
    printed = subprocess.run([KUBERNETES / "rules.sh"], capture_output=True, text=True, check=True).stdout
    objects = list(yaml.safe_load_all(printed))
    assert [(each["apiVersion"], each["kind"]) for each in objects] == [
        ("monitoring.coreos.com/v1", "PrometheusRule")
    ] * 2
    for each, file in zip(objects, ("recording.yml", "alerts.yml"), strict=True):
        assert list(each["spec"]) == ["groups"]
        assert [rule for group in each["spec"]["groups"] for rule in group["rules"]] == rules(file)
    assert len({each["metadata"]["name"] for each in objects}) == 2
