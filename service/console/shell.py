"""What every page shares: templates, navigation, and the headers that say what a page may load."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from kshot import __version__
from kshot.contracts.methods import METHODS
from kshot.planning.encoder_options import ENCODER_OPTIONS
from service.console.assets import address

_POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Section:
    """An entry of the navigation."""

    path: str
    name: str
    admin: bool


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page. ``key`` and ``tenant`` are names, None on a keyless server, where nobody signs in."""

    role: Literal["user", "admin"]
    key: str | None = None
    tenant: str | None = None


SECTIONS = (
    Section("/", "Playground", admin=False),
    Section("/jobs", "Jobs", admin=True),
    Section("/checkpoints", "Checkpoints", admin=False),
    Section("/datasets", "Data sets", admin=True),
    Section("/system", "System", admin=True),
)
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(
    static=address,
    sections=SECTIONS,
    version=__version__,
    learners=[name for name in METHODS if name != "finetune"],  # which is not meta-trained
    encoders=[name for name in ENCODER_OPTIONS if name != "pretrained"],  # which needs options
)


def render(
    template: str,
    *,
    visitor: Visitor | None,
    section: str | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """A page. ``visitor`` None: nobody is signed in, so there is no navigation. ``section``: the path of its entry."""
    html = _templates.get_template(template).render(visitor=visitor, section=section, **values)
    return Response(html, status, headers={**_HEADERS, **(headers or {})}, media_type="text/html")
