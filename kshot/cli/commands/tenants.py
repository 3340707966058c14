"""``kshot tenants``, ``kshot usage`` and ``kshot audit``: who has what, and who did what."""

from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from kshot.cli.connection import connect
from kshot.cli.printing import AsJson, facts, show_json, table
from kshot.contracts.access_bodies import Usage

tenants = typer.Typer(no_args_is_help=True, help="Tenants (administrators): list, look at one, set its quotas.")
_Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Name or id of a tenant")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(tenants, name="tenants")
    app.command(epilog="Example: kshot usage")(usage)
    app.command(epilog="Example: kshot audit --tenant sales --action api_key.create")(audit)


def usage(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what your tenant has, and what it may have."""
    found = connect(ctx).usage()
    if as_json:
        show_json(found)
        return
    _print_usage(found)


@tenants.command("list", epilog="Example: kshot tenants list")
def list_all(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List tenants, newest first, with the quotas that were set for them."""
    found = list(connect(ctx).tenants())
    if as_json:
        show_json(found)
        return
    quotas = ({name: of for name, of in one.own_quotas.model_dump().items() if of is not None} for one in found)
    columns = ["name", "id", "created", "own quotas"]
    table(columns, ([one.name, one.id, one.created_at, own] for one, own in zip(found, quotas, strict=True)))


@tenants.command(epilog="Example: kshot tenants show sales")
def show(ctx: typer.Context, tenant: _Tenant, as_json: AsJson = False) -> None:
    """Show what a tenant has, and what it may have."""
    found = connect(ctx).tenant(tenant)
    if as_json or found.usage is None:
        show_json(found)
        return
    _print_usage(found.usage)


@tenants.command(epilog="Example: kshot tenants quotas sales --adapted-models 1000 --requests-per-minute 600")
def quotas(
    ctx: typer.Context,
    tenant: _Tenant,
    adapted_models: Annotated[int | None, typer.Option(min=0, help="Adapted models kept")] = None,
    stored_bytes: Annotated[int | None, typer.Option(min=0, help="Their support sets")] = None,
    dataset_bytes: Annotated[int | None, typer.Option(min=0, help="Files of data sets")] = None,
    open_jobs: Annotated[int | None, typer.Option(min=0, help="Jobs that have not ended")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Over all of its keys")] = None,
    as_json: AsJson = False,
) -> None:
    """Set what a tenant may have, all of it at once: what is left out is as the service's settings say."""
    found = connect(ctx).set_quotas(
        tenant,
        adapted_models=adapted_models,
        stored_bytes=stored_bytes,
        dataset_bytes=dataset_bytes,
        open_jobs=open_jobs,
        requests_per_minute=requests_per_minute,
    )
    if as_json or found.usage is None:
        show_json(found)
        return
    _print_usage(found.usage)


def _read_time(text: str) -> datetime:
    """A ValueError is told as a wrong use of the option."""
    return datetime.fromisoformat(text).astimezone()


def _time(help: str) -> Any:
    return typer.Option(parser=_read_time, metavar="TIME", help=help)


def audit(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only what callers of this tenant did")] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only what was done with this key (key_...)")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as adapted_model.delete")] = None,
    subject: Annotated[str | None, typer.Option(metavar="ID", help="Only what was done to this")] = None,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="Only what this request did")] = None,
    since: Annotated[datetime | None, _time(help="Only from this time on, such as 2026-01-31T12:00Z")] = None,
    until: Annotated[datetime | None, _time(help="Only before this time")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many lines")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show who changed what (administrators), newest first. A time without a zone is this computer's."""
    found = connect(ctx).audit(
        tenant=tenant, key=key, action=action, subject=subject, request_id=request_id, since=since, until=until
    )
    entries = list(islice(found, limit))
    if as_json:
        show_json(entries)
        return
    columns = ["at", "tenant", "key", "action", "subject", "request"]
    table(columns, ([one.at, one.tenant, one.key, one.action, one.subject, one.request_id] for one in entries))


def _print_usage(found: Usage) -> None:
    used, held = found.used.model_dump(), found.quotas.model_dump()
    shown = {name: f"{used[name]} of {'any number' if held[name] is None else held[name]}" for name in used}
    facts({"tenant": found.tenant, **shown, "requests_per_minute": f"at most {held['requests_per_minute']}"})
