"""latentd against a bare loop, LitServe and BentoML's own batching: same model, weights, encoder and load generator.

`make bench`, or `python -m benchmarks.serving`. Contenders run one after another, in as many rounds as asked, so that a
machine that slows down slows all of them; the table has each figure's median over the rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import matplotlib as mpl

from benchmarks import processes, report
from latentd.models.hardware import core_count

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the choice of a backend without a screen

CELLS = [(1, 1), (16, 1), (64, 1), (1, 16), (16, 16), (64, 16)]
"""Clients, samples a request."""
_MOST_SAMPLES_A_BATCH = 64
_FIGURES = ("images_per_second", "requests_per_second", "p50_ms", "p99_ms", "failed")

Contender = Callable[[int], Any]
"""Samples a request → a context with a server that is set up for it."""


def contenders() -> dict[str, Contender]:
    """By name; where a rival's best number of threads is not plain, both are run."""
    cores = core_count()
    return {
        "latentd": lambda _: processes.latentd(),
        "latentd, determinism off": lambda _: processes.latentd(LATENTD_DETERMINISM="off"),
        f"LitServe, {cores} threads": lambda samples: processes.litserve(_MOST_SAMPLES_A_BATCH // samples, cores),
        "LitServe, 1 thread": lambda samples: processes.litserve(_MOST_SAMPLES_A_BATCH // samples, 1),
        f"BentoML's batching, {cores} threads": lambda _: processes.bentoml_batching(cores),
        "BentoML's batching, 1 thread": lambda _: processes.bentoml_batching(1),
    }


def bare_loops(seconds: float) -> dict[str, float]:
    """Images a second of the loop without HTTP, by threads and batch."""
    return {
        f"{threads} threads, batch {batch}": json["images_per_second"]
        for threads in sorted({1, core_count()})
        for batch in (16, _MOST_SAMPLES_A_BATCH)
        if (json := processes.json_of("benchmarks.rivals.bare_loop", threads, batch, seconds))
    }


def measure(contender: Contender, seconds: float) -> dict[str, dict[str, Any]]:
    """All cells, a fresh server for each number of samples."""
    cells: dict[str, dict[str, Any]] = {}
    for samples in sorted({samples for _, samples in CELLS}):
        with contender(samples) as server:
            for clients in [clients for clients, each in CELLS if each == samples]:
                cells[_name(clients, samples)] = processes.load(
                    server, clients=clients, samples=samples, seconds=seconds, warm_up=1.5
                )
    return cells


def medians(rounds: list[dict[str, dict[str, dict[str, Any]]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Contender → cell → figure; failures are summed, all else is the median over the rounds."""
    return {
        name: {
            cell: {
                figure: (sum if figure == "failed" else statistics.median)(each[name][cell][figure] for each in rounds)
                for figure in _FIGURES
            }
            for cell in cells
        }
        for name, cells in rounds[0].items()
    }


def tables(figures: dict[str, dict[str, dict[str, float]]], bare: dict[str, float]) -> str:
    """All figures, then latentd's ratios to the best of each rival."""
    rows = [[name, cell, *cells[cell].values()] for name, cells in figures.items() for cell in cells]
    full = report.markdown(
        ["server", "clients × samples", "images/s", "requests/s", "p50 ms", "p99 ms", "failed"], rows
    )
    best_bare = max(bare, key=lambda name: bare[name])
    loops = report.markdown(["bare loop", "images/s"], [[name, value] for name, value in bare.items()])
    ratios = [
        [
            cell,
            _rate(figures, "latentd", cell) / _rate(figures, "LitServe", cell),
            _rate(figures, "latentd", cell) / _rate(figures, "BentoML", cell),
            figures["latentd"][cell]["images_per_second"] / bare[best_bare],
            figures["latentd"][cell]["images_per_second"]
            / figures["latentd, determinism off"][cell]["images_per_second"],
        ]
        for cell in figures["latentd"]
    ]
    head = ["clients × samples", "LitServe", "BentoML's batching", f"bare loop ({best_bare})", "determinism off"]
    return "\n\n".join(["latentd's images/s, divided by the best of", report.markdown(head, ratios), loops, full])


def plot(figures: dict[str, dict[str, dict[str, float]]], bare: dict[str, float]) -> None:
    """Images a second of every contender in every cell, as PNG."""
    picture, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for axis, samples in zip(axes, (1, 16), strict=True):
        cells = [_name(clients, each) for clients, each in CELLS if each == samples]
        width = 0.8 / len(figures)
        for index, (name, values) in enumerate(figures.items()):
            places = [place + index * width for place in range(len(cells))]
            axis.bar(places, [values[cell]["images_per_second"] for cell in cells], width, label=name)
        axis.set_xticks([place + 0.4 - width / 2 for place in range(len(cells))], cells)
        axis.set_xlabel("clients × samples a request")
        axis.set_ylabel("images/s")
    axes[1].axhline(max(bare.values()), color="black", linestyle=":", label="best bare loop")
    picture.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    picture.suptitle(f"fashion-dcgan, PNG in JSON, {core_count()} cores, load generator beside the server")
    picture.savefig(report.RESULTS / "serving.png", dpi=110)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="a cell, a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": report.machine()}
    rounds, loops = [], []
    for _ in range(options.rounds):
        loops.append(bare_loops(options.seconds))
        rounds.append({name: measure(contender, options.seconds) for name, contender in contenders().items()})
    bare = {name: statistics.median(each[name] for each in loops) for name in loops[0]}
    figures = medians(rounds)
    results |= {"bare_loop": bare, "servers": figures, "rounds": rounds, "bare_loop_rounds": loops}
    report.write("serving", results, tables(figures, bare))
    plot(figures, bare)


def _name(clients: int, samples: int) -> str:
    return f"{clients} × {samples}"


def _rate(figures: dict[str, dict[str, dict[str, float]]], prefix: str, cell: str) -> float:
    """Images a second of the best contender whose name begins with `prefix`."""
    if prefix in figures:
        return figures[prefix][cell]["images_per_second"]
    return max(cells[cell]["images_per_second"] for name, cells in figures.items() if name.startswith(prefix))


if __name__ == "__main__":
    main()
