"""The explorer: a page to play with generators, served beside the API that it uses."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.errors import ApiError

_PAGE = Path(__file__).parent / "page"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_FOREVER = "public, max-age=31536000, immutable"


def routes() -> list[Route]:
    """The page, and its modules under a path that names their content: whoever has them need not ask again."""
    parts = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.suffix in _MEDIA_TYPES}
    build = hashlib.sha256(b"".join(name.encode() + content for name, content in parts.items())).hexdigest()[:12]
    page = (_PAGE / "index.html").read_text(encoding="utf-8").replace("{build}", build)

    async def show(_: object) -> Response:
        headers = _SAFE | {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
        return Response(page, media_type="text/html", headers=headers)

    async def give(request: Request) -> Response:
        name = request.path_params["name"]
        if request.path_params["build"] != build or name not in parts:
            return ApiError(404, "not_found", "the page has no such part; load /explore again").response()
        headers = _SAFE | {"Cache-Control": _FOREVER}
        return Response(parts[name], media_type=_MEDIA_TYPES[Path(name).suffix], headers=headers)

    return [Route("/explore", show, methods=["GET"]), Route("/explore/{build}/{name}", give, methods=["GET"])]
