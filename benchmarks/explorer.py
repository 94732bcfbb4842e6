"""How smoothly the explorer follows a slider that is dragged: `python -m benchmarks.explorer`.

Runs Chromium on the same cores as the service. Moves a slider in every frame that the browser draws, and counts how
often the image in the viewer changes.
"""

import shutil
import time
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks import processes, report

_SELECT = "#tiles .tile:nth-of-type({}) .select"
_MODES = {"sample": "#slider-truncation", "interpolate": "#slider-truncation", "plane": "#toward-b"}
"""The slider that is dragged in each mode: one sample, an interpolation (47 frames), a point in the plane."""

_DRAG = """async ([selector, seconds]) => {
  const slider = document.querySelector(selector);
  const [least, most] = [Number(slider.min), Number(slider.max)];
  let shown = 0;
  const observer = new MutationObserver((changes) => { shown += changes.length; });
  observer.observe(document.getElementById("sample"), { subtree: true, attributes: true, attributeFilter: ["src"] });
  const began = performance.now();
  let drawn = 0;
  for (let now = began; now - began < 1000 * seconds; now = performance.now()) {
    const share = 0.5 + 0.45 * Math.sin((now - began) / 700);
    slider.value = String(least + share * (most - least));
    slider.dispatchEvent(new Event("input"));
    drawn += 1;
    await new Promise(requestAnimationFrame);
  }
  observer.disconnect();
  return { shown: shown / seconds, drawn: drawn / seconds };
}"""


def drag(page: Page, mode: str, seconds: float) -> dict[str, Any]:
    """Drag the slider of `mode`. Return the images shown and the frames drawn by the browser, per second."""
    page.click(f"#modes [data-value={mode}]")
    page.wait_for_timeout(500)
    rates: dict[str, Any] = page.evaluate(_DRAG, [_MODES[mode], seconds])
    return {"mode": mode, "slider": _MODES[mode]} | rates


def main() -> None:
    """Run, print the table, and write it."""
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="fashion-dcgan")
    parser.add_argument("--seconds", type=float, default=10.0, help="of dragging in each mode")
    options = report.parse(parser, seconds=0.3)
    machine = report.machine()
    with processes.latentd() as server, sync_playwright() as session:
        browser = session.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.monotonic()
        page.goto(f"{server.url}/explore#model={options.model}")
        page.wait_for_selector("#tiles .select:not([disabled])")
        first_gallery = time.monotonic() - began
        for tile in (5, 9):
            page.click(_SELECT.format(tile))
        runs = [drag(page, mode, options.seconds) for mode in _MODES]
        browser.close()
    rows = [[each["mode"], each["slider"], each["shown"], each["drawn"]] for each in runs]
    table = report.markdown(["mode", "slider", "images per second", "frames the browser drew per second"], rows)
    table += f"\n\nFrom opening the page to the first samples: {first_gallery:.2f} s."
    results = {"machine": machine, "model": options.model, "first_gallery": first_gallery, "runs": runs}
    report.write(options.results, "explorer", results, table)


if __name__ == "__main__":
    main()
