"""The allocator is told in a process of its own: there is no way back."""

import subprocess
import sys

import pytest

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
