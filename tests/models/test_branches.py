"""Nobody outside a kind's folder asks for the class of a kind, or compares a kind's name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentd.models.kind import kinds

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "service", "training", "cli", "latentd")
KINDS = {
    name: kind.__name__
    for folder in ("inputs", "conditions", "outputs")
    for name, kind in kinds(f"latentd.models.{folder}").items()
}
"""The name of each kind, and of its class."""


def branches(source: str) -> list[str]:
    """Return the branches on kinds in a Python module."""
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in _branches(ast.parse(source))]


def _branches(tree: ast.AST) -> Iterator[ast.expr | ast.pattern]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]):
                if {each.id for each in ast.walk(classes) if isinstance(each, ast.Name)} & {*KINDS.values()}:
                    yield node
            case ast.MatchClass(cls=ast.Name(id=name)) if name in KINDS.values():
                yield node
            case ast.Compare():
                sides = [node.left, *node.comparators]
                names = {each.value for side in sides for each in ast.walk(side) if isinstance(each, ast.Constant)}
                if any(isinstance(side, ast.Attribute) and side.attr == "kind" for side in sides) and names & {*KINDS}:
                    yield node


def test_every_way_to_branch_is_found() -> None:
    for branch in (
        "isinstance(output, ImageOutput)",
        "isinstance(output, str | PointsOutput)",
        "isinstance(output, (str, TextCondition))",
        "spec.condition.kind == 'none'",
        "'image' != output.kind",
        "output.kind in ('image', 'points')",
        "match output:\n    case ImageOutput():\n        pass",
    ):
        assert branches(branch), branch
    assert branches("isinstance(output, str); alarm.kind == 'collapse'; output.kind; len(spec.output.shape) == 3") == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_nobody_branches_on_a_kind(folder: str) -> None:
    own = [ROOT / "models" / name for name in ("inputs", "conditions", "outputs")]
    files = [path for path in (ROOT / folder).rglob("*.py") if not any(each in path.parents for each in own)]
    assert files
    assert {str(path): found for path in files if (found := branches(path.read_text()))} == {}


def test_no_page_branches_on_a_kind() -> None:
    names = "|".join(KINDS)
    for path in (*(ROOT / "service/explorer/page").glob("*.js"), *(ROOT / "training/report").glob("*.js")):
        assert not re.findall(rf"kind\s*[!=]==?\s*[\"'](?:{names})[\"']", path.read_text()), path
