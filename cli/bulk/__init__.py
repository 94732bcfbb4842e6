"""`latentd bulk`: samples by the million, in shards that depend on the checkpoint, the order and their seeds alone."""

from typing import Literal

ShardFormat = Literal["parquet", "webdataset"]
