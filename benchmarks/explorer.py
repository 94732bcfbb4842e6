"""How smoothly the explorer follows a slider that is dragged: `python -m benchmarks.explorer`.

A real Chromium on this machine, on the same cores as the service. A slider is moved in every frame that the browser
draws; counted are the different pictures that the stage then shows.
"""

import argparse
import shutil
import time
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks import processes, report

_PICK = "#tiles .tile:nth-of-type({}) .pick"
_WAYS = {"sample": "#slider-truncation", "travel": "#slider-truncation", "plane": "#toward-b"}
"""The slider that is dragged, by what the stage shows: one sample, 47 frames between three, a place in their plane."""

_DRAG = """async ([selector, seconds]) => {
  const slider = document.querySelector(selector);
  const [least, most] = [Number(slider.min), Number(slider.max)];
  let shown = 0;
  const watch = new MutationObserver((changes) => { shown += changes.length; });
  watch.observe(document.getElementById("seen"), { subtree: true, attributes: true, attributeFilter: ["src"] });
  const began = performance.now();
  let drawn = 0;
  for (let now = began; now - began < 1000 * seconds; now = performance.now()) {
    const share = 0.5 + 0.45 * Math.sin((now - began) / 700);
    slider.value = String(least + share * (most - least));
    slider.dispatchEvent(new Event("input"));
    drawn += 1;
    await new Promise(requestAnimationFrame);
  }
  watch.disconnect();
  return { shown: shown / seconds, drawn: drawn / seconds };
}"""


def drag(page: Page, way: str, seconds: float) -> dict[str, Any]:
    """Pictures shown and frames drawn by the browser, a second."""
    page.click(f"#modes [data-value={way}]")
    page.wait_for_timeout(500)
    rates: dict[str, Any] = page.evaluate(_DRAG, [_WAYS[way], seconds])
    return {"way": way, "slider": _WAYS[way]} | rates


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fashion-dcgan")
    parser.add_argument("--seconds", type=float, default=10.0, help="of dragging, each way")
    options = parser.parse_args()
    machine = report.machine()
    with processes.latentd() as server, sync_playwright() as session:
        browser = session.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.monotonic()
        page.goto(f"{server.url}/explore#model={options.model}")
        page.wait_for_selector("#tiles .pick:not([disabled])")
        first_wall = time.monotonic() - began
        for tile in (5, 9):
            page.click(_PICK.format(tile))
        runs = [drag(page, way, options.seconds) for way in _WAYS]
        browser.close()
    rows = [[each["way"], each["slider"], each["shown"], each["drawn"]] for each in runs]
    table = report.markdown(
        ["the stage shows", "slider", "pictures a second", "frames the browser drew a second"], rows
    )
    table += f"\n\nFrom the address to the wall of samples: {first_wall:.2f} s."
    report.write(
        "explorer", {"machine": machine, "model": options.model, "first_wall": first_wall, "runs": runs}, table
    )


if __name__ == "__main__":
    main()
