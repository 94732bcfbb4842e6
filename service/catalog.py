"""The catalog: which models are served, and which files could not be."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import PIL
import torch

from models.checkpoint import SUFFIX, Card, Checkpoint, CheckpointError
from models.family import Generator
from models.files import printable
from models.hardware import describe_device
from service.errors import ApiError

logger = logging.getLogger("latentd.catalog")


_LONGEST_REPORT = 1000


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One version of a model, on its device and ready for forward passes."""

    name: str
    version: str
    card: Card
    generator: Generator
    fingerprint: dict[str, str | int]
    """Everything that a sample's bytes depend on, besides its request."""

    @property
    def fingerprint_id(self) -> str:
        """12 hex digits that stand for the fingerprint."""
        text = json.dumps(self.fingerprint, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Failure:
    """A file that is not served, and why."""

    file: str
    error: str


@dataclass
class Catalog:
    """Models by name."""

    default_name: str
    models: dict[str, ServedModel] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def default(self) -> ServedModel | None:
        """What a request gets that names no model: the configured default, else the first by name."""
        return self.models.get(self.default_name) or next((self.models[name] for name in sorted(self.models)), None)

    def find(self, reference: str | None) -> ServedModel:
        """The model that `name` or `name@version` refers to, or the default; ApiError 404 where there is none."""
        if reference is None:
            if self.default is None:
                raise ApiError(404, "unknown_model", "no model is served; GET /models says why", "model")
            return self.default
        name, at, version = reference.partition("@")
        model = self.models.get(name)
        if model is None:
            known = ", ".join(sorted(self.models))
            raise ApiError(404, "unknown_model", f"there is no model {name!r}; served are {known}", "model")
        if at and version != model.version:
            message = f"{name} is served in version {model.version}, not {version!r}"
            raise ApiError(404, "version_not_served", message, "model")
        return model


def load_catalog(paths: Sequence[Path], default_name: str, device: torch.device) -> Catalog:
    """Read every checkpoint in `paths` (folders and files). A file that cannot be served is logged and listed."""
    catalog = Catalog(default_name)
    for file in _files(paths, catalog.failures):
        try:
            model = _load(file, device)
        except CheckpointError as problem:
            _report(catalog.failures, file, str(problem))
        else:
            catalog.models[model.name] = model
            logger.info("serving %s@%s from %s", model.name, model.version, file)
    if catalog.default is None:
        logger.error("no model is served: none of %s has a checkpoint that can be", ", ".join(map(str, paths)))
    elif catalog.default.name != default_name:
        logger.warning("there is no model %r; %s is the default", default_name, catalog.default.name)
    return catalog


def _files(paths: Sequence[Path], failures: list[Failure]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.glob(f"*{SUFFIX}") if not file.name.startswith("."))
        elif path.exists():
            yield path
        else:
            _report(failures, path, "there is no such file or folder")


def _load(file: Path, device: torch.device) -> ServedModel:
    checkpoint = Checkpoint.read(file)
    fingerprint: dict[str, str | int] = {
        "weights": checkpoint.version,
        "dtype": "float32",
        "device": describe_device(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "pillow": PIL.__version__,
    }
    try:
        generator = checkpoint.build(device)
    except (RuntimeError, MemoryError) as problem:  # torch's out-of-memory error is a RuntimeError
        raise CheckpointError(f"{file.name}: cannot be put on {device}: {problem}") from problem
    return ServedModel(checkpoint.name, checkpoint.version, checkpoint.card, generator, fingerprint)


def _report(failures: list[Failure], file: Path, error: str) -> None:
    """Log and list a file that is not served. File names are bytes that need not be text; errors can be long."""
    name, path, error = (printable(text)[:_LONGEST_REPORT] for text in (file.name, str(file), error))
    logger.error("%s is not served: %s", path, error)
    failures.append(Failure(name, error))
