"""The explorer: a page for trying out models, served beside the API that it uses."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from latentd.service.errors import ApiError

_PAGE = Path(__file__).parent / "page"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ASSETS = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.suffix in _MEDIA_TYPES}
_BUILD = hashlib.sha256(b"".join(name.encode() + content for name, content in _ASSETS.items())).hexdigest()[:12]
_HTML = (_PAGE / "index.html").read_text(encoding="utf-8").replace("{build}", _BUILD)

ASSET_TYPES = tuple(_MEDIA_TYPES.values())
"""The media types of the page's assets."""


async def show_page(_: object, request: Request) -> Response:
    """Answer `GET /explore`. Browsers ask again each time, so that they get the assets of this build."""
    del request
    return Response(_HTML, media_type="text/html", headers={"Cache-Control": "no-cache"})


async def show_asset(_: object, request: Request) -> Response:
    """Answer `GET /explore/{build}/{name}`. `build` is a hash of all assets, so browsers may keep them for ever."""
    name = request.path_params["name"]
    if request.path_params["build"] != _BUILD or name not in _ASSETS:
        raise ApiError(404, "not_found", "the page has no such file; load /explore again")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_ASSETS[name], media_type=_MEDIA_TYPES[Path(name).suffix], headers=headers)
