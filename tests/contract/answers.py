"""Answers in a form that can be recorded: their JSON, their decoded files, and a digest of their bytes."""

import base64
import hashlib
import io
import json
import re
import struct
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from PIL import Image, ImageSequence

from tests.contract.cases import TOKEN, Case
from tests.e2e.conftest import Answer, Server

_NO_FINGERPRINT = b"fingerprint."
_PNG = b"\x89PNG\r\n\x1a\n"
_LOSSY = {"jpeg", "mp4"}


@dataclass
class Recorded:
    """The parts of an answer that are the same each time."""

    says: Any
    """The JSON, in which each sample is replaced by its shape and, if its values are exact, their sha256."""
    values: list[np.ndarray]
    """The decoded samples."""
    digest: str
    """sha256 of all bytes, without the fingerprint's id and times of day."""
    fingerprint: str
    lossy: bool


def ask(server: Server, case: Case) -> Answer:
    """Send a case with the token that the service needs."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": case.accept, "Content-Type": "application/json"}
    headers |= case.headers
    body = None if case.body is None else json.dumps(case.body).encode()
    return server.call(case.path, body, case.method, **headers)


def record(answer: Answer) -> Recorded:
    """Return the parts of an answer with samples."""
    assert answer.status == 200, answer.body
    fingerprint = answer.headers["x-latentd-fingerprint"]
    files = _Files(fingerprint.encode())
    body = answer.body
    media_type = answer.headers["content-type"].split(";")[0]
    says: Any
    if media_type == "application/json":
        says, body = files.in_json(body)
    elif media_type == "text/event-stream":
        events = [re.fullmatch(rb"event: (.*)\ndata: (.*)", each) for each in body.split(b"\n\n")[:-1]]
        read = [(event[1].decode(), *files.in_json(event[2])) for event in events if event]
        says, body = [[name, data] for name, data, _ in read], b"".join(text for *_, text in read)
    elif media_type == "application/octet-stream":
        length = int(answer.headers["inference-header-content-length"])
        says = [json.loads(body[:length]), files.shown(np.frombuffer(body[length:], "<f4"))]
    else:
        says = files.shown_file(body, media_type.split("/")[1])
        body = files.plain(body)
    digest = hashlib.sha256(body.replace(fingerprint.encode(), _NO_FINGERPRINT)).hexdigest()
    return Recorded([media_type, says], files.values, digest, fingerprint, files.lossy)


class _Files:
    """The samples of one answer."""

    def __init__(self, fingerprint: bytes) -> None:
        self._fingerprint = fingerprint
        self.values: list[np.ndarray] = []
        self.lossy = False
        self._format = ""

    def in_json(self, body: bytes) -> tuple[Any, bytes]:
        """Return the JSON with its samples replaced, and the bytes of the same text."""
        told = json.loads(body)
        if "fingerprint" in told:
            told["fingerprint"] = _NO_FINGERPRINT.decode()
        if "created" in told:
            told["created"] = 0
            body = re.sub(rb'"created":\d+', b'"created":0', body)
        self._format = told.get("format") or told.get("output_format") or self._format
        lists = [told[name] for name in ("samples", "data", "outputs") if isinstance(told.get(name), list)]
        for entry in lists[0] if lists else [told]:
            (name,) = {"data", "b64_json"} & entry.keys() or {None}
            if name is None:
                continue
            if isinstance(entry[name], str):
                file = base64.b64decode(entry[name])
                body = body.replace(entry[name].encode(), self.plain(file))
                entry[name] = self.shown_file(file, self._format)
            else:
                entry[name] = self.shown(np.array(entry[name], dtype=np.float32))
        return told, body

    def shown_file(self, file: bytes, format: str) -> str:
        self.lossy |= format in _LOSSY
        return self.shown(_decode(file, format), f"{format} ", format not in _LOSSY)

    def shown(self, values: np.ndarray, before: str = "", exact: bool = True) -> str:
        self.values.append(values)
        digest = f" {hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()}" if exact else ""
        return f"{before}{values.dtype}{list(values.shape)}{digest}"

    def plain(self, file: bytes) -> bytes:
        """Return a file without the id of the fingerprint, and without PNG's checksum of the chunk that has it."""
        if not file.startswith(_PNG):
            return file.replace(self._fingerprint, _NO_FINGERPRINT)
        at, parts = len(_PNG), [_PNG]
        while at < len(file):
            size = struct.unpack(">I", file[at : at + 4])[0]
            chunk = file[at : at + 12 + size]
            parts.append(chunk[:-4].replace(self._fingerprint, _NO_FINGERPRINT) if chunk[4:8] == b"tEXt" else chunk)
            at += len(chunk)
        return b"".join(parts)


def _decode(file: bytes, format: str) -> np.ndarray:
    """Return a picture as [H, W] or [H, W, 3], an animation as [frames, H, W, …], and an npy file as it is."""
    if format in ("npy", "x-npy"):
        return np.asarray(np.load(io.BytesIO(file), allow_pickle=False))
    if format == "mp4":
        with av.open(io.BytesIO(file)) as film:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
    picture = Image.open(io.BytesIO(file))
    if getattr(picture, "n_frames", 1) == 1:
        return np.asarray(picture)
    return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def packed(values: np.ndarray) -> Any:
    """Return values as JSON: bytes as base64, others as numbers."""
    return base64.b64encode(values.tobytes()).decode() if values.dtype == np.uint8 else values.tolist()


def unpacked(recorded: Any, like: np.ndarray) -> np.ndarray:
    """Return the values that `packed` made JSON of, in the shape and type of `like`."""
    if isinstance(recorded, str):
        return np.frombuffer(base64.b64decode(recorded), np.uint8).reshape(like.shape)
    return np.array(recorded, dtype=like.dtype)
