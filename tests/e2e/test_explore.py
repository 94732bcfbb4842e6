"""The explorer as a person meets it: a real browser on a real server."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Answer, Server
from tests.e2e.explorer import (
    CONDITIONAL,
    READY,
    RING,
    Open,
    pick,
    run_what_is_written,
    settle,
    shown_bytes,
    slide,
    until,
)


def test_a_wall_is_one_request_and_one_sample_is_picked(chromium: Any, server: Server) -> None:
    page = chromium.new_page()
    asked: list[tuple[str, Any]] = []
    page.on(
        "request",
        lambda request: (
            asked.append((request.url, json.loads(request.post_data))) if request.method == "POST" else None
        ),
    )
    page.goto(f"{server.url}/explore")
    page.wait_for_selector(READY)
    settle(page)
    walls = [body for url, body in asked if url.endswith("/generate") and len(body.get("seeds", [])) > 1]
    assert [body["seeds"] for body in walls] == [list(range(40))]
    assert page.locator("#tiles .pick img").count() == 40
    assert page.locator("#tray li").count() == 1
    page.close()


@pytest.mark.parametrize("language", ["curl", "python"])
@pytest.mark.parametrize("way", ["sample", "travel", "plane"])
def test_what_is_copied_makes_what_is_shown(look: Open, tmp_path: Path, way: str, language: str) -> None:
    page = look()
    pick(page, 5, 9)
    page.click(f"#modes [data-value={way}]")
    settle(page)
    if way == "travel":
        slide(page, "#at", 17)
    if way == "plane":
        slide(page, "#toward-b", 0.8)
    slide(page, "#slider-truncation", 0.7)
    page.click(f"#languages [data-value={language}]")
    assert run_what_is_written(page, tmp_path / "run") == shown_bytes(page)


def test_a_direction_moves_the_stage_and_then_the_wall(look: Open, server: Server, tmp_path: Path) -> None:
    page = look()
    wall = "document.querySelectorAll('#tiles img')[7].src"
    before = page.evaluate(wall)
    slide(page, "#slider-push-trouser", 2.5, held=True)
    assert page.evaluate(wall) == before
    assert page.inner_text("output[for=slider-push-trouser]") == "+2.50"
    slide(page, "#slider-push-trouser", 2.5)
    assert page.evaluate(wall) != before
    version = server.call("/models/fashion-dcgan/directions").json["directions_version"]
    assert f'"directions_version":"{version}"' in page.inner_text("#request")
    assert run_what_is_written(page, tmp_path / "run") == shown_bytes(page)
    page.click("#rest")
    settle(page)
    assert page.evaluate(wall) == before


def test_each_direction_shows_what_it_does(look: Open, server: Server) -> None:
    page = look()
    known = server.call("/models/fashion-dcgan/directions").json["directions"]
    assert page.eval_on_selector_all(".slider .strip", "(strips) => strips.map((each) => each.src)") == [
        f"data:image/png;base64,{each['preview']}" for each in known
    ]


def test_a_held_slider_asks_for_the_leg_that_is_seen(look: Open) -> None:
    page = look()
    pick(page, 4, 8)
    slide(page, "#at", 30)
    slide(page, "#slider-truncation", 0.5, held=True)
    assert page.inner_text("#request").count('"seed"') == 2
    leg = shown_bytes(page)
    slide(page, "#slider-truncation", 0.5)
    assert page.inner_text("#request").count('"seed"') == 3
    assert shown_bytes(page) == leg
    assert page.inner_text("#caption").endswith("frame 31 of 47")


def test_a_class_and_what_is_copied(look: Open, tmp_path: Path) -> None:
    page = look(CONDITIONAL)
    page.select_option("#class", "T-shirt/top")
    settle(page)
    pick(page, 3)
    assert "T-shirt/top" in page.get_attribute("#tiles .tile:nth-of-type(3) .pick", "aria-label")
    assert run_what_is_written(page, tmp_path / "run") == shown_bytes(page)


def test_points_are_a_plot_and_what_is_copied(look: Open, server: Server, tmp_path: Path) -> None:
    page = look(RING)
    assert page.locator("#tiles.field > canvas").count() == 1
    assert page.locator("#tiles .pick").count() == 256
    page.fill("#seed", "12345")
    page.click("#by-seed button")
    settle(page)
    page.click("#modes [data-value=sample]")
    settle(page)
    made = json.loads(run_what_is_written(page, tmp_path / "run"))
    (sample,) = server.generate(model="ring-gan", seed=12345).json["samples"]
    assert made["samples"][0]["data"] == sample["data"]
    assert ", ".join(f"{each:.3f}" for each in sample["data"]) in page.get_attribute("#seen canvas", "aria-label")


def test_a_way_is_scrubbed_and_played(look: Open) -> None:
    page = look()
    pick(page, 7)
    assert page.inner_text("#caption") == "A → B · frame 1 of 24"
    first = shown_bytes(page)
    slide(page, "#at", 23)
    last = shown_bytes(page)
    assert first != last
    assert page.inner_text("#caption").endswith("frame 24 of 24")
    page.click("#play")
    assert page.inner_text("#play") == "Pause"
    until(page, "document.getElementById('play').textContent === 'Play'")
    assert shown_bytes(page) == last
    page.check("#loop")
    settle(page)
    assert page.inner_text("#caption").endswith("of 46")


def test_a_link_shows_the_same(look: Open) -> None:
    page = look(CONDITIONAL)
    page.select_option("#class", "Bag")
    settle(page)
    pick(page, 4, 11)
    page.click("#modes [data-value=plane]")
    settle(page)
    slide(page, "#toward-c", 1.1)
    slide(page, "#slider-truncation", 0.6)
    page.click("#tiles .tile:nth-of-type(2) .lock", force=True)
    page.click("#reroll")
    settle(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#link")
    link = page.evaluate("navigator.clipboard.readText()")
    again = look("#" + link.partition("#")[2])
    assert shown_bytes(again) == shown_bytes(page)
    for selector in ("#request", "#caption", "#tray"):
        assert again.inner_text(selector) == page.inner_text(selector)
    pictures = "[...document.querySelectorAll('#tiles img')].map((each) => each.src)"
    assert again.evaluate(pictures) == page.evaluate(pictures)


def test_locked_samples_stay_through_a_reroll(look: Open) -> None:
    page = look()
    third = "document.querySelectorAll('#tiles img')[2].src"
    fourth = "document.querySelectorAll('#tiles img')[3].src"
    before = page.evaluate(third), page.evaluate(fourth)
    page.hover("#tiles .tile:nth-of-type(3)")
    page.click("#tiles .tile:nth-of-type(3) .lock")
    page.click("#reroll")
    until(page, f"{fourth} !== {json.dumps(before[1])}")
    assert page.evaluate(third) == before[0]


def tab_to(page: Any, there: str) -> None:
    """Few presses: the wall is one stop, and not as many as it has tiles."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(there):
            return
    raise AssertionError(there)


