"""The explorer as a person meets it: a real browser on a real server."""

import base64
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Answer, Server, serving

CONDITIONAL = "#model=fashion-dcgan-conditional"
RING = "#model=ring-gan"
READY = "#tiles .pick:not([disabled])"
Open = Callable[..., Any]


@pytest.fixture
def look(chromium: Any, server: Server) -> Iterator[Open]:
    """Opens the explorer at a fragment; nothing may be said on the console when the test ends."""
    said: list[str] = []
    pages: list[Any] = []

    def load(
        fragment: str = "", width: int = 1440, height: int = 900, expect_errors: bool = False, **options: Any
    ) -> Any:
        page = chromium.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        if not expect_errors:
            page.on(
                "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
            )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{server.url}/explore{fragment}")
        page.wait_for_selector(READY)
        settle(page)
        return page

    yield load
    for page in pages:
        page.close()
    assert said == []


def settle(page: Any) -> None:
    """Until everything that was asked for is shown."""
    page.wait_for_selector("main:not(:has([aria-busy=true])):has(#request:not(:empty))", state="attached")


def until(page: Any, expression: str) -> None:
    """Playwright's own way evaluates strings within the page, which its policy forbids."""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def shown_bytes(page: Any) -> bytes:
    return base64.b64decode(page.get_attribute("#seen img", "src").partition(",")[2])


def pick(page: Any, *tiles: int) -> None:
    for tile in tiles:
        page.click(f"#tiles .tile:nth-of-type({tile}) .pick")
        settle(page)


