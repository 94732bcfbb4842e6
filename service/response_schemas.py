"""The bodies of JSON answers, as pydantic models.

Answers about models are instances of these. Answers with samples are joined from bytes instead
(service/samples/response_body.py), because they may be megabytes of base64. A test validates them as `SamplesAnswer`.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from latentd.models.card import Card
from latentd.models.decision_surface import Extent
from latentd.models.directions import DirectionCard

_T = TypeVar("_T")
MayBeAbsent = Annotated[
    _T | SkipJsonSchema[None], Field(default=None, json_schema_extra=lambda schema: schema.pop("default", None))
]
"""A field that is left out, and never null, if it does not apply."""

ClassLabel = str | dict[str, float]
"""The name of a class, or the weights of several by name."""
Seed = Annotated[int | None, Field(description="null for a sample that no single seed names")]


class Answer(BaseModel):
    """The base of all answers."""

    model_config = ConfigDict(extra="forbid")


class SampleEntry(Answer):
    """A sample, or one file of several samples. Models may have more fields, such as `prompt`."""

    model_config = ConfigDict(extra="allow")

    index: Annotated[int, Field(ge=0)]
    seed: MayBeAbsent[Seed]
    image_sha256: MayBeAbsent[str]
    label: MayBeAbsent[ClassLabel]
    neighbor_seed: MayBeAbsent[Annotated[int, Field(ge=0)]]
    seeds: MayBeAbsent[list[Seed]] = Field(description="for a grid or an animation: the seed of each sample")
    labels: MayBeAbsent[list[ClassLabel | None]] = Field(
        description="for a grid or an animation: the label of each sample"
    )
    data: str | list[Any] = Field(description="base64, or the numbers themselves in the format `json`")


class SamplesAnswer(Answer):
    """Samples, and the version of the model that made them."""

    model: str
    version: str
    format: str
    directions_version: MayBeAbsent[str]
    samples: list[SampleEntry]


class Limits(Answer):
    """The limits of one request."""

    max_samples: int
    max_frames: int


class Determinism(Answer):
    """What the bytes of a sample depend on."""

    mode: str
    sizes: list[int] = Field(description="batch sizes that the model is run with; empty before it is loaded")
    fingerprint: dict[str, Any] = Field(description="samples have the same bytes wherever all of this is the same")
    fingerprint_id: str


class ModelAnswer(Answer):
    """`GET /models/{name}`."""

    name: str
    version: str
    directions_version: str | None
    surface: bool = Field(description="whether `/models/{name}/surface` has an answer")
    formats: list[str] = Field(description="of single samples")
    films: dict[str, str] = Field(description="media types of animations, by format")
    shape: list[int] = Field(description="of one sample")
    media_types: dict[str, str] = Field(description="of single samples, by format; the default format is first")
    layouts: dict[str, list[str]] = Field(description="by format, the ways to put several samples into one file")
    operations: list[str] = Field(description="what requests can do with the model's inputs")
    fields: dict[str, Any] = Field(description="the fields of requests that this model has, each with its JSON schema")
    limits: Limits
    determinism: Determinism
    card: Card


class FailedFile(Answer):
    """A file of the catalog that cannot be served, and why."""

    file: str
    error: str


class VersionAnswer(Answer):
    """A version of a model or of a run. `name@version` answers for each of them."""

    name: str
    version: str
    current: bool = Field(description="whether the name alone means this version")
    hidden_by: str | None = Field(description="`name@version` that the name means instead; null for a current version")
    why: Literal["file", "run", "promoted"] | None = Field(
        description="why the name means what it does: by the last file of this name, by the run's last generator, "
        "or by a promotion; null if it means nothing without a version"
    )
    also: list[str] = Field(description="other names that answer, together with the version")
    files: list[str] = Field(description="the names of the files that have the version")
    loaded: bool = Field(description="whether it was loaded; the others are loaded for the first request")
    run: str | None = Field(description="the state of the run, such as `finished` or `stopped`; null if it is no run's")
    recipe: str
    data: str = Field(description="the name of the data set")
    steps: int
    created: str
    metrics: dict[str, float]
    floors: dict[str, float] = Field(description="the same metrics of real samples")
    measured: str = Field(description="how the metrics were measured, and on what")


class ModelsAnswer(Answer):
    """`GET /models`."""

    default: str | None = Field(description="the model of requests that name none")
    models: list[ModelAnswer] = Field(description="what each name means, of models and of finished runs")
    versions: list[VersionAnswer] = Field(description="all versions, also of runs that are not finished")
    failures: list[FailedFile]


class DirectionsAnswer(Answer):
    """`GET /models/{name}/directions`."""

    model: str
    version: str
    directions_version: str | None
    space: Literal["z", "w"] | None = Field(description="null for a model that cannot have any")
    directions: list[DirectionCard]


class SurfaceAnswer(Answer):
    """`GET /models/{name}/surface`."""

    model: str
    version: str
    extent: Extent = Field(description="x of the first and the last column, y of the first and the last row")
    values: list[list[float]] = Field(description="the discriminator's logits, a row for each y from the lowest up")
