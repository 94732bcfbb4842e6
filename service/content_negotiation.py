"""Content negotiation: from `Accept`, `format` and `layout` to the form of an answer (RFC 9110, section 12.5.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from latentd.models.outputs.base import OutputKind
from latentd.models.suggestions import did_you_mean
from latentd.service.errors import ApiError, invalid

JSON = "application/json"
EVENTS = "text/event-stream"

_DEFAULT_ANIMATION = "gif"
"""The default, because web pages and documents show a GIF wherever they show an image."""

SEPARATE, ANIMATION = "separate", "animation"
"""The layouts that do not belong to an output kind."""


@dataclass(frozen=True)
class ResponseFormat:
    """The encoding of the samples, and how they are sent: in a JSON body, as a stream of events, or as a raw file."""

    format: str
    media_type: str
    layout: str = SEPARATE
    """`separate`: a file for each sample. Else one file of all samples: `animation`, or a layout of the output kind."""
    streamed: bool = False
    """Whether the elements of the JSON body are sent one after another, as server-sent events."""

    @property
    def in_json(self) -> bool:
        """Whether files are values in JSON. If not, the body is one raw file."""
        return self.media_type in (JSON, EVENTS)

    @property
    def animated(self) -> bool:
        """Whether the samples are the frames of an animation."""
        return self.layout == ANIMATION

    @property
    def separate(self) -> bool:
        """Whether each sample has a file of its own."""
        return self.layout == SEPARATE

    @property
    def chosen_layout(self) -> str | None:
        """The `layout` that a request needs for this form; None if it is the default."""
        return None if self.layout in (SEPARATE, "rows") else self.layout


class _MediaRange(NamedTuple):
    kind: str
    subtype: str
    quality: float
    position: int

    def specificity(self, media_type: str) -> int | None:
        """Return 2 for the exact type, 1 for `kind/*`, 0 for `*/*`, None if the range does not match."""
        kind, _, subtype = media_type.partition("/")
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if (self.kind, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.kind, self.subtype) == ("*", "*") else None


def negotiate(
    accept: str, output: OutputKind, format: str | None, layout: str | None, num_samples: int
) -> ResponseFormat:
    """Choose the form of an answer.

    Raises ApiError 400 if `output` does not have `format` or `layout`, and 406 if no range in `accept` matches.
    """
    if format is not None and format not in output.media_types:
        suggested, possible = did_you_mean(format, output.media_types), ", ".join(output.media_types)
        raise invalid("format", f"{output.kind} samples cannot be {format!r}{suggested}; they can be {possible}")
    candidates = output.media_types if format is None else {format: output.media_types[format]}
    raw = {media_type: name for name, media_type in candidates.items() if media_type != JSON}
    media_type = _choose_media_type(accept, [JSON, *raw])
    chosen = raw.get(media_type) or format or output.default_format
    layouts = output.layouts(chosen)
    if layout is None:
        layout = SEPARATE if media_type == JSON else _default_layout(output, chosen, layouts, num_samples)
    elif layout != SEPARATE and layout not in layouts:
        possible = ", ".join((SEPARATE, *layouts))
        raise invalid(
            "layout", f"{output.kind} samples in format {chosen} have no layout {layout}; they have {possible}"
        )
    elif layout == SEPARATE and media_type != JSON:
        layout = _separate_layout(media_type, layouts, num_samples)
    return ResponseFormat(chosen, media_type, layout)


def _default_layout(output: OutputKind, format: str, layouts: Sequence[str], num_samples: int) -> str:
    """Return the layout of a raw file, if the request names none."""
    if layouts[:1] == ("rows",):
        return "rows"  # an array has a row for each sample, even if there is only one
    if num_samples == 1:
        return SEPARATE
    if not layouts:
        raise invalid("num_samples", f"one {format} file cannot hold several {output.kind} samples; accept {JSON}")
    return layouts[0]


def _separate_layout(media_type: str, layouts: Sequence[str], num_samples: int) -> str:
    """Return the layout of a raw file, if the request wants separate samples."""
    if layouts[:1] == ("rows",):
        return "rows"
    if num_samples > 1:
        wanted = f"ask for the layout {' or '.join(layouts)}, or " if layouts else ""
        raise invalid("layout", f"one {media_type} file cannot hold several samples; {wanted}accept {JSON}")
    return SEPARATE


def negotiate_frames(
    accept: str, output: OutputKind, format: str | None, layout: str | None, frames: int
) -> ResponseFormat:
    """Choose the form of an answer whose samples are frames, which can also be an animation or a stream of events.

    Raises ApiError for the same reasons as `negotiate`.
    """
    animations = output.animation_types
    only_animations = {name: media_type for name, media_type in animations.items() if name not in output.media_types}
    wanted = _best_offer(accept, [JSON, *output.media_types.values(), *only_animations.values(), EVENTS])
    streamed = wanted == EVENTS
    if streamed:
        accept = JSON
    if layout == ANIMATION or format in only_animations or (format is None and wanted in only_animations.values()):
        response_format = _negotiate_animation(accept, output, animations, format, layout)
    else:
        response_format = negotiate(accept, output, format, layout, frames)
    if streamed and not (response_format.separate or response_format.animated):
        message = (
            f"a {response_format.layout} is one file and cannot be streamed; ask for separate frames or an animation"
        )
        raise invalid("layout", message)
    return replace(response_format, media_type=EVENTS, streamed=True) if streamed else response_format


def _negotiate_animation(
    accept: str, output: OutputKind, animations: Mapping[str, str], format: str | None, layout: str | None
) -> ResponseFormat:
    if not animations:
        raise invalid("layout", f"these {output.kind} samples cannot be animated")
    if layout not in (None, ANIMATION):
        raise invalid("layout", f"{format or 'what Accept names'} is an animation; its layout is `animation`")
    if format is not None and format not in animations:
        raise invalid("format", f"an animation cannot be {format!r}; it can be {', '.join(animations)}")
    candidates = animations if format is None else {format: animations[format]}
    media_type = _choose_media_type(accept, [JSON, *candidates.values()])
    if media_type == JSON:
        return ResponseFormat(format or _default_animation(animations), JSON, ANIMATION)
    chosen = next(name for name, each in candidates.items() if each == media_type)
    return ResponseFormat(chosen, media_type, ANIMATION)


def _default_animation(animations: Mapping[str, str]) -> str:
    return _DEFAULT_ANIMATION if _DEFAULT_ANIMATION in animations else next(iter(animations))


def _choose_media_type(accept: str, offers: list[str]) -> str:
    """Return the offer that `accept` prefers. Raises ApiError 406 if it accepts none."""
    media_type = _best_offer(accept, offers)
    if media_type is None:
        message = f"Accept names nothing that this request can give: {', '.join(offers)}"
        raise ApiError(406, "not_acceptable", message)
    return media_type


def _best_offer(accept: str, offers: list[str]) -> str | None:
    """Return the offer with the highest quality; None if no range matches.

    Of equal ones, return the one that `accept` names most exactly, then the one that it names first.
    """
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


def _parse_range(text: str, position: int) -> _MediaRange:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    kind, _, subtype = media_range.partition("/")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0  # an invalid quality: the range is ignored
    return _MediaRange(kind, subtype, quality, position)
