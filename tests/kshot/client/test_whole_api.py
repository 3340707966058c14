"""The client knows the whole API."""

import ast
from pathlib import Path

import kshot.client
from service.app import create_app
from service.settings import Settings

OTHERWISE = {"/healthz", "/metrics", "/adapt", "/predict"}
"""For probes and scrapers; and the two main calls at the root, which the client makes below /v1."""


def asked_for() -> set[str]:
    """The paths of requests in the client's source, ids as ``*``."""
    found = set()
    for file in Path(kshot.client.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "at":
                parts = [part.value if isinstance(part, ast.Constant) else "*" for part in node.args]
                found.add("/".join(parts))
            elif isinstance(node, ast.Constant) and str(node.value).startswith("/"):
                found.add(str(node.value))
    return found


def fits(path: str, template: str) -> bool:
    pairs = list(zip(path.split("/"), template.split("/"), strict=False))
    return path.count("/") == template.count("/") and all(own in (part, "*") for part, own in pairs)


def test_every_path_of_the_api_is_asked_for() -> None:
    settings = Settings(database_url="postgresql://nowhere/x", redis_url="redis://nowhere")
    paths = set(create_app(settings).openapi()["paths"]) - OTHERWISE
    templates = asked_for()
    missing = {path for path in paths if not any(fits(path, template) for template in templates)}
    assert len(paths) > 20 and not missing
