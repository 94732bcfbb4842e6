"""Embedded metadata: a line of ASCII text inside an encoded sample, where its format keeps comments."""

import html
import io
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from xml.sax.saxutils import escape

METADATA_KEY = "latentd"
_MAX_JPEG_COMMENT = 65533
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:latentd="urn:latentd"><latentd:name>%s</latentd:name></rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)
_XMP_TEXT = re.compile(rb"<latentd:name>(.*?)</latentd:name>", re.DOTALL)
_VP8X_XMP, _VP8X_ALPHA = 0x04, 0x10
_IEND_BYTES = 12


def embed_metadata(file: bytes, format: str, text: str) -> bytes:
    """Return `file` with `text` (ASCII) embedded.

    Files that cannot hold it are returned unchanged: npy, json, and JPEGs if `text` is longer than 65,533 characters.
    """
    embed = _EMBEDDERS.get(format)
    return embed(file, text) if embed else file


def read_metadata(file: bytes) -> str | None:
    """Return the text embedded in a PNG, APNG, WebP, JPEG, GIF or MP4 file; None if there is none."""
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    unreadable = (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, OSError)
    with suppress(*unreadable), Image.open(io.BytesIO(file)) as image:
        if isinstance(image, PngImagePlugin.PngImageFile):
            image.load()  # Pillow reads the chunks after the pixels only then
            return str(image.text[METADATA_KEY]) if METADATA_KEY in image.text else None
        comment = image.info.get("comment") or image.info.get("xmp")
        return _from_comment(comment) if isinstance(comment, bytes) else None
    import av

    with suppress(av.FFmpegError, ValueError), av.open(io.BytesIO(file)) as container:
        return _from_comment(container.metadata.get("comment", "").encode())
    return None


def xmp_packet(text: str) -> bytes:
    """Return an XMP packet with `text`."""
    return (_XMP % escape(text)).encode()


def _from_comment(comment: bytes) -> str | None:
    if found := _XMP_TEXT.search(comment):
        return html.unescape(found[1].decode("ascii", "replace"))
    text = comment.decode("ascii", "replace")
    return text if text.startswith("{") else None


def _into_png(file: bytes, text: str) -> bytes:
    """Insert a tEXt chunk before the last chunk (PNG specification, section 11.3.4.3)."""
    body = f"tEXt{METADATA_KEY}\0{text}".encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return file[:-_IEND_BYTES] + chunk + file[-_IEND_BYTES:]


def _into_jpeg(file: bytes, text: str) -> bytes:
    """Insert a COM segment after the JFIF header, which must come first (ITU-T T.81, B.2.4.5)."""
    if len(text) > _MAX_JPEG_COMMENT:
        return file
    end = 4 + struct.unpack(">H", file[4:6])[0]
    return file[:end] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text.encode() + file[end:]


def _into_webp(file: bytes, text: str) -> bytes:
    """Append an XMP chunk to a lossless file, and make it an extended file (RFC 9649, section 2.7)."""
    bits = struct.unpack("<I", file[21:25])[0]  # VP8L header: 14 bits of width - 1, 14 of height - 1, alpha
    width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    flags = _VP8X_XMP | (_VP8X_ALPHA if alpha else 0)
    header = struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    body = b"WEBP" + _riff(b"VP8X", header) + file[12:] + _riff(b"XMP ", xmp_packet(text))
    return _riff(b"RIFF", body)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


_EMBEDDERS: dict[str, Callable[[bytes, str], bytes]] = {"png": _into_png, "jpeg": _into_jpeg, "webp": _into_webp}
