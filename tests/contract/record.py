"""Write the tables anew: `python -m tests.contract.record`, from the repository's root.

Only for a change that is meant, or on another machine, whose bytes are then added to those that are there.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.contract.answers import Recorded, ask, packed, record
from tests.contract.cases import EXACT, SETTINGS, SHIPPED, Case
from tests.contract.exact import IMAGE, write_exact_models
from tests.contract.names import ROOT, names
from tests.e2e.conftest import Server, serving

NAMES, SAMPLES = Path(__file__).with_name("names.json"), Path(__file__).with_name("samples.json")


@contextmanager
def contract_server(folder: Path) -> Iterator[Server]:
    """Serve the shipped models and the exact ones, with tokens and small limits."""
    models = folder / "exact"
    models.mkdir()
    write_exact_models(models)
    with serving(folder / "home", LATENTD_MODELS=f"{ROOT / 'models/checkpoints'}:{models}", **SETTINGS) as server:
        yield server


def observe(server: Server, cases: dict[str, Case]) -> dict[str, Recorded]:
    """Send all `cases` and return their answers."""
    return {name: record(ask(server, case)) for name, case in cases.items()}


def encoders(server: Server) -> str:
    """Return the versions of the encoders: the bytes of files depend on them and on the values."""
    fingerprint = ask(server, Case(f"/models/{IMAGE}")).json["determinism"]["fingerprint"]
    return ", ".join(f"{name} {fingerprint[name]}" for name in ("imagecodecs", "pillow", "av"))


def key_of(case: str, recorded: Recorded, versions: str) -> str:
    """What the bytes of an answer depend on: the encoders of exact values, else all that the fingerprint names.

    The encoders gave the same bytes on emulated CPUs of Intel and AMD (Haswell, EPYC) as on one with AVX-512. Of x264
    that is not promised, so that animations in MP4 are compared as those of networks are.
    """
    return versions if case in EXACT and not case.endswith("mp4") else recorded.fingerprint


def samples(server: Server, before: dict[str, Any]) -> dict[str, Any]:
    """Return the table of samples. The bytes that other machines recorded are copied from `before`."""
    versions = encoders(server)
    found: dict[str, Any] = {}
    for name, recorded in observe(server, EXACT | SHIPPED).items():
        exact = name in EXACT
        digests = before.get(name, {}).get("bytes", {}) | {key_of(name, recorded, versions): recorded.digest}
        found[name] = {"says": recorded.says} if exact else {}
        if not exact or recorded.lossy:
            found[name]["values"] = [packed(each) for each in recorded.values]
        found[name]["bytes"] = digests
    return found


def _text(table: Any, indent: str = "") -> str:
    """Return JSON with one line for each entry of an object, and each list on one line."""
    if not isinstance(table, dict) or not table:
        return json.dumps(table, ensure_ascii=False)
    inner = indent + " "
    entries = (f"{inner}{json.dumps(name)}: {_text(each, inner)}" for name, each in table.items())
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


def main() -> None:
    """Write both tables."""
    before = json.loads(SAMPLES.read_text(encoding="utf-8")) if SAMPLES.exists() else {}
    with tempfile.TemporaryDirectory() as folder, contract_server(Path(folder)) as server:
        found = samples(server, before)
        SAMPLES.write_text(_text(found) + "\n", encoding="utf-8")
        NAMES.write_text(_text(names(server)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
