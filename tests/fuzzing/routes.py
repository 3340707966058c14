"""Every route of the OpenAPI document, asked by schemathesis as an administrator and as a user."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.own_service import service_on
from benchmarks.serving.processes import resident_bytes, server_processes
from tests.fuzzing.page import record
from tests.kshot.episodes.dataset_files import text_csv

CHECKOUT = Path(__file__).parents[2]
_CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
positive_data_acceptance.expected-statuses = {fine}

[[operations]]
include-path-regex = "/(adapt|predict|examples|feedback|datasets)$"
checks.positive_data_acceptance.expected-statuses = {fine_forms}
"""
_FINE = ["2xx", "401", "403", "404", "409", "410", "412", "422", "429", "503", "504"]
"""What a body of the right form may be answered: it may still make no sense, which a schema cannot say. Parts of forms
are files and JSON, of which a schema says that they are strings: there 400 and 415 are fine, too. 503 and 504 are what
a machine answers that stands still for seconds, and documented; no other 5xx is fine."""
Answer = tuple[str, str, int]
"""Operation, phase, status."""


@dataclass(frozen=True)
class Caller:
    """Whoever asks. ``spared``: path parameters by name with values that it must not change: its own key and tenant."""

    role: str
    key: str
    spared: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Found:
    """``failed``: what schemathesis says it found; empty where that is nothing."""

    answers: list[Answer]
    failed: str


def callers(url: str, admin_key: str) -> list[Caller]:
    """An administrator and a user, of a tenant of its own, with what neither may end."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {admin_key}"}, timeout=120) as admin:
        made = admin.post("/v1/api-keys", json={"name": "user", "tenant": "fuzzing"}).raise_for_status().json()
        keys = admin.get("/v1/api-keys", params={"limit": 100}).raise_for_status().json()["data"]
    spared = {"id": [key["id"] for key in keys], "tenant": sorted({key["tenant"] for key in keys})}
    return [Caller("admin", admin_key, spared), Caller("user", made["key"], spared)]


def ask_all_routes(url: str, caller: Caller, *, cases: int, seed: int, folder: Path) -> Found:
    """All phases and checks of schemathesis over the service's document; ``cases``: of an operation where it draws."""
    config, answers = folder / f"{caller.role}.toml", folder / f"{caller.role}.jsonl"
    config.write_text(_CONFIG.format(fine=json.dumps(_FINE), fine_forms=json.dumps([*_FINE, "400", "415"])))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config),
            "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {caller.key}", "--seed", str(seed),
            "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(cases),
            "--no-color", "--warnings", "off", "--continue-on-failure",
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": "",
            "SCHEMATHESIS_HOOKS": str(CHECKOUT / "tests/fuzzing/hooks.py"),
            "KSHOT_FUZZ_SPARED": json.dumps(caller.spared),
            "KSHOT_FUZZ_ANSWERS": str(answers),
        },
        capture_output=True,
        text=True,
    )  # fmt: skip
    seen = [tuple(json.loads(line)) for line in answers.read_text().splitlines()] if answers.is_file() else []
    return Found(seen, done.stdout[-8000:] + done.stderr[-2000:] if done.returncode else "")


def operations(url: str) -> set[str]:
    """As schemathesis calls them: method and path, of the document."""
    paths = httpx.get(f"{url}/openapi.json", timeout=60).raise_for_status().json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def errors_in(logs: Sequence[Path]) -> list[str]:
    """Lines of logs that tell of something nobody expected."""
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    return [line for line in lines if '"unhandled"' in line or "Traceback" in line or '"level": "critical"' in line]


def fuzz_routes(cases: int, seed: int, out: Path, keep: Path) -> int:
    """On a service with everything in it. 1 where something was found, 0 otherwise."""
    keep.mkdir(parents=True, exist_ok=True)
    with _full_service() as (url, key, logs):
        pids, before = _api_pids(url), resident_bytes(url, "API") / 2**20
        found = {}
        for caller in callers(url, key):
            with tempfile.TemporaryDirectory() as folder:
                found[caller.role] = ask_all_routes(url, caller, cases=cases, seed=seed, folder=Path(folder))
            (keep / f"routes-{caller.role}.txt").write_text(found[caller.role].failed)
            print(caller.role, len(found[caller.role].answers), found[caller.role].failed, file=sys.stderr, flush=True)
        answers = [answer for one in found.values() for answer in one.answers]
        unexpected = errors_in(sorted(logs.glob("*.log")))
        (keep / "routes-log.txt").write_text("\n".join(unexpected))
        figures = {
            "seed": seed,
            "operations": f"{len({name for name, *_ in answers})} of {len(operations(url))}",
            "cases": {role: len(one.answers) for role, one in found.items()},
            "phases": dict(Counter(phase for _, phase, _ in answers)),
            "failures": sum(bool(one.failed) for one in found.values()),
            "5xx": sum(status >= 500 for *_, status in answers),
            "errors in the logs": len(unexpected),
            "API processes that ended": len(pids - _api_pids(url)),
            "resident memory of the API before, MB": before,
            "resident memory of the API after, MB": resident_bytes(url, "API") / 2**20,
        }
    record(out, "routes", _rows(found), figures)
    return int(figures["failures"] > 0 or bool(unexpected) or figures["API processes that ended"] > 0)


def _rows(found: Mapping[str, Found]) -> list[dict[str, Any]]:
    statuses: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_role: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for role, one in found.items():
        for name, _, status in one.answers:
            statuses[name][str(status)] += 1
            by_role[name][role] += 1
    return [
        {
            "operation": f"`{name}`",
            **{f"cases as {role}": by_role[name][role] for role in found},
            "answers": dict(sorted(statuses[name].items())),
            "5xx": sum(count for status, count in statuses[name].items() if status >= "5"),
        }
        for name in sorted(statuses)
    ]


@contextmanager
def _full_service() -> Iterator[tuple[str, str, Path]]:
    """URL, admin key and folder of logs of a service that holds something of everything, so that ids lead somewhere."""
    key = secrets.token_hex(32)
    with (
        tempfile.TemporaryDirectory(prefix="kshot-fuzz-") as folder,
        service_on(Path(folder), KSHOT_ADMIN_KEY=key) as url,
    ):
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120) as admin:
            _fill(admin)
        yield url, key, Path(folder) / "home" / "logs"


def _fill(admin: httpx.Client) -> None:
    support = {"inputs": [[0.0, 1.0], [1.0, 0.0]], "labels": ["a", "b"]}
    model = admin.post("/adapt", json={"checkpoint": "vectors", "support": support}).raise_for_status().json()
    admin.post("/predict", json={"model": model["id"], "inputs": [[1, 1]]}).raise_for_status()
    files = {"file": ("data.csv", text_csv()), "request": (None, '{"name": "said"}')}
    dataset = admin.post("/v1/datasets", files=files).raise_for_status().json()
    job = {"name": "fuzzed", "dataset": dataset["id"], "learner": "protonet", "steps": 20}
    admin.post("/v1/training-jobs", json=job).raise_for_status()


def _api_pids(url: str) -> set[int]:
    return {pid for pid, role in server_processes(url).items() if role == "API"}
