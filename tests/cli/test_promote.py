"""`latentd promote`, `latentd rollback` and `latentd promotions`, in a folder with runs."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import latentd as package
from latentd.cli.main import latentd
from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SHIPPED
from tests.conftest import image_spec, points_spec
from tests.directions_of import write_directions

Write = Callable[..., Checkpoint]
MEASURED: dict[str, Any] = {"metrics": {"divergence": 0.5}, "measured": "2500 samples, coordinates"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTD_MODELS", raising=False)
    return tmp_path


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(latentd, arguments)
    problem = f"{result.output}{result.exception!r}"
    assert result.exit_code == status, problem
    return result


def refusal(*arguments: str, status: int = 1) -> str:
    return run(*arguments, status=status).stderr


def add_run(write: Write, name: str, seed: int, status: str = "finished", stem: str = "recipe", **card: Any) -> str:
    """Make a run whose recipe is `recipe`, with one checkpoint, and return the version of that."""
    version = write(points_spec(), name=stem, seed=seed, **card).version
    target = Path("runs", name)
    target.mkdir(parents=True, exist_ok=True)
    Path(f"{stem}.safetensors").rename(target / f"{stem}.safetensors")
    (target / "run.json").write_text(json.dumps({"status": status, "name": "recipe"}))
    return version


def history() -> list[dict[str, Any]]:
    return list(json.loads(run("promotions", "--json").stdout))


def test_a_run_is_promoted_rolled_back_and_promoted_again(write: Write) -> None:
    first, second = add_run(write, "a", 1), add_run(write, "b", 2)
    assert f"recipe means {first} now: promoted/recipe@{first}.safetensors" in run("promote", "runs/a").stdout
    assert f"recipe means {second} now, before that {first}" in run("promote", "b").stdout
    assert package.load("recipe", "cpu").version == second
    assert f"recipe means {first} again" in run("rollback", "recipe").stdout
    assert package.load("recipe", "cpu").version == first
    assert package.load(f"recipe@{second}", "cpu").version == second
    assert "means nothing now" in run("rollback", "recipe").stdout
    assert "no promotion to undo" in refusal("rollback", "recipe")
    assert f"recipe means {second} now" in run("promote", f"recipe@{second}").stdout
    assert f"recipe means {second} already" in run("promote", "runs/b").stdout
    assert [(each["action"], each["version"], each["before"]) for each in reversed(history())] == [
        ("promote", first, None),
        ("promote", second, first),
        ("rollback", first, second),
        ("rollback", None, first),
        ("promote", second, None),
    ]


def test_the_history_says_who_when_and_with_which_metric(write: Write) -> None:
    version = add_run(write, "a", 1, **MEASURED)
    run("promote", "runs/a", "--as", "mine")
    (entry,) = history()
    assert entry["by"].count("@") == 1
    assert entry["at"].endswith("+00:00")
    assert (entry["name"], entry["metrics"], entry["measured"]) == ("mine", {"divergence": 0.5}, MEASURED["measured"])
    assert entry["source"] == str(Path("runs/a/recipe.safetensors"))
    shown = run("promotions", "mine").stdout
    assert version in shown
    assert "divergence" in shown
    assert "nothing was promoted as other" in run("promotions", "other").stdout


def test_a_worse_metric_is_refused_without_force(write: Write) -> None:
    first = add_run(write, "good", 1, **MEASURED)
    second = add_run(write, "bad", 2, **MEASURED | {"metrics": {"divergence": 0.6, "frechet_distance": 0.1}})
    run("promote", "runs/good")
    assert "divergence is worse: 0.6, before 0.5 (less is better); --force" in refusal("promote", "runs/bad")
    assert package.load("recipe", "cpu").version == first
    run("promote", "runs/bad", "--force")
    assert package.load("recipe", "cpu").version == second
    assert history()[0]["forced"]
    assert "divergence is better: 0.5, before 0.6" in run("promote", "runs/good").stdout


@pytest.mark.parametrize(
    "card", [{}, MEASURED | {"measured": "otherwise", "metrics": {"divergence": 9.0}}], ids=["none", "other"]
)
def test_metrics_that_cannot_be_compared_refuse_nothing_and_are_mentioned(write: Write, card: dict[str, Any]) -> None:
    add_run(write, "good", 1, **MEASURED)
    add_run(write, "other", 2, **card)
    run("promote", "runs/good")
    assert "not compared: " in run("promote", "runs/other").stdout


def test_sets_of_as_many_samples_by_the_same_features_can_be_compared(write: Write) -> None:
    add_run(write, "good", 1, **MEASURED | {"measured": "3 sets of 2500 samples, coordinates"})
    bad = MEASURED | {"metrics": {"divergence": 9.0}}
    add_run(write, "bad", 2, **bad | {"measured": "2500 samples against held-out data, coordinates"})
    add_run(write, "few", 3, **bad | {"measured": "2000 samples against held-out data, coordinates"})
    run("promote", "runs/good")
    assert "divergence is worse" in refusal("promote", "runs/bad")
    assert "not compared: " in run("promote", "runs/few").stdout


def test_a_promoted_version_does_not_depend_on_its_run(write: Write) -> None:
    version = add_run(write, "a", 1)
    run("promote", "runs/a")
    shutil.rmtree("runs")
    assert package.load("recipe", "cpu").version == version


def test_a_run_does_not_take_the_place_of_a_shipped_model(write: Write) -> None:
    write(points_spec(), name="ring-gan")
    Path("runs/ring-gan").mkdir(parents=True)
    Path("ring-gan.safetensors").rename("runs/ring-gan/ring-gan.safetensors")
    shipped = Checkpoint.read(SHIPPED / "ring-gan.safetensors").version
    assert package.load("ring-gan", "cpu").version == shipped
    assert package.load("runs/ring-gan", "cpu").version != shipped


def test_the_runs_best_generator_and_its_state_are_mentioned(write: Write) -> None:
    add_run(write, "a", 1, status="stopped")
    best = add_run(write, "a", 2, status="stopped", stem="recipe-best")
    said = run("promote", "runs/a").stdout
    assert "the run is not finished: stopped" in said
    command = f"latentd promote {Path('runs/a/recipe-best.safetensors')}"
    assert command in said
    assert f"recipe means {best} now" in run(*command.split()[1:]).stdout


def test_another_generator_of_a_run_has_a_name_of_its_own(write: Write) -> None:
    add_run(write, "a", 1)
    back = add_run(write, "a", 2, stem="recipe-back-best")
    assert f"recipe-back means {back} now" in run("promote", "runs/a/recipe-back-best.safetensors").stdout


def test_directions_go_with_a_promoted_version(write: Write) -> None:
    version = write(image_spec(), name="m").version
    found = write_directions(Path("m.safetensors"))
    run("promote", "m.safetensors")
    shutil.copy(Path("m.directions.safetensors"), Path("other.directions.safetensors"))
    write(image_spec(), name="other", seed=1)
    run("promote", "other.safetensors")  # beside it are the directions of another version
    assert [path.name for path in sorted(Path("promoted").glob("m*"))] == [
        f"m@{version}.directions.safetensors",
        f"m@{version}.safetensors",
    ]
    assert found.version
    assert not list(Path("promoted").glob("other*.directions.*"))


def test_promotions_are_written_to_the_last_folder_of_the_catalog(write: Write, tmp_path: Path) -> None:
    version = add_run(write, "a", 1)
    catalog = os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two"), str(SHIPPED / "ring-gan.safetensors")])
    run("promote", "runs/a", "--models", catalog)
    assert (tmp_path / "two" / f"recipe@{version}.safetensors").exists()
    assert json.loads(run("promotions", "--json", "--models", catalog).stdout)
    assert "no folder" in refusal("promote", "runs/a", "--models", str(SHIPPED / "ring-gan.safetensors"))


def test_what_cannot_be_promoted(write: Write) -> None:
    Path("runs/empty").mkdir(parents=True)
    assert "there is no run, no file and no version 'nope'" in refusal("promote", "nope", status=2)
    assert "has no checkpoint yet" in refusal("promote", "runs/empty")
    add_run(write, "a", 1)
    assert "cannot be a model's name" in refusal("promote", "runs/a", "--as", "runs/a")
    Path("runs/a/recipe.safetensors").write_bytes(b"torn")
    assert "not a complete safetensors file" in refusal("promote", "runs/a")
    assert not list(Path().glob("promoted/*"))


def test_a_folder_that_cannot_be_written_to(write: Write) -> None:
    add_run(write, "a", 1)
    Path("promoted").write_text("a file in the place of the folder")
    assert "promoted cannot be written to" in refusal("promote", "runs/a")


def test_a_rollback_to_a_version_whose_file_is_gone_is_refused(write: Write) -> None:
    first = add_run(write, "a", 1)
    add_run(write, "b", 2)
    run("promote", "runs/a")
    run("promote", "runs/b")
    shutil.rmtree("runs/a")
    Path(f"promoted/recipe@{first}.safetensors").unlink()
    assert f"recipe meant {first} before, and no file of the catalog has it" in refusal("rollback", "recipe")
