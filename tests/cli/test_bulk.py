"""The command `latentd bulk`: the content of its files, and that an interruption costs only some seconds."""

import io
import json
import os
import resource
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from latentd.cli.main import latentd
from latentd.models.checkpoint import Checkpoint
from latentd.models.encoding.metadata import read_metadata
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.image import to_pixels
from latentd.models.sampling import generate_rows
from latentd.models.stage_input import StageInput
from latentd.training.data.image_cache import DecodedImages, decode_images
from tests.cli.bulk_runs import Bulk, all_gone, members, rows, workers, write_untrained
from tests.conftest import CLASSES, eventually, image_spec, points_spec

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

NUM = 6000
MANY = ("--num", str(NUM), "--shard-samples", "100", "--seed", "7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bulk")


@pytest.fixture(scope="module")
def conditional(folder: Path) -> Path:
    path = folder / "animals.safetensors"
    write_untrained(path, image_spec(conditional=True))
    return path


@pytest.fixture(scope="module")
def points(folder: Path) -> Path:
    path = folder / "points.safetensors"
    write_untrained(path, points_spec())
    return path


@pytest.fixture(scope="module")
def whole(conditional: Path, folder: Path) -> dict[str, bytes]:
    """The files of an uninterrupted run of MANY."""
    bulk = Bulk(conditional, folder / "whole", MANY)
    bulk.done()
    return bulk.files()


def test_parquet_rows_hold_samples_with_their_provenance(
    conditional: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = Bulk(conditional, tmp_path / "out", ("--num", "40", "--seed", "5", "--shard-samples", "16"))
    read = Checkpoint.read(conditional)
    assert bulk.done() == f"{bulk.out}: 40 samples of animals@{read.version}\n"
    shards = [f"part-0000{index}-of-00003.parquet" for index in range(3)]
    assert list(bulk.files()) == ["_bulk/order.json", "_bulk/shards.jsonl", *shards]
    assert [line["samples"] for line in bulk.lines()] == [16, 16, 8]
    found = rows(bulk.out)
    assert [row["seed"] for row in found] == list(range(5, 45))
    expected_rows = seeds_to_rows(read.card.spec, range(5, 45))
    pixels = to_pixels(generate_rows(read.build(), expected_rows))
    labels = class_indices(expected_rows)
    for row, expected, label in zip(found, pixels, labels, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"]))), expected[..., 0])
        assert (row["model"], row["version"], row["label"]) == ("animals", read.version, CLASSES[label])
        assert json.loads(read_metadata(row["image"]) or "") == {word: row[word] for word in row if word != "image"}

    decoded = as_training_data(bulk, monkeypatch)
    assert np.array_equal(decoded.images, pixels)
    assert labels_of(decoded) == [CLASSES[label] for label in class_indices(expected_rows)]


def test_tar_files_hold_sample_class_and_provenance(
    conditional: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--num", "5", "--form", "webdataset", "--truncation", "0.5")
    bulk = Bulk(conditional, tmp_path / "out", arguments)
    bulk.done()
    found = members(bulk.out / "part-00000-of-00001.tar")
    assert list(found)[:3] == ["0000000000.png", "0000000000.cls", "0000000000.name.json"]
    assert len(found) == 15
    read = Checkpoint.read(conditional)
    expected_rows = seeds_to_rows(read.card.spec, range(5))
    expected = to_pixels(generate_rows(read.build(), expected_rows, truncation=0.5))
    for seed, label in enumerate(class_indices(expected_rows)):
        key = f"{seed:010d}"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(found[f"{key}.png"]))), expected[seed, ..., 0])
        assert found[f"{key}.cls"] == str(label).encode()
        name = json.loads(found[f"{key}.name.json"])
        assert (name["seed"], name["label"], name["truncation"]) == (seed, CLASSES[label], 0.5)

    decoded = as_training_data(bulk, monkeypatch)
    assert np.array_equal(decoded.images, expected)
    assert labels_of(decoded) == [CLASSES[label] for label in class_indices(expected_rows)]


