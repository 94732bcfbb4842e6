"""The pages name the virtual environment in one way: activated once, so that commands need no path."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
ACTIVATE = ". .venv/bin/activate"
COMMAND = re.compile(r"^(?:\w+=\S+ )*(?:latentd|bentoml|pytest|python -m) ", re.MULTILINE)


def blocks(text: str) -> str:
    return "\n".join(re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_those_of_the_active_environment(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert ".venv/bin/" not in text.replace(ACTIVATE, "")
    if COMMAND.search(blocks(text)):
        assert ACTIVATE in text


def test_commands_are_found() -> None:
    assert COMMAND.search(blocks((ROOT / "docs" / "training.md").read_text(encoding="utf-8")))
