"""The explorer when something fails, or answers come in an unexpected order."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Server, serving
from tests.e2e.explorer import READY, RING, Open, settle, slide, until


def test_the_page_loads_nothing_from_other_hosts(server: Server) -> None:
    page = server.call("/explore")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert not re.search(rb"(src|href)=.(https?:)?//", page.body)
    (script,) = re.findall(rb'src="(explore/[0-9a-f]{12}/main\.js)"', page.body)
    asset = server.call("/" + script.decode())
    assert asset.status == 200
    assert "immutable" in asset.headers["cache-control"]
    assert asset.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path", ["/explore/000000000000/main.js", "/explore/{build}/index.html", "/explore/{build}/..%2f__init__.py"]
)
def test_other_files_are_not_served(server: Server, path: str) -> None:
    build = re.findall(rb"explore/([0-9a-f]{12})/", server.call("/explore").body)[0].decode()
    assert server.call(path.format(build=build)).status == 404


def test_a_link_to_another_version_shows_a_warning(look: Open) -> None:
    page = look("#model=fashion-dcgan@000000000000&pick=5")
    assert "is for version 000000000000" in page.inner_text("#notice")


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
def test_invalid_links_open_the_page(look: Open, fragment: str) -> None:
    page = look(fragment)
    assert page.locator("#selection li").count() >= 1
    assert page.locator("#tiles .select img").count() == 40


def test_a_changed_fragment_changes_the_state(look: Open, server: Server) -> None:
    page = look("#model=fashion-dcgan&pick=1,2")
    page.evaluate("location.hash = '#model=ring-gan&pick=7'")
    page.wait_for_selector("#tiles.plot")
    settle(page)
    assert page.locator("#selection li").count() == 1
    page.evaluate("location.hash = '#view=pulse'")
    page.wait_for_selector("#metrics", state="visible")
    assert not page.is_visible("#explore")


def test_a_model_chosen_before_the_last_one_has_answered(look: Open) -> None:
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
    assert page.locator("#tiles .select img").count() == 40
    assert "fashion-dcgan-conditional@" in page.inner_text("#request")


def test_a_request_whose_answer_was_cut_off_is_repeated(look: Open) -> None:
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
    assert page.locator("#tiles .select img").count() == 40


def test_directions_that_changed_meanwhile_are_shown(chromium: Any, tmp_path: Path) -> None:
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
        eventually(lambda: server.call("/models/fashion-dcgan").json["directions_version"] is None)
        page.click("#reroll")
        until(page, "!document.getElementById('slider-direction-trouser')")
        settle(page)
        assert "found anew" in page.inner_text("#notice-text")
        assert "directions" not in page.inner_text("#request")
        page.close()


def test_playing_continues_while_a_slider_is_held(look: Open) -> None:
    page = look("#model=fashion-dcgan&pick=1,2,3&way=travel&at=30")
    page.click("#play")
    slide(page, "#slider-truncation", 0.5, held=True)
    page.click("#languages [data-value=python]")  # buttons work meanwhile
    until(page, "document.getElementById('play').textContent === 'Play'")
    assert page.inner_text("#caption").endswith("frame 47 of 47")
    assert page.inner_text("#request").startswith("import base64")


def test_the_token_dialog_can_be_dismissed(look: Open) -> None:
    page = look(expect_errors=True)
    asked: list[str] = []

    def want_token(route: Any) -> None:
        asked.append(route.request.url)
        body = {"error": {"code": "unauthorized", "message": "a token is needed", "field": None}}
        route.fulfill(status=401, json=body)

    page.route("**/generate", want_token)
    page.click("#reroll")
    page.wait_for_selector("#token-dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.inner_text("#notice-text") == "A token is needed."
    assert len(asked) == 1


def test_a_link_is_copied_without_the_clipboard_api(look: Open) -> None:
    page = look()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.click("#link")
    until(page, "document.getElementById('link').textContent === 'Copied'")
    page.fill("#seed", "")
    page.focus("#seed")
    page.keyboard.press("Control+V")
    assert page.input_value("#seed").startswith("http")


def test_a_request_to_a_busy_service_is_repeated(look: Open) -> None:
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


def test_a_token_is_asked_for_and_sent(look: Open) -> None:
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
    page.wait_for_selector("#token-dialog[open]")
    assert "A token is needed" in page.inner_text("#token-dialog")
    page.fill("#token", "open-sesame")
    page.keyboard.press("Enter")
    settle(page)
    assert seen == [None, "Bearer open-sesame"]
    page.click("#modes [data-value=sample]")
    settle(page)
    assert "open-sesame" not in page.content()
    assert "$LATENTD_TOKEN" in page.inner_text("#request")


def test_a_moving_slider_has_one_request_at_a_time(look: Open) -> None:
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
