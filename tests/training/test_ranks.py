"""Two ranks on one machine, started by torchrun, that communicate over gloo."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from latentd.models.checkpoint import Checkpoint
from latentd.training.build import draw_latents
from latentd.training.run.lock import locked
from latentd.training.world import World
from tests.conftest import eventually, free_port, points_spec
from tests.training.one_rank import BATCH, train_points
from tests.training.test_idx import write_idx
from tests.training.test_resume import ENCODED, EVERYTHING, IMAGES

TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]


@pytest.fixture
def torchrun() -> list[str]:
    return [*TORCHRUN, "--master-port", str(free_port()), "-m"]


def test_latents_do_not_depend_on_the_number_of_ranks() -> None:
    spec, cpu = points_spec(), torch.device("cpu")
    whole = draw_latents(spec, 0, cpu, World(), BATCH, 7, "generator")
    parts = [draw_latents(spec, 0, cpu, World(rank, 4), BATCH // 4, 7, "generator") for rank in range(4)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(("steps", "dtype", "relative"), [(20, "float64", 1e-8), (1, "float32", 1e-5)])
def test_two_ranks_learn_the_same_as_one(
    steps: int, dtype: str, relative: float, tmp_path: Path, torchrun: list[str]
) -> None:
    command = [*torchrun, "tests.training.one_rank", str(tmp_path), str(steps), dtype]
    subprocess.run(command, check=True, timeout=300)
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    alone = train_points(World(), steps, getattr(torch, dtype))
    assert first.keys() == second.keys() == alone.keys()
    assert any(name.endswith(".grad") for name in alone)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        assert (first[name] - value).abs().max() <= relative * value.abs().max(), name


def train_command(torchrun: list[str], out: Path, *settings: str) -> list[str]:
    changes = [word for setting in settings for word in ("--set", setting)]
    return [*torchrun, "latentd.training", "train", "gaussian-gan", "--out", str(out), *changes]


def test_a_lost_rank_ends_the_run_and_the_run_resumes(tmp_path: Path, torchrun: list[str]) -> None:
    whole = train_command(torchrun, tmp_path / "whole", "steps=400")
    done = subprocess.run(whole, check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.count("gaussian-gan.safetensors: version") == 1  # one rank writes and prints
    assert {path.name for path in (tmp_path / "whole").glob("*.safetensors")} == {
        "gaussian-gan.safetensors",
        "gaussian-gan.surface.safetensors",
    }

    torn = train_command(torchrun, tmp_path / "torn", "steps=400", "save_seconds=0.05")
    process = subprocess.Popen(torn, stderr=subprocess.PIPE, text=True)
    eventually(lambda: any((tmp_path / "torn").glob("state/*.safetensors")))
    ranks = psutil.Process(process.pid).children()
    ranks[1].kill()
    assert "rank 0 lost another of the 2 processes" in process.communicate(timeout=300)[1]
    assert process.returncode != 0
    assert not any(rank.is_running() for rank in ranks)
    assert not (tmp_path / "torn" / "gaussian-gan.safetensors").exists()

    again = subprocess.run(torn, check=True, capture_output=True, text=True, timeout=300)
    assert again.stderr.count("resumed at step") == 1
    versions = [Checkpoint.read(tmp_path / name / "gaussian-gan.safetensors").version for name in ("whole", "torn")]
    assert versions[0] == versions[1]

    alone = [sys.executable, *train_command(["-m"], tmp_path / "torn", "steps=410", "save_seconds=0.05")]
    other_size = subprocess.run(alone, check=True, capture_output=True, text=True, timeout=300)
    assert "resumed at step 400" in other_size.stderr
    assert Checkpoint.read(tmp_path / "torn" / "gaussian-gan.safetensors").card.steps == 410


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fashion-dcgan", (*IMAGES[1:], *EVERYTHING)),
        ("fashion-autoencoder", ENCODED[1:]),
        ("fashion-vae", (*ENCODED[1:], "microbatches=2")),
        ("fashion-gaussian", ("generator.latent.dim=16", "microbatches=2")),
    ],
)
def test_every_algorithm_resumes_over_two_ranks_to_the_same_bits(
    name: str, settings: tuple[str, ...], tmp_path: Path, torchrun: list[str]
) -> None:
    write_idx(tmp_path / "data", count=40)
    command = [*torchrun, "latentd.training", "train", name, "--data", str(tmp_path / "data")]
    steady = () if name == "fashion-gaussian" else ("schedule.decay=none",)
    for folder, ends in (("whole", (6,)), ("torn", (3, 6))):
        for steps in ends:
            changes = [f"--set={setting}" for setting in (*settings, *steady, "batch_size=16", f"steps={steps}")]
            out = ["--out", str(tmp_path / folder)]
            subprocess.run([*command, *changes, *out], check=True, capture_output=True, timeout=300)
    versions = [Checkpoint.read(tmp_path / folder / f"{name}.safetensors").version for folder in ("whole", "torn")]
    assert versions[0] == versions[1]


def test_ranks_are_refused_the_folder_of_a_running_run(tmp_path: Path, torchrun: list[str]) -> None:
    with locked(tmp_path):
        refused = subprocess.run(
            train_command(torchrun, tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert refused.returncode != 0
    assert refused.stderr.count(f"error: another run is at work in {tmp_path} (process {os.getpid()} on ") == 1


def test_a_batch_that_cannot_be_split_over_ranks_is_refused(tmp_path: Path, torchrun: list[str]) -> None:
    refused = subprocess.run(
        train_command(torchrun, tmp_path, "batch_size=255"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert refused.returncode != 0
    assert refused.stderr.count("error: batch_size=255 (of all ranks together) is not a multiple of ranks=2") == 1
