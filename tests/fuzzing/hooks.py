"""What schemathesis does around each of its requests, in its own process: the keys it asks with stay good, and what
was answered is written down. Told in the environment, by tests/fuzzing/routes.py."""

import json
import os
from pathlib import Path
from typing import Any

import schemathesis

_SPARED: dict[str, list[str]] = json.loads(os.environ["KSHOT_FUZZ_SPARED"])
_ANSWERS = Path(os.environ["KSHOT_FUZZ_ANSWERS"]).open("a", buffering=1)  # noqa: SIM115 - to the end


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """It finds its own key and tenant in lists, and would revoke the one and starve the other."""
    for name, spared in _SPARED.items():
        if case.method != "GET" and (case.path_parameters or {}).get(name) in spared:
            case.path_parameters[name] = "spared"


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """One line for each answer."""
    phase = case.meta.phase.name.value if case.meta is not None else ""
    _ANSWERS.write(json.dumps([case.operation.label, phase, response.status_code]) + "\n")
