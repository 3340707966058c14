"""The console's cookie over real HTTP: who gets one, what it is good for, and what a foreign page cannot do with it."""

import hashlib
import re
import sys
from collections.abc import Iterator

import httpx
import pytest

from service.console.pages import PAGES
from tests.flow.conftest import HttpStack, Query
from tests.flow.http_stack import ADMIN_KEY, Api, assert_problem, vector_task

pytestmark = pytest.mark.flow


@pytest.fixture
def stranger(http_stack: HttpStack) -> Iterator[httpx.Client]:
    with http_stack.api.client(None) as client:
        yield client


def own(api: Api) -> dict[str, str]:
    """What a page of the console sends along."""
    return {"X-Kshot-Console": "1", "Origin": api.url}


def sign_in(stack: HttpStack, client: httpx.Client, key: str = ADMIN_KEY, **headers: str) -> httpx.Response:
    return client.post("/session", json={"key": key}, headers={**own(stack.api), **headers})


def test_a_cookie_is_as_good_as_its_key(http_stack: HttpStack, stranger: httpx.Client, query: Query) -> None:
    made = http_stack.key("signing-in")
    answer = sign_in(http_stack, stranger, made["key"])
    assert answer.status_code == 201
    assert answer.json() == {"object": "session", "key": "test", "tenant": "signing-in", "role": "user"}
    (cookie,) = answer.headers.get_list("set-cookie")
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "secure" not in cookie.lower()
    assert made["key"] not in cookie and "Max-Age=43200" in cookie
    assert stranger.get("/session").json() == answer.json()
    model = stranger.post("/adapt", json=vector_task(1), headers=own(http_stack.api)).json()["id"]
    asked = {"model": model, "inputs": [[5, 0, 0, 0]]}
    assert stranger.post("/predict", json=asked, headers=own(http_stack.api)).json()["predictions"][0]["label"]
    assert_problem(stranger.get("/v1/api-keys"), 403, "forbidden")
    with http_stack.api.client(made["key"]) as program:
        assert [item["id"] for item in program.get("/v1/adapted-models").json()["data"]] == [model]
    rows = query("SELECT action FROM audit_log WHERE object_id = $1 AND action LIKE 'session%'", made["id"])
    assert [row["action"] for row in rows] == ["session.create"]


def test_a_key_in_the_header_is_asked_before_the_cookie(http_stack: HttpStack, stranger: httpx.Client) -> None:
    sign_in(http_stack, stranger)
    assert_problem(stranger.get("/v1/limits", headers={"Authorization": "Bearer wrong"}), 401)
    other = http_stack.key("in-the-header")["key"]
    who = stranger.get("/session", headers={"Authorization": f"Bearer {other}"}).json()
    assert who["tenant"] == "in-the-header"


def test_over_https_the_cookie_stays_there(http_stack: HttpStack, stranger: httpx.Client) -> None:
    """The front end stands behind whatever ends TLS; the page's origin tells."""
    behind = {"Origin": f"https://{stranger.base_url.netloc.decode()}"}
    assert "Secure" in sign_in(http_stack, stranger, **behind).headers["set-cookie"]


def test_wrong_keys_are_refused_in_one_wording(http_stack: HttpStack, stranger: httpx.Client) -> None:
    gone = http_stack.key("gone")
    http_stack.client().delete(f"/v1/api-keys/{gone['id']}")
    answers = [sign_in(http_stack, stranger, key) for key in (gone["key"], "ksk_" + "0" * 64, "x", "é")]
    for answer in answers:
        assert_problem(answer, 401, "unauthenticated", "key")
        assert "set-cookie" not in answer.headers
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert_problem(sign_in(http_stack, stranger, ""), 422, "invalid", "key")
    assert_problem(sign_in(http_stack, stranger, "k" * 1000), 422, "invalid", "key")


