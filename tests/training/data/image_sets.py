"""Writers of small data sets, as other programs and systems leave them."""

import io
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from latentd.training.data.image_cache import DecodedImages, decode_images
from latentd.training.data.image_files import ReadOptions
from latentd.training.data.sets.images import ImageFolder

GRADIENT = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (64, 1))
"""Dark on the left."""


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(shade: int) -> bytes:
    return file_of(Image.new("L", (8, 8), shade))


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_tar(
    path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w", links: Iterable[tuple[str, str, bytes]] = ()
) -> Path:
    """Write a tar file. links: (name, target, tarfile's type)."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # any mode
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def write_zip(
    path: Path,
    members: Iterable[tuple[bytes, bytes]],
    system: int = 0,
    flags: int = 0,
    links: Iterable[tuple[bytes, bytes]] = (),
    method: int = 0,
) -> Path:
    """Write a zip file with names as these bytes. system: 0 is DOS and Windows, 3 is Unix."""
    body = directory = b""
    everything = [(name, content, stat.S_IFREG) for name, content in members]
    everything += [(name, target, stat.S_IFLNK) for name, target in links]
    for name, content, kind in everything:
        sizes = struct.pack("<III", zlib.crc32(content), len(content), len(content))
        head = struct.pack("<HHHHH", 20, flags, method, 0, 0x21) + sizes + struct.pack("<HH", len(name), 0)
        attributes = (kind | 0o644) << 16 if system == 3 else 0
        directory += b"PK\1\2" + bytes([20, system]) + head
        directory += struct.pack("<HHHII", 0, 0, 0, attributes, len(body)) + name
        body += b"PK\3\4" + head + name + content
    count = len(everything)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\5\6" + end)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(content: bytes, extra: bytes) -> bytes:
    """Put a chunk behind the header of a PNG."""
    return content[:33] + extra + content[33:]


def decoded(path: Path, side: int = 8, channels: int = 1, **options: str) -> DecodedImages:
    return decode_images(path, side, channels, lambda _: None, ReadOptions(**options))


def shades_by_class(images: DecodedImages) -> dict[str, list[int]]:
    """The shade of each image, by the name of its class."""
    labels = images.classes.labels
    assert labels is not None, images.classes.why_none
    found: dict[str, list[int]] = {name: [] for name in images.classes.names}
    for label, image in zip(labels, images.images, strict=True):
        found[images.classes.names[label]].append(int(image[4, 4, 0]))
    return found


def shades(images: DecodedImages) -> list[int]:
    return sorted(images.images[:, 4, 4, 0].tolist())


def settings(**values: object) -> ImageFolder:
    return ImageFolder.model_validate({"name": "image-folder", "resolution": 8, "channels": 1, **values})


Write = Callable[[Path], Path]
