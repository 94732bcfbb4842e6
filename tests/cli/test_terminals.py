"""Commands on terminals of any encoding, and on systems without some of Unix's modules."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentd.cli.main import latentd, main
from latentd.training.recipes.files import RECIPE_DIRECTORY

SHIPPED = Path(__file__).parents[2] / "models" / "checkpoints"
ENCODINGS = ("ascii", "latin-1", "cp1252", "gbk", "utf-8", "utf-16")
COMMANDS = {
    "runs": ["runs", "{runs}"],
    "runs-compared": ["runs", "{runs}/one", "{runs}/two"],
    "runs-json": ["runs", "{runs}", "--json"],
    "recipes": ["recipes"],
    "show": ["show", str(SHIPPED / "ring-gan.safetensors")],
    "dry-run": ["train", "ring-gan", "--dry-run", "--set", "description=a ψ of 猫"],
    "recipe-error": ["train", "ring-gan", "--set", "steps=猫"],
    "usage-error": ["runs", "--猫"],
    "not-there": ["show", "K\u00e4tzchen-\udcff-猫.safetensors"],
    "help": ["--help"],
    **{f"{name}-help": [name, "--help"] for name in latentd.commands},
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs: their tables have dashes, a multiplication sign and what people write."""
    for number, name in enumerate(("one", "two")):
        facts = {"name": f"猫 – {name}", "status": "finished", "steps": 10, "settings": {"batch_size": number}}
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    return tmp_path / "runs"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_encoding_of_the_terminal_ends_a_command(
    command: str, encoding: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [argument.replace("{runs}", str(runs)) for argument in COMMANDS[command]]
    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    monkeypatch.setattr(sys, "argv", ["latentd", *arguments])
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(SystemExit) as ended:
        main()
    for stream in (output, errors):
        stream.flush()
    is_wrong = command in ("recipe-error", "usage-error", "not-there")
    assert bool(ended.value.code) == is_wrong
    assert bool(output.buffer.getvalue()) != is_wrong  # type: ignore[attr-defined]  # a BytesIO
    assert bool(errors.buffer.getvalue()) == is_wrong  # type: ignore[attr-defined]  # a BytesIO
    if command in ("show", "dry-run", "runs-json"):
        json.loads(output.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]  # a BytesIO


@pytest.mark.parametrize(("columns", "color"), [("20", ""), ("80", ""), ("80", "1")])
def test_tables_show_all_text_in_any_width(columns: str, color: str, runs: Path) -> None:
    """Text wraps where the terminal is narrow. FORCE_COLOR, as CI systems set it, does not make a pipe a terminal."""
    done = subprocess.run(
        [Path(sys.executable).with_name("latentd"), "runs", runs],
        env=os.environ | {"COLUMNS": columns, "PYTHONUTF8": "1"} | ({"FORCE_COLOR": color} if color else {}),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "…" not in done.stdout
    assert "猫 – one" in done.stdout


def test_a_process_with_another_encoding(runs: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("latentd"), "runs", runs],
        env=os.environ | {"PYTHONIOENCODING": "latin-1:strict", "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2013" in done.stdout
    assert "× baseline".encode("latin-1") in done.stdout


def test_files_are_utf8_in_every_locale(tmp_path: Path) -> None:
    """In a locale of ASCII, Python would write and read text as ASCII."""
    text = (RECIPE_DIRECTORY / "ring-gan.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace('description = "', 'description = "猫 '), encoding="utf-8")
    for command in (["train", "mine.toml", "--set", "steps=1"], ["runs", "--json"]):
        done = subprocess.run(
            [Path(sys.executable).with_name("latentd"), *command],
            cwd=tmp_path,
            env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for facts in (json.loads((tmp_path / "runs" / "mine" / "run.json").read_bytes()), json.loads(done.stdout)[0]):
        assert facts["settings"]["description"].startswith("猫 ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["--version", "recipes"])
def test_a_full_disk_behind_standard_output_is_reported_in_one_line(command: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [Path(sys.executable).with_name("latentd"), command],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=300,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "error: the output cannot be written: [Errno 28] No space left on device\n"


def test_a_current_folder_that_was_removed_is_reported_in_one_line(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    program = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, Path(sys.executable).with_name("latentd"), "--version"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: the current folder does not exist any more; change to another one\n"


def test_commands_start_without_the_modules_that_windows_does_not_have() -> None:
    program = """
import sys
for name in ("fcntl", "grp", "pwd", "resource"):
    sys.modules[name] = None
from click.testing import CliRunner
from latentd.cli.main import latentd
for name in latentd.commands:
    assert CliRunner().invoke(latentd, [name, "--help"]).exit_code == 0, name
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
