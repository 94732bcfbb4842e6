import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from safetensors.torch import save_file

import latentd
from latentd.cli.show import show
from latentd.models.card import read_header
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.conditions.classes import ClassCondition
from latentd.models.errors import CheckpointError
from latentd.models.families import build_generator
from latentd.models.families.mlp import MlpConfig
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.image import ImageOutput
from latentd.models.sampling import REFERENCE_BATCH_SIZE, generate_rows
from tests.conftest import card_of, image_spec, points_spec, spec_of

Write = Callable[..., Checkpoint]
LINEAR = spec_of("linear", ImageOutput(channels=1, height=28, width=28))


def test_round_trip_gives_the_same_samples(write: Write, tmp_path: Path) -> None:
    written = write(image_spec(conditional=True))
    read = Checkpoint.read(tmp_path / "model.safetensors")
    assert read.card == written.card
    assert read.version == written.version
    (tmp_path / "any").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode
    rows = seeds_to_rows(image_spec(conditional=True), range(20))
    assert np.array_equal(generate_rows(read.build(), rows), generate_rows(written.build(), rows))


def test_the_version_depends_on_spec_and_weights_alone(write: Write) -> None:
    first = write(points_spec())
    assert len(first.version) == 12
    assert int(first.version, 16) >= 0
    assert write(points_spec(), name="other", description="judged", metrics={"modes": 8.0}).version == first.version
    assert write(points_spec(), seed=1).version != first.version
    assert write(image_spec()).version != write(image_spec(conditional=True)).version


def test_a_built_generator_is_frozen_and_in_evaluation_mode(write: Write) -> None:
    checkpoint = write(points_spec())
    generator = checkpoint.build()
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_a_failed_write_leaves_the_old_file(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write(points_spec()).version

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(points_spec(), seed=1)
    assert Checkpoint.read(tmp_path / "model.safetensors").version == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("/tmp/latentd-was-unpickled",)  # noqa: S108  # must never exist


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "Git LFS pointer .* `git lfs pull`",
        ),
        (b"<!DOCTYPE html>\n<html><head><title>Sign in</title>", "web page .* download the file again"),
        (b"\xef\xbb\xbf\r\n <HTML lang=en>", "web page .* download the file again"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page .* download the file again"),
    ],
)
def test_what_stands_in_the_place_of_a_file_is_named(tmp_path: Path, content: bytes, advice: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    for read in (Checkpoint.read, read_header, latentd.load):
        with pytest.raises(CheckpointError, match=rf"m\.safetensors: this is a {advice}"):
            read(path)
    shown = CliRunner().invoke(show, [str(path)])
    assert re.search(f"this is a {advice}", str(shown.exception))


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    for number, save in enumerate((lambda path: path.write_bytes(pickle.dumps(Bomb())), lambda p: torch.save({}, p))):
        path = tmp_path / f"evil{number}.safetensors"
        save(path)
        with pytest.raises(CheckpointError, match="pickled file"):
            Checkpoint.read(path)
    assert not Path("/tmp/latentd-was-unpickled").exists()  # noqa: S108


def test_truncated_empty_and_missing_files_are_refused(write: Write, tmp_path: Path) -> None:
    write(points_spec())
    whole = (tmp_path / "model.safetensors").read_bytes()
    path = tmp_path / "torn.safetensors"
    for length in (0, 4, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"torn\.safetensors"):
            Checkpoint.read(path)
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        Checkpoint.read(tmp_path / "gone.safetensors")


def test_a_safetensors_file_without_a_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="without latentd's card"):
        Checkpoint.read(path)


def test_a_header_that_claims_too_much_memory_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="huge"):
        Checkpoint.read(path)


def save_with_card(path: Path, tensors: dict[str, torch.Tensor], card: str) -> None:
    save_file(tensors, path, metadata={"latentd.card": card})


