"""From a run folder to `report.html`: what the page needs as one JSON, in a template that asks no network."""

import base64
import hashlib
import html
import json
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from latentd.models.files import atomic_write, printable
from latentd.training.directory import NEAREST, sample_files, step_of
from latentd.training.report.metric_info import metric_info
from latentd.training.report.run_record import RunRecord, json_safe

_REPORT = "report.html"
_FILES = Path(__file__).parent
_SCRIPTS = ("dom.js", "curves.js", "samples.js", "report.js")
_CURVES = ("losses", "vitals", "figures")
_MOST_BYTES = 8 * 2**20
"""Of files of samples that go into a page."""
_MOST_DRAWN = 2000
"""Moments a curve is drawn from; of more, every second, third, … and the last."""


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, of a run that goes on or has ended, and return its path.

    Raises RunNotFound if the folder has no readable `run.json`, and OSError if the page cannot be written.
    """
    record = RunRecord.read(folder)
    content = {
        "folder": printable(folder.name),
        "facts": record.facts,
        "reached": {"step": record.step, "seconds": record.seconds},
        "alarms": record.alarms,
        "nearest": _nearest(folder),
        **_curves(record.history),
        **_frames(folder),
    }
    title = printable(str(record.facts.get("name", folder.name)))
    report = folder / _REPORT
    with atomic_write(report) as temporary:
        temporary.write_text(_page(title, content), encoding="utf-8")
    return report


def _page(title: str, content: dict[str, Any]) -> str:
    style, script, template = _parts()
    return template.substitute(
        title=html.escape(title),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        content=_embedded(content),
    )


@cache
def _parts() -> tuple[str, str, Template]:
    """Style, script and the page that they go into."""
    script = "".join((_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return (
        (_FILES / "report.css").read_text(encoding="utf-8"),
        script,
        Template((_FILES / "page.html").read_text(encoding="utf-8")),
    )


def _hash(source: str) -> str:
    """As a Content-Security-Policy names what may be inline (https://www.w3.org/TR/CSP3/, 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _embedded(content: dict[str, Any]) -> str:
    """JSON that a browser reads, and that cannot end the element it stands in."""
    return json.dumps(json_safe(content), separators=(",", ":")).replace("<", "\\u003c")


def _curves(moments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    curves = {kind: [_point(each, kind) for each in moments if kind in each] for kind in _CURVES}
    names = dict.fromkeys(name for points in curves.values() for point in points for name in point["values"])
    return {
        **{kind: _thinned(points) for kind, points in curves.items()},
        "words": {name: asdict(metric_info(name)) for name in names},
    }


def _point(moment: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {"step": moment["step"], "values": moment[kind]}


def _thinned(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    every = -(-len(points) // _MOST_DRAWN) or 1
    last = len(points) - 1
    return [point for index, point in enumerate(points) if (last - index) % every == 0]


def _frames(folder: Path) -> dict[str, Any]:
    """Samples through time, and the names of files that are none, or were torn."""
    frames, unreadable = [], []
    for path in _as_many_as_fit(sample_files(folder)):
        try:
            frames.append({"step": step_of(path), **_frame(path)})
        except (OSError, ValueError, SyntaxError):  # the last is Pillow's word for a broken PNG
            unreadable.append(printable(path.name))
    return {"frames": frames, "unreadable": unreadable}


def _as_many_as_fit(files: Sequence[Path]) -> Sequence[Path]:
    """Every one, every second, third, … and the last, so that the page stays small enough to be sent."""
    every = -(-sum(file.stat().st_size for file in files) // _MOST_BYTES) or 1
    return files[::-1][::every][::-1]


def _frame(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return {"points": json.loads(path.read_text(encoding="utf-8"))}
    return {"picture": _picture(path)}


def _picture(path: Path) -> dict[str, Any]:
    with Image.open(path) as picture:
        width, height = picture.size
        picture.verify()
    kind = mimetypes.guess_type(path.name)[0]
    content = base64.b64encode(path.read_bytes()).decode()
    return {"source": f"data:{kind};base64,{content}", "width": width, "height": height}


def _nearest(folder: Path) -> dict[str, Any] | None:
    """Samples beside the training images nearest to them, where the run has been asked for them."""
    try:
        return {
            "picture": _picture(folder / f"{NEAREST}.png"),
            "facts": json.loads((folder / f"{NEAREST}.json").read_text(encoding="utf-8")),
        }
    except (OSError, ValueError, SyntaxError):
        return None
