"""Run directories written by hand, for tests of what reads them."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

FACTS: dict[str, Any] = {
    "name": "ring-gan",
    "description": "Eight Gaussians on a circle",
    "settings": {"steps": 400, "generator": {"latent": {"dim": 2}}},
    "seed": 0,
    "status": "finished",
    "steps": 400,
    "step": 400,
    "wall_seconds": 71.5,
    "chosen_by": "divergence",
    "floors": {"divergence": 0.01},
}
METRICS: list[dict[str, Any]] = [
    {"step": 100, "seconds": 1.0, "losses": {"generator": 0.9, "discriminator": 1.2}},
    {"step": 200, "seconds": 2.0, "vitals": {"diversity": 0.3, "distance": 0.1, "movement": 0.2, "certainty": 0.9}},
    {"step": 200, "seconds": 2.0, "alarm": {"kind": "modes lost", "message": "modes lost: few; try to restrain it"}},
    {"step": 400, "seconds": 4.0, "figures": {"divergence": 0.03, "modes": 8.0}},
]


def write_run(folder: Path, metrics: Iterable[dict[str, Any]] = METRICS, **facts: Any) -> Path:
    """Write the directory of a small finished run. `facts` replace those of its run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(FACTS | facts))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return folder


def write_pictures(folder: Path, greys: dict[int, int]) -> dict[int, bytes]:
    """Write a picture of one grey for each step. Return step → content of the file."""
    return {step: _write_picture(folder / "samples" / f"{step:08d}.png", grey) for step, grey in greys.items()}


def write_points(folder: Path, step: int, content: dict[str, Any]) -> None:
    """Write a file of points for a step."""
    path = folder / "samples" / f"{step:08d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def _write_picture(path: Path, grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (16, 8), grey).save(buffer, "PNG")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()