def test_tensors_and_cards_that_do_not_match_are_refused(tmp_path: Path) -> None:
    spec = points_spec()
    good = build_generator(spec).state_dict()
    card = card_of(spec).model_dump_json()
    path = tmp_path / "bad.safetensors"

    def message(tensors: dict[str, torch.Tensor], card: str = card) -> str:
        save_with_card(path, {name: tensor.clone() for name, tensor in tensors.items()}, card)
        with pytest.raises(CheckpointError) as caught:
            Checkpoint.read(path)
        return str(caught.value)

    name = next(iter(good))
    assert "missing" in message({key: value for key, value in good.items() if key != name})
    assert "unexpected" in message(good | {"extra": torch.zeros(1)})
    assert "shape" in message(good | {name: torch.zeros(3, 3)})
    assert "F16, its card wants F32" in message(good | {name: good[name].half()})
    assert "finite" in message(good | {name: torch.full_like(good[name], float("nan"))})
    assert "cannot be read" in message(good, "{")
    assert "cannot be read" in message(good, "[]")
    assert "spec.output" in message(good, card.replace('"points"', '"smells"'))
    assert "unknown family" in message(good, card.replace('"mlp"', '"../../etc"'))
    assert "hidden" in message(good, card.replace('"hidden":[16]', '"hidden":[0]'))
    assert "cannot be read" in message(good, card.replace('"untrained"', '"\\ud800"'))
    assert "cannot be read" in message(good, card.replace('"wall_seconds":0.0', '"wall_seconds":NaN'))
    assert "cannot be read" in message(good, card.replace('"settings":{}', '"settings":{"a":1e999}'))
    assert "cannot be read" in message(
        good, card.replace('"settings":{}', '"settings":' + '{"a":' * 500 + "1" + "}" * 501)
    )
    # a network of four billion weights is refused without memory for it
    assert "bytes of weights" in message(
        good, card.replace('"hidden":[16]', '"hidden":[65536]').replace('"dim":8', '"dim":65536')
    )


def test_validation_of_huge_invalid_cards_is_bounded(tmp_path: Path) -> None:
    wrong = [0] * 10_000
    with pytest.raises(ValidationError) as names:
        ClassCondition.model_validate({"names": wrong})
    with pytest.raises(ValidationError) as hidden:
        MlpConfig.model_validate({"hidden": wrong})
    assert max(names.value.error_count(), hidden.value.error_count()) <= 2  # pydantic stops a tuple one late
    path = tmp_path / "wide.safetensors"
    card = json.loads(card_of(points_spec()).model_dump_json()) | {
        "metrics": dict.fromkeys(map(str, range(300_000)), "")
    }
    save_with_card(path, {}, json.dumps(card))
    with pytest.raises(CheckpointError, match="more than 262144 values"):
        Checkpoint.read(path)


def test_invalid_names_of_checkpoints_are_refused(tmp_path: Path) -> None:
    for name in ("model.pt", "a@b.safetensors", "my model.safetensors"):
        with pytest.raises(CheckpointError):
            write_checkpoint(tmp_path / name, card_of(points_spec()), {})
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    tensors = build_generator(points_spec()).state_dict()
    next(iter(tensors.values())).fill_(float("inf"))
    with pytest.raises(CheckpointError, match="not finite"):
        write_checkpoint(tmp_path / "model.safetensors", card_of(points_spec()), tensors)
    assert not list(tmp_path.iterdir())


def test_paths_that_are_no_regular_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    for name in ("pipe", "folder", "loop"):
        with pytest.raises(CheckpointError, match="not a regular file"):
            Checkpoint.read(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("spec", [points_spec(), image_spec(), image_spec(conditional=True), LINEAR])
def test_samples_do_not_depend_on_their_batch(write: Write, spec: object) -> None:
    generator = write(spec).build()
    rows = seeds_to_rows(generator.spec, range(3 * REFERENCE_BATCH_SIZE + 5))
    together = generate_rows(generator, rows)
    for index in range(0, len(rows), 7):
        assert np.array_equal(generate_rows(generator, rows[index : index + 1])[0], together[index])


def test_partly_copied_weights_are_refused(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write(points_spec())
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: -len(whole) // 8] + bytes(len(whole) - len(whole[: -len(whole) // 8])))
    with pytest.raises(CheckpointError, match="not the ones it was written with"):
        Checkpoint.read(file)
