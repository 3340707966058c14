"""One exchange with the service: retries with backoff where they help, errors of our tree where they do not."""

import random
from collections.abc import Callable

import httpx

from kshot.client.failures import Unreachable, failure_of
from kshot.client.requests import Request
from kshot.client.steps import Listen, Script, Send, Sleep
from kshot.contracts.errors import KshotError

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 16.0
_LONGEST_RETRY_AFTER_S = 120.0
_NEVER_WILL = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def exchange(request: Request, retries: int, how: Callable[[Request], Send | Listen] = Send) -> Script[httpx.Response]:
    """The answer, whose status is below 400.

    Sent again up to ``retries`` times where the service is not reached, answers 502 or 503, is asked too often (429),
    or says when a conflict will be over, after as long as it says (`Retry-After`), else after 0.25 s, 0.5 s, ... of
    which a random half is left out, so that many callers do not come back at once. Raises KshotError.
    """
    attempt = 0
    while True:
        try:
            response: httpx.Response = yield how(request)
        except httpx.HTTPError as error:
            failure: KshotError = Unreachable.by(error)
            failure.__cause__ = error
            again = isinstance(error, _NEVER_SENT) or (request.repeatable and not isinstance(error, _NEVER_WILL))
        else:
            if response.status_code < 400 or (attempt and _is_gone(request, response)):
                return response
            failure, again = failure_of(response), _may_help(request, response)
        if not again or attempt >= retries or (failure.retry_after or 0) > _LONGEST_RETRY_AFTER_S:
            raise failure
        yield Sleep(_pause(attempt, failure.retry_after))
        if request.found_again and attempt == 0:
            request = request.created_once()
        attempt += 1


def _is_gone(request: Request, response: httpx.Response) -> bool:
    """An attempt to delete whose answer was lost had deleted it."""
    return request.method == "DELETE" and response.status_code == 404


def _may_help(request: Request, response: httpx.Response) -> bool:
    if response.status_code == 429 or (response.status_code == 409 and "Retry-After" in response.headers):
        return True
    return request.repeatable and response.status_code in (502, 503)


def _pause(attempt: int, retry_after: float | None) -> float:
    backoff = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311
    return backoff if retry_after is None else retry_after + random.uniform(0, 0.25)  # noqa: S311
