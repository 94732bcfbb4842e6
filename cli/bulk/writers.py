"""The forms that shards come in. Nothing in a file tells when or where it was written."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from latentd.cli.bulk.spec import BulkSpec, Form
from latentd.models.provenance import Provenance

_ROWS_A_GROUP = 1000
"""Of Parquet, so that a reader may take some without the others."""


@dataclass(frozen=True)
class Samples:
    """Those of a shard, a place a sample in each list."""

    files: list[bytes]
    """As encoded, and with their names in them where the format has room for that."""
    names: list[Provenance]
    labels: list[int | None]
    """Class indices."""


def packed(order: BulkSpec, kind: str, samples: Samples) -> bytes:
    """The bytes of a shard in the order's form; `kind` is the samples' kind of output."""
    return _PACKERS[order.form](order, kind, samples)


def _parquet(order: BulkSpec, kind: str, samples: Samples) -> bytes:
    """A column called as the output's kind, and one for each word of the samples' names."""
    import pyarrow  # an extra: few need it, and it is large
    from pyarrow import parquet

    if order.format == "json":
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


def _webdataset(order: BulkSpec, kind: str, samples: Samples) -> bytes:
    """A tar file: `SEED.FORMAT`, its class as a number in `SEED.cls`, and its name in `SEED.name.json`.

    https://github.com/webdataset/webdataset
    """
    del kind
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file, name, label in zip(samples.files, samples.names, samples.labels, strict=True):
            key = f"{name['seed']:010d}"
            _add(archive, f"{key}.{order.format}", file)
            if label is not None:
                _add(archive, f"{key}.cls", str(label).encode())
            _add(archive, f"{key}.name.json", orjson.dumps(name))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of the year 1970, and nobody's
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


_PACKERS: dict[Form, Callable[[BulkSpec, str, Samples], bytes]] = {"parquet": _parquet, "webdataset": _webdataset}
