"""The explorer's lists of models, runs and versions, and two versions side by side, in a real browser."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from tests.e2e.conftest import ROOT, Server, serving
from tests.e2e.explorer import Open, run_copied_code, settle, shown_bytes

SHIPPED = ROOT / "models" / "checkpoints"


def vary(name: str, to: Path, factor: float, **card: Any) -> str:
    """Write a shipped model with other weights, and return the version."""
    read = Checkpoint.read(SHIPPED / f"{name}.safetensors")
    tensors = {key: value * factor if value.is_floating_point() else value for key, value in read.tensors.items()}
    to.parent.mkdir(parents=True, exist_ok=True)
    return write_checkpoint(to, read.card.model_copy(update=card), tensors).version


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A catalog with a model in two versions, a finished run of the same recipe, and a stopped one of points."""
    folder = tmp_path_factory.mktemp("versions")
    (folder / "models").mkdir()
    for name in ("fashion-dcgan", "ring-gan"):
        shutil.copy(SHIPPED / f"{name}.safetensors", folder / "models")
    current = Checkpoint.read(SHIPPED / "fashion-dcgan.safetensors").version
    file = folder / "written" / "fashion-dcgan.safetensors"
    old = vary("fashion-dcgan", file, 0.9)
    file.rename(folder / "models" / f"fashion-dcgan@{old}.safetensors")
    runs = {
        "new": vary("fashion-dcgan", folder / "runs" / "new" / "fashion-dcgan.safetensors", 1.1, steps=1234),
        "early": vary("ring-gan", folder / "runs" / "early" / "ring-gan.safetensors", 1.05),
    }
    for name, status in (("new", "finished"), ("early", "stopped")):
        (folder / "runs" / name / "run.json").write_text(json.dumps({"status": status, "name": "x"}))
    return {"paths": [folder / "models", folder / "runs"], "current": current, "old": old, **runs}


@pytest.fixture(scope="module")
def server(versions: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    paths = os.pathsep.join(map(str, versions["paths"]))
    with serving(tmp_path_factory.mktemp("bentoml"), LATENTD_MODELS=paths) as running:
        yield running


def options(page: Any, select: str) -> list[str]:
    return list(page.eval_on_selector_all(f"{select} option", "options => options.map(each => each.textContent)"))


def test_models_runs_and_versions_can_be_chosen(look: Open, versions: dict[str, Any], tmp_path: Path) -> None:
    page = look()
    assert options(page, "#model") == ["fashion-dcgan", "ring-gan", "runs/new", "runs/early"]
    groups = page.eval_on_selector_all("#model optgroup", "groups => groups.map(each => each.label)")
    assert groups == ["Models", "Runs", "Unfinished runs"]
    assert set(options(page, "#version")) == {f"{versions['current']} · current", versions["old"]}
    before = shown_bytes(page)
    page.select_option("#version", versions["old"])
    settle(page)
    assert page.input_value("#version") == versions["old"]
    assert shown_bytes(page) != before
    assert run_copied_code(page, tmp_path / "copied") == shown_bytes(page)
    page.select_option("#model", "runs/early")
    page.wait_for_selector("#tiles.plot .select:not([disabled])")
    settle(page)
    assert options(page, "#version") == [versions["early"]]
    assert page.is_hidden("#notice")


def test_a_link_leads_to_its_version_although_another_one_is_current(look: Open, versions: dict[str, Any]) -> None:
    page = look(f"#model=fashion-dcgan@{versions['old']}&pick=5")
    assert page.input_value("#version") == versions["old"]
    assert page.is_hidden("#notice")
    page = look(f"#model=runs/new@{versions['new']}&pick=5")
    assert (page.input_value("#model"), page.input_value("#version")) == ("runs/new", versions["new"])
    # samples that were made without a service name the file's stem
    page = look(f"#model=fashion-dcgan@{versions['new']}&pick=5")
    assert (page.input_value("#model"), page.input_value("#version")) == ("runs/new", versions["new"])


def compare(page: Any) -> None:
    page.click("[data-view=compare]")
    page.wait_for_selector("#compare-body[aria-busy=false]")


def side(page: Any, name: str, tile: int = 1) -> bytes:
    source = page.get_attribute(f"#compare-{name} .tile:nth-of-type({tile}) img", "src")
    return base64.b64decode(source.partition(",")[2])


def test_two_versions_are_compared_seed_by_seed(look: Open, server: Server, versions: dict[str, Any]) -> None:
    page = look("#model=fashion-dcgan&first=40")
    compare(page)
    current, old = (f"fashion-dcgan@{versions[name]}" for name in ("current", "old"))
    assert page.inner_text("#compare-left-title") == current
    assert page.inner_text("#compare-right-title") == old  # another version of the same name, at first
    for name, model in (("left", current), ("right", old)):
        raw = server.generate("image/png", model=model, seed=42)
        assert side(page, name, 3) == raw.body
    against = f"runs/new@{versions['new']}"
    page.select_option("#against", against)
    page.wait_for_selector(f"#compare-right-title:text-is('{against}')")
    assert side(page, "right", 1) == server.generate("image/png", model=against, seed=40).body
    figures = page.inner_text("#figures")
    assert "1,234" in figures
    assert "frechet distance\t0.5847 (0.01321)" in figures
    page.click("#compare-left .tile:nth-of-type(2) .select")
    marked = page.eval_on_selector_all("#compare [aria-pressed=true]", "each => each.map(one => one.dataset.seed)")
    assert [seed for seed in marked if seed] == ["41", "41"]
    page.click("#compare-reroll")
    page.wait_for_selector("#compare-body[aria-busy=false]")
    assert f"against={against.replace('/', '%2F').replace('@', '%40')}" in page.evaluate("location.hash")


def test_points_are_compared_in_two_plots(look: Open, versions: dict[str, Any]) -> None:
    page = look(f"#model=ring-gan&against=runs/early@{versions['early']}")
    compare(page)
    for name in ("left", "right"):
        assert page.locator(f"#compare-{name}.plot canvas").count() == 1
        assert page.locator(f"#compare-{name} .select").count() == 256