def test_the_keyboard_is_enough(look: Open) -> None:
    page = look()
    tab_to(page, "document.activeElement.classList.contains('pick')")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Seed 11"
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator("#tray li").count() == 2
    page.keyboard.press("l")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").endswith("kept")
    tab_to(page, "document.activeElement.id === 'at'")
    page.keyboard.press("End")
    assert page.inner_text("#caption").endswith("frame 24 of 24")
    tab_to(page, "document.activeElement.id === 'slider-truncation'")
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert '"truncation":0.99' in page.inner_text("#request")


def test_the_skip_link_leads_to_the_stage_and_changes_nothing(look: Open) -> None:
    page = look()
    pick(page, 4, 8)
    page.focus("#skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "stage"
    page.wait_for_timeout(500)
    settle(page)
    assert page.locator("#tray li").count() == 3


def test_back_undoes_a_reroll(look: Open) -> None:
    page = look()
    first = "document.querySelector('#tiles img')?.src"
    before = page.evaluate(first)
    page.click("#reroll")
    until(page, f"{first} !== {json.dumps(before)}")
    page.go_back()
    until(page, f"{first} === {json.dumps(before)}")


def test_picks_are_put_back(look: Open) -> None:
    page = look("#model=fashion-dcgan&pick=1,2,3&way=sample&focus=1")
    page.click("#tray li:nth-of-type(1) .away")
    settle(page)
    assert page.inner_text("#caption") == "Seed 2"
    for _ in range(2):
        page.click("#tray li:nth-of-type(1) .away")
    page.wait_for_selector("#nothing", state="visible")
    assert page.inner_text("#caption") == ""
    assert page.inner_text("#request") == ""
    assert page.locator("#downloads button").count() == 0


def test_controls_are_there_only_where_the_model_can(look: Open) -> None:
    page = look()
    assert not page.is_visible("#class-picker")
    page.select_option("#model", "fashion-dcgan-conditional")
    page.wait_for_selector("#class-picker", state="visible")
    settle(page)
    assert page.locator("#class option").count() == 11
    page.click("#modes [data-value=travel]", force=True)  # one sample is picked
    assert page.get_attribute("#modes [data-value=travel]", "aria-pressed") == "false"


def test_what_is_downloaded_is_what_it_says(look: Open) -> None:
    page = look()
    pick(page, 5)
    starts = {"PNG": b"\x89PNG", "GIF": b"GIF89a", "MP4": b"ftyp"}
    for name, start in starts.items():
        with page.expect_download() as download:
            page.click(f"#downloads button:text-is('{name}')")
        content = Path(download.value.path()).read_bytes()
        assert start in content[:16]
        assert download.value.suggested_filename.endswith(f".{name.lower()}")
        if name == "PNG":
            assert content == shown_bytes(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("fragment", ["", CONDITIONAL, RING, "#view=pulse"])
def test_axe_finds_nothing_serious(look: Open, chromium: Any, server: Server, fragment: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = look(fragment.replace("#view=pulse", ""), color_scheme=scheme)
    if fragment == "#view=pulse":
        page.click("[data-view=pulse]")
    elif fragment == "":
        pick(page, 5, 9)
        page.click("#modes [data-value=plane]")
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in serious] == []


@pytest.mark.parametrize("width", [390, 1024, 1440])
@pytest.mark.parametrize("fragment", ["", RING])
def test_nothing_is_wider_than_the_screen(look: Open, width: int, fragment: str) -> None:
    page = look(fragment, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_pulse_shows_what_the_service_does(look: Open, server: Server) -> None:
    page = look()
    page.click("[data-view=pulse]")
    until(page, "document.querySelectorAll('.card .value')[1].textContent !== '–'")
    answer: Answer = server.generate(num_samples=64)
    assert answer.status == 200
    until(page, "parseFloat(document.querySelectorAll('.card .most')[1].textContent.slice(8)) > 0")
