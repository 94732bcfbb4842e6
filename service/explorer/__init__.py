"""The explorer: a page to play with generators, served beside the API that it uses."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from latentd.service.errors import ApiError

_PAGE = Path(__file__).parent / "page"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PARTS = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.suffix in _MEDIA_TYPES}
_BUILD = hashlib.sha256(b"".join(name.encode() + content for name, content in _PARTS.items())).hexdigest()[:12]
_HTML = (_PAGE / "index.html").read_text(encoding="utf-8").replace("{build}", _BUILD)


async def show_page(_: object, request: Request) -> Response:
    """The page itself, asked for anew each time."""
    del request
    return Response(_HTML, media_type="text/html", headers={"Cache-Control": "no-cache"})


async def give_part(_: object, request: Request) -> Response:
    """One of its modules, under a path that names the content of all: whoever has it need not ask again."""
    name = request.path_params["name"]
    if request.path_params["build"] != _BUILD or name not in _PARTS:
        raise ApiError(404, "not_found", "the page has no such part; load /explore again")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_PARTS[name], media_type=_MEDIA_TYPES[Path(name).suffix], headers=headers)
