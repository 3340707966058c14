"""Real Postgres and Valkey through the embedded supervisor: private, lasting, and never left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from standalone import EmbeddedServers, StandaloneError, embedded_servers, temporary_home

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    with embedded_servers() as running:
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder


def query(url: str, ask: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
    async def connect_and_ask() -> Any:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return await ask(connection)
        finally:
            await connection.close()

    return asyncio.run(connect_and_ask())


def eventually(attempt: Callable[[], Any], *errors: type[Exception], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def processes_below(home: Path) -> list[int]:
    """Every process that works in ``home`` or was started with a path in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                if str(home) in words or str((entry / "cwd").readlink()).startswith(str(home)):
                    found.append(int(entry.name))
    return found


def gone(home: Path) -> None:
    left = processes_below(home)
    assert not left, left


def start_servers(home: Path) -> tuple["subprocess.Popen[str]", dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "standalone", "servers"],
        cwd=CHECKOUT,
        env=os.environ | {"KSHOT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_the_application_role_owns_its_database_and_is_no_superuser(servers: EmbeddedServers) -> None:
    async def work(connection: asyncpg.Connection) -> asyncpg.Record:
        await connection.execute("CREATE TABLE kept (word text)")
        await connection.execute("DROP TABLE kept")
        return await connection.fetchrow(
            "SELECT current_database() AS base, current_setting('is_superuser') AS super, version() AS version"
        )

    row = query(servers.database_url, work)
    assert (row["base"], row["super"]) == ("kshot", "off")


def test_a_wrong_password_is_refused(servers: EmbeddedServers) -> None:
    secret = servers.database_url.partition("kshot:")[2].partition("@")[0]
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(servers.database_url.replace(secret, "wrong"), lambda c: c.fetchval("SELECT 1"))


def test_nothing_listens_on_the_network_and_everything_is_durable(servers: EmbeddedServers) -> None:
    async def settings(connection: asyncpg.Connection) -> dict[str, str]:
        names = ("listen_addresses", "fsync", "full_page_writes", "synchronous_commit", "password_encryption")
        return {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}

    assert query(servers.database_url, settings) == {
        "listen_addresses": "",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "password_encryption": "scram-sha-256",
    }
    with redis.Redis.from_url(servers.redis_url) as valkey:
        config = {name: valkey.config_get(name)[name] for name in ("port", "appendonly", "appendfsync")}
        assert config == {"port": "0", "appendonly": "yes", "appendfsync": "everysec"}
        assert valkey.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_folders_and_secrets_are_private_and_the_servers_are_not_root(servers: EmbeddedServers) -> None:
    below = servers.home / "servers"
    modes = {
        name: (below / name).stat().st_mode & 0o777 for name in ("run", "valkey", "kshot-secret", "postgres-secret")
    }
    assert modes == {"run": 0o700, "valkey": 0o700, "kshot-secret": 0o600, "postgres-secret": 0o600}
    owners = {Path(f"/proc/{servers.pid(name)}").stat().st_uid for name in ("postgres", "valkey")}
    assert 0 not in owners
    assert not Path(f"/proc/{servers.pid('postgres')}/environ").read_bytes().count(b"HOME=")


def test_data_is_found_again_at_the_next_start(home: Path) -> None:
    with embedded_servers(home) as first:
        query(first.database_url, lambda c: c.execute("CREATE TABLE kept AS SELECT 'here' AS word"))
        with redis.Redis.from_url(first.redis_url) as valkey:
            valkey.set("kept", "here")
        urls = (first.database_url, first.redis_url)
    gone(home)
    with embedded_servers(home) as second:
        assert (second.database_url, second.redis_url) == urls
        assert query(second.database_url, lambda c: c.fetchval("SELECT word FROM kept")) == "here"
        with redis.Redis.from_url(second.redis_url) as valkey:
            assert valkey.get("kept") == b"here"


@pytest.mark.reliability("faults: supervisor of the embedded stack", "second starter")
def test_a_second_starter_is_refused_and_told_who_holds_the_folder(servers: EmbeddedServers) -> None:
    refusal = pytest.raises(StandaloneError, match=rf"process {servers.supervisor_pid}\) already uses.*KSHOT_HOME")
    with refusal, embedded_servers(servers.home):
        pass
    assert query(servers.database_url, lambda c: c.fetchval("SELECT 1")) == 1


@pytest.mark.reliability("faults: supervisor of the embedded stack", "no orphans", "next start")
def test_a_killed_supervisor_leaves_no_process_and_the_next_start_recovers(home: Path) -> None:
    process, urls = start_servers(home)
    query(urls["database_url"], lambda c: c.execute("CREATE TABLE kept AS SELECT 1 AS number"))
    with redis.Redis.from_url(urls["redis_url"]) as valkey:
        valkey.set("kept", 1)
    process.kill()
    process.communicate()
    with embedded_servers(home) as again:  # at once: it must wait for the predecessor's Postgres by itself
        assert query(again.database_url, lambda c: c.fetchval("SELECT number FROM kept")) == 1
        with redis.Redis.from_url(again.redis_url) as valkey:
            assert valkey.get("kept") == b"1"
    gone(home)


@pytest.mark.reliability("faults: supervisor of the embedded stack", "no orphans")
def test_a_hung_server_does_not_outlive_a_killed_supervisor(home: Path) -> None:
    process, _ = start_servers(home)
    (valkey,) = (pid for pid in processes_below(home) if b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(valkey, signal.SIGSTOP)
    process.kill()
    process.communicate()
    eventually(lambda: gone(home), AssertionError)


def test_servers_end_with_the_test_that_asked_for_them(home: Path) -> None:
    script = "import sys; from standalone import embedded_servers; from pathlib import Path; from time import sleep\n"
    script += "with embedded_servers(Path(sys.argv[1])): print('up', flush=True); sleep(60)"
    user = subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    assert user.stdout.readline() == "up\n"
    user.kill()
    user.communicate()
    eventually(lambda: gone(home), AssertionError)


def test_killed_servers_come_back_with_their_data(servers: EmbeddedServers) -> None:
    query(servers.database_url, lambda c: c.execute("CREATE TABLE survivor AS SELECT 'here' AS word"))
    with redis.Redis.from_url(servers.redis_url) as valkey:
        valkey.set("survivor", "here")
        before = {name: servers.pid(name) for name in ("postgres", "valkey")}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        errors = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
        word = eventually(
            lambda: query(servers.database_url, lambda c: c.fetchval("SELECT word FROM survivor")), *errors
        )
        assert word == "here"
        assert eventually(lambda: valkey.get("survivor"), redis.ConnectionError) == b"here"
    assert all(servers.pid(name) != pid for name, pid in before.items())


def test_a_server_can_be_taken_down_and_its_data_deleted(servers: EmbeddedServers) -> None:
    with redis.Redis.from_url(servers.redis_url) as valkey:
        valkey.set("doomed", "here")
        servers.stop("valkey")
        with pytest.raises(redis.ConnectionError):
            valkey.ping()
        servers.delete_data("valkey")
        servers.start("valkey")
        assert valkey.get("doomed") is None


def test_data_that_valkey_cannot_load_is_set_aside(servers: EmbeddedServers) -> None:
    servers.stop("valkey")
    for file in (servers.home / "servers" / "valkey" / "appendonlydir").glob("*.base.rdb"):
        file.write_bytes(b"REDIS9999" + b"\xff" * 64)
    servers.start("valkey")
    with redis.Redis.from_url(servers.redis_url) as valkey:
        assert valkey.ping()
    assert list((servers.home / "servers").glob("valkey-unreadable-*"))
