"""Flame graphs of API and worker under load: `python -m benchmarks.serving.profiles --spy py-spy --label after`.

py-spy must be allowed to look at other processes (root, or kernel.yama.ptrace_scope = 0). Raw stacks become an SVG and
a list of our own functions with their shares, in --out.
"""

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.own_service import own_service
from benchmarks.report import about
from benchmarks.serving.flames import flame_svg, own_shares, package_shares, read_stacks
from benchmarks.serving.load import requests_of
from benchmarks.serving.measuring import Load, closed_loop
from benchmarks.serving.processes import server_processes
from benchmarks.serving.profile_page import write_page

_LOADS = {"vectors-adapt": 64, "predict": 64}
_ROLES = ("API", "worker")
_RATE = 200  # samples a second


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.profiles", description=__doc__)
    parser.add_argument("--spy", default="py-spy", help="the py-spy command")
    parser.add_argument("--label", required=True, help="first part of the files' names")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/profiles"))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(32)
    shares: dict[str, object] = {"about": about()}
    with own_service(KSHOT_ADMIN_KEY=key) as url:
        for workload, callers in _LOADS.items():
            for role in _ROLES:
                stacks, load = profile(given.spy, url, key, workload, callers, role, given.seconds)
                name = f"{given.label}-{workload}-{role.lower()}"
                (given.out / f"{name}.svg").write_text(flame_svg(name, stacks))
                both = {"functions": own_shares(stacks), "packages": package_shares(stacks)}
                shares[name] = {"load": load.line(), **both}
                print(name, load.line(), *(f"\n  {share:6.1%} {where}" for where, share in own_shares(stacks)))
    (given.out / f"{given.label}.json").write_text(json.dumps(shares, indent=1) + "\n")
    write_page(given.out)
    return 0


def profile(
    spy: str, url: str, key: str, workload: str, callers: int, role: str, seconds: int
) -> tuple[dict[tuple[str, ...], int], Load]:
    """The stacks of one process of a role while the load is on, and what the load saw meanwhile."""
    (pid, *_) = (pid for pid, name in server_processes(url).items() if name == role)
    with tempfile.NamedTemporaryFile(suffix=".txt") as raw:
        command = [spy, "record", "--pid", str(pid), "--format", "raw", "--function", "--output", raw.name]
        command += ["--duration", str(seconds), "--rate", str(_RATE), "--nonblocking"]
        requests = uvloop.run(requests_of(workload, url, key, secrets.randbelow(2**23)))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as spying:
            load = uvloop.run(closed_loop(url, requests, callers, seconds))
            spying.wait(timeout=30)
        return read_stacks(Path(raw.name).read_text()), load


if __name__ == "__main__":
    sys.exit(main())
