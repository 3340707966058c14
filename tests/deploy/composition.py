"""Reading docker-compose.yml as `docker compose` would: merged, with its variables filled in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
FILE = CHECKOUT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


def composition() -> dict[str, Any]:
    """The file with its anchors merged."""
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def filled_in(value: Any, environ: Mapping[str, str]) -> Any:
    """``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` replaced, in strings at any depth.

    Raises:
        KeyError: a variable is required and not set.
    """
    if isinstance(value, dict):
        return {name: filled_in(item, environ) for name, item in value.items()}
    if isinstance(value, list):
        return [filled_in(item, environ) for item in value]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        if environ.get(match["name"]):
            return environ[match["name"]]
        if match["kind"] == "-":
            return match["rest"]
        raise KeyError(f"{match['name']}: {match['rest']}")

    return VARIABLE.sub(substitute, value)
