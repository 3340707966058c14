"""Lists, page by page."""

from collections.abc import Mapping

import orjson

from kshot.client.endpoint import Calls
from kshot.client.requests import Param, Request
from kshot.client.steps import Emit, Script

_PAGE = 100


def pages(calls: Calls, path: str, params: Mapping[str, Param] | None = None) -> Script[None]:
    """Emit the JSON of each page of a list, asked for when its turn comes."""
    asked: dict[str, Param] = {"limit": _PAGE, **(params or {})}
    while True:
        response = yield from calls._send(Request("GET", path, params=asked))
        yield Emit(response.content)
        page = orjson.loads(response.content)
        if not page["has_more"]:
            return
        asked["after"] = page["last_id"]
