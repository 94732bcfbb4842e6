"""Several versions of a name, runs under names of their own, and promotions, in a catalog of real checkpoints."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from latentd.models.checkpoint import Checkpoint
from latentd.models.promotions import Promotion, Promotions
from latentd.models.run_folder import RUNS
from latentd.service.catalog import Catalog
from latentd.service.errors import ApiError
from latentd.service.gateway import Gateway
from tests.conftest import eventually, image_spec, points_spec
from tests.directions_of import write_directions
from tests.service import in_process
from tests.service.in_process import runtime_of

Write = Callable[..., Checkpoint]


@contextmanager
def catalog_of(*paths: Path, default: str = "model") -> Iterator[Catalog]:
    with runtime_of(*paths, default=default) as runtime:
        yield runtime.catalog


@contextmanager
def client_of(*paths: Path, default: str = "model") -> Iterator[TestClient]:
    with runtime_of(*paths, default=default) as runtime:
        yield in_process.client_of(runtime)


@pytest.fixture
def models(write: Write, tmp_path: Path) -> Path:
    """A folder with the version of seed 0 of a model `model`."""
    return add(write, tmp_path, "models", "model")


def add(write: Write, tmp_path: Path, folder: str, stem: str, seed: int = 0) -> Path:
    """Put a checkpoint of this seed into `tmp_path / folder`, and return the folder."""
    write(points_spec(), seed=seed, name="written")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "written.safetensors").rename(tmp_path / folder / f"{stem}.safetensors")
    return tmp_path / folder


def add_run(write: Write, tmp_path: Path, name: str, seed: int, status: str = "finished", stem: str = "model") -> Path:
    folder = add(write, tmp_path, f"runs/{name}", stem, seed)
    (folder / "run.json").write_text(json.dumps({"status": status, "name": "model"}))
    return folder


def version_in(folder: Path, stem: str = "model") -> str:
    return Checkpoint.read(folder / f"{stem}.safetensors").version


def promote(source: Path, to: Path, name: str = "model") -> str:
    """Do what `latentd promote` does."""
    version = Checkpoint.read(source).version
    to.mkdir(exist_ok=True)
    shutil.copy(source, to / f"{name}@{version}.safetensors")
    point(to, name, version)
    return version


def point(to: Path, name: str, version: str | None) -> None:
    action = "promote" if version else "rollback"
    entry = Promotion(action=action, name=name, version=version, before=None, by="a@b", at="2026-01-01T00:00:00+00:00")
    Promotions.read(to).with_entry(entry).write(to)


def answer_of(client: TestClient, model: str | None) -> tuple[str, str]:
    answer = client.post("/generate", json={"seed": 1} | ({"model": model} if model else {}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-latentd-model"] == answer.json()["model"]
    return answer.json()["model"], answer.json()["version"]


def refusal(client: TestClient, model: str) -> tuple[int, str]:
    answer = client.post("/generate", json={"seed": 1, "model": model})
    return answer.status_code, answer.json()["error"]["code"]


def test_a_run_does_not_replace_a_model_of_its_recipes_name(write: Write, models: Path, tmp_path: Path) -> None:
    run = add_run(write, tmp_path, "first", seed=1)
    shipped, trained = version_in(models), version_in(run)
    with client_of(models, tmp_path / RUNS) as client:
        assert answer_of(client, None) == ("model", shipped)
        assert answer_of(client, "model") == ("model", shipped)
        assert answer_of(client, "runs/first") == ("runs/first", trained)
        assert answer_of(client, f"runs/first@{trained}") == ("runs/first", trained)
        # samples that were made without a service name the file's stem
        assert answer_of(client, f"model@{trained}") == ("model", trained)
        assert answer_of(client, f"model@{shipped}") == ("model", shipped)
        assert refusal(client, "model@000000000000") == (404, "version_not_served")
        assert refusal(client, "runs/second") == (404, "unknown_model")


def test_two_runs_of_one_recipe_do_not_hide_each_other(write: Write, models: Path, tmp_path: Path) -> None:
    runs = [add_run(write, tmp_path, name, seed) for seed, name in enumerate(("a", "b"), 1)]
    with client_of(models, tmp_path / RUNS) as client:
        for run in runs:
            assert answer_of(client, f"runs/{run.name}") == (f"runs/{run.name}", version_in(run))


@pytest.mark.parametrize("status", ["stopped", "running", "failed"])
def test_a_run_that_is_not_finished_is_served_only_when_it_is_asked_for(
    write: Write, models: Path, tmp_path: Path, status: str
) -> None:
    run = add_run(write, tmp_path, "early", seed=1, status=status)
    with client_of(models, tmp_path / RUNS) as client:
        told = client.get("/models").json()
        assert [each["name"] for each in told["models"]] == ["model"]
        assert [(each["name"], each["run"], each["loaded"]) for each in told["versions"]] == [
            ("model", None, True),
            ("runs/early", status, False),
        ]
        assert answer_of(client, "runs/early") == ("runs/early", version_in(run))
        assert client.get("/models").json()["versions"][1]["loaded"]


def test_a_run_becomes_a_model_of_its_own_when_it_finishes(write: Write, models: Path, tmp_path: Path) -> None:
    run = add_run(write, tmp_path, "new", seed=1, status="running", stem="model-best")
    with catalog_of(models, tmp_path / RUNS) as catalog:
        assert catalog.find("runs/new").version == version_in(run, "model-best")
        add(write, tmp_path, "runs/new", "model", seed=2)
        (run / "run.json").write_text(json.dumps({"status": "finished", "name": "model"}))
        eventually(lambda: "runs/new" in catalog.models)
        eventually(lambda: catalog.find("runs/new").version == version_in(run))
        assert catalog.find(f"runs/new@{version_in(run, 'model-best')}").name == "runs/new"
        assert catalog.find("model").version == version_in(models)


def test_a_run_is_no_default_and_not_loaded_until_it_is_asked_for(write: Write, tmp_path: Path) -> None:
    add_run(write, tmp_path, "only", seed=1)
    with client_of(tmp_path / RUNS) as client:
        assert client.get("/models").json()["default"] is None
        assert client.post("/generate", json={"seed": 1}).status_code == 404
        (told,) = client.get("/models").json()["models"]
        assert (told["name"], told["determinism"]["sizes"]) == ("runs/only", [])
        told = client.get("/models/runs/only").json()
        assert (told["name"], told["determinism"]["mode"]) == ("runs/only", "bitwise")
        assert told["determinism"]["sizes"]


def test_paths_lead_to_runs_and_their_versions(write: Write, models: Path, tmp_path: Path) -> None:
    run = add_run(write, tmp_path, "first", seed=1)
    with client_of(models, tmp_path / RUNS) as client:
        for name in ("runs/first", "runs%2Ffirst", f"runs/first@{version_in(run)}"):
            assert client.get(f"/models/{name}").json()["version"] == version_in(run)
            assert client.get(f"/models/{name}/directions").json()["model"] == "runs/first"
            assert client.get(f"/models/{name}/surface").status_code == 404
            assert client.get(f"/v2/models/{name}").json()["name"] == "runs/first"
            assert client.get(f"/v2/models/{name}/ready").json()["ready"]
            assert client.get(f"/v1/models/{name}").json()["id"] == "runs/first"
        assert client.get("/v2/models/model").json()["versions"] == sorted([version_in(models), version_in(run)])
        assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["model", "runs/first"]
        infer = {"inputs": [{"name": "seeds", "datatype": "UINT32", "shape": [1], "data": [4]}]}
        inferred = client.post(f"/v2/models/runs/first/versions/{version_in(run)}/infer", json=infer)
        assert (inferred.json()["model_name"], inferred.json()["model_version"]) == ("runs/first", version_in(run))


def test_a_folder_that_is_named_itself_has_names_by_its_files(write: Write, tmp_path: Path) -> None:
    run = add_run(write, tmp_path, "mine", seed=1)
    with client_of(run) as client:
        assert answer_of(client, None) == ("model", version_in(run))


def test_a_name_means_the_promoted_version_until_it_is_rolled_back(
    write: Write, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, to = add_run(write, tmp_path, "first", seed=1), tmp_path / "promoted"
    to.mkdir()
    shipped = version_in(models)
    with caplog.at_level(logging.INFO), client_of(models, tmp_path / RUNS, to) as client:
        assert answer_of(client, "model") == ("model", shipped)
        promoted = promote(run / "model.safetensors", to)
        eventually(lambda: answer_of(client, "model") == ("model", promoted))
        assert answer_of(client, f"model@{shipped}") == ("model", shipped)
        versions = {(each["name"], each["version"]): each for each in client.get("/models").json()["versions"]}
        assert versions["model", promoted]["current"]
        assert versions["model", promoted]["why"] == "promoted"
        assert versions["model", shipped]["hidden_by"] == f"model@{promoted}"
        assert versions["runs/first", promoted]["current"]
        point(to, "model", None)
        eventually(lambda: answer_of(client, "model") == ("model", shipped))
        assert answer_of(client, f"model@{promoted}") == ("model", promoted)
        assert f"model refers to {promoted} now, not to {shipped}" in caplog.text


def test_a_promoted_version_outlives_its_run_and_a_file_that_turns_up(
    write: Write, models: Path, tmp_path: Path
) -> None:
    run, to = add_run(write, tmp_path, "first", seed=1), tmp_path / "promoted"
    promoted = promote(run / "model.safetensors", to)
    with client_of(models, tmp_path / RUNS, to) as client:
        shutil.rmtree(run)
        add(write, tmp_path, "models", "model", seed=2)
        newer = version_in(models)
        eventually(lambda: client.post("/generate", json={"model": f"model@{newer}"}).status_code == 200)
        assert answer_of(client, "model") == ("model", promoted)
        assert refusal(client, "runs/first") == (404, "unknown_model")


def test_a_promoted_version_whose_file_is_gone(write: Write, models: Path, tmp_path: Path) -> None:
    to = tmp_path / "promoted"
    other = add(write, tmp_path, "other", "model", seed=1)
    promoted = promote(other / "model.safetensors", to)
    with client_of(models, to) as client:
        (to / f"model@{promoted}.safetensors").unlink()
        eventually(lambda: bool(client.get("/models").json()["failures"]))
        (failure,) = client.get("/models").json()["failures"]
        assert failure["file"] == f"model@{promoted}.safetensors"
        assert "still served from memory" in failure["error"]
        assert answer_of(client, "model") == ("model", promoted)
    with client_of(models, to) as client:  # a replica that starts now never serves another version instead
        assert refusal(client, "model") == (404, "version_not_served")
        assert "requests for model are refused" in client.get("/models").json()["failures"][0]["error"]
        assert answer_of(client, f"model@{version_in(models)}") == ("model", version_in(models))
        shutil.copy(other / "model.safetensors", to / f"model@{promoted}.safetensors")
        eventually(lambda: client.post("/generate", json={"model": "model"}).status_code == 200)
        assert answer_of(client, "model") == ("model", promoted)
        assert not client.get("/models").json()["failures"]


def test_a_promoted_file_that_is_damaged_changes_only_the_failures(write: Write, models: Path, tmp_path: Path) -> None:
    to = tmp_path / "promoted"
    to.mkdir()
    shipped = version_in(models)
    with client_of(models, to) as client:
        (to / "model@0123456789ab.safetensors").write_bytes(b"torn")
        point(to, "model", "0123456789ab")
        eventually(lambda: len(client.get("/models").json()["failures"]) == 2)
        assert answer_of(client, "model") == ("model", shipped)


def test_a_file_of_promotions_that_cannot_be_read_changes_nothing(write: Write, models: Path, tmp_path: Path) -> None:
    to = tmp_path / "promoted"
    promoted = promote(add(write, tmp_path, "other", "model", seed=1) / "model.safetensors", to)
    with client_of(models, to) as client:
        (to / "promoted.json").write_text('{"history": 7}')
        eventually(lambda: bool(client.get("/models").json()["failures"]))
        assert client.get("/models").json()["failures"][0]["file"] == "promoted.json"
        assert answer_of(client, "model") == ("model", promoted)
        point_again = Promotions()
        point_again.write(to)
        eventually(lambda: not client.get("/models").json()["failures"])
        eventually(lambda: answer_of(client, "model") == ("model", version_in(models)))


def test_a_service_that_starts_with_unreadable_promotions_refuses_the_names_beside_them(
    write: Write, models: Path, tmp_path: Path
) -> None:
    add(write, tmp_path, "models", "other")
    to = tmp_path / "promoted"
    promoted = promote(add(write, tmp_path, "trained", "model", seed=1) / "model.safetensors", to)
    content = (to / "promoted.json").read_text()
    (to / "promoted.json").write_text("torn")
    with client_of(models, to) as client:
        assert refusal(client, "model") == (404, "version_not_served")
        assert answer_of(client, f"model@{promoted}") == ("model", promoted)
        assert answer_of(client, "other")[0] == "other"
        (to / "promoted.json").write_text(content)
        eventually(lambda: client.post("/generate", json={"model": "model"}).status_code == 200)
        assert answer_of(client, "model") == ("model", promoted)


def test_a_version_in_several_files_answers_as_long_as_one_is_there(write: Write, models: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(models, copy)
    version = version_in(models)
    with client_of(models, copy) as client:
        (listed,) = client.get("/models").json()["versions"]
        assert listed["files"] == ["model.safetensors", "model.safetensors"]
        (copy / "model.safetensors").unlink()
        eventually(lambda: client.get("/models").json()["versions"][0]["files"] == ["model.safetensors"])
        assert answer_of(client, f"model@{version}") == ("model", version)
        (models / "model.safetensors").unlink()
        eventually(lambda: not client.get("/models").json()["versions"])
        assert refusal(client, f"model@{version}") == (404, "unknown_model")


def test_a_file_whose_name_has_another_version_is_refused(write: Write, models: Path) -> None:
    shutil.copy(models / "model.safetensors", models / "model@0123456789ab.safetensors")
    with client_of(models) as client:
        (failure,) = client.get("/models").json()["failures"]
        assert failure["error"].endswith("not the one in its name")


def test_the_sample_of_a_version_has_the_same_values_under_every_name(
    write: Write, models: Path, tmp_path: Path
) -> None:
    run, to = add_run(write, tmp_path, "first", seed=1), tmp_path / "promoted"
    promoted = promote(run / "model.safetensors", to, name="other")
    with client_of(models, tmp_path / RUNS, to) as client:
        samples = [
            client.post("/generate", json={"model": name, "seed": 3}).json()["samples"]
            for name in ("other", "runs/first", f"model@{promoted}", f"other@{promoted}")
        ]
        assert samples == [samples[0]] * 4


def test_directions_are_those_beside_the_file_of_each_name(write: Write, tmp_path: Path) -> None:
    write(image_spec())
    (tmp_path / "runs" / "first").mkdir(parents=True)
    run = (tmp_path / "model.safetensors").rename(tmp_path / "runs" / "first" / "model.safetensors")
    promote(run, tmp_path / "promoted")
    found = write_directions(run)
    with catalog_of(tmp_path / RUNS, tmp_path / "promoted") as catalog:
        assert catalog.find("runs/first").directions_version == found.version
        assert catalog.find("model").directions is None


def test_versions_that_wait_are_evicted_and_loaded_again(write: Write, models: Path, tmp_path: Path) -> None:
    add_run(write, tmp_path, "first", seed=1)
    with runtime_of(models, tmp_path / RUNS, memory=1) as runtime:
        for name in ("runs/first", "model", "runs/first"):
            asyncio.run(runtime.catalog.ensure_deployed(runtime.catalog.find(name)))
            sizes = runtime.catalog.weights_on_device()
            assert [each for each, size in sizes.items() if size] == [name]


def test_a_run_whose_file_was_replaced_before_it_was_loaded(write: Write, models: Path, tmp_path: Path) -> None:
    run = add_run(write, tmp_path, "first", seed=1)
    with catalog_of(models, tmp_path / RUNS) as catalog:
        stale = catalog.find("runs/first")
        add(write, tmp_path, "runs/first", "model", seed=2)
        with pytest.raises(ApiError, match="cannot be loaded"):
            asyncio.run(catalog.ensure_deployed(stale))
        eventually(lambda: stale.version != version_in(run) and "runs/first" in catalog.models)
        eventually(lambda: catalog.find("runs/first").version == version_in(run))


def test_samples_are_counted_under_the_name_that_was_asked_for(write: Write, models: Path, tmp_path: Path) -> None:
    run = add_run(write, tmp_path, "first", seed=1)
    with runtime_of(models, tmp_path / RUNS) as runtime:
        client = TestClient(Gateway(Starlette(), lambda: runtime), raise_server_exceptions=False)
        for name in ("model", "runs/first", f"model@{version_in(run)}"):
            answer_of(client, name)
        counts = runtime.telemetry.model_statistics
        assert [counts.of(name).samples for name in ("model", "runs/first")] == [2, 1]


def test_a_runs_folder_whose_name_no_request_can_have_is_reported(write: Write, models: Path, tmp_path: Path) -> None:
    add_run(write, tmp_path, "my run", seed=1)
    with client_of(models, tmp_path / RUNS) as client:
        (failure,) = client.get("/models").json()["failures"]
        assert failure["file"] == "my run"
        assert "cannot be a model's name" in failure["error"]
