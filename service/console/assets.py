"""Style sheets, scripts and pictures below ``/static/``, read once at start: no request names a file on the disk.

A page asks for ``/static/<version>/...``, which a browser may keep for ever; modules import each other by relative
addresses, so they stay within their version. The address without a version works too and is asked again each time.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts.errors import NotFound

_OWN = Path(__file__).with_name("static")
_SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_FOR_EVER = "public, max-age=31536000, immutable"
router = APIRouter(prefix="/static", include_in_schema=False)


@dataclass(frozen=True)
class Asset:
    """One file, as it is sent."""

    data: bytes
    media_type: str
    etag: str


@dataclass(frozen=True)
class Assets:
    """All files by their path below ``/static/``, and a version that changes with any of them."""

    by_path: dict[str, Asset]
    version: str


@cache
def load_assets() -> Assets:
    """Read the console's own files and Swagger UI's, which come with a package of theirs."""
    by_path = {path: _asset(path, data) for path, data in _files()}
    digest = hashlib.sha256("\n".join(f"{path} {asset.etag}" for path, asset in sorted(by_path.items())).encode())
    return Assets(by_path, digest.hexdigest()[:12])


def address(path: str) -> str:
    """Where a page finds a file. KeyError: there is no such file."""
    assets = load_assets()
    _ = assets.by_path[path]
    return f"/static/{assets.version}/{path}"


@router.api_route("/{path:path}", methods=["GET", "HEAD"])
async def get_asset(path: str, request: Request) -> Response:
    """A file; 304 where the browser has it."""
    assets = load_assets()
    version, _, rest = path.partition("/")
    current = version == assets.version
    asset = assets.by_path.get(rest if current else path) or assets.by_path.get(rest)
    if asset is None:
        raise NotFound("no such file")
    headers = {"ETag": asset.etag, "Cache-Control": _FOR_EVER if current else "no-cache"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.data, headers={**headers, "Content-Type": asset.media_type})


def _files() -> Iterator[tuple[str, bytes]]:
    for path in sorted(_OWN.rglob("*")):
        if path.is_file() and path.suffix in _MEDIA_TYPES:
            yield path.relative_to(_OWN).as_posix(), path.read_bytes()
    swagger: Traversable = files("fastapi_swagger") / "resources"
    for name in _SWAGGER:
        yield f"swagger/{name}", (swagger / name).read_bytes()


def _asset(path: str, data: bytes) -> Asset:
    return Asset(data, _MEDIA_TYPES[Path(path).suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')