def test_what_a_foreign_page_can_send_changes_nothing(http_stack: HttpStack, stranger: httpx.Client) -> None:
    sign_in(http_stack, stranger)
    ours = own(http_stack.api)
    forged: list[dict[str, str]] = [
        {},
        {"Origin": ours["Origin"]},
        {"X-Kshot-Console": "1"},
        {**ours, "Origin": "http://evil.example"},
        {**ours, "Origin": "null"},
        {**ours, "Origin": "http://127.0.0.1:1"},
        {**ours, "Sec-Fetch-Site": "same-site"},
        {**ours, "Sec-Fetch-Site": "cross-site"},
    ]
    for headers in forged:
        for verb, path in (
            ("POST", "/adapt"),
            ("POST", "/v1/predict"),
            ("POST", "/v1/api-keys"),
            ("DELETE", "/session"),
        ):
            assert_problem(stranger.request(verb, path, json=vector_task(2), headers=headers), 403, "forbidden")
        refused = httpx.post(f"{http_stack.api.url}/session", json={"key": ADMIN_KEY}, headers=headers)
        assert_problem(refused, 403, "forbidden")
    assert stranger.get("/session").status_code == 200
    browser = {"X-Kshot-Console": "1", "Sec-Fetch-Site": "same-origin"}
    assert stranger.post("/adapt", json=vector_task(2), headers=browser).status_code in (200, 201)


def test_signing_out_ends_the_session_also_for_who_kept_the_cookie(
    http_stack: HttpStack, stranger: httpx.Client
) -> None:
    sign_in(http_stack, stranger)
    kept = dict(stranger.cookies)
    assert stranger.delete("/session", headers=own(http_stack.api)).status_code == 204
    assert not dict(stranger.cookies)
    assert_problem(httpx.get(f"{http_stack.api.url}/v1/limits", cookies=kept), 401)
    assert stranger.delete("/session", headers=own(http_stack.api)).status_code == 204


def test_signing_in_again_ends_the_session_before(http_stack: HttpStack, stranger: httpx.Client) -> None:
    sign_in(http_stack, stranger)
    before = dict(stranger.cookies)
    assert sign_in(http_stack, stranger).status_code == 201
    assert_problem(httpx.get(f"{http_stack.api.url}/session", cookies=before), 401)
    assert stranger.get("/session").status_code == 200


@pytest.mark.reliability("access: revoked or expired key", "session")
def test_a_revoked_key_ends_its_sessions_at_once(http_stack: HttpStack, stranger: httpx.Client) -> None:
    made = http_stack.key("revoking")
    sign_in(http_stack, stranger, made["key"])
    assert stranger.get("/v1/limits").status_code == 200
    http_stack.client().delete(f"/v1/api-keys/{made['id']}")
    assert_problem(stranger.get("/v1/limits"), 401, "unauthenticated")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second loopback address")
def test_attempts_to_sign_in_are_limited_for_each_address(http_stack: HttpStack) -> None:
    transport = httpx.HTTPTransport(local_address="127.0.0.77")
    with httpx.Client(base_url=http_stack.api.url, transport=transport) as guesser:
        answers = (sign_in(http_stack, guesser, "x") for _ in range(1000))
        refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    with http_stack.api.client(None) as other:
        assert sign_in(http_stack, other).status_code == 201


def test_pages_lead_to_the_sign_in_page_and_only_back_to_our_own(http_stack: HttpStack, stranger: httpx.Client) -> None:
    for path, onward in (("/", "/sign-in"), ("/jobs?x=1&y=2", "/sign-in?next=/jobs%3Fx%3D1%26y%3D2")):
        answer = stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, onward)
    assert 'data-onward="/jobs?x=1&amp;y=2"' in stranger.get("/sign-in?next=/jobs%3Fx%3D1%26y%3D2").text
    for foreign in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "evil",
        "javascript:1",
    ):
        page = stranger.get("/sign-in", params={"next": foreign})
        assert page.status_code == 200 and 'data-onward="/"' in page.text


