"""What people see while a run trains: progress on terminals of any width, the estimate, the report, the last lines."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from itertools import pairwise
from pathlib import Path

import pytest

import latentd
from latentd.models.card import DataCard
from latentd.training.data.source import TaskProgress
from latentd.training.recipes.load import load_recipe
from latentd.training.run.directory import RunNameError
from latentd.training.run.progress import Display, in_words
from latentd.training.run.report_writer import ReportWriter
from latentd.training.run.time_estimate import TimeEstimate
from tests.training.test_callbacks import Clock, do_steps, handle

SHOWN = """
import sys, time
from latentd.training.data.source import TaskProgress
from latentd.training.run.progress import Display

with Display(hidden=False) as display:
    for count in (1, 2, 300):
        display.update(TaskProgress("indexing pictures-of-my-holidays", count, None, "files"))
    display.update(TaskProgress("indexing pictures-of-my-holidays", 300, 300, "files"))
    display.update(TaskProgress("extracting features", 700, None, "images"))
    for step in (4999, 5000, 20000):
        time.sleep(0.15)
        display.update(TaskProgress("training image-folder-dcgan", step, 20000, "steps", lambda: "D 1.234 G 0.123"))
    print("a log line", file=sys.stderr)
"""


def shown_on_terminal(columns: int) -> list[str]:
    """Return the last picture of a terminal of so many columns, line by line."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOWN], stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"}
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            content = os.read(ours, 65536)
        except OSError:  # Linux' end of a terminal
            break
        if not content:
            break
        written += content
    os.close(ours)
    assert process.wait(60) == 0, written
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())
    return [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]


@pytest.mark.parametrize(("columns", "rate"), [(60, False), (80, True), (120, True)])
def test_progress_can_be_read_on_any_terminal(columns: int, rate: bool) -> None:
    lines = shown_on_terminal(columns)
    assert max(map(len, lines)) <= columns
    last = next(line for line in reversed(lines) if line.startswith("train"))
    assert "20000/20000" in last
    assert "D 1.234 G 0.123" in last
    assert ("steps/s" in last) == rate
    assert "0:00:00" in last
    assert "a log line" in lines


def test_tasks_of_unknown_length_end() -> None:
    lines = shown_on_terminal(80)
    for task, count in (("indexing", 300), ("extracting", 700)):
        last = next(line for line in reversed(lines) if line.startswith(task))
        assert f"{count}/{count}" in last
        assert "?" not in last


def test_a_log_has_no_line_for_a_short_task_of_unknown_length(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), Display(hidden=False) as display:
        display.update(TaskProgress("indexing pictures", 1, None, "files"))
        display.update(TaskProgress("indexing pictures", 300, 300, "files"))
        display.update(TaskProgress("decoding pictures", 300, 300, "images"))
    assert [line.split(",")[0] for line in caplog.messages] == ["decoding pictures: 300 of 300"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(54, "54 s"), (540, "9 min"), (9540, "2 h 39 min"), (273_600, "3 d 4 h"), (5400, "1 h 30 min")],
)
def test_durations_are_in_the_units_that_a_person_would_use(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_long_run_says_once_how_long_it_will_take(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level("INFO"):
        do_steps(handle(clock, TimeEstimate(), steps=10_000), clock, range(1, 40))
    (line,) = caplog.messages
    assert line.startswith("about 2 h 46 min for the other 9,989 steps (1 s each)")


def test_a_short_run_is_not_announced(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level("INFO"):
        do_steps(handle(clock, TimeEstimate(), steps=60), clock, range(1, 61))
    assert not caplog.messages


def test_the_report_is_there_from_the_first_step_and_renewed_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = Clock(), []

    def write(folder: Path) -> None:
        written.append(clock.seconds)
        clock.seconds += 0.5

    monkeypatch.setattr("latentd.training.run.report_writer.write_report", write)
    do_steps(handle(clock, ReportWriter(), steps=1000), clock, range(1, 201))
    assert written[0] == 1.0
    assert [round(later - earlier) for earlier, later in pairwise(written)] == [60, 60, 60]


def test_a_report_that_takes_long_is_written_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = Clock(), []

    def write(folder: Path) -> None:
        written.append(clock.seconds)
        clock.seconds += 5.0

    monkeypatch.setattr("latentd.training.run.report_writer.write_report", write)
    do_steps(handle(clock, ReportWriter(), steps=1000), clock, range(1, 701))
    gaps = [later - earlier for earlier, later in pairwise(written)]
    assert min(gaps[1:]) >= 300.0  # 5 s of 1/60


def test_few_images_are_pointed_out_with_settings_that_help() -> None:
    def advice(images: int | None, *settings: str) -> str | None:
        card = DataCard(name="pictures", size=images, sha256=None, licence="unknown")
        return load_recipe("image-folder-dcgan", settings)[1].advice(card)

    few = advice(300)
    assert few is not None
    assert few.startswith("300 images are few")
    settings = shlex.split(few.partition("begin another run with ")[2])[1::2]
    assert len(settings) == 2
    assert advice(300, *settings) is None
    assert advice(5000) is None
    assert advice(None) is None


def test_a_run_in_python_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert latentd.train("gaussian-gan", name="mine", steps=2).folder == Path("runs/mine")
    for wrong in ({"name": "a/b"}, {"name": "mine", "out": "elsewhere"}):
        with pytest.raises(RunNameError, match="name"):
            latentd.train("gaussian-gan", steps=2, **wrong)  # type: ignore[arg-type]  # mypy takes them for settings
