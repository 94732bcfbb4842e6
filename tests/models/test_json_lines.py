"""JSON Lines files that are torn by crashes and full disks."""

import json
from pathlib import Path

import pytest

from latentd.models.json_lines import JsonLinesAppender, read_json_lines, write_json_lines


def read(path: Path) -> list[object]:
    return list(read_json_lines(path, json.loads))


def test_lines_are_appended_and_read(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert read(path) == []
    lines = JsonLinesAppender(path)
    lines.append('{"a": 1}')
    assert read(path) == [{"a": 1}]  # before it is closed
    lines.append('"é"')
    lines.close()
    assert read(path) == [{"a": 1}, "é"]
    write_json_lines(path, ["1", "2"])
    assert path.read_text() == "1\n2\n"


def test_a_torn_line_is_left_out_and_the_next_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'1\n{"a": "\xc3')
    assert read(path) == [1]
    lines = JsonLinesAppender(path, durable=True)
    lines.append("2")
    lines.append("3")
    assert read(path) == [1, 2, 3]


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b"[" * 100_000])
def test_lines_that_are_no_json_are_left_out(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"1\n" + line + b"\n2\n")
    assert read(tmp_path / "lines") == [1, 2]


def test_a_full_disk_is_reported_and_leaves_other_lines_whole() -> None:
    """Linux's /dev/full refuses all writes."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        JsonLinesAppender(full).append("1")
