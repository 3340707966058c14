"""SECURITY.md names tests, files, commands and routes: they are there."""

import re

from service.app import create_app
from service.settings import Settings
from supply import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"`([^`]+)`", PAGE)


def test_every_file_it_names_is_there():
    named = [name for name in NAMED if re.match(r"(tests|supply|kshot|service|workers)/", name)]
    named += re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(named) > 10
    for name in [*named, "constraints.txt", "CHANGELOG.md"]:
        assert (ROOT / name).exists(), name


def test_every_command_it_names_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {word for line in targets for word in line.split()}
    assert {name.removeprefix("make ") for name in NAMED if name.startswith("make ")} <= known


def test_every_route_it_names_is_served():
    paths = create_app(Settings(database_url="postgresql://x", redis_url="redis://x")).openapi()["paths"]
    routes = [name.split() for name in NAMED if re.match(r"(GET|PUT|POST|DELETE) /", name)]
    assert routes
    for method, path in routes:
        assert method.lower() in paths[path], path
