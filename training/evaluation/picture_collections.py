"""The pictures on which the embedded picture network is trained. They come from packages, with free licences.

Icons: the npm packages `@iconify-json/noto` (Apache-2.0) and `@iconify-json/fluent-emoji-flat` (MIT), unpacked.
Avatars and scenes: styles of `dicebear-styles` under CC0-1.0. Photographs: those in `scikit-image` that are in the
public domain or under CC0-1.0. The extra `pictures` has the Python packages.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentd.training.data.pixels import normalize
from latentd.training.evaluation.picture_network import SIDE, to_rgb

_ICONS = {"noto": "Apache-2.0", "fluent-emoji-flat": "MIT"}
_STYLES = (
    *("blobs", "cameo", "clay", "constellation", "critters", "cutouts", "landscape", "lorelei", "marbles"),
    *("notionists", "open-peeps", "patchwork", "pixel-art", "planets", "shapes", "weave"),
)
"""Under CC0-1.0. `voxel-art` and `sprouts` are left for benchmarks."""
_PER_STYLE = 400
_PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "rocket")
_PER_PHOTOGRAPH = 500


@dataclass(frozen=True)
class Collection:
    """Pictures of one kind."""

    pixels: Tensor
    """[N, 3, SIDE, SIDE], bytes"""
    source: str
    licence: str

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """Return random pictures [count, 3, SIDE, SIDE] in [-1, 1]."""
        return normalize(self.pixels[torch.randint(len(self.pixels), (count,), generator=random)])

    def facts(self) -> dict[str, str | int]:
        """Return what a card says of the collection."""
        digest = hashlib.sha256(self.pixels.numpy().tobytes()).hexdigest()
        return {"source": self.source, "licence": self.licence, "pictures": len(self.pixels), "sha256": digest}


def load_collections(icons: Path) -> dict[str, Collection]:
    """Render all collections: about three minutes. `icons`: the folder with the unpacked npm packages."""
    avatars = f"dicebear-styles {version('dicebear-styles')}, dicebear-core {version('dicebear-core')}"
    photographs = f"scikit-image {version('scikit-image')}"
    return {
        **{name: _icons(next(icons.rglob(f"{name}/icons.json")), licence) for name, licence in _ICONS.items()},
        **{
            style: Collection(_stacked(avatar_pictures(style, range(_PER_STYLE))), f"{style} of {avatars}", "CC0-1.0")
            for style in _STYLES
        },
        "photographs": Collection(_stacked(_crops()), photographs, "public domain, CC0-1.0"),
    }


def avatar_pictures(style: str, seeds: range) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures [SIDE, SIDE, 3] of a DiceBear style, one for each seed."""
    from dicebear import Avatar, Style

    definition = Style(json.loads(files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8")))
    for seed in seeds:
        yield _rendered(Avatar(definition, {"seed": f"{style} {seed}"}).to_string())


def _icons(path: Path, licence: str) -> Collection:
    """Read an icon set of Iconify, https://iconify.design/docs/types/iconify-json.html."""
    content = json.loads(path.read_text("utf-8"))
    package = json.loads(path.with_name("package.json").read_text("utf-8"))
    default = {"width": content.get("width", 16), "height": content.get("height", 16)}
    pictures = (_rendered(_svg(default | icon)) for icon in content["icons"].values())
    return Collection(_stacked(pictures), f"{package['name']} {package['version']}", licence)


def _svg(icon: dict[str, object]) -> str:
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {icon['width']} {icon['height']}"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} width="{SIDE}" height="{SIDE}" viewBox="{box}">{icon["body"]}</svg>'


def _rendered(svg: str) -> NDArray[np.uint8]:
    """Render a drawing on white: [SIDE, SIDE, 3]."""
    from resvg_py import svg_to_bytes

    file = svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE, background="white")
    pixels: NDArray[np.uint8] = imagecodecs.png_decode(bytes(file))[..., :3]
    return pixels


def _crops() -> Iterator[NDArray[np.uint8]]:
    """Yield random squares of the photographs, reduced to SIDE."""
    from skimage import data

    random = np.random.RandomState(0)
    for name in _PHOTOGRAPHS:
        photograph = getattr(data, name)()
        if photograph.ndim == 2:
            photograph = np.repeat(photograph[..., None], 3, axis=2)
        height, width = photograph.shape[:2]
        for _ in range(_PER_PHOTOGRAPH):
            side = random.randint(SIDE, min(height, width) // 2 + 1)
            top, left = random.randint(height - side + 1), random.randint(width - side + 1)
            square = torch.from_numpy(photograph[top : top + side, left : left + side].copy())
            reduced = to_rgb(square.permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
            yield reduced.round().clamp(0, 255).byte().numpy()


def _stacked(pictures: Iterable[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).contiguous()
