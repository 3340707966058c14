"""The allocator is told in a process of its own: there is no way back."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kshot.allocator import keep_freed_memory

SCRIPT = """
import resource, torch
from kshot.allocator import keep_freed_memory
assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
assert faults() < 1024, "four megabytes are mapped anew each time"
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_older_glibc_gets_the_most_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which refuses a threshold above 32 MB."""
    settings: dict[int, int] = {}

    def mallopt(name: int, value: int) -> int:
        if name == -3 and value > 1 << 25:
            return 0
        settings[name] = value
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory()
    assert settings == {-1: (1 << 31) - 1, -3: 1 << 25}
