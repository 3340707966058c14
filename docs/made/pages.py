"""Reference pages hold a mark, `<!-- made: NAME -->`; building the site puts what the code says in its place."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from made import api, cli, errors, reliability, settings

MADE: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "api": api.markdown,
        "cli": cli.markdown,
        "errors": errors.markdown,
        "reliability": reliability.markdown,
        "settings": settings.markdown,
    }
)
MARK = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)


def add_to(app: Sphinx) -> None:
    """Fills the marks of every page that is read, and reads those pages again at every build."""
    app.connect("source-read", _fill)
    app.connect("env-get-outdated", _always_outdated)


def filled(text: str) -> str:
    """The page with what its marks stand for."""
    return MARK.sub(lambda mark: MADE[mark[1]](), text)


def _fill(app: Sphinx, name: str, content: list[str]) -> None:
    content[0] = filled(content[0])


def _always_outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    return [name for name in env.found_docs if MARK.search(env.doc2path(name).read_text())]
