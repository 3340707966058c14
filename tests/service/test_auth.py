"""Who is let in, on real Postgres and Valkey: by key, by the console's cookie, and on a server without keys."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI, Request
from redis.asyncio import Redis
from sqlalchemy import text

from kshot.contracts.errors import Forbidden, Unauthenticated
from kshot.contracts.ids import new_id
from kshot.storage.access import Role, ensure_tenant, generate_secret, insert_key, revoke_key
from kshot.storage.quotas import Quotas, set_quotas
from kshot.storage.sessions import create_session
from service import auth
from service.app import create_app
from service.auth import enter, expected_tenant, get_admin, recheck_admin
from service.logs import begin_request
from service.settings import Settings
from service.state import State
from standalone import EmbeddedServers

OURS = {"X-Kshot-Console": "1", "Origin": "http://127.0.0.1"}


@pytest.fixture
async def app(servers: EmbeddedServers) -> AsyncIterator[FastAPI]:
    """A process that has just started, where no key was ever made."""
    made = create_app(Settings(database_url=servers.database_url, redis_url=servers.redis_url))
    async with made.router.lifespan_context(made):
        async with state_of(made).database.transaction() as connection:
            await connection.execute(text("TRUNCATE api_keys, sessions"))
        async with Redis.from_url(servers.redis_url) as redis:
            await redis.flushall()
        yield made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as made:
        yield made


def state_of(app: FastAPI) -> State:
    state: State = app.state.kshot
    return state


class Key(NamedTuple):
    """A key of a tenant of its own."""

    id: str
    tenant: str
    secret: str
    header: dict[str, str]


async def a_key(app: FastAPI, role: Role = "user", **options: Any) -> Key:
    secret = generate_secret()
    async with state_of(app).database.transaction() as connection:
        tenant = await ensure_tenant(connection, new_id("ten").lower().replace("_", "-"))
        key = await insert_key(connection, secret=secret, tenant=tenant, name="test", role=role, **options)
    return Key(key.id, tenant, secret, {"Authorization": f"Bearer {secret}"})


async def a_session(app: FastAPI, key: Key) -> dict[str, str]:
    """The cookie of a browser that signed in with the key."""
    async with state_of(app).database.transaction() as connection:
        return {"kshot_session": await create_session(connection, key.id)}


async def end(app: FastAPI, key: Key) -> None:
    async with state_of(app).database.transaction() as connection:
        await revoke_key(connection, key.id)


def request_of(headers: dict[str, str]) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "query_string": b""})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_without_any_key_this_machine_is_admin_and_no_other(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
):
    assert (await client.get("/v1/api-keys", headers=headers)).status_code == status


async def test_the_first_key_ends_that_for_good(app: FastAPI, client: httpx.AsyncClient):
    assert expected_tenant(request_of({}), state_of(app)) is not None
    key = await a_key(app, "admin")
    assert (await client.get("/v1/limits")).status_code == 401
    assert (await client.get("/v1/api-keys", headers=key.header)).status_code == 200
    await end(app, key)
    assert (await client.get("/v1/limits")).status_code == 401
    assert expected_tenant(request_of({}), state_of(app)) is None


async def test_what_is_no_key(app: FastAPI, client: httpx.AsyncClient):
    key = await a_key(app)
    other = key.secret[:-1] + ("0" if key.secret[-1] != "0" else "1")
    for header in (
        "",
        "Bearer",
        "Bearer ",
        f"Basic {key.secret}",
        f"Bearer {other}",
        key.secret,
        "Bearer " + "k" * 501,
    ):
        answer = await client.get("/v1/limits", headers={"Authorization": header})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), header
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await client.get("/v1/limits", headers={"Authorization": f"{scheme} {key.secret}"})
        assert answer.status_code == 200


async def test_who_enters_is_who_the_key_belongs_to(app: FastAPI):
    key = await a_key(app, "admin")
    request = request_of(key.header)
    begin_request(request.scope, "one")
    caller, _ = await enter(request, state_of(app))
    assert request.scope["kshot.about"] == {"request_id": "one", "tenant": key.tenant, "key": key.id}, (
        "in its log lines"
    )
    assert (caller.tenant, caller.role, caller.key) == (key.tenant, "admin", key.id)
    assert await get_admin(caller) is caller
    assert caller.quotas.requests_per_minute == state_of(app).settings.rate_per_minute


async def test_keys_end_at_once_and_are_forgotten(app: FastAPI, client: httpx.AsyncClient):
    key, gone = await a_key(app), await a_key(app, expires_in_s=-1)
    state = state_of(app)
    assert (await client.get("/v1/limits", headers=gone.header)).status_code == 401
    assert (await client.get("/v1/limits", headers=key.header)).status_code == 200
    assert expected_tenant(request_of(key.header), state) == key.tenant
    await end(app, key)
    assert (await client.get("/v1/limits", headers=key.header)).status_code == 401
    assert expected_tenant(request_of(key.header), state) is None


async def test_an_answer_that_goes_on_ends_with_its_key(app: FastAPI):
    user, admin = await a_key(app), await a_key(app, "admin")
    await recheck_admin(request_of(admin.header), state_of(app))
    with pytest.raises(Forbidden):
        await recheck_admin(request_of(user.header), state_of(app))
    await end(app, admin)
    with pytest.raises(Unauthenticated):
        await recheck_admin(request_of(admin.header), state_of(app))


async def quota(app: FastAPI, tenant: str, per_minute: int | None) -> None:
    async with state_of(app).database.transaction() as connection:
        await set_quotas(connection, tenant, Quotas(requests_per_minute=per_minute))


async def test_a_tenants_requests_are_counted_whichever_key_and_no_others(app: FastAPI, client: httpx.AsyncClient):
    key, other = await a_key(app), await a_key(app)
    await quota(app, key.tenant, 3)
    statuses = [(await client.get("/v1/limits", headers=key.header)).status_code for _ in range(5)]
    assert statuses == [200] * 3 + [429] * 2
    assert (await client.get("/v1/limits", headers=other.header)).status_code == 200
    session = await a_session(app, key)
    client.cookies.update(session)
    assert (await client.get("/v1/limits")).status_code == 429
    client.cookies.clear()
    await quota(app, key.tenant, 30)  # holds at once
    assert (await client.get("/v1/limits", headers=key.header)).status_code == 200
    await quota(app, key.tenant, None)
    assert (await client.get("/v1/limits", headers=key.header)).status_code == 200
    assert state_of(app).own_rates == {}


async def test_each_request_is_counted_once(app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    key, rates, counted = await a_key(app), state_of(app).rates, list[Any]()
    state_of(app).keys_exist = True  # as after a first request, which counts for the default tenant, too
    hit = rates.hit
    monkeypatch.setattr(rates, "hit", lambda *of: counted.append(of) or hit(*of))
    for _ in range(2):  # the second time it is known whose it is
        assert (await client.get("/v1/limits", headers=key.header)).status_code == 200
    assert counted == [(key.tenant, None)] * 2
    await quota(app, key.tenant, 30)
    counted.clear()
    for _ in range(2):
        assert (await client.get("/v1/limits", headers=key.header)).status_code == 200
    assert counted == [(key.tenant, None), (key.tenant, 30), (key.tenant, 30)], "the first by what held before"


async def test_what_is_remembered_of_callers_is_bounded(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(auth, "_CALLERS_KEPT", 2)
    state, keys = state_of(app), [await a_key(app) for _ in range(3)]
    for known, key in enumerate(keys[:2], start=1):
        await quota(app, key.tenant, 30)
        await client.get("/v1/limits", headers=key.header)
        assert (len(state.tenants), len(state.own_rates)) == (known, known)
    await quota(app, keys[2].tenant, 30)
    state.aliases[keys[0].tenant] = "plain", "production"
    await client.get("/v1/limits", headers=keys[2].header)
    assert state.aliases == {}
    assert list(state.tenants.values()) == list(state.own_rates) == [keys[2].tenant]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OURS, 404),
        ({"X-Kshot-Console": "1", "Sec-Fetch-Site": "same-origin"}, 404),
        ({"X-Kshot-Console": "1", "Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, 404),
        ({}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"X-Kshot-Console": "0", "Origin": "http://127.0.0.1"}, 403),
        ({"X-Kshot-Console": "1"}, 403),
        ({"X-Kshot-Console": "1", "Origin": "http://evil.example"}, 403),
        ({"X-Kshot-Console": "1", "Origin": "http://["}, 403),
        ({"X-Kshot-Console": "1", "Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"}, 403),
        ({"X-Kshot-Console": "1", "Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"}, 403),
    ],
)
async def test_a_change_by_cookie_comes_from_our_own_pages(
    app: FastAPI, client: httpx.AsyncClient, headers: dict[str, str], status: int
):
    """404: it was let in, and finds no such model."""
    client.cookies.update(await a_session(app, await a_key(app)))
    for method in ("GET", "HEAD", "OPTIONS"):
        assert (await client.request(method, "/v1/limits")).status_code != 403
    assert (await client.delete(f"/v1/adapted-models/{new_id('am')}", headers=headers)).status_code == status


async def test_a_key_needs_no_page_and_is_asked_before_the_cookie(app: FastAPI, client: httpx.AsyncClient):
    key, admin = await a_key(app), await a_key(app, "admin")
    client.cookies.update(await a_session(app, key))
    assert (await client.get("/v1/api-keys")).status_code == 403
    assert (await client.get("/v1/api-keys", headers=admin.header)).status_code == 200
    assert (await client.delete(f"/v1/adapted-models/{new_id('am')}", headers=key.header)).status_code == 404
    assert (await client.get("/v1/limits", headers={"Authorization": "Bearer wrong"})).status_code == 401


async def test_a_cookie_is_no_key_and_a_key_no_cookie(app: FastAPI, client: httpx.AsyncClient):
    key = await a_key(app)
    session = await a_session(app, key)
    bearer = {"Authorization": f"Bearer {session['kshot_session']}"}
    assert (await client.get("/v1/limits", headers=bearer)).status_code == 401
    client.cookies.update({"kshot_session": key.secret})
    assert (await client.get("/v1/limits")).status_code == 401


async def test_a_session_ends_with_its_key_and_by_signing_out(app: FastAPI, client: httpx.AsyncClient):
    key = await a_key(app)
    signed_in = await client.post("/session", json={"key": key.secret}, headers=OURS)
    (cookie,) = signed_in.headers.get_list("set-cookie")
    said = {part.strip().partition("=")[0].lower() for part in cookie.split(";")[1:]}
    assert said == {"httponly", "samesite", "path", "max-age"} and "samesite=strict" in cookie.lower()
    assert "Path=/" in cookie and "Max-Age=43200" in cookie
    assert (await client.get("/v1/limits")).status_code == 200
    signed_out = await client.delete("/session", headers=OURS)
    (cookie,) = signed_out.headers.get_list("set-cookie")
    assert "Max-Age=0" in cookie and "Path=/" in cookie
    assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()
    assert (await client.get("/v1/limits")).status_code == 401
    client.cookies.update(await a_session(app, key))
    assert (await client.get("/v1/limits")).status_code == 200
    await end(app, key)
    assert (await client.get("/v1/limits")).status_code == 401


@pytest.mark.parametrize(
    ("base", "origin", "secure"),
    [
        ("https://127.0.0.1", "https://127.0.0.1", True),
        ("http://127.0.0.1", "https://127.0.0.1", True),
        ("http://127.0.0.1", "http://127.0.0.1", False),
    ],
)
async def test_over_https_the_cookie_stays_there(app: FastAPI, base: str, origin: str, secure: bool):
    key = await a_key(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
        answer = await client.post("/session", json={"key": key.secret}, headers={**OURS, "Origin": origin})
    assert ("secure" in answer.headers["set-cookie"].lower()) == secure
