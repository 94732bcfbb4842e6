"""The arguments of `latentd bulk`, and the shards that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from latentd.cli.bulk import ShardFormat

ENDINGS: dict[ShardFormat, str] = {"parquet": "parquet", "webdataset": "tar"}


@dataclass(frozen=True)
class ShardRange:
    """The seeds of one shard, and its file name."""

    file: str
    seeds: range


class BulkSpec(BaseModel):
    """Everything that the bytes of the shards depend on, except the fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str
    seed: int
    """The seed of the first sample; the next ones count up."""
    num: int
    label: int | None
    """The class index of all samples. None: each seed's own class, or a generator without classes."""
    truncation: float
    form: ShardFormat
    format: str
    shard_samples: int

    def ranges(self) -> Iterator[ShardRange]:
        """Yield the range of every shard, in the order of the seeds."""
        total = -(-self.num // self.shard_samples)
        end = self.seed + self.num
        for index in range(total):
            first = self.seed + index * self.shard_samples
            file = f"part-{index:05d}-of-{total:05d}.{ENDINGS[self.form]}"
            yield ShardRange(file, range(first, min(first + self.shard_samples, end)))
