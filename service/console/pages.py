"""The addresses of the console's pages. Each is a shell: what it shows, its module asks the public API for."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from kshot.contracts.errors import Forbidden, KshotError, Unauthenticated
from service.auth import enter
from service.console.shell import Visitor, render
from service.routes.session import describe
from service.state import State, StateDep

router = APIRouter(include_in_schema=False)
_LOCAL = re.compile(r"/(?![/\\])[!-\[\]-~]*")


@dataclass(frozen=True)
class Page:
    """``module``: the folder below ``/static/`` that holds its ``main.js``. ``section``: its navigation entry."""

    path: str
    module: str
    title: str
    section: str
    admin: bool = False

    @property
    def template(self) -> str:
        """Pages about one object are one shell: their modules fill it."""
        return "one.html" if "{id}" in self.path else f"{self.module}.html"


PAGES = (
    Page("/", "playground", "Playground", "/"),
    Page("/jobs", "jobs", "Jobs", "/jobs", admin=True),
    Page("/jobs/{id}", "job", "Training job", "/jobs", admin=True),
    Page("/checkpoints", "checkpoints", "Checkpoints", "/checkpoints"),
    Page("/checkpoints/{id}", "checkpoint", "Checkpoint", "/checkpoints"),
    Page("/datasets", "datasets", "Data sets", "/datasets", admin=True),
    Page("/datasets/{id}", "dataset", "Data set", "/datasets", admin=True),
    Page("/system", "system", "System", "/system", admin=True),
)


def _endpoint(page: Page) -> Callable[[Request, StateDep], Awaitable[Response]]:
    async def show(request: Request, state: StateDep) -> Response:
        visitor = None
        try:
            visitor = await _visitor(request, state)
            if page.admin and visitor.role != "admin":
                raise Forbidden(f"{page.title} are for administrators; sign in with an admin key to see them")
        except Unauthenticated:
            return RedirectResponse(_sign_in_for(request), 303, {"Cache-Control": "no-store"})
        except KshotError as error:
            return _refused(error, visitor)
        about = request.path_params.get("id")
        return render(
            page.template, visitor=visitor, section=page.section, title=page.title, module=page.module, id=about
        )

    return show


for _page in PAGES:
    router.add_api_route(_page.path, _endpoint(_page), methods=["GET", "HEAD"])


@router.api_route("/sign-in", methods=["GET", "HEAD"])
async def sign_in(request: Request, state: StateDep) -> Response:
    """The form; whoever needs none hears it there."""
    onward = _local(request.query_params.get("next", "/"))
    try:
        visitor = await _visitor(request, state)
    except Unauthenticated:
        visitor = None
    except KshotError as error:
        return _refused(error, None)
    return render("sign-in.html", visitor=visitor, title="Sign in", onward=onward)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request, state: StateDep) -> Response:
    """The API's document, browsable. Public, as the document is: it says no more than this source does."""
    try:
        visitor = await _visitor(request, state)
    except KshotError:
        visitor = None
    return render("docs.html", visitor=visitor, section="/docs", title="API")


async def _visitor(request: Request, state: State) -> Visitor:
    caller, _ = await enter(request, state)
    session = await describe(state, caller)
    return Visitor(session.role, session.key, session.tenant)


def _refused(error: KshotError, visitor: Visitor | None) -> Response:
    title = HTTPStatus(error.status).phrase
    return render("refused.html", visitor=visitor, status=error.status, title=title, message=error.message)


def _sign_in_for(request: Request) -> str:
    """Where to sign in and come back from."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/sign-in" if wanted == "/" else f"/sign-in?next={quote(wanted, safe='/')}"


def _local(path: str) -> str:
    """A path of this server, or else the first page: a link to the sign-in page must lead nowhere else. Browsers read
    a backslash as a slash, two slashes as another host, and leave tabs and line breaks out."""
    return path if _LOCAL.fullmatch(path) else "/"
