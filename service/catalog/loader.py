"""Loads checkpoint files: reads them, puts them on the device, and calibrates them."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from latentd.models.checkpoint import Checkpoint
from latentd.models.decision_surface import DecisionSurface
from latentd.models.directions import Directions
from latentd.models.errors import CheckpointError
from latentd.models.fingerprint import Fingerprint, fingerprint_of
from latentd.models.names import CatalogFile
from latentd.models.outputs.base import OutputKind, Samples
from latentd.models.stage_input import StageInput
from latentd.service.catalog.files import OpenFile, sidecars_of
from latentd.service.catalog.served import DeployedStage, Deployment, ServedModel
from latentd.service.engine import (
    Calibration,
    Engine,
    OutOfMemoryError,
    Runner,
    StageExecutor,
    calibrate,
    draw_calibration_rows,
)
from latentd.service.engine.cpu import CpuRunner
from latentd.service.engine.cuda import CudaDevice, CudaRunner
from latentd.service.engine.cuda_buffers import Quantize


class Loader:
    """Loads models for one device. Calibration runs in the engine's slots, between the batches of other models."""

    def __init__(self, device: torch.device, engine: Engine, deterministic: bool) -> None:
        self._device = device
        self._engine = engine
        self._deterministic = deterministic
        self._cuda = CudaDevice(device) if device.type == "cuda" else None
        self._calibrations: dict[str, Sequence[Calibration]] = {}
        """Calibrations by version. A version is calibrated once, even if it has several names or files."""

    def load(self, file: CatalogFile, known: ServedModel | None = None) -> ServedModel:
        """Return the model in `file`, on the device unless it is lazy. Raises CheckpointError if it is unusable.

        `known`: the model that the file had before. If the version is the same, its weights stay on the device.
        """
        open_file = _open(file.path)
        checkpoint = Checkpoint.read(file.path, open_file.content)
        directions, decision_surface, unusable_sidecars = _read_sidecars(file.path, checkpoint)
        if known is not None and known.version != checkpoint.version:
            known = None
        model = ServedModel(
            name=file.run or checkpoint.name,
            version=checkpoint.version,
            card=checkpoint.card,
            file=file.path,
            open_file=None,
            weight_bytes=sum(tensor.nbytes for tensor in checkpoint.tensors.values()),
            calibrations=known.calibrations if known else [],
            fingerprint=known.fingerprint if known else self._expected_fingerprint(checkpoint.version),
            deployment=None,
            directions=directions,
            decision_surface=decision_surface,
            unusable_sidecars=unusable_sidecars,
        )
        if known is not None and known.deployment is not None:
            self._place(model, known.deployment, open_file)
        elif not file.is_lazy:
            self._place(model, self._deploy(model, checkpoint), open_file)
        return model

    def load_again(self, model: ServedModel) -> None:
        """Put a model on the device.

        Raises CheckpointError if its file was replaced before the model was first loaded, or modified in place after
        that.
        """
        open_file = model.open_file or _open(model.file)
        checkpoint = Checkpoint.read(model.file, open_file.content)
        if checkpoint.version != model.version:
            raise CheckpointError(f"{model.file.name}: it was modified in place; replace files by renaming")
        self._place(model, self._deploy(model, checkpoint), open_file)

    def free_device_memory(self) -> None:
        """Return the memory of models that are gone to the device."""
        if self._cuda is not None:
            self._cuda.empty_cache()

    def _place(self, model: ServedModel, deployment: Deployment, open_file: OpenFile) -> None:
        calibrations = [stage.executor.calibration for stage in deployment.stages]
        self._calibrations[model.version] = calibrations
        fingerprint = fingerprint_of(model.version, self._device, _determinism(calibrations))
        model.place(deployment, open_file, fingerprint)

    def _expected_fingerprint(self, version: str) -> Fingerprint:
        return fingerprint_of(version, self._device, "bitwise" if self._deterministic else "off")

    def _deploy(self, model: ServedModel, checkpoint: Checkpoint) -> Deployment:
        """Build the generator and its executors. Calibrate the stages unless this version is calibrated already."""
        known = model.calibrations or self._calibrations.get(model.version, ())
        try:
            generator = checkpoint.build(self._device)
            test_rows = draw_calibration_rows(checkpoint.card.spec)
            stages: list[DeployedStage] = []
            for index, stage in enumerate(generator.stages):
                if stages:
                    takes, executor = stages[-1]
                    test_rows = replace(test_rows, inputs=executor.compute(takes.select(test_rows)).samples)
                is_last = index == len(generator.stages) - 1
                quantize = quantizer(checkpoint.card.spec.output) if is_last else None
                runner = self._runner(stage, f"{checkpoint.spec_json} {index}", quantize)
                rows = stage.takes.select(test_rows)
                calibration = known[index] if known else self._calibrate(rows, runner)
                runner.prepare(rows, calibration.sizes)
                name = stage.takes.name
                executor = StageExecutor(model.name, runner, calibration, model.version, name)
                stages.append(DeployedStage(stage.takes, executor))
        except (RuntimeError, MemoryError, OutOfMemoryError) as problem:  # torch.OutOfMemoryError is a RuntimeError
            raise CheckpointError(f"{checkpoint.name}: cannot run on {self._device}: {problem}") from problem
        return Deployment(tuple(stages))

    def _runner(self, stage: nn.Module, architecture: str, quantize: Quantize | None) -> Runner:
        return CudaRunner(self._cuda, stage, quantize) if self._cuda else CpuRunner(stage, architecture)

    def _calibrate(self, test_rows: StageInput, runner: Runner) -> Calibration:
        def run_passes(rows: StageInput, size: int) -> tuple[Samples, float]:
            parts, fastest = [], float("inf")
            for first in range(0, len(rows), size):
                started = time.perf_counter()
                parts.append(runner.run(rows[first : first + size], size).samples)
                fastest = min(fastest, time.perf_counter() - started)
            return np.concatenate(parts), fastest

        def run_between_batches(rows: StageInput, size: int) -> tuple[Samples, float]:
            result: tuple[Samples, float] = self._engine.run_in_slot(lambda: run_passes(rows, size)).result()
            return result

        return calibrate(test_rows, run_between_batches, self._deterministic, OutOfMemoryError)


