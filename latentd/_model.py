"""A generator in this process, with the bytes that the service gives."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from latentd._arguments import integer, label_list, one_of, seed_list
from latentd._samples import Samples
from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint
from latentd.models.find import find_checkpoint
from latentd.models.fingerprint import fingerprint_id, fingerprint_of
from latentd.models.hardware import choose_device, configure_device, use_serving_threads
from latentd.models.interpolation import Easing, KeyframePath, Method
from latentd.models.latents import seeds_to_rows
from latentd.models.provenance import Provenance, condition_fields, producer, sample_provenance
from latentd.models.sampling import generate_rows
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import StageInput

Label = str | int | Mapping[str, float]
"""A class by name or index, or weights of classes by name."""


def load(path_or_name: str | Path, device: str = "auto") -> "Model":
    """Load a generator.

    `path_or_name`: a .safetensors file, the folder of a run, or a name as the service knows it: a promoted or shipped
    model, `NAME@VERSION`, `runs/NAME` or the name of a run in runs/; a name is looked up in that order.
    `device`: auto (CUDA if there is a device), cpu or cuda.
    Raises UnknownModelError for an unknown name, CheckpointError for a file that cannot be used.
    """
    return Model(Checkpoint.read(find_checkpoint(path_or_name)), device)


class Model:
    """A generator on a device."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        """Put `checkpoint` on `device` (auto, cpu, cuda). Raises ValueError if there is no CUDA device."""
        self._checkpoint = checkpoint
        self._device = choose_device(device)
        configure_device(self._device)
        self._generator = checkpoint.build(self._device)

    @property
    def name(self) -> str:
        """The name of the checkpoint file, without its ending."""
        return self._checkpoint.name

    @property
    def version(self) -> str:
        """The version: 12 hex digits over the spec and the weights."""
        return self._checkpoint.version

    @property
    def card(self) -> Card:
        """Where the weights come from: recipe, data, steps, metrics, license."""
        return self._checkpoint.card

    @property
    def spec(self) -> GeneratorSpec:
        """What goes in and what comes out."""
        return self.card.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of a conditional generator, in the order of their indices; empty for others."""
        return self.spec.condition.class_names

    def __repr__(self) -> str:
        return f"<latentd.Model {self.name}@{self.version} on {self._device}>"

    def sample(
        self,
        seeds: int | Sequence[int] = 0,
        labels: Label | Sequence[Label] | None = None,
        truncation: float = 1.0,
    ) -> Samples:
        """Return the samples of `seeds`: the values that the service gives for them.

        `seeds`: one seed or several, 0 to 2**32-1.
        `labels`: a class for all, or one for each seed; None: each seed's own class.
        `truncation`: ψ, 0 < ψ ≤ 1; smaller is more typical and less varied.

        Raises ValueError for an unknown class, or a value out of range.
        """
        seeds = seed_list(seeds)
        return self._samples(self._sources(seeds, labels), [{"seed": seed} for seed in seeds], truncation)

    def interpolate(
        self,
        seeds: Sequence[int],
        steps: int = 16,
        labels: Label | Sequence[Label] | None = None,
        truncation: float = 1.0,
        method: Method | None = None,
        easing: Easing = "linear",
        loop: bool = False,
    ) -> Samples:
        """Return the frames of an interpolation through the latents of `seeds` (two or more).

        `steps`: frames of a segment, both keyframes included: K seeds give (K-1)·(steps-1)+1 frames, a loop K·(steps-1)
        `labels`: as in `sample`; class weights change evenly between keyframes.
        `method`: slerp or lerp; default: slerp for normal latents, lerp for uniform ones.
        `easing`: linear, or smooth (slow at keyframes). `loop`: return to the first keyframe, which is not repeated.
        """
        seeds, steps = seed_list(seeds), integer("steps", steps)
        if len(seeds) < 2 or steps < 2:
            raise ValueError("an interpolation needs two seeds and two steps or more")
        one_of("easing", easing, get_args(Easing))
        if method is not None:
            one_of("method", method, get_args(Method))
        path = KeyframePath(len(seeds), steps, loop, easing)
        sources, spec = self._sources(seeds, labels), self.spec
        frames = path.interpolate(sources.inputs, method or spec.input.interpolation_method("z"))
        condition = None if sources.condition is None else spec.condition.interpolate(sources.condition, path)
        names: list[Provenance] = []
        for index, latent in enumerate(frames):
            keyframe = path.keyframe_at(index)
            names.append(spec.input.provenance(latent) if keyframe is None else {"seed": seeds[keyframe % len(seeds)]})
        return self._samples(StageInput(frames, condition), names, truncation)

    def _sources(self, seeds: Sequence[int], labels: Label | Sequence[Label] | None) -> StageInput:
        """Return the rows of the seeds, with the conditions that `labels` name."""
        if "seed" not in self.spec.input.operations:
            raise ValueError(f"{self.name} takes no seeds; it has {', '.join(sorted(self.spec.input.operations))}")
        rows = seeds_to_rows(self.spec, seeds)
        if labels is None:
            return rows
        if rows.condition is None:
            raise ValueError(f"{self.name} has no classes")
        given = label_list(labels, len(seeds))
        return replace(rows, condition=np.stack([self.spec.condition.parse(label) for label in given]))

    def _samples(self, rows: StageInput, origins: Sequence[Provenance], truncation: float) -> Samples:
        if not (isinstance(truncation, Real) and 0.0 < truncation <= 1.0):
            raise ValueError(f"truncation is a number above 0 and at most 1, not {truncation!r}")
        with _serving_threads(self._device):
            fingerprint = fingerprint_id(fingerprint_of(self.version, self._device, "bitwise"))
            values = generate_rows(self._generator, rows, truncation)
        base = producer(self.name, self.version, fingerprint)
        conditions = [None] * len(rows) if rows.condition is None else rows.condition
        provenance = [
            sample_provenance(base, origin, condition_fields(self.spec, condition), truncation)
            for origin, condition in zip(origins, conditions, strict=True)
        ]
        return Samples(values, self.spec.output, provenance)


@contextmanager
def _serving_threads(device: torch.device) -> Iterator[None]:
    """Use the service's number of threads in the block, because it is part of a fingerprint."""
    before = torch.get_num_threads()
    use_serving_threads(device)
    try:
        yield
    finally:
        torch.set_num_threads(before)
