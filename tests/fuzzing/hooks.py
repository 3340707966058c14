"""What schemathesis does around each of its requests, in its own process: the keys it asks with stay good, and what
was answered is written down. Told in the environment, by tests/fuzzing/routes.py."""

import json
import os
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.generation import GenerationMode

_SPARED: dict[str, list[str]] = json.loads(os.environ["KSHOT_FUZZ_SPARED"])
_ANSWERS = Path(os.environ["KSHOT_FUZZ_ANSWERS"]).open("a", buffering=1)  # noqa: SIM115 - to the end


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """It finds its own key and tenant in lists, and would revoke the one and starve the other. And a form has no types:
    what was meant as a number or a list, against the schema, arrives as a good text."""
    for name, spared in _SPARED.items():
        if case.method != "GET" and (case.path_parameters or {}).get(name) in spared:
            case.path_parameters[name] = "spared"
    if case.media_type == "multipart/form-data" and case.meta is not None and _holds_more_than_text(case.body):
        case.meta.generation.mode = GenerationMode.POSITIVE


def _holds_more_than_text(body: Any) -> bool:
    if not isinstance(body, dict):
        return False
    values = [one for value in body.values() for one in (value if isinstance(value, list) else [value])]
    return not all(isinstance(value, str | bytes) for value in values)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """One line for each answer."""
    phase = case.meta.phase.name.value if case.meta is not None else ""
    _ANSWERS.write(json.dumps([case.operation.label, phase, response.status_code]) + "\n")
