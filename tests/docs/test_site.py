"""The built site: nothing is fetched from elsewhere, every link leads somewhere, references say what the code says."""

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from kshot.contracts.errors import KshotError
from service.app import create_app
from service.settings import Settings
from tests.docs.conftest import ROOT
from tests.flow.pages import pages as written_pages

Pages = Mapping[str, BeautifulSoup]
NAMED = re.compile(r"\bKSHOT_[A-Z][A-Z_]*[A-Z]\b")
INTERNAL = {"KSHOT_OUTCOME"}  # what one process of ours tells another
HOST = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")


@pytest.fixture(scope="module")
def ids(pages: Pages) -> Mapping[str, set[str]]:
    """The anchors of every page."""
    return {name: {str(tag["id"]) for tag in page.find_all(id=True)} for name, page in pages.items()}


def links(pages: Pages) -> Iterator[tuple[str, str]]:
    """Every link with the page it stands on."""
    for name, page in pages.items():
        for tag in page.find_all("a", href=True):
            yield name, str(tag["href"])


def test_every_written_page_is_on_the_site(pages: Pages):
    for page in written_pages():
        if page != "README.md":
            assert f"{page.removesuffix('.md')}.html" in pages, page


def test_every_internal_link_leads_to_a_page_and_a_place_on_it(site: Path, pages: Pages, ids: Mapping[str, set[str]]):
    lost = []
    for name, href in links(pages):
        target = urlsplit(href)
        if target.scheme or target.netloc:
            continue
        path = normpath(join(dirname(name), unquote(target.path))) if target.path else name
        known = ids.get(path)
        if not (site / path).is_file() or (target.fragment and known and unquote(target.fragment) not in known):
            lost.append(f"{name} -> {href}")
    assert not lost, "\n".join(lost)


def test_external_links_are_well_formed(pages: Pages):
    for name, href in links(pages):
        target = urlsplit(href)
        if target.scheme or target.netloc:
            assert target.scheme in {"http", "https"}, f"{name} -> {href}"
            assert HOST.match(target.hostname or "") and " " not in href, f"{name} -> {href}"
            assert target.scheme == "https" or target.hostname == "127.0.0.1", f"{name} -> {href}"


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: Pages):
    for name, page in pages.items():
        for tag in page.find_all(["script", "link", "img", "iframe", "source", "video"]):
            for attribute in ("src", "href", "srcset"):
                fetched = urlsplit(str(tag.get(attribute) or ""))
                assert not fetched.netloc, f"{name} fetches {fetched.geturl()}"
    for sheet in site.rglob("*.css"):
        for url in re.findall(r"url\(['\"]?([^'\")]+)", sheet.read_text()):
            assert not urlsplit(url).netloc, f"{sheet.name} fetches {url}"


def test_pictures_say_what_they_show(pages: Pages):
    for name, page in pages.items():
        for picture in page.find_all("img"):
            said = str(picture.get("alt") or "")
            assert said and not said.endswith((".png", ".svg")), f"{name}: {picture}"


def test_links_of_written_pages_lead_somewhere_on_a_forge_too():
    """A forge shows the files as they lie: relative links are paths in the repository."""
    texts = [ROOT / page for page in written_pages()] + [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
    for text in texts:
        unfenced = re.sub(r"^```.*?^```$", "", text.read_text(), flags=re.DOTALL | re.MULTILINE)
        for href in re.findall(r"\]\(([^)\s]+)\)", unfenced):
            path = href.split("#")[0]
            if path and "://" not in path:
                assert (text.parent / path).exists(), f"{text.relative_to(ROOT)} -> {href}"


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
            assert (
                f"{verb.upper()} {path.removeprefix('/v1') if path in ('/v1/adapt', '/v1/predict') else path}" in page
            )
    for error in KshotError.__subclasses__():
        if error.__module__ == KshotError.__module__:  # a client's own are not what the API answers
            assert error.code in page, error
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
                assert name.removesuffix("_FILE") in page, (
                    f"{name} of {source.relative_to(ROOT)} is not on the page of settings"
                )


def test_the_sdk_page_has_every_public_name(pages: Pages):
    client = import_module("kshot.client")
    page = words(pages, "sdk")
    for name in client.__all__:
        assert re.search(rf"\b{name}\b", page), name
