"""Errors as one or two lines with the remedy, and the exit code that tells a script what kind it was."""

import re
from enum import IntEnum

from pydantic import ValidationError

from kshot.cli.sources.examples import WrongUse
from kshot.client import Unreachable
from kshot.contracts.errors import KshotError


class Exit(IntEnum):
    """Exit codes of the command line; an interrupt (Ctrl-C) is 130."""

    FAILED = 1
    WRONG_USE = 2
    UNREACHABLE = 3


Failure = KshotError | WrongUse | ValidationError | OSError
"""What ends a command; anything else is a fault of the command line itself."""
_HTTP = re.compile(r"; (?:ask )?(?:GET|POST|PUT|DELETE) /v1/.*$", re.DOTALL)
"""How a message ends that tells callers of the API what to do; users of the command line have a remedy of their own."""
_REMEDIES = {
    "unauthenticated": "set KSHOT_KEY to a key of this service; an administrator makes one: kshot keys create NAME",
    "forbidden": "set KSHOT_KEY to a key with the role admin",
    "too_large": "send less: fewer or smaller files, or --shots K to learn from K of each class",
    "rate_limited": "try again in a while",
    "quota_exceeded": "see what your tenant has and may have: kshot usage",
    "queue_full": "try again in a while",
    "unavailable": "see what is away: kshot status",
    "deadline_passed": "see whether workers are alive: kshot status",
    "wait_timed_out": "it goes on: kshot predict with its id waits for it, kshot jobs show tells of a job",
    "unreachable": "start the service (make serve), or say where it is: --url or KSHOT_URL; kshot status tries it",
}
_OPTIONS = {
    "force: true": "--force",
    "columns.label": "--label-column",
    "columns.inputs": "--text-column",
    "time_budget": "--minutes",
    "base_checkpoint": "--base",
}
_LISTS = {
    "checkpoint": "kshot checkpoints list",
    "data set": "kshot datasets list",
    "alias": "kshot checkpoints list",
    "training job": "kshot jobs list",
    "API key": "kshot keys list",
    "tenant": "kshot tenants list",
}


def exit_code(error: Failure) -> Exit:
    """What a script is told."""
    if isinstance(error, Unreachable):
        return Exit.UNREACHABLE
    return Exit.FAILED if isinstance(error, KshotError | ValidationError) else Exit.WRONG_USE


def lines_of(error: Failure) -> list[str]:
    """What the user is told: what is wrong, then what to do."""
    if isinstance(error, KshotError):
        remedy = _remedy(error)
        message = _in_options(_HTTP.sub("", error.message) if remedy else error.message)
        param = _in_options(error.param or "")
        where = f" ({param})" if error.code == "invalid" and param and param not in message else ""
        return [f"error: {message}{where}"] + ([f"  try: {remedy}"] if remedy else [])
    if isinstance(error, ValidationError):
        return [
            f"error: what answers is no kshot service, or one of another version (its {error.title} is unknown here)",
            "  try: check --url or KSHOT_URL, or install the version of kshot that the service has",
        ]
    if isinstance(error, OSError) and error.filename:
        return [f"error: {error.filename}: {error.strerror}"]
    return [f"error: {error}"]


def _in_options(text: str) -> str:
    """The text with the API's fields as the options that set them."""
    for field, option in _OPTIONS.items():
        text = text.replace(field, option)
    return text


def _remedy(error: KshotError) -> str | None:
    if error.code == "not_found":
        found = [remedy for noun, remedy in _LISTS.items() if noun in error.message]
        if "adapted model" in error.message:
            return "make one: kshot adapt SOURCE; its id begins with am_, and it is yours alone"
        return f"see what there is: {found[0]}" if found else None
    if error.code.startswith("http_"):
        return "see whether this is a kshot service: --url or KSHOT_URL"
    return _REMEDIES.get(error.code)
