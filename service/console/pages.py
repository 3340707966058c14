"""The addresses of the console's pages. Each is a shell: what it shows, its module asks the public API for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from kshot.contracts.errors import Forbidden, KshotError
from service.auth import enter
from service.console.shell import Visitor, render
from service.state import StateDep

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Page:
    """``module``: the folder below ``/static/`` that holds its ``main.js``. ``section``: its navigation entry."""

    path: str
    module: str
    title: str
    section: str
    admin: bool = False


PAGES = (
    Page("/", "playground", "Playground", "/"),
    Page("/jobs", "jobs", "Jobs", "/jobs", admin=True),
    Page("/jobs/{id}", "job", "Job", "/jobs", admin=True),
    Page("/checkpoints", "checkpoints", "Checkpoints", "/checkpoints"),
    Page("/checkpoints/{id}", "checkpoint", "Checkpoint", "/checkpoints"),
    Page("/datasets", "datasets", "Data sets", "/datasets", admin=True),
    Page("/datasets/{id}", "dataset", "Data set", "/datasets", admin=True),
    Page("/system", "system", "System", "/system", admin=True),
)


def _endpoint(page: Page) -> Callable[[Request, StateDep], Awaitable[Response]]:
    async def show(request: Request, state: StateDep) -> Response:
        try:
            caller, _ = await enter(request, state)
            if page.admin and caller.role != "admin":
                raise Forbidden(f"“{page.title}” is for administrators; sign in with an admin key to see it")
        except KshotError as error:
            return render("refused.html", visitor=None, status=error.status, title="Refused", message=error.message)
        visitor = Visitor(caller.role)
        about = request.path_params.get("id")
        return render(
            f"{page.module}.html", visitor=visitor, section=page.section, title=page.title, module=page.module, id=about
        )

    return show


for _page in PAGES:
    router.add_api_route(_page.path, _endpoint(_page), methods=["GET", "HEAD"])


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs() -> Response:
    """The API's document, browsable. Public, as the document is: it says no more than this source does."""
    return render("docs.html", visitor=None, title="API")
