"""The report page: the content of the file, and what a browser shows."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from latentd.training.report.page import write_report
from latentd.training.report.run_record import RunNotFound
from latentd.training.run.directory import read_metrics
from tests.training.run_directories import write_pictures, write_points, write_run

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


class Page(HTMLParser):
    """The elements of a report, and the text of its scripts and styles."""

    def __init__(self, report: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._in = ""
        self.feed(report.read_text(encoding="utf-8"))
        self.content: dict[str, Any] = json.loads(self.texts["script#content"], parse_constant=pytest.fail)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._in = f"{tag}#{attributes['id']}" if "id" in attributes else tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._in] = self.texts.get(self._in, "") + data


def test_the_page_has_the_content_of_the_run_directory(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    pictures = write_pictures(folder, {100: 10, 200: 20})
    content = Page(write_report(folder)).content
    assert content["facts"]["description"] == "Eight Gaussians on a circle"
    assert content["progress"] == {"step": 400, "seconds": 71.5}
    assert content["losses"] == [{"step": 100, "values": {"generator": 0.9, "discriminator": 1.2}}]
    assert content["probes"][0]["values"]["diversity"] == 0.3
    assert content["metrics"] == [{"step": 400, "values": {"divergence": 0.03, "modes": 8.0}}]
    assert content["alarms"] == [{"step": 200, "kind": "modes lost", "message": "modes lost: few; try to restrain it"}]
    assert content["metric_info"]["divergence"]["better"] == "lower"
    found = {frame["step"]: frame["picture"] for frame in content["frames"]}
    for step, file in pictures.items():
        kind, _, data = found[step]["source"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == file
        assert (found[step]["width"], found[step]["height"]) == (16, 8)


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    write_pictures(folder, {100: 10})
    page = Page(write_report(folder))
    addresses = [attributes.get(name) for _, attributes in page.tags for name in ("src", "href")]
    assert [address for address in addresses if address] == ["data:,"]
    assert "url(" not in page.texts["style"]
    assert "@import" not in page.texts["style"]
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.texts[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_text_of_a_run_is_never_markup(tmp_path: Path) -> None:
    plain = Page(write_report(write_run(tmp_path / "plain")))
    folder = write_run(
        tmp_path / "hostile",
        [
            {"step": 1, "seconds": 0.1, "losses": {HOSTILE: 1.0}},
            {"step": 2, "seconds": 0.2, "alarm": {"kind": HOSTILE, "message": HOSTILE}},
        ],
        name=f"{HOSTILE}\ud800 $style",
        error=f"<!-- <script> {HOSTILE}",
        status="failed",
    )
    page = Page(write_report(folder))
    assert page.tags == plain.tags
    assert page.content["facts"]["error"] == f"<!-- <script> {HOSTILE}"
    assert page.texts["title"].startswith(HOSTILE)
    assert "$style" in page.texts["title"]


def test_an_empty_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    content = Page(write_report(tmp_path)).content
    assert content["folder"] == tmp_path.name
    assert (content["facts"], content["losses"], content["frames"], content["nearest"]) == ({}, [], [], None)


def test_damaged_files_are_named_and_skipped(tmp_path: Path) -> None:
    folder = write_run(tmp_path, status="running", step=0)
    pictures = write_pictures(folder, {100: 10, 200: 20, 300: 30})
    (folder / "samples" / "00000300.png").write_bytes(pictures[300][:-16])
    with (folder / "metrics.jsonl").open("a") as moments:
        moments.write('{"step": 500, "seconds": 5.0, "los')
    content = Page(write_report(folder)).content
    assert content["progress"]["step"] == 400
    assert [frame["step"] for frame in content["frames"]] == [100, 200]
    assert content["unreadable"] == ["00000300.png"]


def test_nan_becomes_null(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path, [{"step": 1, "seconds": 0.1, "losses": {"generator": float("nan"), "discriminator": 1.0}}]
    )
    assert Page(write_report(folder)).content["losses"][0]["values"] == {"generator": None, "discriminator": 1.0}


def test_curves_of_long_runs_are_thinned_and_keep_the_last_point(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path, ({"step": step, "seconds": 1.0, "losses": {"generator": 1.0}} for step in range(1, 9002))
    )
    losses = Page(write_report(folder)).content["losses"]
    assert len(losses) <= 2000 < len(list(read_metrics(folder)))
    assert losses[-1]["step"] == 9001


def test_nearest_training_images_need_both_files(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    write_pictures(folder, {100: 10})
    (folder / "samples" / "00000100.png").rename(folder / "nearest.png")
    assert Page(write_report(folder)).content["nearest"] is None
    (folder / "nearest.json").write_text(json.dumps({"distances": [0.1, 0.2], "of_real": 0.15}))
    nearest = Page(write_report(folder)).content["nearest"]
    assert nearest["facts"]["distances"] == [0.1, 0.2]
    assert nearest["picture"]["source"].startswith("data:image/png;base64,")


def test_a_folder_without_run_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"no readable run\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


# In a browser.


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    """Open an empty page. At the end of the test it must have had no error and no request."""
    problems: list[str] = []
    tab = chromium.new_page(viewport={"width": 390, "height": 844})
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    yield tab
    tab.close()
    assert problems == []


def test_arrow_keys_step_through_the_pictures(tmp_path: Path, tab: Any) -> None:
    folder = write_run(tmp_path, status="failed", error=HOSTILE, name=HOSTILE)
    write_pictures(folder, {100: 0, 200: 90, 400: 255})
    tab.goto(write_report(folder).as_uri())
    assert tab.inner_text("#name") == HOSTILE
    assert tab.title() == f"{HOSTILE} · latentd"
    assert tab.inner_text("#shown") == "step 400"
    before = tab.get_attribute("#viewer img", "src")
    tab.focus("#slider")
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#shown") == "step 200"
    assert tab.get_attribute("#slider", "aria-valuetext") == "step 200"
    assert tab.get_attribute("#viewer img", "src") != before
    tab.keyboard.press("Home")
    assert tab.get_attribute("#viewer img", "alt") == "Samples at step 100"
    tab.focus("#play")
    tab.keyboard.press("Space")
    tab.wait_for_selector("#viewer img[alt='Samples at step 400']")
    tab.wait_for_selector("#play[aria-label=Play]")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_run_that_diverged_at_once(tmp_path: Path, tab: Any) -> None:
    moments = [{"step": 1, "seconds": 0.1, "losses": {"generator": float("nan"), "discriminator": 1.0}}]
    tab.goto(write_report(write_run(tmp_path, moments, status="failed", error="the loss is nan")).as_uri())
    assert tab.inner_text("#alarms p") == "The loss is nan."
    tab.hover("#main-curves svg")
    assert tab.locator("#main-curves .entry").all_inner_texts() == ["1"]


def test_points_move_over_the_decision_surface(tmp_path: Path, tab: Any) -> None:
    folder = write_run(tmp_path)
    for step, place in ((100, -0.5), (400, 0.5)):
        write_points(folder, step, {"samples": [[place, place]], "surface": [[0.0, 0.0], [1.0, 3.0]], "reach": 1.0})
    tab.goto(write_report(folder).as_uri())
    pixel = "(([x, y]) => [...document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data])"
    side = tab.evaluate("document.querySelector('canvas').width")
    above, below = [3 * side // 4, side // 4], [side // 4, 3 * side // 4]  # where the points are at steps 400 and 100
    ink = tab.evaluate(pixel, above)
    assert tab.evaluate(pixel, below) != ink
    red, _, blue, _ = tab.evaluate(pixel, [side - 2, 1])  # the largest logit is at the top right
    assert red > blue
    tab.focus("#slider")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(pixel, below) == ink
    assert tab.evaluate(pixel, above) != ink


def test_curves_can_be_read_by_keyboard(tmp_path: Path, tab: Any) -> None:
    moments = [{"step": step, "seconds": 1.0, "losses": {"generator": 1.0 / step}} for step in (1, 10, 100)]
    tab.goto(write_report(write_run(tmp_path, moments)).as_uri())
    plot = "#main-curves svg"
    tab.focus(plot)
    tab.keyboard.press("ArrowLeft")
    assert tab.get_attribute(plot, "aria-valuetext") == "step 10: Generator 0.1"
    line = tab.get_attribute(f"{plot} .curve path", "d")
    tab.check("#main-curves input[type=checkbox]")
    assert tab.get_attribute(f"{plot} .curve path", "d") != line
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", tab.get_attribute(f"{plot} .curve path", "d"))]
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], abs=0.2)
