"""What is asked of `latentd bulk`, and the parts that it is done in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

Form = Literal["parquet", "webdataset"]
ENDINGS: dict[Form, str] = {"parquet": "parquet", "webdataset": "tar"}


@dataclass(frozen=True)
class ShardRange:
    """What one shard holds: the samples of a range of seeds."""

    file: str
    seeds: range


class BulkSpec(BaseModel):
    """All that the bytes of the shards depend on, besides the fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str
    seed: int
    """Of the first sample; the next ones count up."""
    num: int
    label: int | None
    """A class's index; None: from each seed, or there are no classes."""
    truncation: float
    form: Form
    format: str
    shard_samples: int

    def parts(self) -> Iterator[ShardRange]:
        """One a shard, in the order of their seeds."""
        total = -(-self.num // self.shard_samples)
        end = self.seed + self.num
        for index in range(total):
            first = self.seed + index * self.shard_samples
            file = f"part-{index:05d}-of-{total:05d}.{ENDINGS[self.form]}"
            yield ShardRange(file, range(first, min(first + self.shard_samples, end)))
