"""All names that users rely on: those of a running service, of the command line, and of the settings."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import click
from prometheus_client.parser import text_string_to_metric_families

from latentd.cli.main import latentd
from latentd.service.settings import Settings
from latentd.training.recipes.load import load_recipe
from tests.contract.answers import ask
from tests.contract.cases import CONDITIONAL, DCGAN, EXACT, METRICS_TOKEN, REFUSED, RING, SHIPPED, SHOWN, Case
from tests.contract.exact import IMAGE, POINTS
from tests.e2e.conftest import Answer, Server

ROOT = Path(__file__).parents[2]
_SERVED = (DCGAN, CONDITIONAL, RING)
OBJECTIVES = {
    "minimax": "gaussian-gan",
    "non-saturating": "gaussian-gan",
    "least-squares": "gaussian-gan",
    "wasserstein": "gaussian-gan",
    "wasserstein-gp": "gaussian-gan",
    "hinge": "gaussian-gan",
    "relativistic": "gaussian-gan",
    "reconstruction": "fashion-autoencoder",
    "evidence": "fashion-vae",
    "moments": "fashion-gaussian",
}
"""Every objective that a recipe may name, and a shipped recipe that works with it."""
_HEADERS = ("generate-png", "generate-raw-png", "generate-directions", "interpolate-events", "openai", "kserve-binary")


def names(server: Server) -> dict[str, Any]:
    """Return the whole table. The metrics come last, after the requests that they count."""
    refused = {name: ask(server, case) for name, case in REFUSED.items()}
    shown = {name: ask(server, case) for name, case in SHOWN.items()}
    headed = {name: ask(server, (EXACT | SHIPPED)[name]) for name in _HEADERS}
    document = shown["/docs.json"].json
    return {
        "checkpoints": {path.name: _sha256(path) for path in sorted((ROOT / "models/checkpoints").iterdir())},
        "models": {name: _model(ask(server, Case(f"/models/{name}")).json) for name in (*_SERVED, IMAGE, POINTS)},
        "recipes": sorted(path.name for path in (ROOT / "training/recipes").glob("*.toml")),
        "recipe keys": {objective: _recipe_keys(objective) for objective in OBJECTIVES},
        "settings": _settings(),
        "commands": _commands(latentd, "latentd"),
        "routes": _routes(document),
        "bentoml routes": _bentoml_routes(shown["/schema.json"].json),
        "shown": {path: _shown(answer) for path, answer in shown.items()},
        "refused": {name: _refused(answer) for name, answer in refused.items()},
        "headers": {
            name: sorted(answer.headers) for name, answer in (headed | {"refused": refused["no-token"]}).items()
        },
        "metrics": _metrics(ask(server, Case("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}))),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _model(told: dict[str, Any]) -> dict[str, Any]:
    """Return the versions, and the text of the spec from which each version is made."""
    spec = json.dumps(told["card"]["spec"], sort_keys=True, separators=(",", ":"))
    return {"version": told["version"], "directions_version": told["directions_version"], "spec": spec}


def _recipe_keys(objective: str) -> list[str]:
    """Return all keys of a recipe with this objective, with dots between the names of tables."""
    _, recipe = load_recipe(OBJECTIVES[objective], [f"objective={objective}"])
    schema = type(recipe).model_json_schema()
    return sorted(set(_fields(schema, schema.get("$defs", {}))))


def _settings() -> dict[str, str]:
    """Return the `LATENTD_*` variables and their defaults. Training reads LATENTD_DATA."""
    prefix = str(Settings.model_config["env_prefix"])
    found = {f"{prefix}{name.upper()}": str(field.default) for name, field in Settings.model_fields.items()}
    text = "".join(path.read_text() for path in (ROOT / "training").rglob("*.py"))
    others = set(re.findall(r"[\"'](LATENTD_[A-Z_]+)[\"']", text)) - found.keys()
    return found | dict.fromkeys(sorted(others), "")


def _commands(command: click.Command, path: str) -> dict[str, list[str]]:
    """Return each command with its arguments and options."""
    found = {path: sorted("/".join([*each.opts, *each.secondary_opts]) for each in command.params)}
    for name, each in getattr(command, "commands", {}).items():
        found |= _commands(each, f"{path} {name}")
    return found


def _routes(document: dict[str, Any]) -> dict[str, Any]:
    """Return each method and path of the OpenAPI document with the fields of its bodies. Names of schemas are free."""
    schemas = document["components"]["schemas"]
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = sorted(f"{each['in']}:{each['name']}" for each in operation.get("parameters", []))
            said: dict[str, Any] = {"parameters": parameters}
            if body := operation.get("requestBody"):
                said["body"] = _content(body["content"], schemas)
            said["statuses"] = sorted(operation["responses"])
            said["answer"] = _content(operation["responses"]["200"]["content"], schemas)
            said["open"] = operation.get("security") == []
            found[f"{method.upper()} {path}"] = said
    return found


def _content(content: dict[str, Any], schemas: dict[str, Any]) -> dict[str, list[str]]:
    return {kind: sorted(set(_fields(each.get("schema", {}), schemas))) for kind, each in sorted(content.items())}


def _fields(schema: dict[str, Any], schemas: dict[str, Any], path: str = "") -> list[str]:
    """Return the names of all fields, with dots for objects and [] for lists."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].split("/")[-1]]
    found = []
    for name, each in schema.get("properties", {}).items():
        found += [f"{path}{name}", *_fields(each, schemas, f"{path}{name}.")]
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found += _fields(each, schemas, path)
    for key in ("items", "additionalProperties"):
        if isinstance(each := schema.get(key), dict):
            found += _fields(each, schemas, f"{path.removesuffix('.')}[]." if path else path)
    return found


def _bentoml_routes(schema: dict[str, Any]) -> dict[str, list[str]]:
    return {route["route"]: sorted(route["input"]["properties"]) for route in schema["routes"]}


def _shown(answer: Answer) -> dict[str, Any]:
    kind = answer.headers.get("content-type", "")
    keys = sorted(answer.json) if kind.startswith("application/json") else []
    return {"status": answer.status, "content-type": kind, "keys": keys}


def _refused(answer: Answer) -> dict[str, Any]:
    """Return the status, code and field, and whether there is a message. Its words may change."""
    assert answer.status >= 400, answer.body
    error = answer.json["error"]
    said = {"status": answer.status, "error": error if isinstance(error, dict) else "text"}
    if isinstance(error, dict):
        said["error"] = error | {"message": "text"}
    if "www-authenticate" in answer.headers:
        said["www-authenticate"] = answer.headers["www-authenticate"]
    return said


def _metrics(answer: Answer) -> dict[str, Any]:
    """Return the metrics of latentd with their types and the names of their labels."""
    return {
        family.name: {
            "type": family.type,
            "samples": sorted({each.name for each in family.samples}),
            "labels": sorted({label for each in family.samples for label in each.labels}),
        }
        for family in text_string_to_metric_families(answer.body.decode())
        if family.name.startswith("latentd_")
    }
