"""One run of tests in a forked process, which has what is heavy imported already and nothing of ours."""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_HEAVY = (
    "torch",
    "numpy",
    "sqlalchemy.ext.asyncio",
    "asyncpg",
    "fastapi",
    "pydantic_settings",
    "PIL.Image",
    "redis.asyncio",
)
_PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout")
"""Others of those that are installed would be imported in each run, and do nothing."""
_TIMED_OUT = -1


def import_heavy() -> None:
    """Once, before the first run."""
    for name in (*_HEAVY, *_PLUGINS):
        __import__(name)


def noticed(copy: Path, tests: Sequence[str], environ: Mapping[str, str], limit_s: float, log: Path) -> str | None:
    """How the tests noticed that something is wrong: ``failed``, or ``hung`` past the limit; None where they passed."""
    child = os.fork()
    if child == 0:
        _test(copy, tests, environ, log)
    code = _wait(child, limit_s)
    return None if code == 0 else "hung" if code == _TIMED_OUT else "failed"


def _wait(child: int, limit_s: float) -> int:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            _end_group(child)
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
        time.sleep(0.01)
    _end_group(child)
    os.waitpid(child, 0)
    return _TIMED_OUT


def _end_group(child: int) -> None:
    """The tests' own processes, too."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _test(copy: Path, tests: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        os.environ.update(environ, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        plugins = ["no:cacheprovider", "tests.given_servers", *_PLUGINS]
        code = int(pytest.main(["-x", "-q", *(f"-p{name}" for name in plugins), *tests]))
    finally:
        os._exit(code)
