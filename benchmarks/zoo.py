"""Train recipes to their ends and measure them: `python -m benchmarks.zoo [RECIPE ...] [--minutes 30]`.

Runs that were interrupted continue, so that recipes can be trained in pieces of some minutes. The best generator of
each run is evaluated on data from which it did not learn. The table has everything that has been trained so far, and is
written again after each recipe.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import processes, report
from latentd.models.checkpoint import Checkpoint
from latentd.models.errors import LatentdError
from latentd.models.file_names import SUFFIX
from latentd.models.hardware import choose_device, configure_device
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import generate_rows
from latentd.training.evaluation.evaluate import evaluate_generator
from latentd.training.evaluation.held_out import build_evaluator, data_settings
from latentd.training.recipes.files import recipe_names
from latentd.training.recipes.load import load_recipe

_FIRST = ("fashion-dcgan", "fashion-dcgan-conditional")
"""The most important ones. The others follow in the order of their names."""
_RUNS = processes.ROOT / "runs" / "zoo"
_EVALUATION = "zoo.json"
_PICTURES = 10
_MIN_SECONDS = 20.0
_SAVE_SECONDS = 60.0
"""Time to write the checkpoint of a run that is interrupted."""
_EVALUATION_SHARE = 0.2
"""The fraction of the time that is reserved for evaluations."""
_ERROR_LINES = 3


def train(name: str, out: Path, device: str, seconds: float, settings: list[str]) -> str:
    """Train a recipe for at most `seconds`, or until its end. Return why it failed; empty if it did not."""
    command = [sys.executable, "-m", "latentd.training", "train", name, "--out", str(out), "--device", device]
    command += [word for setting in settings for word in ("--set", setting)]
    process = subprocess.Popen(
        command, cwd=processes.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        problem = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.terminate()  # as Ctrl-C: what was learned is written
        try:
            process.communicate(timeout=_SAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        return ""
    except BaseException:
        process.kill()
        raise
    return "" if process.returncode == 0 else " ".join(problem.splitlines()[-_ERROR_LINES:])


def best_of(folder: Path, name: str) -> Path | None:
    """Return the file of a run's best generator: the last one, unless an earlier one was better."""
    files = (folder / f"{name}-best{SUFFIX}", folder / f"{name}{SUFFIX}")
    return next((file for file in files if file.is_file()), None)


def evaluate(file: Path, device: torch.device, rounds: int) -> dict[str, Any]:
    """Return a generator's metrics, with the same metrics of real samples. They are kept beside the file."""
    checkpoint = Checkpoint.read(file)
    kept = file.parent / _EVALUATION
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if (found["version"], found["rounds"]) == (checkpoint.version, rounds):
            return found
    evaluator = build_evaluator(data_settings(checkpoint), None, "embedded")
    results = evaluate_generator(checkpoint.build(device), evaluator, rounds)
    found = {
        "version": checkpoint.version,
        "rounds": rounds,
        "measured_on": evaluator.measured_on,
        "metrics": {name: result.value for name, result in results.items()},
        "floors": {name: result.baseline for name, result in results.items()},
    }
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def describe(file: Path, device: torch.device, rounds: int, pictures: Path) -> dict[str, Any]:
    """Return all that the table says about a generator, and draw some of its samples."""
    checkpoint = Checkpoint.read(file)
    card = checkpoint.card
    generator = checkpoint.build(device)
    samples = generate_rows(generator, seeds_to_rows(card.spec, range(_PICTURES)))
    content, suffix = card.spec.output.preview(samples)
    pictures.mkdir(parents=True, exist_ok=True)
    picture = pictures / f"{card.recipe}.{suffix}"
    picture.write_bytes(content)
    return {
        "data": card.data.name,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "steps": card.steps,
        "planned": card.settings["steps"],
        "hardware": card.hardware,
        "wall_seconds": card.wall_seconds,
        "checkpoint": file.name,
        "picture": f"{pictures.name}/{picture.name}",
        "evaluation": evaluate(file, device, rounds),
    }


def table(recipes: dict[str, dict[str, Any]]) -> str:
    """Return all recipes as Markdown. The figures in brackets are those of real samples."""
    rows = []
    for name, found in recipes.items():
        if "problem" in found:
            rows.append([name, "", "", "", "", "", " ".join(found["problem"].replace("|", "/").split()), ""])
            continue
        metrics, floors = found["evaluation"]["metrics"], found["evaluation"]["floors"]
        figures = ", ".join(f"{key} {metrics[key]:.4g} ({floors[key]:.4g})" for key in metrics if " " not in key)
        steps = f"{found['steps']} of {found['planned']}"
        hours = round(found["wall_seconds"] / 3600, 2)
        samples = f"[samples]({found['picture']})"
        rows.append([name, found["data"], found["parameters"], steps, found["hardware"], hours, figures, samples])
    head = ["recipe", "data", "parameters", "steps", "hardware", "hours", "figures (of real samples)", ""]
    return report.markdown(head, rows)


def ordered(names: list[str]) -> list[str]:
    """Return `names`, or all recipes whose data needs no path, the most important first."""
    known = [name for name in recipe_names() if load_recipe(name)[1].data.name != "image-folder"]
    return names or [*_FIRST, *(name for name in known if name not in _FIRST)]


def main() -> None:
    """Train and measure one recipe after another, until the time is over."""
    parser = report.parser(__doc__)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="default: all that need no data of yours")
    parser.add_argument("--minutes", type=float, default=60.0, help="for all recipes together")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--runs", type=Path, default=_RUNS, help="folder of the runs, which are continued")
    parser.add_argument("--set", dest="settings", action="append", metavar="KEY=VALUE", help="change a setting of all")
    parser.set_defaults(rounds=3, settings=[])
    options = report.parse(parser, recipes=["ring-gan"], settings=["steps=20"], rounds=1)
    if options.smoke:
        options.runs = options.results / "runs"
    device = choose_device(options.device)
    configure_device(device)
    machine, end = report.machine(), time.monotonic() + 60 * options.minutes
    recipes: dict[str, dict[str, Any]] = {}
    for name in ordered(options.recipes):
        folder = (options.runs / name).absolute()
        seconds = (end - time.monotonic()) * (1 - _EVALUATION_SHARE) - _MIN_SECONDS
        problem = ""
        if seconds > 0:
            problem = train(name, folder, device.type, seconds, options.settings)
        file = best_of(folder, name)
        if file is None and not problem:
            continue
        try:
            recipes[name] = {"problem": problem}
            if file is not None and not problem:
                recipes[name] = describe(file, device, options.rounds, options.results / "zoo")
        except LatentdError as error:  # its data is gone, for one
            recipes[name] = {"problem": str(error)}
        report.write(options.results, "zoo", {"machine": machine, "recipes": recipes}, table(recipes))
    if not recipes:
        sys.exit("there was no time for a recipe")
    sys.exit(any("problem" in found for found in recipes.values()))


if __name__ == "__main__":
    main()
