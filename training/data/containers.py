"""PNG, JPEG and AVIF files without what stands beside the pixels.

Text, EXIF, XMP, color profiles and thumbnails may be broken or huge. A decoder that never sees them cannot fail on
them. The orientation and the gamma are read here.
"""

import re
import struct
import zlib
from dataclasses import dataclass

PNG_SIGNATURE, JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_JFIF = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_AVIF_EXIF = re.compile(rb"(infe.{8}(?:.{2})?)Exif", re.DOTALL)
"""The entry of EXIF in the list of what an AVIF holds."""
_MAX_TEXT = 2**20
"""Longer texts are not searched for an orientation."""


@dataclass(frozen=True)
class Picture:
    """An image file, and what changes how its pixels are shown."""

    content: bytes
    orientation: int = 1
    """As in EXIF: 1 … 8."""
    gamma: float | None = None
    """1 is linear light, 0.45 that of most pictures; of a PNG's gAMA chunk, or of a color profile of linear light."""


def without_metadata(content: bytes) -> Picture:
    """Return a PNG, JPEG or AVIF without metadata. Others stay as they are."""
    try:
        if content.startswith(PNG_SIGNATURE):
            return _bare_png(content)
        if content.startswith(JPEG_SIGNATURE):
            return _bare_jpeg(content)
        if content[4:12] in (b"ftypavif", b"ftypavis"):
            # libavif refuses broken EXIF. AVIF has its orientation in a box of its own
            return Picture(_AVIF_EXIF.sub(rb"\1free", content))
    except struct.error:
        pass  # cut in its header: the decoder says so
    return Picture(content)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in a block of EXIF; 1 if there is none, or if the block is broken."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, offset)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, offset + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG and kind == 3 and 1 <= value <= 8:
                return int(value)
    except struct.error:
        pass
    return 1


def icc_is_linear(profile: bytes) -> bool:
    """Return whether the numbers of a color profile are linear light, which looks dark if they are taken as sRGB."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        for entry in range(min(count, 100)):
            name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * entry)
            if name not in (b"gTRC", b"kTRC"):
                continue
            kind, number = struct.unpack_from(">4s4xI", profile, offset)
            if kind == b"curv" and number <= 1:
                return bool(number == 0 or struct.unpack_from(">H", profile, offset + 12)[0] == 0x100)
            if kind == b"para" and number >> 16 == 0:
                return bool(struct.unpack_from(">i", profile, offset + 12)[0] == 0x10000)
    except struct.error:
        pass
    return False


def png_header(content: bytes) -> tuple[int, int]:
    """Return the bit depth and the color type of a PNG."""
    return content[24], content[25]


def _bare_png(content: bytes) -> Picture:
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    exif, xmp_orientation, gamma, icc_gamma, names_space, palette = b"", 1, None, None, False, 0
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        data = content[position + 8 : end - 4]
        is_critical = not kind[0] & 0x20
        if kind == b"tRNS":
            kept.append(_transparency(content, data, palette))
        elif is_critical:
            palette = length // 3 if kind == b"PLTE" else palette
            kept.append(content[position:end])
        elif kind == b"eXIf":
            exif = data
        elif kind == b"iCCP" and icc_is_linear(_unpacked(data)):
            names_space, icc_gamma = True, 1.0
        elif kind in (b"iCCP", b"sRGB", b"cICP"):
            names_space = True
        elif kind == b"gAMA" and length == 4:
            gamma = int.from_bytes(data) / 100_000
        elif kind == b"iTXt" and length <= _MAX_TEXT:
            xmp_orientation = _orientation_of_xmp(data)
        position = end
        if kind == b"IEND":
            break
    orientation = exif_orientation(exif) if exif else xmp_orientation
    return Picture(b"".join(kept), orientation, icc_gamma if names_space else gamma)


def _unpacked(chunk: bytes) -> bytes:
    """Return the profile in an iCCP chunk; b"" if it is broken."""
    try:
        return zlib.decompressobj().decompress(chunk.partition(b"\0")[2][1:], _MAX_TEXT)
    except zlib.error:
        return b""


def _transparency(content: bytes, data: bytes, palette: int) -> bytes:
    """Return a tRNS chunk that fits the image; b"" if the color type has none, or if it is cut."""
    kind = png_header(content)[1]
    fitting = data[: {0: 2, 2: 6, 3: palette}.get(kind, 0)]
    if not fitting or (kind, len(fitting)) in ((0, 1), *((2, length) for length in range(6))):
        return b""
    chunk = b"tRNS" + fitting
    return struct.pack(">I", len(fitting)) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _bare_jpeg(content: bytes) -> Picture:
    kept, position = [content[:2]], 2
    exif, xmp_orientation = b"", 1
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == 0xDA:  # the pixels begin
            break
        (length,) = struct.unpack_from(">H", content, position + 2)
        end = position + 2 + length
        data = content[position + 4 : end]
        if marker == 0xE0 and data.startswith(b"JFIF\0"):
            kept.append(_JFIF)  # it says that the colors are YCbCr
        elif marker == 0xE1 and data.startswith(b"Exif\0"):
            exif = exif or data
        elif marker == 0xE1:
            xmp_orientation = max(xmp_orientation, _orientation_of_xmp(data))
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (marker == 0xEE and length >= 14):
            kept.append(content[position:end])  # 0xEE: Adobe's, it says whether colors are CMYK, YCCK or RGB
        position = end
    kept.append(content[position:])
    return Picture(b"".join(kept), exif_orientation(exif) if exif else xmp_orientation)


def _orientation_of_xmp(data: bytes) -> int:
    found = _XMP_ORIENTATION.search(data)
    return int(found[1]) if found else 1
