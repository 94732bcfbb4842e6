"""One shard: from a range of seeds to the bytes of a file. What every worker does, on this machine or on a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from latentd.cli.bulk.spec import BulkSpec, ShardRange
from latentd.cli.bulk.writers import Samples, packed
from latentd.models.checkpoint import Checkpoint
from latentd.models.errors import LatentdError
from latentd.models.fingerprint import fingerprint_id, fingerprint_of
from latentd.models.hardware import configure_device
from latentd.models.latents import seeds_to_latents
from latentd.models.outputs.metadata import embed_metadata
from latentd.models.provenance import ascii_json, producer, sample_provenance
from latentd.models.sampling import REFERENCE_BATCH_SIZE, generate
from latentd.models.spec import ClassCondition

_AT_ONCE = 16 * REFERENCE_BATCH_SIZE
"""Samples that are held as numbers, before they are encoded."""


class BulkError(LatentdError):
    """Samples that cannot be made, or cannot be made here; the message says why and what to do."""


@dataclass(frozen=True)
class Shard:
    """A part, done."""

    part: ShardRange
    content: bytes
    fingerprint: str


class ShardWorker:
    """Makes shards on one device. It sets torch up for its whole process.

    Raises BulkError where `checkpoint` is not the version that was ordered.
    """

    def __init__(self, checkpoint: Checkpoint, order: BulkSpec, device: torch.device) -> None:
        if checkpoint.version != order.version:
            raise BulkError(f"the checkpoint was replaced: it is {checkpoint.version} now, ordered was {order.version}")
        configure_device(device)
        if device.type == "cpu":
            torch.set_num_threads(1)  # a process a core is faster than threads, which wait for each other
        self._order = order
        self._generator = checkpoint.build(device)
        # passes of REFERENCE_BATCH_SIZE define what is the same to the bit
        self._fingerprint = fingerprint_id(fingerprint_of(checkpoint.version, device, "bitwise"))

    def make(self, part: ShardRange) -> Shard:
        """Raises BulkError where a sample is not finite."""
        samples = Samples([], [], [])
        for start in range(0, len(part.seeds), _AT_ONCE):
            self._add(samples, part.seeds[start : start + _AT_ONCE])
        return Shard(part, packed(self._order, self._generator.spec.output.kind, samples), self._fingerprint)

    def _add(self, samples: Samples, seeds: Sequence[int]) -> None:
        order, spec = self._order, self._generator.spec
        latents, labels = seeds_to_latents(spec, seeds)
        if order.label is not None:
            labels = [order.label] * len(seeds)
        classes = spec.condition.names if isinstance(spec.condition, ClassCondition) else ()
        values = generate(self._generator, latents, labels, order.truncation)
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if not finite.all():
            raise BulkError(f"the sample of seed {seeds[int(np.argmin(finite))]} is not finite; train the model again")
        maker = producer(order.model, order.version, self._fingerprint)
        for seed, label, file in zip(seeds, labels, spec.output.encode(values, order.format), strict=True):
            name = sample_provenance(maker, {"seed": seed}, None if label is None else classes[label], order.truncation)
            samples.files.append(embed_metadata(file, order.format, ascii_json(name)))
            samples.names.append(name)
            samples.labels.append(label)
