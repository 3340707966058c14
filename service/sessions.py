"""Requests that a browser signs with the console's cookie, and whether a page of ours made them.

A browser sends its cookies along with whatever another site's page makes it send. So a request that changes something
needs what such a page cannot give: our own origin, which the browser states, and a header of ours.
"""

from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import Response

from kshot.contracts.errors import Forbidden
from kshot.storage.sessions import LIFETIME_S

_COOKIE = "kshot_session"
_HEADER = "X-Kshot-Console"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def session_of(request: Request) -> str | None:
    """The secret of the session that the browser says it has."""
    return request.cookies.get(_COOKIE) or None


def refuse_forged(request: Request) -> None:
    """Raise Forbidden where the request would change something and no page of ours made it."""
    if request.method in _SAFE:
        return
    if request.headers.get(_HEADER) != "1":
        raise Forbidden(f"with the console's cookie send {_HEADER}: 1 too; a program sends an API key instead")
    if not _is_from_own_page(request):
        raise Forbidden("the console's cookie is taken from its own pages only; a program sends an API key instead")


def set_cookie(request: Request, response: Response, secret: str) -> None:
    """Sign the browser in. Over https, which the page's origin tells also behind a proxy, the cookie stays there."""
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(_COOKIE, secret, max_age=LIFETIME_S, path="/", secure=secure, httponly=True, samesite="strict")


def clear_cookie(response: Response) -> None:
    """Sign the browser out."""
    response.delete_cookie(_COOKIE, path="/", httponly=True, samesite="strict")


def _is_from_own_page(request: Request) -> bool:
    """As the browser states it: Sec-Fetch-Site where it trusts the connection, Origin everywhere."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:  # no URL, such as http://[
        return False
