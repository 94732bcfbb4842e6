"""Whether the same version and seed give the same bytes in any batch: `python -m benchmarks.determinism`.

One server process makes the reference: one sample per request, one request at a time. Another server gets requests for
the same samples, of random sizes, in random order, from many clients at once. The hashes of all samples are compared.
"""

import hashlib
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import processes, report
from benchmarks.processes import Server

_CLIENTS = 32
_MAX_SAMPLES = 100
_TRUNCATIONS = (None, 0.5, 0.7)

Name = tuple[int, float | None]
"""Seed and truncation."""


def reference(server: Server, model: str, names: Iterable[Name]) -> dict[Name, str]:
    """Return the hash of each sample, with one sample per request."""
    return {name: _generate(server, model, [name[0]], name[1])[0] for name in names}


def random_requests(names: list[Name]) -> list[list[Name]]:
    """Split `names` into requests of random sizes, in random order. All samples of a request have one truncation."""
    draw = random.Random()  # noqa: S311  # a test's order
    requests: list[list[Name]] = []
    for truncation in _TRUNCATIONS:
        remaining = [name for name in names if name[1] == truncation]
        draw.shuffle(remaining)
        while remaining:
            size = draw.choice((1, 1, 2, 3, 5, 16, 17, 64, draw.randint(1, _MAX_SAMPLES)))
            requests.append(remaining[:size])
            remaining = remaining[size:]
    draw.shuffle(requests)
    return requests


def compare(server: Server, model: str, expected: dict[Name, str]) -> dict[str, int]:
    """Request all samples of `expected` in random requests. Count samples, requests, mismatches and failures."""
    requests = random_requests(list(expected))

    def request(names: list[Name]) -> tuple[int, int]:
        try:
            hashes = _generate(server, model, [seed for seed, _ in names], names[0][1])
        except OSError:
            return 0, 1
        return sum(found != expected[name] for found, name in zip(hashes, names, strict=True)), 0

    with ThreadPoolExecutor(_CLIENTS) as pool:
        outcomes = list(pool.map(request, requests))
    return {
        "samples": len(expected),
        "requests": len(requests),
        "mismatches": sum(wrong for wrong, _ in outcomes),
        "failures": sum(failed for _, failed in outcomes),
    }


def main() -> None:
    """Compare the samples of every shipped model and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--samples", type=int, default=10_000, help="per model")
    options = report.parse(parser, samples=8)
    draw = random.Random()  # noqa: S311  # seeds of samples
    results: dict[str, Any] = {"machine": report.machine(), "models": {}}
    expected: dict[str, dict[Name, str]] = {}
    with processes.latentd() as server:
        listed = {model["name"]: model["determinism"] for model in server.get("/models")["models"]}
        for model in listed:
            names = {(draw.randrange(2**32), draw.choice(_TRUNCATIONS)) for _ in range(options.samples)}
            expected[model] = reference(server, model, names)
    with processes.latentd() as server:
        for model in listed:
            again = server.get(f"/models/{model}")["determinism"]
            found = compare(server, model, expected[model])
            results["models"][model] = {**found, "determinism": again, "reference_determinism": listed[model]}
    head = ["model", "samples", "requests", "mismatches", "failures", "sizes"]
    rows = [[name, *list(each.values())[:4], each["determinism"]["sizes"]] for name, each in results["models"].items()]
    report.write(options.results, "determinism", results, report.markdown(head, rows))


def _generate(server: Server, model: str, seeds: list[int], truncation: float | None) -> list[str]:
    answer = server.generate(model=model, seeds=seeds, truncation=truncation)
    return [hashlib.sha256(str(sample["data"]).encode()).hexdigest() for sample in answer["samples"]]


if __name__ == "__main__":
    main()
