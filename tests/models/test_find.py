"""Which file a path or a name means."""

from pathlib import Path

import pytest
import torch

import latentd
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.errors import UsageError
from latentd.models.families import build_generator
from latentd.models.file_names import SHIPPED
from latentd.models.find import UnknownModelError, find_checkpoint
from latentd.models.suggestions import did_you_mean
from tests.conftest import card_of, points_spec


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A run of a recipe that a shipped model has, too: its last generator and its best one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    for name, seed in (("ring-gan-best", 2), ("ring-gan", 1)):
        torch.manual_seed(seed)
        tensors = build_generator(points_spec()).state_dict()
        written = write_checkpoint(tmp_path / "runs" / "mine" / f"{name}.safetensors", card_of(points_spec()), tensors)
    return written


def test_paths_and_names_lead_to_files(run: Checkpoint) -> None:
    file = Path("runs/mine/ring-gan.safetensors")
    for name in (file, str(file), Path("runs/mine"), "runs/mine", "mine"):
        assert find_checkpoint(name) == file
    assert find_checkpoint("ring-gan") == SHIPPED / "ring-gan.safetensors"


def test_a_version_chooses_among_the_files_of_a_name(run: Checkpoint) -> None:
    best, shipped = Path("runs/mine/ring-gan-best.safetensors"), SHIPPED / "ring-gan.safetensors"
    best_version, shipped_version = (Checkpoint.read(path).version for path in (best, shipped))
    assert find_checkpoint(f"mine@{best_version}") == best
    assert find_checkpoint(f"ring-gan@{shipped_version}") == shipped
    assert latentd.load(f"ring-gan@{run.version}", device="cpu").version == run.version
    with pytest.raises(UnknownModelError) as refused:
        find_checkpoint("mine@000000000000")
    assert str(refused.value) == f"mine is here in version {best_version}, {run.version}, not in '000000000000'"


def test_what_is_not_found_is_named_with_what_there_is(run: Checkpoint) -> None:
    with pytest.raises(UsageError, match=r"no model 'Ring_gan' \(did you mean ring-gan\?\); give a .* fashion-dcgan, "):
        latentd.load("Ring_gan")
    with pytest.raises(UnknownModelError, match="there is no model 'nothing-like-it'; give a "):
        latentd.load("nothing-like-it")


def test_suggestions_ignore_case_and_long_texts() -> None:
    assert did_you_mean("DRES", ("Dress", "Bag")) == " (did you mean Dress?)"
    assert did_you_mean("bag", ("Bag", "Dress")) == " (did you mean Bag?)"
    assert did_you_mean("ring-gna", ("grid-gan", "ring-gan", "gaussian")) == " (did you mean ring-gan or grid-gan?)"
    assert did_you_mean("zebra", ("Dress", "Bag")) == ""
    assert did_you_mean("Dress" * 1000, ("Dress" * 1000,)) == ""
