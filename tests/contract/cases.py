"""The requests whose answers are recorded."""

from dataclasses import dataclass, field
from typing import Any

from tests.contract.exact import IMAGE, POINTS

TOKEN, METRICS_TOKEN = "contract-0123456789", "metrics-0123456789"
SETTINGS = {
    "LATENTD_TOKENS": f"tester {TOKEN}",
    "LATENTD_METRICS_TOKEN": METRICS_TOKEN,
    "LATENTD_MAX_BODY": "65536",
    "LATENTD_MAX_SAMPLES": "64",
    "LATENTD_MAX_FRAMES": "64",
}
DCGAN, CONDITIONAL, RING = "fashion-dcgan", "fashion-dcgan-conditional", "ring-gan"
NPY = "application/x-npy"


@dataclass(frozen=True)
class Case:
    """A request. Without a body it is a GET."""

    path: str
    body: Any = None
    accept: str = "*/*"
    headers: dict[str, str] = field(default_factory=dict)
    method: str | None = None


def _ask(path: str, accept: str = "*/*", model: str = IMAGE, **fields: Any) -> Case:
    return Case(path, {"model": model} | fields, accept)


_WAY = {"keyframes": [{"seed": 7}, {"seed": 8}], "steps": 3}
_TURNS = {"keyframes": [{"seed": 7}, {"latent": [0.5, -1, 2, 0.25, -0.5, 1, -2, 0.125]}, {"seed": 9}], "steps": 4}
_FILM = _WAY | {"layout": "animation", "fps": 10, "scale": 2}

EXACT = {
    "generate-png": _ask("/generate", num_samples=2, seed=7),
    "generate-raw-png": _ask("/generate", "image/png", seed=7),
    "generate-raw-webp": _ask("/generate", "image/webp", seed=7),
    "generate-raw-jpeg": _ask("/generate", "image/jpeg", seed=7),
    "generate-npy": _ask("/generate", NPY, seeds=[3, 1, 4294967295]),
    "generate-npy-in-json": _ask("/generate", seed=3, format="npy"),
    "generate-grid": _ask("/generate", "image/png", num_samples=5, seed=3),
    "generate-grid-in-json": _ask("/generate", num_samples=5, seed=3, layout="grid", format="webp"),
    "generate-truncated": _ask("/generate", NPY, seed=7, num_samples=2, truncation=0.7),
    "generate-truncated-png": _ask("/generate", seed=7, truncation=0.5),
    "generate-latents": _ask("/generate", latents=[[0.5, -1, 2, 0.25, -0.5, 1, -2, 0.125], [1, 0, 0, 0, 0, 0, 0, 0]]),
    "generate-directions": _ask("/generate", seed=7, num_samples=2, directions={"first": 1.5}),
    "generate-points": _ask("/generate", model=POINTS, seed=7, num_samples=3),
    "generate-points-npy": _ask("/generate", NPY, model=POINTS, seed=7, num_samples=3),
    "interpolate-frames": _ask("/interpolate", **_TURNS),
    "interpolate-slerp": _ask("/interpolate", NPY, **_TURNS),
    "interpolate-lerp": _ask("/interpolate", NPY, **_TURNS, method="lerp", loop=True),
    "interpolate-smooth": _ask("/interpolate", NPY, **_TURNS, easing="smooth"),
    "interpolate-uniform": _ask("/interpolate", model=POINTS, **_WAY),
    "interpolate-grid": _ask("/interpolate", "image/png", **_WAY, layout="grid"),
    "interpolate-gif": _ask("/interpolate", "image/gif", **_FILM),
    "interpolate-apng": _ask("/interpolate", "image/apng", **_FILM),
    "interpolate-webp": _ask("/interpolate", "image/webp", **_FILM),
    "interpolate-mp4": _ask("/interpolate", "video/mp4", **_FILM),
    "interpolate-lanczos": _ask("/interpolate", format="gif", **_FILM, filter="lanczos"),
    "interpolate-points-gif": _ask("/interpolate", "image/gif", model=POINTS, **_WAY, layout="animation"),
    "interpolate-events": _ask("/interpolate", "text/event-stream", **_WAY),
    "interpolate-film-events": _ask("/interpolate", "text/event-stream", **_FILM, format="gif"),
    "mix": _ask("/mix", sources=[{"seed": 1, "weight": 3}, {"seed": 2, "weight": -1}]),
    "mix-npy": _ask("/mix", NPY, sources=[{"seed": 1}, {"seed": 2}, {"seed": 3, "weight": 0.5}], truncation=0.5),
    "neighbors": _ask("/neighbors", seed=5, neighbor_seed=9, num_samples=3, angle=30),
    "neighbors-npy": _ask("/neighbors", NPY, seed=5, neighbor_seed=9, num_samples=3),
    "openai": _ask("/v1/images/generations", prompt="", n=2, seed=4, size="16x16"),
    "kserve": Case(
        f"/v2/models/{IMAGE}/infer",
        {"id": "1", "inputs": [{"name": "seeds", "datatype": "UINT32", "shape": [2], "data": [4, 5]}]},
    ),
    "kserve-binary": Case(
        f"/v2/models/{POINTS}/infer",
        {
            "inputs": [{"name": "latents", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -0.25]}],
            "outputs": [{"name": "samples", "parameters": {"binary_data": True}}],
        },
    ),
}
"""Requests to models whose arithmetic is exact on every machine."""

