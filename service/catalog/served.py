"""One version of a model as requests see it, and a file that could not become one."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from models.checkpoint import Card
from service.catalog.files import OpenFile
from service.engine import Calibration, Replica


@dataclass(frozen=True)
class Failure:
    """A file that is not served, and why."""

    file: str
    error: str


@dataclass(eq=False)
class ServedModel:
    """One version of a model. Its weights may be on the device or, where memory is short, only in the file."""

    name: str
    version: str
    card: Card
    file: Path
    held: OpenFile
    """The file as it was when this was loaded: what this is loaded from again."""
    weight_bytes: int
    calibration: Calibration
    fingerprint: dict[str, str | int]
    """Everything that a sample's bytes depend on, besides its request."""
    replica: Replica | None
    """None: not on the device; it comes back on demand."""
    last_used: float = field(default=0.0)

    @cached_property
    def fingerprint_id(self) -> str:
        """12 hex digits that stand for the fingerprint."""
        text = json.dumps(self.fingerprint, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
