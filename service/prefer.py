"""RFC 7240: how long a caller is willing to wait before a 202."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

MAX_WAIT_S = 60
DEFAULT_WAIT_S = 10
PREFER = "`wait=N` (0-60 s, default 10) before a 202; `respond-async` for a 202 at once"
_WAIT = re.compile(r"^wait\s*=\s*\"?(\d{1,9})\"?$", re.IGNORECASE)


@dataclass(frozen=True)
class Preference:
    """``wait_s``: how long to wait for a result; ``applied``: what Preference-Applied says, None where none was.
    ``deadline_s``: the same of an answer that cannot come later, where the caller said so."""

    wait_s: float = DEFAULT_WAIT_S
    applied: str | None = None
    deadline_s: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The echo of what was honoured."""
        return {} if self.applied is None else {"Preference-Applied": self.applied}


_NONE = Preference()


def parse_prefer(header: str | None) -> Preference:
    """``wait=N`` (capped at 60) and ``respond-async``; preferences we do not know are ignored, as the RFC says."""
    if not header:
        return _NONE
    tokens = [token.strip() for token in header.split(",")]
    wait = next((int(match.group(1)) for match in map(_WAIT.match, tokens) if match), None)
    respond_async = any(token.lower() == "respond-async" for token in tokens)
    applied = ["respond-async"] if respond_async else []
    if wait is not None:
        wait = min(wait, MAX_WAIT_S)
        applied.append(f"wait={wait}")
    if not applied:
        return Preference()
    return Preference(0 if wait is None else wait, ", ".join(applied), wait or None)


async def get_preference(
    prefer: Annotated[str | None, Header(description=PREFER)] = None,
) -> Preference:
    """The request's preference."""
    return parse_prefer(prefer)


PreferenceDep = Annotated[Preference, Depends(get_preference)]
