"""A file's own name inside it: a line of ASCII text where its format keeps comments, which every viewer passes over."""

import html
import io
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from xml.sax.saxutils import escape

import av
from PIL import Image, PngImagePlugin, UnidentifiedImageError

METADATA_KEY = "latentd"
_MOST_IN_JPEG = 65533
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:latentd="urn:latentd"><latentd:name>%s</latentd:name></rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)
_XMP_NAME = re.compile(rb"<latentd:name>(.*?)</latentd:name>", re.DOTALL)
_VP8X_XMP, _VP8X_ALPHA = 0x04, 0x10
_IEND_BYTES = 12
_NOT_A_PICTURE = (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, OSError)
"""What Pillow raises for what it cannot read, or would need too much memory for."""


def embed_metadata(file: bytes, format: str, text: str) -> bytes:
    """`file` with `text` (ASCII) in it; as it is where there is no room for that: npy, json, too much for a JPEG."""
    into = _TAGGERS.get(format)
    return into(file, text) if into else file


def read_metadata(file: bytes) -> str | None:
    """The text that a PNG, APNG, WebP, JPEG, GIF or MP4 file carries under our key; None where there is none."""
    with suppress(*_NOT_A_PICTURE), Image.open(io.BytesIO(file)) as picture:
        if isinstance(picture, PngImagePlugin.PngImageFile):
            picture.load()  # what stands behind the pixels
            return str(picture.text[METADATA_KEY]) if METADATA_KEY in picture.text else None
        comment = picture.info.get("comment") or picture.info.get("xmp")
        return _from_comment(comment) if isinstance(comment, bytes) else None
    with suppress(av.FFmpegError, ValueError), av.open(io.BytesIO(file)) as film:
        return _from_comment(film.metadata.get("comment", "").encode())
    return None


def as_xmp(text: str) -> bytes:
    """`text` as an XMP packet."""
    return (_XMP % escape(text)).encode()


def _from_comment(comment: bytes) -> str | None:
    if found := _XMP_NAME.search(comment):
        return html.unescape(found[1].decode("ascii", "replace"))
    text = comment.decode("ascii", "replace")
    return text if text.startswith("{") else None


def _into_png(file: bytes, text: str) -> bytes:
    """A tEXt chunk before the last one (PNG specification, section 11.3.4.3)."""
    body = f"tEXt{METADATA_KEY}\0{text}".encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return file[:-_IEND_BYTES] + chunk + file[-_IEND_BYTES:]


def _into_jpeg(file: bytes, text: str) -> bytes:
    """A COM segment behind the JFIF header, which has to come first (ITU-T T.81, B.2.4.5)."""
    if len(text) > _MOST_IN_JPEG:
        return file
    end = 4 + struct.unpack(">H", file[4:6])[0]
    return file[:end] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text.encode() + file[end:]


def _into_webp(file: bytes, text: str) -> bytes:
    """An XMP chunk at the end of a lossless file, which becomes an extended one for it (RFC 9649, section 2.7)."""
    bits = struct.unpack("<I", file[21:25])[0]  # of VP8L: 14 bits of width - 1, 14 of height - 1, alpha
    width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    flags = _VP8X_XMP | (_VP8X_ALPHA if alpha else 0)
    header = struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    body = b"WEBP" + _riff(b"VP8X", header) + file[12:] + _riff(b"XMP ", as_xmp(text))
    return _riff(b"RIFF", body)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


_TAGGERS: dict[str, Callable[[bytes, str], bytes]] = {"png": _into_png, "jpeg": _into_jpeg, "webp": _into_webp}