def as_training_data(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> DecodedImages:
    """Return what training reads from the folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(bulk.out.parent / "cache"))
    return decode_images(bulk.out, 28, 1, lambda _: None)


def class_indices(rows: StageInput) -> list[int]:
    assert rows.condition is not None
    indices: list[int] = rows.condition.argmax(axis=1).tolist()
    return indices


def labels_of(decoded: DecodedImages) -> list[str]:
    assert decoded.classes.labels is not None
    return [decoded.classes.names[label] for label in decoded.classes.labels]


def test_one_class_as_arrays(conditional: Path, tmp_path: Path) -> None:
    bulk = Bulk(conditional, tmp_path / "out", ("--num", "3", "--label", "2", "--format", "npy"))
    bulk.done()
    read = Checkpoint.read(conditional)
    latents = seeds_to_rows(read.card.spec, range(3)).inputs
    expected = generate_rows(read.build(), StageInput(latents, np.eye(3, dtype=np.float32)[[2, 2, 2]]))
    found = rows(bulk.out)
    assert np.array_equal([np.load(io.BytesIO(row["image"])) for row in found], expected)
    assert {row["label"] for row in found} == {"owl"}


def test_points_are_lists_of_numbers(points: Path, tmp_path: Path) -> None:
    bulk = Bulk(points, tmp_path / "out", ("--num", "20"))
    bulk.done()
    read = Checkpoint.read(points)
    expected = generate_rows(read.build(), seeds_to_rows(read.card.spec, range(20)))
    assert np.array_equal(np.asarray([row["points"] for row in rows(bulk.out)], dtype=np.float32), expected)


def test_an_interrupted_command_continues_to_the_same_bytes(
    conditional: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    bulk = Bulk(conditional, tmp_path / "out", MANY)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        before = {line["file"]: (bulk.out / line["file"]).stat().st_mtime_ns for line in bulk.lines()}
        with bulk.begun(shards=len(before) + 2) as process:
            helpers = workers(process)
            assert helpers
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
            said = process.communicate(timeout=300)[1]
            eventually(lambda: all_gone(helpers), "processes that make samples are left")  # noqa: B023
        kept = sum(line["samples"] for line in bulk.lines())
        assert kept < NUM
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130
            assert f"stopped: {kept} of {NUM} samples are finished; repeat the command to continue" in said
            assert "Traceback" not in said
        assert before.items() <= {path.name: path.stat().st_mtime_ns for path in bulk.out.iterdir()}.items()
    bulk.done()
    assert bulk.files() == whole


def test_a_killed_worker_is_reported(conditional: Path, tmp_path: Path) -> None:
    bulk = Bulk(conditional, tmp_path / "out", MANY)
    with bulk.begun(shards=1) as process:
        workers(process)[0].kill()
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert "a worker process was killed" in said
    assert "repeat the command to continue" in said


def test_damaged_shards_are_made_again(conditional: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    bulk = Bulk(conditional, tmp_path / "out", MANY)
    (bulk.out / "_bulk").mkdir(parents=True)
    for name, content in whole.items():
        (bulk.out / name).write_bytes(content)
    (bulk.out / "part-00003-of-00060.parquet").unlink()
    with (bulk.out / "part-00005-of-00060.parquet").open("r+b") as file:
        file.truncate(1000)
    with (bulk.out / "part-00007-of-00060.parquet").open("r+b") as file:
        file.write(b"X")
    lines = whole["_bulk/shards.jsonl"].splitlines(keepends=True)
    (bulk.out / "_bulk" / "shards.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    bulk.done()
    assert bulk.files() == whole


def test_a_full_disk_is_reported(conditional: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A limit on the size of files has the effect of a full disk."""
    bulk = Bulk(conditional, tmp_path / "out", MANY)
    smallest = min(len(content) for name, content in whole.items() if name.startswith("part"))
    done = bulk.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (smallest - 1, smallest - 1)))
    assert done.returncode == 1
    assert "cannot be written (File too large); finished shards stay" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in bulk.out.iterdir() if path.suffix in (".tmp", ".parquet")]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["{animals}", "--seed", "4294967290"], 2, "the last seed would be 4294967299, the largest is 4294967295"),
        (["{animals}", "--label", "bear"], 2, "--label: animals: unknown label 'bear'"),
        (["{points}", "--label", "cat"], 2, "has no classes"),
        (["{points}", "--format", "png"], 2, "--format: points has no format 'png'; it has json, npy"),
        (["{animals}", "--truncation", "0"], 2, "--truncation"),
        (["{animals}", "--num", "0"], 2, "--num"),
        (["{animals}", "--ray", "127.0.0.1:x"], 1, "no Ray cluster answers at '127.0.0.1:x'"),
        (["{animals}", "--ray", "127.0.0.1:1"], 1, "no Ray cluster answers at '127.0.0.1:1': [Errno 111]"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], status: int, said: str, conditional: Path, points: Path, tmp_path: Path
) -> None:
    filled = [argument.format(animals=conditional, points=points) for argument in arguments]
    done = CliRunner().invoke(latentd, ["bulk", "--out", str(tmp_path / "out"), "--num", "10", *filled])
    assert (done.exit_code, said in done.output) == (status, True), done.output


def test_other_samples_are_not_mixed_in(points: Path, tmp_path: Path) -> None:
    Bulk(points, tmp_path / "out", ("--num", "10")).done()

    def refusal(*arguments: str, checkpoint: Path = points) -> str:
        done = CliRunner().invoke(latentd, ["bulk", str(checkpoint), "--out", str(tmp_path / "out"), *arguments])
        assert done.exit_code == 1
        return done.output

    said = refusal("--num", "11", "--truncation", "0.5")
    assert "holds other samples (num is 10 there, 11 here; truncation is 1.0 there, 0.5 here)" in said
    trained_on = tmp_path / "points.safetensors"
    version = write_untrained(trained_on, points_spec(), seed=1).version
    assert f"version is {Checkpoint.read(points).version} there, {version} here" in refusal(
        "--num", "10", checkpoint=trained_on
    )
    (tmp_path / "out" / "_bulk" / "order.json").unlink()
    assert "contains other files" in refusal("--num", "10")


def test_samples_that_are_not_finite_are_named(tmp_path: Path) -> None:
    path = tmp_path / "wild.safetensors"
    write_untrained(path, points_spec(), scale=1e30)
    done = Bulk(path, tmp_path / "out", ("--num", "10")).run()
    assert done.returncode == 1
    assert "the sample of seed 0 is not finite" in done.stderr
    assert "Traceback" not in done.stderr


def test_classes_come_from_the_seeds(whole: dict[str, bytes], folder: Path) -> None:
    counts = Counter(row["label"] for row in rows(folder / "whole"))
    assert counts.keys() == set(CLASSES)
    assert min(counts.values()) > 1800  # of 2000
