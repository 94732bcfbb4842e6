"""What counting costs: latentd beside the same server with nothing counted.

`python -m benchmarks.telemetry`. Both servers stand side by side and are loaded in turn, in rounds whose order
alternates; each figure is the median over the rounds of the ratio within a round. Processor time a request is what the
server and its workers used: other work on the machine moves it less than it moves requests a second.
"""

import argparse
import statistics
from contextlib import ExitStack
from typing import Any

import psutil

from benchmarks import processes, report

CELLS = [(16, 1), (64, 1), (16, 16)]
"""Clients, samples a request."""
_FIGURES = ("requests_per_second", "processor_us")


def measure(server: processes.Server, clients: int, samples: int, seconds: float) -> dict[str, float]:
    """Requests a second, and microseconds of processor time a request."""
    before = _processor_seconds(server)
    seen = processes.load(server, clients=clients, samples=samples, seconds=seconds, warm_up=0)
    used = _processor_seconds(server) - before
    return {
        "requests_per_second": seen["requests_per_second"],
        "processor_us": used / (seen["requests_per_second"] * seconds) * 1e6,
    }


def _processor_seconds(server: processes.Server) -> float:
    process = psutil.Process(server.pid)
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return float(sum(each.user + each.system for each in times))


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="a cell, a server, a round")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    rounds: list[dict[str, dict[str, dict[str, float]]]] = []
    with ExitStack() as stack:
        servers = {
            "counted": stack.enter_context(processes.latentd()),
            "not counted": stack.enter_context(processes.latentd("benchmarks.without_telemetry:Latentd")),
        }
        for server in servers.values():
            processes.load(server, clients=16, samples=1, seconds=1, warm_up=2)
        for turn in range(options.rounds):
            names = sorted(servers, reverse=bool(turn % 2))
            rounds.append(
                {
                    f"{clients} × {samples}": {
                        name: measure(servers[name], clients, samples, options.seconds) for name in names
                    }
                    for clients, samples in CELLS
                }
            )
    rows = []
    for cell in rounds[0]:
        for figure in _FIGURES:
            ratios = [each[cell]["counted"][figure] / each[cell]["not counted"][figure] for each in rounds]
            low, middle, high = statistics.quantiles(ratios, n=4)
            medians = [statistics.median(each[cell][name][figure] for each in rounds) for name in servers]
            rows.append([cell, figure.replace("_", " "), *medians, f"{middle:.3f} ({low:.3f} to {high:.3f})"])
    head = ["clients × samples", "figure", *servers, "ratio: median (quartiles)"]
    results: dict[str, Any] = {"machine": report.machine(), "rounds": rounds}
    report.write("telemetry", results, report.markdown(head, rows))


if __name__ == "__main__":
    main()
