"""The built site: nothing is fetched from elsewhere, every link leads somewhere, pictures say what they show."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tests.docs.conftest import ROOT
from tests.flow.pages import pages as written_pages

Pages = Mapping[str, BeautifulSoup]
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