def quantizer(output: OutputKind) -> Quantize | None:
    """Return how samples are quantized on a device; None if they cannot be."""
    if output.quantized is None:
        return None
    dtype: torch.dtype = getattr(torch, output.quantized)
    return lambda samples: output.quantize(samples).to(dtype)


def _determinism(calibrations: Iterable[Calibration]) -> str:
    return "bitwise" if all(each.mode == "bitwise" for each in calibrations) else "off"


def _open(path: Path) -> OpenFile:
    try:
        return OpenFile(path)
    except OSError as problem:
        raise CheckpointError(f"{path.name}: {problem.strerror}") from problem


_Sidecar = TypeVar("_Sidecar")


def _read_sidecars(
    file: Path, checkpoint: Checkpoint
) -> tuple[Directions | None, DecisionSurface | None, dict[Path, str]]:
    """Return the sidecars of this version of `file`, and the errors of those that cannot be used."""
    errors: dict[Path, str] = {}

    def read_if_exists(path: Path, read: Callable[[], _Sidecar]) -> _Sidecar | None:
        if not path.exists():
            return None
        try:
            return read()
        except CheckpointError as problem:
            errors[path] = str(problem)
            return None

    directions_path, surface_path = sidecars_of(file)
    directions = read_if_exists(
        directions_path, lambda: Directions.read(file, checkpoint.version, checkpoint.card.spec)
    )
    surface = read_if_exists(surface_path, lambda: DecisionSurface.read(file, checkpoint.version))
    return directions, surface, errors
