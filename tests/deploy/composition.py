"""Reading docker-compose.yml as `docker compose` would: merged, with its variables filled in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
FILE = CHECKOUT / "docker-compose.yml"
S3_FILE = CHECKOUT / "deploy" / "compose.s3.yml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


def composition(file: Path = FILE) -> dict[str, Any]:
    """The file with its anchors merged."""
    loaded: dict[str, Any] = yaml.safe_load(file.read_text())
    return loaded


def laid_over(below: Any, above: Any) -> Any:
    """``docker compose -f BELOW -f ABOVE``, as far as our files need it: maps are merged, lists joined."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: laid_over(below.get(key), value) for key, value in above.items()}
    if isinstance(below, list) and isinstance(above, list):
        return below + [item for item in above if item not in below]
    return above


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
