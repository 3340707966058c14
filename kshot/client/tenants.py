"""Tenants, their quotas, and the audit log."""

from datetime import datetime

from kshot.client.endpoint import Calls, endpoint, lists, read
from kshot.client.models import given
from kshot.client.pages import pages
from kshot.client.requests import Request, at, json_body
from kshot.client.steps import Script
from kshot.contracts.access_bodies import AuditEntry, Tenant, Usage


class TenantCalls(Calls):
    """Of both clients."""

    @endpoint
    def usage(self) -> Script[Usage]:
        """What your tenant has, and what it may have."""
        response = yield from self._send(Request("GET", "/v1/usage"))
        return read(Usage, response.content)

    @lists(Tenant, Tenant)
    def tenants(self) -> Script[None]:
        """For administrators: all tenants, newest first, without what they use."""
        yield from pages(self, "/v1/tenants")

    @endpoint
    def tenant(self, tenant: str) -> Script[Tenant]:
        """For administrators: a tenant by name or id, with what it uses. Raises NotFound."""
        response = yield from self._send(Request("GET", at("/v1/tenants", tenant)))
        return read(Tenant, response.content)

    @endpoint
    def set_quotas(
        self,
        tenant: str,
        *,
        adapted_models: int | None = None,
        stored_bytes: int | None = None,
        dataset_bytes: int | None = None,
        open_jobs: int | None = None,
        requests_per_minute: int | None = None,
    ) -> Script[Tenant]:
        """For administrators: what a tenant may have, all of it at once. None: as the service's settings say."""
        quotas = given(
            adapted_models=adapted_models,
            stored_bytes=stored_bytes,
            dataset_bytes=dataset_bytes,
            open_jobs=open_jobs,
            requests_per_minute=requests_per_minute,
        )
        request = Request("PUT", at("/v1/tenants", tenant, "quotas"), body=json_body(quotas))
        response = yield from self._send(request)
        return read(Tenant, response.content)

    @lists(AuditEntry, AuditEntry)
    def audit(
        self,
        *,
        tenant: str | None = None,
        key: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        request_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Script[None]:
        """For administrators: what was changed, by whom, newest first.

        ``tenant``: of the caller, by name; ``subject``: what it was done to; ``since`` and ``until``, with a time zone.
        """
        times = {"since": since, "until": until}
        wanted = {"tenant": tenant, "key": key, "action": action, "subject": subject, "request_id": request_id}
        wanted |= {name: None if at_ is None else at_.isoformat() for name, at_ in times.items()}
        yield from pages(self, "/v1/audit", given(**wanted))
