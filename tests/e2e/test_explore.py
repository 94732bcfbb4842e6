"""The explorer in a real browser on a real server."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.e2e.conftest import Answer, Server
from tests.e2e.explorer import (
    CONDITIONAL,
    READY,
    RING,
    Open,
    run_copied_code,
    select,
    settle,
    shown_bytes,
    slide,
    until,
)


def test_the_gallery_is_one_request_and_its_first_sample_is_selected(chromium: Any, server: Server) -> None:
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
    galleries = [body for url, body in asked if url.endswith("/generate") and len(body.get("seeds", [])) > 1]
    assert [body["seeds"] for body in galleries] == [list(range(40))]
    assert page.locator("#tiles .select img").count() == 40
    assert page.locator("#selection li").count() == 1
    page.close()


@pytest.mark.parametrize("language", ["curl", "python"])
@pytest.mark.parametrize("mode", ["sample", "interpolate", "plane"])
def test_copied_code_makes_the_sample_that_is_shown(look: Open, tmp_path: Path, mode: str, language: str) -> None:
    page = look()
    select(page, 5, 9)
    page.click(f"#modes [data-value={mode}]")
    settle(page)
    if mode == "interpolate":
        slide(page, "#frame", 17)
    if mode == "plane":
        slide(page, "#toward-b", 0.8)
    slide(page, "#slider-truncation", 0.7)
    page.click(f"#languages [data-value={language}]")
    assert run_copied_code(page, tmp_path / "run") == shown_bytes(page)


def test_a_direction_changes_the_viewer_and_then_the_gallery(look: Open, server: Server, tmp_path: Path) -> None:
    page = look()
    tile = "document.querySelectorAll('#tiles img')[7].src"
    before = page.evaluate(tile)
    slide(page, "#slider-direction-trouser", 2.5, held=True)
    assert page.evaluate(tile) == before
    assert page.inner_text("output[for=slider-direction-trouser]") == "+2.50"
    slide(page, "#slider-direction-trouser", 2.5)
    assert page.evaluate(tile) != before
    version = server.call("/models/fashion-dcgan/directions").json["directions_version"]
    assert f'"directions_version":"{version}"' in page.inner_text("#request")
    assert run_copied_code(page, tmp_path / "run") == shown_bytes(page)
    page.click("#reset")
    settle(page)
    assert page.evaluate(tile) == before


def test_each_direction_shows_its_preview(look: Open, server: Server) -> None:
    page = look()
    known = server.call("/models/fashion-dcgan/directions").json["directions"]
    assert page.eval_on_selector_all(".slider .strip", "(strips) => strips.map((each) => each.src)") == [
        f"data:image/png;base64,{each['preview']}" for each in known
    ]


def test_while_a_slider_is_held_only_the_visible_segment_is_requested(look: Open) -> None:
    page = look()
    select(page, 4, 8)
    slide(page, "#frame", 30)
    slide(page, "#slider-truncation", 0.5, held=True)
    assert page.inner_text("#request").count('"seed"') == 2
    segment = shown_bytes(page)
    slide(page, "#slider-truncation", 0.5)
    assert page.inner_text("#request").count('"seed"') == 3
    assert shown_bytes(page) == segment
    assert page.inner_text("#caption").endswith("frame 31 of 47")


def test_copied_code_of_a_class(look: Open, tmp_path: Path) -> None:
    page = look(CONDITIONAL)
    page.select_option("#class", "T-shirt/top")
    settle(page)
    select(page, 3)
    assert "T-shirt/top" in page.get_attribute("#tiles .tile:nth-of-type(3) .select", "aria-label")
    assert run_copied_code(page, tmp_path / "run") == shown_bytes(page)


def test_points_are_a_plot_and_copied_code_makes_the_same(look: Open, server: Server, tmp_path: Path) -> None:
    page = look(RING)
    assert page.locator("#tiles.plot > canvas").count() == 1
    assert page.locator("#tiles .select").count() == 256
    page.fill("#seed", "12345")
    page.click("#by-seed button")
    settle(page)
    page.click("#modes [data-value=sample]")
    settle(page)
    made = json.loads(run_copied_code(page, tmp_path / "run"))
    (sample,) = server.generate(model="ring-gan", seed=12345).json["samples"]
    assert made["samples"][0]["data"] == sample["data"]
    assert ", ".join(f"{each:.3f}" for each in sample["data"]) in page.get_attribute("#sample canvas", "aria-label")


def test_an_interpolation_is_stepped_through_and_played(look: Open) -> None:
    page = look()
    select(page, 7)
    assert page.inner_text("#caption") == "A → B · frame 1 of 24"
    first = shown_bytes(page)
    slide(page, "#frame", 23)
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


def test_a_copied_link_shows_the_same(look: Open) -> None:
    page = look(CONDITIONAL)
    page.select_option("#class", "Bag")
    settle(page)
    select(page, 4, 11)
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
    for selector in ("#request", "#caption", "#selection"):
        assert again.inner_text(selector) == page.inner_text(selector)
    pictures = "[...document.querySelectorAll('#tiles img')].map((each) => each.src)"
    assert again.evaluate(pictures) == page.evaluate(pictures)


def test_the_format_of_links_stays(look: Open, server: Server) -> None:
    model = server.call("/models/fashion-dcgan").json
    link = (
        f"model=fashion-dcgan@{model['version']}&first=100&lock=2:77&pick=1,2,3&focus=2&way=travel&at=30&loop=true"
        f"&smooth=true&truncation=0.8&push=trouser:2&directions={model['directions_version']}"
    )
    page = look("#" + link)
    assert page.inner_text("#caption") == "A → B → C → A · frame 31 of 69"
    assert page.inner_text("output[for=slider-direction-trouser]") == "+2.00"
    assert page.inner_text("#tiles .tile:nth-of-type(3) .seed") == "77"
    assert parse_qs(page.url.partition("#")[2]) == parse_qs(link)
    page.click("[data-view=metrics]")
    assert parse_qs(page.url.partition("#")[2]) == parse_qs(link + "&view=pulse")


def test_locked_samples_stay_after_a_reroll(look: Open) -> None:
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
    """Press Tab until it is `there`: soon, because the gallery is one stop and not one for each tile."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(there):
            return
    raise AssertionError(there)


