"""Content negotiation: from `Accept`, `format` and `layout` to the shape of an answer (RFC 9110, section 12.5.1)."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from latentd.models.outputs import animation
from latentd.models.outputs.base import OutputKind
from latentd.service.errors import ApiError, invalid

JSON = "application/json"

EVENTS = "text/event-stream"

_DEFAULT_FILM = "gif"
"""What a page or a document shows everywhere as a picture."""

Envelope = Literal["json", "json-grid", "single", "grid", "rows", "json-animation", "animation"]


@dataclass(frozen=True)
class ResponseFormat:
    """How samples are answered: in which encoding and in what.

    In JSON: `json` has an entry a sample, `json-grid` one for a picture of all. Raw: `single` is one sample's bytes,
    `grid` one picture of all, `rows` one array of all. An `animation` is one file of all, too.
    """

    format: str
    envelope: Envelope
    media_type: str
    streamed: bool = False
    """What JSON would hold is sent piece by piece, as events."""

    @property
    def animated(self) -> bool:
        """Whether the samples are the frames of a film."""
        return self.envelope in ("animation", "json-animation")

    @property
    def layout(self) -> str | None:
        """What a request says to get this; None where that is the rule."""
        if self.animated:
            return "animation"
        return "grid" if self.envelope in ("grid", "json-grid") else None


class _Range(NamedTuple):
    kind: str
    subtype: str
    quality: float
    position: int

    def specificity(self, media_type: str) -> int | None:
        """2: names the type, 1: the kind, 0: anything; None: does not match."""
        kind, _, subtype = media_type.partition("/")
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if (self.kind, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.kind, self.subtype) == ("*", "*") else None


def negotiate(
    accept: str, output: OutputKind, format: str | None, layout: str | None, num_samples: int
) -> ResponseFormat:
    """The answer's shape. ApiError 400 where `format` or `layout` is impossible for `output`, 406 where `accept` is."""
    if format is not None and format not in output.media_types:
        possible = ", ".join(output.media_types)
        raise invalid("format", f"{output.kind} samples cannot be {format!r}; they can be {possible}")
    candidates = output.media_types if format is None else {format: output.media_types[format]}
    raw = {media_type: name for name, media_type in candidates.items() if media_type != JSON}
    media_type = _best(accept, [JSON, *raw])
    if media_type is None:
        offered = ", ".join([JSON, *raw])
        raise ApiError(406, "not_acceptable", f"Accept names nothing that this request can give: {offered}")
    chosen = raw.get(media_type) or format or output.default_format
    if layout == "grid" and chosen not in output.grid_formats:
        raise invalid("layout", f"{output.kind} samples in format {chosen} cannot be laid out as a grid")
    if media_type == JSON:
        return ResponseFormat(chosen, "json-grid" if layout == "grid" else "json", JSON)
    if chosen == "npy":
        return ResponseFormat(chosen, "rows", media_type)
    if num_samples > 1 and layout == "separate":
        raise invalid("layout", f"several samples are not one {media_type}; ask for a grid, or accept {JSON}")
    if num_samples > 1 or layout == "grid":
        return ResponseFormat(chosen, "grid", media_type)
    return ResponseFormat(chosen, "single", media_type)


def negotiate_frames(
    accept: str, output: OutputKind, format: str | None, layout: str | None, frames: int
) -> ResponseFormat:
    """The same for samples that follow each other: they can also be an animation, and be streamed as events."""
    films = animation.MEDIA_TYPES if output.frame_size else {}
    only_films = {name: media_type for name, media_type in films.items() if name not in output.media_types}
    wanted = _best(accept, [JSON, *output.media_types.values(), *only_films.values(), EVENTS])
    streamed = wanted == EVENTS
    if streamed:
        accept = JSON
    if layout == "animation" or format in only_films or (format is None and wanted in only_films.values()):
        response_format = _film(accept, output, films, format, layout)
    else:
        response_format = negotiate(accept, output, format, layout, frames)
    if streamed and response_format.envelope == "json-grid":
        raise invalid("layout", "a grid is one picture, and not streamed; ask for separate frames or an animation")
    return replace(response_format, media_type=EVENTS, streamed=True) if streamed else response_format


def _film(
    accept: str, output: OutputKind, films: dict[str, str], format: str | None, layout: str | None
) -> ResponseFormat:
    if not films:
        raise invalid("layout", f"these {output.kind} samples cannot be animated")
    if layout in ("separate", "grid"):
        raise invalid("layout", f"{format or 'what Accept names'} is an animation; its layout is that")
    if format is not None and format not in films:
        raise invalid("format", f"an animation cannot be {format!r}; it can be {', '.join(films)}")
    candidates = films if format is None else {format: films[format]}
    media_type = _best(accept, [JSON, *candidates.values()])
    if media_type is None:
        offered = ", ".join([JSON, *candidates.values()])
        raise ApiError(406, "not_acceptable", f"Accept names nothing that this request can give: {offered}")
    if media_type == JSON:
        return ResponseFormat(format or _DEFAULT_FILM, "json-animation", JSON)
    return ResponseFormat(
        next(name for name, each in candidates.items() if each == media_type), "animation", media_type
    )


def _best(accept: str, offers: list[str]) -> str | None:
    """The offer that `accept` likes best; on a tie the more exactly named, then the one named first."""
    if not accept.strip():
        return offers[0]
    ranges = [_parse_range(part, position) for position, part in enumerate(accept.split(","))]
    rated: list[tuple[float, int, int, int, str]] = []
    for order, offer in enumerate(offers):
        matches = [(rank, each) for each in ranges if (rank := each.specificity(offer)) is not None]
        if matches:
            rank, most_specific = max(matches, key=lambda match: match[0])
            if most_specific.quality > 0:
                rated.append((most_specific.quality, rank, -most_specific.position, -order, offer))
    return max(rated)[-1] if rated else None


def _parse_range(text: str, position: int) -> _Range:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    kind, _, subtype = media_range.partition("/")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0  # not a quality: as if not named
    return _Range(kind, subtype, quality, position)
