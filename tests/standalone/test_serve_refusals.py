"""What ``serve`` refuses before it starts anything, each with its remedy."""

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from standalone import temporary_home
from standalone.self_check import EXAMPLE, curl, summary

CHECKOUT = Path(__file__).parents[2]


def serve(environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    with temporary_home() as home:
        return subprocess.run(
            [sys.executable, "-m", "standalone", "serve"],
            cwd=CHECKOUT,
            env=os.environ | {"KSHOT_HOME": str(home)} | environ,
            capture_output=True,
            text=True,
            timeout=60,
        )


def test_a_port_in_use_names_the_variable_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve({"KSHOT_PORT": str(port)})
    assert ended.returncode == 1
    assert f"port {port} is in use" in ended.stderr and "KSHOT_PORT" in ended.stderr
    assert "postgres" not in ended.stdout  # nothing was started for it


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KSHOT_PORT", "eighty"),
        ("KSHOT_PORT", "70000"),
        ("KSHOT_PORT", "0"),
        ("KSHOT_DEVICE", "tpu"),
        ("KSHOT_WORKERS", "0"),
        ("KSHOT_WORKERS", "many"),
    ],
)
def test_senseless_settings_are_named(name: str, value: str) -> None:
    ended = serve({name: value})
    assert ended.returncode == 1
    assert f"{name}={value}" in ended.stderr and "Traceback" not in ended.stderr


def test_a_database_that_does_not_answer_is_an_error_with_the_end_of_the_log() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ended = serve({"DATABASE_URL": f"postgresql://nobody:x@127.0.0.1:{port}/none", "KSHOT_PORT": str(port)})
    assert ended.returncode == 1
    assert "migrate ended with code 1; the end of" in ended.stderr
    assert "DATABASE_URL is set" in ended.stdout and "postgres" not in ended.stdout
    assert "valkey" in ended.stdout and "valkey" in ended.stdout.splitlines()[-1]  # which is stopped again


@pytest.mark.parametrize("key", [None, "k" * 40])
def test_the_curl_to_paste_is_one_shell_command_with_the_same_request(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KSHOT_ADMIN_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("KSHOT_ADMIN_KEY", key)
    command = curl("http://127.0.0.1:8000")
    words = shlex.split(command)
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8000/adapt"]
    assert json.loads(words[-1]) == EXAMPLE
    assert ("Authorization: Bearer $KSHOT_ADMIN_KEY" in words) == (key is not None)
    assert "k" * 40 not in command  # a key is never shown


def test_the_summary_tells_success_from_failure() -> None:
    prediction = {"label": "arrival", "probabilities": {"arrival": 0.93, "refund": 0.07}}
    body = {"predictions": [prediction], "timings": {"compute_ms": 1.94}}
    assert summary(201, body, 14.2).endswith("-> arrival (0.93) in 14 ms, 1.9 ms of it in the worker")
    assert "asks for a key" in summary(401, {}, 1)
    for status, answer in [(202, {"status": "pending"}), (503, {"code": "unavailable"}), (201, {})]:
        with pytest.raises(ValueError, match=str(status)):
            summary(status, answer, 1)
