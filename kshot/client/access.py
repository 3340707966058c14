"""Keys, limits, recording, and how the service is."""

from typing import Literal

import httpx

from kshot.client.endpoint import Calls, endpoint, lists, read
from kshot.client.failures import Unreachable, failure_of
from kshot.client.models import given
from kshot.client.pages import pages
from kshot.client.requests import Request, at, json_body
from kshot.client.steps import Script, Send
from kshot.contracts.api import ApiKey, Limits
from kshot.contracts.flywheel_bodies import Recording
from kshot.contracts.health_bodies import Readiness
from kshot.contracts.system_bodies import System


class AccessCalls(Calls):
    """Of both clients."""

    @endpoint
    def create_key(
        self,
        name: str,
        *,
        role: Literal["user", "admin"] = "user",
        tenant: str | None = None,
        expires_in_seconds: int | None = None,
    ) -> Script[ApiKey]:
        """For administrators: make an API key. Its secret is in ``key``, this once.

        ``tenant``: by name, made where it is new; yours by default.
        """
        wanted = {"name": name, "role": role, **given(tenant=tenant, expires_in_seconds=expires_in_seconds)}
        # Not repeated where it may have happened: a second answer would come without the secret.
        request = Request("POST", "/v1/api-keys", body=json_body(wanted), repeatable=False)
        response = yield from self._send(request)
        return read(ApiKey, response.content)

    @endpoint
    def rotate_key(self, id: str, *, grace_seconds: int, expires_in_seconds: int | None = None) -> Script[ApiKey]:
        """For administrators: a new key in the place of another, which ends after the grace. The new secret is in
        ``key``, this once. By default the new one lives as long as the old one was given. Raises NotFound, Conflict."""
        wanted = {"grace_seconds": grace_seconds, **given(expires_in_seconds=expires_in_seconds)}
        path = at("/v1/api-keys", id, "rotate")
        response = yield from self._send(Request("POST", path, body=json_body(wanted), repeatable=False))
        return read(ApiKey, response.content)

    @lists(ApiKey, ApiKey)
    def keys(self) -> Script[None]:
        """For administrators: the keys of all tenants, newest first, never with a secret."""
        yield from pages(self, "/v1/api-keys")

    @endpoint
    def revoke_key(self, id: str) -> Script[None]:
        """For administrators: revoke a key, at once; revoking twice is no error. Raises NotFound."""
        yield from self._send(Request("DELETE", at("/v1/api-keys", id)))

    @endpoint
    def limits(self) -> Script[Limits]:
        """What one request may carry, and how many you may send."""
        response = yield from self._send(Request("GET", "/v1/limits"))
        return read(Limits, response.content)

    @endpoint
    def recording(self) -> Script[Recording]:
        """Whether your tenant's tasks are recorded for meta-training, and how long they are kept."""
        response = yield from self._send(Request("GET", "/v1/recording"))
        return read(Recording, response.content)

    @endpoint
    def set_recording(self, enabled: bool, *, retention_days: int | None = None) -> Script[Recording]:
        """Let your tenant's tasks be recorded for meta-training, or no longer."""
        body = json_body({"enabled": enabled, **given(retention_days=retention_days)})
        response = yield from self._send(Request("PUT", "/v1/recording", body=body))
        return read(Recording, response.content)

    @endpoint
    def readiness(self) -> Script[Readiness]:
        """Whether the service can work, and the state of each of its parts; needs no key. Also where it cannot: only a
        service that does not answer at all raises Unreachable."""
        try:
            response: httpx.Response = yield Send(Request("GET", "/readyz"))
        except httpx.HTTPError as error:
            raise Unreachable.by(error) from error
        if response.status_code not in (200, 503):
            raise failure_of(response)
        return read(Readiness, response.content)

    @endpoint
    def system(self) -> Script[System]:
        """For administrators: workers, queue, batches, caches, jobs by status, and what failed in the last day."""
        response = yield from self._send(Request("GET", "/v1/system"))
        return read(System, response.content)