def slide(page: Any, slider: str, value: float, held: bool = False) -> None:
    """Move a slider, and let go of it unless it is `held`."""
    page.eval_on_selector(
        slider, "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )
    if not held:
        page.dispatch_event(slider, "change")
    settle(page)


def run_what_is_written(page: Any, folder: Path) -> bytes:
    """The one file that the copied command or program writes."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == page.inner_text("#request")
    folder.mkdir()
    command = ["bash", "-ec", text] if text.startswith("curl") else [sys.executable, "-c", text]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    (file,) = folder.iterdir()
    return file.read_bytes()


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


def test_the_page_may_load_nothing_from_elsewhere(server: Server) -> None:
    page = server.call("/explore")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert not re.search(rb"(src|href)=.(https?:)?//", page.body)
    (script,) = re.findall(rb'src="(explore/[0-9a-f]{12}/main\.js)"', page.body)
    part = server.call("/" + script.decode())
    assert part.status == 200
    assert "immutable" in part.headers["cache-control"]
    assert part.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path", ["/explore/000000000000/main.js", "/explore/{build}/index.html", "/explore/{build}/..%2f__init__.py"]
)
def test_what_is_no_part_of_the_page_is_not_given(server: Server, path: str) -> None:
    build = re.findall(rb"explore/([0-9a-f]{12})/", server.call("/explore").body)[0].decode()
    assert server.call(path.format(build=build)).status == 404


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


def test_a_link_to_another_version_says_so(look: Open) -> None:
    page = look("#model=fashion-dcgan@000000000000&pick=5")
    assert "is of version 000000000000" in page.inner_text("#notice")


@pytest.mark.parametrize(
    "fragment",
    [
        "#model=none",
        "#pick=x,-1,99999999999,5:Bag",
        "#lock=a:b,9999:1&plane=9,9&push=%00:1e999&at=-3",
        "#first=4294967295",
        "#%%%",
    ],
)
def test_links_that_make_no_sense_open_the_page(look: Open, fragment: str) -> None:
    page = look(fragment)
    assert page.locator("#tray li").count() >= 1
    assert page.locator("#tiles .pick img").count() == 40


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


def test_another_fragment_is_another_state(look: Open, server: Server) -> None:
    page = look("#model=fashion-dcgan&pick=1,2")
    page.evaluate("location.hash = '#model=ring-gan&pick=7'")
    page.wait_for_selector("#tiles.field")
    settle(page)
    assert page.locator("#tray li").count() == 1
    page.evaluate("location.hash = '#view=pulse'")
    page.wait_for_selector("#pulse", state="visible")
    assert not page.is_visible("#explore")


def test_a_model_chosen_while_another_answers(look: Open) -> None:
    page = look(RING)

    def later(route: Any) -> None:
        page.wait_for_timeout(300)
        route.continue_()

    page.route("**/generate", later)
    page.click("#reroll")
    page.select_option("#model", "fashion-dcgan")
    page.select_option("#model", "fashion-dcgan-conditional")
    until(page, "document.getElementById('request').textContent.includes('fashion-dcgan-conditional')")
    settle(page)
    assert page.locator("#tiles .pick img").count() == 40
    assert "fashion-dcgan-conditional@" in page.inner_text("#request")


def test_an_answer_that_is_cut_off_is_asked_for_again(look: Open) -> None:
    page = look(expect_errors=True)
    cut: list[bool] = []

    def cut_first(route: Any) -> None:
        if cut:
            route.continue_()
        else:
            cut.append(True)
            route.fulfill(status=200, content_type="application/json", body='{"samples": [')

    page.route("**/generate", cut_first)
    page.click("#reroll")
    page.wait_for_selector("#notice:not([hidden])")
    assert "cut off" in page.inner_text("#notice")
    page.wait_for_selector("#notice", state="hidden")
    settle(page)
    assert page.locator("#tiles .pick img").count() == 40


def test_directions_that_are_found_anew_are_shown(chromium: Any, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name in ("fashion-dcgan.safetensors", "fashion-dcgan.directions.safetensors"):
        shutil.copy(ROOT / "models" / "checkpoints" / name, models / name)
    with serving(tmp_path / "bentoml", LATENTD_MODELS=str(models)) as server:
        page = chromium.new_page()
        page.goto(f"{server.url}/explore#pick=5&push=trouser:2")
        page.wait_for_selector(READY)
        settle(page)
        (models / "fashion-dcgan.directions.safetensors").unlink()
        wait_until_forgotten(server)
        page.click("#reroll")
        until(page, "!document.getElementById('slider-push-trouser')")
        settle(page)
        assert "found anew" in page.inner_text("#said")
        assert "directions" not in page.inner_text("#request")
        page.close()


def wait_until_forgotten(server: Server) -> None:
    deadline = time.monotonic() + 30
    while server.call("/models/fashion-dcgan").json["directions_version"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.2)


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


def test_a_way_that_plays_goes_on_while_a_slider_is_held(look: Open) -> None:
    page = look("#model=fashion-dcgan&pick=1,2,3&way=travel&at=30")
    page.click("#play")
    slide(page, "#slider-truncation", 0.5, held=True)
    page.click("#languages [data-value=python]")  # buttons can be pressed meanwhile
    until(page, "document.getElementById('play').textContent === 'Play'")
    assert page.inner_text("#caption").endswith("frame 47 of 47")
    assert page.inner_text("#request").startswith("import base64")


def test_no_token_is_an_answer_too(look: Open) -> None:
    page = look(expect_errors=True)
    asked: list[str] = []

    def want_token(route: Any) -> None:
        asked.append(route.request.url)
        body = {"error": {"code": "unauthorized", "message": "a token is needed", "field": None}}
        route.fulfill(status=401, json=body)

    page.route("**/generate", want_token)
    page.click("#reroll")
    page.wait_for_selector("#ask[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.inner_text("#said") == "A token is needed."
    assert len(asked) == 1


def test_a_link_is_copied_where_there_is_no_clipboard(look: Open) -> None:
    page = look()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.click("#link")
    until(page, "document.getElementById('link').textContent === 'Copied'")
    page.fill("#seed", "")
    page.focus("#seed")
    page.keyboard.press("Control+V")
    assert page.input_value("#seed").startswith("http")


def test_controls_are_there_only_where_the_model_can(look: Open) -> None:
    page = look()
    assert not page.is_visible("#class-picker")
    page.select_option("#model", "fashion-dcgan-conditional")
    page.wait_for_selector("#class-picker", state="visible")
    settle(page)
    assert page.locator("#class option").count() == 11
    page.click("#modes [data-value=travel]", force=True)  # one sample is picked
    assert page.get_attribute("#modes [data-value=travel]", "aria-pressed") == "false"


def test_a_busy_service_is_said_in_words_and_asked_again(look: Open) -> None:
    page = look(expect_errors=True)
    refusals = 0

    def refuse_once(route: Any) -> None:
        nonlocal refusals
        refusals += 1
        if refusals > 1:
            route.continue_()
            return
        body = {"error": {"code": "queue_full", "message": "4096 samples are waiting", "field": None}}
        route.fulfill(status=429, headers={"Retry-After": "1"}, json=body)

    page.route("**/generate", refuse_once)
    page.click("#reroll")
    page.wait_for_selector("#notice:not([hidden])")
    assert "busy" in page.inner_text("#notice")
    assert "1 s" in page.inner_text("#notice")
    page.wait_for_selector("#notice", state="hidden")
    assert refusals == 2


def test_a_service_that_wants_a_token_is_given_it(look: Open) -> None:
    page = look(expect_errors=True)
    seen: list[str | None] = []

    def want_token(route: Any) -> None:
        sent = route.request.headers.get("authorization")
        seen.append(sent)
        if sent == "Bearer open-sesame":
            route.continue_()
            return
        body = {"error": {"code": "unauthorized", "message": "a token is needed", "field": None}}
        route.fulfill(status=401, json=body)

    page.route("**/generate", want_token)
    page.click("#reroll")
    page.wait_for_selector("#ask[open]")
    assert "A token is needed" in page.inner_text("#ask")
    page.fill("#token", "open-sesame")
    page.keyboard.press("Enter")
    settle(page)
    assert seen == [None, "Bearer open-sesame"]
    page.click("#modes [data-value=sample]")
    settle(page)
    assert "open-sesame" not in page.content()
    assert "$LATENTD_TOKEN" in page.inner_text("#request")


def test_a_slider_in_motion_has_one_request_under_way(look: Open) -> None:
    page = look()
    under_way, most = 0, 0

    def begun(request: Any) -> None:
        nonlocal under_way, most
        if request.method == "POST":
            under_way += 1
            most = max(most, under_way)

    def done(request: Any) -> None:
        nonlocal under_way
        if request.method == "POST":
            under_way -= 1

    page.on("request", begun)
    page.on("requestfinished", done)
    page.evaluate(
        """async () => {
          const slider = document.getElementById("slider-truncation");
          for (let step = 0; step < 60; step += 1) {
            slider.value = 1 - step / 80;
            slider.dispatchEvent(new Event("input"));
            await new Promise((wait) => setTimeout(wait, 5));
          }
        }"""
    )
    settle(page)
    assert most == 1
    assert '"truncation":0.26' in page.inner_text("#request")


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
