"""Security headers: browsers trust an answer's Content-Type, and keep the answer from other sites."""

_API = "default-src 'none'; frame-ancestors 'none'"
_EXPLORER = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_BENTOML_PAGE = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",  # excludes the tag manager that the page loads
        "style-src 'self' 'unsafe-inline'",  # Swagger UI writes style attributes
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def _headers(policy: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", policy.encode()),
    ]


FOR_API = _headers(_API)
_FOR_PAGES = {"/": _headers(_BENTOML_PAGE), "/explore": _headers(_EXPLORER)}


def security_headers(path: str) -> list[tuple[bytes, bytes]]:
    """Return the security headers of an answer at `path`."""
    return _FOR_PAGES.get(path, FOR_API)
