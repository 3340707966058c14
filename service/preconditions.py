"""RFC 9110: a change that is only wanted while its object still is as the caller last saw it."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from kshot.contracts.errors import Invalid, PreconditionFailed
from kshot.storage.aliases import Alias

_TAG = re.compile(r'\s*(\*|(?:W/)?"[\x21\x23-\x7e]*")\s*')


@dataclass(frozen=True)
class IfMatch:
    """``tags``: the versions a caller expects, as the ETag header had them, or ``*`` for any; None: it did not say."""

    tags: tuple[str, ...] | None

    def check(self, now: Alias | None) -> None:
        """Raises PreconditionFailed where the alias is not, or no longer, as expected."""
        if self.tags is None or (now is not None and ("*" in self.tags or etag(now)["ETag"] in self.tags)):
            return
        state = "does not exist" if now is None else f"is at version {now.version} now; GET it again"
        raise PreconditionFailed(f"the alias {state}", param="If-Match")


def etag(alias: Alias) -> dict[str, str]:
    """The header that names an alias's version."""
    return {"ETag": f'"{alias.version}"'}


async def get_if_match(
    if_match: Annotated[
        str | None,
        Header(max_length=1000, description="Only if the alias still has this `ETag`: its version in quotes"),
    ] = None,
) -> IfMatch:
    """The request's condition. Raises Invalid where it cannot be read."""
    if if_match is None:
        return IfMatch(None)
    found = [_TAG.fullmatch(part) for part in if_match.split(",")]
    if not all(found):
        raise Invalid('expected the ETag as it was answered, such as "3" with its quotes', param="If-Match")
    return IfMatch(tuple(match.group(1) for match in found if match))


IfMatchDep = Annotated[IfMatch, Depends(get_if_match)]
