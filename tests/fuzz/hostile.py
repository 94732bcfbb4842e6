"""What a hostile client sends: JSON that is almost right, bytes that are not JSON, and headers of all kinds."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

LATENT = [0.5, -0.5]
GOOD: dict[str, list[dict[str, Any]]] = {
    "/generate": [
        {"seed": 1, "num_samples": 2},
        {"seeds": [1, 2], "format": "npy"},
        {"model": "ring-gan", "latents": [LATENT], "format": "json"},
        {"seed": 3, "label": "cat", "truncation": 0.5, "layout": "grid", "format": "png"},
        {"model": "pictures", "seed": 7, "label": {"cat": 0.5, "dog": 0.5}, "directions": {"sleeves": 1.5}},
    ],
    "/interpolate": [
        {"model": "ring-gan", "keyframes": [{"seed": 1}, {"latent": LATENT}], "steps": 4, "loop": True},
        {
            "model": "pictures",
            "keyframes": [{"seed": 1, "label": "cat"}, {"seed": 2, "label": {"dog": 1.0}}],
            "steps": 3,
            "easing": "smooth",
            "layout": "animation",
            "format": "gif",
            "fps": 12,
            "scale": 2,
            "filter": "lanczos",
        },
    ],
    "/mix": [
        {"model": "ring-gan", "sources": [{"seed": 1, "weight": 0.5}, {"latent": LATENT, "weight": -1}]},
        {"model": "pictures", "sources": [{"seed": 1}, {"seed": 2}], "label": "owl", "directions": {"brightness": -3}},
    ],
    "/neighbors": [
        {"model": "ring-gan", "latent": LATENT, "num_samples": 3, "angle": 90, "neighbor_seed": 5},
        {
            "model": "pictures",
            "seed": 1,
            "neighbor_seed": 2,
            "angle": 0.0,
            "label": "dog",
            "layout": "grid",
            "format": "webp",
        },
    ],
}
"""Bodies that are answered 200."""

_MARK = "\uffffMARK"
_TOKENS = st.sampled_from(
    [
        *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "9" * 400, "-" + "9" * 5000, "0." + "3" * 5000),
        *("4294967295", "4294967296", "18446744073709551616", "-1", "-0", "-0.0", "3.5e38", "1.0", "1e0", "01", "+1"),
        *(
            '"\\ud800"',
            '"\\udfff\\ud800"',
            '"\\u0000"',
            '"\\uFFFF"',
            '"\x00"',
            '"ring-gan@"',
            '"ring-gan@0123456789ab"',
        ),
        *('"../../etc/passwd"', '"http://127.0.0.1/"', '"' + "x" * 5000 + '"', '""', "null", "true", "{}", "[]"),
        *("[" * 150 + "]" * 150, "[" * 3000, '{"a":' * 3000, "[" * 100_000, "[[],[[]]]", '{"":1}', "/**/1", "1,"),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
_NOISE = st.binary(min_size=1, max_size=8) | st.sampled_from(
    [b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x00", b",", b'"', b"\\", b"}{", b"\x80\x04\x95"]
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return all containers in a value, with each of their keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


@st.composite
def _almost_right(draw: st.DrawFn, path: str) -> bytes:
    """Draw a good body in which some values are replaced, and some fields are missing, new, or there twice."""
    body = deepcopy(draw(st.sampled_from(GOOD[path])))
    told: list[str] = []
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(body)) or [(body, "seed")]
        container, key = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.sampled_from(["token", "token", "value", "gone", "new", "longer"]))
        if how == "gone" and container:
            del container[key]
        elif how == "new" and isinstance(container, dict):
            container[draw(st.sampled_from(["seed", "latent", "label", "layers", "space", ""]) | st.text())] = draw(
                _VALUES
            )
        elif how == "longer" and isinstance(container, list):
            container *= draw(st.sampled_from([2, 100, 5000]))
            break  # nobody looks for places in that
        elif how == "value":
            container[key] = draw(_VALUES)
        else:
            container[key] = f"{_MARK}{len(told)}."
            told.append(draw(_TOKENS))
    text = json.dumps(body, ensure_ascii=draw(st.booleans()))
    marks = json.dumps(_MARK), json.dumps(_MARK, ensure_ascii=False)
    for number, token in enumerate(told):
        for mark in marks:
            text = text.replace(f'{mark[:-1]}{number}."', token)
    if draw(st.integers(0, 5)) == 0:
        text = '{"seed": 1, "seed": ' + draw(_TOKENS) + ", " + text.lstrip("{")
    return text.encode("utf-8", "surrogatepass")


@st.composite
def _torn(draw: st.DrawFn, path: str) -> bytes:
    """Draw such a body, cut short or with other bytes in it."""
    body = bytearray(draw(_almost_right(path)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        if draw(st.booleans()):
            del body[at:]
        else:
            noise = draw(_NOISE)
            body[at : at + draw(st.integers(0, len(noise)))] = noise
    return bytes(body)


def bodies(path: str) -> st.SearchStrategy[bytes]:
    """Draw a body for one of the endpoints."""
    recoded = st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "utf-7"]).map(
        lambda name: json.dumps(GOOD[path][0]).encode(name)
    )
    return st.one_of(_almost_right(path), _almost_right(path), _torn(path), st.binary(max_size=300), recoded)


_RANGES = st.sampled_from(
    [
        *("*/*", "application/json", "image/png", "image/*", "text/event-stream", "application/x-npy", "video/mp4"),
        *("image/gif", "image/webp;q=0.5", "*/*;q=0", "text/html", "image/apng", "image/png;q=nan", "a/b;q=1e999"),
        *("application/json;q=0.1", ",,,", "/", "*", "image/png;q=-1", "image/png;q=", ";", "image/ png", "*/json"),
    ]
)
_LINE = st.binary(max_size=40).map(lambda value: value.translate(None, b"\r\n\x00"))
"""Values of headers, allowed and not allowed."""
_HEADERS = st.one_of(
    st.tuples(st.just(b"Accept"), st.lists(_RANGES, max_size=5).map(", ".join).map(str.encode) | _LINE),
    st.tuples(
        st.just(b"Content-Type"),
        st.sampled_from(
            [
                *(b"application/json; charset=utf-16", b"text/plain", b"application/vnd.bentoml+pickle", b"*/*"),
                *(b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"", b"APPLICATION/JSON"),
            ]
        )
        | _LINE,
    ),
    st.tuples(
        st.just(b"X-Request-Timeout"),
        st.sampled_from([b"60", b"1e-9", b"0", b"-1", b"nan", b"inf", b"-inf", b"1e999", b"0x10", b"1_0", b"", b"5, 6"])
        | st.floats(0.0001, 30).map(lambda seconds: str(seconds).encode())
        | _LINE,
    ),
    st.tuples(
        st.just(b"X-Request-Id"),
        st.sampled_from([b"mine", b"../..", b"<script>", b"\xff", b"x" * 129, b"\x1b[2J"]) | _LINE,
    ),
    st.tuples(
        st.sampled_from(
            [
                *(
                    b"Authorization",
                    b"Cookie",
                    b"Content-Encoding",
                    b"Expect",
                    b"Upgrade",
                    b"Connection",
                    b"traceparent",
                ),
                *(
                    b"Accept-Encoding",
                    b"Range",
                    b"If-None-Match",
                    b"Origin",
                    b"X-Forwarded-For",
                    b"Bentoml-Name",
                    b"TE",
                ),
            ]
        ),
        st.sampled_from([b"gzip", b"100-continue", b"websocket", b"h2c", b"upgrade", b"bytes=0-1", b"Bearer x", b"*"])
        | _LINE,
    ),
    st.tuples(_LINE, _LINE),
)
headers = st.just([]) | st.lists(_HEADERS, max_size=4)
"""Names and values of headers, some of them twice."""
