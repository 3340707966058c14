"""The reference pages say what the code says: they are made from it, and nothing of it is missing."""

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
from bs4 import BeautifulSoup

from service.app import create_app
from service.settings import Settings
from tests.docs.conftest import ROOT

Pages = Mapping[str, BeautifulSoup]
NAMED = re.compile(r"\bKSHOT_[A-Z][A-Z_]*[A-Z]\b")
INTERNAL = {"KSHOT_OUTCOME"}  # what one process of ours tells another


@pytest.fixture(scope="module")
def made() -> Any:
    """The room that makes the settings page."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield import_module("made.settings")
    finally:
        sys.path.remove(str(ROOT / "docs"))


def words(pages: Pages, name: str) -> str:
    return pages[f"docs/reference/{name}.html"].get_text()


def test_every_call_and_object_of_the_api_is_there(pages: Pages):
    document = create_app(Settings(database_url="postgresql://x", redis_url="redis://x")).openapi()
    page = words(pages, "api")
    for path, verbs in document["paths"].items():
        for verb in verbs:
            assert f"{verb.upper()} {path.removeprefix('/v1') if path in ('/v1/adapt', '/v1/predict') else path}" in page
    for name in document["components"]["schemas"]:
        assert pages["docs/reference/api.html"].find(id=name.lower()), name


def test_every_setting_has_a_meaning(made: Any):
    for title, settings in made.PROCESSES:
        for name, (_, meaning) in made.variables(settings).items():
            assert meaning, f"{name} of {title}: give its field a description"


def test_every_variable_that_the_code_names_is_on_the_page(pages: Pages):
    page = words(pages, "settings")
    for room in ("kshot", "service", "standalone", "workers"):
        for source in (ROOT / room).rglob("*.py"):
            for name in set(NAMED.findall(source.read_text())) - INTERNAL:
                assert name.removesuffix("_FILE") in page, f"{name} of {source.relative_to(ROOT)} is not on the page of settings"


def test_the_sdk_page_has_every_public_name(pages: Pages):
    client = import_module("kshot.client")
    page = words(pages, "sdk")
    for name in client.__all__:
        assert re.search(rf"\b{name}\b", page), name
