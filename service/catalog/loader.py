"""From a checkpoint file to a model that is ready to run: read, put on the device, calibrated."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from latentd.models.checkpoint import Checkpoint, CheckpointError
from latentd.models.decision_surface import DecisionSurface
from latentd.models.directions import Directions
from latentd.models.family import TwoStageGenerator
from latentd.models.fingerprint import fingerprint_of
from latentd.models.outputs.base import Samples
from latentd.models.sampling import StageInput, stages
from latentd.service.catalog.files import OpenFile, sidecars_of
from latentd.service.catalog.served import Deployment, ServedModel
from latentd.service.engine import Calibration, Engine, OutOfMemoryError, Runner, StageExecutor, calibrate, draw_probes
from latentd.service.engine.cpu import CpuRunner
from latentd.service.engine.cuda import CudaDevice, CudaRunner


class Loader:
    """Loads for one device. Its forward passes run in the engine's slots, between the batches of other models."""

    def __init__(self, device: torch.device, engine: Engine, deterministic: bool) -> None:
        self._device = device
        self._engine = engine
        self._deterministic = deterministic
        self._cuda = CudaDevice(device) if device.type == "cuda" else None

    def load(self, file: Path, known: ServedModel | None = None) -> ServedModel:
        """The model in `file`; CheckpointError where it cannot be served.

        `known` is what was loaded from that file before: what has not changed is taken over.
        """
        try:
            open_file = OpenFile(file)
        except OSError as problem:
            raise CheckpointError(f"{file.name}: {problem.strerror}") from problem
        checkpoint = Checkpoint.read(file, open_file.content)
        deployment: Deployment | None = None
        calibrations: list[Calibration] = []
        if known is not None and known.version == checkpoint.version:
            deployment, calibrations = known.deployment, known.calibrations
        if deployment is None:
            deployment = self._deploy(checkpoint, calibrations)
        calibrations = [executor.calibration for executor in deployment.executors]
        directions, decision_surface, unusable_sidecars = _sidecars(file, checkpoint)
        return ServedModel(
            name=checkpoint.name,
            version=checkpoint.version,
            card=checkpoint.card,
            file=file,
            open_file=open_file,
            weight_bytes=sum(tensor.nbytes for tensor in checkpoint.tensors.values()),
            calibrations=calibrations,
            fingerprint=fingerprint_of(checkpoint.version, self._device, _determinism(calibrations)),
            deployment=deployment,
            directions=directions,
            decision_surface=decision_surface,
            unusable_sidecars=unusable_sidecars,
        )

    def load_again(self, model: ServedModel) -> Deployment:
        """`model` on the device as it was before; CheckpointError where its file was changed in place meanwhile."""
        checkpoint = Checkpoint.read(model.file, model.open_file.content)
        if checkpoint.version != model.version:
            raise CheckpointError(f"{model.file.name}: it was changed in place; replace files by renaming")
        return self._deploy(checkpoint, model.calibrations)

    def free_device_memory(self) -> None:
        """Give what models that are gone have left behind back to the device."""
        if self._cuda is not None:
            self._cuda.empty_cache()

    def _deploy(self, checkpoint: Checkpoint, known: list[Calibration]) -> Deployment:
        """`known`: the stages' calibrations, if this version was on the device before."""
        try:
            generator = checkpoint.build(self._device)
            probes = draw_probes(checkpoint.card.spec)
            executors: list[StageExecutor] = []
            parts = stages(generator)
            for index, stage in enumerate(parts):
                if executors:
                    probes = StageInput(executors[-1].compute(probes).samples, None)
                runner: Runner = (
                    CudaRunner(self._cuda, stage) if self._cuda else CpuRunner(stage, f"{checkpoint.spec_json} {index}")
                )
                calibration = known[index] if known else self._calibrate(probes, runner)
                executors.append(
                    StageExecutor(
                        checkpoint.name,
                        runner,
                        calibration,
                        checkpoint.version,
                        "synthesis" if stage is parts[-1] else "mapping",
                    )
                )
        except (RuntimeError, MemoryError, OutOfMemoryError) as problem:  # torch's own is a RuntimeError
            raise CheckpointError(f"{checkpoint.name}: cannot run on {self._device}: {problem}") from problem
        if isinstance(generator, TwoStageGenerator):
            mapping, synthesis = executors
            return Deployment(synthesis, mapping, generator.mean_w.cpu().numpy())
        return Deployment(executors[0])

    def _calibrate(self, probes: StageInput, runner: Runner) -> Calibration:
        return calibrate(probes, self._between_batches(runner), self._deterministic, OutOfMemoryError)

    def _between_batches(self, runner: Runner) -> Callable[[StageInput, int], tuple[Samples, float]]:
        def timed(rows: StageInput, size: int) -> tuple[Samples, float]:
            parts, fastest = [], float("inf")
            for first in range(0, len(rows), size):
                started = time.perf_counter()
                parts.append(runner.run(rows[first : first + size], size).samples)
                fastest = min(fastest, time.perf_counter() - started)
            return np.concatenate(parts), fastest

        def run(rows: StageInput, size: int) -> tuple[Samples, float]:
            found: tuple[Samples, float] = self._engine.run_in_slot(lambda: timed(rows, size)).result()
            return found

        return run


def _determinism(calibrations: list[Calibration]) -> str:
    return min((each.mode for each in calibrations), key=["off", "bitwise"].index)


_Sidecar = TypeVar("_Sidecar")


def _sidecars(file: Path, checkpoint: Checkpoint) -> tuple[Directions | None, DecisionSurface | None, dict[Path, str]]:
    """What lies beside `file` for this version of it; and what lies there, but cannot be used, and why."""
    unusable_sidecars: dict[Path, str] = {}

    def read_if_there(path: Path, read: Callable[[], _Sidecar]) -> _Sidecar | None:
        if not path.exists():
            return None
        try:
            return read()
        except CheckpointError as problem:
            unusable_sidecars[path] = str(problem)
            return None

    of_directions, of_surface = sidecars_of(file)
    directions = read_if_there(of_directions, lambda: Directions.read(file, checkpoint.version, checkpoint.card.spec))
    decision_surface = read_if_there(of_surface, lambda: DecisionSurface.read(file, checkpoint.version))
    return directions, decision_surface, unusable_sidecars
