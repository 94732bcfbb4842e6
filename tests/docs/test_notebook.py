"""The notebook: its cells run one after another, and it is stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_it_has_no_outputs_and_is_small() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert NOTEBOOK.stat().st_size < 20_000


def test_all_cells_run(tmp_path: Path) -> None:
    program = tmp_path / "cells.py"
    program.write_text("\n\n".join(code_cells()), encoding="utf-8")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, program.name], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "frechet_distance" in result.stdout
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()
    assert len(list(tmp_path.glob("sample-*.png"))) == 4
