"""Imports on use: a fresh interpreter loads torch and the encoders only if it needs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.models.errors import LatentdError

ROOT = Path(__file__).parents[2]
ENCODERS = {"av", "imagecodecs", "PIL.Image"}
COMPILER = {"torch._dynamo", "torch._inductor"}
SHIPPED = str(ROOT / "models" / "checkpoints" / "fashion-dcgan-conditional.safetensors")


def loaded(script: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running `script`."""
    script = f"{script}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "script",
    [
        "import latentd",
        f"from pathlib import Path; from latentd.models import card; card.read_header(Path({SHIPPED!r}))",
        "import latentd.models.latents, latentd.models.interpolation, latentd.models.provenance",
        "import latentd.models.encoding.animation, latentd.models.encoding.metadata",
        "from latentd.service.errors import ApiError",
    ],
)
def test_a_spec_is_read_without_torch_and_encoders(script: str) -> None:
    assert not loaded(script) & (ENCODERS | COMPILER | {"torch"})


def test_a_generator_runs_without_encoders_and_compiler() -> None:
    script = f"""
from pathlib import Path
from latentd.models.checkpoint import Checkpoint
from latentd.models.fingerprint import fingerprint_of
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import generate_rows
checkpoint = Checkpoint.read(Path({SHIPPED!r}))
generator = checkpoint.build()
generate_rows(generator, seeds_to_rows(generator.spec, [0]))
"""
    modules = loaded(script)
    assert "torch" in modules
    assert not modules & (ENCODERS | COMPILER)


def test_errors_for_users_share_a_base_class() -> None:
    import latentd.cli.bulk.shard
    import latentd.service.errors
    import latentd.training.run.runner  # noqa: F401  # with all of training

    names = {error.__name__ for error in _subclasses(LatentdError)}
    assert names >= {
        "ApiError",
        "BulkError",
        "CheckpointError",
        "DataError",
        "OutputError",
        "RecipeError",
        "StateError",
        "TrainingDiverged",
        "WorldError",
    }


def _subclasses(error: type[Exception]) -> list[type[Exception]]:
    return [each for direct in error.__subclasses__() for each in (direct, *_subclasses(direct))]