def test_everything_can_be_done_with_the_keyboard(look: Open) -> None:
    page = look()
    tab_to(page, "document.activeElement.classList.contains('select')")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Seed 11"
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator("#selection li").count() == 2
    page.keyboard.press("l")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").endswith("locked")
    tab_to(page, "document.activeElement.id === 'frame'")
    page.keyboard.press("End")
    assert page.inner_text("#caption").endswith("frame 24 of 24")
    tab_to(page, "document.activeElement.id === 'slider-truncation'")
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert '"truncation":0.99' in page.inner_text("#request")


def test_the_skip_link_leads_to_the_viewer_and_changes_nothing(look: Open) -> None:
    page = look()
    select(page, 4, 8)
    page.focus("#skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "viewer"
    page.wait_for_timeout(500)
    settle(page)
    assert page.locator("#selection li").count() == 3


def test_the_back_button_undoes_a_reroll(look: Open) -> None:
    page = look()
    first = "document.querySelector('#tiles img')?.src"
    before = page.evaluate(first)
    page.click("#reroll")
    until(page, f"{first} !== {json.dumps(before)}")
    page.go_back()
    until(page, f"{first} === {json.dumps(before)}")


def test_selected_samples_are_removed(look: Open) -> None:
    page = look("#model=fashion-dcgan&pick=1,2,3&way=sample&focus=1")
    page.click("#selection li:nth-of-type(1) .remove")
    settle(page)
    assert page.inner_text("#caption") == "Seed 2"
    for _ in range(2):
        page.click("#selection li:nth-of-type(1) .remove")
    page.wait_for_selector("#empty", state="visible")
    assert page.inner_text("#caption") == ""
    assert page.inner_text("#request") == ""
    assert page.locator("#downloads button").count() == 0


def test_controls_that_the_model_does_not_support_are_hidden(look: Open) -> None:
    page = look()
    assert not page.is_visible("#class-picker")
    page.select_option("#model", "fashion-dcgan-conditional")
    page.wait_for_selector("#class-picker", state="visible")
    settle(page)
    assert page.locator("#class option").count() == 11
    page.click("#modes [data-value=interpolate]", force=True)  # only one sample is selected
    assert page.get_attribute("#modes [data-value=interpolate]", "aria-pressed") == "false"


def test_downloads_have_the_format_that_the_button_names(look: Open) -> None:
    page = look()
    select(page, 5)
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
def test_axe_finds_no_serious_problem(look: Open, chromium: Any, server: Server, fragment: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = look(fragment.replace("#view=pulse", ""), color_scheme=scheme)
    if fragment == "#view=pulse":
        page.click("[data-view=metrics]")
    elif fragment == "":
        select(page, 5, 9)
        page.click("#modes [data-value=plane]")
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in serious] == []


@pytest.mark.parametrize("width", [390, 1024, 1440])
@pytest.mark.parametrize("fragment", ["", RING])
def test_the_page_is_not_wider_than_the_screen(look: Open, width: int, fragment: str) -> None:
    page = look(fragment, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_metrics_view_shows_a_request(look: Open, server: Server) -> None:
    page = look()
    page.click("[data-view=metrics]")
    until(page, "document.querySelectorAll('.card .value')[1].textContent !== '–'")
    answer: Answer = server.generate(num_samples=64)
    assert answer.status == 200
    until(page, "parseFloat(document.querySelectorAll('.card .maximum')[1].textContent.slice(8)) > 0")
