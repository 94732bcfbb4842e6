"""latentd compared with a bare loop, LitServe and BentoML's own batching, with the same model, encoder and load.

`python -m benchmarks.serving`. Servers run one after another, in several rounds, so that a slow moment of the machine
affects all of them. The table shows the median over the rounds. A server whose package is not installed is left out.
"""

import statistics
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import processes, report
from latentd.models.hardware import core_count

CELLS = [(1, 1), (16, 1), (64, 1), (1, 16), (16, 16), (64, 16)]
"""Clients, samples per request."""
_MAX_BATCH = 64
_METRICS = ("images_per_second", "requests_per_second", "p50_ms", "p99_ms", "failed")
_RIVALS = ("LitServe", "BentoML's batching", "latentd, determinism off")

StartServer = Callable[[int], Any]
"""Samples per request → a context manager with a running server that is configured for it."""
Figures = dict[str, dict[str, dict[str, float]]]
"""Server → cell → metric → value."""


def servers(thread_counts: list[int]) -> dict[str, StartServer]:
    """Return all servers by name. Rivals run with each number of threads, because it is not obvious which is best."""
    found: dict[str, StartServer] = {
        "latentd": lambda _: processes.latentd(),
        "latentd, determinism off": lambda _: processes.latentd(LATENTD_DETERMINISM="off"),
    }
    for threads in thread_counts:
        if find_spec("litserve"):
            found[f"LitServe, {threads} threads"] = _litserve(threads)
        found[f"BentoML's batching, {threads} threads"] = _bentoml(threads)
    return found


def _litserve(threads: int) -> StartServer:
    return lambda samples: processes.litserve(_MAX_BATCH // samples, threads)


def _bentoml(threads: int) -> StartServer:
    return lambda _: processes.bentoml_batching(threads)


def bare_loops(thread_counts: list[int], batches: tuple[int, ...], seconds: float) -> dict[str, float]:
    """Return the images per second of a loop without HTTP, by threads and batch size."""
    return {
        f"{threads} threads, batch {batch}": json["images_per_second"]
        for threads in thread_counts
        for batch in batches
        if (json := processes.json_of("benchmarks.rivals.serving_loop", threads, batch, seconds))
    }


def measure(start: StartServer, cells: list[tuple[int, int]], seconds: float) -> dict[str, dict[str, Any]]:
    """Return the figures of all cells. Each number of samples gets a fresh server."""
    figures: dict[str, dict[str, Any]] = {}
    for samples in sorted({samples for _, samples in cells}):
        with start(samples) as server:
            for clients in [clients for clients, size in cells if size == samples]:
                figures[_cell(clients, samples)] = processes.load(
                    server, clients=clients, samples=samples, seconds=seconds, warm_up=min(1.5, seconds)
                )
    return figures


def over_rounds(rounds: list[Figures]) -> Figures:
    """Return the median of each metric over the rounds, and the sum of the failures."""
    return {
        name: {
            cell: {
                metric: (sum if metric == "failed" else statistics.median)(one[name][cell][metric] for one in rounds)
                for metric in _METRICS
            }
            for cell in cells
        }
        for name, cells in rounds[0].items()
    }


def tables(figures: Figures, loops: dict[str, float]) -> str:
    """Return the ratios of latentd to the best of each rival, and all figures, as Markdown."""
    rows = [[name, cell, *metrics.values()] for name, cells in figures.items() for cell, metrics in cells.items()]
    full = report.markdown(
        ["server", "clients × samples", "images/s", "requests/s", "p50 ms", "p99 ms", "failed"], rows
    )
    best_loop = max(loops, key=lambda name: loops[name])
    rivals = [rival for rival in _RIVALS if any(name.startswith(rival) for name in figures)]
    ratios = [
        [
            cell,
            *(report.ratio(metrics["images_per_second"], _best_rate(figures, rival, cell)) for rival in rivals),
            report.ratio(metrics["images_per_second"], loops[best_loop]),
        ]
        for cell, metrics in figures["latentd"].items()
    ]
    return "\n\n".join(
        [
            "Images/s of latentd, divided by those of the best variant of",
            report.markdown(["clients × samples", *rivals, f"bare loop ({best_loop})"], ratios),
            report.markdown(["bare loop", "images/s"], [[name, rate] for name, rate in loops.items()]),
            full,
        ]
    )


def plot(figures: Figures, loops: dict[str, float], path: Path) -> None:
    """Write a PNG with the images per second of every server in every cell."""
    import matplotlib as mpl  # only where the `bench` extra is installed

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # after the choice of a backend that needs no screen

    sizes = sorted({cell.partition(" × ")[2] for cell in figures["latentd"]}, key=int)
    picture, grid = plt.subplots(1, len(sizes), figsize=(6 * len(sizes), 4.5), layout="constrained", squeeze=False)
    for axis, size in zip(grid[0], sizes, strict=True):
        cells = [cell for cell in figures["latentd"] if cell.partition(" × ")[2] == size]
        width = 0.8 / len(figures)
        for index, (name, values) in enumerate(figures.items()):
            left = [position + index * width for position in range(len(cells))]
            axis.bar(left, [values[cell]["images_per_second"] for cell in cells], width, label=name)
        axis.set_xticks([position + 0.4 - width / 2 for position in range(len(cells))], cells)
        axis.set_xlabel("clients × samples per request")
        axis.set_ylabel("images/s")
    grid[0][-1].axhline(max(loops.values()), color="black", linestyle=":", label="best bare loop")
    picture.legend(*grid[0][-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    picture.suptitle(f"fashion-dcgan, PNG in JSON, {core_count()} cores, load generator on the same cores")
    picture.savefig(path, dpi=110)


def main() -> None:
    """Run all rounds and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="per cell and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.set_defaults(cells=CELLS, threads=sorted({1, core_count()}), batches=(16, _MAX_BATCH))
    options = report.parse(parser, seconds=1.0, rounds=1, cells=[(2, 4)], threads=[1], batches=(16,))
    results: dict[str, Any] = {"machine": report.machine()}
    rounds, loops = [], []
    for _ in range(options.rounds):
        loops.append(bare_loops(options.threads, options.batches, options.seconds))
        rounds.append(
            {name: measure(start, options.cells, options.seconds) for name, start in servers(options.threads).items()}
        )
    best_loops = {name: statistics.median(one[name] for one in loops) for name in loops[0]}
    figures = over_rounds(rounds)
    results |= {"bare_loop": best_loops, "servers": figures, "rounds": rounds, "bare_loop_rounds": loops}
    report.write(options.results, "serving", results, tables(figures, best_loops))
    if find_spec("matplotlib"):
        plot(figures, best_loops, options.results / "serving.png")


def _cell(clients: int, samples: int) -> str:
    return f"{clients} × {samples}"


def _best_rate(figures: Figures, prefix: str, cell: str) -> float:
    return max(cells[cell]["images_per_second"] for name, cells in figures.items() if name.startswith(prefix))


if __name__ == "__main__":
    main()
