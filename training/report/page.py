"""The page `report.html`: the run's data as JSON, in a template that loads nothing from the network."""

import base64
import hashlib
import html
import json
import math
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from PIL import Image

from latentd.models.files import atomic_write, printable
from latentd.training.evaluation.verdict import judge
from latentd.training.report.metric_info import metric_info
from latentd.training.report.run_record import RunRecord, json_safe
from latentd.training.run.directory import NEAREST, sample_files, step_of

T = TypeVar("T")

_REPORT = "report.html"
_FILES = Path(__file__).parent
_SCRIPTS = ("dom.js", "curves.js", "samples.js", "report.js")
_CURVES = {"losses": "losses", "probes": "vitals", "metrics": "figures"}
"""Keys of the page's data, and of the lines in metrics.jsonl."""
_MAX_SAMPLE_BYTES = 8 * 2**20
"""Total size of sample files in a page."""
_MAX_POINTS = 2000
"""Points of a curve."""


def report_path(folder: Path) -> Path:
    """Return the path of the report in a run directory."""
    return folder / _REPORT


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run directory and return its path. The run may still be under way.

    Raises RunNotFound if the folder has no readable `run.json`, and OSError if the page cannot be written.
    """
    record = RunRecord.read(folder)
    content = {
        "folder": printable(folder.name),
        "facts": record.facts,
        "progress": {"step": record.step, "seconds": record.seconds},
        "alarms": record.alarms,
        "nearest": _nearest(folder),
        "verdict": _verdict(record),
        **_curves(record.history),
        **_frames(folder),
    }
    title = printable(str(record.facts.get("name", folder.name)))
    report = report_path(folder)
    with atomic_write(report) as temporary:
        temporary.write_text(_page(title, content), encoding="utf-8")
    return report


def _page(title: str, content: dict[str, Any]) -> str:
    style, script, template = _assets()
    return template.substitute(
        title=html.escape(title),
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
        content=_to_script(content),
    )


@cache
def _assets() -> tuple[str, str, Template]:
    """Return the style, the script and the page's template."""
    script = "".join((_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return (
        (_FILES / "report.css").read_text(encoding="utf-8"),
        script,
        Template((_FILES / "page.html").read_text(encoding="utf-8")),
    )


def _csp_hash(source: str) -> str:
    """Return the hash that allows an inline script or style (https://www.w3.org/TR/CSP3/, 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _to_script(content: dict[str, Any]) -> str:
    """Return JSON that browsers can parse and that cannot close its script element."""
    return json.dumps(json_safe(content), separators=(",", ":")).replace("<", "\\u003c")


def _curves(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    curves = {
        key: [{"step": line["step"], "values": line[stored]} for line in history if stored in line]
        for key, stored in _CURVES.items()
    }
    names = dict.fromkeys(name for points in curves.values() for point in points for name in point["values"])
    return {
        **{key: _every_nth(points, len(points) / _MAX_POINTS) for key, points in curves.items()},
        "metric_info": {name: asdict(metric_info(name)) for name in names},
    }


def _frames(folder: Path) -> dict[str, Any]:
    """Return samples over time, and the names of unreadable files."""
    files = sample_files(folder)
    frames, unreadable = [], []
    for path in _every_nth(files, sum(file.stat().st_size for file in files) / _MAX_SAMPLE_BYTES):
        try:
            frames.append({"step": step_of(path), **_frame(path)})
        except (OSError, ValueError, SyntaxError):  # Pillow raises SyntaxError for a damaged PNG
            unreadable.append(printable(path.name))
    return {"frames": frames, "unreadable": unreadable}


def _every_nth(items: Sequence[T], excess: float) -> Sequence[T]:
    """Return every n-th item and the last, with the smallest n ≥ `excess`."""
    n = max(math.ceil(excess), 1)
    return items[::-1][::n][::-1]


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


def _verdict(record: RunRecord) -> dict[str, Any] | None:
    verdict = judge(record.latest_metrics, record.facts.get("floors", {}))
    return asdict(verdict) if verdict else None


def _nearest(folder: Path) -> dict[str, Any] | None:
    """Return the picture of samples beside their nearest training images; None if the run has none."""
    try:
        return {
            "picture": _picture(folder / f"{NEAREST}.png"),
            "facts": json.loads((folder / f"{NEAREST}.json").read_text(encoding="utf-8")),
        }
    except (OSError, ValueError, SyntaxError):
        return None