def test_pages_for_administrators_say_so_to_others(http_stack: HttpStack, stranger: httpx.Client) -> None:
    sign_in(http_stack, stranger, http_stack.key("no-admin")["key"])
    for path in ("/jobs", "/jobs/job_1", "/datasets", "/datasets/ds_1", "/system"):
        answer = stranger.get(path)
        assert answer.status_code == 403 and "for administrators" in answer.text
    front = stranger.get("/").text
    assert 'href="/checkpoints"' in front and 'href="/system"' not in front


def test_pages_and_files_say_what_a_browser_may_do_with_them(http_stack: HttpStack, stranger: httpx.Client) -> None:
    sign_in(http_stack, stranger)
    for path in ("/", "/jobs", "/sign-in", "/docs", "/system"):
        page = stranger.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff" and page.headers["cache-control"] == "no-store"
        assert "<script>" not in page.text and "<style" not in page.text and " style=" not in page.text
    address = page.text.split('src="')[1].split('"')[0]
    versioned = stranger.get(address)
    assert (
        "immutable" in versioned.headers["cache-control"] and versioned.headers["x-content-type-options"] == "nosniff"
    )
    plain = stranger.get("/static/shell.js", headers={"If-None-Match": "x"})
    assert plain.headers["cache-control"] == "no-cache" and plain.status_code == 200
    again = stranger.get("/static/shell.js", headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304 and not again.content
    lost = stranger.get("/job", headers={"Accept": "text/html,*/*;q=0.8"})
    assert lost.status_code == 404 and "There is no such page" in lost.text
    assert_problem(stranger.get("/job"), 404, "not_found")
    assert set(stranger.post("/jobs").headers["allow"].split(", ")) == {"GET", "HEAD"}
    for missing in ("/static/../auth.py", "/static/%2e%2e/auth.py", "/static/none.js", "/static//etc/passwd"):
        assert stranger.get(missing).status_code == 404


def test_a_cookie_that_somebody_planted_is_never_taken_over(http_stack: HttpStack, stranger: httpx.Client) -> None:
    """Neither one that he made up, nor that of a session of his own: signing in gives a new one and ends that."""
    with http_stack.api.client(None) as attacker:
        sign_in(http_stack, attacker, http_stack.key("planting")["key"])
        for planted in ("0" * 64, attacker.cookies["kshot_session"]):
            jar = {"kshot_session": planted}
            answer = httpx.post(
                f"{http_stack.api.url}/session", json={"key": ADMIN_KEY}, headers=own(http_stack.api), cookies=jar
            )
            assert answer.status_code == 201 and planted not in answer.headers["set-cookie"]
            assert_problem(httpx.get(f"{http_stack.api.url}/session", cookies=jar), 401, "unauthenticated")


def test_a_session_ends_after_half_a_day_by_the_databases_clock(
    http_stack: HttpStack, stranger: httpx.Client, query: Query
) -> None:
    made = http_stack.key("ending-session")
    sign_in(http_stack, stranger, made["key"])
    (row,) = query("SELECT sha256, expires_at - created_at AS lives FROM sessions WHERE key_id = $1", made["id"])
    assert row["lives"].total_seconds() == 12 * 3600
    assert bytes(row["sha256"]) == hashlib.sha256(stranger.cookies["kshot_session"].encode()).digest()
    query("UPDATE sessions SET expires_at = now() WHERE key_id = $1", made["id"])
    assert_problem(stranger.get("/v1/limits"), 401, "unauthenticated")
    assert stranger.get("/").status_code == 303, "to the sign-in page"
    with http_stack.api.client(None) as other:
        sign_in(http_stack, other)
    assert not query("SELECT FROM sessions WHERE key_id = $1", made["id"]), "what has expired is swept"


def test_no_page_holds_a_script_a_style_or_a_handler_and_none_is_framed(
    http_stack: HttpStack, stranger: httpx.Client
) -> None:
    sign_in(http_stack, stranger)
    for path in [page.path.replace("{id}", "x_1") for page in PAGES] + ["/sign-in", "/docs"]:
        page = stranger.get(path)
        assert page.status_code == 200, path
        rules = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
        assert rules["default-src"] == "'self'" and rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert "unsafe" not in str(rules) and "http" not in str(rules)
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page.text), path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page.text)), path
