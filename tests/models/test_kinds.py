"""Kinds are found by being in a folder, and specs that hold them keep their text."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

import latentd.models.outputs
from latentd.models.card import read_header
from latentd.models.conditions.classes import ClassCondition
from latentd.models.inputs.latent import LatentInput, StyleSpace
from latentd.models.kind import kinds
from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.points import PointsOutput
from latentd.models.spec import GeneratorSpec

CHECKPOINTS = Path(__file__).parents[2] / "models" / "checkpoints"
WORD = '''
"""Words of a fixed length."""

from typing import ClassVar, Literal

from latentd.models.outputs.base import OutputKind, Samples


class WordOutput(OutputKind):
    kind: Literal["word"] = "word"
    length: int
    media_types: ClassVar[dict[str, str]] = {"txt": "text/plain"}
    default_format: ClassVar[str] = "txt"
    bounded: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def encode(self, samples: Samples, format: str) -> list[bytes]:
        return [bytes((13 * (row + 1) + 97).astype(int).tolist()) for row in samples]


KIND = WordOutput
'''
SPECS = {
    '{"family":"mlp","config":{"hidden":[16]},"input":{"kind":"latent","dim":2,"distribution":"uniform"},'
    '"condition":{"kind":"none"},"output":{"kind":"points","dim":2}}': GeneratorSpec(
        family="mlp",
        config={"hidden": [16]},
        input=LatentInput(dim=2, distribution="uniform"),
        output=PointsOutput(dim=2),
    ),
    '{"family":"styled","config":{},"input":{"kind":"latent","dim":8,"distribution":"normal",'
    '"w":{"layers":3,"dim":6}},"condition":{"kind":"classes","names":["cat","dog"]},'
    '"output":{"kind":"image","channels":1,"height":28,"width":20}}': GeneratorSpec(
        family="styled",
        config={},
        input=LatentInput(dim=8, w=StyleSpace(layers=3, dim=6)),
        condition=ClassCondition(names=("cat", "dog")),
        output=ImageOutput(channels=1, height=28, width=20),
    ),
}
"""Texts as latentd wrote them before kinds were open."""


@pytest.mark.parametrize("text", SPECS)
def test_specs_keep_their_text(text: str) -> None:
    spec = SPECS[text]
    assert spec.model_dump_json() == text
    assert json.dumps(spec.model_dump(mode="json"), separators=(",", ":")) == text
    assert GeneratorSpec.model_validate_json(text) == GeneratorSpec.model_validate(json.loads(text)) == spec


@pytest.mark.parametrize("name", ["fashion-dcgan", "fashion-dcgan-conditional", "ring-gan"])
def test_shipped_specs_keep_their_text(name: str) -> None:
    file = CHECKPOINTS / f"{name}.safetensors"
    header = file.read_bytes()
    length = int.from_bytes(header[:8], "little")
    written = json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["latentd.card"])["spec"]
    assert json.dumps(read_header(file)[2].spec.model_dump(mode="json")) == json.dumps(written)


def test_a_kind_is_found_by_being_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "word.py").write_text(WORD)
    monkeypatch.setattr(latentd.models.outputs, "__path__", [*latentd.models.outputs.__path__, str(tmp_path)])
    assert list(kinds("latentd.models.outputs")) == ["image", "points", "word"]
    spec = {"family": "mlp", "config": {}, "input": {"kind": "latent", "dim": 2}}
    read = GeneratorSpec.model_validate(spec | {"output": {"kind": "word", "length": 3}})
    assert read.output.shape == (3,)
    assert GeneratorSpec.model_validate_json(read.model_dump_json()) == read
    titles = [each["title"] for each in GeneratorSpec.model_json_schema()["properties"]["output"]["oneOf"]]
    assert titles == ["ImageOutput", "PointsOutput", "WordOutput"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"kind": "smell"}, "unknown kind 'smell'; known are image, points"),
        ({"dim": 2}, "unknown kind None"),
        ({"kind": "base"}, "unknown kind 'base'"),
        ({"kind": ["image"]}, "unknown kind"),
        ("image", "not a JSON object"),
        ({"kind": "points", "dim": 0}, "output.dim"),
        ({"kind": "points", "dim": 2, "colour": 1}, "output.colour"),
    ],
)
def test_a_wrong_kind_is_refused(output: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GeneratorSpec.model_validate(
            {"family": "mlp", "config": {}, "input": {"kind": "latent", "dim": 2}, "output": output}
        )
