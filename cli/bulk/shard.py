"""One shard: from a range of seeds to the bytes of a file, on this machine or on a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from latentd.cli.bulk.spec import BulkSpec, ShardRange
from latentd.cli.bulk.writers import ShardSamples, write_shard
from latentd.models.checkpoint import Checkpoint
from latentd.models.errors import LatentdError
from latentd.models.fingerprint import fingerprint_id, fingerprint_of
from latentd.models.hardware import configure_device
from latentd.models.latents import seeds_to_rows
from latentd.models.provenance import ascii_json, condition_fields, producer, sample_provenance
from latentd.models.sampling import REFERENCE_BATCH_SIZE, generate_rows

_CHUNK = 16 * REFERENCE_BATCH_SIZE
"""Samples that are computed before they are encoded."""


class BulkError(LatentdError):
    """Samples that cannot be made, or cannot be made here; the message says why and what to do."""


@dataclass(frozen=True)
class Shard:
    """The file of a range of seeds."""

    range: ShardRange
    content: bytes
    fingerprint: str


class ShardWorker:
    """Makes shards on one device. It configures torch for the whole process."""

    def __init__(self, checkpoint: Checkpoint, spec: BulkSpec, device: torch.device) -> None:
        """Put the generator on `device`. Raises BulkError if `checkpoint` is not the version that `spec` names."""
        if checkpoint.version != spec.version:
            raise BulkError(f"the checkpoint was replaced: it is {checkpoint.version}, not {spec.version} as before")
        configure_device(device)
        if device.type == "cpu":
            torch.set_num_threads(1)  # one process per core is faster than threads, which wait for each other
        self._spec = spec
        self._generator = checkpoint.build(device)
        # passes of REFERENCE_BATCH_SIZE are the definition of bitwise
        self._fingerprint = fingerprint_id(fingerprint_of(checkpoint.version, device, "bitwise"))

    def make(self, shard_range: ShardRange) -> Shard:
        """Compute and encode the samples of a range. Raises BulkError if a sample is not finite."""
        samples = ShardSamples([], [], [])
        for start in range(0, len(shard_range.seeds), _CHUNK):
            self._add(samples, shard_range.seeds[start : start + _CHUNK])
        content = write_shard(self._spec, self._generator.spec.output.kind, samples)
        return Shard(shard_range, content, self._fingerprint)

    def _add(self, samples: ShardSamples, seeds: Sequence[int]) -> None:
        bulk, spec = self._spec, self._generator.spec
        rows = seeds_to_rows(spec, seeds)
        if bulk.label is not None:
            rows = replace(rows, condition=np.stack([spec.condition.parse(bulk.label)] * len(seeds)))
        values = generate_rows(self._generator, rows, bulk.truncation)
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if not finite.all():
            raise BulkError(f"the sample of seed {seeds[int(np.argmin(finite))]} is not finite; train the model again")
        base = producer(bulk.model, bulk.version, self._fingerprint)
        labels = spec.condition.labels(rows.condition)
        for index, (seed, file) in enumerate(zip(seeds, spec.output.encode(values, bulk.format), strict=True)):
            condition = None if rows.condition is None else rows.condition[index]
            name = sample_provenance(base, {"seed": seed}, condition_fields(spec, condition), bulk.truncation)
            samples.files.append(spec.output.embed(file, bulk.format, ascii_json(name)))
            samples.names.append(name)
            samples.labels.append(None if labels is None else int(labels[index]))
