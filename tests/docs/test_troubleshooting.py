"""The page of errors: each message that it quotes is in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
FOLDERS = ("models", "training", "service", "cli")
VALUE = "…"
"""Stands for a value, on the page and in a text of the code."""


def texts_in(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else VALUE for part in each.values)
            yield "".join(parts)
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield re.sub(r"%\.?\d*[sdgf]", VALUE, each.value)


def texts_of_the_code() -> list[str]:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    texts = [text for file in files for text in texts_in(ast.parse(file.read_text(encoding="utf-8")))]
    scripts = [ROOT / "Makefile", *(ROOT / "service" / "explorer" / "page").glob("*.js")]
    return texts + [file.read_text(encoding="utf-8") for file in scripts]


CODE = texts_of_the_code()


def quoted_messages() -> list[str]:
    """The messages in the first columns: code with a space in it."""
    rows = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        code for symptom in rows for code in re.findall(r"`([^`]+)`", symptom) if " " in code and "make " not in code
    ]


def is_in_the_code(message: str) -> bool:
    return all(any(part in text for text in CODE) for part in message.split(VALUE) if part.strip(" :;,"))


@pytest.mark.parametrize("message", quoted_messages())
def test_quoted_messages_are_those_of_the_code(message: str) -> None:
    assert is_in_the_code(message)


def test_messages_are_found_and_others_are_not() -> None:
    assert len(quoted_messages()) > 40
    assert not is_in_the_code("there is no such message … in latentd")
