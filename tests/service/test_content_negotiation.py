import pytest

from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.points import PointsOutput
from latentd.service.content_negotiation import ResponseFormat, negotiate
from latentd.service.errors import ApiError

IMAGE = ImageOutput(channels=1, height=28, width=28)
POINTS = PointsOutput(dim=2)

PNG_IN_JSON = ResponseFormat("png", "application/json")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PNG_IN_JSON),
        ("*/*", PNG_IN_JSON),
        ("application/json", PNG_IN_JSON),
        ("application/*", PNG_IN_JSON),
        ("text/html, */*;q=0.1", PNG_IN_JSON),
        ("image/png", ResponseFormat("png", "image/png")),
        ("IMAGE/PNG", ResponseFormat("png", "image/png")),
        ("image/*", ResponseFormat("png", "image/png")),
        ("image/png, */*", ResponseFormat("png", "image/png")),
        ("image/webp, image/png", ResponseFormat("webp", "image/webp")),
        ("image/webp;q=inf, image/png;q=nan, application/json;q=0.1", ResponseFormat("webp", "image/webp")),
        ("image/webp;q=0.5, image/png;q=0.9", ResponseFormat("png", "image/png")),
        ("image/avif,image/webp,image/*,*/*;q=0.8", ResponseFormat("webp", "image/webp")),
        ("image/*, image/png;q=0", ResponseFormat("webp", "image/webp")),
        ("application/x-npy", ResponseFormat("npy", "application/x-npy", "rows")),
    ],
)
def test_accept_chooses_the_response_format(accept: str, expected: ResponseFormat) -> None:
    assert negotiate(accept, IMAGE, None, None, 1) == expected


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/png", "webp"),
        ("image/png;q=nonsense", None),
        ("application/x-npy", "png"),
        ("garbage", None),
        (";;,", None),
    ],
)
def test_an_unacceptable_format_is_406(accept: str, format: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        negotiate(accept, IMAGE, format, None, 1)
    assert caught.value.status == 406


def test_format_decides_if_accept_allows_several() -> None:
    assert negotiate("image/*", IMAGE, "webp", None, 1).media_type == "image/webp"
    assert negotiate("*/*", IMAGE, "npy", None, 1) == ResponseFormat("npy", "application/json")
    assert negotiate("", POINTS, None, None, 1) == ResponseFormat("json", "application/json")
    assert negotiate("application/x-npy, application/json;q=0.5", POINTS, None, None, 3).layout == "rows"


def test_layouts() -> None:
    assert negotiate("image/png", IMAGE, None, None, 2).layout == "grid"
    assert negotiate("image/png", IMAGE, None, "grid", 1).layout == "grid"
    assert negotiate("image/png", IMAGE, None, "separate", 1).layout == "separate"
    assert negotiate("", IMAGE, None, "grid", 2) == ResponseFormat("png", "application/json", "grid")


@pytest.mark.parametrize(
    ("accept", "output", "format", "layout", "field"),
    [
        ("image/png", IMAGE, None, "separate", "layout"),
        ("", IMAGE, "gif", None, "format"),
        ("", IMAGE, "json", None, "format"),
        ("", POINTS, "png", None, "format"),
        ("", POINTS, None, "grid", "layout"),
        ("", IMAGE, "npy", "grid", "layout"),
        ("application/x-npy", IMAGE, None, "grid", "layout"),
    ],
)
def test_impossible_answers_name_the_field(
    accept: str, output: ImageOutput | PointsOutput, format: str | None, layout: str | None, field: str
) -> None:
    with pytest.raises(ApiError) as caught:
        negotiate(accept, output, format, layout, 2)
    assert (caught.value.status, caught.value.field) == (400, field)
