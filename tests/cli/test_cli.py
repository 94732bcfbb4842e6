"""The commands in processes of their own, with real files."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentd.cli.main import main
from latentd.models.checkpoint import Checkpoint
from latentd.models.directions import Directions
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.image import to_pixels
from latentd.models.sampling import generate_rows
from latentd.training.recipes.files import recipe_names
from tests.conftest import image_spec, points_spec

LATENTD = Path(sys.executable).with_name("latentd")
SHORT_RING = ["ring-gan", "--set", "steps=20"]


def latentd(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LATENTD, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_recipes_are_listed() -> None:
    listed = latentd("recipes")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == recipe_names()


def test_dry_run_prints_what_would_be_done(tmp_path: Path) -> None:
    done = latentd("train", "ring-gan", "--dry-run", "--set", "steps=5", "--seed", "3", cwd=tmp_path)
    plan = json.loads(done.stdout)
    assert plan["time"]["seconds"] >= 0  # rounded, so 0 on a fast machine
    assert plan["time"]["measured"].startswith("4 steps on noise")
    assert plan["checkpoint"] == "runs/ring-gan/ring-gan.safetensors"
    assert (plan["recipe"]["steps"], plan["seed"]) == (5, 3)
    assert plan["parameters"]["generator"] > 0
    assert not list(tmp_path.iterdir())


def test_train_and_show(tmp_path: Path) -> None:
    done = latentd("train", *SHORT_RING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "runs" / "ring-gan" / "ring-gan.safetensors"
    assert "training ring-gan: 20 of 20" in done.stderr
    assert "\nevaluating the generator\n" in done.stderr
    card = json.loads(latentd("show", path).stdout)
    assert card["version"] in done.stdout
    assert (card["steps"], card["images_seen"], card["seed"]) == (20, 20 * card["settings"]["batch_size"], 0)
    assert card["data"] == {"name": "ring", "size": None, "sha256": None, "licence": "CC0-1.0"}
    assert {"modes", "high_quality"} < card["metrics"].keys() == card["floors"].keys()


def test_runs_of_one_recipe_have_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        done = latentd("train", *SHORT_RING, "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"report: runs/{name}/report.html" in done.stderr
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {"one", "two"}
    last = done.stderr[done.stderr.rindex("report: ") :].splitlines()
    assert "evaluate: latentd evaluate runs/two" in last
    assert "promote:  latentd promote runs/two" in last
    assert (tmp_path / "runs" / "two" / "report.html").is_file()
    promoted = latentd("promote", "runs/two", "--force", cwd=tmp_path)  # it is worse than the shipped one
    assert promoted.returncode == 0, promoted.stderr
    assert latentd("evaluate", "runs/two", "--rounds", "1", cwd=tmp_path).returncode == 0


def test_ctrl_c_saves_the_generator(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [LATENTD, "train", "ring-gan", "--out", tmp_path, "--set", "steps=1000000"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f"report: {tmp_path}/report.html\n"
    assert "training ring-gan" in process.stderr.readline()  # this line comes after some seconds of steps
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=300)[1]
    assert process.returncode == 130, rest
    assert "the generator is saved in" in rest
    steps = Checkpoint.read(tmp_path / "ring-gan.safetensors").card.steps
    assert 0 < steps < 1000000
    assert f"stopped after {steps} of 1000000 steps" in rest


@pytest.mark.parametrize("command", [[LATENTD], ["-m", "latentd.training"]])
def test_ctrl_c_while_libraries_load_is_quiet(command: list[str | Path], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *command, "train", "ring-gan"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    imported = ""
    while not imported.startswith("torch."):  # the first of many
        line = process.stderr.readline()
        assert line
        imported = line.rpartition("|")[2].strip()
    process.send_signal(signal.SIGINT)
    shown, rest = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT  # a shell calls it 130
    assert shown == ""
    assert all(line.startswith("import time:") for line in rest.splitlines())


def test_sample_writes_the_grid_that_the_model_draws(tmp_path: Path, write: Callable[..., Checkpoint]) -> None:
    spec = image_spec(conditional=True)
    checkpoint = write(spec)
    path = tmp_path / "model.safetensors"
    done = latentd("sample", path, "--seeds", "0-2,9", "-o", tmp_path / "grid.png")
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    assert picture.shape == (56, 56)
    expected = to_pixels(generate_rows(checkpoint.build(), seeds_to_rows(spec, [0, 1, 2, 9])))
    assert np.array_equal(picture[28:, 28:], expected[3, ..., 0])

    assert latentd("sample", path, "--seeds", "5", "--label", "owl", "-o", tmp_path / "owl.npy").returncode == 0
    assert latentd("sample", path, "--seeds", "5", "--label", "2", "-o", tmp_path / "two.npy").returncode == 0
    owl = np.load(io.BytesIO((tmp_path / "owl.npy").read_bytes()))
    assert owl.shape == (1, 1, 28, 28)
    assert np.array_equal(owl, np.load(tmp_path / "two.npy"))


def test_directions_are_found_and_written_beside(tmp_path: Path, write: Callable[..., Checkpoint]) -> None:
    checkpoint = write(image_spec())
    path = tmp_path / "model.safetensors"
    done = latentd("directions", path, "--samples", "256", "--seed", "5")
    assert done.returncode == 0, done.stderr
    found = Directions.read(path, checkpoint.version, checkpoint.card.spec)
    assert found.version in done.stdout
    assert (found.card.samples, found.card.seed) == (256, 5)
    assert all(f"\n{name} " in done.stdout for name in found.names)
    assert "closed-form-1" in found.names
    assert "computing samples: 256 of 256" in done.stderr
    assert "looking for directions\n" in done.stderr
    assert f"drawing previews: {len(found.names)} of " in done.stderr


def test_directions_do_not_replace_files_that_git_tracks(tmp_path: Path, write: Callable[..., Checkpoint]) -> None:
    write(image_spec())
    beside = tmp_path / "model.directions.safetensors"
    beside.write_bytes(b"tracked")
    for command in (["init", "-q"], ["add", beside.name]):
        subprocess.run(["/usr/bin/env", "git", *command], cwd=tmp_path, check=True)
    refused = latentd("directions", tmp_path / "model.safetensors", "--samples", "256")
    assert (refused.returncode, beside.read_bytes()) == (2, b"tracked")
    advice = "replace it with --force, or copy model.safetensors to another folder first"
    assert refused.stderr == f"error: {beside} is tracked by git; {advice}\n"
    assert latentd("directions", tmp_path / "model.safetensors", "--samples", "256", "--force").returncode == 0
    assert beside.read_bytes() != b"tracked"


def test_directions_do_not_replace_files_that_come_with_latentd(tmp_path: Path) -> None:
    refused = latentd("directions", "ring-gan", cwd=tmp_path)
    assert refused.returncode == 2
    assert "ring-gan.directions.safetensors comes with latentd; replace it with --force" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["train", "nope"], 2, "there is no recipe 'nope'; known are "),
        (["train", "nope.toml"], 2, "there is no recipe 'nope.toml'"),
        (["train", "ring-gan", "--set", "stepz=1"], 2, "stepz: unknown field"),
        (
            ["train", "ring-gan", "--set", "steps=50", "--set", "schedule.warmup=51"],
            2,
            "schedule.warmup: 51 is more than steps=50",
        ),
        (["train", "ring-gan", "--data", ".", "--out", "{folder}"], 2, "leave out `data` or `--data`"),
        (["train", "ring-gan", "--name", "a/b"], 2, "name: 'a/b' cannot be a model's name"),
        (["train", "ring-gan", "--name", "a", "--out", "{folder}"], 2, "give one"),
        (["train", "ring-gan", "--seed", "-1"], 2, "--seed"),
        (["train", "image-folder-dcgan", "--out", "{folder}"], 2, "`data` or `--data PATH`"),
        (["train", "ring-gan", "--out", "{model}/below"], 1, "cannot be written to"),
        (["show", "missing.safetensors"], 2, "there is no file missing.safetensors"),
        (["show", "pyproject.toml"], 2, "name ends in .safetensors"),
        (["show", "{folder}/dcgan.pth"], 2, "dcgan.pth: by its name this is a pickled file, which can run code"),
        (["show", "{folder}/empty"], 2, "/empty has no .safetensors file; a run saves one when"),
        (["show", "{folder}/other.safetensors"], 1, "not a complete safetensors file"),
        (["show", "x" * 5000], 2, "cannot be read: File name too long"),
        (["train", "x" * 5000], 2, "there is no recipe"),
        (["directions", "{model}", "--samples", "3"], 2, "--samples"),
        (["directions", "pyproject.toml"], 2, "name ends in .safetensors"),
        (["sample", "{model}", "--seeds", "3-1", "-o", "x.npy"], 2, "'3-1' is not a seed"),
        (["sample", "{model}", "--seeds", "4294967296", "-o", "x.npy"], 2, "is not a seed"),
        (["sample", "{model}", "--seeds", "9" * 5000, "-o", "x.npy"], 2, "is not a seed"),
        (["sample", "{model}", "--seeds", "0-4096", "-o", "x.npy"], 2, "at most 4096"),
        (["sample", "{model}", "--label", "cat", "-o", "x.npy"], 2, "has no classes"),
        (["sample", "{model}", "-o", "x.png"], 2, "must end in one of .npy"),
        (["sample", "{model}", "-o", "missing/x.npy"], 1, "cannot be written"),
    ],
)
def test_mistakes_are_named_in_one_line(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    write: Callable[..., Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(points_spec())
    (tmp_path / "empty").mkdir()
    (tmp_path / "dcgan.pth").touch()
    (tmp_path / "other.safetensors").write_bytes(b"no tensors")
    filled = [argument.format(model=tmp_path / "model.safetensors", folder=tmp_path) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["latentd", *filled])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().err
    assert (ended.value.code, shown.splitlines()[0].startswith("error: "), said in shown) == (status, True, True), shown
    assert "Traceback" not in shown


def test_progress_is_a_bar_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [LATENTD, "train", "ring-gan", "--set", "steps=300", "--out", tmp_path],
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "160"},
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end was closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert process.wait(timeout=300) == 0
    text = shown.decode()
    assert "━" in text
    assert "steps/s" in text
    assert "D " in text
    assert "300/300" in text
