"""One tree of errors. Each carries the code and the HTTP status a caller sees; the message names the remedy.

A message must never hold a path, SQL, a key, or a caller's payload.
"""

from collections.abc import Sequence
from typing import Any


class KshotError(Exception):
    """An error a caller can act on.

    ``param`` names the request field at fault, in dotted form (``support.labels``), where there is one.
    ``retry_after`` (seconds) is set where waiting helps.
    """

    code = "internal"
    status = 500
    request_id: str | None = None
    """In a client: of the request, by which the service's log has it."""
    remedy: str | None = None
    """In a client: what to do about it, where the message does not say."""
    items: Sequence[Any] = ()
    """In a client: each fault of the request (`ProblemItem`: param, message), where there are several."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class UnreadableBody(KshotError):
    """The body is no JSON, form or safetensors file that can be read."""

    code, status = "unreadable_body", 400


class Unauthenticated(KshotError):
    """No API key was sent, or one that is unknown, revoked or expired."""

    code, status = "unauthenticated", 401


class Forbidden(KshotError):
    """The key is good, but not for this: another role is needed."""

    code, status = "forbidden", 403


class NotFound(KshotError):
    """There is no such object, or it belongs to another tenant."""

    code, status = "not_found", 404


class Conflict(KshotError):
    """The state of things does not allow this now: something needs the object, or the name is taken."""

    code, status = "conflict", 409


class Expired(KshotError):
    """The adapted model is past its time to live."""

    code, status = "expired", 410


class PreconditionFailed(KshotError):
    """What the request was about has changed since the version in its ``If-Match``."""

    code, status = "precondition_failed", 412


class WorseThanIncumbent(KshotError):
    """A promotion was refused: on the same episodes the checkpoint does worse than the one in production.
    ``promotion``: its id."""

    code, status = "worse_than_incumbent", 409
    promotion: str | None = None


class TooLarge(KshotError):
    """The body, or what it decodes to, is larger than is accepted."""

    code, status = "too_large", 413


class UnsupportedMediaType(KshotError):
    """The body has a content type, or a file a format, that is not read here."""

    code, status = "unsupported_media_type", 415


class Invalid(KshotError):
    """The request was understood, but its meaning is off: wrong shape, wrong width, too few classes."""

    code, status = "invalid", 422


class IdempotencyKeyReused(KshotError):
    """The same idempotency key came with another body."""

    code, status = "idempotency_key_reused", 422


class RateLimited(KshotError):
    """The tenant sends more requests a minute than it may; try again after ``Retry-After``."""

    code, status = "rate_limited", 429


class QuotaExceeded(KshotError):
    """The tenant has all that it may have at a time: adapted models, stored bytes, data sets or open jobs."""

    code, status = "quota_exceeded", 429


class QueueFull(KshotError):
    """Too many tasks wait already, of this tenant or of all; try again after ``Retry-After``."""

    code, status = "queue_full", 429


class Unavailable(KshotError):
    """A part the request needs is away for now (database, workers, Redis)."""

    code, status = "unavailable", 503


class DeadlinePassed(KshotError):
    """The answer was not there in time; the call may be repeated."""

    code, status = "deadline_passed", 504


class AdaptationFailed(KshotError):
    """The learner gave no usable model, for example because the inner loop diverged."""

    code, status = "adaptation_failed", 422


class Poison(KshotError):
    """The task ended its worker at every attempt and was given up."""

    code, status = "poison", 500


def error_class(code: str) -> type[KshotError]:
    """The class that carries ``code``; the base class for an unknown one (codes may grow)."""
    found = [cls for cls in KshotError.__subclasses__() if cls.code == code]
    return found[0] if found else KshotError


def rebuild(code: str, message: str, param: str | None = None) -> KshotError:
    """The error a worker reported as plain fields, as an exception again."""
    return error_class(code)(message, param=param)
