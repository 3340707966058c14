"""Where Redis is, and how TLS is spoken with it: as the URL says, or not at all."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kshot.queue.address import read_address
from kshot.queue.link import Link
from kshot.queue.streams import Away

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Signed by itself, for the host ``name``."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@asynccontextmanager
async def a_server(own: tuple[Path, Path], client: Path | None) -> AsyncIterator[int]:
    """The port of one that says PONG to whoever comes in; to holders of the ``client`` certificate alone, if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own)
    if client is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"+PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def pong(url: str) -> bool:
    link = Link(url)
    try:
        return bool(await link.ask("PING") == b"PONG")
    except Away:
        return False
    finally:
        await link.close()


@needs_openssl
async def test_the_name_in_the_certificate_counts_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    other = certificate(tmp_path, "other.example")
    async with a_server(other, None) as port:
        url = f"rediss://localhost:{port}"
        assert not await pong(url)
        assert not await pong(f"{url}?ssl_ca_certs={other[0]}")
        assert await pong(f"{url}?ssl_ca_certs={other[0]}&ssl_check_hostname=false")
        assert await pong(f"{url}?ssl_cert_reqs=none")


@needs_openssl
async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    own, client = certificate(tmp_path, "localhost"), certificate(tmp_path, "client")
    async with a_server(own, client[0]) as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={own[0]}"
        assert not await pong(url)
        assert await pong(f"{url}&ssl_certfile={client[0]}&ssl_keyfile={client[1]}")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://:secret@h?socket_timeout=3", "socket_timeout"),
        ("redis://:secret@h?ssl_certfile=here", "ssl_certfile"),
        ("rediss://:secret@h?ssl_certfile=/not/there", "ssl_certfile"),
        ("rediss://:secret@h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://:secret@h?ssl_of_no_kind=1", "ssl_of_no_kind"),
        ("redis://:not/the-secret@h", "cannot be read"),
        ("http://:secret@h", "cannot be read"),
        ("rediss://:secret@h?protocol=3", "protocol"),
    ],
)
def test_what_would_have_no_effect_is_refused(url: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        read_address(url)
    assert "secret" not in str(refused.value) and "not/" not in str(refused.value)


def test_what_a_url_says() -> None:
    address = read_address("redis://someone:s%3Acret@h:7000/3")
    assert (address.host, address.port, address.db, address.tls) == ("h", 7000, 3, None)
    assert (address.username, address.password) == ("someone", "s:cret")
    assert "s:cret" not in repr(address)
    assert read_address("unix:///run/valkey.sock?db=2").path == "/run/valkey.sock"


async def test_a_connection_that_opens_after_its_end_is_closed() -> None:
    """The wire was given up while it was being opened."""
    met = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        met.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = Link(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    asked = link.ask("PING")
    link.drop()
    with pytest.raises(Away):
        await asked
    await asyncio.wait_for(met.wait(), 10)
    server.close()
    await link.close()
