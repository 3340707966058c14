"""The console and the API behind deploy/proxy/nginx.conf, over TLS, where there is an nginx."""

import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.composition import CHECKOUT
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import ADMIN_KEY, free_port, vector_task

pytestmark = pytest.mark.flow
CONSOLE = {"X-Kshot-Console": "1", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def proxied(http_stack: HttpStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A browser's side of the proxy, with a certificate that was made for it."""
    nginx, openssl = shutil.which("nginx"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("no nginx (Debian: apt-get install nginx-light): nobody to put in front")
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kshot", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "pem")]
    subprocess.run([*make, *names], check=True, capture_output=True)
    config = write_config(folder, port, http_stack.api.port)
    process = subprocess.Popen([nginx, "-c", str(config), "-e", str(folder / "error.log"), "-g", "daemon off;"])
    trusting = ssl.create_default_context(cafile=str(folder / "pem"))
    try:
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting, timeout=60) as client:
            wait_for(client)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def write_config(folder: Path, port: int, api: int) -> Path:
    """The file that ships, with this machine's ports and paths, in the least of a main configuration."""
    text = (CHECKOUT / "deploy" / "proxy" / "nginx.conf").read_text()
    for found, here in [
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/kshot.example.com.pem", str(folder / "pem")),
        ("/etc/ssl/kshot.example.com.key", str(folder / "key")),
        ("127.0.0.1:8000", f"127.0.0.1:{api}"),
    ]:
        assert found in text
        text = text.replace(found, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(f"pid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n")
    return config


def wait_for(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert client.get("/healthz").status_code == 200
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_one_signs_in_over_tls_and_the_cookie_stays_there(proxied: httpx.Client) -> None:
    origin = str(proxied.base_url).rstrip("/")
    answer = proxied.post("/session", json={"key": ADMIN_KEY}, headers={**CONSOLE, "Origin": origin})
    assert answer.status_code in {200, 201, 204}, answer.text
    assert re.search("; Secure", answer.headers["set-cookie"])
    assert proxied.get("/v1/limits").status_code == 200  # by the cookie
    made = proxied.post("/v1/adapt", json=vector_task(77), headers={**CONSOLE, "Origin": origin})
    assert made.status_code == 201
    forged = {"X-Kshot-Console": "1", "Origin": "https://elsewhere.example"}
    assert proxied.post("/v1/adapt", json=vector_task(78), headers=forged).status_code == 403


def test_events_come_as_they_happen_and_keys_are_asked_for(http_stack: HttpStack, proxied: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with httpx.Client(base_url=proxied.base_url, verify=False, headers=headers, timeout=60) as client:
        data = client.post("/v1/datasets", json={"name": "waves-behind-a-proxy", "source": "sinusoid"}).json()["id"]
        job = client.post("/v1/training-jobs", json={"dataset": data, "name": "proxied", "evaluate": []}).json()["id"]
        streaming = {"Accept": "text/event-stream"}
        with client.stream("GET", f"/v1/training-jobs/{job}/events", headers=streaming) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert next(answer.iter_lines())  # nothing trains, so the stream goes on: nobody waits for its end
        assert client.post(f"/v1/training-jobs/{job}/cancel").status_code in {200, 202}
        client.headers.pop("Authorization")
        assert client.get("/v1/limits").status_code == 401