SHIPPED = {
    "dcgan": _ask("/generate", model=DCGAN, seed=7, num_samples=2),
    "dcgan-truncated": _ask("/generate", model=DCGAN, seed=7, truncation=0.5),
    "dcgan-direction": _ask("/generate", model=DCGAN, seed=7, directions={"trouser": 2.0}),
    "dcgan-between": _ask("/interpolate", model=DCGAN, **_WAY),
    "dcgan-neighbor": _ask("/neighbors", model=DCGAN, seed=5, neighbor_seed=9, num_samples=1),
    "dcgan-mix": _ask("/mix", model=DCGAN, sources=[{"seed": 1}, {"seed": 2}]),
    "conditional": _ask("/generate", model=CONDITIONAL, seed=3),
    "conditional-labels": _ask("/generate", model=CONDITIONAL, seed=3, num_samples=2, label=["Dress", 8]),
    "conditional-blend": _ask("/generate", model=CONDITIONAL, seed=3, label={"Dress": 0.75, "Bag": 0.25}),
    "conditional-openai": _ask("/v1/images/generations", model=CONDITIONAL, prompt="a Bag", seed=3),
    "ring": _ask("/generate", model=RING, seed=7, num_samples=4),
}
"""Requests to the shipped models. Their last bits depend on the machine."""

REFUSED = {
    "unknown-field": _ask("/generate", colour=1),
    "out-of-range": _ask("/generate", num_samples=0),
    "too-many": _ask("/generate", num_samples=65),
    "not-finite": _ask("/generate", truncation="NaN"),
    "bad-label": _ask("/generate", model=CONDITIONAL, label="Boat"),
    "wrong-length": _ask("/generate", latents=[[1, 2]]),
    "unknown-direction": _ask("/generate", directions={"second": 1}),
    "zero-weights": _ask("/mix", sources=[{"seed": 1, "weight": 0}]),
    "one-keyframe": _ask("/interpolate", keyframes=[{"seed": 1}]),
    "too-many-frames": _ask("/interpolate", **_WAY | {"steps": 65}),
    "bad-timeout": Case("/generate", {"seed": 1}, headers={"X-Request-Timeout": "soon"}),
    "too-late": Case("/generate", {"seed": 1}, headers={"X-Request-Timeout": "1e-9"}),
    "unknown-model": _ask("/generate", model="nobody"),
    "unknown-version": _ask("/generate", model=f"{IMAGE}@000000000000"),
    "no-model": Case("/models/nobody"),
    "no-surface": Case(f"/models/{IMAGE}/surface"),
    "no-path": Case("/nowhere"),
    "wrong-method": Case("/models", {}),
    "wrong-accept": _ask("/generate", "video/mp4"),
    "wrong-body": Case("/generate", {"seed": 1}, headers={"Content-Type": "text/xml"}),
    "compressed-body": Case("/generate", {"seed": 1}, headers={"Content-Encoding": "gzip"}),
    "large-body": Case("/generate", {"model": "x" * 65536}),
    "no-token": Case("/generate", {"seed": 1}, headers={"Authorization": ""}),
    "wrong-token": Case("/generate", {"seed": 1}, headers={"Authorization": "Bearer wrong-0123456789"}),
    "metrics-without-token": Case("/metrics", headers={"Authorization": ""}),
    "metrics-wrong-token": Case("/metrics"),
    "openai-prompt": _ask("/v1/images/generations", model=CONDITIONAL, prompt="a boat"),
    "openai-size": _ask("/v1/images/generations", prompt="", size="9x9"),
    "openai-no-token": Case("/v1/models", headers={"Authorization": ""}),
    "kserve-input": Case(f"/v2/models/{IMAGE}/infer", {"inputs": []}),
    "kserve-model": Case("/v2/models/nobody"),
}
"""Requests that are refused."""

SHOWN = {
    path: Case(path)
    for path in (
        "/models",
        f"/models/{CONDITIONAL}",
        f"/models/{DCGAN}/directions",
        f"/models/{RING}/surface",
        "/v1/models",
        f"/v1/models/{RING}",
        "/v2",
        f"/v2/models/{CONDITIONAL}",
        f"/v2/models/{CONDITIONAL}/ready",
        "/v2/health/live",
        "/v2/health/ready",
        "/livez",
        "/readyz",
        "/healthz",
        "/docs.json",
        "/schema.json",
        "/explore",
        "/",
    )
}
"""Pages, probes and descriptions."""
