"""How much memory and time a large data set takes: `python -m benchmarks.data`.

Zip files with more and more images are indexed, decoded and read for three epochs. Anonymous memory belongs only to the
process. Mapped memory is pages of the decoded file, which the system takes back when it needs them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import imagecodecs
import numpy as np

from benchmarks import report
from latentd.training.data.sets.images import ImageFolder

_SIDE = 64


def zip_of_images(folder: Path, count: int, side: int = _SIDE) -> Path:
    """Write a zip file with `count` color images of `side` x `side` pixels, each of one color and a little noise."""
    path = folder / f"{count}.zip"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.RandomState(0)
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(count):
                pixels = random.randint(0, 248, 3) + random.randint(0, 8, (side, side, 3))
                content = imagecodecs.png_encode(pixels.astype(np.uint8), level=1)
                archive.writestr(f"{number % 10}/{number}.png", content)
    return path


def resident_mb() -> dict[str, float]:
    """Return the resident memory of this process by kind."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kinds = {"anonymous_mb": "RssAnon", "mapped_mb": "RssFile"}
    return {name: int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1e3 for name, field in kinds.items()}  # type: ignore[index]  # Linux has them


def measure(path: Path) -> dict[str, float]:
    """Index, decode and read `path`. Call it once in a new process: memory that was used before does not count."""
    before = resident_mb()
    settings = ImageFolder(name="image-folder", resolution=_SIDE)
    started = time.perf_counter()
    source = settings.load(path, lambda _: None)
    decoded = time.perf_counter()
    settings.load(path, lambda _: None)
    again = time.perf_counter()
    size = source.card.size or 0
    most, drawn = resident_mb(), source.draw(64, 0)
    for number in range(3 * size // 64):
        next(drawn)
        if number % 50 == 0:
            most = {name: max(value, most[name]) for name, value in resident_mb().items()}
    return {
        "images": size,
        "decoded_file_mb": size * _SIDE * _SIDE * 3 / 1e6,
        **{f"{name}_grown": most[name] - before[name] for name in most},
        "decoded_per_s": size / (decoded - started),
        "seconds_to_open_again": again - decoded,
    }


def main() -> None:
    """Measure each size in a process of its own and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 20_000, 80_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = report.parse(parser, images=[200])
    if options.measure:
        print(json.dumps(measure(options.measure)))  # noqa: T201  # its answer
        return
    facts = report.machine()
    folder = Path(tempfile.mkdtemp(prefix="latentd-data-"))
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    try:
        rows = []
        for count in options.images:
            command = [sys.executable, "-m", "benchmarks.data", "--measure", str(zip_of_images(folder, count))]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout))
    finally:
        shutil.rmtree(folder)
    table = report.markdown(list(rows[0]), [list(row.values()) for row in rows])
    report.write(options.results, "data", {"machine": facts, "sizes": rows}, table)


if __name__ == "__main__":
    main()
