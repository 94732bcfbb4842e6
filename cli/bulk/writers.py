"""Writers of shards: Parquet and WebDataset. Files contain no time and no path, so equal samples give equal bytes."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from latentd.cli.bulk import ShardFormat
from latentd.cli.bulk.spec import BulkSpec
from latentd.models.provenance import Provenance

_ROWS_A_GROUP = 1000
"""Rows of a Parquet row group, which a reader can load by itself."""


@dataclass(frozen=True)
class ShardSamples:
    """The samples of a shard; the lists have one item for each sample."""

    files: list[bytes]
    """Encoded samples, with their provenance embedded if the format allows it."""
    names: list[Provenance]
    labels: list[int | None]
    """Class indices; None for a generator without classes."""


def write_shard(spec: BulkSpec, kind: str, samples: ShardSamples) -> bytes:
    """Return the bytes of a shard. `kind`: the samples' kind of output, which names the Parquet column."""
    return _WRITERS[spec.form](spec, kind, samples)


def _parquet(spec: BulkSpec, kind: str, samples: ShardSamples) -> bytes:
    """Write one column of samples, named after the kind of output, and one for each field of their provenance."""
    import pyarrow  # an extra: it is large, and few need it
    from pyarrow import parquet

    if spec.format == "json":
        content = pyarrow.array([orjson.loads(file) for file in samples.files], pyarrow.list_(pyarrow.float32()))
    else:
        content = pyarrow.array(samples.files, pyarrow.binary())
    types = {"seed": pyarrow.uint32(), "truncation": pyarrow.float64()}
    words = list(samples.names[0])
    columns = {
        word: pyarrow.array([name[word] for name in samples.names], types.get(word, pyarrow.string())) for word in words
    }
    table = pyarrow.table({kind: content} | columns)
    buffer = io.BytesIO()
    parquet.write_table(
        table, buffer, row_group_size=_ROWS_A_GROUP, compression="zstd", use_dictionary=[*{*words} - {"seed"}]
    )
    return buffer.getvalue()


def _webdataset(spec: BulkSpec, kind: str, samples: ShardSamples) -> bytes:
    """Write a tar file: `SEED.FORMAT`, its class index in `SEED.cls`, and its provenance in `SEED.name.json`.

    https://github.com/webdataset/webdataset
    """
    del kind
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file, name, label in zip(samples.files, samples.names, samples.labels, strict=True):
            key = f"{name['seed']:010d}"
            _add(archive, f"{key}.{spec.format}", file)
            if label is not None:
                _add(archive, f"{key}.cls", str(label).encode())
            _add(archive, f"{key}.name.json", orjson.dumps(name))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # TarInfo's defaults: 1970, no owner
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


_WRITERS: dict[ShardFormat, Callable[[BulkSpec, str, ShardSamples], bytes]] = {
    "parquet": _parquet,
    "webdataset": _webdataset,
}
