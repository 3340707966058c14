"""What went wrong, as one tree: `KshotError`, by the service's codes, with the remedy."""

from typing import TypeVar

import httpx
from pydantic import ValidationError

from kshot.contracts.api import Problem
from kshot.contracts.errors import KshotError, error_class

E = TypeVar("E", bound=KshotError)
_REMEDIES = {
    "unauthenticated": "pass key=, or set KSHOT_KEY, to an API key (ksk_...) of this service",
    "forbidden": "use an admin key, which POST /v1/api-keys makes with role admin",
    "too_large": "send less at a time; client.limits() says how much one request may carry",
    "rate_limited": "wait `retry_after` seconds, or raise `retries`",
    "quota_exceeded": "client.usage() says what your tenant has and may have",
    "queue_full": "wait `retry_after` seconds, or raise `retries`",
    "unavailable": "client.readiness() says which part is away",
}


class Unreachable(KshotError):
    """The service did not answer: nothing listens there, the connection broke, or it took too long."""

    code, status = "unreachable", 503

    @classmethod
    def by(cls, error: httpx.HTTPError) -> "Unreachable":
        """What httpx met with, in a caller's words."""
        try:
            url = str(error.request.url.copy_with(path="/", query=None))
        except RuntimeError:  # it has none where it could not even be built
            url = "the service"
        if isinstance(error, httpx.TimeoutException):
            found = cls(f"{url} did not answer in time")
            remedy = "see whether it is overloaded, or raise `timeout`"
        else:
            found = cls(f"{url} is not reached: {error or type(error).__name__}")
            remedy = "start it (`make serve`), or say where it is: Client(url) or KSHOT_URL"
        return explained(found, remedy=remedy)


class WaitTimedOut(KshotError):
    """What was waited for goes on; only the waiting is over. Wait again, longer."""

    code, status = "wait_timed_out", 504


def failure_of(response: httpx.Response) -> KshotError:
    """The error that a refusal means: of the class that its code says, with everything the service told."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # a proxy's page, not an answer of ours
        error = KshotError(f"the service answered {response.status_code} {response.reason_phrase}")
        error.code, error.status = f"http_{response.status_code}", response.status_code
        return _with_retry_after(error, response)
    error = error_class(problem.code)(problem.detail, param=problem.param)
    error.code, error.status = problem.code, problem.status
    error.request_id, error.items = problem.request_id, tuple(problem.errors)
    location = response.headers.get("Location", "")
    if hasattr(error, "promotion"):
        error.promotion = location.rpartition("/")[2] or None
    return explained(_with_retry_after(error, response))


def explained(error: E, remedy: str | None = None) -> E:
    """The same with its remedy, and with a note for tracebacks: field, remedy, request id."""
    error.remedy = remedy or _REMEDIES.get(error.code)
    told = {"field": error.param, "remedy": error.remedy, "request": error.request_id}
    for name, value in told.items():
        if value:
            error.add_note(f"{name}: {value}")
    return error


def _with_retry_after(error: KshotError, response: httpx.Response) -> KshotError:
    seconds = response.headers.get("Retry-After", "")
    error.retry_after = float(seconds) if seconds.isdecimal() else None  # as a date: nothing of ours sends it
    return error
