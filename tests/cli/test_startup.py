"""What answers at once: a fresh interpreter loads for it neither PyTorch nor anything else that takes seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.models.file_names import SHIPPED
from tests.training.run_directories import write_run

SLOW = {"torch", "bentoml", "av", "imagecodecs", "PIL.Image", "tensorboardX", "ray", "httpx", "scipy", "starlette"}
NEEDED_BY_WORK = SLOW | {"numpy", "pydantic", "rich.console"}
PROGRAM = """
import json, os, pathlib, sys
sys.argv[0] = "latentd"
from latentd.cli.main import latentd, main
status = 0
try:
    main()
except SystemExit as ended:
    status = ended.code
pathlib.Path(os.environ["LOADED"]).write_text(json.dumps([status, sorted(sys.modules)]))
"""


def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, set[str]]:
    """Return the exit status, what was printed, and the modules that were loaded."""
    loaded = folder / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env=os.environ | {"LOADED": str(loaded), "PYTHONPATH": os.pathsep.join(sys.path)} | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    status, modules = json.loads(loaded.read_text())
    return status, done.stdout + done.stderr, set(modules)


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["--help"], 0, "Write samples of CHECKPOINT into a folder"),
        (["--version"], 0, "latentd, version "),
        (["trian"], 2, "error: there is no command 'trian' (did you mean train?)"),
        (["train", "--help"], 0, "--dry-run"),
        (["train", "ring-gan", "--sead", "3"], 2, "error: there is no option --sead (did you mean --seed"),
        (["train", "ring-gna"], 2, "error: there is no recipe 'ring-gna' (did you mean ring-gan"),
        (["serve", "--port", "99999"], 2, "error: invalid value for '--port': 99999 is not in the range"),
    ],
)
def test_help_and_mistakes_load_no_library_that_the_work_needs(
    arguments: list[str], status: int, shown: str, tmp_path: Path
) -> None:
    ended, printed, modules = run(tmp_path, *arguments)
    assert (ended, shown in printed) == (status, True), printed
    assert not modules & NEEDED_BY_WORK


def test_the_help_of_every_command_loads_no_library_that_its_work_needs(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "    main()",
        "    from click.testing import CliRunner\n"
        "    for name in latentd.commands:\n"
        "        assert CliRunner().invoke(latentd, [name, '--help']).exit_code == 0, name",
    )
    loaded = tmp_path / "loaded.json"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"LOADED": str(loaded)}, timeout=300, check=True)
    assert not set(json.loads(loaded.read_text())[1]) & NEEDED_BY_WORK


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["tr"], "train"),
        (["train", "--dr"], "--dry-run"),
        (["train", "ring"], "ring-gan"),
        (["recipes", "--h"], "--help"),
    ],
)
def test_completion_loads_no_library_that_the_work_needs(words: list[str], completed: str, tmp_path: Path) -> None:
    printed, modules = complete(tmp_path, words)
    assert f"plain,{completed}" in printed
    assert not modules & NEEDED_BY_WORK


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["show", "fashion-dcgan-c"], "fashion-dcgan-conditional"),
        (["show", "mi"], "mine"),
        (["bulk", "ring-gan", "--form", "w"], "webdataset"),
    ],
)
def test_names_of_models_are_completed_without_pytorch(words: list[str], completed: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    shutil.copy(SHIPPED / "ring-gan.safetensors", tmp_path / "runs" / "mine")
    printed, modules = complete(tmp_path, words)
    assert f"plain,{completed}" in printed
    assert not modules & SLOW


def complete(folder: Path, words: list[str]) -> tuple[list[str], set[str]]:
    """Return the lines that bash gets for the last of the words, and the modules that were loaded."""
    typed = {"COMP_WORDS": " ".join(["latentd", *words]), "COMP_CWORD": str(len(words))}
    _, printed, modules = run(folder, _LATENTD_COMPLETE="bash_complete", **typed)
    return printed.splitlines(), modules


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["recipes"], "fashion-dcgan-conditional"),
        (["runs"], "runs/mine"),
        (["runs", "--json"], '"folder": "runs/mine"'),
        (["show", "ring-gan"], '"name": "ring-gan"'),
        (["show", "fashion-dcgna"], "error: there is no model 'fashion-dcgna' (did you mean fashion-dcgan"),
    ],
)
def test_lists_and_cards_are_shown_without_pytorch(arguments: list[str], shown: str, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "mine")
    status, printed, modules = run(tmp_path, *arguments)
    assert (status, shown in printed) == (2 if shown.startswith("error") else 0, True), printed
    assert not modules & SLOW
