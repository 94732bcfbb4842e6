"""The explorer in a browser, as its tests handle it."""

import base64
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONDITIONAL = "#model=fashion-dcgan-conditional"
RING = "#model=ring-gan"
READY = "#tiles .pick:not([disabled])"
Open = Callable[..., Any]


def settle(page: Any) -> None:
    """Until everything that was asked for is shown."""
    page.wait_for_selector("main:not(:has([aria-busy=true])):has(#request:not(:empty))", state="attached")


def until(page: Any, expression: str) -> None:
    """Playwright's own way evaluates strings within the page, which its policy forbids."""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def shown_bytes(page: Any) -> bytes:
    return base64.b64decode(page.get_attribute("#seen img", "src").partition(",")[2])


def pick(page: Any, *tiles: int) -> None:
    for tile in tiles:
        page.click(f"#tiles .tile:nth-of-type({tile}) .pick")
        settle(page)


def slide(page: Any, slider: str, value: float, held: bool = False) -> None:
    """Move a slider, and let go of it unless it is `held`."""
    page.eval_on_selector(
        slider, "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )
    if not held:
        page.dispatch_event(slider, "change")
    settle(page)


def run_what_is_written(page: Any, folder: Path) -> bytes:
    """The one file that the copied command or program writes."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == page.inner_text("#request")
    folder.mkdir()
    command = ["bash", "-ec", text] if text.startswith("curl") else [sys.executable, "-c", text]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    (file,) = folder.iterdir()
    return file.read_bytes()
