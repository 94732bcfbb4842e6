"""Helpers for tests of the explorer in a browser."""

import base64
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONDITIONAL = "#model=fashion-dcgan-conditional"
RING = "#model=ring-gan"
READY = "#tiles .select:not([disabled])"
Open = Callable[..., Any]


def settle(page: Any) -> None:
    """Wait until every answer is shown."""
    page.wait_for_selector("main:not(:has([aria-busy=true])):has(#request:not(:empty))", state="attached")


def until(page: Any, expression: str) -> None:
    """Wait until a JavaScript expression is true. The page's security policy forbids `wait_for_function`."""
    deadline = time.monotonic() + 300
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def shown_bytes(page: Any) -> bytes:
    return base64.b64decode(page.get_attribute("#sample img", "src").partition(",")[2])


def select(page: Any, *tiles: int) -> None:
    for tile in tiles:
        page.click(f"#tiles .tile:nth-of-type({tile}) .select")
        settle(page)


def slide(page: Any, slider: str, value: float, held: bool = False) -> None:
    """Move a slider to `value`, and release it unless it is to be `held`."""
    page.eval_on_selector(
        slider, "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )
    if not held:
        page.dispatch_event(slider, "change")
    settle(page)


def run_copied_code(page: Any, folder: Path) -> bytes:
    """Copy the code of the request, run it in `folder`, and return the file that it writes."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == page.inner_text("#request")
    folder.mkdir()
    command = ["bash", "-ec", text] if text.startswith("curl") else [sys.executable, "-c", text]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    (file,) = folder.iterdir()
    return file.read_bytes()
